//! `kubectl vectorkeep`: why a cluster is ready or isn't, what its key policy needs, and how to connect.

mod access;
mod connect;
mod key_policy;
mod output;
mod status;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Looks after VectorClusters from the command line.
#[derive(Debug, Parser)]
#[command(name = "kubectl-vectorkeep", bin_name = "kubectl vectorkeep", version)]
struct Arguments {
    #[command(flatten)]
    access: access::Access,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether a cluster is ready, why, and what to do. Exits with 1 if it is not.
    Status {
        /// Name of the VectorCluster.
        name: String,
    },
    /// Print the statement that the policy of the KMS key needs. Works before the cluster exists.
    KeyPolicy {
        /// Name of the VectorCluster.
        name: String,
        #[command(flatten)]
        given: key_policy::Given,
    },
    /// Write the CA file and print how to connect.
    Connect {
        /// Name of the VectorCluster.
        name: String,
        /// Where to write the CA certificate. Default: NAME-ca.crt.
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Print the initial password too.
        #[arg(long)]
        show_password: bool,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // The only provider that is built in; said once for every library that asks for "the" provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Arguments { access, command } = Arguments::parse();
    let result = match command {
        Command::Status { name } => status::run(&access, &name).await,
        Command::KeyPolicy { name, given } => key_policy::run(&access, &name, &given).await,
        Command::Connect { name, ca_file, show_password } => connect::run(&access, &name, ca_file, show_password).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
