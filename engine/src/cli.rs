//! The command line of `vectorkeep-engine`. The release is a parameter, so that tests of upgrades can build a next one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::dev;
use crate::listen::Sockets;
use crate::process::{self, Mode};
use crate::release::Release;

#[derive(Debug, Parser)]
#[command(about = "An encrypted vector database that speaks the Milvus API")]
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

/// Does what the arguments of the process say, as the engine of this release.
pub fn run(release: impl Into<Release>) -> ExitCode {
    let release = release.into();
    let matches = command_line(release.version).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let filter = EnvFilter::new("info,slatedb=warn,object_store=warn");
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match arguments.command {
        Command::Serve { .. } => log.json().init(),
        Command::Dev { .. } => log.with_ansi(false).init(),
    }
    match serve(arguments.command, release) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = %error, "the engine ends");
            ExitCode::FAILURE
        }
    }
}

fn command_line(version: &'static str) -> clap::Command {
    Arguments::command().version(version)
}

fn serve(command: Command, release: Release) -> Result<(), Box<dyn std::error::Error>> {
    let (config, mode) = match command {
        Command::Serve { config } => (Config::read(&config)?, Mode::Cluster),
        Command::Dev { data_dir, listen, memory_mib } => {
            (dev::prepare(&data_dir, listen, memory_mib)?, Mode::Development)
        }
    };
    // Before the runtime, which takes file descriptors of its own: the sockets are passed on under the first numbers.
    let sockets = Sockets::open(&config.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(process::run(config, sockets, mode, release))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_shown_is_the_one_that_was_given() {
        let shown = command_line("9.8.7").try_get_matches_from(["vectorkeep-engine", "--version"]);
        let shown = shown.map_err(|error| error.to_string());
        assert!(shown.is_err_and(|text| text.trim() == "vectorkeep-engine 9.8.7"));
    }

    #[test]
    fn the_arguments_are_consistent() {
        command_line("9.8.7").debug_assert();
    }
}
