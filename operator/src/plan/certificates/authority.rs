//! A CA as its secret holds it, and what becomes of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;

use super::text;
use crate::{
    certificates::{AuthorityRequest, Mandate, TlsMaterial, Validity, verify},
    observed::SecretSeen,
    sensitive::Sensitive,
};

/// Beside `tls.crt`, `tls.key` and `ca.crt`: the CA that comes, and the certificate of the one that goes.
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";
const DISTRIBUTED_AT: &str = "distributed-at";
const REISSUED_AT: &str = "reissued-at";
const HONOURED: &str = "honoured-request";

/// A CA: what signs, and during a rotation what comes or what goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The certificate and the key that sign.
    pub signing: TlsMaterial,
    /// How far a rotation is.
    pub phase: Phase,
    /// The request for a rotation that was honoured last, as the annotation said it.
    pub honoured: Option<String>,
}

/// How far a rotation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    Settled,
    /// The new CA is made known; the old one signs.
    Distribute {
        /// The new CA.
        next: TlsMaterial,
        /// Since when everybody who looks finds both.
        since: Option<Timestamp>,
    },
    /// The new CA signs; the old one is still trusted, and its key is gone.
    Reissue {
        /// Certificate of the old CA.
        previous: String,
        /// Since when the engine shows a certificate of the new one.
        since: Option<Timestamp>,
    },
}

impl Authority {
    /// A CA without a rotation.
    pub fn new(signing: TlsMaterial, honoured: Option<String>) -> Self {
        Self { signing, phase: Phase::Settled, honoured }
    }

    /// What a secret holds; nothing if certificate or key is missing, unless another one is to come: that one counts.
    pub fn read(seen: &SecretSeen) -> Option<Self> {
        let pair = |certificate: &str, key: &str| {
            let certificate = text(seen, certificate)?;
            Some(TlsMaterial { authority: certificate.clone(), certificate, key: seen.entry(key)?.clone() })
        };
        let time = |key: &str| -> Option<Timestamp> { text(seen, key)?.parse().ok() };
        let phase = if let Some(next) = pair(NEXT_CERTIFICATE, NEXT_KEY) {
            Phase::Distribute { next, since: time(DISTRIBUTED_AT) }
        } else if let Some(previous) = text(seen, PREVIOUS_CERTIFICATE) {
            Phase::Reissue { previous, since: time(REISSUED_AT) }
        } else {
            Phase::Settled
        };
        let signing = pair("tls.crt", "tls.key").or_else(|| {
            let certificate = text(seen, "tls.crt").unwrap_or_default();
            let remains = TlsMaterial { authority: certificate.clone(), certificate, key: Sensitive::new(Vec::new()) };
            matches!(phase, Phase::Distribute { .. }).then_some(remains)
        })?;
        Some(Self { signing, phase, honoured: text(seen, HONOURED) })
    }

    /// The entries of its secret.
    pub fn entries(&self) -> BTreeMap<String, ByteString> {
        let mut entries = vec![
            ("tls.crt", self.signing.certificate.as_bytes().to_vec()),
            ("tls.key", self.signing.key.reveal().to_vec()),
            ("ca.crt", self.bundle().into_bytes()),
        ];
        let mut time = None;
        match &self.phase {
            Phase::Settled => {}
            Phase::Distribute { next, since } => {
                entries.push((NEXT_CERTIFICATE, next.certificate.as_bytes().to_vec()));
                entries.push((NEXT_KEY, next.key.reveal().to_vec()));
                time = since.map(|since| (DISTRIBUTED_AT, since));
            }
            Phase::Reissue { previous, since } => {
                entries.push((PREVIOUS_CERTIFICATE, previous.as_bytes().to_vec()));
                time = since.map(|since| (REISSUED_AT, since));
            }
        }
        if let Some((key, since)) = time {
            entries.push((key, since.to_string().into_bytes()));
        }
        if let Some(honoured) = &self.honoured {
            entries.push((HONOURED, honoured.as_bytes().to_vec()));
        }
        entries.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value))).collect()
    }

    /// The same CA with `next` beside it, whose rotation begins.
    #[must_use]
    pub fn joined_by(&self, next: TlsMaterial, honoured: Option<String>) -> Self {
        Self { honoured, ..self.with(Phase::Distribute { next, since: None }) }
    }

    /// The same CA in another phase of its rotation.
    #[must_use]
    pub(super) fn with(&self, phase: Phase) -> Self {
        Self { signing: self.signing.clone(), phase, honoured: self.honoured.clone() }
    }

    /// What signs, with everything that is to be trusted beside what it signs.
    pub fn signer(&self) -> TlsMaterial {
        TlsMaterial { authority: self.bundle(), ..self.signing.clone() }
    }

    /// Everything that is to be trusted. The older CA comes first, so that the text is another one only when something
    /// else is trusted.
    pub fn bundle(&self) -> String {
        self.trusted().into_iter().flat_map(|certificate| [certificate.trim_end(), "\n"]).collect()
    }

    /// Fingerprints of everything that is to be trusted, in the order of the bundle.
    pub fn fingerprints(&self) -> Vec<String> {
        self.trusted().into_iter().filter_map(|certificate| verify::fingerprint(certificate).ok()).collect()
    }

    /// Whether anything that is to be trusted signed a certificate.
    pub fn has_signed(&self, certificate: &str) -> bool {
        self.trusted().into_iter().any(|authority| verify::is_signed_by(certificate, authority))
    }

    fn trusted(&self) -> Vec<&str> {
        let signing = self.signing.certificate.as_str();
        match &self.phase {
            Phase::Settled => vec![signing],
            Phase::Distribute { next, .. } => vec![signing, next.certificate.as_str()],
            Phase::Reissue { previous, .. } => vec![previous.as_str(), signing],
        }
    }
}

/// What becomes of a CA.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthorityChange {
    /// It stays as it is.
    Keep(Authority),
    /// It is missing or worthless: a new one takes its place at once, with everything that it signs.
    Make {
        /// What to make.
        request: AuthorityRequest,
        /// Version of the secret that it replaces, if there is one.
        replaces: Option<String>,
        /// The request for a rotation that this answers.
        honoured: Option<String>,
        /// Why, for the Event.
        reason: String,
    },
    /// Its rotation begins: a new one is made and stored beside it.
    Distribute {
        /// The CA until then.
        authority: Authority,
        /// What to make.
        request: AuthorityRequest,
        /// Version of the secret that is replaced.
        replaces: String,
        /// The request for a rotation that this answers.
        honoured: Option<String>,
        /// Why, for the Event.
        reason: String,
    },
    /// Its rotation goes on.
    Advance {
        /// The CA from now on.
        authority: Authority,
        /// Version of the secret that is replaced.
        replaces: String,
        /// What happens, in one word for the Event.
        event: &'static str,
        /// What happens, in a sentence for the Event.
        note: String,
    },
}

impl AuthorityChange {
    /// Whether there is nothing to write.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep(_))
    }

    /// The CA by which certificates are judged now, unless it is only about to be made.
    pub fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Keep(authority) | Self::Distribute { authority, .. } | Self::Advance { authority, .. } => {
                Some(authority)
            }
            Self::Make { .. } => None,
        }
    }

    /// When the CA that signs begins and ends, unless it is only about to be made.
    pub fn validity(&self) -> Option<Validity> {
        self.mandate().map(|mandate| mandate.validity)
    }

    /// What the CA that signs may sign for, unless it is only about to be made.
    pub fn mandate(&self) -> Option<Mandate> {
        verify::mandate(&self.authority()?.signing.certificate).ok()
    }

    /// Fingerprints of everything that is to be trusted, unless the CA is only about to be made.
    pub fn fingerprint(&self) -> Option<String> {
        self.authority().map(|authority| authority.fingerprints().join(","))
    }
}
