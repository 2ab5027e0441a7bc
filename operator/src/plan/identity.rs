//! Who a cluster is, and the marks that every object of it carries.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use vectorkeep_crds::{
    VectorCluster,
    identity::{cluster_id, cluster_id_of, data_plane_namespace, is_derived},
    well_known::{
        ANNOTATION_OWNER_NAME, ANNOTATION_OWNER_NAMESPACE, ANNOTATION_OWNER_UID, COMPONENT_ENGINE, FIELD_MANAGER,
        LABEL_CLUSTER_ID, LABEL_COMPONENT, LABEL_MANAGED_BY,
    },
};

/// Who a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster id.
    pub cluster_id: String,
    /// The data-plane namespace.
    pub namespace: String,
    /// Namespace of the resource.
    pub owner_namespace: String,
    /// Name of the resource.
    pub owner_name: String,
    /// UID of the resource.
    pub owner_uid: String,
}

impl Identity {
    /// The identity of a resource within one installation.
    pub fn of(cluster: &VectorCluster, installation_id: &str) -> Self {
        let cluster_id = cluster_id_of(installation_id, cluster);
        Self {
            namespace: data_plane_namespace(&cluster_id),
            cluster_id,
            owner_namespace: cluster.namespace().unwrap_or_default(),
            owner_name: cluster.name_any(),
            owner_uid: cluster.uid().unwrap_or_default(),
        }
    }

    /// Whether the resource claims, by `spec.clusterId`, an id that another one may have by its name: whoever trusts that
    /// one, trusts it before it exists.
    pub fn has_derived_id_of_another(&self, installation_id: &str) -> bool {
        let own = cluster_id(installation_id, &self.owner_namespace, &self.owner_name);
        is_derived(&self.cluster_id) && self.cluster_id != own
    }

    /// Metadata of an object of this cluster in its data-plane namespace.
    pub fn meta(&self, name: &str) -> ObjectMeta {
        self.meta_in(Some(&self.namespace), name)
    }

    /// Metadata of an object of this cluster in another namespace, or in none.
    pub fn meta_in(&self, namespace: Option<&str>, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: namespace.map(str::to_owned),
            labels: Some(self.labels()),
            annotations: Some(strings([
                (ANNOTATION_OWNER_UID, self.owner_uid.as_str()),
                (ANNOTATION_OWNER_NAMESPACE, &self.owner_namespace),
                (ANNOTATION_OWNER_NAME, &self.owner_name),
            ])),
            ..ObjectMeta::default()
        }
    }

    /// Whether an object was made for the resource of this name. Another may have said the same cluster id: what is kept
    /// under that id is not its own.
    pub fn owns(&self, object: &impl ResourceExt) -> bool {
        let of = |key: &str| object.annotations().get(key).map(String::as_str);
        of(ANNOTATION_OWNER_NAMESPACE) == Some(&self.owner_namespace)
            && of(ANNOTATION_OWNER_NAME) == Some(&self.owner_name)
    }

    /// Labels of every object of this cluster.
    pub fn labels(&self) -> BTreeMap<String, String> {
        strings([(LABEL_MANAGED_BY, FIELD_MANAGER), (LABEL_CLUSTER_ID, &self.cluster_id)])
    }

    /// Labels of the engine's pods, by which services and policies select them.
    pub fn engine_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(LABEL_COMPONENT.to_owned(), COMPONENT_ENGINE.to_owned());
        labels
    }

    /// Name, inside the Kubernetes cluster, of the engine's first and only pod.
    pub fn engine_host(&self) -> String {
        engine_host(&self.cluster_id)
    }

    /// URI name of the engine in its internal certificate.
    pub fn engine_uri(&self) -> String {
        format!("vectorkeep://{}/engine", self.cluster_id)
    }

    /// URI name of the customer's programs in the client certificate that they are given.
    pub fn client_uri(&self) -> String {
        format!("vectorkeep://{}/client", self.cluster_id)
    }

    /// URI name of the operator in the client certificate that this cluster's engine accepts.
    pub fn operator_uri(&self) -> String {
        format!("vectorkeep://{}/operator", self.cluster_id)
    }
}

/// Name, inside the Kubernetes cluster, of the first and only engine pod of a cluster.
pub(super) fn engine_host(cluster_id: &str) -> String {
    format!("engine-0.engine-peers.{}.svc.cluster.local", data_plane_namespace(cluster_id))
}

/// A map of owned strings.
pub(super) fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
