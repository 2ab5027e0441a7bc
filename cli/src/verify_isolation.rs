//! `kubectl vectorkeep verify-isolation`: a fresh proof that a cluster's network policies are enforced.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vectorkeep_crds::{
    VectorCluster,
    status::{Condition, IsolationProbe, IsolationStatus, ProbeVerdict},
    well_known::ANNOTATION_VERIFY_ISOLATION,
};

use crate::{
    access::{Access, Error},
    duration,
    output::{self, Format, Progress},
    status::condition,
    table::table,
    wait::{self, Pace},
};

/// Seconds between two lines of a wait in which nothing else changes.
const TELL_EVERY: u64 = 30;

/// Flags of `verify-isolation`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Name of the VectorCluster.
    name: String,
    /// How long to wait for a fresh proof. The engine tries about every minute.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration::parse)]
    timeout: Duration,
}

/// What was found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Whether the engine reached nothing that it must not reach, and the operator reached something of it.
    proven: bool,
    /// The targets, and who reached them.
    isolation: Option<&'a IsolationStatus>,
    /// The condition `NetworkIsolated`.
    condition: Option<&'a Condition>,
}

pub(crate) async fn run(access: &Access, format: Format, verify: &Verify) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let name = verify.name.as_str();
    // Whole seconds, as the status has them.
    let asked = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_else(|_| Timestamp::now());
    session.annotate(name, ANNOTATION_VERIFY_ISOLATION, &asked.to_string()).await?;
    eprintln!("# The engine tries what it must not reach, and the operator tries it too. That takes about a minute.");
    let pace = Pace { every: Duration::from_secs(1), limit: verify.timeout };
    let mut progress = Progress::default();
    let fresh = wait::until(&session, name, pace, |cluster, since| {
        let fresh = is_fresh(cluster, asked).then(|| cluster.clone());
        if fresh.is_none() {
            progress.say(standing(cluster, since));
        }
        fresh
    });
    let Some(cluster) = fresh.await? else {
        return Err(Error::NoProof { name: name.to_owned(), namespace: session.namespace.clone() });
    };
    let report = Report {
        namespace: &session.namespace,
        name,
        proven: is_proven(&cluster),
        isolation: isolation(&cluster),
        condition: isolated(&cluster),
    };
    output::answer(format, &report, || render(&cluster))?;
    Ok(if report.proven { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn isolation(cluster: &VectorCluster) -> Option<&IsolationStatus> {
    cluster.status.as_ref()?.isolation.as_ref()
}

fn isolated(cluster: &VectorCluster) -> Option<&Condition> {
    condition(cluster.status.as_ref()?, "NetworkIsolated")
}

fn is_fresh(cluster: &VectorCluster, asked: Timestamp) -> bool {
    let checked = isolation(cluster).and_then(|isolation| isolation.checked.parse::<Timestamp>().ok());
    checked.is_some_and(|checked| checked >= asked)
}

fn is_proven(cluster: &VectorCluster) -> bool {
    isolated(cluster).is_some_and(|isolated| isolated.status == "True")
}

/// What is known of the isolation while a fresh proof is waited for.
fn standing(cluster: &VectorCluster, since: Duration) -> String {
    let waited = since.as_secs() / TELL_EVERY * TELL_EVERY;
    let tried = match isolation(cluster) {
        Some(isolation) => {
            let apart = isolation.probes.iter().filter(|probe| probe.verdict == ProbeVerdict::Isolated).count();
            let (all, checked) = (isolation.probes.len(), &isolation.checked);
            format!("{apart} of {all} targets are isolated as of {checked}")
        }
        None => "nothing is reported yet".to_owned(),
    };
    let condition = match isolated(cluster) {
        Some(isolated) => format!(", NetworkIsolated={} ({})", isolated.status, isolated.reason),
        None => String::new(),
    };
    format!("  {waited} s: {tried}{condition}")
}

fn render(cluster: &VectorCluster) -> String {
    let rows: Vec<_> = isolation(cluster).into_iter().flat_map(|isolation| &isolation.probes).map(row).collect();
    let mut text = table(["TARGET", "WHAT", "ENGINE", "OPERATOR (CONTROL)", "VERDICT"], &rows);
    if let Some(isolated) = isolated(cluster) {
        text.push_str(&format!("\nNetworkIsolated={} {}: {}\n", isolated.status, isolated.reason, isolated.message));
    }
    text
}

fn row(probe: &IsolationProbe) -> [String; 5] {
    let reached = |reached: bool| if reached { "reached" } else { "not reached" }.to_owned();
    let verdict = match probe.verdict {
        ProbeVerdict::Reached => "REACHED",
        ProbeVerdict::Isolated => "isolated",
        ProbeVerdict::NotProven => "not proven",
    };
    [
        probe.target.clone(),
        what(&probe.target).to_owned(),
        reached(probe.engine_reached),
        reached(probe.control_reached),
        verdict.to_owned(),
    ]
}

/// What a target is, for people.
fn what(target: &str) -> &'static str {
    match target.split_once(':') {
        Some((_, "19530")) => "another cluster's client port",
        Some((_, "9092")) => "another cluster's admin port",
        Some((_, "9091")) => "another cluster's metrics",
        Some(_) => "",
        None if target == "kubernetes-api" => "the Kubernetes API server",
        None if target == "cloud-metadata" => "the cloud's metadata service",
        None if target.starts_with("operator") => "the operator's own listener",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(isolated: &str, verdict: &str) -> VectorCluster {
        let (engine, control) = (verdict == "Reached", verdict != "NotProven");
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: support, namespace: acme}}
spec: {{encryption: {{local: {{}}}}}}
status:
  isolation:
    checked: '2026-01-01T00:00:30Z'
    probes: [{{target: 'other-cluster-1:9092', engineReached: {engine}, controlReached: {control}, verdict: {verdict}}}]
  conditions:
  - {{type: NetworkIsolated, status: '{isolated}', reason: R, message: as it is, lastTransitionTime: x}}
"
        ))
        .expect("valid")
    }

    #[test]
    fn a_proof_takes_an_engine_that_fails_and_an_operator_that_does_not() {
        let proven = render(&cluster("True", "Isolated"));
        let line = "other-cluster-1:9092   another cluster's admin port   not reached   reached              isolated";
        assert!(proven.contains(line), "{proven}");
        assert!(render(&cluster("False", "Reached")).contains("REACHED"));
        assert!(render(&cluster("Unknown", "NotProven")).contains("not proven"));
        assert!(is_proven(&cluster("True", "Isolated")) && !is_proven(&cluster("Unknown", "NotProven")));
    }

    #[test]
    fn a_wait_tells_what_is_known_and_every_half_minute_that_it_goes_on() {
        let mut cluster = cluster("True", "Isolated");
        let known = "1 of 1 targets are isolated as of 2026-01-01T00:00:30Z, NetworkIsolated=True (R)";
        assert_eq!(standing(&cluster, Duration::from_secs(29)), format!("  0 s: {known}"));
        assert_eq!(standing(&cluster, Duration::from_secs(65)), format!("  60 s: {known}"));
        cluster.status = None;
        assert_eq!(standing(&cluster, Duration::ZERO), "  0 s: nothing is reported yet");
    }

    #[test]
    fn a_proof_from_before_the_request_does_not_count() {
        let cluster = cluster("True", "Isolated");
        assert!(is_fresh(&cluster, "2026-01-01T00:00:30Z".parse().expect("a time")));
        assert!(!is_fresh(&cluster, "2026-01-01T00:00:31Z".parse().expect("a time")));
    }
}
