//! Which certificates are good, and which are to be made.

use jiff::{SignedDuration, Timestamp};
use vectorkeep_crds::{VectorClusterSpec, identity::client_host};

use super::{config_map::seconds, identity::Identity, refusal::Refusal};
use crate::{
    certificates::{AuthorityRequest, INTERNAL_LIFETIME, LeafRequest, TlsMaterial, Usage, Validity, verify},
    observed::{Observed, SecretSeen},
};

/// Secret with the certificate that clients see.
pub const SERVING_TLS: &str = "engine-serving-tls";
/// Secret with the certificate of the engine's health and admin ports.
pub const INTERNAL_TLS: &str = "engine-internal-tls";

/// Name, in the operator's namespace, of the secret with the internal CA.
pub fn internal_ca_name(cluster_id: &str) -> String {
    format!("ca-internal-{cluster_id}")
}

/// Name, in the operator's namespace, of the secret with the serving CA.
pub fn serving_ca_name(cluster_id: &str) -> String {
    format!("ca-serving-{cluster_id}")
}

/// Name, in the operator's namespace, of the secret with the operator's client certificate.
pub fn operator_client_name(cluster_id: &str) -> String {
    format!("operator-client-{cluster_id}")
}

/// What becomes of each certificate of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificates {
    /// The internal CA.
    pub internal_ca: AuthorityChange,
    /// The serving CA.
    pub serving_ca: AuthorityChange,
    /// What clients see; signed by the serving CA.
    pub serving: LeafChange,
    /// Health and admin ports; signed by the internal CA.
    pub internal: LeafChange,
    /// The operator as a client; signed by the internal CA.
    pub operator_client: LeafChange,
}

/// What becomes of a CA.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthorityChange {
    /// It is good.
    Keep {
        /// The CA with its key, to sign with.
        material: TlsMaterial,
        /// When it ends.
        validity: Validity,
    },
    /// It is missing or worthless.
    Make {
        /// What to make.
        request: AuthorityRequest,
        /// Version of the secret that it replaces, if there is one.
        replaces: Option<String>,
    },
}

/// What becomes of a certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum LeafChange {
    /// It is good.
    Keep {
        /// The certificate with its key.
        material: TlsMaterial,
        /// When it begins and ends.
        validity: Validity,
    },
    /// It is missing, wrong or due.
    Make {
        /// What to make.
        request: LeafRequest,
        /// Version of the secret that it replaces, if there is one.
        replaces: Option<String>,
        /// Why, for the Event.
        reason: String,
    },
}

impl Certificates {
    /// The certificates of a cluster, judged at `now`.
    pub fn plan(
        identity: &Identity,
        spec: &VectorClusterSpec,
        observed: &Observed,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let custody = &observed.custody;
        let children = observed.children.as_ref();
        let internal_ca = authority(internal_ca_request(identity), &custody.internal_ca, now);
        let serving_ca = authority(serving_ca_request(identity, spec), &custody.serving_ca, now);
        let duration = seconds("tls.duration", &spec.tls.duration)?;
        let lifetime = SignedDuration::from_secs(i64::try_from(duration).unwrap_or(i64::MAX));
        let serving = leaf(
            serving_request(identity, spec, lifetime),
            children.and_then(|children| children.serving_tls.as_ref()),
            &serving_ca,
            now,
        );
        let internal = leaf(
            internal_request(identity),
            children.and_then(|children| children.internal_tls.as_ref()),
            &internal_ca,
            now,
        );
        let operator_client = leaf(operator_request(identity), custody.operator_client.as_ref(), &internal_ca, now);
        Ok(Self { internal_ca, serving_ca, serving, internal, operator_client })
    }

    /// The moment at which the first of them is due.
    pub fn next_renewal(&self) -> Option<Timestamp> {
        [&self.serving, &self.internal, &self.operator_client]
            .into_iter()
            .filter_map(|leaf| leaf.validity())
            .map(|validity| validity.renewal())
            .min()
    }
}

impl AuthorityChange {
    /// When the CA ends, if it is kept.
    pub fn validity(&self) -> Option<Validity> {
        match self {
            Self::Keep { validity, .. } => Some(*validity),
            Self::Make { .. } => None,
        }
    }

    /// Fingerprint of the CA's certificate, if it is kept.
    pub fn fingerprint(&self) -> Option<String> {
        match self {
            Self::Keep { material, .. } => verify::fingerprint(&material.certificate).ok(),
            Self::Make { .. } => None,
        }
    }
}

impl LeafChange {
    /// When the certificate begins and ends, if it is kept.
    pub fn validity(&self) -> Option<Validity> {
        match self {
            Self::Keep { validity, .. } => Some(*validity),
            Self::Make { .. } => None,
        }
    }

    /// The certificate, if it is kept.
    pub fn material(&self) -> Option<&TlsMaterial> {
        match self {
            Self::Keep { material, .. } => Some(material),
            Self::Make { .. } => None,
        }
    }
}

fn authority(request: AuthorityRequest, seen: &Option<SecretSeen>, now: Timestamp) -> AuthorityChange {
    let found = seen.as_ref().and_then(material);
    match found.map(|material| (verify::authority(&material, &request, now), material)) {
        Some((Ok(validity), material)) => AuthorityChange::Keep { material, validity },
        _ => AuthorityChange::Make { request, replaces: seen.as_ref().map(|seen| seen.resource_version.clone()) },
    }
}

fn leaf(request: LeafRequest, seen: Option<&SecretSeen>, authority: &AuthorityChange, now: Timestamp) -> LeafChange {
    let replaces = seen.map(|seen| seen.resource_version.clone());
    let make = |request, reason: String| LeafChange::Make { request, replaces: replaces.clone(), reason };
    let AuthorityChange::Keep { material: authority, .. } = authority else {
        return make(request, "the CA is new".to_owned());
    };
    let Some(seen) = seen else {
        return make(request, "there was none".to_owned());
    };
    let Some(material) = material(seen) else {
        return make(request, "its secret lacks an entry".to_owned());
    };
    match verify::leaf(&material, &request, &authority.certificate, now) {
        Ok(validity) if validity.due(now) => make(request, "two thirds of its life are over".to_owned()),
        // A shorter duration in the resource counts at once, not only at the next renewal.
        Ok(validity) if outlives(&validity, &request, now) => {
            make(request, "its life is longer than is wanted now".to_owned())
        }
        Ok(validity) => LeafChange::Keep { material, validity },
        Err(fault) => make(request, fault.to_string()),
    }
}

fn outlives(validity: &Validity, request: &LeafRequest, now: Timestamp) -> bool {
    validity.not_after > now + request.lifetime + SignedDuration::from_mins(10)
}

/// A certificate from the entries of a secret in cert-manager's shape.
fn material(seen: &SecretSeen) -> Option<TlsMaterial> {
    let text = |key: &str| seen.entry(key)?.reveal_text().map(str::to_owned);
    Some(TlsMaterial { certificate: text("tls.crt")?, key: seen.entry("tls.key")?.clone(), authority: text("ca.crt")? })
}

fn internal_ca_request(identity: &Identity) -> AuthorityRequest {
    AuthorityRequest {
        common_name: format!("{} internal CA", identity.cluster_id),
        permitted_dns: cluster_domains(identity),
    }
}

fn serving_ca_request(identity: &Identity, spec: &VectorClusterSpec) -> AuthorityRequest {
    let mut permitted_dns = cluster_domains(identity);
    permitted_dns.push(identity.namespace.clone());
    permitted_dns.extend(spec.tls.dns_names.iter().cloned());
    AuthorityRequest { common_name: format!("{} serving CA", identity.cluster_id), permitted_dns }
}

fn cluster_domains(identity: &Identity) -> Vec<String> {
    vec![format!("{}.svc.cluster.local", identity.namespace), format!("{}.svc", identity.namespace)]
}

fn serving_request(identity: &Identity, spec: &VectorClusterSpec, lifetime: SignedDuration) -> LeafRequest {
    let namespace = &identity.namespace;
    let mut dns_names =
        vec![client_host(&identity.cluster_id), format!("engine.{namespace}.svc"), format!("engine.{namespace}")];
    dns_names.extend(spec.tls.dns_names.iter().cloned());
    LeafRequest { common_name: "engine".to_owned(), dns_names, uris: Vec::new(), usage: Usage::Server, lifetime }
}

fn internal_request(identity: &Identity) -> LeafRequest {
    let namespace = &identity.namespace;
    LeafRequest {
        common_name: "engine-0".to_owned(),
        dns_names: ["engine-0.engine-peers", "engine-peers"]
            .into_iter()
            .flat_map(|host| [format!("{host}.{namespace}.svc.cluster.local"), format!("{host}.{namespace}.svc")])
            .collect(),
        uris: vec![identity.engine_uri()],
        usage: Usage::Server,
        lifetime: INTERNAL_LIFETIME,
    }
}

fn operator_request(identity: &Identity) -> LeafRequest {
    LeafRequest {
        common_name: "operator".to_owned(),
        dns_names: Vec::new(),
        uris: vec![identity.operator_uri()],
        usage: Usage::Client,
        lifetime: INTERNAL_LIFETIME,
    }
}
