//! The data-plane namespace: created, never adopted without an administrator's consent.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use vectorkeep_crds::well_known::{
    ANNOTATION_OWNER_NAME, ANNOTATION_OWNER_NAMESPACE, FIELD_MANAGER, LABEL_ADOPT, LABEL_CLUSTER_ID, LABEL_DATA_PLANE,
    LABEL_MANAGED_BY, LABEL_RELEASED,
};

use super::identity::Identity;

/// Whose a namespace is that has the name of a cluster's data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is none yet.
    Free,
    /// It is this cluster's.
    Ours,
    /// It is this cluster's and on its way out.
    Ending,
    /// It is somebody else's.
    Foreign,
}

/// Whose the namespace is.
///
/// It is ours when it carries our marks *and* names this very resource (by namespace and name: a resource that
/// was deleted and made again takes its data up again, one of another namespace with the same id does not), or
/// when an administrator consented by the label `vectorkeep.dev/adopt: <clusterId>`.
pub fn claim(identity: &Identity, namespace: Option<&Namespace>) -> Claim {
    let Some(namespace) = namespace else {
        return Claim::Free;
    };
    let label = |key: &str| namespace.labels().get(key).map(String::as_str);
    let annotation = |key: &str| namespace.annotations().get(key).map(String::as_str);
    let marked = label(LABEL_MANAGED_BY) == Some(FIELD_MANAGER)
        && label(LABEL_DATA_PLANE) == Some("true")
        && label(LABEL_CLUSTER_ID) == Some(&identity.cluster_id)
        && annotation(ANNOTATION_OWNER_NAMESPACE) == Some(&identity.owner_namespace)
        && annotation(ANNOTATION_OWNER_NAME) == Some(&identity.owner_name);
    let consented = label(LABEL_ADOPT) == Some(&identity.cluster_id);
    if !marked && !consented {
        Claim::Foreign
    } else if namespace.metadata.deletion_timestamp.is_some() {
        Claim::Ending
    } else {
        Claim::Ours
    }
}

/// The namespace of a running cluster. With the first marks, an administrator's consent is used up: it was given for one
/// cluster, and must not let the next one in that claims the same id.
pub fn namespace(identity: &Identity, live: Option<&Namespace>) -> Namespace {
    let mut metadata = identity.meta_in(None, &identity.namespace);
    let labels = metadata.labels.get_or_insert_default();
    if live.is_some_and(|live| live.labels().contains_key(LABEL_ADOPT)) {
        labels.insert(LABEL_ADOPT.to_owned(), String::new());
    }
    labels.insert(LABEL_DATA_PLANE.to_owned(), "true".to_owned());
    for mode in ["enforce", "audit", "warn"] {
        let key = format!("pod-security.kubernetes.io/{mode}");
        labels.insert(key, "restricted".to_owned());
    }
    Namespace { metadata, ..Namespace::default() }
}

/// The namespace of a cluster whose resource is gone while its data stays.
pub fn released(identity: &Identity, live: Option<&Namespace>) -> Namespace {
    let mut namespace = namespace(identity, live);
    namespace.metadata.labels.get_or_insert_default().insert(LABEL_RELEASED.to_owned(), "true".to_owned());
    namespace
}
