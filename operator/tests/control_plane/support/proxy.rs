//! A proxy before the API server that fails as told: what a busy, restarting or far-away API server does, and what an
//! operator sees of it that dies in the middle of a write.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use kube::config::Kubeconfig;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use tokio::net::TcpListener;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Somebody else was faster: waits for a write.
    Conflict,
    /// Too many requests.
    Busy,
    /// An internal error.
    Broken,
    /// No answer, ever.
    Silent,
    /// It is done, and the answer is lost.
    Lost,
}

/// Every fault, in the order in which they come.
pub const FAULTS: [Fault; 5] = [Fault::Conflict, Fault::Busy, Fault::Lost, Fault::Broken, Fault::Silent];

/// A watch lasts so long before it is closed, while faults are on.
const WATCH: Duration = Duration::from_secs(2);
/// Every so many times a list is answered as it was the first time, while faults are on.
const STALE: usize = 3;

/// See the module's documentation.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Every so many requests one fails; 0: none.
    every: AtomicUsize,
    requests: AtomicUsize,
    faults: Mutex<Vec<Fault>>,
    /// A fault that is due, if it could not come yet.
    due: AtomicBool,
    /// Of each list the first answer, and how often it was asked for.
    lists: Mutex<HashMap<String, (Bytes, usize)>>,
    /// Lists that were stale at least once.
    stale: Mutex<BTreeSet<String>>,
    deaths: Mutex<Deaths>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Alive,
    /// The last write is being carried out.
    Dying,
    Dead,
}

/// Writes that were carried out and never answered, for which whoever asked is to be killed.
#[derive(Default)]
struct Deaths {
    /// Whether there are to be any.
    wanted: bool,
    /// Of whoever asks now. Who does not live is not answered any more.
    life: Life,
    /// What was written in them, apart from numbers and hashes: no two writes of the same are deadly, or the dying had no
    /// end.
    written: HashSet<(Method, String, String)>,
}

type Body = BoxBody<Bytes, hyper::Error>;

impl Proxy {
    /// A proxy that fails no request yet.
    pub async fn start(kubeconfig: &Path) -> Self {
        let config = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let cluster = config.clusters[0].cluster.clone().expect("a cluster");
        let mut roots = RootCertStore::empty();
        let pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) => {
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).expect("base64")
            }
            (None, file) => std::fs::read(file.as_ref().expect("a CA")).expect("a CA file"),
        };
        roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a root");
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Self {
            address: listener.local_addr().expect("an address"),
            shared: Arc::new(Shared {
                server: cluster.server.expect("a server").parse().expect("a URI"),
                client: Client::builder(TokioExecutor::new()).build(https),
                every: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                faults: Mutex::default(),
                due: AtomicBool::new(false),
                lists: Mutex::default(),
                stale: Mutex::default(),
                deaths: Mutex::default(),
            }),
        };
        let shared = Arc::clone(&proxy.shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move { shared.serve(request).await.ok_or_else(|| std::io::Error::other("a fault")) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on every so many requests one fails; 0: none.
    pub fn fail_every(&self, requests: usize) {
        self.shared.every.store(requests, Ordering::Relaxed);
    }

    /// What went wrong so far.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.faults.lock().expect("no panic").clone()
    }

    /// Lists that were answered, at least once, with what was no longer so.
    pub fn stale(&self) -> BTreeSet<String> {
        self.shared.stale.lock().expect("no panic").clone()
    }

    /// From now on, or not any more, each write that there was none like before is carried out and not answered, and
    /// nothing after it is either, until there is somebody new: see [`Self::revive`].
    pub fn let_die(&self, wanted: bool) {
        self.shared.deaths().wanted = wanted;
    }

    /// Whether somebody is to be killed.
    pub fn has_died(&self) -> bool {
        self.shared.deaths().life == Life::Dead
    }

    /// Somebody new is there.
    pub fn revive(&self) {
        self.shared.deaths().life = Life::Alive;
    }

    /// Methods and paths of the writes in which somebody died.
    pub fn deaths(&self) -> Vec<String> {
        let mut deaths: Vec<_> =
            self.shared.deaths().written.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        deaths.sort();
        deaths
    }
}

impl Shared {
    /// The answer, or none: the connection is closed.
    async fn serve(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.collect().await.ok()?.to_bytes());
        match self.life(&request) {
            Life::Alive => {}
            Life::Dying => {
                let _ = self.forward(request).await;
                self.deaths().life = Life::Dead;
                return pending().await;
            }
            Life::Dead => return pending().await,
        }
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        // Who loses its Lease ends, and rightly so; that is another test.
        let spared = request.uri().path().contains("/leases") || watches;
        let every = self.every.load(Ordering::Relaxed);
        let fault = if spared { None } else { self.fault(every, request.method()) };
        match fault {
            Some(Fault::Conflict) => return Some(refusal(StatusCode::CONFLICT)),
            Some(Fault::Busy) => return Some(refusal(StatusCode::TOO_MANY_REQUESTS)),
            Some(Fault::Broken) => return Some(refusal(StatusCode::INTERNAL_SERVER_ERROR)),
            Some(Fault::Silent) => return pending().await,
            Some(Fault::Lost) | None => {}
        }
        let list = (request.method() == Method::GET && is_list(request.uri().path()) && !watches)
            .then(|| request.uri().to_string());
        let answer = self.forward(request).await?;
        match (fault, list) {
            (Some(Fault::Lost), _) => None,
            (_, Some(list)) if every > 0 && answer.status() == StatusCode::OK => self.as_it_was(list, answer).await,
            _ if watches && every > 0 => Some(answer.map(|body| cut_off(body).boxed())),
            _ => Some(answer.map(BodyExt::boxed)),
        }
    }

    /// What goes wrong with a request, if anything does.
    fn fault(&self, every: usize, method: &Method) -> Option<Fault> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if every == 0 || !(number.is_multiple_of(every) || self.due.load(Ordering::Relaxed)) {
            return None;
        }
        let mut faults = self.faults.lock().expect("no panic");
        let fault = FAULTS[faults.len() % FAULTS.len()];
        let waits = fault == Fault::Conflict && method == Method::GET;
        self.due.store(waits, Ordering::Relaxed);
        (!waits).then(|| {
            faults.push(fault);
            fault
        })
    }

    /// A list, now and then as it was the first time: what a replica of the API server says that lags behind.
    async fn as_it_was(&self, list: String, answer: Response<Incoming>) -> Option<Response<Body>> {
        let (mut parts, body) = answer.into_parts();
        let now = body.collect().await.ok()?.to_bytes();
        let (first, number) = {
            let mut lists = self.lists.lock().expect("no panic");
            let (first, number) = lists.entry(list.clone()).or_insert_with(|| (now.clone(), 0));
            *number += 1;
            (first.clone(), *number)
        };
        let stale = number.is_multiple_of(STALE) && first != now;
        if stale {
            self.stale.lock().expect("no panic").insert(list);
        }
        let body = if stale { first } else { now };
        parts.headers.remove(hyper::header::CONTENT_LENGTH);
        Some(Response::from_parts(parts, Full::new(body).map_err(|never: Infallible| match never {}).boxed()))
    }

    fn deaths(&self) -> MutexGuard<'_, Deaths> {
        self.deaths.lock().expect("no panic")
    }

    /// What becomes of who asks this. Events are nothing that anybody goes by, and who renews a Lease is no further.
    fn life(&self, request: &Request<Bytes>) -> Life {
        let mut deaths = self.deaths();
        if deaths.life != Life::Alive {
            return Life::Dead;
        }
        let path = request.uri().path();
        let spared = request.method() == Method::GET || path.contains("/leases") || path.contains("/events");
        let written = String::from_utf8_lossy(request.body()).chars().filter(|it| !it.is_ascii_hexdigit()).collect();
        if deaths.wanted && !spared && deaths.written.insert((request.method().clone(), path.to_owned(), written)) {
            deaths.life = Life::Dying;
        }
        deaths.life
    }

    async fn forward(&self, request: Request<Bytes>) -> Option<Response<Incoming>> {
        let (mut parts, body) = request.into_parts();
        let mut uri = self.server.clone().into_parts();
        uri.path_and_query = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from_parts(uri).expect("a URI");
        parts.headers.remove(hyper::header::HOST);
        self.client.request(Request::from_parts(parts, Full::new(body))).await.ok()
    }
}

/// Whether a path names a kind of objects, all of them or those of a namespace, and no single one.
fn is_list(path: &str) -> bool {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let prefix = if parts.first() == Some(&"api") { 2 } else { 3 };
    parts.drain(..prefix.min(parts.len()));
    matches!(parts.as_slice(), [_] | ["namespaces", _, _])
}

/// A watch's answer that ends after a while.
fn cut_off(
    body: Incoming,
) -> http_body_util::StreamBody<
    impl futures::Stream<Item = Result<hyper::body::Frame<Bytes>, hyper::Error>> + Send + Sync + 'static,
> {
    use futures::StreamExt;
    let end = Box::pin(tokio::time::sleep(WATCH));
    let frames = http_body_util::BodyStream::new(body).take_until(end);
    http_body_util::StreamBody::new(frames)
}

fn refusal(code: StatusCode) -> Response<Body> {
    let reason = match code {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "a fault of the test", "reason": reason, "code": code.as_u16(),
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never: Infallible| match never {}).boxed();
    Response::builder().status(code).header("content-type", "application/json").body(body).expect("a response")
}
