//! The simulator as a process: reads flags and the configuration file, serves until SIGTERM or SIGINT.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tracing_subscriber::EnvFilter;
use vectorkeep_kms_sim::access_log::AccessLog;
use vectorkeep_kms_sim::config::{Config, SpecError};
use vectorkeep_kms_sim::server::Server;
use vectorkeep_kms_sim::simulator::Simulator;
use vectorkeep_kms_sim::tls::{self, TlsError};

/// Strict simulator of AWS KMS and STS, for tests.
#[derive(Debug, Parser)]
#[command(name = "vectorkeep-kms-sim", version)]
struct Arguments {
    /// Address of the protocol port, KMS and STS alike.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Address of the control endpoint (plain HTTP, no authentication).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8444")]
    control: SocketAddr,
    /// Certificate chain of the protocol port, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "self_signed")]
    tls_cert: Option<PathBuf>,
    /// Private key of the protocol port, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Make a CA and a certificate on the spot and write the CA's certificate to DIR/ca.crt.
    #[arg(long, value_name = "DIR")]
    self_signed: Option<PathBuf>,
    /// Names and addresses in that certificate.
    #[arg(long, value_name = "NAME", num_args = 1.., requires = "self_signed", default_values = ["localhost", "127.0.0.1"])]
    san: Vec<String>,
    /// Initial issuer, keys and roles, JSON.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where events go as JSON lines; `-` is standard output.
    #[arg(long, value_name = "FILE|-")]
    access_log: Option<PathBuf>,
}

#[derive(Debug, Error)]
enum StartError {
    #[error("{path} could not be {action}")]
    File {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a configuration")]
    Config {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the configuration can't be used")]
    Spec(#[from] SpecError),
    #[error("TLS can't be set up")]
    Tls(#[from] TlsError),
    #[error("the ports can't be served")]
    Serve(#[from] io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).json().init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut message = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                message.push_str(&format!(": {error}"));
                cause = error.source();
            }
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let config = arguments.config.as_deref().map_or_else(|| Ok(Config::default()), read_config)?;
    let log = AccessLog::new(arguments.access_log.as_deref().map(open_log).transpose()?);
    let tls = acceptor(&arguments)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let simulator = Arc::new(Simulator::with_config(config, log)?);
    let server = Server::bind(arguments.listen, arguments.control, tls, simulator).await?;
    // Tests that let the system choose ports read them from this line.
    tracing::info!(
        protocol = format!("{scheme}://{}", server.protocol_addr()?),
        control = format!("http://{}", server.control_addr()?),
        "serving"
    );
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.run(shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

fn read_config(path: &Path) -> Result<Config, StartError> {
    let bytes = fs::read(path).map_err(|source| StartError::File { path: path.to_owned(), action: "read", source })?;
    serde_json::from_slice(&bytes).map_err(|source| StartError::Config { path: path.to_owned(), source })
}

fn open_log(path: &Path) -> Result<Box<dyn Write + Send>, StartError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let opened = OpenOptions::new().create(true).append(true).open(path);
    let file = opened.map_err(|source| StartError::File { path: path.to_owned(), action: "opened", source })?;
    Ok(Box::new(file))
}

fn acceptor(arguments: &Arguments) -> Result<Option<TlsAcceptor>, TlsError> {
    let Arguments { tls_cert, tls_key, self_signed, san, .. } = arguments;
    match (self_signed, tls_cert, tls_key) {
        (Some(folder), _, _) => tls::self_signed(folder, san).map(Some),
        (None, Some(certificate), Some(key)) => tls::from_files(certificate, key).map(Some),
        _ => Ok(None),
    }
}
