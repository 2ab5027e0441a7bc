//! Delivers, beside the reconciler: one task for each target, so that a slow one holds up nobody else.
//!
//! An event counts as delivered when the target answered with a success, and is noted in the ledger then. A process that
//! ends between the two leaves it owed, and the next one delivers it once more, with the same id.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use tokio::{sync::Notify, time::sleep};
use vectorkeep_crds::{VectorCluster, well_known::FIELD_MANAGER};

use super::{
    delivery::{Courier, Outcome},
    ledger::{self, Dispatch, ledger_name},
    outbox::{Item, Key, Outbox},
    target::Target,
};
use crate::{
    backoff::{growing, jittered},
    metrics::Metrics,
};

/// After a failure: so long, then twice as long each time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a failure, unless the target asks for more.
const LONGEST: Duration = Duration::from_secs(300);
/// After a refusal, which only a person can do something about.
const REFUSED: Duration = Duration::from_secs(900);
/// The ledger is written onto the version that was read; the reconciler and the desks of other targets, which may have
/// accepted the same event at the same time, may be faster so often.
const CONFLICTS: u32 = 20;
/// After a conflict: about so long, so that those who met once do not meet again.
const CONFLICT: Duration = Duration::from_millis(50);

/// Delivers what is owed.
pub struct Notifier {
    desks: Vec<Arc<Desk>>,
}

/// The work for one target.
struct Desk {
    courier: Courier,
    outbox: Mutex<Outbox>,
    filled: Notify,
    ledgers: Api<ConfigMap>,
    namespace: String,
    metrics: Arc<Metrics>,
}

impl Notifier {
    /// Starts to deliver to these targets. The ledgers are in the operator's namespace.
    pub fn start(client: &Client, namespace: &str, targets: Vec<Target>, metrics: &Arc<Metrics>) -> Self {
        let desk = |target| {
            let desk = Arc::new(Desk {
                courier: Courier::new(target),
                outbox: Mutex::default(),
                filled: Notify::new(),
                ledgers: Api::namespaced(client.clone(), namespace),
                namespace: namespace.to_owned(),
                metrics: Arc::clone(metrics),
            });
            tokio::spawn(work(Arc::clone(&desk)));
            desk
        };
        Self { desks: targets.into_iter().map(desk).collect() }
    }

    /// Takes on what is owed about a cluster. What was taken on about a cluster that is gone stays until it is delivered,
    /// or there is no room for it, or this process ends.
    pub fn owe(&self, mut dispatch: Dispatch) {
        for desk in &self.desks {
            let owed = dispatch.owed.remove(desk.courier.name()).unwrap_or_default();
            desk.change(|outbox| outbox.owe(&dispatch.identity, owed));
            desk.filled.notify_one();
        }
    }

    /// Forgets what was delivered about a resource that is gone, or going. What is owed about it stays.
    pub fn forget(&self, owner: &ObjectRef<VectorCluster>) {
        for desk in &self.desks {
            desk.outbox().forget(owner.namespace.as_deref().unwrap_or_default(), &owner.name);
        }
    }
}

async fn work(desk: Arc<Desk>) {
    let mut failures = 0;
    loop {
        let next = desk.outbox().next();
        match next {
            None => desk.filled.notified().await,
            Some((key, item)) => match desk.attempt(key, &item, failures).await {
                None => failures = 0,
                Some(wait) => {
                    failures = failures.saturating_add(1);
                    sleep(wait).await;
                }
            },
        }
    }
}

impl Desk {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Nothing is left half done under this lock.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Outbox)) {
        let mut outbox = self.outbox();
        change(&mut outbox);
        self.metrics.pending(self.courier.name(), outbox.pending());
    }

    /// Delivers one event, and notes that it was. Answers how long the target is to be left alone if that failed.
    async fn attempt(&self, key: Key, item: &Item, failures: u32) -> Option<Duration> {
        if !item.accepted
            && let Some(wait) = self.deliver(item, failures).await
        {
            self.change(|outbox| outbox.failed(&key));
            return Some(wait);
        }
        self.change(|outbox| outbox.accepted(&key));
        match self.note(item).await {
            Ok(()) => {
                self.change(|outbox| outbox.settled(key));
                None
            }
            Err(error) => {
                let (to, cluster) = (self.courier.name(), &item.identity.cluster_id);
                tracing::warn!(to, cluster, %error, "a delivery could not be noted; a restart would deliver it again");
                self.change(|outbox| outbox.failed(&key));
                Some(growing(failures, FIRST, LONGEST))
            }
        }
    }

    /// Tries to deliver. Answers how long to wait if it was not accepted.
    async fn deliver(&self, item: &Item, failures: u32) -> Option<Duration> {
        let (to, cluster, type_) = (self.courier.name(), &item.identity.cluster_id, item.event.type_);
        match self.courier.deliver(&item.event, Timestamp::now()).await {
            Outcome::Accepted => {
                self.metrics.notified(to, "accepted");
                tracing::info!(to, cluster, type_, id = item.event.id, "notified");
                None
            }
            Outcome::Failed { why, retry_after } => {
                self.metrics.notified(to, "failed");
                let wait = growing(failures, FIRST, LONGEST).max(retry_after.unwrap_or_default());
                tracing::warn!(to, cluster, type_, why, ?wait, "a notification was not delivered; it is tried again");
                Some(wait)
            }
            Outcome::Refused(status) => {
                self.metrics.notified(to, "refused");
                let wait = jittered(REFUSED);
                tracing::warn!(
                    to,
                    cluster,
                    type_,
                    %status,
                    ?wait,
                    "the target refuses a notification; check its URL, its signing key and what it accepts"
                );
                Some(wait)
            }
        }
    }

    /// Writes into the ledger that the target has an event.
    async fn note(&self, item: &Item) -> Result<(), kube::Error> {
        let name = ledger_name(&item.identity.cluster_id);
        let mut conflicts = 0;
        loop {
            // Gone with its cluster: nobody will ask for this event again.
            let Some(seen) = self.ledgers.get_opt(&name).await? else { return Ok(()) };
            let target = self.courier.name();
            let noted = ledger::accepted(&item.identity, &self.namespace, &seen, target, &item.event.id);
            let Some(noted) = noted else { return Ok(()) };
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            match self.ledgers.patch(&name, &parameters, &Patch::Apply(&noted)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_conflict() && conflicts < CONFLICTS => {
                    conflicts += 1;
                    sleep(jittered(CONFLICT)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
