//! Serving HTTP/2 and HTTP/1.1 over TLS on listening sockets that survive the replacement of the process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use command_fds::{CommandFdExt, FdMapping};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use listenfd::ListenFd;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Listen;
use crate::tls::ServerTls;

/// A client gets so long for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Open requests get so long when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// So many connections at once; others wait to be accepted.
const CONNECTIONS: usize = 1024;
/// What a client may send of one request before somebody reads it, and of all requests of a connection.
const WINDOW: (u32, u32) = (1024 * 1024, 4 * 1024 * 1024);
/// First file descriptor that is passed on: after standard input, output and error.
const FIRST_FD: i32 = 3;

/// The three listening sockets.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Sockets {
    pub client: TcpListener,
    pub health: TcpListener,
    pub admin: TcpListener,
    /// Whether a process image before this one had them.
    pub inherited: bool,
}

impl Sockets {
    /// Takes over the sockets of the process image before this one, or opens new ones. To be called before anything else
    /// opens files, so that the sockets get the numbers under which they are passed on, and passing them on takes
    /// nobody's place.
    pub fn open(listen: &Listen) -> io::Result<Self> {
        let mut passed_on = ListenFd::from_env();
        let inherited = passed_on.len() > 0;
        let mut socket = |number: usize, address: SocketAddr| -> io::Result<TcpListener> {
            let socket = match passed_on.take_tcp_listener(number)? {
                Some(socket) => socket,
                None => TcpListener::bind(address)
                    .map_err(|error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}")))?,
            };
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            client: socket(0, listen.client)?,
            health: socket(1, listen.health)?,
            admin: socket(2, listen.admin)?,
            inherited,
        })
    }

    /// Replaces the process by a new, locked image of itself. The kernel takes back every page of memory, whatever had
    /// been copied where; the sockets stay open, so that clients wait for a moment instead of being refused. Returns only
    /// if that failed.
    pub fn replace_process(&self) -> io::Error {
        match self.replacement() {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        }
    }

    fn replacement(&self) -> io::Result<Command> {
        let mut command = Command::new("/proc/self/exe");
        let mut arguments = std::env::args_os();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments);
        let sockets = [&self.client, &self.health, &self.admin];
        let mappings = sockets
            .iter()
            .zip(FIRST_FD..)
            .map(|(socket, child_fd)| Ok(FdMapping { parent_fd: socket.as_fd().try_clone_to_owned()?, child_fd }));
        let mappings = mappings.collect::<io::Result<Vec<_>>>()?;
        command.env("LISTEN_FDS", mappings.len().to_string()).env("LISTEN_PID", std::process::id().to_string());
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(command)
    }
}

/// Serves `app` on `socket` until `stop`, then lets open requests finish.
pub async fn serve(socket: TcpListener, tls: Arc<ServerTls>, app: Router, stop: CancellationToken) -> io::Result<()> {
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let open = GracefulShutdown::new();
    let mut http = Builder::new(TokioExecutor::new());
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .max_frame_size(1024 * 1024);
    http.http1().timer(TokioTimer::new());
    let http = Arc::new(http);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accept = async || {
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>((socket.accept().await?.0, place))
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or the like: others may close theirs.
                tracing::warn!(reason = %error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, app, http, watcher) = (tls.clone(), app.clone(), http.clone(), open.watcher());
        tokio::spawn(async move {
            let _place = place;
            // Small answers must not wait for more to send; a socket that can't be told so still works.
            let _slower = stream.set_nodelay(true);
            let handshake = TlsAcceptor::from(tls.config()).accept(stream);
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await else { return };
            if !tls.accepts(stream.get_ref().1.peer_certificates()) {
                tracing::warn!("a client with a certificate of another name was turned away");
                return;
            }
            let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::debug!(reason = %error, "a connection ended early");
            }
        });
    }
    let _timed_out = tokio::time::timeout(DRAIN, open.shutdown()).await;
    Ok(())
}
