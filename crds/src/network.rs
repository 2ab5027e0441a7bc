//! Who may talk to a cluster, and whom the cluster may talk to.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may talk to a cluster, and whom the cluster may talk to. Everything else is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Who may connect to the client port. Nobody, if empty.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub clients: Vec<NetworkClient>,
    /// Addresses of the KMS and the token service, where they are known. If empty, and the operator's
    /// installation gives none either, public addresses on port 443 are allowed.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub egress: Vec<Egress>,
}

/// One group of clients: pods by labels, or addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cidr) != (has(self.namespaceSelector) || has(self.podSelector))")
        .message("network.clients: each entry has either cidr, or namespaceSelector and/or podSelector"),
    validation = Rule::new("!has(self.cidr) || isCIDR(self.cidr)")
        .message("network.clients: cidr must be an address range like 203.0.113.0/24")
        .field_path(".cidr")
)]
pub struct NetworkClient {
    /// Namespaces whose pods may connect. Without it, pods of the resource's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Pods, in those namespaces, that may connect. Without it, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Addresses that may connect, for clients outside the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cidr: Option<String>,
}

/// Addresses that an engine may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("isCIDR(self.cidr)")
        .message("network.egress: cidr must be an address range like 203.0.113.0/24")
        .field_path(".cidr")
)]
pub struct Egress {
    /// Address range. Link-local addresses and the Kubernetes cluster's own ranges are refused.
    #[schemars(length(max = 64))]
    pub cidr: String,
    /// TCP ports. 443, if empty.
    #[serde(default)]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
}

/// A selection by labels, as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelExpression>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelExpression {
    /// Name of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label is compared.
    pub operator: LabelOperator,
    /// Values to compare with; none for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label is missing or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl LabelOperator {
    /// The operator as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}
