//! The JSON shapes in which keys, roles and the issuer are described, in the configuration file as on the control
//! endpoint.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::arn::{ArnError, KeyArn, RoleArn, is_account, is_key_id};
use crate::key::{KeyState, KeyUsage};
use crate::policy::PolicyError;
use crate::token::{IssuerError, IssuerSpec};

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Issuer of the web identity tokens.
    pub issuer: Option<IssuerSpec>,
    /// Keys by key id.
    pub keys: BTreeMap<String, KeySpec>,
    /// Roles by name.
    pub roles: BTreeMap<String, RoleSpec>,
}

/// A key: its ARN, or region and account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KeySpec {
    /// Whole ARN.
    pub arn: Option<String>,
    /// Region, if no ARN is given.
    pub region: Option<String>,
    /// Account, if no ARN is given.
    pub account: Option<String>,
    /// State; enabled if not given.
    #[serde(default)]
    pub state: KeyState,
    /// Usage; encryption if not given.
    #[serde(default)]
    pub key_usage: KeyUsage,
    /// Key policy.
    pub policy: Value,
}

impl KeySpec {
    /// The key's ARN.
    ///
    /// # Errors
    /// The ARN is malformed, incomplete or of another key.
    pub fn key_arn(&self, key_id: &str) -> Result<KeyArn, SpecError> {
        if !is_key_id(key_id) {
            return Err(SpecError::KeyId(key_id.to_owned()));
        }
        let arn = match (&self.arn, &self.region, &self.account) {
            (Some(arn), _, _) => KeyArn::parse(arn)?,
            (None, Some(region), Some(account)) if is_account(account) && !region.is_empty() => KeyArn {
                partition: "aws".to_owned(),
                region: region.clone(),
                account: account.clone(),
                key_id: key_id.to_owned(),
            },
            _ => return Err(SpecError::NoArn(key_id.to_owned())),
        };
        let region_agrees = self.region.as_ref().is_none_or(|region| *region == arn.region);
        let account_agrees = self.account.as_ref().is_none_or(|account| *account == arn.account);
        if arn.key_id != key_id || !region_agrees || !account_agrees {
            return Err(SpecError::OtherKey { arn: arn.to_string(), key_id: key_id.to_owned() });
        }
        Ok(arn)
    }
}

/// A role that web identities may assume.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// ARN of the role.
    pub arn: String,
    /// Who may assume it.
    pub trust: Trust,
}

impl RoleSpec {
    /// The role's ARN.
    ///
    /// # Errors
    /// The ARN is malformed or of another role.
    pub fn role_arn(&self, name: &str) -> Result<RoleArn, SpecError> {
        let arn = RoleArn::parse(&self.arn)?;
        if arn.name() != name {
            return Err(SpecError::OtherRole { arn: arn.to_string(), name: name.to_owned() });
        }
        Ok(arn)
    }
}

/// Web identities that a role trusts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// `iss` of their tokens.
    pub issuer: String,
    /// An audience that their tokens must have.
    pub audience: String,
    /// Subjects, with `*` and `?` as wildcards.
    pub subjects: Vec<String>,
}

/// A description that can't be used.
#[derive(Debug, Error)]
pub enum SpecError {
    /// Malformed ARN.
    #[error(transparent)]
    Arn(#[from] ArnError),
    /// Malformed key policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Unusable issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Malformed key id.
    #[error("\"{0}\" is not a key id: use up to 64 letters, digits and dashes")]
    KeyId(String),
    /// Neither an ARN nor its parts.
    #[error("key {0} needs an arn, or a region and an account of 12 digits")]
    NoArn(String),
    /// The ARN contradicts the rest.
    #[error("{arn} contradicts the key id {key_id} or the region or account given beside it")]
    OtherKey {
        /// The ARN.
        arn: String,
        /// The id.
        key_id: String,
    },
    /// The ARN is of another role.
    #[error("{arn} is not the ARN of a role named {name}")]
    OtherRole {
        /// The ARN.
        arn: String,
        /// The name.
        name: String,
    },
    /// The named key isn't there.
    #[error("there is no key {0}; create it with PUT /keys/{0}")]
    NoSuchKey(String),
    /// Cryptography failed.
    #[error("the cryptographic library could not make a backing key")]
    Cryptography,
}
