//! `vectorkeep-engine`: the engine of one cluster, or an embedded one for development.

use std::process::ExitCode;

fn main() -> ExitCode {
    vectorkeep_engine::cli::run(env!("CARGO_PKG_VERSION"))
}
