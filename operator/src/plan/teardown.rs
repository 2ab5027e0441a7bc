//! The end of a cluster: what goes, what stays, and when the resource may go.

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Namespace, rbac::v1::RoleBinding};
use kube::Resource;
use vectorkeep_crds::{DeletionPolicy, status::VectorClusterStatus};

use super::{
    FleetChange,
    change::Change,
    identity::Identity,
    namespace::{self, Claim},
    role_binding, status,
};
use crate::{observed::Observed, settings::Settings, upgrade::fleet::Fleet};

/// One step towards the end of a cluster. Each reconcile takes the steps that are possible now.
#[derive(Clone, Debug, PartialEq)]
pub struct TearDown {
    /// Who ends.
    pub identity: Identity,
    /// The right to work in the data-plane namespace, should somebody have taken it away.
    pub role_binding: Change<RoleBinding>,
    /// Objects to delete, in this order.
    pub deletions: Vec<Deletion>,
    /// The mark of a namespace whose data stays.
    pub released: Change<Namespace>,
    /// Whether nothing is left to wait for, so that the resource may go.
    pub finished: bool,
    /// What all clusters of the installation agree on: this one moves no more.
    pub fleet: FleetChange,
    /// What to report until then.
    pub status: VectorClusterStatus,
}

/// An object to delete: this very one, not another that has its name by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// What it is.
    pub kind: DeletedKind,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Kinds that the operator deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletedKind {
    /// In the data-plane namespace.
    StatefulSet,
    /// In the data-plane namespace.
    Service,
    /// In the data-plane namespace.
    NetworkPolicy,
    /// In the data-plane namespace.
    Pod,
    /// An order to cert-manager, in the data-plane namespace.
    Certificate,
    /// A data-plane namespace with everything in it.
    Namespace,
    /// In the operator's namespace.
    CustodySecret,
    /// In the operator's namespace.
    CustodyConfigMap,
}

impl TearDown {
    /// What to do about a resource that is being deleted.
    pub fn plan(identity: &Identity, observed: &Observed, settings: &Settings, now: Timestamp) -> Self {
        let claim = namespace::claim(identity, observed.namespace.as_ref());
        match observed.cluster.spec.deletion_policy {
            DeletionPolicy::Retain => Self::retain(identity, observed, settings, claim, now),
            DeletionPolicy::Delete => Self::delete(identity, observed, settings, claim, now),
        }
    }

    /// The engine goes. The volume stays, with what makes it usable again: CAs, passwords, the record; and the
    /// policies stay, since they guard whatever runs in the namespace.
    fn retain(identity: &Identity, observed: &Observed, settings: &Settings, claim: Claim, now: Timestamp) -> Self {
        let mut step = Self::nothing(
            identity,
            observed,
            settings,
            "Releasing",
            "the engine is being stopped; the volume, certificates and passwords stay",
            now,
        );
        if claim != Claim::Ours {
            step.finished = true;
            return step;
        }
        let Some(children) = &observed.children else {
            step.role_binding =
                Change::between(role_binding::data_plane(identity, settings), observed.role_binding.as_ref());
            return step;
        };
        step.deletions.extend(
            [
                deletion(DeletedKind::StatefulSet, children.stateful_set.as_ref()),
                deletion(DeletedKind::Service, children.service.as_ref()),
                deletion(DeletedKind::Service, children.peers.as_ref()),
            ]
            .into_iter()
            .flatten(),
        );
        if children.stateful_set.is_none() && children.pod.is_none() {
            step.released = {
                let live = observed.namespace.as_ref();
                Change::between(namespace::released(identity, live), live)
            };
            step.finished = true;
        }
        step
    }

    /// Everything goes. The operator's own keys go last: while anything of the cluster is left, they may be needed.
    fn delete(identity: &Identity, observed: &Observed, settings: &Settings, claim: Claim, now: Timestamp) -> Self {
        let mut step = Self::nothing(
            identity,
            observed,
            settings,
            "Deleting",
            "the data-plane namespace is being deleted with everything in it",
            now,
        );
        match claim {
            Claim::Ours => step.deletions.extend(deletion(DeletedKind::Namespace, observed.namespace.as_ref())),
            Claim::Ending => {}
            // A namespace that is not ours is none of our business.
            Claim::Free | Claim::Foreign => {
                step.deletions = custody(identity, observed);
                step.finished = true;
            }
        }
        step
    }

    fn nothing(
        identity: &Identity,
        observed: &Observed,
        settings: &Settings,
        reason: &'static str,
        message: &str,
        now: Timestamp,
    ) -> Self {
        let mut fleet = Fleet::read(observed.custody.fleet.as_ref());
        // Of another's cluster with the same id, nothing is known.
        if matches!(namespace::claim(identity, observed.namespace.as_ref()), Claim::Ours | Claim::Ending) {
            fleet.rests(&identity.cluster_id);
        }
        Self {
            fleet: FleetChange::between(&fleet, observed.custody.fleet.as_ref(), settings),
            identity: identity.clone(),
            role_binding: Change::Keep,
            deletions: Vec::new(),
            released: Change::Keep,
            finished: false,
            status: status::waiting(identity, observed, reason, message, now),
        }
    }
}

pub(super) fn deletion<T: Resource>(kind: DeletedKind, object: Option<&T>) -> Option<Deletion> {
    let meta = object?.meta();
    // What is on its way out already needs no second push.
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    Some(Deletion { kind, name: meta.name.clone()?, uid: meta.uid.clone()? })
}

/// What the operator keeps for this very resource. Another may have said the same cluster id, and be refused: what is kept
/// under that id is not its own.
fn custody(identity: &Identity, observed: &Observed) -> Vec<Deletion> {
    use super::certificates::{client_name, internal_ca_name, operator_client_name, serving_ca_name};
    let custody = &observed.custody;
    let id = &identity.cluster_id;
    let secrets = [
        (operator_client_name(id), &custody.operator_client),
        (client_name(id), &custody.client),
        (serving_ca_name(id), &custody.serving_ca),
        (internal_ca_name(id), &custody.internal_ca),
    ];
    let owner = (identity.owner_namespace.clone(), identity.owner_name.clone());
    let own = [&custody.record, &custody.notified].into_iter().flatten().filter(|object| identity.owns(*object));
    secrets
        .into_iter()
        .filter_map(|(name, seen)| {
            let seen = seen.as_ref().filter(|seen| seen.owner.as_ref() == Some(&owner))?;
            Some(Deletion { kind: DeletedKind::CustodySecret, name, uid: seen.uid.clone() })
        })
        .chain(own.filter_map(|object| deletion(DeletedKind::CustodyConfigMap, Some(object))))
        .collect()
}
