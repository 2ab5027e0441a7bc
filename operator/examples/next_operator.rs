//! The operator as its next version would be, which renders other pods: tests of operator upgrades need two builds.

use std::process::ExitCode;

fn main() -> ExitCode {
    vectorkeep_operator::cli::run(&[("vectorkeep.dev/rendered-by", "next")])
}
