//! Amazon resource names of KMS keys and IAM roles: `arn:partition:service:region:account:resource`.

use std::fmt;

/// Why a text is not the resource name that a field wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    /// Not six parts separated by colons, or the first is not `arn`.
    #[error("{0:?} is not an ARN (arn:partition:service:region:account:resource)")]
    Shape(String),
    /// A partition that AWS does not have.
    #[error("{arn:?} names the partition {partition:?}; known are aws, aws-cn and aws-us-gov")]
    Partition {
        /// The whole text.
        arn: String,
        /// The part that is wrong.
        partition: String,
    },
    /// Another service than the field wants.
    #[error("{arn:?} is of the service {found:?}, wanted is {wanted:?}")]
    Service {
        /// The whole text.
        arn: String,
        /// The service found.
        found: String,
        /// The service wanted.
        wanted: &'static str,
    },
    /// The region is missing or malformed.
    #[error("{0:?} has no valid region (like eu-central-1)")]
    Region(String),
    /// The account is not twelve digits.
    #[error("{0:?} has no 12-digit account")]
    Account(String),
    /// The resource is of another type than the field wants.
    #[error("{arn:?} does not name a {wanted}; an alias or another resource can't be used here")]
    Resource {
        /// The whole text.
        arn: String,
        /// What the resource part must be.
        wanted: &'static str,
    },
}

/// The ARN of a KMS key (never an alias: an alias can be pointed at another key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyArn {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The region that the key lives in; KMS is asked there.
    pub region: String,
    /// The account that owns the key.
    pub account: String,
    /// The key id.
    pub key_id: String,
}

/// The ARN of an IAM role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleArn {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The account that owns the role.
    pub account: String,
    /// Path and name of the role.
    pub role: String,
}

impl KeyArn {
    /// Parses and checks `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`.
    pub fn parse(arn: &str) -> Result<Self, ArnError> {
        let parts = Parts::split(arn, "kms")?;
        if !is_region(parts.region) {
            return Err(ArnError::Region(arn.to_owned()));
        }
        let key_id = parts
            .resource
            .strip_prefix("key/")
            .filter(|id| !id.is_empty() && id.len() <= 128 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
            .ok_or_else(|| ArnError::Resource { arn: arn.to_owned(), wanted: "KMS key (key/ID)" })?;
        Ok(Self {
            partition: parts.partition.to_owned(),
            region: parts.region.to_owned(),
            account: parts.account.to_owned(),
            key_id: key_id.to_owned(),
        })
    }
}

impl RoleArn {
    /// Parses and checks `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
    pub fn parse(arn: &str) -> Result<Self, ArnError> {
        let parts = Parts::split(arn, "iam")?;
        if !parts.region.is_empty() {
            return Err(ArnError::Region(arn.to_owned()));
        }
        let role = parts
            .resource
            .strip_prefix("role/")
            .filter(|role| {
                !role.is_empty()
                    && role.len() <= 512
                    && role.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@/-".contains(c))
            })
            .ok_or_else(|| ArnError::Resource { arn: arn.to_owned(), wanted: "IAM role (role/NAME)" })?;
        Ok(Self { partition: parts.partition.to_owned(), account: parts.account.to_owned(), role: role.to_owned() })
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:kms:{}:{}:key/{}", self.partition, self.region, self.account, self.key_id)
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:iam::{}:role/{}", self.partition, self.account, self.role)
    }
}

struct Parts<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Parts<'a> {
    fn split(arn: &'a str, service: &'static str) -> Result<Self, ArnError> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let &["arn", partition, found, region, account, resource] = parts.as_slice() else {
            return Err(ArnError::Shape(arn.to_owned()));
        };
        if !["aws", "aws-cn", "aws-us-gov"].contains(&partition) {
            return Err(ArnError::Partition { arn: arn.to_owned(), partition: partition.to_owned() });
        }
        if found != service {
            return Err(ArnError::Service { arn: arn.to_owned(), found: found.to_owned(), wanted: service });
        }
        if account.len() != 12 || !account.chars().all(|c| c.is_ascii_digit()) {
            return Err(ArnError::Account(arn.to_owned()));
        }
        Ok(Self { partition, region, account, resource })
    }
}

/// Lower-case words and a number, joined by dashes: `eu-central-1`, `us-gov-west-1`.
fn is_region(region: &str) -> bool {
    let mut words = region.split('-').rev();
    let number = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    region.len() <= 32
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit())
        && rest.len() >= 2
        && rest.iter().all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn a_key_arn_is_taken_apart_and_put_together_again() {
        let arn = KeyArn::parse(KEY).expect("valid");
        assert_eq!(arn.region, "eu-central-1");
        assert_eq!(arn.account, "111122223333");
        assert_eq!(arn.to_string(), KEY);
    }

    #[test]
    fn a_role_arn_may_have_a_path() {
        let text = "arn:aws-us-gov:iam::111122223333:role/apps/vector";
        let arn = RoleArn::parse(text).expect("valid");
        assert_eq!(arn.role, "apps/vector");
        assert_eq!(arn.to_string(), text);
    }

    #[test]
    fn an_alias_is_not_a_key() {
        let error = KeyArn::parse("arn:aws:kms:eu-central-1:111122223333:alias/mine").unwrap_err();
        assert!(matches!(error, ArnError::Resource { .. }), "{error}");
    }

    #[test]
    fn each_wrong_part_is_named() {
        let shape = KeyArn::parse("key/1").unwrap_err();
        assert!(matches!(shape, ArnError::Shape(_)));
        let partition = KeyArn::parse(&KEY.replace("arn:aws:", "arn:other:")).unwrap_err();
        assert!(matches!(partition, ArnError::Partition { .. }));
        let service = KeyArn::parse(&KEY.replace(":kms:", ":s3:")).unwrap_err();
        assert!(matches!(service, ArnError::Service { .. }));
        let region = KeyArn::parse(&KEY.replace("eu-central-1", "Europe")).unwrap_err();
        assert!(matches!(region, ArnError::Region(_)));
        let account = KeyArn::parse(&KEY.replace("111122223333", "1111")).unwrap_err();
        assert!(matches!(account, ArnError::Account(_)));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic_and_what_parses_is_unchanged(text in "\\PC{0,80}") {
            if let Ok(arn) = KeyArn::parse(&text) {
                prop_assert_eq!(arn.to_string(), text.clone());
            }
            if let Ok(arn) = RoleArn::parse(&text) {
                prop_assert_eq!(arn.to_string(), text);
            }
        }
    }
}
