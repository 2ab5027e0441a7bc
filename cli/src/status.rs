//! `kubectl vectorkeep status`: whether a cluster is ready, why, and what to do.

use std::{fmt::Write as _, process::ExitCode};

use k8s_openapi::api::events::v1::Event;
use serde::Serialize;
use vectorkeep_crds::{
    VectorCluster,
    status::{Condition, VectorClusterStatus},
};

use crate::{
    access::{Access, Error},
    output::{self, Format},
    upgrade,
};

/// What is known of a cluster.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Ready, as of the resource's current generation.
    ready: bool,
    generation: Option<i64>,
    deleting: bool,
    upgrades_paused: bool,
    status: Option<&'a VectorClusterStatus>,
    /// The latest warnings of a cluster that is not ready, newest first.
    warnings: Vec<Warning>,
}

/// What was told about a cluster as a warning.
#[derive(Serialize)]
struct Warning {
    at: String,
    reason: String,
    note: String,
}

pub(crate) async fn run(access: &Access, format: Format, name: &str) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let cluster = session.existing_cluster(name).await?;
    let ready = is_ready(&cluster);
    let report = Report {
        namespace: &session.namespace,
        name,
        ready,
        generation: cluster.metadata.generation,
        deleting: cluster.metadata.deletion_timestamp.is_some(),
        upgrades_paused: cluster.spec.upgrade.paused,
        status: cluster.status.as_ref(),
        warnings: if ready { Vec::new() } else { latest(session.warnings(&cluster).await) },
    };
    output::answer(format, &report, || {
        render(&session.namespace, name, &cluster) + &render_warnings(&report.warnings)
    })?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ready, as of the resource's current generation.
pub(crate) fn is_ready(cluster: &VectorCluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| {
        status.observed_generation >= cluster.metadata.generation
            && condition(status, "Ready").is_some_and(|ready| ready.status == "True")
    })
}

/// A condition by its type.
pub(crate) fn condition<'a>(status: &'a VectorClusterStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

fn render(namespace: &str, name: &str, cluster: &VectorCluster) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write_status(&mut text, namespace, name, cluster);
    text
}

/// The latest warnings, newest first: what failed between two conditions is only told there.
fn latest(mut events: Vec<Event>) -> Vec<Warning> {
    const SHOWN: usize = 3;
    let time = |event: &Event| {
        let series = event.series.as_ref().map(|series| series.last_observed_time.0);
        series.or(event.event_time.as_ref().map(|time| time.0))
    };
    events.sort_by_key(time);
    let newest = events.iter().rev().take(SHOWN);
    newest
        .map(|event| Warning {
            at: time(event).map(|time| time.to_string()).unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            note: event.note.clone().unwrap_or_default(),
        })
        .collect()
}

fn render_warnings(warnings: &[Warning]) -> String {
    let mut text = String::new();
    for Warning { at, reason, note } in warnings {
        let _ = writeln!(text, "  Warning at {at:.19}: {reason}: {note}");
    }
    text
}

fn write_status(text: &mut String, namespace: &str, name: &str, cluster: &VectorCluster) -> std::fmt::Result {
    let Some(status) = &cluster.status else {
        return writeln!(
            text,
            "{namespace}/{name}: NOT READY\n  No operator has looked at it yet. Check that the operator runs."
        );
    };
    let headline = match (is_ready(cluster), condition(status, "Ready")) {
        (true, _) => "READY",
        (false, Some(ready)) if ready.status == "Unknown" => "UNKNOWN",
        (false, _) => "NOT READY",
    };
    writeln!(text, "{namespace}/{name}: {headline}")?;
    if cluster.metadata.deletion_timestamp.is_some() {
        writeln!(text, "  It is being deleted.")?;
    }
    if status.observed_generation < cluster.metadata.generation {
        writeln!(
            text,
            "  The operator has not seen the latest change of the resource yet; what follows is of the one before."
        )?;
    }
    if let Some(ready) = condition(status, "Ready") {
        writeln!(text, "  {}: {}", ready.reason, ready.message)?;
    }
    writeln!(text)?;
    for (title, value) in [
        ("Cluster id", &status.cluster_id),
        ("Namespace", &status.data_plane_namespace),
        ("Endpoint", &status.endpoint),
        ("Connection", &status.connection_secret),
        ("Engine", &status.version),
    ] {
        if let Some(value) = value {
            writeln!(text, "  {title:<12} {value}")?;
        }
    }
    if let Some(key) = &status.key {
        let detail = match &key.last_success {
            Some(time) => format!(" (last answer at {time})"),
            None => String::new(),
        };
        writeln!(text, "  {:<12} {}{detail}", "Key", key.state)?;
    }
    if let Some(certificates) = &status.certificates
        && let Some(end) = &certificates.serving_not_after
    {
        writeln!(text, "  {:<12} valid until {end}", "Certificate")?;
    }
    for (title, value) in upgrade::outlook(namespace, name, cluster) {
        writeln!(text, "  {title:<12} {value}")?;
    }
    writeln!(text)?;
    for condition in &status.conditions {
        if condition.type_ != "Ready" {
            writeln!(
                text,
                "  {:<18} {:<8} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(ready: &str, observed: i64) -> VectorCluster {
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: support, namespace: acme, generation: 2}}
spec: {{encryption: {{local: {{}}}}}}
status:
  observedGeneration: {observed}
  clusterId: vc1
  key: {{state: Refused, lastSuccess: '2026-01-01T00:00:00Z'}}
  conditions:
  - {{type: Ready, status: '{ready}', reason: KeyRefused, message: enable the key, lastTransitionTime: x}}
  - {{type: KeyAccessible, status: 'False', reason: KeyRefused, message: enable it, lastTransitionTime: x}}
"
        ))
        .expect("valid")
    }

    #[test]
    fn the_reason_and_the_remedy_come_first() {
        let text = render("acme", "support", &cluster("False", 2));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("acme/support: NOT READY"));
        assert_eq!(lines.next(), Some("  KeyRefused: enable the key"));
        assert!(text.contains("last answer at 2026-01-01T00:00:00Z"));
    }

    #[test]
    fn upgrades_are_shown_with_what_is_next() {
        let mut cluster = cluster("True", 2);
        let upgrade = serde_yaml_ng::from_str("{available: 1.4.3, next: '2026-01-04T03:00:00Z'}").expect("valid");
        cluster.status.as_mut().expect("a status").upgrade = Some(upgrade);
        let text = render("acme", "support", &cluster);
        assert!(text.contains("\n  Available    1.4.3, taken at 2026-01-04T03:00:00Z\n"));
    }

    #[test]
    fn the_latest_warnings_come_first() {
        let event = |time: &str| -> Event {
            serde_json::from_value(serde_json::json!({
                "eventTime": time, "reason": "WriteFailed", "note": "no quota", "metadata": {}
            }))
            .expect("valid")
        };
        let warnings = latest(vec![event("2026-01-01T00:00:00.000000Z"), event("2026-01-02T00:00:00.000000Z")]);
        let text = render_warnings(&warnings);
        assert!(text.starts_with("  Warning at 2026-01-02T00:00:00: WriteFailed: no quota\n"));
    }

    #[test]
    fn a_status_of_an_older_generation_is_not_ready() {
        assert!(is_ready(&cluster("True", 2)));
        assert!(!is_ready(&cluster("True", 1)));
        assert!(render("acme", "support", &cluster("True", 1)).contains("latest change"));
    }

    #[test]
    fn without_a_status_the_operator_is_to_be_looked_at() {
        let mut cluster = cluster("True", 2);
        cluster.status = None;
        assert!(render("acme", "support", &cluster).contains("operator runs"));
    }
}
