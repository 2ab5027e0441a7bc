//! Advisories that concern a cluster: those that a newer release answers and the one that runs does not.
//!
//! Kept in the record from their opening to some time after their end, so that both can be told, once and with the same
//! times, however often the operator starts anew.

use std::collections::BTreeMap;

use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use vectorkeep_crds::{EngineRelease, Severity, status::OpenAdvisory, upgrade::Upgrade};

use super::{Release, offer::line};
use crate::plan::conditions::seconds;

/// So many can be open at once; further ones wait until one of these ends.
const OPEN: usize = 50;
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

/// The end of an advisory for a cluster: a version runs that answers it, or the catalog speaks of it no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closing {
    /// The version that ran.
    pub running: String,
    /// When it was seen.
    pub at: Timestamp,
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
    let mut fixes = fixes(catalog, running, policy);
    let (mut open, mut closed): (Vec<_>, Vec<_>) = recorded.into_iter().partition(|known| known.closed.is_none());
    // As it will be read back.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    open.retain_mut(|known| match fixes.remove(&known.id) {
        Some(fix) => {
            (known.severity, known.fixed_in) = (fix.severity, fix.fixed_in.to_string());
            true
        }
        None => {
            let closing = Closing { running: running.version.clone(), at: now };
            closed.push(Advisory { closed: Some(closing), ..known.clone() });
            false
        }
    });
    let mut new: Vec<_> = fixes
        .into_iter()
        .map(|(id, fix)| Advisory {
            id,
            severity: fix.severity,
            fixed_in: fix.fixed_in.to_string(),
            running: running.version.clone(),
            opened: now,
            closed: None,
        })
        .collect();
    new.sort_by_key(urgency);
    new.truncate(OPEN.saturating_sub(open.len()));
    open.append(&mut new);
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

/// What releases above the one that runs answer, on its minor line and on the one that the resource names. What the
/// running release lists itself is not open.
fn fixes(catalog: &[EngineRelease], running: &Release, policy: &Upgrade) -> BTreeMap<String, Fix> {
    let mut fixes: BTreeMap<String, Fix> = BTreeMap::new();
    let Ok(from) = Version::parse(&running.version) else { return fixes };
    let lines = [Some(line(&from)), policy.version.clone()];
    let own = catalog.iter().find(|release| release.image == running.image);
    let answered = own.map_or(&[][..], |release| &release.advisories);
    for release in catalog {
        let Ok(version) = Version::parse(&release.version) else { continue };
        if version <= from || !lines.contains(&Some(line(&version))) {
            continue;
        }
        for id in release.advisories.iter().filter(|id| !answered.contains(id)) {
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

fn urgency(advisory: &Advisory) -> (bool, String) {
    (advisory.severity != Severity::Security, advisory.id.clone())
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
    fn an_advisory_keeps_its_time_while_it_is_open_and_is_closed_once() {
        let policy = Upgrade::default();
        let first = followed(Vec::new(), "1.4.2", &policy, 0);
        assert_eq!(followed(first.clone(), "1.4.2", &policy, 60), first);
        let closed = followed(first, "1.4.10", &policy, 120);
        assert_eq!(closed[0].opened, at(0));
        assert_eq!(closed[0].closed, Some(Closing { running: "1.4.10".into(), at: at(120) }));
        assert_eq!(followed(closed.clone(), "1.4.10", &policy, 180), closed);
        assert!(open(&closed).is_empty());
        // Where an older version runs again, it is another opening.
        let again = followed(closed, "1.4.2", &policy, 240);
        assert_eq!((again.len(), again[0].opened, open(&again).len()), (2, at(240), 1));
    }

    #[test]
    fn a_crowded_catalog_closes_nothing_that_is_open_and_the_record_stays_small() {
        let many: Vec<String> = (0..200).map(|number| format!("R{number:03}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut catalog = vec![release("1.4.1", Severity::Routine, &many)];
        let policy = Upgrade::default();
        let full = follow(Vec::new(), &catalog, &running("1.4.0"), &policy, at(0));
        assert_eq!(full.len(), OPEN);
        catalog.push(release("1.4.2", Severity::Security, &["S"]));
        assert_eq!(follow(full.clone(), &catalog, &running("1.4.0"), &policy, at(1)), full);
        let next = follow(full, &catalog, &running("1.4.1"), &policy, at(2));
        assert_eq!((next.len(), next[0].id.as_str()), (1 + CLOSED, "S"));
    }
}
