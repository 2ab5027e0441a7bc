//! Which certificates a cluster is to have.

use jiff::SignedDuration;
use vectorkeep_crds::{VectorClusterSpec, identity::client_host, tls::Tls};

use crate::{
    certificates::{AUTHORITY_LIFETIME, AuthorityRequest, INTERNAL_LIFETIME, LeafRequest, Mandate, Usage},
    plan::{config_map::seconds, identity::Identity, refusal::Refusal},
};

/// How long what clients see is valid, and how long a rotation waits for them. What only engine and operator see is none
/// of the resource's business.
pub(super) struct Lives {
    serving_ca: SignedDuration,
    serving: SignedDuration,
    /// How long a new CA is known before it signs, and an old one trusted after it signed last.
    pub(super) overlap: SignedDuration,
}

impl Lives {
    pub(super) fn of(tls: &Tls) -> Result<Self, Refusal> {
        let serving_ca = duration("tls.caDuration", &tls.ca_duration)?;
        let overlap = duration("tls.caOverlap", &tls.ca_overlap)?;
        Ok(Self {
            serving_ca,
            serving: duration("tls.duration", &tls.duration)?,
            // A rotation has the last third of the old CA's life.
            overlap: overlap.min(serving_ca / 4),
        })
    }
}

fn duration(field: &'static str, text: &str) -> Result<SignedDuration, Refusal> {
    let seconds = seconds(field, text)?;
    Ok(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

pub(super) fn internal_ca(identity: &Identity) -> AuthorityRequest {
    AuthorityRequest {
        common_name: format!("{} internal CA", identity.cluster_id),
        own_dns: cluster_domains(identity),
        further_dns: Vec::new(),
        lifetime: AUTHORITY_LIFETIME,
    }
}

pub(super) fn serving_ca(identity: &Identity, spec: &VectorClusterSpec, lives: &Lives) -> AuthorityRequest {
    let mut own_dns = cluster_domains(identity);
    own_dns.push(identity.namespace.clone());
    AuthorityRequest {
        common_name: format!("{} serving CA", identity.cluster_id),
        own_dns,
        further_dns: spec.tls.dns_names.clone(),
        lifetime: lives.serving_ca,
    }
}

fn cluster_domains(identity: &Identity) -> Vec<String> {
    vec![format!("{}.svc.cluster.local", identity.namespace), format!("{}.svc", identity.namespace)]
}

/// What clients see. A further name that the CA may not sign for has to wait for one that may: clients would refuse the
/// whole certificate.
pub(super) fn serving(
    identity: &Identity,
    spec: &VectorClusterSpec,
    lives: &Lives,
    mandate: Option<&Mandate>,
) -> LeafRequest {
    let namespace = &identity.namespace;
    let mut dns_names =
        vec![client_host(&identity.cluster_id), format!("engine.{namespace}.svc"), format!("engine.{namespace}")];
    let further = spec.tls.dns_names.iter().filter(|name| mandate.is_none_or(|mandate| mandate.covers(name)));
    dns_names.extend(further.cloned());
    LeafRequest {
        common_name: "engine".to_owned(),
        dns_names,
        uris: Vec::new(),
        usage: Usage::Server,
        lifetime: lives.serving,
    }
}

pub(super) fn internal(identity: &Identity) -> LeafRequest {
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

pub(super) fn operator(identity: &Identity) -> LeafRequest {
    LeafRequest {
        common_name: "operator".to_owned(),
        dns_names: Vec::new(),
        uris: vec![identity.operator_uri()],
        usage: Usage::Client,
        lifetime: INTERNAL_LIFETIME,
    }
}

/// What clients are given to show. A URI, like the operator's: the CA's constraints are about DNS names.
pub(super) fn client(identity: &Identity, lives: &Lives) -> LeafRequest {
    LeafRequest {
        common_name: format!("{}-client", identity.cluster_id),
        dns_names: Vec::new(),
        uris: vec![identity.client_uri()],
        usage: Usage::Client,
        lifetime: lives.serving,
    }
}
