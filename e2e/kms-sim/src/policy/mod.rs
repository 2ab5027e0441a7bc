//! Key policies: the AWS policy language, as far as key policies for encryption keys need it.
//!
//! What the simulator doesn't evaluate (`NotAction`, unknown operators or condition keys, policy variables, …) is
//! refused when the policy is set, never ignored: a statement that silently meant less would hide mistakes.
//!
//! A real account also has identity policies, to which a key policy can delegate by naming the account as principal.
//! The roles here have none, so naming the account allows nothing (a `Deny` for an account counts).

mod condition;
pub mod pattern;

use serde_json::Value;
use thiserror::Error;

use crate::arn::{KeyArn, RoleArn, is_account};
use crate::key::EncryptionContext;
use condition::Condition;

/// Why a policy document can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("malformed key policy: {0}")]
pub struct PolicyError(String);

fn malformed(message: impl Into<String>) -> PolicyError {
    PolicyError(message.into())
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// Role whose session asks.
    pub role: &'a RoleArn,
    /// ARN of that session.
    pub session_arn: &'a str,
    /// Such as `kms:Decrypt`.
    pub action: &'a str,
    /// Key asked for.
    pub key: &'a KeyArn,
    /// Encryption context of the request.
    pub context: &'a EncryptionContext,
}

/// What a policy says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it and none denies it.
    Allowed,
    /// A statement denies it.
    ExplicitlyDenied,
    /// No statement speaks of it.
    NotAllowed,
}

/// A parsed key policy.
#[derive(Debug)]
pub struct Policy {
    statements: Vec<Statement>,
    document: Value,
}

impl Policy {
    /// Reads a policy document.
    ///
    /// # Errors
    /// The document isn't a policy or uses an element that the simulator doesn't evaluate.
    pub fn parse(document: &Value) -> Result<Self, PolicyError> {
        let fields = document.as_object().ok_or_else(|| malformed("the document is not an object"))?;
        for (name, value) in fields {
            match name.as_str() {
                "Version" if value == "2012-10-17" => {}
                "Version" => return Err(malformed("Version must be \"2012-10-17\"")),
                "Id" | "Statement" => {}
                other => return Err(malformed(format!("unknown element {other}"))),
            }
        }
        let statements = match fields.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().map(Statement::parse).collect::<Result<_, _>>()?,
            Some(statement @ Value::Object(_)) => vec![Statement::parse(statement)?],
            _ => return Err(malformed("Statement must be a list of statements")),
        };
        Ok(Self { statements, document: document.clone() })
    }

    /// The document that was parsed.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Decides: an explicit deny wins over any allow; without an allow nothing is permitted.
    #[must_use]
    pub fn decide(&self, request: &AccessRequest<'_>) -> Decision {
        let mut decision = Decision::NotAllowed;
        for statement in self.statements.iter().filter(|statement| statement.applies_to(request)) {
            match statement.effect {
                Effect::Deny => return Decision::ExplicitlyDenied,
                Effect::Allow => decision = Decision::Allowed,
            }
        }
        decision
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug)]
struct Statement {
    effect: Effect,
    principals: Vec<Principal>,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

impl Statement {
    fn parse(value: &Value) -> Result<Self, PolicyError> {
        let fields = value.as_object().ok_or_else(|| malformed("a statement is not an object"))?;
        let known = ["Sid", "Effect", "Principal", "Action", "Resource", "Condition"];
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(malformed(format!("element {name} of a statement is not supported")));
        }
        let required = |name: &str| fields.get(name).ok_or_else(|| malformed(format!("a statement lacks {name}")));
        let effect = match required("Effect")?.as_str() {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(malformed("Effect must be \"Allow\" or \"Deny\"")),
        };
        let actions = texts("Action", required("Action")?)?;
        if let Some(action) = actions.iter().find(|action| *action != "*" && !is_kms_action(action)) {
            return Err(malformed(format!("{action} is not a KMS action")));
        }
        Ok(Self {
            effect,
            principals: Principal::parse_all(required("Principal")?)?,
            actions,
            resources: texts("Resource", required("Resource")?)?,
            conditions: fields.get("Condition").map_or_else(|| Ok(Vec::new()), Condition::parse_all)?,
        })
    }

    fn applies_to(&self, request: &AccessRequest<'_>) -> bool {
        let key = request.key.to_string();
        self.principals.iter().any(|principal| principal.covers(request, self.effect))
            && self.actions.iter().any(|action| pattern::matches_ignoring_case(action, request.action))
            && self.resources.iter().any(|resource| pattern::matches(resource, &key))
            && self.conditions.iter().all(|condition| condition.holds(request))
    }
}

fn is_kms_action(action: &str) -> bool {
    action.split_once(':').is_some_and(|(service, name)| service.eq_ignore_ascii_case("kms") && !name.is_empty())
}

#[derive(Debug)]
enum Principal {
    Anyone,
    Account(String),
    Arn(String),
    /// AWS services and federated users: never the caller here.
    Elsewhere,
}

impl Principal {
    fn parse_all(value: &Value) -> Result<Vec<Self>, PolicyError> {
        if value == "*" {
            return Ok(vec![Self::Anyone]);
        }
        let kinds = value.as_object().ok_or_else(|| malformed("Principal must be \"*\" or an object"))?;
        let mut principals = Vec::new();
        for (kind, names) in kinds {
            let names = texts("Principal", names)?;
            match kind.as_str() {
                "AWS" => {
                    for name in names {
                        principals.push(Self::parse_aws(name)?);
                    }
                }
                "Service" | "Federated" => principals.push(Self::Elsewhere),
                other => return Err(malformed(format!("unknown kind of principal {other}"))),
            }
        }
        Ok(principals)
    }

    fn parse_aws(name: String) -> Result<Self, PolicyError> {
        if name == "*" {
            return Ok(Self::Anyone);
        }
        if is_account(&name) {
            return Ok(Self::Account(name));
        }
        if !name.starts_with("arn:") || name.contains(['*', '?']) {
            return Err(malformed(format!("principal {name} is neither an ARN without wildcards nor an account")));
        }
        match name.strip_suffix(":root").and_then(|rest| rest.rsplit(':').next()) {
            Some(account) if is_account(account) => Ok(Self::Account(account.to_owned())),
            _ => Ok(Self::Arn(name)),
        }
    }

    fn covers(&self, request: &AccessRequest<'_>, effect: Effect) -> bool {
        match self {
            Self::Anyone => true,
            Self::Account(account) => effect == Effect::Deny && *account == request.role.account,
            Self::Arn(arn) => *arn == request.session_arn || *arn == request.role.to_string(),
            Self::Elsewhere => false,
        }
    }
}

/// A text, or a list of texts.
fn texts(element: &str, value: &Value) -> Result<Vec<String>, PolicyError> {
    let wrong = || malformed(format!("{element} must be a text or a list of texts, and not empty"));
    let values = match value {
        Value::Array(values) if !values.is_empty() => values.as_slice(),
        Value::String(_) => std::slice::from_ref(value),
        _ => return Err(wrong()),
    };
    values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ROLE: &str = "arn:aws:iam::111122223333:role/support";
    const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/support/vc1";
    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/k1";

    fn decide(document: &Value, action: &str, context: &[(&str, &str)]) -> Decision {
        let context = context.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Policy::parse(document).unwrap().decide(&AccessRequest {
            role: &RoleArn::parse(ROLE).unwrap(),
            session_arn: SESSION,
            action,
            key: &KeyArn::parse(KEY).unwrap(),
            context: &context,
        })
    }

    fn policy(statements: Value) -> Value {
        json!({"Version": "2012-10-17", "Statement": statements})
    }

    fn allow(principal: Value, action: Value) -> Value {
        json!({"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*"})
    }

    #[test]
    fn only_what_a_statement_allows_is_permitted() {
        for principal in [json!("*"), json!({"AWS": "*"}), json!({"AWS": [ROLE]}), json!({"AWS": SESSION})] {
            let document = policy(json!([allow(principal, json!("kms:Decrypt"))]));
            assert_eq!(decide(&document, "kms:Decrypt", &[]), Decision::Allowed);
            assert_eq!(decide(&document, "kms:GenerateDataKey", &[]), Decision::NotAllowed);
        }
        for principal in [
            json!({"AWS": "arn:aws:iam::111122223333:role/other"}),
            json!({"AWS": "arn:aws:iam::111122223333:root"}),
            json!({"AWS": "111122223333"}),
            json!({"Service": "s3.amazonaws.com"}),
        ] {
            let document = policy(json!([allow(principal, json!("kms:*"))]));
            assert_eq!(decide(&document, "kms:Decrypt", &[]), Decision::NotAllowed);
        }
    }

    #[test]
    fn an_explicit_deny_wins_in_either_order() {
        let deny =
            |principal: Value| json!({"Effect": "Deny", "Principal": principal, "Action": "kms:*", "Resource": "*"});
        for principal in [json!("*"), json!({"AWS": "arn:aws:iam::111122223333:root"}), json!({"AWS": ROLE})] {
            let (yes, no) = (allow(json!("*"), json!("kms:*")), deny(principal));
            for statements in [json!([yes, no]), json!([no, yes])] {
                assert_eq!(decide(&policy(statements), "kms:Decrypt", &[]), Decision::ExplicitlyDenied);
            }
        }
    }

    #[test]
    fn actions_and_resources_take_wildcards() {
        let document = policy(json!([allow(json!("*"), json!(["kms:GenerateDataKey*", "KMS:decrypt"]))]));
        assert_eq!(decide(&document, "kms:GenerateDataKey", &[]), Decision::Allowed);
        assert_eq!(decide(&document, "kms:Decrypt", &[]), Decision::Allowed);
        let mut statement = allow(json!("*"), json!("kms:*"));
        statement["Resource"] = json!("arn:aws:kms:us-east-1:*:key/*");
        assert_eq!(decide(&policy(json!([statement])), "kms:Decrypt", &[]), Decision::NotAllowed);
    }

    #[test]
    fn the_encryption_context_is_compared_pair_by_pair() {
        let mut statement = allow(json!({"AWS": ROLE}), json!(["kms:GenerateDataKey", "kms:Decrypt"]));
        statement["Condition"] = json!({
            "StringEquals": {"kms:EncryptionContext:vectorkeep:cluster": "vc1"},
            "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["vectorkeep:cluster", "vectorkeep:zone"]}
        });
        let document = policy(json!([statement]));
        let decide = |context: &[(&str, &str)]| decide(&document, "kms:Decrypt", context);
        assert_eq!(decide(&[("vectorkeep:cluster", "vc1"), ("vectorkeep:zone", "z")]), Decision::Allowed);
        assert_eq!(decide(&[("vectorkeep:cluster", "vc1")]), Decision::Allowed);
        assert_eq!(decide(&[("vectorkeep:cluster", "vc2")]), Decision::NotAllowed);
        assert_eq!(decide(&[]), Decision::NotAllowed);
        assert_eq!(decide(&[("vectorkeep:cluster", "vc1"), ("other", "x")]), Decision::NotAllowed);
    }

    #[test]
    fn what_is_not_evaluated_is_refused() {
        let mut cases = vec![json!([]), json!({}), json!({"Version": "2008-10-17", "Statement": []})];
        for (element, value) in [
            ("NotAction", json!("kms:*")),
            ("NotPrincipal", json!("*")),
            ("Action", json!("s3:GetObject")),
            ("Action", json!([])),
            ("Effect", json!("allow")),
            ("Principal", json!({"AWS": "arn:aws:iam::111122223333:role/*"})),
            ("Principal", json!({"CanonicalUser": "x"})),
            ("Condition", json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})),
            ("Condition", json!({"StringEquals": {"aws:SourceVpc": "vpc-1"}})),
            ("Condition", json!({"StringEquals": {"kms:EncryptionContextKeys": "a"}})),
            ("Condition", json!({"StringEquals": {"kms:EncryptionContext:a": "${aws:username}"}})),
            ("Condition", json!({"Null": {"kms:EncryptionContext:a": "perhaps"}})),
        ] {
            let mut statement = allow(json!("*"), json!("kms:*"));
            statement[element] = value;
            cases.push(policy(json!([statement])));
        }
        for document in cases {
            assert!(Policy::parse(&document).is_err(), "{document}");
        }
    }
}
