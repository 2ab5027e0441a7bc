//! Files beside the configuration that may change while the engine runs: it reads them again and again, so a change
//! restarts nothing.
//!
//! | file | what it says |
//! | --- | --- |
//! | `format` | the file format that the operator has committed to, a number; without it the first |
//!
//! The folder is that of the configuration file, which Kubernetes replaces as a whole; for a development engine it is
//! `dev` in its data folder. A file that can't be read counts as missing.

use crate::config::Config;
use crate::storage::format;

const FORMAT: &str = "format";

/// The file format that the operator has committed to.
pub fn format(config: &Config) -> u32 {
    let Some(text) = read(config, FORMAT) else { return format::FIRST };
    text.trim().parse::<u32>().unwrap_or_else(|error| {
        tracing::warn!(file = FORMAT, reason = %error, "the committed format is no number; nothing newer is committed");
        format::FIRST
    })
}

fn read(config: &Config, file: &str) -> Option<String> {
    let path = config.live_dir.as_ref()?.join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(file, reason = %error, "a file of the operator's can't be read");
            None
        }
    }
}
