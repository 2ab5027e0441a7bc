//! `vectorkeep-engine`: the engine of one cluster, or an embedded one for development.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use vectorkeep_engine::config::Config;
use vectorkeep_engine::dev;
use vectorkeep_engine::listen::Sockets;
use vectorkeep_engine::process::{self, Mode};

#[derive(Debug, Parser)]
#[command(version, about = "An encrypted vector database that speaks the Milvus API")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one cluster, as configured by the operator
    Serve {
        /// Configuration file (TOML)
        #[arg(long)]
        config: PathBuf,
    },
    /// Run an encrypted engine on this machine, for development: its master key lies in a file beside the data
    Dev {
        /// Folder for the sealed data, the key file, and what a client needs (client/uri, client/token, client/ca.crt)
        #[arg(long, default_value = "vectorkeep-data")]
        data_dir: PathBuf,
        /// Address for clients
        #[arg(long, default_value = "127.0.0.1:19530")]
        listen: SocketAddr,
        /// Memory for data, MiB
        #[arg(long, default_value_t = 2048)]
        memory_mib: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::new("info,slatedb=warn,object_store=warn");
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match arguments.command {
        Command::Serve { .. } => log.json().init(),
        Command::Dev { .. } => log.with_ansi(false).init(),
    }
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = %error, "the engine ends");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    let (config, mode) = match command {
        Command::Serve { config } => (Config::read(&config)?, Mode::Cluster),
        Command::Dev { data_dir, listen, memory_mib } => {
            (dev::prepare(&data_dir, listen, memory_mib)?, Mode::Development)
        }
    };
    // Before the runtime, which takes file descriptors of its own: the sockets are passed on under the first numbers.
    let sockets = Sockets::open(&config.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(process::run(config, sockets, mode))?;
    Ok(())
}
