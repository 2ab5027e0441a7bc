//! The bindings that give the operator its rights in one namespace at a time.
//!
//! The operator may bind exactly two cluster roles, both fixed by the chart, and can't widen either.

use k8s_openapi::{
    api::rbac::v1::{RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::Resource;
use vectorkeep_crds::VectorCluster;

use super::identity::Identity;
use crate::settings::Settings;

/// Cluster role with what the operator does in a data-plane namespace, secrets included.
pub const DATA_PLANE_ROLE: &str = "vectorkeep-data-plane";
/// Cluster role that writes connection secrets, and reads nothing.
pub const PUBLISHER_ROLE: &str = "vectorkeep-publisher";

/// Name of the binding in a data-plane namespace.
pub const DATA_PLANE_BINDING: &str = "vectorkeep-operator";

/// Name of the binding in a customer's namespace.
pub fn publisher_binding_name(cluster_name: &str) -> String {
    format!("vectorkeep-publisher-{cluster_name}")
}

/// Rights in the data-plane namespace.
pub fn data_plane(identity: &Identity, settings: &Settings) -> RoleBinding {
    RoleBinding {
        metadata: identity.meta(DATA_PLANE_BINDING),
        role_ref: role(DATA_PLANE_ROLE),
        subjects: Some(vec![operator(settings)]),
    }
}

/// Whether a binding gives the operator its rights.
pub fn is_in_force(binding: &RoleBinding, settings: &Settings) -> bool {
    let own = operator(settings);
    let is_own = |it: &Subject| (&it.kind, &it.name, &it.namespace) == (&own.kind, &own.name, &own.namespace);
    binding.role_ref == role(DATA_PLANE_ROLE) && binding.subjects.iter().flatten().any(is_own)
}

/// The right to write secrets into the customer's namespace. It goes when the resource goes.
pub fn publisher(identity: &Identity, settings: &Settings) -> RoleBinding {
    let name = publisher_binding_name(&identity.owner_name);
    let mut metadata = identity.meta_in(Some(&identity.owner_namespace), &name);
    metadata.owner_references = Some(vec![owner(identity)]);
    RoleBinding { metadata, role_ref: role(PUBLISHER_ROLE), subjects: Some(vec![operator(settings)]) }
}

/// The resource as the owner of an object in its own namespace.
pub(super) fn owner(identity: &Identity) -> OwnerReference {
    OwnerReference {
        api_version: VectorCluster::api_version(&()).into_owned(),
        kind: VectorCluster::kind(&()).into_owned(),
        name: identity.owner_name.clone(),
        uid: identity.owner_uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn role(name: &str) -> RoleRef {
    RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: "ClusterRole".to_owned(), name: name.to_owned() }
}

fn operator(settings: &Settings) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: settings.operator_service_account.clone(),
        namespace: Some(settings.operator_namespace.clone()),
        api_group: None,
    }
}
