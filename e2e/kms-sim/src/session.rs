//! Temporary credentials that the simulated STS has issued.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use rand::Rng;
use rand::distr::{Alphanumeric, SampleString};
use zeroize::Zeroizing;

use crate::arn::RoleArn;

/// Expired sessions are remembered this long, so that their use is told apart from that of unknown keys.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// A role session.
#[derive(Clone)]
pub struct Session {
    /// `ASIA…`; not secret.
    pub access_key_id: String,
    /// Key of the request signatures.
    pub secret_access_key: Zeroizing<String>,
    /// Must accompany every request.
    pub session_token: Zeroizing<String>,
    /// Expiry.
    pub expires_at: SystemTime,
    /// The role.
    pub role: RoleArn,
    /// Stable id of the role, `AROA…`.
    pub role_id: String,
    /// Name that the caller gave to the session.
    pub name: String,
    /// Issuer of the web identity that opened the session.
    pub federated_provider: String,
}

impl Session {
    /// ARN of the session.
    #[must_use]
    pub fn arn(&self) -> String {
        self.role.session_arn(&self.name)
    }

    /// `ROLE-ID:SESSION-NAME`
    #[must_use]
    pub fn principal_id(&self) -> String {
        format!("{}:{}", self.role_id, self.name)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("access_key_id", &self.access_key_id)
            .field("arn", &self.arn())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// All sessions by access key id.
#[derive(Debug, Default)]
pub struct Sessions {
    by_access_key: HashMap<String, Session>,
}

impl Sessions {
    /// Opens a session.
    pub fn open(
        &mut self,
        role: &RoleArn,
        role_id: &str,
        name: &str,
        federated_provider: &str,
        now: SystemTime,
        lifetime: Duration,
    ) -> Session {
        self.by_access_key.retain(|_, session| session.expires_at + REMEMBERED > now);
        let mut rng = rand::rng();
        let session = Session {
            access_key_id: unique_id("ASIA"),
            secret_access_key: Zeroizing::new(Alphanumeric.sample_string(&mut rng, 40)),
            session_token: Zeroizing::new(Alphanumeric.sample_string(&mut rng, 320)),
            expires_at: now + lifetime,
            role: role.clone(),
            role_id: role_id.to_owned(),
            name: name.to_owned(),
            federated_provider: federated_provider.to_owned(),
        };
        self.by_access_key.insert(session.access_key_id.clone(), session.clone());
        session
    }

    /// The session of an access key, expired or not.
    #[must_use]
    pub fn find(&self, access_key_id: &str) -> Option<&Session> {
        self.by_access_key.get(access_key_id)
    }

    /// Ends every session; answers how many there were that hadn't expired.
    pub fn expire_all(&mut self, now: SystemTime) -> usize {
        let mut expired = 0;
        for session in self.by_access_key.values_mut().filter(|session| session.expires_at > now) {
            session.expires_at = now;
            expired += 1;
        }
        expired
    }
}

/// An id in the style of IAM: a four-letter prefix that tells the kind, and 16 random characters.
#[must_use]
pub fn unique_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut rng = rand::rng();
    let random = (0..16).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    prefix.chars().chain(random).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_secret() {
        let role = RoleArn::parse("arn:aws:iam::111122223333:role/support").unwrap();
        let session = Sessions::default().open(&role, "AROAX", "vc1", "https://issuer", SystemTime::now(), REMEMBERED);
        let shown = format!("{session:?}");
        assert!(shown.contains(&session.access_key_id));
        assert!(!shown.contains(session.secret_access_key.as_str()));
        assert!(!shown.contains(session.session_token.as_str()));
    }
}
