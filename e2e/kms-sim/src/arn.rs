//! The two kinds of Amazon Resource Name that the simulator deals in.

use std::fmt;

use thiserror::Error;

/// A text that is not the ARN it should be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{text}\" is not the ARN of a {kind}; expected {shape}")]
pub struct ArnError {
    text: String,
    kind: &'static str,
    shape: &'static str,
}

/// `arn:PARTITION:kms:REGION:ACCOUNT:key/KEY-ID`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyArn {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// Region that holds the key.
    pub region: String,
    /// Account that owns the key (12 digits).
    pub account: String,
    /// The part after `key/`.
    pub key_id: String,
}

impl KeyArn {
    /// Reads a key ARN.
    ///
    /// # Errors
    /// The text has another shape, such as that of an alias.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        Self::split(text).ok_or_else(|| ArnError {
            text: text.to_owned(),
            kind: "KMS key",
            shape: "arn:aws:kms:REGION:ACCOUNT:key/KEY-ID",
        })
    }

    fn split(text: &str) -> Option<Self> {
        let [partition, service, region, account, resource] = fields(text)?;
        let key_id = resource.strip_prefix("key/")?;
        let well_formed = service == "kms" && !region.is_empty() && is_account(account) && is_key_id(key_id);
        well_formed.then(|| Self {
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            key_id: key_id.to_owned(),
        })
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, region, account, key_id } = self;
        write!(f, "arn:{partition}:kms:{region}:{account}:key/{key_id}")
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleArn {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// Account that owns the role (12 digits).
    pub account: String,
    /// Path and name, without a leading slash.
    pub path_and_name: String,
}

impl RoleArn {
    /// Reads a role ARN.
    ///
    /// # Errors
    /// The text has another shape.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        Self::split(text).ok_or_else(|| ArnError {
            text: text.to_owned(),
            kind: "role",
            shape: "arn:aws:iam::ACCOUNT:role/NAME",
        })
    }

    fn split(text: &str) -> Option<Self> {
        let [partition, service, region, account, resource] = fields(text)?;
        let path_and_name = resource.strip_prefix("role/")?;
        let well_formed = service == "iam"
            && region.is_empty()
            && is_account(account)
            && !path_and_name.is_empty()
            && !path_and_name.ends_with('/');
        well_formed.then(|| Self {
            partition: partition.to_owned(),
            account: account.to_owned(),
            path_and_name: path_and_name.to_owned(),
        })
    }

    /// The role's name without its path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path_and_name.rsplit('/').next().unwrap_or_default()
    }

    /// The ARN under which a session of this role appears to other services; paths are not part of it.
    #[must_use]
    pub fn session_arn(&self, session_name: &str) -> String {
        let (partition, account, name) = (&self.partition, &self.account, self.name());
        format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session_name}")
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, account, path_and_name } = self;
        write!(f, "arn:{partition}:iam::{account}:role/{path_and_name}")
    }
}

/// Partition, service, region, account and resource of an ARN.
fn fields(text: &str) -> Option<[&str; 5]> {
    let mut parts = text.strip_prefix("arn:")?.splitn(5, ':');
    let fields = [parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    (!fields[0].is_empty()).then_some(fields)
}

/// Whether a text is an account number.
#[must_use]
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text could be a key id: real ones are UUIDs or `mrk-` and hex digits; tests may use any short name.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_read_and_written_back() {
        let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        assert_eq!(KeyArn::parse(key).unwrap().to_string(), key);
        let role = "arn:aws-cn:iam::111122223333:role/team/vectors/support";
        let parsed = RoleArn::parse(role).unwrap();
        assert_eq!(parsed.to_string(), role);
        assert_eq!(parsed.session_arn("vc1"), "arn:aws-cn:sts::111122223333:assumed-role/support/vc1");
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in [
            "",
            "arn:aws:kms:eu-central-1:111122223333",
            "arn:aws:kms:eu-central-1:111122223333:alias/support",
            "arn:aws:kms::111122223333:key/abc",
            "arn:aws:kms:eu-central-1:11112222333:key/abc",
            "arn:aws:s3:eu-central-1:111122223333:key/abc",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:kms:eu-central-1:111122223333:key/a/b",
        ] {
            assert!(KeyArn::parse(text).is_err(), "{text}");
        }
        for text in ["arn:aws:iam::111122223333:user/x", "arn:aws:iam::111122223333:role/", "role"] {
            assert!(RoleArn::parse(text).is_err(), "{text}");
        }
    }
}
