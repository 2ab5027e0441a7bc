//! `kubectl vectorkeep advisories`: which advisories are open for which clusters, and when that ends.

use std::process::ExitCode;

use clap::Args;
use kube::ResourceExt;
use serde::Serialize;
use vectorkeep_crds::{
    Severity, VectorCluster,
    status::{OpenAdvisory, UpgradeStatus, VectorClusterStatus},
};

use crate::{
    access::{Access, Error},
    output::{self, Format},
    status::condition,
    table::table,
};

/// Of which clusters.
#[derive(Debug, Args)]
pub(crate) struct Advisories {
    /// Name of the VectorCluster. Default: all of the namespace.
    name: Option<String>,
    /// Those of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "name")]
    all_namespaces: bool,
}

/// What is open.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    advisories: Vec<Open>,
    /// Clusters that no operator has judged yet, as namespace and name.
    unknown: Vec<String>,
}

/// One advisory that is open for one cluster.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    #[serde(flatten)]
    advisory: OpenAdvisory,
    namespace: String,
    name: String,
    running: Option<String>,
    /// When the release on offer is taken, if that is known.
    next: Option<String>,
    /// What the operator says about it.
    outlook: Option<String>,
}

pub(crate) async fn run(access: &Access, format: Format, asked: &Advisories) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let clusters = match &asked.name {
        Some(name) => vec![session.existing_cluster(name).await?],
        None => session.all_clusters(asked.all_namespaces).await?,
    };
    let report = report(&clusters);
    output::answer(format, &report, || render(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn report(clusters: &[VectorCluster]) -> Report {
    let unknown = clusters.iter().filter(|cluster| upgrade(cluster).is_none()).map(full_name).collect();
    let mut advisories: Vec<Open> = clusters.iter().flat_map(open).collect();
    advisories.sort_by_cached_key(|open| {
        let urgent = open.advisory.severity == Severity::Security;
        (!urgent, open.advisory.id.clone(), open.namespace.clone(), open.name.clone())
    });
    Report { advisories, unknown }
}

fn upgrade(cluster: &VectorCluster) -> Option<&UpgradeStatus> {
    cluster.status.as_ref()?.upgrade.as_ref()
}

fn full_name(cluster: &VectorCluster) -> String {
    format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any())
}

/// What is open for one cluster.
fn open(cluster: &VectorCluster) -> Vec<Open> {
    let (Some(status), Some(upgrade)) = (&cluster.status, upgrade(cluster)) else { return Vec::new() };
    let next = upgrade.next.as_ref().filter(|_| upgrade.available.is_some());
    let of = |advisory: &OpenAdvisory| Open {
        advisory: advisory.clone(),
        namespace: cluster.namespace().unwrap_or_default(),
        name: cluster.name_any(),
        running: status.version.clone(),
        next: next.cloned(),
        outlook: outlook(status),
    };
    upgrade.advisories.iter().map(of).collect()
}

/// The first sentence of what the operator says about patches: what is under way, when it is taken, or what holds it back.
fn outlook(status: &VectorClusterStatus) -> Option<String> {
    condition(status, "UpToDate")?.message.split(". ").next().map(str::to_owned)
}

fn render(report: &Report) -> String {
    let rows: Vec<_> = report.advisories.iter().map(row).collect();
    let mut text = match rows.is_empty() {
        true => "No advisory is open.\n".to_owned(),
        false => table(["ADVISORY", "SEVERITY", "FIXED IN", "CLUSTER", "RUNNING", "TAKEN"], &rows),
    };
    if !report.unknown.is_empty() {
        text.push_str(&format!("Not known yet of: {}\n", report.unknown.join(", ")));
    }
    text
}

fn row(open: &Open) -> [String; 6] {
    let severity = match open.advisory.severity {
        Severity::Routine => "Routine",
        Severity::Security => "Security",
    };
    [
        open.advisory.id.clone(),
        severity.to_owned(),
        open.advisory.fixed_in.clone(),
        format!("{}/{}", open.namespace, open.name),
        open.running.clone().unwrap_or_default(),
        open.next.clone().or_else(|| open.outlook.clone()).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster of which the operator reports `upgrade` (YAML, in one line).
    fn cluster(name: &str, upgrade: &str) -> VectorCluster {
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: {name}, namespace: acme}}
spec: {{encryption: {{local: {{}}}}}}
status:
  version: 1.4.2
  upgrade: {upgrade}
  conditions:
  - type: UpToDate
    status: 'False'
    reason: PatchOffered
    message: 1.4.3 is on offer; spec.upgrade.paused holds it back. Open security advisories
    lastTransitionTime: x
"
        ))
        .expect("valid")
    }

    #[test]
    fn security_comes_first_with_the_time_at_which_it_ends_or_what_is_in_the_way() {
        let advisories =
            "advisories: [{id: B, severity: Routine, fixedIn: 1.4.3}, {id: C, severity: Security, fixedIn: 1.4.3}]";
        let planned = cluster("planned", &format!("{{available: 1.4.3, next: '2026-01-04T03:00:00Z', {advisories}}}"));
        let paused = cluster("paused", &format!("{{available: 1.4.3, {advisories}}}"));
        let text = render(&report(&[planned, paused]));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("ADVISORY   SEVERITY   FIXED IN   CLUSTER"));
        let held_back = "1.4.3 is on offer; spec.upgrade.paused holds it back";
        assert!(lines[1].starts_with("C          Security   1.4.3      acme/paused") && lines[1].ends_with(held_back));
        assert!(lines[2].contains("acme/planned") && lines[2].ends_with("1.4.2     2026-01-04T03:00:00Z"));
        assert!(lines[3].starts_with("B ") && lines.len() == 5);
    }

    #[test]
    fn what_is_not_known_is_said_and_not_taken_for_nothing() {
        let mut unknown = cluster("new", "{}");
        unknown.status = None;
        let text = render(&report(&[cluster("support", "{}"), unknown]));
        assert_eq!(text, "No advisory is open.\nNot known yet of: acme/new\n");
    }
}
