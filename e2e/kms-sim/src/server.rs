//! The two ports: protocol (plain or TLS 1.3) and control (plain).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::simulator::Simulator;
use crate::{control, exchange};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Both ports, bound but not served yet.
pub struct Server {
    protocol: TcpListener,
    control: TcpListener,
    tls: Option<TlsAcceptor>,
    simulator: Arc<Simulator>,
}

impl Server {
    /// Binds both ports. Without `tls` the protocol port speaks plain HTTP.
    ///
    /// # Errors
    /// An address can't be bound.
    pub async fn bind(
        protocol: SocketAddr,
        control: SocketAddr,
        tls: Option<TlsAcceptor>,
        simulator: Arc<Simulator>,
    ) -> io::Result<Self> {
        Ok(Self {
            protocol: TcpListener::bind(protocol).await?,
            control: TcpListener::bind(control).await?,
            tls,
            simulator,
        })
    }

    /// Address of the protocol port.
    ///
    /// # Errors
    /// The operating system doesn't tell.
    pub fn protocol_addr(&self) -> io::Result<SocketAddr> {
        self.protocol.local_addr()
    }

    /// Address of the control port.
    ///
    /// # Errors
    /// The operating system doesn't tell.
    pub fn control_addr(&self) -> io::Result<SocketAddr> {
        self.control.local_addr()
    }

    /// Serves both ports until `shutdown` is done; then open connections are closed at once, hanging ones too.
    ///
    /// # Errors
    /// The control port can't be served any more.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { protocol, control, tls, simulator } = self;
        let control = axum::serve(control, control::router(Arc::clone(&simulator)));
        tokio::select! {
            () = shutdown => Ok(()),
            outcome = control.into_future() => outcome,
            () = accept(protocol, tls, simulator) => Ok(()),
        }
    }
}

/// Connections live in the set, which aborts them when it is dropped.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, simulator: Arc<Simulator>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, tls.clone(), Arc::clone(&simulator)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, simulator: Arc<Simulator>) {
    let Some(tls) = tls else {
        return serve(stream, peer, simulator).await;
    };
    match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, peer, simulator).await,
        Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::info!(%peer, "TLS handshake took too long"),
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr, simulator: Arc<Simulator>) {
    let service = service_fn(move |request| exchange::answer(Arc::clone(&simulator), peer, request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}
