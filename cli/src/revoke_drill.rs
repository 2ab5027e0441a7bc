//! `kubectl vectorkeep revoke-drill`: rehearses the kill switch and measures it.
//!
//! The key is its owner's: they disable and enable it, and this command measures how long the operator takes to report
//! what comes of it. The engine itself is never slower than that.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde::Serialize;
use vectorkeep_crds::{VectorCluster, arn::KeyArn};

use crate::{
    access::{Access, Error, Session},
    duration,
    output::{self, Format, Progress},
    status::{condition, is_ready},
    wait::{self, Pace},
};

/// A cluster's consent to drills.
const ANNOTATION_DRILL: &str = "vectorkeep.dev/revoke-drill";

/// Value of [`ANNOTATION_DRILL`].
const ALLOWED: &str = "allowed";

/// Time between two looks at the status: what is measured is as exact as that.
const EVERY: Duration = Duration::from_millis(200);

/// What the figures are, and what they are not.
const MEASURED: &str = "from the start of the clock until the operator reported it, looked at every 200 ms";

/// Flags of `revoke-drill`.
#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// Name of the VectorCluster.
    name: String,
    /// Don't wait for Enter: the first clock starts at once, the second one when the cluster is cut off.
    #[arg(long)]
    yes: bool,
    /// How long to wait for the cut-off, and then for the return.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    timeout: Duration,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    namespace: &'a str,
    name: &'a str,
    key_arn: &'a str,
    /// Bound of the kill switch, as the resource says.
    check_interval: &'a str,
    cut_off_seconds: f64,
    cut_off_reason: &'a str,
    recovery_seconds: f64,
    measured: &'static str,
}

pub(crate) async fn run(access: &Access, format: Format, drill: &Drill) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let name = drill.name.as_str();
    let cluster = session.existing_cluster(name).await?;
    let key = Key::of(&session.namespace, name, &cluster)?;
    let title = format!("{}/{name}", session.namespace);
    eprintln!("{title}: drill of the kill switch. It serves nobody until the key is enabled again.");

    start_clock(&format!("Disable the key:\n  {}", key.command("disable-key")), drill.yes).await?;
    let cut_off = watch(&session, drill, cut_off).await?;
    let Some((reason, cut_off_after)) = cut_off else {
        let remedy = format!(
            "Check that the right key was disabled and that `kubectl vectorkeep status {name} -n {}` is up to date; \
             then enable the key again: `{}`",
            session.namespace,
            key.command("enable-key")
        );
        return Err(too_slow(title, "the operator did not report the cut-off", drill, remedy));
    };
    eprintln!("Cut off after {:.1} s ({reason}).", rounded(cut_off_after));

    start_clock(&format!("Enable the key again:\n  {}", key.command("enable-key")), drill.yes).await?;
    let recovered = watch(&session, drill, |cluster| has_recovered(cluster).then_some(())).await?;
    let Some(((), recovered_after)) = recovered else {
        let remedy = format!(
            "Check that the key is enabled; `kubectl vectorkeep status {name} -n {}` says what the cluster waits for",
            session.namespace
        );
        return Err(too_slow(title, "the cluster did not return", drill, remedy));
    };

    let report = Report {
        namespace: &session.namespace,
        name,
        key_arn: &key.arn,
        check_interval: &cluster.spec.encryption.check_interval,
        cut_off_seconds: rounded(cut_off_after),
        cut_off_reason: &reason,
        recovery_seconds: rounded(recovered_after),
        measured: MEASURED,
    };
    output::answer(format, &report, || report.render())?;
    Ok(ExitCode::SUCCESS)
}

/// The key of a cluster that may be drilled.
#[derive(Debug)]
struct Key {
    arn: String,
    region: String,
    /// Where the KMS is asked, if not at the public address of the region.
    endpoint: Option<String>,
}

impl Key {
    fn of(namespace: &str, name: &str, cluster: &VectorCluster) -> Result<Self, Error> {
        let annotations = cluster.metadata.annotations.as_ref();
        let consent = annotations.and_then(|annotations| annotations.get(ANNOTATION_DRILL));
        if consent.is_none_or(|consent| consent != ALLOWED) {
            return Err(Error::DrillNotAllowed {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                annotation: ANNOTATION_DRILL,
                value: ALLOWED,
            });
        }
        let Some(aws) = &cluster.spec.encryption.aws else {
            return Err(Error::DrillOfLocalKey(format!("{namespace}/{name}")));
        };
        if !has_recovered(cluster) {
            return Err(Error::DrillNotReady { name: name.to_owned(), namespace: namespace.to_owned() });
        }
        Ok(Self {
            arn: aws.key_arn.clone(),
            region: KeyArn::parse(&aws.key_arn)?.region,
            endpoint: aws.endpoints.as_ref().and_then(|endpoints| endpoints.kms.clone()),
        })
    }

    /// How the owner does something to the key.
    fn command(&self, verb: &str) -> String {
        let endpoint = match &self.endpoint {
            Some(endpoint) => format!(" --endpoint-url {endpoint}"),
            None => String::new(),
        };
        format!("aws kms {verb} --region {} --key-id {}{endpoint}", self.region, self.arn)
    }
}

/// Tells what to do, and returns when it is being done.
async fn start_clock(task: &str, yes: bool) -> Result<(), Error> {
    if yes {
        eprintln!("{task}\nThe clock runs.");
        return Ok(());
    }
    eprintln!("{task}\nPress Enter when you do: the clock starts then.");
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    match read.await {
        Ok(Ok(0)) | Err(_) => Err(Error::NobodyAnswers),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(Error::Ask(source)),
    }
}

/// Watches the status until `judge` sees what it waits for, and after which time that was.
async fn watch<T>(
    session: &Session,
    drill: &Drill,
    judge: impl Fn(&VectorCluster) -> Option<T>,
) -> Result<Option<(T, Duration)>, Error> {
    let pace = Pace { every: EVERY, limit: drill.timeout };
    let mut progress = Progress::default();
    wait::until(session, &drill.name, pace, |cluster, since| {
        let found = judge(cluster).map(|found| (found, since));
        if found.is_none() {
            progress.say(standing(cluster));
        }
        found
    })
    .await
}

/// Why a cluster is cut off; none if it isn't. A KMS that is silent refuses nothing: the cluster may still serve.
fn cut_off(cluster: &VectorCluster) -> Option<String> {
    let status = cluster.status.as_ref()?;
    let (key, ready) = (condition(status, "KeyAccessible")?, condition(status, "Ready")?);
    let refused = key.status == "False" && key.reason != "KeyUnreachable";
    (refused && ready.status == "False").then(|| key.reason.clone())
}

/// Whether a cluster serves, with a key that answers.
fn has_recovered(cluster: &VectorCluster) -> bool {
    let status = cluster.status.as_ref();
    let key = status.and_then(|status| condition(status, "KeyAccessible"));
    is_ready(cluster) && key.is_some_and(|key| key.status == "True")
}

/// What the operator reports while something else is waited for.
fn standing(cluster: &VectorCluster) -> String {
    let shown = ["KeyAccessible", "Ready"].map(|type_| {
        match cluster.status.as_ref().and_then(|status| condition(status, type_)) {
            Some(condition) => format!("{type_}={} ({})", condition.status, condition.reason),
            None => format!("{type_} is not reported"),
        }
    });
    format!("  {}", shown.join(", "))
}

fn too_slow(cluster: String, missing: &str, drill: &Drill, remedy: String) -> Error {
    Error::TooSlow { cluster, missing: missing.to_owned(), limit: duration::show_limit(drill.timeout), remedy }
}

/// Seconds, to the millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

impl Report<'_> {
    fn render(&self) -> String {
        let Self {
            namespace,
            name,
            key_arn,
            check_interval,
            cut_off_seconds,
            cut_off_reason,
            recovery_seconds,
            measured,
        } = self;
        format!(
            "{namespace}/{name}: drill of the kill switch\n  \
             Key          {key_arn}\n  \
             Cut off      after {cut_off_seconds:.1} s ({cut_off_reason}); the check interval is {check_interval}\n  \
             Returned     after {recovery_seconds:.1} s\n  \
             Measured     {measured}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1";

    /// A cluster whose conditions `KeyAccessible` and `Ready` are these.
    fn cluster(consent: &str, key: (&str, &str), ready: (&str, &str)) -> VectorCluster {
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: support, namespace: acme, annotations: {{vectorkeep.dev/revoke-drill: '{consent}'}}}}
spec: {{encryption: {{aws: {{keyArn: '{ARN}', roleArn: 'arn:aws:iam::111122223333:role/vector'}}}}}}
status:
  conditions:
  - {{type: KeyAccessible, status: '{}', reason: {}, message: m, lastTransitionTime: x}}
  - {{type: Ready, status: '{}', reason: {}, message: m, lastTransitionTime: x}}
",
            key.0, key.1, ready.0, ready.1
        ))
        .expect("valid")
    }

    fn serving(consent: &str) -> VectorCluster {
        cluster(consent, ("True", "Accessible"), ("True", "Serving"))
    }

    #[test]
    fn a_drill_needs_the_consent_of_the_resource() {
        let refused = Key::of("acme", "support", &serving("no")).expect_err("no consent");
        assert!(
            refused
                .to_string()
                .contains("kubectl annotate vectorcluster support -n acme vectorkeep.dev/revoke-drill=allowed")
        );
        assert!(Key::of("acme", "support", &serving("allowed")).is_ok());
    }

    #[test]
    fn a_drill_needs_a_cluster_that_serves() {
        let down = cluster("allowed", ("False", "KeyRefused"), ("False", "KeyRefused"));
        assert!(matches!(Key::of("acme", "support", &down), Err(Error::DrillNotReady { .. })));
    }

    #[test]
    fn the_owner_is_told_how_to_disable_the_very_key() {
        let mut cluster = serving("allowed");
        let key = Key::of("acme", "support", &cluster).expect("a key");
        assert_eq!(key.command("disable-key"), format!("aws kms disable-key --region eu-central-1 --key-id {ARN}"));
        let aws = cluster.spec.encryption.aws.as_mut().expect("aws");
        aws.endpoints = Some(vectorkeep_crds::encryption::AwsEndpoints {
            kms: Some("https://kms:8443".into()),
            ..Default::default()
        });
        let key = Key::of("acme", "support", &cluster).expect("a key");
        assert!(key.command("enable-key").ends_with("--endpoint-url https://kms:8443"));
    }

    #[test]
    fn only_a_refusal_is_a_cut_off() {
        let refused = cluster("allowed", ("False", "KeyRefused"), ("False", "KeyRefused"));
        assert_eq!(cut_off(&refused).as_deref(), Some("KeyRefused"));
        assert_eq!(cut_off(&serving("allowed")), None);
        let silent = cluster("allowed", ("False", "KeyUnreachable"), ("False", "KeyUnreachable"));
        assert_eq!(cut_off(&silent), None);
        let restarting = cluster("allowed", ("Unknown", "EngineSilent"), ("Unknown", "EngineSilent"));
        assert_eq!(cut_off(&restarting), None);
        assert_eq!(standing(&restarting), "  KeyAccessible=Unknown (EngineSilent), Ready=Unknown (EngineSilent)");
    }

    #[test]
    fn the_report_says_what_was_measured() {
        let report = Report {
            namespace: "acme",
            name: "support",
            key_arn: ARN,
            check_interval: "10s",
            cut_off_seconds: rounded(Duration::from_micros(8_412_345)),
            cut_off_reason: "KeyRefused",
            recovery_seconds: 12.0,
            measured: MEASURED,
        };
        let text = report.render();
        assert!(text.contains("Cut off      after 8.4 s (KeyRefused); the check interval is 10s"));
        assert!(text.contains("the operator reported it"));
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["cutOffSeconds"], 8.412);
        assert_eq!(json["recoverySeconds"], 12.0);
    }
}
