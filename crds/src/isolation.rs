//! How far a cluster is kept from others, beyond its policies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a cluster is kept from others, beyond its policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Isolation {
    /// What happens while the Kubernetes cluster's network is seen not to enforce policies.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// Which nodes the engine runs on.
    #[serde(default)]
    pub nodes: Nodes,
    /// RuntimeClass of the engine's pod, of one that isolates more than containers do, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = crate::tls::DNS_NAME))]
    pub runtime_class_name: Option<String>,
}

/// What happens while the Kubernetes cluster's network is seen not to enforce policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// The engine asks for no key, and the cluster does not become Ready.
    #[default]
    Required,
    /// The condition `NetworkIsolated` says so, and that is all.
    Reported,
}

/// Which nodes an engine runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Nodes {
    /// Any that fit.
    #[default]
    Shared,
    /// Only nodes labelled `vectorkeep.node-restriction.kubernetes.io/dedicated=<cluster id>`; a taint of the same name and
    /// value is tolerated.
    Dedicated,
}
