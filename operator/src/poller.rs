//! Asks every engine how it is, beside the reconciles, so that none of them waits for a network.
//!
//! One task for each cluster asks its engine's admin API over mutual TLS, at a jittered interval and with a deadline.
//! What it hears lies ready for `observe`; when it hears something new, the cluster is reconciled.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;
use vectorkeep_crds::VectorCluster;

use crate::{
    admin::{ADMIN_PORT, EngineStatus, EngineView},
    backoff::jittered,
    certificates::TlsMaterial,
    metrics::Metrics,
    plan::identity::Identity,
    tls,
};

/// An engine that takes longer does not answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Engines that are asked at the same time: enough for a thousand clusters within the interval.
const AT_ONCE: usize = 64;
/// Longest answer that is read; one zone for each database fits many times.
const LONGEST_ANSWER: usize = 1 << 20;

/// How the poller reaches engines.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Time between two questions to one engine.
    pub interval: Duration,
    /// Where to connect instead of the address of the engine's name, for an operator that runs outside the pod
    /// network. The certificate is verified for the engine's name all the same.
    pub connect_to: Option<SocketAddr>,
}

/// Asks engines and remembers what they said.
#[derive(Clone)]
pub struct Poller {
    shared: Arc<Shared>,
}

struct Shared {
    reach: Reach,
    clusters: Mutex<HashMap<String, Polled>>,
    changed: mpsc::UnboundedSender<ObjectRef<VectorCluster>>,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

struct Polled {
    owner: ObjectRef<VectorCluster>,
    material: TlsMaterial,
    /// Whose words the view is.
    run: Run,
    view: EngineView,
    task: AbortHandle,
}

/// One run of an engine's container. What was said before it began counts no more: it may be another release's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pod: Option<String>,
    restarts: i32,
}

impl Run {
    /// The run that is seen, if there is a pod.
    pub fn of(pod: Option<&Pod>) -> Self {
        let status = pod.and_then(|pod| pod.status.as_ref());
        let container = status.and_then(|status| status.container_statuses.iter().flatten().next());
        Self { pod: pod.and_then(Pod::uid), restarts: container.map_or(0, |container| container.restart_count) }
    }
}

/// Why an engine was not heard. The words end up in a status: no addresses, no names of others.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("its name is not known to DNS yet")]
    Name,
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("TLS failed ({0})")]
    Tls(String),
    #[error("the connection broke")]
    Http(#[source] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is too long or was cut off")]
    Body,
    #[error("its answer is not understood ({0})")]
    Answer(#[source] serde_json::Error),
    #[error("it says to be the engine of another cluster")]
    WrongCluster,
    #[error("no answer within 2 seconds")]
    Deadline,
}

impl Poller {
    /// A poller that sends the resource of every cluster whose engine says something new to `changed`.
    pub fn new(reach: Reach, changed: mpsc::UnboundedSender<ObjectRef<VectorCluster>>, metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                reach,
                clusters: Mutex::default(),
                changed,
                permits: Semaphore::new(AT_ONCE),
                metrics,
            }),
        }
    }

    /// Asks the engine of a cluster from now on, showing `material`. Asking twice changes nothing; another
    /// certificate takes the place of the one before. What an engine says that this resource has not asked before, it says
    /// in `run`.
    pub fn track(&self, identity: &Identity, material: &TlsMaterial, run: Run) {
        let owner = ObjectRef::new(&identity.owner_name).within(&identity.owner_namespace);
        let mut clusters = self.shared.lock();
        let before = clusters.get(&identity.cluster_id);
        if before.is_some_and(|before| before.material == *material && before.owner == owner) {
            return;
        }
        let config = match tls::client(material) {
            Ok(config) => Arc::new(config),
            Err(error) => {
                tracing::error!(cluster = identity.cluster_id, %error, "the client certificate is not usable");
                return;
            }
        };
        let before = clusters.remove(&identity.cluster_id);
        if let Some(before) = &before {
            before.task.abort();
        }
        let (run, view) = match before.filter(|before| before.owner == owner) {
            Some(before) => (before.run, before.view),
            None => (run, EngineView::NotAsked),
        };
        let task =
            tokio::spawn(poll(Arc::clone(&self.shared), identity.cluster_id.clone(), identity.engine_host(), config));
        clusters.insert(
            identity.cluster_id.clone(),
            Polled { owner, material: material.clone(), run, view, task: task.abort_handle() },
        );
    }

    /// Asks the engines of a resource that is gone no more.
    pub fn forget_owner(&self, owner: &ObjectRef<VectorCluster>) {
        self.shared.lock().retain(|_, polled| {
            let keep = polled.owner != *owner;
            if !keep {
                polled.task.abort();
            }
            keep
        });
    }

    /// Whether the engine of a cluster answers, whoever's it is.
    pub fn answers(&self, cluster_id: &str) -> bool {
        matches!(self.shared.lock().get(cluster_id).map(|polled| &polled.view), Some(EngineView::Answered(_)))
    }

    /// What the engine of a cluster last said in `run`, for the resource that it serves and no other. From now on, nothing
    /// else counts.
    pub fn view(&self, cluster_id: &str, owner: &ObjectRef<VectorCluster>, run: Run) -> EngineView {
        match self.shared.lock().get_mut(cluster_id) {
            Some(polled) if polled.owner == *owner => {
                if polled.run != run {
                    (polled.run, polled.view) = (run, EngineView::Restarted);
                }
                polled.view.clone()
            }
            _ => EngineView::NotAsked,
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Polled>> {
        // Nothing is left half done under this lock.
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run that is asked next, and whether it was heard.
    fn asked(&self, cluster_id: &str) -> (Run, bool) {
        let clusters = self.lock();
        let polled = clusters.get(cluster_id);
        polled.map(|it| (it.run.clone(), it.view.answer().is_some())).unwrap_or_default()
    }

    /// Notes what became of a question that was asked in `run`.
    fn hear(&self, cluster_id: &str, run: &Run, view: EngineView) {
        let mut clusters = self.lock();
        let Some(polled) = clusters.get_mut(cluster_id).filter(|polled| polled.run == *run) else {
            return;
        };
        let changed = view.differs_from(&polled.view);
        polled.view = view;
        if changed {
            // The receiver lives as long as the controller; without one there is nobody to tell.
            let _ = self.changed.send(polled.owner.clone());
        }
    }
}

async fn poll(shared: Arc<Shared>, cluster_id: String, host: String, config: Arc<ClientConfig>) {
    let mut missed = 0u32;
    loop {
        let (run, heard);
        let answer = {
            let Ok(_permit) = shared.permits.acquire().await else {
                return;
            };
            (run, heard) = shared.asked(&cluster_id);
            tokio::time::timeout(DEADLINE, ask(&shared.reach, &cluster_id, &host, &config))
                .await
                .unwrap_or(Err(AskError::Deadline))
        };
        shared.metrics.polled(answer.is_ok());
        match answer {
            Ok(status) => {
                missed = 0;
                shared.hear(&cluster_id, &run, EngineView::Answered(Box::new(status)));
            }
            Err(error) => {
                missed += 1;
                tracing::debug!(cluster = cluster_id, %error, missed, "the engine was not heard");
                // One lost packet is no news; an engine that was never heard is silent at once.
                if missed > 1 || !heard {
                    let reason = error.to_string();
                    shared.hear(&cluster_id, &run, EngineView::Silent { reason });
                }
            }
        }
        tokio::time::sleep(jittered(shared.reach.interval)).await;
    }
}

/// What went wrong with TLS, in words that are the same each time: rustls tells the time too.
fn tls_problem(error: &std::io::Error) -> String {
    use rustls::{CertificateError, Error};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "its certificate has expired".to_owned()
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => "its certificate is not valid yet".to_owned(),
        _ => error.to_string(),
    }
}

async fn ask(
    reach: &Reach,
    cluster_id: &str,
    host: &str,
    config: &Arc<ClientConfig>,
) -> Result<EngineStatus, AskError> {
    let tcp = match reach.connect_to {
        Some(address) => TcpStream::connect(address).await.map_err(AskError::Connect)?,
        None => {
            let mut addresses = tokio::net::lookup_host((host, ADMIN_PORT)).await.map_err(|_| AskError::Name)?;
            let address = addresses.next().ok_or(AskError::Name)?;
            TcpStream::connect(address).await.map_err(AskError::Connect)?
        }
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| AskError::Name)?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, tcp)
        .await
        .map_err(|error| AskError::Tls(tls_problem(&error)))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(AskError::Http)?;
    let question = async {
        let request = Request::get("/v1/status")
            .header(hyper::header::HOST, host)
            .body(Empty::<Bytes>::new())
            .map_err(|_| AskError::Name)?;
        let answer = sender.send_request(request).await.map_err(AskError::Http)?;
        if answer.status() != StatusCode::OK {
            return Err(AskError::Status(answer.status()));
        }
        Limited::new(answer.into_body(), LONGEST_ANSWER)
            .collect()
            .await
            .map(|body| body.to_bytes())
            .map_err(|_| AskError::Body)
    };
    // The connection must be driven for the answer to arrive, and ends with it.
    let mut connection = std::pin::pin!(connection);
    let body = tokio::select! {
        body = question => body?,
        result = &mut connection => {
            result.map_err(AskError::Http)?;
            return Err(AskError::Body);
        }
    };
    let status: EngineStatus = serde_json::from_slice(&body).map_err(AskError::Answer)?;
    if status.cluster_id != cluster_id {
        return Err(AskError::WrongCluster);
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::certificates::{AuthorityRequest, issue};

    const ID: &str = "vc0123456789abcdef";

    fn identity(owner: &str) -> Identity {
        Identity {
            cluster_id: ID.into(),
            namespace: format!("vk-{ID}"),
            owner_namespace: "acme".into(),
            owner_name: owner.into(),
            owner_uid: "uid".into(),
        }
    }

    /// A poller that asks nobody: its tasks run when a test waits, and none does.
    fn poller() -> Poller {
        let reach = Reach { interval: Duration::from_secs(3600), connect_to: Some(([127, 0, 0, 1], 9).into()) };
        Poller::new(reach, mpsc::unbounded_channel().0, Arc::default())
    }

    fn material() -> TlsMaterial {
        let request = AuthorityRequest {
            common_name: "test".into(),
            lifetime: SignedDuration::from_hours(1),
            own_dns: vec!["test".into()],
            further_dns: Vec::new(),
        };
        issue::authority(&request, Timestamp::now()).expect("a certificate")
    }

    fn view(poller: &Poller, owner: &str, run: &Run) -> EngineView {
        poller.view(ID, &ObjectRef::new(owner).within("acme"), run.clone())
    }

    fn pod(uid: &str, restarts: i32) -> Run {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "engine-0", "uid": uid},
            "status": {"containerStatuses": [{
                "name": "engine", "image": "e", "imageID": "e", "ready": true, "restartCount": restarts,
            }]},
        }))
        .expect("a pod");
        Run::of(Some(&pod))
    }

    fn answer(version: &str) -> EngineView {
        let status = serde_json::json!({
            "version": version, "clusterId": ID, "storeId": null, "bootId": "b", "state": "Serving",
            "key": {"state": "Accessible"}, "servingCertificate": null,
        });
        EngineView::Answered(Box::new(serde_json::from_value(status).expect("a status")))
    }

    #[tokio::test]
    async fn what_an_engine_said_before_its_pod_or_container_was_replaced_counts_no_more() {
        let poller = poller();
        let (first, material) = (pod("a", 0), material());
        poller.track(&identity("support"), &material, first.clone());
        assert_eq!(view(&poller, "support", &first), EngineView::NotAsked);
        poller.shared.hear(ID, &first, answer("0.1.1"));
        assert_eq!(view(&poller, "support", &first), answer("0.1.1"));
        for next in [pod("a", 1), Run::of(None), pod("b", 0)] {
            let (before, heard) = poller.shared.asked(ID);
            assert!(heard);
            assert_eq!(view(&poller, "support", &next), EngineView::Restarted);
            // A question that was under way meanwhile, and a reconcile that asks for the same again.
            poller.shared.hear(ID, &before, answer("0.1.1"));
            poller.track(&identity("support"), &material, next.clone());
            assert_eq!(view(&poller, "support", &next), EngineView::Restarted);
            poller.shared.hear(ID, &next, answer("0.1.0"));
            assert_eq!(view(&poller, "support", &next), answer("0.1.0"));
        }
    }

    #[tokio::test]
    async fn another_certificate_changes_no_words_and_another_owner_inherits_none() {
        let poller = poller();
        let (run, first) = (pod("a", 0), material());
        poller.track(&identity("support"), &first, run.clone());
        poller.shared.hear(ID, &run, answer("0.1.0"));
        poller.track(&identity("support"), &material(), run.clone());
        assert_eq!(view(&poller, "support", &run), answer("0.1.0"));
        assert_eq!(view(&poller, "heir", &run), EngineView::NotAsked);

        poller.track(&identity("heir"), &first, run.clone());
        poller.track(&identity("heir"), &first, run.clone());
        assert_eq!(view(&poller, "support", &run), EngineView::NotAsked);
        poller.shared.hear(ID, &run, answer("0.1.0"));
        assert_eq!(view(&poller, "heir", &run), answer("0.1.0"));
        poller.forget_owner(&ObjectRef::new("support").within("acme"));
        assert!(poller.answers(ID), "it is another's by now");
    }
}
