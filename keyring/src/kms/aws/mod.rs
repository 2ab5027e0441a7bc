//! AWS KMS, under the tenant's own role.
//!
//! The pod's projected token is exchanged for a session of the role (`AssumeRoleWithWebIdentity`), and the session calls
//! `GenerateDataKey` and `Decrypt`: nothing else. No other source of credentials, region or endpoint is asked.

mod arn;
mod classify;
mod transport;
mod web_identity;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, IdentityCache, Region};
use aws_sdk_kms::primitives::Blob;
use tokio::sync::Mutex;

pub use arn::KeyArn;
use arn::check_role_arn;
use classify::{classify, is_stale_session};
use transport::Transport;
use web_identity::{SessionSlot, WebIdentity};

use super::{DataKey, Kms, KmsError};
use crate::ezk::{EZK_LEN, EzkBytes};
use crate::ids::EncryptionContext;

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 3;

/// What the provider needs to know.
#[derive(Debug, Clone)]
pub struct AwsKmsConfig {
    /// ARN of the customer's master key (not of an alias). Its region is the region of all calls.
    pub key_arn: String,
    /// ARN of the role that may use the key.
    pub role_arn: String,
    /// File with the pod's web-identity token; read again for every session.
    pub web_identity_token_file: PathBuf,
    /// KMS endpoint instead of the region's public one; `https://` only.
    pub kms_endpoint: Option<String>,
    /// STS endpoint instead of the region's public one; `https://` only.
    pub sts_endpoint: Option<String>,
    /// PEM file with further trusted roots, for these two endpoints only.
    pub ca_bundle_file: Option<PathBuf>,
    /// Bound of one call of the [`Kms`] trait: session, retries and all.
    pub call_timeout: Duration,
    /// Name of the role's sessions in the audit trail: the cluster id.
    pub session_name: String,
}

/// AWS KMS as a [`Kms`].
pub struct AwsKms {
    kms: aws_sdk_kms::Client,
    identity: WebIdentity,
    key: KeyArn,
    call_timeout: Duration,
}

impl AwsKms {
    /// Checks the configuration and reads the trusted roots; makes no call.
    pub fn new(config: AwsKmsConfig) -> Result<Self, KmsError> {
        let key = KeyArn::parse(&config.key_arn)?;
        check_role_arn(&config.role_arn)?;
        for endpoint in [&config.kms_endpoint, &config.sts_endpoint].into_iter().flatten() {
            if !endpoint.starts_with("https://") {
                return Err(KmsError::invalid(
                    "an endpoint of the KMS or of the identity service must start with https://",
                ));
            }
        }

        let attempt = config.call_timeout.mul_f64(0.9) / ATTEMPTS;
        let transport = Transport::new(config.ca_bundle_file.as_deref(), attempt)?;
        let timeouts =
            TimeoutConfig::builder().operation_timeout(config.call_timeout).operation_attempt_timeout(attempt).build();
        // Back-offs are short, because the next check is never far.
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(Duration::from_millis(50))
            .with_max_backoff(Duration::from_millis(200));
        let region = Region::new(key.region().to_owned());

        let mut sts = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            .http_client(transport.clone())
            .timeout_config(timeouts.clone())
            .retry_config(retries.clone());
        sts.set_endpoint_url(config.sts_endpoint);
        let slot = SessionSlot::default();
        let mut kms = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region)
            .http_client(transport)
            .timeout_config(timeouts)
            .retry_config(retries)
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(slot.clone());
        kms.set_endpoint_url(config.kms_endpoint);
        Ok(Self {
            kms: aws_sdk_kms::Client::from_conf(kms.build()),
            identity: WebIdentity {
                sts: aws_sdk_sts::Client::from_conf(sts.build()),
                role_arn: config.role_arn,
                session_name: config.session_name,
                token_file: config.web_identity_token_file,
                slot,
                call_timeout: config.call_timeout,
                renewing: Mutex::default(),
            },
            key,
            call_timeout: config.call_timeout,
        })
    }

    async fn bounded<T>(&self, call: &str, work: impl Future<Output = Result<T, KmsError>>) -> Result<T, KmsError> {
        tokio::time::timeout(self.call_timeout, work).await.unwrap_or_else(|_| {
            Err(KmsError::unreachable(format!("{call} got no answer in time; check the network path to the endpoint")))
        })
    }

    /// The answer must come from the key that was asked; anything else is a mix-up in between.
    fn check_key(&self, call: &str, answered: Option<&str>) -> Result<(), KmsError> {
        if answered == Some(self.key.as_str()) {
            Ok(())
        } else {
            Err(KmsError::invalid(format!("the answer to {call} names another key than the configured one")))
        }
    }

    async fn try_generate(&self, context: &EncryptionContext) -> Result<DataKey, KmsError> {
        const CALL: &str = "GenerateDataKey";
        for last in [false, true] {
            self.identity.ensure_session().await?;
            let sent = self
                .kms
                .generate_data_key()
                .key_id(self.key.as_str())
                .number_of_bytes(EZK_LEN as i32)
                .set_encryption_context(Some(pairs(context)))
                .send()
                .await;
            match sent {
                Ok(mut answer) => {
                    let plaintext = take_key(CALL, answer.plaintext.take())?;
                    self.check_key(CALL, answer.key_id())?;
                    let wrapped = answer.ciphertext_blob.map(Blob::into_inner);
                    let wrapped = wrapped
                        .filter(|blob| !blob.is_empty())
                        .ok_or_else(|| KmsError::invalid("the answer to GenerateDataKey holds no wrapped key"))?;
                    return Ok(DataKey { plaintext, wrapped });
                }
                Err(error) if !last && is_stale_session(&error) => self.identity.discard_session(),
                Err(error) => return Err(classify(CALL, &error)),
            }
        }
        Err(KmsError::refused("the KMS rejects the sessions of the role"))
    }

    async fn try_decrypt(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<EzkBytes, KmsError> {
        const CALL: &str = "Decrypt";
        for last in [false, true] {
            self.identity.ensure_session().await?;
            let sent = self
                .kms
                .decrypt()
                .key_id(self.key.as_str())
                .ciphertext_blob(Blob::new(wrapped))
                .set_encryption_context(Some(pairs(context)))
                .send()
                .await;
            match sent {
                Ok(mut answer) => {
                    let plaintext = take_key(CALL, answer.plaintext.take())?;
                    self.check_key(CALL, answer.key_id())?;
                    return Ok(plaintext);
                }
                Err(error) if !last && is_stale_session(&error) => self.identity.discard_session(),
                Err(error) => return Err(classify(CALL, &error)),
            }
        }
        Err(KmsError::refused("the KMS rejects the sessions of the role"))
    }
}

#[async_trait]
impl Kms for AwsKms {
    async fn generate_data_key(&self, context: &EncryptionContext) -> Result<DataKey, KmsError> {
        self.bounded("GenerateDataKey", self.try_generate(context)).await
    }

    async fn decrypt(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<EzkBytes, KmsError> {
        self.bounded("Decrypt", self.try_decrypt(wrapped, context)).await
    }
}

impl fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKms").field("key", &self.key).finish_non_exhaustive()
    }
}

fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    context.pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Moves the plaintext out of the SDK's buffer, which is zeroised.
fn take_key(call: &str, plaintext: Option<Blob>) -> Result<EzkBytes, KmsError> {
    let mut bytes = plaintext
        .map(Blob::into_inner)
        .ok_or_else(|| KmsError::invalid(format!("the answer to {call} holds no key")))?;
    Ok(EzkBytes::take(&mut bytes)?)
}
