//! Decides: what a resource, what was observed and the time make necessary.
//!
//! Pure: no client, no clock, no chance. One file for each object that is produced. Planning again after everything
//! was applied gives a plan that changes nothing.

pub mod certificates;
pub mod change;
pub mod conditions;
pub mod config_map;
pub mod connection;
pub mod egress;
pub mod identity;
pub mod isolation;
pub mod namespace;
pub mod network_policy;
pub mod pvc;
pub mod quota;
pub mod record;
pub mod refusal;
pub mod rendering;
pub mod role_binding;
pub mod rollout;
pub mod service;
pub mod service_account;
pub mod statefulset;
pub mod status;
pub mod teardown;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use kube::ResourceExt;
use vectorkeep_crds::{
    status::VectorClusterStatus,
    well_known::{FINALIZER, LABEL_ADOPT},
};

use crate::{
    cert_manager::Certificate,
    notify::ledger,
    observed::{Children, Observed},
    settings::Settings,
    upgrade::fleet::Fleet,
};
use certificates::{Certificates, issuer};
use change::Change;
use connection::{Draw, Publication};
use identity::Identity;
use isolation::Boundary;
use namespace::Claim;
use record::Memo;
use refusal::Refusal;
use rollout::Rollout;
use teardown::{DeletedKind, Deletion, TearDown};

/// What one reconcile does.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing but to say why.
    Refuse(Refused),
    /// Make sure of the namespace and of the right to work in it; what it holds can only be read then.
    Claim(Box<Foundation>),
    /// Wait for a namespace of ours that is on its way out, or for an engine's word.
    Wait(VectorClusterStatus),
    /// Make everything as it should be.
    Converge(Box<Desired>),
    /// Bring a cluster to its end.
    TearDown(Box<TearDown>),
    /// Nothing: the resource is on its way out and no longer ours to hold.
    LetGo,
}

impl Plan {
    /// What is reported once it is carried out.
    pub fn status(&self) -> Option<&VectorClusterStatus> {
        match self {
            Self::Refuse(refused) => Some(&refused.status),
            Self::Claim(foundation) => Some(&foundation.status),
            Self::Wait(status) => Some(status),
            Self::Converge(desired) => Some(&desired.status),
            Self::TearDown(step) => Some(&step.status),
            Self::LetGo => None,
        }
    }
}

/// A resource that can't be served, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// What to report.
    pub status: VectorClusterStatus,
}

/// What everything else stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Foundation {
    /// Who it is for.
    pub identity: Identity,
    /// Whether the resource is still to be marked as ours to clean up.
    pub finalizer: bool,
    /// The data-plane namespace.
    pub namespace: Change<Namespace>,
    /// The right to work in it.
    pub role_binding: Change<RoleBinding>,
    /// What to report.
    pub status: VectorClusterStatus,
}

/// Everything of a running cluster, in the order in which it is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Who it is for.
    pub identity: Identity,
    /// Whether the resource is still to be marked as ours to clean up.
    pub finalizer: bool,
    /// The data-plane namespace.
    pub namespace: Change<Namespace>,
    /// The right to work in it.
    pub role_binding: Change<RoleBinding>,
    /// The right to publish to the customer.
    pub publisher_binding: Change<RoleBinding>,
    /// Bounds of the namespace.
    pub quota: Change<ResourceQuota>,
    /// Bounds of each container and volume.
    pub limit_range: Change<LimitRange>,
    /// Policies, the denial first: nothing runs before it stands.
    pub network_policies: Vec<Change<NetworkPolicy>>,
    /// CAs and certificates.
    pub certificates: Certificates,
    /// The initial password.
    pub root_password: Draw,
    /// The master key of a development cluster.
    pub local_key: Option<Draw>,
    /// Identity of the engine.
    pub service_account: Change<ServiceAccount>,
    /// The volume.
    pub volume: Change<PersistentVolumeClaim>,
    /// Names for pods.
    pub peers: Change<Service>,
    /// Address for clients.
    pub service: Change<Service>,
    /// The connection secret, as soon as there is the right to publish it and something to publish.
    pub connection: Option<Publication>,
    /// What all clusters of the installation agree on, written before anything moves.
    pub fleet: FleetChange,
    /// What was told, and to whom: written before the record, so that nobody misses what becomes known by it.
    pub notified: Change<ConfigMap>,
    /// What is rolled out, written before it is.
    pub record: Change<ConfigMap>,
    /// What to tell once that is written: a word and a sentence.
    pub news: Vec<(&'static str, String)>,
    /// Configuration of the engine.
    pub config: Change<ConfigMap>,
    /// The workload.
    pub stateful_set: Change<StatefulSet>,
    /// What is no longer wanted.
    pub orphans: Vec<Deletion>,
    /// What cert-manager is told, last: only after that is remembered, and so that it holds nothing else up.
    pub order: Change<Certificate>,
    /// When to look again, if nothing calls before.
    pub next_look: Option<Timestamp>,
    /// What to report.
    pub status: VectorClusterStatus,
}

/// What becomes of the fleet's ConfigMap.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetChange {
    /// It says what it should.
    Keep,
    /// It is to be written, in the very version that was read, or anew.
    Write {
        /// What it is to say.
        object: Box<ConfigMap>,
        /// Version that was read, if there was one.
        replaces: Option<String>,
    },
}

impl FleetChange {
    /// Compares what should be with what was read.
    pub fn between(fleet: &Fleet, seen: Option<&ConfigMap>, settings: &Settings) -> Self {
        if fleet.is_broken() || Fleet::read(seen) == *fleet {
            return Self::Keep;
        }
        Self::Write {
            object: Box::new(fleet.write(&settings.operator_namespace)),
            replaces: seen.and_then(|seen| seen.metadata.resource_version.clone()),
        }
    }
}

/// What one reconcile does.
pub fn plan(observed: &Observed, settings: &Settings, now: Timestamp) -> Plan {
    let identity = Identity::of(&observed.cluster, &settings.installation_id);
    if observed.cluster.metadata.deletion_timestamp.is_some() {
        return if is_held(observed) {
            Plan::TearDown(Box::new(TearDown::plan(&identity, observed, settings, now)))
        } else {
            Plan::LetGo
        };
    }
    serve(&identity, observed, settings, now).unwrap_or_else(|refusal| {
        let status = status::refused(&identity, observed, &refusal, now);
        Plan::Refuse(Refused { refusal, status })
    })
}

fn serve(identity: &Identity, observed: &Observed, settings: &Settings, now: Timestamp) -> Result<Plan, Refusal> {
    // Whose it is, first: what is kept under an id that is not this resource's own says nothing to it.
    match namespace::claim(identity, observed.namespace.as_ref()) {
        Claim::Foreign => {
            return Err(Refusal::NamespaceNotOwned {
                namespace: identity.namespace.clone(),
                cluster_id: identity.cluster_id.clone(),
            });
        }
        Claim::Ending => {
            let message = "the data-plane namespace of an earlier cluster is still being deleted";
            return Ok(Plan::Wait(status::waiting(identity, observed, "NamespaceEnding", message, now)));
        }
        Claim::Free if identity.has_derived_id_of_another(&settings.installation_id) => {
            return Err(Refusal::Field {
                field: "clusterId",
                problem: format!(
                    "{} has the form of an id that is derived from a resource's name, and is not this one's; choose \
                     another, or have an administrator make the namespace {} with the label {LABEL_ADOPT}={}",
                    identity.cluster_id, identity.namespace, identity.cluster_id
                ),
            });
        }
        Claim::Free | Claim::Ours => {}
    }
    if rollout::is_known_by_the_engine_alone(observed)? {
        let message = "nothing that is written down says which release runs; the engine is being asked";
        return Ok(Plan::Wait(status::waiting(identity, observed, "EngineNotAsked", message, now)));
    }
    // What the resource says is judged before anything is made for it.
    let rollout = rollout::rollout(identity, observed, settings, now)?;
    let boundary = Boundary::plan(identity, observed, settings)?;
    match &observed.children {
        None => Ok(Plan::Claim(Box::new(foundation(identity, observed, settings, now)))),
        Some(children) => {
            let converge = Converge { identity, observed, children, settings, rollout, boundary, now };
            Ok(Plan::Converge(Box::new(converge.desired()?)))
        }
    }
}

fn foundation(identity: &Identity, observed: &Observed, settings: &Settings, now: Timestamp) -> Foundation {
    Foundation {
        identity: identity.clone(),
        finalizer: !is_held(observed),
        namespace: Change::between(
            namespace::namespace(identity, observed.namespace.as_ref()),
            observed.namespace.as_ref(),
        ),
        role_binding: Change::between(role_binding::data_plane(identity, settings), observed.role_binding.as_ref()),
        status: status::waiting(
            identity,
            observed,
            "NamespaceCreating",
            "the data-plane namespace is being created",
            now,
        ),
    }
}

fn is_held(observed: &Observed) -> bool {
    observed.cluster.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Everything that the desired state is computed from.
struct Converge<'a> {
    identity: &'a Identity,
    observed: &'a Observed,
    children: &'a Children,
    settings: &'a Settings,
    rollout: Rollout,
    boundary: Boundary,
    now: Timestamp,
}

impl Converge<'_> {
    fn desired(self) -> Result<Desired, Refusal> {
        let Self { identity, observed, children, settings, rollout, boundary, now } = self;
        let spec = &observed.cluster.spec;
        let base = foundation(identity, observed, settings, now);
        let certificates = Certificates::plan(identity, spec, observed, now)?;
        let policies = network_policy::policies(identity, &spec.network.clients, &boundary.egress, settings);
        let mut orphans = orphans(&policies, children);
        orphans.extend(failed_pod(&rollout, children));
        orphans.extend(issuer::withdrawal(spec, observed));
        // Not: whether the workload is written. A repair of its margins makes no new pod.
        let live = children.stateful_set.as_ref();
        let rolls_out = !live.is_some_and(|live| statefulset::runs(live, rollout.template()));
        let stateful_set = Change::between(statefulset::stateful_set(identity, spec, rollout.template().clone()), live);
        let publisher_binding =
            Change::between(role_binding::publisher(identity, settings), observed.publisher_binding.as_ref());
        let connection = match publisher_binding {
            Change::Keep => connection::publication(observed, &certificates),
            Change::Apply(_) => None,
        };
        let refreshed = connection.as_ref().filter(|publication| publication.refresh_authority);
        let published = refreshed.and_then(|_| certificates.serving.fingerprint());
        let client = match &connection {
            Some(publication) if publication.refresh_client => {
                connection::client_fingerprint(publication.client.as_ref())
            }
            _ => record::published_client(observed).map(str::to_owned),
        };
        let memo = Memo {
            published_authority: published.as_deref().or(record::published_authority(observed)),
            published_client: client.as_deref(),
            ordered: issuer::is_ordered(spec, observed),
        };
        Ok(Desired {
            identity: identity.clone(),
            finalizer: base.finalizer,
            namespace: base.namespace,
            role_binding: base.role_binding,
            publisher_binding,
            quota: Change::between(quota::quota(identity), children.quota.as_ref()),
            limit_range: Change::between(quota::limit_range(identity, spec), children.limit_range.as_ref()),
            network_policies: policies
                .into_iter()
                .map(|policy| {
                    let name = policy.name_any();
                    let live = children.network_policies.iter().find(|live| live.name_any() == name);
                    Change::exactly(policy, live)
                })
                .collect(),
            root_password: connection::root_password(observed),
            local_key: connection::local_key(observed)?,
            service_account: Change::between(
                service_account::service_account(identity),
                children.service_account.as_ref(),
            ),
            volume: Change::between(pvc::volume_claim(identity, &spec.storage.volume), children.volume.as_ref()),
            peers: Change::between(service::peers(identity), children.peers.as_ref()),
            service: Change::between(service::client(identity), children.service.as_ref()),
            connection,
            notified: ledger::change(identity, observed, settings),
            record: Change::between(
                record::record(identity, &rollout, &memo, settings),
                observed.custody.record.as_ref(),
            ),
            order: issuer::order(identity, spec, observed)?,
            config: Change::between(
                // What was found good is committed to: while another release is tried, the one before can come back.
                config_map::config_map(
                    identity,
                    rollout.files(),
                    config_map::live(rollout.stable.release.format, boundary.file()),
                ),
                children.config.as_ref(),
            ),
            status: status::serving(identity, observed, &rollout, &certificates, &boundary, rolls_out, now),
            fleet: FleetChange::between(&rollout.fleet, observed.custody.fleet.as_ref(), settings),
            next_look: [
                certificates.next_renewal(),
                rollout.next_look(settings, now),
                status::proof_awaited(observed, &boundary, now),
                status::first_words_awaited(observed, now),
            ]
            .into_iter()
            .flatten()
            .min(),
            news: rollout.news,
            stateful_set,
            certificates,
            orphans,
        })
    }
}

/// The pod of a release that is being taken back. Kubernetes keeps a pod that never became ready, whatever the template
/// says by now; the one that was seen goes, and no other.
fn failed_pod(rollout: &Rollout, children: &Children) -> Option<Deletion> {
    rollout.progress.as_ref()?.failure.as_ref()?;
    let (live, pod) = (children.stateful_set.as_ref()?, children.pod.as_ref()?);
    let status = live.status.as_ref()?;
    let seen = status.observed_generation >= live.metadata.generation;
    let revision = pod.metadata.labels.as_ref()?.get("controller-revision-hash");
    let outdated = revision.is_some() && revision != status.update_revision.as_ref();
    if !(statefulset::runs(live, rollout.template()) && seen && outdated) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Deletion { kind: DeletedKind::Pod, name: pod.metadata.name.clone()?, uid: pod.metadata.uid.clone()? })
}

/// Policies that carry our label and are wanted no longer: a client that was taken off the list must lose access.
fn orphans(wanted: &[NetworkPolicy], children: &Children) -> Vec<Deletion> {
    children
        .network_policies
        .iter()
        .filter(|live| {
            live.metadata.deletion_timestamp.is_none()
                && !wanted.iter().any(|wanted| wanted.name_any() == live.name_any())
        })
        .filter_map(|live| {
            Some(Deletion {
                kind: DeletedKind::NetworkPolicy,
                name: live.metadata.name.clone()?,
                uid: live.metadata.uid.clone()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
