//! `kubectl vectorkeep upgrade now`: takes what is on offer, outside the window.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vectorkeep_crds::{
    VectorCluster,
    status::{UpgradeReport, UpgradeStatus},
    well_known::ANNOTATION_UPGRADE_NOW,
};

use super::{change, reported};
use crate::{
    access::{Access, Error, Session},
    duration,
    output::{self, Format, Progress},
    status::condition,
    wait::{self, Pace},
};

/// Time between two looks at the status.
const EVERY: Duration = Duration::from_secs(1);

/// Time in which a running operator has seen a request and reports what it makes of it.
const SEEN_WITHIN: Duration = Duration::from_secs(15);

/// The outcome of a rollout that was kept.
const SUCCEEDED: &str = "Succeeded";

/// Flags of `upgrade now`.
#[derive(Debug, Args)]
pub(crate) struct Now {
    /// Name of the VectorCluster.
    name: String,
    /// Ask for it, and don't wait for the end.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the end.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    timeout: Duration,
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It was made, and not waited for.
    Requested,
    /// There is nothing to take.
    NothingOnOffer,
    /// It is over.
    Over(Box<UpgradeReport>),
}

/// What is said at the end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Value of the annotation.
    requested_at: &'a str,
    /// That of the rollout, `NothingOnOffer` or `Requested`.
    outcome: &'a str,
    #[serde(rename = "report")]
    rollout: Option<&'a UpgradeReport>,
}

pub(super) async fn run(access: &Access, format: Format, now: &Now) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let name = now.name.as_str();
    let cluster = session.existing_cluster(name).await?;
    if cluster.spec.upgrade.paused {
        return Err(Error::UpgradesPaused { name: name.to_owned(), namespace: session.namespace.clone() });
    }
    let requested_at = Timestamp::now().to_string();
    session.annotate(name, ANNOTATION_UPGRADE_NOW, &requested_at).await?;
    let answer = if now.no_wait {
        Answer::Requested
    } else {
        follow(&session, name, Request::after(&cluster), now.timeout).await?
    };
    let report = Report {
        namespace: &session.namespace,
        name,
        requested_at: &requested_at,
        outcome: answer.outcome(),
        rollout: answer.rollout(),
    };
    output::answer(format, &report, || report.render())?;
    Ok(if answer.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the end of a request.
async fn follow(session: &Session, name: &str, mut request: Request, limit: Duration) -> Result<Answer, Error> {
    let cluster = format!("{}/{name}", session.namespace);
    let mut progress = Progress::default();
    progress.say(format!("{cluster}: asked for; waiting for the operator"));
    let answer = wait::until(session, name, Pace { every: EVERY, limit }, |seen, since| {
        let answer = request.judge(seen, since);
        if let Some(line) = waiting(seen, since) {
            progress.say(format!("{cluster}: {line}"));
        }
        if answer == Some(Answer::NothingOnOffer)
            && let Some(condition) = seen.status.as_ref().and_then(|status| condition(status, "UpToDate"))
        {
            progress.say(format!("{cluster}: {}: {}", condition.reason, condition.message));
        }
        answer
    });
    answer.await?.ok_or_else(|| Error::TooSlow {
        cluster: format!("{}/{name}", session.namespace),
        missing: "the upgrade did not end".to_owned(),
        limit: duration::show_limit(limit),
        remedy: format!(
            "It goes on without this command; `kubectl vectorkeep status {name} -n {}` says what it waits for",
            session.namespace
        ),
    })
}

/// One request, and what was known before it.
struct Request {
    /// When the newest rollout of the history began.
    newest: Option<String>,
    /// Whether something was seen under way.
    begun: bool,
}

impl Request {
    /// A request that is made after the cluster was seen like this.
    fn after(cluster: &VectorCluster) -> Self {
        let newest = reported(cluster).and_then(|upgrade| upgrade.history.first());
        Self { newest: newest.map(|report| report.started.clone()), begun: false }
    }

    /// The answer, once the status holds it.
    fn judge(&mut self, cluster: &VectorCluster, since: Duration) -> Option<Answer> {
        let upgrade = reported(cluster);
        if upgrade.is_some_and(|upgrade| upgrade.in_progress.is_some()) {
            self.begun = true;
            return None;
        }
        if let Some(report) = upgrade.and_then(|upgrade| upgrade.history.first())
            && self.newest.as_ref() != Some(&report.started)
        {
            return Some(Answer::Over(Box::new(report.clone())));
        }
        let silent = self.begun || since < SEEN_WITHIN || cluster.status.is_none();
        (!silent && upgrade.and_then(planned).is_none()).then_some(Answer::NothingOnOffer)
    }
}

/// What is waited for, as far as the status says.
fn waiting(cluster: &VectorCluster, since: Duration) -> Option<String> {
    if cluster.status.is_none() {
        return Some("no operator has looked at it yet. Check that the operator runs".to_owned());
    }
    let upgrade = reported(cluster)?;
    if let Some(rollout) = &upgrade.in_progress {
        return Some(format!("{}: waits for {}", change(&rollout.from, &rollout.to), rollout.waits_for));
    }
    planned(upgrade).filter(|_| since >= SEEN_WITHIN)
}

/// What the operator has yet to begin.
fn planned(upgrade: &UpgradeStatus) -> Option<String> {
    let offered = upgrade.available.as_ref().map(|version| format!("{version} is on offer and not begun yet"));
    // A time without a release: only the pod template differs.
    offered.or_else(|| upgrade.next.as_ref().map(|_| "a renewed pod template is not rolled out yet".to_owned()))
}

impl Answer {
    fn outcome(&self) -> &str {
        match self {
            Self::Requested => "Requested",
            Self::NothingOnOffer => "NothingOnOffer",
            Self::Over(report) => &report.outcome,
        }
    }

    fn rollout(&self) -> Option<&UpgradeReport> {
        match self {
            Self::Over(report) => Some(report),
            Self::Requested | Self::NothingOnOffer => None,
        }
    }

    fn is_good(&self) -> bool {
        self.rollout().is_none_or(|report| report.outcome == SUCCEEDED)
    }
}

impl Report<'_> {
    fn render(&self) -> String {
        let Self { namespace, name, requested_at, outcome, rollout } = self;
        let Some(rollout) = rollout else {
            return match *outcome {
                "Requested" => format!(
                    "{namespace}/{name}: asked for at {requested_at}. `kubectl vectorkeep upgrade history {name} -n \
                     {namespace}` shows what comes of it.\n"
                ),
                _ => format!("{namespace}/{name}: nothing is on offer.\n"),
            };
        };
        let mut text = format!("{namespace}/{name}: {} {outcome}\n", change(&rollout.from, &rollout.to));
        let advisories = rollout.advisories.join(", ");
        for (title, value) in [
            ("Reason", rollout.reason.clone().unwrap_or_default()),
            ("Started", rollout.started.clone()),
            ("Took", duration::show(rollout.duration_seconds)),
            ("Unavailable", duration::show(rollout.unavailable_seconds)),
            ("Window", rollout.window.clone().unwrap_or_default()),
            ("Advisories", advisories),
        ] {
            if !value.is_empty() {
                text.push_str(&format!("  {title:<12} {value}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::tests::{cluster, report, rollout};

    const BEFORE: &str = "2026-01-01T03:00:00Z";
    const AFTER: &str = "2026-01-02T03:00:00Z";
    const SOON: Duration = Duration::from_secs(1);

    fn history(reports: &[String]) -> VectorCluster {
        cluster(false, &format!("{{history: [{}]}}", reports.join(", ")))
    }

    #[test]
    fn a_request_is_over_when_the_history_has_a_newer_entry() {
        let before = history(&[report(BEFORE, "Succeeded")]);
        let mut request = Request::after(&before);
        assert_eq!(request.judge(&before, SOON), None);
        let under_way = cluster(false, &format!("{{available: 1.4.3, inProgress: {}}}", rollout("the pod")));
        assert_eq!(request.judge(&under_way, SEEN_WITHIN), None);
        let after = history(&[report(AFTER, "RolledBack"), report(BEFORE, "Succeeded")]);
        let answer = request.judge(&after, SEEN_WITHIN).expect("an answer");
        assert_eq!(answer.outcome(), "RolledBack");
        assert!(!answer.is_good());
    }

    #[test]
    fn nothing_is_on_offer_only_once_the_operator_has_had_time_to_see_the_request() {
        let idle = history(&[report(BEFORE, "Succeeded")]);
        let mut request = Request::after(&idle);
        assert_eq!(request.judge(&idle, SOON), None);
        let answer = request.judge(&idle, SEEN_WITHIN).expect("an answer");
        assert_eq!(answer, Answer::NothingOnOffer);
        assert!(answer.is_good());
    }

    #[test]
    fn what_is_on_offer_is_waited_for_however_long_it_takes_to_begin() {
        let offered = cluster(false, "{available: 1.4.3}");
        assert_eq!(Request::after(&offered).judge(&offered, SEEN_WITHIN), None);
        assert_eq!(waiting(&offered, SOON), None);
        assert!(waiting(&offered, SEEN_WITHIN).expect("a line").contains("1.4.3 is on offer"));
        let renewed = cluster(false, &format!("{{next: '{AFTER}'}}"));
        assert_eq!(Request::after(&renewed).judge(&renewed, SEEN_WITHIN), None);
        assert!(waiting(&renewed, SEEN_WITHIN).expect("a line").contains("a renewed pod template"));
    }

    #[test]
    fn a_missing_operator_is_not_taken_for_nothing_on_offer() {
        let mut unseen = history(&[]);
        unseen.status = None;
        assert_eq!(Request::after(&unseen).judge(&unseen, SEEN_WITHIN), None);
        assert!(waiting(&unseen, SOON).expect("a line").contains("operator runs"));
    }

    #[test]
    fn a_report_leaves_out_what_there_is_not() {
        let after = history(&[report(AFTER, "Succeeded")]);
        let answer = Request { newest: None, begun: true }.judge(&after, SOON).expect("an answer");
        let report = Report {
            namespace: "acme",
            name: "support",
            requested_at: AFTER,
            outcome: answer.outcome(),
            rollout: answer.rollout(),
        };
        let text = report.render();
        assert!(text.starts_with("acme/support: 1.4.2 -> 1.4.3 Succeeded\n"));
        assert!(text.contains("3m05s") && !text.contains("Reason") && !text.contains("Window"));
    }
}
