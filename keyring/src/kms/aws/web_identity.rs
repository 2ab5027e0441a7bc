//! Sessions of the tenant's role, by the pod's own web-identity token.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::classify::classify;
use crate::kms::{KmsError, KmsErrorKind};

/// The shortest session that STS gives: after a role is taken away, no session outlives this.
const SESSION: Duration = Duration::from_secs(900);
/// A session is renewed when no more than this is left of it.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// While STS is silent, a session is used until no more than this is left of it.
const USABLE_BEFORE: Duration = Duration::from_secs(15);

/// The current session, as the SDK's credentials provider. It never fetches anything by itself, so that a failure of
/// the identity service is classified by us and not buried in the SDK.
#[derive(Clone, Default)]
pub(crate) struct SessionSlot {
    current: Arc<RwLock<Option<Credentials>>>,
}

impl SessionSlot {
    fn get(&self) -> Option<Credentials> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, session: Option<Credentials>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

impl ProvideCredentials for SessionSlot {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let session = self.get();
        future::ProvideCredentials::ready(
            session.ok_or_else(|| CredentialsError::not_loaded("there is no session yet")),
        )
    }
}

impl fmt::Debug for SessionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSlot").finish_non_exhaustive()
    }
}

/// Exchanges the token file's content for sessions of one role.
pub(crate) struct WebIdentity {
    pub(crate) sts: aws_sdk_sts::Client,
    pub(crate) role_arn: String,
    pub(crate) session_name: String,
    pub(crate) token_file: PathBuf,
    pub(crate) slot: SessionSlot,
    /// Bound of the whole call that needs the session.
    pub(crate) call_timeout: Duration,
    /// When STS was last silent. Held while a session is being fetched, so that parallel calls fetch one.
    pub(crate) renewing: Mutex<Option<Instant>>,
}

impl WebIdentity {
    /// Makes sure that the slot holds a usable session.
    pub(crate) async fn ensure_session(&self) -> Result<(), KmsError> {
        if self.left() > RENEW_BEFORE {
            return Ok(());
        }
        let mut silent = self.renewing.lock().await;
        let left = self.left();
        if left > RENEW_BEFORE {
            return Ok(());
        }
        let usable = left > USABLE_BEFORE;
        // Whoever waited for a renewal in vain would have no time left after another one.
        if usable && silent.is_some_and(|at| at.elapsed() < self.call_timeout) {
            return Ok(());
        }
        // The other half is for the call itself, which can do without a new session.
        let patience = if usable { self.call_timeout / 2 } else { self.call_timeout };
        let renewed = timeout(patience, self.assume_role()).await.unwrap_or_else(|_| {
            Err(KmsError::unreachable(
                "AssumeRoleWithWebIdentity got no answer in time; check the network path to the endpoint",
            ))
        });
        match renewed {
            Ok(session) => {
                *silent = None;
                self.slot.set(Some(session));
                Ok(())
            }
            // Silence of the identity service takes nothing back that it gave.
            Err(error) if error.kind == KmsErrorKind::Unreachable && self.left() > USABLE_BEFORE => {
                *silent = Some(Instant::now());
                Ok(())
            }
            Err(error) => {
                self.slot.set(None);
                Err(error)
            }
        }
    }

    /// Forgets the session: the KMS does not accept it.
    pub(crate) fn discard_session(&self) {
        self.slot.set(None);
    }

    fn left(&self) -> Duration {
        let expiry = self.slot.get().and_then(|session| session.expiry());
        expiry.and_then(|expiry| expiry.duration_since(SystemTime::now()).ok()).unwrap_or(Duration::ZERO)
    }

    async fn assume_role(&self) -> Result<Credentials, KmsError> {
        // Read every time: the kubelet replaces the file long before the token expires.
        let token = tokio::fs::read_to_string(&self.token_file).await.map(Zeroizing::new).map_err(|error| {
            KmsError::unreachable(format!(
                "the web identity token can't be read ({error}); check the token volume of the pod"
            ))
        })?;
        let answer = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(&self.role_arn)
            .role_session_name(&self.session_name)
            .web_identity_token(token.trim())
            .duration_seconds(i32::try_from(SESSION.as_secs()).unwrap_or(900))
            .send()
            .await
            .map_err(|error| classify("AssumeRoleWithWebIdentity", &error))?;
        let Some(session) = answer.credentials else {
            return Err(KmsError::invalid("the answer to AssumeRoleWithWebIdentity holds no credentials"));
        };
        let expires = SystemTime::try_from(*session.expiration()).unwrap_or_else(|_| SystemTime::now() + SESSION);
        Ok(Credentials::new(
            session.access_key_id(),
            session.secret_access_key(),
            Some(session.session_token().to_owned()),
            Some(expires),
            "web-identity",
        ))
    }
}
