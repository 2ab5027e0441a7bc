//! The statement that a customer adds to the policy of a KMS key.
//!
//! The engine makes exactly two kinds of call, each with an encryption context of exactly three pairs; the
//! statement allows that and nothing else. With it, the engine of one cluster can't use the key for another,
//! even where both run under the same role.

use serde_json::{Value, json};

use crate::arn::{ArnError, RoleArn};

/// Context key whose value is the cluster id.
pub const CONTEXT_CLUSTER: &str = "vectorkeep:cluster";
/// Context key whose value is the id of the encryption zone.
pub const CONTEXT_ZONE: &str = "vectorkeep:zone";
/// Context key whose value is `system` or `database`.
pub const CONTEXT_PURPOSE: &str = "vectorkeep:purpose";

/// The key-policy statement that lets `role_arn` use a key for the cluster `cluster_id`.
///
/// `Resource` is `"*"`, which in a key policy means the key that the policy is attached to.
pub fn key_policy_statement(cluster_id: &str, role_arn: &str) -> Result<Value, ArnError> {
    let role = RoleArn::parse(role_arn)?;
    Ok(json!({
        "Sid": format!("VectorKeep{}", sid_suffix(cluster_id)),
        "Effect": "Allow",
        "Principal": { "AWS": role.to_string() },
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": "*",
        "Condition": {
            "StringEquals": {
                format!("kms:EncryptionContext:{CONTEXT_CLUSTER}"): cluster_id,
            },
            "ForAllValues:StringEquals": {
                "kms:EncryptionContextKeys": [CONTEXT_CLUSTER, CONTEXT_ZONE, CONTEXT_PURPOSE],
            },
        },
    }))
}

/// Statement ids allow letters and digits only.
fn sid_suffix(cluster_id: &str) -> String {
    cluster_id.chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_allows_two_actions_for_one_cluster_and_three_context_keys() {
        let statement =
            key_policy_statement("vc0123456789abcdef", "arn:aws:iam::111122223333:role/vector").expect("valid role");
        assert_eq!(
            statement,
            json!({
                "Sid": "VectorKeepvc0123456789abcdef",
                "Effect": "Allow",
                "Principal": { "AWS": "arn:aws:iam::111122223333:role/vector" },
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": "*",
                "Condition": {
                    "StringEquals": { "kms:EncryptionContext:vectorkeep:cluster": "vc0123456789abcdef" },
                    "ForAllValues:StringEquals": {
                        "kms:EncryptionContextKeys": [
                            "vectorkeep:cluster", "vectorkeep:zone", "vectorkeep:purpose"
                        ]
                    }
                }
            })
        );
    }

    #[test]
    fn a_principal_that_is_not_a_role_is_refused() {
        assert!(key_policy_statement("vc1", "*").is_err());
        assert!(key_policy_statement("vc1", "arn:aws:iam::111122223333:user/me").is_err());
    }
}
