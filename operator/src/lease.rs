//! Which of the operator's replicas works: the one that holds the Lease.
//!
//! A Lease fences nothing: a holder that was suspended may still have a write under way when another takes over.
//! Therefore a holder that could not renew in time ends its process, and every destructive call names the object
//! that it means.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::jittered;

/// Name of the Lease in the operator's namespace.
pub const LEASE: &str = "vectorkeep-operator";

/// How long a holder that fell silent keeps its Lease.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder tries to renew before it ends itself, well before another may take over.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time between two renewals, and between two looks at somebody else's Lease.
const PERIOD: Duration = Duration::from_secs(2);

/// A Lease that this process may hold.
pub struct LeaderLease {
    api: Api<Lease>,
    identity: String,
}

/// The process could not renew the Lease that it held.
#[derive(Debug, thiserror::Error)]
#[error("the Lease could not be renewed within {} seconds", DEADLINE.as_secs())]
pub struct Lost;

/// Somebody else's Lease as it was seen, and when. Clocks of other machines are not trusted: what counts is how long
/// it has not changed, by this machine's own clock.
struct Seen {
    version: Option<String>,
    since: Instant,
}

impl LeaderLease {
    /// The operator's Lease, to be held as `identity` (the pod's name).
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), identity }
    }

    /// Waits until this process holds the Lease. `reached` is called when the API server has answered.
    pub async fn acquire(&self, reached: impl Fn()) {
        let mut seen: Option<Seen> = None;
        loop {
            match timeout(PERIOD * 2, self.try_acquire(&mut seen)).await {
                Ok(Ok(held)) => {
                    reached();
                    if held {
                        return;
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be read or taken"),
                Err(_) => tracing::warn!("the API server does not answer about the Lease"),
            }
            sleep(jittered(PERIOD)).await;
        }
    }

    /// Renews the Lease for as long as that succeeds in time.
    pub async fn keep(&self) -> Lost {
        let mut renewed = Instant::now();
        while renewed.elapsed() < DEADLINE {
            sleep(jittered(PERIOD)).await;
            let left = DEADLINE.saturating_sub(renewed.elapsed());
            let start = Instant::now();
            match timeout(left, self.renew()).await {
                Ok(Ok(true)) => renewed = start,
                Ok(Ok(false)) => {
                    tracing::error!("somebody else holds the Lease");
                    return Lost;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be renewed"),
                Err(_) => break,
            }
        }
        Lost
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn release(&self) {
        let released = async {
            let mut lease = self.api.get(LEASE).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
                self.api.replace(LEASE, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if !matches!(timeout(PERIOD, released).await, Ok(Ok(()))) {
            tracing::warn!("the Lease was not given back; another replica takes over when it ends");
        }
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(LEASE).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.held(0)),
            };
            return taken(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let free = match spec.holder_identity.as_deref() {
            None | Some("") => true,
            // A process before this one in the same pod; it is gone.
            Some(holder) if holder == self.identity => true,
            Some(_) => {
                let version = lease.metadata.resource_version.clone();
                match seen {
                    Some(seen) if seen.version == version => {
                        let duration = spec.lease_duration_seconds.unwrap_or(0);
                        let duration = Duration::from_secs(u64::try_from(duration).unwrap_or(0));
                        seen.since.elapsed() > duration.max(DURATION)
                    }
                    _ => {
                        *seen = Some(Seen { version, since: Instant::now() });
                        false
                    }
                }
            }
        };
        if !free {
            return Ok(false);
        }
        let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
        // With the version that was read: of two that find it free, one gets it.
        let lease = Lease { metadata: lease.metadata, spec: Some(self.held(transitions)) };
        taken(self.api.replace(LEASE, &PostParams::default(), &lease).await)
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let mut lease = self.api.get(LEASE).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(LEASE, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    fn held(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

/// Losing a race for the Lease is an answer, not an error.
fn taken(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}
