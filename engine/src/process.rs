//! The engine as a process: servers, signals, and its replacement when the keys are given up.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::config::{Config, Isolation};
use crate::engine::Engine;
use crate::listen::{Sockets, serve};
use crate::proto::milvus::milvus_service_server::MilvusServiceServer;
use crate::release::Release;
use crate::server::admission::{MESSAGE_BYTES, admitting};
use crate::server::milvus::Milvus;
use crate::tls::{Clients, ServerTls, TlsError};

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The memory of the process could reach a disk.
    #[error("this machine swaps, so plaintext could reach a disk: switch swap off, or set the pod's swap limit to 0")]
    Swap,
}

/// What differs between a cluster and a developer's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mode {
    Cluster,
    Development,
}

/// Runs an engine of this release until it is told to stop (SIGTERM, SIGINT).
pub async fn run(mut config: Config, sockets: Sockets, mode: Mode, release: Release) -> Result<(), ProcessError> {
    crate::harden::forbid_dumps()?;
    if crate::harden::memory_can_be_swapped() {
        match mode {
            Mode::Cluster => return Err(ProcessError::Swap),
            Mode::Development => tracing::warn!("this machine swaps: plaintext could reach its disk"),
        }
    }
    let serving = ServerTls::load(&config.tls.serving_dir, config.tls.client_auth.into())?;
    let internal = ServerTls::load(&config.tls.internal_dir, Clients::Any)?;
    let operator = Clients::WithUri(config.tls.operator_uri.clone());
    let administration = ServerTls::load(&config.tls.internal_dir, operator)?;
    for tls in [&serving, &internal, &administration] {
        tokio::spawn(tls.clone().keep_current());
    }
    if sockets.inherited {
        config.isolation = config.isolation.map(Isolation::settled);
    }
    let engine = Engine::new(config, release);
    let stop = CancellationToken::new();
    let milvus = MilvusServiceServer::new(Milvus::new(engine.clone()))
        .max_decoding_message_size(MESSAGE_BYTES)
        // What an answer may take is decided before it is made.
        .max_encoding_message_size(usize::MAX);
    let api = admitting(engine.clone(), tonic::service::Routes::new(milvus).into_axum_router());
    let admin = admin::admin(engine.clone(), serving.clone(), administration.clone());
    let servers = [
        tokio::spawn(serve(sockets.client.try_clone()?, serving, api, stop.clone())),
        tokio::spawn(serve(sockets.health.try_clone()?, internal, admin::health(engine.clone()), stop.clone())),
        tokio::spawn(serve(sockets.admin.try_clone()?, administration, admin, stop.clone())),
    ];
    let mut running = Box::pin(engine.run());
    tokio::select! {
        reason = &mut running => {
            tracing::warn!(%reason, "the keys are given up; the process replaces itself by a locked one");
            return Err(sockets.replace_process().into());
        }
        () = terminated()? => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    let drained = async {
        for server in servers {
            if let Err(error) = server.await {
                tracing::warn!(reason = %error, "a server ended badly");
            }
        }
    };
    // Open requests are served to their end, but only for as long as the key may be used.
    tokio::select! {
        reason = &mut running => {
            tracing::warn!(%reason, "the keys are given up; the process ends at once");
            // To return would be to wait for whatever still runs.
            std::process::exit(0);
        }
        () = drained => {}
    }
    drop(running);
    engine.close().await;
    Ok(())
}

fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
