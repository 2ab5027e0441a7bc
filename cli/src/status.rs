//! `kubectl vectorkeep status`: whether a cluster is ready, why, and what to do.

use std::{fmt::Write as _, process::ExitCode};

use k8s_openapi::api::events::v1::Event;
use vectorkeep_crds::{
    VectorCluster,
    status::{Condition, VectorClusterStatus},
};

use crate::{
    access::{Access, Error},
    output,
};

pub(crate) async fn run(access: &Access, name: &str) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let cluster = session.existing_cluster(name).await?;
    let mut text = render(&session.namespace, name, &cluster);
    if !is_ready(&cluster) {
        text.push_str(&render_warnings(session.warnings(&cluster).await));
    }
    output::print(&text)?;
    Ok(if is_ready(&cluster) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ready, as of the resource's current generation.
fn is_ready(cluster: &VectorCluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| {
        status.observed_generation >= cluster.metadata.generation
            && condition(status, "Ready").is_some_and(|ready| ready.status == "True")
    })
}

fn condition<'a>(status: &'a VectorClusterStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

fn render(namespace: &str, name: &str, cluster: &VectorCluster) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write_status(&mut text, namespace, name, cluster);
    text
}

/// The latest warnings, newest first: what failed between two conditions is only told there.
fn render_warnings(mut events: Vec<Event>) -> String {
    const SHOWN: usize = 3;
    let time = |event: &Event| {
        let series = event.series.as_ref().map(|series| series.last_observed_time.0);
        series.or(event.event_time.as_ref().map(|time| time.0))
    };
    events.sort_by_key(time);
    let mut text = String::new();
    for event in events.iter().rev().take(SHOWN) {
        let at = time(event).map(|time| time.to_string()).unwrap_or_default();
        let reason = event.reason.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  Warning at {at:.19}: {reason}: {}", event.note.as_deref().unwrap_or_default());
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
