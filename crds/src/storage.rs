//! Where a cluster keeps its sealed objects.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a cluster keeps its sealed objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// One persistent volume, for a cluster of one engine.
    #[serde(default)]
    pub volume: Volume,
}

/// A persistent volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("storage.volume.size can only grow: Kubernetes can't shrink a volume")
        .field_path(".size"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.volume.storageClassName can't be changed: Kubernetes can't move a volume to another class; create a new VectorCluster")
        .field_path(".storageClassName")
)]
pub struct Volume {
    /// Size of the volume. It may grow later where the storage class allows that.
    #[serde(default = "default_size")]
    #[schemars(length(max = 24), regex(pattern = r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?|k)?$"))]
    pub size: String,
    /// Storage class; the Kubernetes cluster's default class if left out. Can't be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Default for Volume {
    fn default() -> Self {
        Self { size: default_size(), storage_class_name: None }
    }
}

fn default_size() -> String {
    "10Gi".to_owned()
}
