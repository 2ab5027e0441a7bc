//! Whether an object needs to be written at all.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vectorkeep_crds::{quantity::same_amount, well_known::ANNOTATION_APPLIED};

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    /// It is as it should be.
    Keep,
    /// It is missing or different: apply this.
    Apply(Box<T>),
}

impl<T: Resource + Serialize + Clone> Change<T> {
    /// Compares what should be with what is.
    ///
    /// An object is kept when the hash of what was last applied to it is that of `desired`, so nothing was
    /// added or taken away on our side, and when it still holds everything in `desired`, so nobody else changed
    /// it. What the API server fills in by itself doesn't count.
    pub fn between(mut desired: T, live: Option<&T>) -> Self {
        let hash = fingerprint(&desired);
        desired.meta_mut().annotations.get_or_insert_with(BTreeMap::new).insert(ANNOTATION_APPLIED.to_owned(), hash);
        let same = live.is_some_and(|live| {
            live.meta().deletion_timestamp.is_none()
                && live.annotations().get(ANNOTATION_APPLIED) == desired.annotations().get(ANNOTATION_APPLIED)
                && holds(&json(live), &json(&desired))
        });
        if same { Self::Keep } else { Self::Apply(Box::new(desired)) }
    }

    /// As [`Self::between`], but what others added to its specification is a change, too: for objects in which more may
    /// let more through, and which are therefore replaced, not merged.
    pub fn exactly(desired: T, live: Option<&T>) -> Self {
        let spec = |object: &T| json(object).get("spec").cloned().unwrap_or_default();
        let added = live.is_some_and(|live| !holds(&spec(&desired), &spec(live)));
        match Self::between(desired.clone(), live) {
            Self::Keep if added => Self::between(desired, None),
            change => change,
        }
    }

    /// Whether there is nothing to write.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

fn json(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// A short hash of a value's JSON form. Maps are ordered, so equal values have equal hashes.
pub(super) fn fingerprint(value: &impl Serialize) -> String {
    hex::encode(&Sha256::digest(json(value).to_string())[..8])
}

/// Whether `live` says everything that `desired` says, whatever it says beside.
pub(super) fn contains<T: Serialize>(live: &T, desired: &T) -> bool {
    holds(&json(live), &json(desired))
}

/// Whether `live` holds everything that `desired` says.
fn holds(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, desired)| match live.get(key) {
            Some(live) => holds(live, desired),
            None => is_empty(desired),
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len() && live.iter().zip(desired).all(|(live, desired)| holds(live, desired))
        }
        (Value::String(live), Value::String(desired)) => live == desired || same_amount(live, desired),
        (live, desired) => live == desired,
    }
}

/// The API server leaves out what is empty. Not so `false`, which for fields like `automountServiceAccountToken` is
/// another thing than nothing: who takes it away must be noticed. Plans leave out a `false` that means nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{core::v1::ConfigMap, networking::v1::NetworkPolicy};

    fn config(yaml: &str) -> ConfigMap {
        serde_yaml_ng::from_str(yaml).expect("a ConfigMap")
    }

    fn applied(desired: &ConfigMap) -> ConfigMap {
        match Change::between(desired.clone(), None) {
            Change::Apply(object) => *object,
            Change::Keep => panic!("a missing object is written"),
        }
    }

    #[test]
    fn an_object_that_was_applied_is_kept() {
        let desired = config("{metadata: {name: a}, data: {k: v}}");
        assert!(Change::between(desired.clone(), Some(&applied(&desired))).is_keep());
    }

    #[test]
    fn fields_that_others_add_do_not_matter_and_those_that_they_change_do() {
        let desired = config("{metadata: {name: a}, data: {k: v}}");
        let mut live = applied(&desired);
        live.metadata.resource_version = Some("7".into());
        live.data.get_or_insert_default().insert("x".into(), "y".into());
        assert!(Change::between(desired.clone(), Some(&live)).is_keep());
        live.data.get_or_insert_default().insert("k".into(), "w".into());
        assert!(!Change::between(desired, Some(&live)).is_keep());
    }

    #[test]
    fn what_is_empty_may_be_missing_and_what_is_false_may_not() {
        assert!(holds(&serde_json::json!({}), &serde_json::json!({"name": "", "items": [], "selector": {}})));
        assert!(!holds(&serde_json::json!({}), &serde_json::json!({"automountServiceAccountToken": false})));
    }

    #[test]
    fn where_more_lets_more_through_what_others_add_matters() {
        let policy = |yaml: &str| serde_yaml_ng::from_str::<NetworkPolicy>(yaml).expect("a policy");
        let desired = policy("{metadata: {name: a}, spec: {podSelector: {}, policyTypes: [Ingress]}}");
        let Change::Apply(live) = Change::exactly(desired.clone(), None) else { panic!("it is missing") };
        assert!(Change::exactly(desired.clone(), Some(&live)).is_keep());
        for opened in [
            "{podSelector: {matchLabels: {a: b}}, policyTypes: [Ingress]}",
            "{podSelector: {}, policyTypes: [Ingress], ingress: [{}]}",
        ] {
            let mut live = live.clone();
            live.spec = serde_yaml_ng::from_str(opened).expect("a specification");
            assert!(!Change::exactly(desired.clone(), Some(&live)).is_keep(), "{opened}");
        }
    }

    #[test]
    fn what_is_no_longer_wanted_is_a_change() {
        let before = config("{metadata: {name: a}, data: {k: v, gone: soon}}");
        let desired = config("{metadata: {name: a}, data: {k: v}}");
        assert!(!Change::between(desired, Some(&applied(&before))).is_keep());
    }

    #[test]
    fn an_object_that_is_being_deleted_is_written_again() {
        let desired = config("{metadata: {name: a}}");
        let mut live = applied(&desired);
        live.metadata.deletion_timestamp = serde_json::from_str("\"2026-01-01T00:00:00Z\"").expect("a time");
        assert!(!Change::between(desired, Some(&live)).is_keep());
    }
}
