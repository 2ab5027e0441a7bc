//! `kubectl vectorkeep`: why a cluster is ready or isn't, what its key policy needs, how to connect, how its patches,
//! advisories and certificates stand, and a drill of its kill switch.

mod access;
mod advisories;
mod certificates;
mod connect;
mod duration;
mod key_policy;
mod output;
mod revoke_drill;
mod status;
mod table;
mod upgrade;
mod verify_isolation;
mod wait;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::output::Format;

/// Looks after VectorClusters from the command line.
#[derive(Debug, Parser)]
#[command(name = "kubectl-vectorkeep", bin_name = "kubectl vectorkeep", version)]
struct Arguments {
    #[command(flatten)]
    access: access::Access,
    /// How answers are written on standard output. Progress and hints go to standard error.
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
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
    /// Write the files with what a client trusts and shows, and print how to connect.
    Connect {
        /// Name of the VectorCluster.
        name: String,
        /// Where to write the CA certificate, if there is one to trust. Default: NAME-ca.crt. What clients show goes beside
        /// it, into NAME-client.crt and NAME-client.key.
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Print the initial password too.
        #[arg(long)]
        show_password: bool,
    },
    /// Look after patches: take them now, hold them back, see what was done.
    #[command(subcommand)]
    Upgrade(upgrade::Command),
    /// Show which advisories are open, for which clusters, and when the release that answers them is taken.
    Advisories(advisories::Advisories),
    /// Show when certificates end.
    Certificates {
        /// Name of the VectorCluster.
        name: String,
        /// Ask for new certificate authorities.
        #[arg(long)]
        rotate_ca: bool,
    },
    /// Let engine and operator try what the engine must not reach (operator, API server, cloud metadata, other clusters),
    /// and print who got where. Exits with 1 if something is reached, or isolation is not proven.
    VerifyIsolation(verify_isolation::Verify),
    /// Rehearse the kill switch, on a cluster that allows it, and measure cut-off and return.
    RevokeDrill(revoke_drill::Drill),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // The only provider that is built in; said once for every library that asks for "the" provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Arguments { access, output: format, command } = Arguments::parse();
    let result = match command {
        Command::Status { name } => status::run(&access, format, &name).await,
        // A policy statement is JSON in any case.
        Command::KeyPolicy { name, given } => key_policy::run(&access, &name, &given).await,
        Command::Connect { name, ca_file, show_password } => {
            connect::run(&access, format, &name, ca_file, show_password).await
        }
        Command::Upgrade(command) => command.run(&access, format).await,
        Command::Advisories(asked) => advisories::run(&access, format, &asked).await,
        Command::Certificates { name, rotate_ca } => certificates::run(&access, format, &name, rotate_ca).await,
        Command::VerifyIsolation(verify) => verify_isolation::run(&access, format, &verify).await,
        Command::RevokeDrill(drill) => revoke_drill::run(&access, format, &drill).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.causes() {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
