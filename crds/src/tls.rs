//! What clients see of a cluster's certificates.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What clients see of a cluster's certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.dnsNames == oldSelf.dnsNames")
        .message("tls.dnsNames can't be changed yet: the name constraints of the cluster's serving CA, which clients already trust, hold these names; create a new VectorCluster")
        .field_path(".dnsNames"),
    validation = Rule::new("duration(self.duration) >= duration('1h') && duration(self.duration) <= duration('8760h')")
        .message("tls.duration must lie between 1h and 8760h")
        .field_path(".duration")
)]
pub struct Tls {
    /// How long a serving certificate is valid, between 1h and 8760h. It is renewed at two thirds of that.
    #[serde(default = "default_duration")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(h|m|s|ms))+$"))]
    pub duration: String,
    /// Further names that clients reach the cluster by, for example that of a load balancer.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(max = 253), regex(pattern = DNS_NAME)))]
    pub dns_names: Vec<String>,
}

/// A DNS name without wildcards.
pub const DNS_NAME: &str = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";

impl Default for Tls {
    fn default() -> Self {
        Self { duration: default_duration(), dns_names: Vec::new() }
    }
}

fn default_duration() -> String {
    "2160h".to_owned()
}
