//! `VectorCluster`: one isolated, encrypted vector-search cluster.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    encryption::Encryption, isolation::Isolation, network::Network, resources::Resources, status::VectorClusterStatus,
    storage::Storage, tls::Tls, upgrade::Upgrade,
};

/// One isolated, encrypted vector-search cluster whose master key stays with its owner.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "vectorkeep.dev",
    version = "v1alpha1",
    kind = "VectorCluster",
    plural = "vectorclusters",
    shortname = "vcl",
    category = "all",
    namespaced,
    status = "VectorClusterStatus",
    derive = "PartialEq",
    doc = "One isolated, encrypted vector-search cluster whose master key stays with its owner.",
    annotation("helm.sh/resource-policy", "keep"),
    validation = Rule::new("size(self.metadata.name) <= 52").message("metadata.name must have at most 52 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.key.state"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Cluster-Id", type_ = "string", json_path = ".status.clusterId", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.clusterId) == has(oldSelf.clusterId) && (!has(self.clusterId) || self.clusterId == oldSelf.clusterId)")
        .message("spec.clusterId can't be set, changed or removed after creation: it is the cluster's identity; create a new VectorCluster")
        .field_path(".clusterId")
)]
pub struct VectorClusterSpec {
    /// Identity of the cluster, where it must not be derived from installation, namespace and name: after a
    /// move, for example. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 6, max = 30), regex(pattern = r"^[a-z][a-z0-9]{5,29}$"))]
    pub cluster_id: Option<String>,
    /// Which master key protects the cluster.
    pub encryption: Encryption,
    /// Number of engines. One, for now.
    #[serde(default = "one_replica")]
    #[schemars(range(min = 1, max = 1))]
    pub replicas: i32,
    /// CPU and memory of an engine.
    #[serde(default)]
    pub resources: Resources,
    /// Where the cluster keeps its sealed objects.
    #[serde(default)]
    pub storage: Storage,
    /// Who may talk to the cluster, and whom it may talk to.
    #[serde(default)]
    pub network: Network,
    /// What clients see of the cluster's certificates.
    #[serde(default)]
    pub tls: Tls,
    /// How far the cluster is kept from others, beyond its policies.
    #[serde(default)]
    pub isolation: Isolation,
    /// When and how far the engine patches itself.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// What becomes of the data when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What becomes of a cluster's data when its resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The engine goes; volume, certificates and passwords stay. A resource of the same name in the same
    /// namespace takes them up again.
    #[default]
    Retain,
    /// Everything goes, data included.
    Delete,
}

fn one_replica() -> i32 {
    1
}
