//! `vectorkeep-operator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vectorkeep_operator::cli::run(&[])
}
