//! `kubectl vectorkeep upgrade`: patches: what is on offer, taking it now, holding it back, what was done.

mod history;
mod now;
mod pause;

use std::process::ExitCode;

use clap::Subcommand;
use vectorkeep_crds::{VectorCluster, status::UpgradeStatus};

use crate::{
    access::{Access, Error},
    output::Format,
};

/// What to do about a cluster's patches.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take what is on offer now, outside the window, and wait for the end. Exits with 1 if it was not kept.
    Now(now::Now),
    /// Begin nothing new, not even a security release, until `resume`. What is under way is finished.
    Pause {
        /// Name of the VectorCluster.
        name: String,
    },
    /// Let upgrades begin again.
    Resume {
        /// Name of the VectorCluster.
        name: String,
    },
    /// Show what is on offer, and what was rolled out, newest first.
    History {
        /// Name of the VectorCluster.
        name: String,
    },
}

impl Command {
    pub(crate) async fn run(&self, access: &Access, format: Format) -> Result<ExitCode, Error> {
        match self {
            Self::Now(now) => now::run(access, format, now).await,
            Self::Pause { name } => pause::run(access, format, name, true).await,
            Self::Resume { name } => pause::run(access, format, name, false).await,
            Self::History { name } => history::run(access, format, name).await,
        }
    }
}

/// What is under way, what is on offer and when it is taken: titles and their values, none if there is nothing to say.
pub(crate) fn outlook(namespace: &str, name: &str, cluster: &VectorCluster) -> Vec<(&'static str, String)> {
    let paused = cluster.spec.upgrade.paused;
    let mut lines = Vec::new();
    if let Some(upgrade) = reported(cluster) {
        if let Some(rollout) = &upgrade.in_progress {
            let change = change(&rollout.from, &rollout.to);
            lines.push(("In progress", format!("{change} since {}, waits for {}", rollout.started, rollout.waits_for)));
        }
        match (&upgrade.available, &upgrade.next) {
            (Some(version), _) if paused => lines.push(("Available", format!("{version}, held back"))),
            (Some(version), Some(next)) => lines.push(("Available", format!("{version}, taken at {next}"))),
            (Some(version), None) => lines.push((
                "Available",
                format!("{version}, not planned; `kubectl vectorkeep upgrade now {name} -n {namespace}` takes it"),
            )),
            (None, Some(next)) => lines.push(("Next upgrade", next.clone())),
            (None, None) => {}
        }
    }
    if paused {
        let resume = format!("`kubectl vectorkeep upgrade resume {name} -n {namespace}`");
        lines.push(("Upgrades", format!("paused: nothing new is begun until {resume}")));
    }
    lines
}

/// What the operator reports of a cluster's patches.
fn reported(cluster: &VectorCluster) -> Option<&UpgradeStatus> {
    cluster.status.as_ref()?.upgrade.as_ref()
}

/// What a rollout changes.
fn change(from: &str, to: &str) -> String {
    if from == to { format!("a renewed pod template of {to}") } else { format!("{from} -> {to}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster of which the operator reports `upgrade` (YAML, in one line).
    pub(super) fn cluster(paused: bool, upgrade: &str) -> VectorCluster {
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: support, namespace: acme, generation: 2}}
spec: {{encryption: {{local: {{}}}}, upgrade: {{paused: {paused}}}}}
status:
  observedGeneration: 2
  upgrade: {upgrade}
  conditions:
  - {{type: UpToDate, status: 'True', reason: Current, message: the newest is in use, lastTransitionTime: x}}
"
        ))
        .expect("valid")
    }

    /// A rollout that is over, as YAML in one line.
    pub(super) fn report(started: &str, outcome: &str) -> String {
        format!(
            "{{from: 1.4.2, to: 1.4.3, started: '{started}', durationSeconds: 185, outcome: {outcome}, \
             unavailableSeconds: 4}}"
        )
    }

    /// A rollout that is under way, as YAML in one line.
    pub(super) fn rollout(waits_for: &str) -> String {
        format!("{{from: 1.4.2, to: 1.4.3, started: '2026-01-01T03:00:00Z', waitsFor: {waits_for}}}")
    }

    #[test]
    fn what_is_on_offer_is_shown_with_its_time() {
        let cluster = cluster(false, "{available: 1.4.3, next: '2026-01-04T03:00:00Z'}");
        assert_eq!(
            outlook("acme", "support", &cluster),
            [("Available", "1.4.3, taken at 2026-01-04T03:00:00Z".to_owned())]
        );
    }

    #[test]
    fn what_is_under_way_says_what_it_waits_for() {
        let cluster = cluster(false, &format!("{{inProgress: {}}}", rollout("the pod")));
        let lines = outlook("acme", "support", &cluster);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].1, "1.4.2 -> 1.4.3 since 2026-01-01T03:00:00Z, waits for the pod");
    }

    #[test]
    fn a_pause_is_shown_with_its_end() {
        let lines = outlook("acme", "support", &cluster(true, "{available: 1.4.3, next: '2026-01-04T03:00:00Z'}"));
        assert_eq!(lines[0], ("Available", "1.4.3, held back".to_owned()));
        assert!(lines[1].1.contains("upgrade resume support -n acme"));
    }

    #[test]
    fn where_nothing_is_on_offer_nothing_is_said() {
        assert!(outlook("acme", "support", &cluster(false, "{}")).is_empty());
    }
}
