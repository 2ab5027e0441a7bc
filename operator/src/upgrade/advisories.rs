//! Advisories that concern a cluster: those that a newer release answers and the one that runs does not.
//!
//! Kept in the record from their opening to some time after their end, so that both can be told, once and with the same
//! times, however often the operator starts anew.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use vectorkeep_crds::{EngineRelease, Severity, status::OpenAdvisory, upgrade::Upgrade};

use super::{Release, offer::line};
use crate::plan::conditions::seconds;

/// So many can be open at once; further ones wait until one of these ends.
const OPEN: usize = 50;
/// So many of them are opened as Routine, so that there is room left for those of severity Security.
const ROUTINE: usize = 25;
/// So many that have ended are kept.
const CLOSED: usize = 50;

/// An advisory that is open for a cluster, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advisory {
    /// Its name, like `CVE-2026-0001`.
    pub id: String,
    /// `Security` if a release that answers it is one.
    pub severity: Severity,
    /// The lowest version that answers it.
    pub fixed_in: String,
    /// The version that ran when it was first seen to be open.
    pub running: String,
    /// When that was.
    pub opened: Timestamp,
    /// Its end, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closing>,
}

/// The end of an advisory for a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closing {
    /// The version that ran.
    pub running: String,
    /// When it was seen.
    pub at: Timestamp,
    /// Why it is over.
    pub because: Because,
}

/// Why an advisory is over for a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// The release that runs answers it, or one below it on the same minor line.
    Answered,
    /// No release that the cluster could move to answers it any more: the catalog speaks of it no longer, or
    /// `spec.upgrade.version` does not name the line that does.
    NoLongerOffered,
}

/// What is known of an advisory that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fix {
    severity: Severity,
    fixed_in: Version,
}

/// What was recorded, taken on: those that are over are closed, and new ones are opened. Open ones come first, those of
/// severity Security before the others, then the latest that ended.
pub fn follow(
    recorded: Vec<Advisory>,
    catalog: &[EngineRelease],
    running: &Release,
    policy: &Upgrade,
    now: Timestamp,
) -> Vec<Advisory> {
    let answered = answered(catalog, running);
    let mut fixes = fixes(catalog, running, policy);
    fixes.retain(|id, _| !answered.contains(id.as_str()));
    let (mut open, mut closed): (Vec<_>, Vec<_>) = recorded.into_iter().partition(|known| known.closed.is_none());
    // As it will be read back.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    open.retain_mut(|known| match fixes.remove(&known.id) {
        Some(fix) => {
            (known.severity, known.fixed_in) = (fix.severity, fix.fixed_in.to_string());
            true
        }
        None => {
            let because = match answered.contains(known.id.as_str()) {
                true => Because::Answered,
                false => Because::NoLongerOffered,
            };
            let closing = Closing { running: running.version.clone(), at: now, because };
            closed.push(Advisory { closed: Some(closing), ..known.clone() });
            false
        }
    });
    let new = fixes.into_iter().map(|(id, fix)| Advisory {
        id,
        severity: fix.severity,
        fixed_in: fix.fixed_in.to_string(),
        running: running.version.clone(),
        opened: now,
        closed: None,
    });
    let (security, routine): (Vec<_>, Vec<_>) = new.partition(is_security);
    open.extend(security.into_iter().take(OPEN.saturating_sub(open.len())));
    let routine_open = open.iter().filter(|known| !is_security(known)).count();
    open.extend(routine.into_iter().take(ROUTINE.saturating_sub(routine_open).min(OPEN.saturating_sub(open.len()))));
    open.sort_by_key(urgency);
    closed.sort_by_key(|known| (known.closed.as_ref().map(|closing| std::cmp::Reverse(closing.at)), known.id.clone()));
    closed.truncate(CLOSED);
    open.append(&mut closed);
    open
}

/// Those that are open, for the status.
pub fn open(advisories: &[Advisory]) -> Vec<OpenAdvisory> {
    let open = advisories.iter().filter(|known| known.closed.is_none());
    open.map(|known| OpenAdvisory {
        id: known.id.clone(),
        severity: known.severity,
        fixed_in: known.fixed_in.clone(),
        since: Some(seconds(known.opened)),
    })
    .collect()
}

/// What the release that runs answers: what it lists, and what those below it on its minor line do. A release need not
/// list again what an earlier one answered.
fn answered<'a>(catalog: &'a [EngineRelease], running: &Release) -> BTreeSet<&'a str> {
    let from = Version::parse(&running.version).ok();
    let holds = |release: &&EngineRelease| {
        let versions = Version::parse(&release.version).ok().zip(from.as_ref());
        let earlier = versions.is_some_and(|(version, from)| version <= *from && line(&version) == line(from));
        earlier || release.image == running.image
    };
    catalog.iter().filter(holds).flat_map(|release| &release.advisories).map(String::as_str).collect()
}

/// What releases above the one that runs list, on its minor line and on the one that the resource names.
fn fixes(catalog: &[EngineRelease], running: &Release, policy: &Upgrade) -> BTreeMap<String, Fix> {
    let mut fixes: BTreeMap<String, Fix> = BTreeMap::new();
    let Ok(from) = Version::parse(&running.version) else { return fixes };
    let lines = [Some(line(&from)), policy.version.clone()];
    for release in catalog {
        let Ok(version) = Version::parse(&release.version) else { continue };
        if version <= from || !lines.contains(&Some(line(&version))) {
            continue;
        }
        for id in &release.advisories {
            let fix = Fix { severity: release.severity, fixed_in: version.clone() };
            fixes.entry(id.clone()).and_modify(|known| known.join(&fix)).or_insert(fix);
        }
    }
    fixes
}

impl Fix {
    /// Of several releases that answer an advisory, the lowest version counts, and the highest severity.
    fn join(&mut self, other: &Self) {
        if other.severity == Severity::Security {
            self.severity = Severity::Security;
        }
        if other.fixed_in < self.fixed_in {
            self.fixed_in = other.fixed_in.clone();
        }
    }
}

fn is_security(advisory: &Advisory) -> bool {
    advisory.severity == Severity::Security
}

fn urgency(advisory: &Advisory) -> (bool, String) {
    (!is_security(advisory), advisory.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn release(version: &str, severity: Severity, advisories: &[&str]) -> EngineRelease {
        EngineRelease {
            version: version.into(),
            image: format!("engine-{version}"),
            severity,
            advisories: advisories.iter().map(|id| (*id).to_owned()).collect(),
            ..EngineRelease::default()
        }
    }

    fn running(version: &str) -> Release {
        Release { version: version.into(), image: format!("engine-{version}"), format: 1 }
    }

    fn catalog() -> [EngineRelease; 5] {
        [
            release("1.4.1", Severity::Routine, &["A"]),
            release("1.4.2", Severity::Routine, &["A", "B"]),
            release("1.4.10", Severity::Security, &["B", "C"]),
            release("1.5.0", Severity::Security, &["D"]),
            release("1.6.0", Severity::Security, &["E"]),
        ]
    }

    fn followed(recorded: Vec<Advisory>, version: &str, policy: &Upgrade, second: i64) -> Vec<Advisory> {
        follow(recorded, &catalog(), &running(version), policy, at(second))
    }

    fn ids(advisories: &[Advisory]) -> Vec<(&str, &str, Severity, bool)> {
        advisories.iter().map(|it| (&*it.id, &*it.fixed_in, it.severity, it.closed.is_none())).collect()
    }

    #[test]
    fn open_is_what_newer_releases_of_the_line_answer_and_the_running_one_does_not() {
        use Severity::{Routine, Security};
        let policy = Upgrade::default();
        // B is answered by a routine release first, and by a security release too.
        let open = [("B", "1.4.2", Security, true), ("C", "1.4.10", Security, true), ("A", "1.4.1", Routine, true)];
        assert_eq!(ids(&followed(Vec::new(), "1.4.0", &policy, 0)), open);
        assert_eq!(ids(&followed(Vec::new(), "1.4.2", &policy, 0)), [("C", "1.4.10", Security, true)]);
        assert!(followed(Vec::new(), "1.4.10", &policy, 0).is_empty());
        let pinned = Upgrade { version: Some("1.5".into()), ..Upgrade::default() };
        assert_eq!(ids(&followed(Vec::new(), "1.4.10", &pinned, 0)), [("D", "1.5.0", Security, true)]);
    }

    #[test]
    fn what_an_earlier_release_of_the_line_answered_is_not_open_though_the_running_one_does_not_list_it_again() {
        let catalog = [
            release("1.4.1", Severity::Routine, &["CVE-1"]),
            release("1.4.2", Severity::Routine, &["CVE-2"]),
            release("1.5.0", Severity::Security, &["CVE-1", "CVE-2"]),
        ];
        let pinned = Upgrade { version: Some("1.5".into()), ..Upgrade::default() };
        let open = |version| follow(Vec::new(), &catalog, &running(version), &pinned, at(0));
        assert!(open("1.4.2").is_empty());
        assert_eq!(ids(&open("1.4.1")), [("CVE-2", "1.4.2", Severity::Security, true)]);
    }

    #[test]
    fn an_advisory_keeps_its_time_while_it_is_open_and_is_closed_once() {
        let policy = Upgrade::default();
        let first = followed(Vec::new(), "1.4.2", &policy, 0);
        assert_eq!(followed(first.clone(), "1.4.2", &policy, 60), first);
        let closed = followed(first, "1.4.10", &policy, 120);
        assert_eq!(closed[0].opened, at(0));
        let closing = Closing { running: "1.4.10".into(), at: at(120), because: Because::Answered };
        assert_eq!(closed[0].closed, Some(closing));
        assert_eq!(followed(closed.clone(), "1.4.10", &policy, 180), closed);
        assert!(open(&closed).is_empty());
        // Where an older version runs again, it is another opening.
        let again = followed(closed, "1.4.2", &policy, 240);
        assert_eq!((again.len(), again[0].opened, open(&again).len()), (2, at(240), 1));
    }

    #[test]
    fn an_advisory_that_nothing_on_offer_answers_any_more_is_over_and_was_not_answered() {
        let pinned = Upgrade { version: Some("1.5".into()), ..Upgrade::default() };
        let first = followed(Vec::new(), "1.4.10", &pinned, 0);
        let because = |advisories: &[Advisory]| {
            advisories.iter().map(|known| known.closed.as_ref().map(|closing| closing.because)).collect::<Vec<_>>()
        };
        assert_eq!(because(&first), [None]);
        // The resource stays on its line after all; or the catalog withdraws the release.
        let stays = followed(first.clone(), "1.4.10", &Upgrade::default(), 60);
        assert_eq!(because(&stays), [Some(Because::NoLongerOffered)]);
        let withdrawn = follow(first.clone(), &catalog()[..3], &running("1.4.10"), &pinned, at(60));
        assert_eq!(because(&withdrawn), [Some(Because::NoLongerOffered)]);
        assert_eq!(because(&followed(first, "1.5.0", &pinned, 60)), [Some(Because::Answered)]);
    }

    #[test]
    fn a_crowded_catalog_closes_nothing_hides_nothing_of_severity_security_and_the_record_stays_small() {
        let many: Vec<String> = (0..200).map(|number| format!("R{number:03}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut catalog = vec![release("1.4.1", Severity::Routine, &many)];
        let policy = Upgrade::default();
        let full = follow(Vec::new(), &catalog, &running("1.4.0"), &policy, at(0));
        assert_eq!(full.len(), ROUTINE);
        catalog.push(release("1.4.2", Severity::Security, &["S"]));
        let found = follow(full.clone(), &catalog, &running("1.4.0"), &policy, at(1));
        assert_eq!((found[0].id.as_str(), &found[1..]), ("S", &full[..]));
        let urgent: Vec<String> = (0..200).map(|number| format!("T{number:03}")).collect();
        catalog.push(release("1.4.3", Severity::Security, &urgent.iter().map(String::as_str).collect::<Vec<_>>()));
        let crowded = follow(found.clone(), &catalog, &running("1.4.0"), &policy, at(2));
        assert_eq!(crowded.len(), OPEN);
        assert!(found.iter().all(|known| crowded.contains(known)));
        let next = follow(crowded, &catalog, &running("1.4.3"), &policy, at(3));
        assert_eq!((next.len(), open(&next).len()), (CLOSED, 0));
        // Nothing that was ever seen grows the record.
        let back = follow(next, &catalog, &running("1.4.0"), &policy, at(4));
        assert_eq!(back.len(), OPEN + CLOSED);
    }
}
