//! The `Condition` block of a statement.

use serde_json::Value;

use super::pattern;
use super::{AccessRequest, PolicyError, malformed, texts};

/// One line of a condition block: operator, condition key, values.
#[derive(Debug)]
pub(super) struct Condition {
    quantifier: Quantifier,
    operator: Operator,
    if_exists: bool,
    key: ConditionKey,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    Single,
    ForAllValues,
    ForAnyValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Null,
    Compare { comparison: Comparison, negated: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equals,
    EqualsIgnoringCase,
    Like,
}

#[derive(Debug, PartialEq, Eq)]
enum ConditionKey {
    /// `kms:EncryptionContext:KEY`; AWS ignores the case of KEY.
    ContextValue(String),
    /// `kms:EncryptionContextKeys`, the one key with many values.
    ContextKeys,
    /// `kms:CallerAccount`, `aws:PrincipalAccount`.
    CallerAccount,
    /// `aws:PrincipalArn`: the role's ARN, not the session's.
    PrincipalArn,
}

impl Condition {
    pub(super) fn parse_all(value: &Value) -> Result<Vec<Self>, PolicyError> {
        let operators = value.as_object().ok_or_else(|| malformed("Condition must be an object"))?;
        let mut conditions = Vec::new();
        for (operator, keys) in operators {
            let keys = keys.as_object().ok_or_else(|| malformed(format!("Condition {operator} must be an object")))?;
            for (key, values) in keys {
                conditions.push(Self::parse(operator, key, values)?);
            }
        }
        Ok(conditions)
    }

    fn parse(operator_text: &str, key_text: &str, values: &Value) -> Result<Self, PolicyError> {
        let (quantifier, rest) = match operator_text.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantifier::ForAllValues, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::ForAnyValue, rest),
            _ => (Quantifier::Single, operator_text),
        };
        let (name, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        let operator = Operator::parse(name)
            .filter(|operator| *operator != Operator::Null || (quantifier == Quantifier::Single && !if_exists))
            .ok_or_else(|| malformed(format!("condition operator {operator_text} is not supported")))?;
        let key = ConditionKey::parse(key_text)
            .ok_or_else(|| malformed(format!("condition key {key_text} is not supported")))?;
        if key == ConditionKey::ContextKeys && quantifier == Quantifier::Single && operator != Operator::Null {
            return Err(malformed(format!("{key_text} has many values: use ForAllValues: or ForAnyValue:")));
        }
        let values = match values {
            Value::Bool(flag) => vec![flag.to_string()],
            other => texts("a condition's values", other)?,
        };
        if operator == Operator::Null && !values.iter().all(|value| value == "true" || value == "false") {
            return Err(malformed("the values of Null are \"true\" and \"false\""));
        }
        if let Some(value) = values.iter().find(|value| value.contains("${")) {
            return Err(malformed(format!("policy variables are not supported: {value}")));
        }
        Ok(Self { quantifier, operator, if_exists, key, values })
    }

    pub(super) fn holds(&self, request: &AccessRequest<'_>) -> bool {
        let present = self.key.values(request);
        let (comparison, negated) = match self.operator {
            Operator::Null => {
                let absent = if present.is_empty() { "true" } else { "false" };
                return self.values.iter().any(|value| value == absent);
            }
            Operator::Compare { comparison, negated } => (comparison, negated),
        };
        let agrees = |text: &String| self.values.iter().any(|value| comparison.holds(value, text)) != negated;
        match self.quantifier {
            Quantifier::ForAllValues => present.iter().all(agrees),
            Quantifier::ForAnyValue if present.is_empty() => self.if_exists,
            Quantifier::ForAnyValue => present.iter().any(agrees),
            Quantifier::Single if present.is_empty() => negated || self.if_exists,
            Quantifier::Single => present.iter().all(agrees),
        }
    }
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        let (comparison, negated) = match name {
            "Null" => return Some(Self::Null),
            "StringEquals" => (Comparison::Equals, false),
            "StringNotEquals" => (Comparison::Equals, true),
            "StringEqualsIgnoreCase" => (Comparison::EqualsIgnoringCase, false),
            "StringNotEqualsIgnoreCase" => (Comparison::EqualsIgnoringCase, true),
            "StringLike" | "ArnEquals" | "ArnLike" => (Comparison::Like, false),
            "StringNotLike" | "ArnNotEquals" | "ArnNotLike" => (Comparison::Like, true),
            _ => return None,
        };
        Some(Self::Compare { comparison, negated })
    }
}

impl Comparison {
    fn holds(self, value: &str, text: &str) -> bool {
        match self {
            Self::Equals => value == text,
            Self::EqualsIgnoringCase => value.eq_ignore_ascii_case(text),
            Self::Like => pattern::matches(value, text),
        }
    }
}

impl ConditionKey {
    fn parse(text: &str) -> Option<Self> {
        const CONTEXT: &str = "kms:encryptioncontext:";
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "kms:encryptioncontextkeys" => Some(Self::ContextKeys),
            "kms:calleraccount" | "aws:principalaccount" => Some(Self::CallerAccount),
            "aws:principalarn" => Some(Self::PrincipalArn),
            _ => lower
                .strip_prefix(CONTEXT)
                .filter(|name| !name.is_empty())
                .map(|name| Self::ContextValue(name.to_owned())),
        }
    }

    /// The values that the request has for this key; none means that the key is absent.
    fn values(&self, request: &AccessRequest<'_>) -> Vec<String> {
        match self {
            Self::ContextValue(name) => request
                .context
                .iter()
                .filter(|(key, _)| key.to_ascii_lowercase() == *name)
                .map(|(_, value)| value.clone())
                .collect(),
            Self::ContextKeys => request.context.keys().cloned().collect(),
            Self::CallerAccount => vec![request.role.account.clone()],
            Self::PrincipalArn => vec![request.role.to_string()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arn::{KeyArn, RoleArn};
    use serde_json::json;

    fn holds(operator: &str, key: &str, values: Value, context: &[(&str, &str)]) -> bool {
        let context = context.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Condition::parse(operator, key, &values).unwrap().holds(&AccessRequest {
            role: &RoleArn::parse("arn:aws:iam::111122223333:role/support").unwrap(),
            session_arn: "arn:aws:sts::111122223333:assumed-role/support/vc1",
            action: "kms:Decrypt",
            key: &KeyArn::parse("arn:aws:kms:eu-central-1:111122223333:key/k1").unwrap(),
            context: &context,
        })
    }

    #[test]
    fn each_operator_means_what_it_says() {
        let zone = "kms:EncryptionContext:zone";
        let is_a = [("zone", "a")];
        assert!(holds("StringEquals", zone, json!(["b", "a"]), &is_a));
        assert!(!holds("StringEquals", zone, json!("A"), &is_a));
        assert!(holds("StringEqualsIgnoreCase", zone, json!("A"), &is_a));
        assert!(holds("StringLike", zone, json!("?"), &is_a));
        assert!(!holds("StringNotLike", zone, json!("?"), &is_a));
        assert!(holds("StringNotEquals", zone, json!("b"), &is_a));
        assert!(!holds("StringNotEquals", zone, json!(["b", "a"]), &is_a));
        assert!(holds("Null", zone, json!("false"), &is_a));
        assert!(!holds("Null", zone, json!(true), &is_a));
        assert!(holds("StringEquals", "kms:CallerAccount", json!("111122223333"), &[]));
        assert!(holds("ArnLike", "aws:PrincipalArn", json!("arn:aws:iam::*:role/support"), &[]));
    }

    #[test]
    fn an_absent_key_satisfies_only_what_asks_for_absence() {
        let zone = "kms:EncryptionContext:zone";
        assert!(!holds("StringEquals", zone, json!("a"), &[]));
        assert!(!holds("StringLike", zone, json!("*"), &[]));
        assert!(holds("StringEqualsIfExists", zone, json!("a"), &[]));
        assert!(holds("StringNotEquals", zone, json!("a"), &[]));
        assert!(holds("Null", zone, json!("true"), &[]));
        assert!(holds("ForAllValues:StringEquals", "kms:EncryptionContextKeys", json!("zone"), &[]));
        assert!(!holds("ForAnyValue:StringEquals", "kms:EncryptionContextKeys", json!("zone"), &[]));
        assert!(holds("Null", "kms:EncryptionContextKeys", json!("true"), &[]));
    }

    #[test]
    fn the_case_of_a_context_key_matters_only_in_context_keys() {
        let upper = [("Zone", "a")];
        assert!(holds("StringEquals", "kms:EncryptionContext:zone", json!("a"), &upper));
        assert!(!holds("ForAllValues:StringEquals", "kms:EncryptionContextKeys", json!("zone"), &upper));
    }

    #[test]
    fn quantifiers_look_at_every_key_of_the_context() {
        let keys = "kms:EncryptionContextKeys";
        let both = [("cluster", "c"), ("zone", "z")];
        assert!(holds("ForAllValues:StringEquals", keys, json!(["zone", "cluster", "purpose"]), &both));
        assert!(!holds("ForAllValues:StringEquals", keys, json!("zone"), &both));
        assert!(holds("ForAnyValue:StringEquals", keys, json!("zone"), &both));
        assert!(holds("ForAllValues:StringNotEquals", keys, json!("purpose"), &both));
    }
}
