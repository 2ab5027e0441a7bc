//! `kubectl vectorkeep upgrade history`: what is on offer, and what was rolled out.

use std::process::ExitCode;

use serde::Serialize;
use vectorkeep_crds::{
    VectorCluster,
    status::{UpgradeInProgress, UpgradeReport},
};

use super::{outlook, reported};
use crate::{
    access::{Access, Error},
    duration,
    output::{self, Format},
    table::table,
};

/// What the operator reports, with nothing left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    namespace: &'a str,
    name: &'a str,
    paused: bool,
    available: Option<&'a str>,
    next: Option<&'a str>,
    in_progress: Option<&'a UpgradeInProgress>,
    history: &'a [UpgradeReport],
}

pub(super) async fn run(access: &Access, format: Format, name: &str) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let cluster = session.existing_cluster(name).await?;
    let upgrade = reported(&cluster);
    let report = Report {
        namespace: &session.namespace,
        name,
        paused: cluster.spec.upgrade.paused,
        available: upgrade.and_then(|upgrade| upgrade.available.as_deref()),
        next: upgrade.and_then(|upgrade| upgrade.next.as_deref()),
        in_progress: upgrade.and_then(|upgrade| upgrade.in_progress.as_ref()),
        history: upgrade.map_or(&[][..], |upgrade| &upgrade.history),
    };
    output::answer(format, &report, || render(&session.namespace, name, &cluster))?;
    Ok(ExitCode::SUCCESS)
}

fn render(namespace: &str, name: &str, cluster: &VectorCluster) -> String {
    let mut text = String::new();
    for (title, value) in outlook(namespace, name, cluster) {
        text.push_str(&format!("{title:<12} {value}\n"));
    }
    if text.is_empty() {
        text.push_str("Nothing is on offer.\n");
    }
    let history = reported(cluster).map_or(&[][..], |upgrade| &upgrade.history);
    if history.is_empty() {
        text.push_str("Nothing was rolled out yet.\n");
        return text;
    }
    let rows: Vec<_> = history.iter().map(row).collect();
    text.push('\n');
    text.push_str(&table(["STARTED", "FROM", "TO", "OUTCOME", "DURATION", "UNAVAILABLE", "WINDOW", "REASON"], &rows));
    text
}

fn row(report: &UpgradeReport) -> [String; 8] {
    [
        report.started.clone(),
        report.from.clone(),
        report.to.clone(),
        report.outcome.clone(),
        duration::show(report.duration_seconds),
        duration::show(report.unavailable_seconds),
        report.window.clone().unwrap_or_default(),
        report.reason.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::tests::{cluster, report};

    #[test]
    fn the_history_is_a_table_in_the_order_of_the_status() {
        let (second, first) =
            (report("2026-01-02T03:00:00Z", "Succeeded"), report("2026-01-01T03:00:00Z", "RolledBack"));
        let cluster = cluster(false, &format!("{{available: 1.4.4, history: [{second}, {first}]}}"));
        let text = render("acme", "support", &cluster);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("Available    1.4.4"));
        assert!(lines[2].starts_with("STARTED ") && lines[2].ends_with("REASON"));
        assert!(lines[3].starts_with("2026-01-02T03:00:00Z   1.4.2   1.4.3   Succeeded"));
        assert!(lines[3].contains("3m05s") && lines[3].contains("4s"));
        assert!(lines[4].contains("RolledBack"));
    }

    #[test]
    fn an_empty_history_is_said() {
        assert_eq!(
            render("acme", "support", &cluster(false, "{}")),
            "Nothing is on offer.\nNothing was rolled out yet.\n"
        );
    }
}
