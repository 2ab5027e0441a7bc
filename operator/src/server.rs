//! Health, metrics and the advisory feed of the operator, over TLS 1.3.
//!
//! The certificate is made at the start of the process and lives in its memory. It keeps what passes from being read;
//! it proves nothing to a scraper, which has no CA to check it with.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use jiff::{SignedDuration, Timestamp};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificates::{
        AUTHORITY_LIFETIME, AuthorityRequest, LeafRequest, Usage,
        issue::{self, IssueError},
    },
    metrics::Metrics,
    notify::feed::Feed,
    tls::{self, TlsError},
};

/// Connections at once; probes and one or two scrapers need a handful.
const CONNECTIONS: usize = 64;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken or not ours.
    #[error("{address} can't be listened on")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No certificate could be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Listens, and serves `/healthz`, `/readyz`, `/metrics` and `/advisories.json` from then on.
pub async fn serve(
    address: SocketAddr,
    operator_namespace: &str,
    metrics: Arc<Metrics>,
    feed: Feed,
) -> Result<SocketAddr, ServerError> {
    let now = Timestamp::now();
    let name = format!("vectorkeep-operator-metrics.{operator_namespace}.svc");
    let authority = issue::authority(
        &AuthorityRequest {
            common_name: "vectorkeep operator".to_owned(),
            own_dns: vec![name.clone()],
            further_dns: Vec::new(),
            lifetime: AUTHORITY_LIFETIME,
        },
        now,
    )?;
    let leaf = issue::leaf(
        &LeafRequest {
            common_name: "vectorkeep operator".to_owned(),
            dns_names: vec![name],
            uris: Vec::new(),
            usage: Usage::Server,
            // Longer than any process of an operator lives.
            lifetime: SignedDuration::from_hours(2 * 365 * 24),
        },
        &authority,
        now,
    )?;
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(&leaf)?));
    let listen = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    tokio::spawn(accept(listener, acceptor, router(metrics, feed)));
    Ok(bound)
}

fn router(metrics: Arc<Metrics>, feed: Feed) -> Router {
    let feed = Router::new().route("/advisories.json", get(advisories)).with_state(Arc::new(feed));
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .with_state(metrics)
        .merge(feed)
}

async fn ready(State(metrics): State<Arc<Metrics>>) -> (StatusCode, &'static str) {
    match metrics.started() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the API server has not been reached yet"),
    }
}

async fn figures(State(metrics): State<Arc<Metrics>>) -> Result<String, StatusCode> {
    metrics.text().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn advisories(State(feed): State<Arc<Feed>>) -> Result<impl IntoResponse, StatusCode> {
    match feed.text().await {
        Ok(text) => Ok(([(CONTENT_TYPE, "application/feed+json"), (CACHE_CONTROL, "max-age=60")], text)),
        Err(error) => {
            tracing::warn!(%error, "the advisory feed could not be read");
            Err(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: give others time to close theirs.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        let acceptor = acceptor.clone();
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let limit = std::time::Duration::from_secs(30);
            let _ = tokio::time::timeout(limit, async {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            })
            .await;
        });
    }
}
