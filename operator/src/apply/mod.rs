//! Writes what was planned, in the order of the plan. Whatever is interrupted is taken up by the next reconcile.
//!
//! Order of a running cluster: the mark on the resource, namespace, rights, bounds, policies (so that nothing ever
//! runs without them), CAs, certificates, generated secrets, the customer's secret, service account, volume,
//! services, the fleet, what was told to whom, the record of what is rolled out, its configuration, the workload, then
//! orphans go. The order to cert-manager comes last: after the record, which remembers it, and where a cert-manager that
//! does not answer holds nothing else up. Nor does a refusal of the customer's secret, or of a change of the volume: it is
//! reported once everything else is done.

mod secrets;
mod write;

use std::time::Duration;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use vectorkeep_crds::status::VectorClusterStatus;

use crate::{
    cert_manager::Certificate,
    certificates::issue::IssueError,
    chain::chain,
    observed::Observed,
    plan::{
        Desired, FleetChange, Foundation, Plan, Refused,
        change::Change,
        refusal::Refusal,
        status::interrupted,
        teardown::{DeletedKind, Deletion, TearDown},
    },
    settings::Settings,
};
use secrets::Secrets;
use write::{Created, Writer};

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server said no, or nothing.
    #[error("{verb} {kind} {name} failed")]
    Write {
        /// What was tried.
        verb: &'static str,
        /// On what kind of object.
        kind: String,
        /// On which.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else was faster: what was observed is no longer true.
    #[error("{kind} {name} changed since it was read")]
    Changed {
        /// What.
        kind: String,
        /// Which.
        name: String,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// By these words alone the API server tells a webhook that does not answer from a fault of its own.
const UNANSWERED_WEBHOOK: &str = "failed calling webhook";

impl ApplyError {
    /// Whether the API server understood what was asked and said no: repeating it helps only after somebody changed
    /// something, an admission policy for example, or a webhook that has to be asked and does not answer.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Write { source, .. } => match &**source {
                kube::Error::Api(status) => match status.code {
                    400 | 403 | 422 => true,
                    500 => status.message.contains(UNANSWERED_WEBHOOK),
                    _ => false,
                },
                _ => false,
            },
            Self::Changed { .. } | Self::Issue(_) | Self::Random => false,
        }
    }
}

/// What was done, and what is to be reported. Only this module makes one, so nothing is reported that was not
/// applied.
#[derive(Debug)]
pub struct Applied {
    status: Option<VectorClusterStatus>,
    refusal: Option<Refusal>,
    happenings: Vec<Happening>,
    next: Next,
}

/// Something that was done and deserves an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// One word.
    pub reason: &'static str,
    /// A sentence, without secrets.
    pub note: String,
}

/// When to look again, if nothing calls before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After the usual time, or at this moment if that is earlier.
    Usual(Option<Timestamp>),
    /// Soon: something is under way that no watch announces.
    Soon(Duration),
    /// Never: the resource is gone.
    Never,
}

impl Applied {
    /// The status to report; none for a resource that is gone.
    pub fn status(&self) -> Option<&VectorClusterStatus> {
        self.status.as_ref()
    }

    /// Why nothing was done, if so.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// What was done.
    pub fn happenings(&self) -> &[Happening] {
        &self.happenings
    }

    /// When to look again.
    pub fn next(&self) -> Next {
        self.next
    }
}

/// The API server takes a moment to learn of a new binding.
const BINDING_TAKES_EFFECT: Duration = Duration::from_millis(300);

/// A plan that was not carried out to its end, and what is to be reported all the same.
#[derive(Debug)]
pub struct Interrupted {
    /// What was done until then. It has a status if the failure is one that a person must know of.
    pub applied: Applied,
    /// Why it went no further.
    pub error: ApplyError,
}

/// Carries out a plan.
pub async fn apply(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
    plan: Plan,
    now: Timestamp,
) -> Result<Applied, Box<Interrupted>> {
    let mut writer = Writer::new(client.clone());
    let planned = plan.status().cloned();
    let result = carry_out(&mut writer, settings, observed, plan, now).await;
    let happenings = writer.into_happenings();
    match result {
        Ok((status, refusal, next)) => Ok(Applied { status, refusal, happenings, next }),
        Err(error) => {
            let told = planned.filter(|_| error.is_refusal());
            let status = told.map(|status| interrupted(status, observed, &chain(&error), now));
            let applied = Applied { status, refusal: None, happenings, next: Next::Usual(None) };
            Err(Box::new(Interrupted { applied, error }))
        }
    }
}

type Outcome = (Option<VectorClusterStatus>, Option<Refusal>, Next);

async fn carry_out(
    writer: &mut Writer,
    settings: &Settings,
    observed: &Observed,
    plan: Plan,
    now: Timestamp,
) -> Result<Outcome, ApplyError> {
    Ok(match plan {
        Plan::Refuse(Refused { refusal, status }) => (Some(status), Some(refusal), Next::Usual(None)),
        Plan::Wait(status) => (Some(status), None, Next::Soon(Duration::from_secs(5))),
        Plan::LetGo => (None, None, Next::Never),
        Plan::Claim(foundation) => {
            let status = lay(writer, observed, *foundation).await?;
            (Some(status), None, Next::Soon(BINDING_TAKES_EFFECT))
        }
        Plan::Converge(desired) => {
            let next = match desired.publisher_binding {
                Change::Keep => Next::Usual(desired.next_look),
                Change::Apply(_) => Next::Soon(BINDING_TAKES_EFFECT),
            };
            let status = converge(writer, settings, observed, *desired, now).await?;
            (Some(status), None, next)
        }
        Plan::TearDown(step) => tear_down(writer, settings, observed, *step).await?,
    })
}

async fn lay(
    writer: &mut Writer,
    observed: &Observed,
    foundation: Foundation,
) -> Result<VectorClusterStatus, ApplyError> {
    let Foundation { identity, finalizer, namespace, role_binding, status } = foundation;
    if finalizer {
        writer.hold(&observed.cluster).await?;
    }
    writer.cluster_wide(namespace).await?;
    writer.namespaced(&identity.namespace, role_binding).await?;
    Ok(status)
}

async fn converge(
    writer: &mut Writer,
    settings: &Settings,
    observed: &Observed,
    desired: Desired,
    now: Timestamp,
) -> Result<VectorClusterStatus, ApplyError> {
    // Without `..`, so that a part of the plan that nobody applies does not compile.
    let Desired {
        identity,
        finalizer,
        namespace,
        role_binding,
        publisher_binding,
        quota,
        limit_range,
        network_policies,
        certificates,
        root_password,
        local_key,
        service_account,
        volume,
        peers,
        service,
        connection,
        fleet,
        notified,
        record,
        news,
        config,
        stateful_set,
        orphans,
        order,
        next_look: _,
        status,
    } = desired;
    let data_plane = identity.namespace.clone();
    if finalizer {
        writer.hold(&observed.cluster).await?;
    }
    writer.cluster_wide(namespace).await?;
    writer.namespaced(&data_plane, role_binding).await?;
    writer.namespaced(&identity.owner_namespace, publisher_binding).await?;
    writer.namespaced(&data_plane, quota).await?;
    writer.namespaced(&data_plane, limit_range).await?;
    let children = observed.children.as_ref();
    for policy in network_policies {
        let seen = children.map_or(&[][..], |children| &children.network_policies);
        writer.in_place_of(&data_plane, policy, seen).await?;
    }

    let mut secrets = Secrets { writer, identity: &identity, settings, now };
    let trust = secrets.certificates(certificates).await?;
    secrets.local_key(local_key).await?;
    let password = secrets.root_password(root_password, observed).await?;
    let mut refused = None;
    if let (Some(publication), Some(trust)) = (connection, trust) {
        // A full quota of the customer's namespace, for example.
        refused = pass(secrets.publish(&trust, &password, publication).await)?;
    }

    writer.namespaced(&data_plane, service_account).await?;
    match children.and_then(|children| children.volume.as_ref()) {
        // A storage class that lets no volume grow, for example.
        Some(_) => refused = pass(writer.namespaced(&data_plane, volume).await)?.or(refused),
        None => writer.namespaced(&data_plane, volume).await?,
    }
    writer.namespaced(&data_plane, peers).await?;
    writer.namespaced(&data_plane, service).await?;
    write_fleet(writer, settings, fleet).await?;
    writer.onto(&settings.operator_namespace, notified, observed.custody.notified.as_ref()).await?;
    writer.onto(&settings.operator_namespace, record, observed.custody.record.as_ref()).await?;
    for (reason, note) in news {
        writer.note(reason, note);
    }
    writer.onto(&data_plane, config, children.and_then(|children| children.config.as_ref())).await?;
    if let Change::Apply(_) = &stateful_set {
        writer.note("RollingOut", "the engine's workload is written");
    }
    writer.onto(&data_plane, stateful_set, children.and_then(|children| children.stateful_set.as_ref())).await?;
    for orphan in orphans {
        delete(writer, settings, &data_plane, orphan).await?;
    }
    let ordered = matches!(order, Change::Apply(_));
    writer.namespaced(&data_plane, order).await?;
    if ordered {
        writer.note("CertificateOrdered", "cert-manager was told which certificate clients are to see");
    }
    match refused {
        Some(error) => Err(error),
        None => Ok(status),
    }
}

/// Lets a refusal pass, to be reported later.
fn pass(result: Result<(), ApplyError>) -> Result<Option<ApplyError>, ApplyError> {
    match result {
        Err(error) if error.is_refusal() => Ok(Some(error)),
        other => other.map(|()| None),
    }
}

async fn tear_down(
    writer: &mut Writer,
    settings: &Settings,
    observed: &Observed,
    step: TearDown,
) -> Result<Outcome, ApplyError> {
    let TearDown { identity, role_binding, deletions, released, finished, fleet, status } = step;
    write_fleet(writer, settings, fleet).await?;
    writer.namespaced(&identity.namespace, role_binding).await?;
    for deletion in deletions {
        delete(writer, settings, &identity.namespace, deletion).await?;
    }
    writer.cluster_wide(released).await?;
    if finished {
        writer.let_go(&observed.cluster).await?;
        return Ok((None, None, Next::Never));
    }
    Ok((Some(status), None, Next::Soon(Duration::from_secs(2))))
}

/// Only in the version that was read: of two clusters that want the last place, one gets it.
async fn write_fleet(writer: &mut Writer, settings: &Settings, change: FleetChange) -> Result<(), ApplyError> {
    let FleetChange::Write { object, replaces } = change else { return Ok(()) };
    let namespace = &settings.operator_namespace;
    match replaces {
        Some(version) => writer.replace(namespace, *object, &version).await,
        None => match writer.create(namespace, &*object).await? {
            Created::Yes => Ok(()),
            Created::AlreadyThere => Err(ApplyError::Changed { kind: "ConfigMap".to_owned(), name: object.name_any() }),
        },
    }
}

async fn delete(
    writer: &mut Writer,
    settings: &Settings,
    data_plane: &str,
    deletion: Deletion,
) -> Result<(), ApplyError> {
    use k8s_openapi::api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Namespace, Pod, Secret, Service},
        networking::v1::NetworkPolicy,
    };
    let Deletion { kind, name, uid } = deletion;
    let custody = &settings.operator_namespace;
    match kind {
        DeletedKind::StatefulSet => writer.delete::<StatefulSet>(data_plane, &name, &uid).await,
        DeletedKind::Service => writer.delete::<Service>(data_plane, &name, &uid).await,
        DeletedKind::NetworkPolicy => writer.delete::<NetworkPolicy>(data_plane, &name, &uid).await,
        DeletedKind::Pod => writer.delete::<Pod>(data_plane, &name, &uid).await,
        DeletedKind::Certificate => writer.delete::<Certificate>(data_plane, &name, &uid).await,
        DeletedKind::CustodySecret => writer.delete::<Secret>(custody, &name, &uid).await,
        DeletedKind::CustodyConfigMap => writer.delete::<ConfigMap>(custody, &name, &uid).await,
        DeletedKind::Namespace => writer.delete_cluster_wide::<Namespace>(&name, &uid).await,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, message: &str) -> ApplyError {
        let source = kube::Error::Api(Status::failure(message, "InternalError").with_code(code).boxed());
        ApplyError::Write { verb: "applying", kind: "Certificate".into(), name: "a".into(), source: Box::new(source) }
    }

    #[test]
    fn what_only_a_person_can_mend_is_a_refusal_and_a_fault_that_passes_is_none() {
        for code in [400, 403, 422] {
            assert!(answered(code, "no").is_refusal(), "{code}");
        }
        let webhook = "Internal error occurred: failed calling webhook \"webhook.cert-manager.io\": connection refused";
        assert!(answered(500, webhook).is_refusal());
        for (code, message) in [(500, "etcdserver: request timed out"), (429, "later"), (503, "not yet")] {
            assert!(!answered(code, message).is_refusal(), "{code}");
        }
    }
}
