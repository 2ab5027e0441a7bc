//! `kubectl vectorkeep upgrade pause` and `resume`: whether anything new is begun.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use crate::{
    access::{Access, Error},
    output::{self, Format},
};

/// What is true now.
#[derive(Serialize)]
struct Report<'a> {
    namespace: &'a str,
    name: &'a str,
    paused: bool,
}

pub(super) async fn run(access: &Access, format: Format, name: &str, paused: bool) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    session.merge(name, json!({ "spec": { "upgrade": { "paused": paused } } })).await?;
    let report = Report { namespace: &session.namespace, name, paused };
    output::answer(format, &report, || report.render())?;
    Ok(ExitCode::SUCCESS)
}

impl Report<'_> {
    fn render(&self) -> String {
        let Self { namespace, name, paused } = self;
        if *paused {
            format!(
                "{namespace}/{name}: upgrades are paused; what is under way is finished. `kubectl vectorkeep upgrade \
                 resume {name} -n {namespace}` ends the pause.\n"
            )
        } else {
            format!("{namespace}/{name}: upgrades are taken again, in their window.\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_names_the_way_back() {
        let report = Report { namespace: "acme", name: "support", paused: true };
        assert!(report.render().contains("upgrade resume support -n acme"));
        let report = Report { paused: false, ..report };
        assert!(!report.render().contains("resume"));
    }
}
