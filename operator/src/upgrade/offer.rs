//! Which release of the catalog a cluster would take.

use semver::{Version, VersionReq};
use vectorkeep_crds::{EngineRelease, upgrade::Upgrade};

use super::{Release, fleet::Fleet};

/// The release that a new cluster starts with: the newest of its minor line, or of all.
pub fn first<'a>(catalog: &'a [EngineRelease], policy: &Upgrade, fleet: &Fleet) -> Option<&'a EngineRelease> {
    newest(catalog, |release, version| {
        policy.version.as_ref().is_none_or(|wanted| line(version) == *wanted) && !fleet.is_quarantined(&release.image)
    })
}

/// The release that a cluster would move to: the newest one above what runs, of the minor line that the resource names,
/// or else of that which runs, if it can take over from what runs, knows the file format of the store, and is not known
/// to be bad.
pub fn next<'a>(
    catalog: &'a [EngineRelease],
    running: &Release,
    policy: &Upgrade,
    fleet: &Fleet,
) -> Option<&'a EngineRelease> {
    let from = Version::parse(&running.version).ok()?;
    let wanted = policy.version.clone().unwrap_or_else(|| line(&from));
    newest(catalog, |release, version| {
        line(version) == wanted
            && *version > from
            && release.image != running.image
            && takes_over(release, version, &from)
            && release.format >= running.format
            && !fleet.is_quarantined(&release.image)
    })
}

fn newest(catalog: &[EngineRelease], fits: impl Fn(&EngineRelease, &Version) -> bool) -> Option<&EngineRelease> {
    let parsed = catalog.iter().filter_map(|release| Some((Version::parse(&release.version).ok()?, release)));
    parsed.filter(|(version, release)| fits(release, version)).max_by(|a, b| a.0.cmp(&b.0)).map(|(_, release)| release)
}

fn takes_over(release: &EngineRelease, version: &Version, from: &Version) -> bool {
    match &release.upgrades_from {
        // A requirement that nobody understands lets nothing through.
        Some(requirement) => VersionReq::parse(requirement).is_ok_and(|requirement| requirement.matches(from)),
        None => line(version) == line(from),
    }
}

/// The minor line of a version.
pub(super) fn line(version: &Version) -> String {
    format!("{}.{}", version.major, version.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vectorkeep_crds::Severity;

    fn release(version: &str, upgrades_from: Option<&str>) -> EngineRelease {
        EngineRelease {
            version: version.into(),
            image: format!("engine-{version}"),
            upgrades_from: upgrades_from.map(str::to_owned),
            format: 1,
            severity: Severity::Routine,
            advisories: Vec::new(),
        }
    }

    fn running(version: &str) -> Release {
        Release { version: version.into(), image: format!("engine-{version}"), format: 1 }
    }

    fn pinned(line: &str) -> Upgrade {
        Upgrade { version: Some(line.into()), ..Upgrade::default() }
    }

    fn next_of(catalog: &[EngineRelease], from: &str, policy: &Upgrade, fleet: &Fleet) -> Option<String> {
        next(catalog, &running(from), policy, fleet).map(|release| release.version.clone())
    }

    #[test]
    fn the_newest_patch_of_the_own_line_is_taken_and_no_other_line() {
        let catalog = [release("1.4.2", None), release("1.4.10", None), release("1.4.9", None), release("1.5.0", None)];
        let (policy, fleet) = (Upgrade::default(), Fleet::default());
        assert_eq!(next_of(&catalog, "1.4.2", &policy, &fleet).as_deref(), Some("1.4.10"));
        assert_eq!(next_of(&catalog, "1.4.10", &policy, &fleet), None);
        assert_eq!(next_of(&catalog, "1.6.0", &policy, &fleet), None, "never back by itself");
    }

    #[test]
    fn another_line_is_taken_when_the_resource_names_it_and_the_release_can_take_over() {
        let catalog = [release("1.5.0", Some(">=1.4.2, <1.5.0")), release("1.5.1", Some(">=1.5.0"))];
        let fleet = Fleet::default();
        assert_eq!(next_of(&catalog, "1.4.3", &pinned("1.5"), &fleet).as_deref(), Some("1.5.0"));
        assert_eq!(next_of(&catalog, "1.4.1", &pinned("1.5"), &fleet), None);
        assert_eq!(next_of(&catalog, "1.5.0", &pinned("1.5"), &fleet).as_deref(), Some("1.5.1"));
        assert_eq!(next_of(&catalog, "1.4.3", &pinned("1.4"), &fleet), None);
        let unreadable = [release("1.4.4", Some("whatever"))];
        assert_eq!(next_of(&unreadable, "1.4.3", &Upgrade::default(), &fleet), None);
    }

    #[test]
    fn a_release_that_does_not_know_the_stores_format_is_never_offered() {
        let formats = |low, high| {
            [
                EngineRelease { format: low, ..release("1.4.3", None) },
                EngineRelease { format: high, ..release("1.4.2", None) },
            ]
        };
        let committed = Release { format: 2, ..running("1.4.1") };
        let offered = |catalog: &[EngineRelease]| {
            next(catalog, &committed, &Upgrade::default(), &Fleet::default()).map(|it| it.version.clone())
        };
        assert_eq!(offered(&formats(1, 2)).as_deref(), Some("1.4.2"));
        assert_eq!(offered(&formats(1, 1)), None);
        assert_eq!(offered(&formats(3, 2)).as_deref(), Some("1.4.3"));
    }

    #[test]
    fn a_quarantined_release_is_passed_over() {
        let catalog = [release("1.4.2", None), release("1.4.3", None)];
        let mut fleet = Fleet::default();
        fleet.quarantine("engine-1.4.3", "1.4.3", "crashed", "vc1");
        assert_eq!(next_of(&catalog, "1.4.1", &Upgrade::default(), &fleet).as_deref(), Some("1.4.2"));
        assert_eq!(first(&catalog, &Upgrade::default(), &fleet).map(|it| it.version.as_str()), Some("1.4.2"));
    }

    #[test]
    fn a_new_cluster_starts_with_the_newest_of_its_line() {
        let catalog = [release("1.4.2", None), release("1.5.0", None)];
        let fleet = Fleet::default();
        assert_eq!(first(&catalog, &Upgrade::default(), &fleet).map(|it| it.version.as_str()), Some("1.5.0"));
        assert_eq!(first(&catalog, &pinned("1.4"), &fleet).map(|it| it.version.as_str()), Some("1.4.2"));
        assert_eq!(first(&catalog, &pinned("1.3"), &fleet), None);
    }
}
