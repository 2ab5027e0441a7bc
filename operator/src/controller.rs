//! Drives one reconcile after the other: observe, plan, apply, report.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        Controller, controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use vectorkeep_crds::{
    EngineCatalog, VectorCluster,
    well_known::{ANNOTATION_OWNER_NAME, ANNOTATION_OWNER_NAMESPACE, FIELD_MANAGER, LABEL_MANAGED_BY},
};

use crate::{
    apply::{ApplyError, Interrupted, Next, apply},
    backoff::{Backoffs, jittered},
    chain::chain,
    isolation::{self, ControlProbe},
    metrics::Metrics,
    notify::{Notifier, ledger},
    observe::{ObserveError, observe},
    observed::{Observed, Other},
    plan::{Plan, certificates::operator_client, identity::Identity, plan},
    poller::{Poller, Reach, Run},
    report::{ReportError, report},
    secret_watch::SecretWatch,
    settings::Settings,
};

/// The first list of all clusters is waited for so long.
const LISTED: Duration = Duration::from_secs(2);

/// How the controller works, apart from what it works on.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Reconciles at the same time.
    pub concurrency: u16,
    /// How often a resource is looked at though nothing called: what no watch announces is found then.
    pub resync: Duration,
    /// How long one reconcile may take: an API server that does not answer holds up no other resource for longer.
    pub deadline: Duration,
    /// How engines are asked.
    pub reach: Reach,
}

/// Why a reconcile failed, by step.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Reading.
    #[error("observing")]
    Observe(#[from] ObserveError),
    /// Writing.
    #[error("applying")]
    Apply(#[from] ApplyError),
    /// Telling.
    #[error("reporting")]
    Report(#[from] ReportError),
    /// Any of them, for too long. What was written is taken up by the next one.
    #[error("the API server did not answer for {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl ReconcileError {
    fn step(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Apply(ApplyError::Changed { .. }) => "conflict",
            Self::Apply(_) => "apply",
            Self::Report(_) => "report",
            Self::TimedOut(_) => "timeout",
        }
    }
}

struct Context {
    client: Client,
    settings: Settings,
    resync: Duration,
    deadline: Duration,
    recorder: Recorder,
    poller: Poller,
    control: ControlProbe,
    clusters: Store<VectorCluster>,
    secrets: SecretWatch,
    notifier: Notifier,
    backoffs: Backoffs,
    metrics: Arc<Metrics>,
}

/// Reconciles until `shutdown`, and then until what was begun is done.
pub async fn run(
    client: Client,
    settings: Settings,
    pace: Pace,
    instance: String,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (changed, changes) = mpsc::unbounded_channel();
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(instance) };
    let clusters: Api<VectorCluster> = Api::all(client.clone());
    // A reconcile makes many objects, whose watches all call at once.
    let settle = controller::Config::default().debounce(Duration::from_millis(100));
    let mut controller =
        Controller::new(clusters, watcher::Config::default()).with_config(settle.concurrency(pace.concurrency));
    let given = settings.isolation_targets.iter().map(|(_, address)| address);
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        poller: Poller::new(pace.reach, changed.clone(), Arc::clone(&metrics)),
        secrets: SecretWatch::new(client.clone(), changed),
        control: ControlProbe::start(settings.isolation_probes.iter().chain(given)),
        clusters: controller.store(),
        notifier,
        client: client.clone(),
        settings,
        resync: pace.resync,
        deadline: pace.deadline,
        backoffs: Backoffs::default(),
        metrics,
    });
    controller = owned::<Namespace>(controller, &client);
    controller = owned::<RoleBinding>(controller, &client);
    controller = owned::<ResourceQuota>(controller, &client);
    controller = owned::<LimitRange>(controller, &client);
    controller = owned::<NetworkPolicy>(controller, &client);
    controller = owned::<ServiceAccount>(controller, &client);
    controller = owned::<PersistentVolumeClaim>(controller, &client);
    controller = owned::<Service>(controller, &client);
    controller = owned::<ConfigMap>(controller, &client);
    controller = owned::<StatefulSet>(controller, &client);
    // What is on offer concerns every cluster.
    let known = controller.store();
    let catalogs: Api<EngineCatalog> = Api::all(client.clone());
    controller = controller.watches(catalogs, watcher::Config::default(), move |_| {
        known.state().iter().map(|cluster| ObjectRef::from_obj(&**cluster)).collect::<Vec<_>>()
    });
    controller
        .reconcile_on(stream(changes))
        .graceful_shutdown_on(shutdown)
        .run(reconcile, on_error, context)
        .for_each(|result| async move {
            // Failures of a reconcile were logged where they happened; these are of the watches.
            if let Err(error @ controller::Error::QueueError(_)) = result {
                tracing::warn!(error = chain(&error), "watching");
            }
        })
        .await;
}

/// Watches, metadata only, what carries our label, and calls the resource that its annotations name.
fn owned<T>(controller: Controller<VectorCluster>, client: &Client) -> Controller<VectorCluster>
where
    T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    PartialObjectMeta<T>: Resource<DynamicType = ()>,
{
    let api: Api<PartialObjectMeta<T>> = Api::all(client.clone());
    let ours = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={FIELD_MANAGER}"));
    controller.watches(api, ours, |object| {
        let annotations = object.annotations();
        let namespace = annotations.get(ANNOTATION_OWNER_NAMESPACE)?;
        let name = annotations.get(ANNOTATION_OWNER_NAME)?;
        Some(ObjectRef::new(name).within(namespace))
    })
}

async fn reconcile(cluster: Arc<VectorCluster>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let start = Instant::now();
    let object = ObjectRef::from_obj(&*cluster);
    let deadline = context.deadline;
    let result = timeout(deadline, steps(&object, &context)).await.unwrap_or(Err(ReconcileError::TimedOut(deadline)));
    let outcome = match &result {
        Ok(_) => "ok",
        Err(error) => error.step(),
    };
    context.metrics.reconciled(outcome, start.elapsed());
    match &result {
        Ok(_) => context.backoffs.succeeded(&object),
        Err(ReconcileError::Apply(ApplyError::Changed { .. })) => {}
        Err(error) => context.complain(&cluster, error).await,
    }
    result
}

/// One reconcile, top to bottom.
async fn steps(object: &ObjectRef<VectorCluster>, context: &Context) -> Result<Action, ReconcileError> {
    let now = Timestamp::now();
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let owner = ObjectRef::new(&object.name).within(namespace);
    let view = |identity: &Identity, pod: Option<&Pod>| context.poller.view(&identity.cluster_id, &owner, Run::of(pod));
    let (client, settings) = (&context.client, &context.settings);
    let control = context.control.view();
    let others = |identity: &Identity| context.others(identity);
    // Of a list that is not complete yet, others would be chosen than of the whole.
    let _late = timeout(LISTED, context.clusters.wait_until_ready()).await;
    let Some(observed) = observe(client, settings, namespace, &object.name, view, control, others).await? else {
        context.leave(object);
        return Ok(Action::await_change());
    };
    // What is written down already, whatever becomes of this reconcile; what it adds calls for the next one.
    if let Some(dispatch) = ledger::dispatch(&observed, settings) {
        context.notifier.owe(dispatch);
    }
    let plan = plan(&observed, settings, now);
    context.follow(object, &plan, &observed);
    let applied = match apply(client, settings, &observed, plan, now).await {
        Ok(applied) => applied,
        Err(interrupted) => {
            let Interrupted { applied, error } = *interrupted;
            // The first time it may be a right that the API server has not learned of yet.
            if context.backoffs.is_failing(object) || !applied.happenings().is_empty() {
                report(client, &context.recorder, &observed.cluster, &applied).await?;
            }
            return Err(error.into());
        }
    };
    report(client, &context.recorder, &observed.cluster, &applied).await?;
    Ok(context.action(object, applied.next(), now))
}

impl Context {
    /// Other clusters that the engine of this one must not reach, and whether their engines are there.
    fn others(&self, identity: &Identity) -> Vec<Other> {
        let clusters = self.clusters.state();
        // Only where an engine was heard of: others have nothing to be reached, and would take the places of those.
        let has_engine = |cluster: &VectorCluster| cluster.status.as_ref().is_some_and(|it| it.version.is_some());
        let present = clusters.iter().filter(|it| it.metadata.deletion_timestamp.is_none() && has_engine(it));
        let ids: BTreeSet<String> =
            present.map(|cluster| Identity::of(cluster, &self.settings.installation_id).cluster_id).collect();
        let others = isolation::others(&ids, &identity.cluster_id);
        others.map(|id| Other { cluster_id: id.clone(), answers: self.poller.answers(id) }).collect()
    }

    /// Lets poller and secret watch follow what was decided.
    fn follow(&self, object: &ObjectRef<VectorCluster>, plan: &Plan, observed: &Observed) {
        match plan {
            Plan::Converge(desired) => {
                self.secrets.track(&desired.identity);
                if let Some(material) = desired.certificates.operator_client.material() {
                    self.poller.track(&desired.identity, material, Run::of(observed.pod()));
                }
            }
            // What serves goes on serving, and is asked on.
            Plan::Refuse(_) | Plan::Wait(_) => match operator_client(observed) {
                Some(material) => {
                    let identity = Identity::of(&observed.cluster, &self.settings.installation_id);
                    self.poller.track(&identity, &material, Run::of(observed.pod()));
                }
                None => self.poller.forget_owner(object),
            },
            Plan::TearDown(_) | Plan::LetGo => self.leave(object),
            Plan::Claim(_) => {}
        }
    }

    /// Tells the resource's owner of a failure, also of one that leaves no trace in the status.
    async fn complain(&self, cluster: &VectorCluster, error: &ReconcileError) {
        let mut note = format!("{}; it is tried again", chain(error));
        note.truncate(note.floor_char_boundary(1000));
        let event = Event {
            type_: EventType::Warning,
            reason: "ReconcileFailed".to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let cluster = cluster.object_ref(&());
        match timeout(self.deadline, self.recorder.publish(&event, &cluster)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "an Event could not be published"),
            Err(_) => tracing::warn!("an Event could not be published in time"),
        }
    }

    fn leave(&self, object: &ObjectRef<VectorCluster>) {
        self.poller.forget_owner(object);
        self.secrets.forget(object);
        self.notifier.forget(object);
    }

    fn action(&self, object: &ObjectRef<VectorCluster>, next: Next, now: Timestamp) -> Action {
        match next {
            Next::Never => {
                self.leave(object);
                Action::await_change()
            }
            Next::Soon(wait) => Action::requeue(jittered(wait)),
            Next::Usual(renewal) => {
                let until = renewal.map(|renewal| renewal.duration_since(now));
                let until = until.and_then(|until| Duration::try_from(until).ok());
                let usual = jittered(self.resync);
                Action::requeue(until.unwrap_or(usual).clamp(Duration::from_secs(1), usual))
            }
        }
    }
}

fn on_error(cluster: Arc<VectorCluster>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let object = ObjectRef::from_obj(&*cluster);
    let wait = context.backoffs.failed(object.clone());
    // A conflict is the normal answer to two hands on one object.
    match error {
        ReconcileError::Apply(ApplyError::Changed { .. }) => {
            tracing::info!(%object, error = chain(error), "reconcile again");
        }
        _ => tracing::warn!(%object, error = chain(error), wait = ?wait, "reconcile failed"),
    }
    Action::requeue(wait)
}

fn stream<T>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}
