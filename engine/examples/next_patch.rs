//! The engine as its next patch release would be: tests of upgrades need two builds. It knows one more file format, in
//! which nothing is different but the record of it, by which this build refuses a shard.

use std::process::ExitCode;

use vectorkeep_engine::release::Release;
use vectorkeep_engine::storage::format;

/// The version of the package, with a patch number that is one higher.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"), ".1");

// Once the package has another patch number, the one above has to follow.
const _: () = assert!(matches!(env!("CARGO_PKG_VERSION_PATCH").as_bytes(), b"0"));

fn main() -> ExitCode {
    vectorkeep_engine::cli::run(Release { version: VERSION, format: format::NEWEST + 1 })
}
