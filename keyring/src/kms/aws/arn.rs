//! Amazon resource names of keys and roles.

use std::fmt;

use crate::kms::KmsError;

/// A key's ARN, checked for shape: `arn:<partition>:kms:<region>:<account>:key/<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyArn {
    text: String,
    region: String,
}

impl KeyArn {
    /// Reads an ARN. An alias is refused: whoever may move the alias could otherwise choose the key.
    pub fn parse(text: &str) -> Result<Self, KmsError> {
        let parts = Parts::of(text).filter(|parts| parts.service == "kms");
        let valid = parts.filter(|parts| {
            !parts.region.is_empty()
                && is_name(parts.region)
                && is_account(parts.account)
                && parts.resource.strip_prefix("key/").is_some_and(|id| !id.is_empty() && is_name(id))
        });
        let Some(parts) = valid else {
            return Err(KmsError::invalid(
                "the key ARN is malformed; it looks like arn:aws:kms:<region>:<account>:key/<key id>, and not like an alias",
            ));
        };
        Ok(Self { text: text.to_owned(), region: parts.region.to_owned() })
    }

    /// The region that holds the key.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks the shape of a role's ARN: `arn:<partition>:iam::<account>:role/<path and name>`.
pub(crate) fn check_role_arn(text: &str) -> Result<(), KmsError> {
    let valid = Parts::of(text).is_some_and(|parts| {
        parts.service == "iam"
            && parts.region.is_empty()
            && is_account(parts.account)
            && parts
                .resource
                .strip_prefix("role/")
                .is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
    });
    if valid {
        Ok(())
    } else {
        Err(KmsError::invalid("the role ARN is malformed; it looks like arn:aws:iam::<account>:role/<name>"))
    }
}

struct Parts<'a> {
    service: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (prefix, partition) = (parts.next()?, parts.next()?);
        let found =
            Self { service: parts.next()?, region: parts.next()?, account: parts.next()?, resource: parts.next()? };
        (prefix == "arn" && partition.starts_with("aws") && is_name(partition)).then_some(found)
    }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_comes_from_the_arn() {
        let arn =
            KeyArn::parse("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab").unwrap();
        assert_eq!(arn.region(), "eu-central-1");
        assert!(KeyArn::parse("arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-12").is_ok());
    }

    #[test]
    fn what_is_no_key_arn_is_refused() {
        for text in [
            "",
            "alias/my-key",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-central-1:111122223333:alias/my-key",
            "arn:aws:kms::111122223333:key/1",
            "arn:aws:kms:eu-central-1:1111:key/1",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:s3:eu-central-1:111122223333:key/1",
            "arn:aws:kms:eu central:111122223333:key/1",
            "arn:evil:kms:eu-central-1:111122223333:key/1",
        ] {
            assert!(KeyArn::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn role_arns_are_checked() {
        assert!(check_role_arn("arn:aws:iam::111122223333:role/team/vectorkeep").is_ok());
        assert!(check_role_arn("arn:aws:iam::111122223333:user/someone").is_err());
        assert!(check_role_arn("arn:aws:iam:eu-west-1:111122223333:role/x").is_err());
    }
}
