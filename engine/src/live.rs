//! Files beside the configuration that may change while the engine runs: it reads them again and again, so a change
//! restarts nothing.
//!
//! | file | what it says |
//! | --- | --- |
//! | `format` | the file format that the operator has committed to, a number; without it the first |
//! | `isolation.json` | what must not be reached: `{"targets": [{"name": …, "address": "host:port", "decides": true}, …]}` |
//!
//! Without the latter, what the configuration forbids must not be reached.
//! The folder is that of the configuration file, which Kubernetes replaces as a whole; for a development engine it is
//! `dev` in its data folder. A file that can't be read counts as missing. Unlike in the configuration, keys that
//! nobody knows are passed over: the operator may be newer than the engine.

use serde::Deserialize;

use crate::config::{Config, is_host_and_port};
use crate::isolation::Target;
use crate::storage::format;

const FORMAT: &str = "format";
const ISOLATION: &str = "isolation.json";

#[derive(Deserialize)]
struct Isolation {
    targets: Vec<Target>,
}

/// The file format that the operator has committed to.
pub fn format(config: &Config) -> u32 {
    let Some(text) = read(config, FORMAT) else { return format::FIRST };
    text.trim().parse::<u32>().unwrap_or_else(|error| {
        tracing::warn!(file = FORMAT, reason = %error, "the committed format is no number; nothing newer is committed");
        format::FIRST
    })
}

/// The listeners that must not be reached, if the operator names them.
pub fn targets(config: &Config) -> Option<Vec<Target>> {
    let parsed = parse_targets(&read(config, ISOLATION)?);
    parsed
        .inspect_err(|reason| {
            tracing::warn!(file = ISOLATION, %reason, "the listeners that must not be reached are not understood");
        })
        .ok()
}

fn parse_targets(text: &str) -> Result<Vec<Target>, String> {
    let Isolation { targets } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match targets.iter().find(|target| !is_host_and_port(&target.address)) {
        Some(target) => Err(format!("the address of {} is not host:port", target.name)),
        None => Ok(targets),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_with_what_a_newer_operator_says_beside_and_a_wrong_address_spoils_them_all() {
        let good = r#"{"targets": [{"name": "a", "address": "10.0.0.1:80", "later": 1}], "later": {}}"#;
        let target = Target { name: "a".into(), address: "10.0.0.1:80".into(), decides: true };
        assert_eq!(parse_targets(good), Ok(vec![target]));
        assert_eq!(parse_targets(r#"{"targets": []}"#), Ok(Vec::new()));
        let wrong = parse_targets(&good.replace(":80", ""));
        assert!(wrong.is_err_and(|reason| reason.contains("address of a")));
        assert!(parse_targets("{").is_err() && parse_targets("{}").is_err());
    }
}
