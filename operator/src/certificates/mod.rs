//! Certificates: what is asked for, what was made, how long it lasts.
//!
//! Each cluster has two CAs. The *internal CA* signs the engine's health and admin ports and the operator's
//! client certificate; its key never leaves the operator's namespace. The *serving CA* signs what clients see.
//! Both carry critical name constraints, so that a CA of one cluster is worth nothing for any other name.

pub mod issue;
pub mod verify;

use jiff::{SignedDuration, Timestamp};

use crate::sensitive::Sensitive;

/// A certificate with its private key and the CA certificates that are to be trusted beside it, all as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsMaterial {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS#8.
    pub key: Sensitive,
    /// Certificates of the CAs that are to be trusted: the one that signed it, during a rotation another one as well.
    pub authority: String,
}

/// A CA to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRequest {
    /// Name that people see. The time is added, so that no two CAs of a cluster have the same.
    pub common_name: String,
    /// DNS names, with everything below each, that the CA is there for: one that may not sign for them is foreign.
    pub own_dns: Vec<String>,
    /// Further DNS names, with everything below each, that it may sign for.
    pub further_dns: Vec<String>,
    /// How long it is valid.
    pub lifetime: SignedDuration,
}

/// A certificate to be signed by a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    /// Name that people see.
    pub common_name: String,
    /// DNS names that it is valid for.
    pub dns_names: Vec<String>,
    /// URI names that it is valid for.
    pub uris: Vec<String>,
    /// What it may be used for.
    pub usage: Usage,
    /// How long it is valid. The CA's own end comes first where that is earlier.
    pub lifetime: SignedDuration,
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To be shown by a server.
    Server,
    /// To be shown by a client.
    Client,
}

/// When a certificate begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: Timestamp,
    /// Last moment.
    pub not_after: Timestamp,
}

/// What a CA may sign for, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mandate {
    /// When it begins and ends.
    pub validity: Validity,
    /// DNS names, with everything below each.
    pub permitted_dns: Vec<String>,
}

/// Life of a CA that only engine and operator see.
pub const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Life of the certificates that only engine and operator see.
pub const INTERNAL_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

impl Validity {
    /// From when on a certificate is replaced: two thirds of its life.
    pub fn renewal(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        let after = SignedDuration::from_secs(life.as_secs() / 3 * 2);
        self.not_before.checked_add(after).unwrap_or(self.not_after)
    }

    /// Whether the time for a replacement has come.
    pub fn due(&self, now: Timestamp) -> bool {
        now >= self.renewal()
    }
}

impl Mandate {
    /// Whether the CA may sign for a DNS name.
    pub fn covers(&self, name: &str) -> bool {
        self.permitted_dns.iter().any(|permitted| {
            name.strip_suffix(permitted.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let validity = Validity { not_before: start, not_after: start + SignedDuration::from_hours(90) };
        assert!(!validity.due(start + SignedDuration::from_hours(59)));
        assert!(validity.due(start + SignedDuration::from_hours(60)));
    }

    #[test]
    fn a_ca_may_sign_for_its_names_and_for_what_is_below_them() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mandate = Mandate {
            validity: Validity { not_before: start, not_after: start },
            permitted_dns: vec!["vk-vc1.svc".into(), "acme.example".into()],
        };
        for name in ["vk-vc1.svc", "engine.vk-vc1.svc", "a.b.acme.example"] {
            assert!(mandate.covers(name), "{name}");
        }
        for name in ["vk-vc2.svc", "notacme.example", "example", ""] {
            assert!(!mandate.covers(name), "{name}");
        }
    }
}
