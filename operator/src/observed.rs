//! What one reconcile found. Everything that is decided is decided from these values and a clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{
        ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service, ServiceAccount,
    },
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use vectorkeep_crds::{
    EngineCatalog, VectorCluster,
    upgrade::Upgrade,
    well_known::{ANNOTATION_OWNER_NAME, ANNOTATION_OWNER_NAMESPACE},
};

use crate::{
    admin::EngineView,
    cert_manager::{ANNOTATION_CERTIFICATE_NAME, Certificate},
    sensitive::Sensitive,
};

/// What one reconcile found.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The resource itself, read for this reconcile.
    pub cluster: VectorCluster,
    /// The data-plane namespace.
    pub namespace: Option<Namespace>,
    /// The binding by which the operator may work in that namespace.
    pub role_binding: Option<RoleBinding>,
    /// What the namespace holds. `None` while the operator can't read it: no namespace or no binding.
    pub children: Option<Children>,
    /// The binding by which the operator may publish into the customer's namespace.
    pub publisher_binding: Option<RoleBinding>,
    /// What the operator keeps for the cluster in its own namespace.
    pub custody: Custody,
    /// What the engine last said of itself.
    pub engine: EngineView,
    /// The engine releases on offer.
    pub catalog: Option<EngineCatalog>,
    /// Clusters that take a new release first.
    pub canaries: Vec<Canary>,
    /// Which of the listeners that no engine may reach the operator reaches.
    pub control: BTreeMap<String, bool>,
    /// A few other clusters, whose engines this one must not reach.
    pub others: Vec<Other>,
}

impl Observed {
    /// The engine's pod, as far as it can be read.
    pub fn pod(&self) -> Option<&Pod> {
        self.children.as_ref()?.pod.as_ref()
    }

    /// Since when that pod is ready.
    pub fn ready_since(&self) -> Option<Timestamp> {
        let conditions = self.pod()?.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
        Some(ready.last_transition_time.as_ref()?.0)
    }
}

/// Another cluster of the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its cluster id.
    pub cluster_id: String,
    /// Whether its engine answers the operator.
    pub answers: bool,
}

/// A cluster that takes a new release before the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canary {
    /// Its cluster id.
    pub cluster_id: String,
    /// Version that its engine reports.
    pub version: Option<String>,
    /// Whether it serves.
    pub serves: bool,
    /// When it takes patches.
    pub policy: Upgrade,
}

/// The objects of one cluster in its data-plane namespace.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// Bounds on what the namespace may hold.
    pub quota: Option<ResourceQuota>,
    /// Bounds on each container.
    pub limit_range: Option<LimitRange>,
    /// Identity of the engine.
    pub service_account: Option<ServiceAccount>,
    /// Every policy that carries the operator's label, also those that are no longer wanted.
    pub network_policies: Vec<NetworkPolicy>,
    /// Configuration of the engine.
    pub config: Option<ConfigMap>,
    /// What clients connect to.
    pub service: Option<Service>,
    /// Stable names of the engine's pods.
    pub peers: Option<Service>,
    /// The volume.
    pub volume: Option<PersistentVolumeClaim>,
    /// The workload.
    pub stateful_set: Option<StatefulSet>,
    /// The engine's pod, read by its name.
    pub pod: Option<Pod>,
    /// Certificate that clients see.
    pub serving_tls: Option<SecretSeen>,
    /// What cert-manager was told about it.
    pub issuance: Issuance,
    /// Certificate of the engine's health and admin ports.
    pub internal_tls: Option<SecretSeen>,
    /// Initial password of the user `root`.
    pub root_password: Option<SecretSeen>,
    /// Master key of a development cluster.
    pub local_key: Option<SecretSeen>,
}

/// What cert-manager was told about the certificate that clients see.
#[derive(Clone, Debug, Default)]
pub enum Issuance {
    /// Nothing, or there was no reason to look.
    #[default]
    None,
    /// The API server knows no such kind: cert-manager is not installed.
    Unserved,
    /// To fill its secret.
    Ordered(Box<Certificate>),
}

/// What the operator keeps for one cluster in its own namespace.
#[derive(Clone, Debug, Default)]
pub struct Custody {
    /// CA of the engine's internal ports and of the operator's client certificate.
    pub internal_ca: Option<SecretSeen>,
    /// CA of the certificate that clients see.
    pub serving_ca: Option<SecretSeen>,
    /// What clients are given to show.
    pub client: Option<SecretSeen>,
    /// The operator's client certificate for the engine's admin port.
    pub operator_client: Option<SecretSeen>,
    /// The durable record: what was last rolled out.
    pub record: Option<ConfigMap>,
    /// What all clusters of the installation agree on.
    pub fleet: Option<ConfigMap>,
    /// What was told of the cluster, and to whom.
    pub notified: Option<ConfigMap>,
}

/// A secret as it was read, its values kept from view.
#[derive(Clone, Debug)]
pub struct SecretSeen {
    /// Identity of this very object, for preconditions.
    pub uid: String,
    /// Version that was read; a replacement names it.
    pub resource_version: String,
    /// Namespace and name of the resource that it was made for.
    pub owner: Option<(String, String)>,
    /// Whether cert-manager wrote it, as it says there.
    pub by_cert_manager: bool,
    /// Every entry.
    pub entries: Vec<(String, Sensitive)>,
}

impl SecretSeen {
    /// Takes over a secret's values.
    pub fn new(secret: Secret) -> Self {
        let entries =
            secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, Sensitive::new(value.0))).collect();
        let annotations = secret.metadata.annotations.unwrap_or_default();
        let owner =
            annotations.get(ANNOTATION_OWNER_NAMESPACE).cloned().zip(annotations.get(ANNOTATION_OWNER_NAME).cloned());
        Self {
            owner,
            by_cert_manager: annotations.contains_key(ANNOTATION_CERTIFICATE_NAME),
            uid: secret.metadata.uid.unwrap_or_default(),
            resource_version: secret.metadata.resource_version.unwrap_or_default(),
            entries,
        }
    }

    /// One entry.
    pub fn entry(&self, key: &str) -> Option<&Sensitive> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}
