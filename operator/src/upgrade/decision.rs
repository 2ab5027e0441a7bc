//! Whether a rollout is begun now, later, or not at all.

use jiff::Timestamp;
use vectorkeep_crds::{
    EngineRelease, Severity,
    upgrade::{SecurityReleases, Upgrade},
};

use super::window::{Opening, Window};

/// Everything that counts.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The release that would be taken.
    pub offer: Option<&'a EngineRelease>,
    /// Whether this operator would render another pod from the same resource.
    pub template_differs: bool,
    /// What the resource says.
    pub policy: &'a Upgrade,
    /// Its window; none if what the resource says can't be read. Then it is closed.
    pub window: Option<&'a Window>,
    /// Whether the engine is just being asked: what it says within seconds counts.
    pub unasked: bool,
    /// Whether the engine says that it has no key: one that waits for it can't be seen to serve, whatever it runs.
    pub key_withheld: bool,
    /// Whether the cluster serves: what does not serve can't be seen to serve afterwards.
    pub serving: bool,
    /// Whether the release that runs is in the catalog: else there is no way back.
    pub way_back: bool,
    /// Whether fewer clusters are moving than may.
    pub room: bool,
    /// Whether clusters that go first have not taken the offer yet.
    pub canaries_pending: bool,
    /// From when on the offer is tried again by itself, if it was taken back here.
    pub again: Option<Timestamp>,
    /// Whether somebody asked for it now.
    pub requested: bool,
    /// The time.
    pub now: Timestamp,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is nothing to roll out.
    Nothing,
    /// There is, later.
    Later {
        /// Why not now.
        wait: Wait,
        /// When, if only time has to pass.
        next: Option<Timestamp>,
    },
    /// Now.
    Start {
        /// Opening of the window in which it begins; none outside of one.
        window: Option<Timestamp>,
    },
}

/// Why a rollout is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The resource says to begin nothing.
    Paused,
    /// The resource says to take nothing by itself.
    Asked,
    /// It was taken back not long ago.
    TakenBack,
    /// The window is closed.
    Window,
    /// The cluster does not serve.
    Serving,
    /// The release that runs is not in the catalog.
    WayBack,
    /// Clusters that go first are not done.
    Canaries,
    /// Enough other clusters are moving.
    Room,
}

/// Decides.
pub fn decide(situation: &Situation<'_>) -> Decision {
    let Situation { offer, template_differs, policy, window, room, canaries_pending, requested, now, .. } = *situation;
    if offer.is_none() && !template_differs {
        return Decision::Nothing;
    }
    let later = |wait, next| Decision::Later { wait, next };
    let opening = window.map_or(Opening::Closed(None), |window| window.at(now));
    let urgent = policy.security_releases == SecurityReleases::Immediately
        && offer.is_some_and(|offer| offer.severity == Severity::Security);
    if policy.paused {
        return later(Wait::Paused, None);
    }
    if !policy.auto_patch && !requested && offer.is_some() {
        return later(Wait::Asked, None);
    }
    if let Some(again) = situation.again.filter(|again| now < *again && !requested) {
        return later(Wait::TakenBack, Some(again));
    }
    let window = match opening {
        Opening::Open(opened) => Some(opened),
        Opening::Closed(_) if requested || urgent => None,
        Opening::Closed(next) => return later(Wait::Window, next),
    };
    // A person may ask for a release that mends what keeps the cluster from serving, or from saying anything.
    if situation.unasked || situation.key_withheld || !(situation.serving || requested) {
        return later(Wait::Serving, None);
    }
    if !situation.way_back {
        return later(Wait::WayBack, None);
    }
    if canaries_pending && !requested && !urgent {
        return later(Wait::Canaries, None);
    }
    if !room {
        return later(Wait::Room, None);
    }
    Decision::Start { window }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vectorkeep_crds::upgrade;

    const OPEN: &str = "2026-11-29T03:10:00Z";
    const CLOSED: &str = "2026-11-28T03:10:00Z";

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn offer(severity: Severity) -> EngineRelease {
        EngineRelease { version: "1.4.2".into(), image: "engine".into(), severity, ..EngineRelease::default() }
    }

    /// The decision of a cluster that serves and has a window on Sundays at three, after `change`.
    fn decided(now: &str, offer: Option<&EngineRelease>, change: impl FnOnce(&mut Upgrade, &mut Flags)) -> Decision {
        let mut policy = Upgrade::default();
        let mut flags = Flags {
            differs: false,
            withheld: false,
            serving: true,
            room: true,
            canaries_pending: false,
            again: None,
            requested: false,
        };
        change(&mut policy, &mut flags);
        let window = Window::of(&policy.window).expect("a window");
        decide(&Situation {
            offer,
            template_differs: flags.differs,
            policy: &policy,
            window: Some(&window),
            unasked: false,
            key_withheld: flags.withheld,
            serving: flags.serving,
            way_back: true,
            room: flags.room,
            canaries_pending: flags.canaries_pending,
            again: flags.again.map(time),
            requested: flags.requested,
            now: time(now),
        })
    }

    struct Flags {
        differs: bool,
        withheld: bool,
        serving: bool,
        room: bool,
        canaries_pending: bool,
        again: Option<&'static str>,
        requested: bool,
    }

    fn waits(decision: Decision) -> Wait {
        match decision {
            Decision::Later { wait, .. } => wait,
            other => panic!("{other:?}"),
        }
    }

    const IN_WINDOW: fn() -> Decision = || Decision::Start { window: Some(time("2026-11-29T03:00:00Z")) };

    #[test]
    fn an_offer_is_taken_inside_the_window_and_not_before() {
        let routine = offer(Severity::Routine);
        assert_eq!(decided(OPEN, Some(&routine), |_, _| ()), IN_WINDOW());
        let next = Some(time("2026-11-29T03:00:00Z"));
        assert_eq!(decided(CLOSED, Some(&routine), |_, _| ()), Decision::Later { wait: Wait::Window, next });
        assert_eq!(decided(OPEN, None, |_, _| ()), Decision::Nothing);
    }

    #[test]
    fn another_template_alone_waits_for_the_window_too_and_needs_no_auto_patch() {
        assert_eq!(decided(OPEN, None, |_, flags| flags.differs = true), IN_WINDOW());
        assert_eq!(waits(decided(CLOSED, None, |_, flags| flags.differs = true)), Wait::Window);
        let quiet = |policy: &mut Upgrade, flags: &mut Flags| {
            policy.auto_patch = false;
            flags.differs = true;
        };
        assert_eq!(decided(OPEN, None, quiet), IN_WINDOW());
    }

    #[test]
    fn a_security_release_goes_outside_the_window_only_where_the_resource_lets_it() {
        let security = offer(Severity::Security);
        assert_eq!(waits(decided(CLOSED, Some(&security), |_, _| ())), Wait::Window);
        let allow = |policy: &mut Upgrade, _: &mut Flags| policy.security_releases = SecurityReleases::Immediately;
        assert_eq!(decided(CLOSED, Some(&security), allow), Decision::Start { window: None });
        assert_eq!(waits(decided(CLOSED, Some(&offer(Severity::Routine)), allow)), Wait::Window);
    }

    #[test]
    fn a_request_needs_no_window_and_no_auto_patch_but_a_pause_stops_it() {
        let routine = offer(Severity::Routine);
        let request = |policy: &mut Upgrade, flags: &mut Flags| {
            policy.auto_patch = false;
            flags.requested = true;
            flags.canaries_pending = true;
        };
        assert_eq!(decided(CLOSED, Some(&routine), request), Decision::Start { window: None });
        let broken = |_: &mut Upgrade, flags: &mut Flags| {
            flags.serving = false;
            flags.requested = true;
        };
        assert_eq!(decided(CLOSED, Some(&routine), broken), Decision::Start { window: None });
        let locked = |_: &mut Upgrade, flags: &mut Flags| {
            flags.withheld = true;
            flags.requested = true;
        };
        assert_eq!(waits(decided(CLOSED, Some(&routine), locked)), Wait::Serving);
        let paused = |policy: &mut Upgrade, flags: &mut Flags| {
            policy.paused = true;
            flags.requested = true;
        };
        assert_eq!(waits(decided(OPEN, Some(&routine), paused)), Wait::Paused);
    }

    #[test]
    fn what_does_not_serve_is_not_touched_and_others_may_come_first() {
        let routine = offer(Severity::Routine);
        assert_eq!(waits(decided(OPEN, Some(&routine), |_, flags| flags.serving = false)), Wait::Serving);
        assert_eq!(waits(decided(OPEN, Some(&routine), |_, flags| flags.room = false)), Wait::Room);
        assert_eq!(waits(decided(OPEN, Some(&routine), |_, flags| flags.canaries_pending = true)), Wait::Canaries);
        assert_eq!(waits(decided(OPEN, Some(&routine), |policy, _| policy.auto_patch = false)), Wait::Asked);
    }

    #[test]
    fn what_was_taken_back_is_not_tried_again_at_once_unless_somebody_asks() {
        let security = offer(Severity::Security);
        let taken_back = |policy: &mut Upgrade, flags: &mut Flags| {
            policy.security_releases = SecurityReleases::Immediately;
            flags.again = Some("2026-11-29T09:10:00Z");
        };
        let next = Some(time("2026-11-29T09:10:00Z"));
        assert_eq!(decided(OPEN, Some(&security), taken_back), Decision::Later { wait: Wait::TakenBack, next });
        assert_eq!(decided("2026-11-29T09:10:00Z", Some(&security), taken_back), Decision::Start { window: None });
        let asked = |policy: &mut Upgrade, flags: &mut Flags| {
            taken_back(policy, flags);
            flags.requested = true;
        };
        assert_eq!(decided(OPEN, Some(&security), asked), IN_WINDOW());
    }

    #[test]
    fn the_default_window_is_a_valid_one() {
        assert!(Window::of(&upgrade::Window::default()).is_ok());
    }
}
