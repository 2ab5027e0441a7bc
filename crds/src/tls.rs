//! What clients see of a cluster's certificates.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients see of a cluster's certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.duration) >= duration('5m') && duration(self.duration) <= duration('8760h')")
        .message("tls.duration must lie between 5m and 8760h")
        .field_path(".duration"),
    validation = Rule::new("duration(self.caDuration) >= duration('10m') && duration(self.caDuration) <= duration('87600h')")
        .message("tls.caDuration must lie between 10m and 87600h")
        .field_path(".caDuration"),
    validation = Rule::new("duration(self.duration) + duration(self.duration) <= duration(self.caDuration)")
        .message("tls.caDuration must be at least twice tls.duration")
        .field_path(".caDuration"),
    validation = Rule::new("duration(self.caOverlap) >= duration('1m') && duration(self.caOverlap) <= duration('8760h')")
        .message("tls.caOverlap must lie between 1m and 8760h")
        .field_path(".caOverlap"),
    validation = Rule::new("!has(self.issuerRef) || duration(self.duration) >= duration('1h')")
        .message("tls.duration must be at least 1h with tls.issuerRef: cert-manager orders no shorter certificate")
        .field_path(".duration"),
    validation = Rule::new("self.dnsNames.all(name, !name.matches('(^|[.])[0-9]+$'))")
        .message("tls.dnsNames must be names, not addresses")
        .field_path(".dnsNames")
)]
pub struct Tls {
    /// The cert-manager issuer that signs what clients see, in the place of the cluster's own serving CA. It can be set,
    /// changed and removed at any time; clients have to trust the new signer by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// Whether clients have to show a certificate of their own, which the CA has signed that they trust. Their password
    /// counts all the same. A change restarts the engine.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// How long a serving certificate is valid, between 5m and 8760h. It is renewed at two thirds of that.
    #[serde(default = "default_duration")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(h|m|s|ms))+$"))]
    pub duration: String,
    /// How long a serving CA is valid, between 10m and 87600h and at least twice `duration`; counts for the next one that is
    /// made. At two thirds of that its rotation begins.
    #[serde(default = "default_ca_duration")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(h|m|s|ms))+$"))]
    pub ca_duration: String,
    /// How long a rotation waits for clients, which keep copies of the CA certificates: before the new serving CA
    /// signs, and again before the old one is dropped. Between 1m and 8760h; at most a quarter of `caDuration` counts,
    /// so that the new CA signs before the old one ends.
    #[serde(default = "default_ca_overlap")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(h|m|s|ms))+$"))]
    pub ca_overlap: String,
    /// Further names that clients reach the cluster by, for example that of a load balancer. A name that the serving CA
    /// may not sign for yet is served once a rotation has brought one that may.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(max = 253), regex(pattern = DNS_NAME)))]
    pub dns_names: Vec<String>,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuth {
    /// No client is asked for one.
    #[default]
    None,
    /// One that is shown has to be good; nobody has to show one.
    Optional,
    /// Nobody connects without one.
    Required,
}

/// An issuer of cert-manager, or of one of the projects that extend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.kind != 'Issuer'")
        .message("tls.issuerRef.kind can't be Issuer: it would have to be in the data-plane namespace, where customers have no rights; name a ClusterIssuer")
        .field_path(".kind")
)]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_NAME))]
    pub name: String,
    /// Its kind; a cluster-scoped one.
    #[serde(default = "default_issuer_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// API group of the kind.
    #[serde(default = "default_issuer_group")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_NAME))]
    pub group: String,
}

/// A DNS name without wildcards.
pub const DNS_NAME: &str = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";

impl Default for Tls {
    fn default() -> Self {
        Self {
            issuer_ref: None,
            client_auth: ClientAuth::default(),
            duration: default_duration(),
            ca_duration: default_ca_duration(),
            ca_overlap: default_ca_overlap(),
            dns_names: Vec::new(),
        }
    }
}

fn default_issuer_kind() -> String {
    "ClusterIssuer".to_owned()
}

fn default_issuer_group() -> String {
    "cert-manager.io".to_owned()
}

fn default_duration() -> String {
    "2160h".to_owned()
}

fn default_ca_duration() -> String {
    "43800h".to_owned()
}

fn default_ca_overlap() -> String {
    "720h".to_owned()
}
