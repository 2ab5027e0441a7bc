//! Maintenance windows: when they are open, and when the next one opens.
//!
//! Computed from the clock each time: nothing is remembered, so nothing can be missed or done twice.

use cronexpr::{Crontab, MakeTimestamp};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use vectorkeep_crds::upgrade::Window as Spec;

use crate::plan::{config_map::seconds, refusal::Refusal};

/// Without a deadline of its own, nothing begins so shortly before a window closes: the gates take five minutes, and a
/// way back must fit in as well.
const LAST_START: SignedDuration = SignedDuration::from_mins(15);

/// A recurring window.
#[derive(Clone, Debug)]
pub struct Window {
    /// In wall-clock time, whatever the zone.
    openings: Crontab,
    zone: TimeZone,
    start_within: SignedDuration,
}

/// A window, seen at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Something may begin; the window opened at this time.
    Open(Timestamp),
    /// Nothing may begin before this time. `None` for a schedule that never comes again.
    Closed(Option<Timestamp>),
}

impl Window {
    /// The window that a resource describes. The schema has checked the outer form.
    pub fn of(spec: &Spec) -> Result<Self, Refusal> {
        let refused = |problem: String| Refusal::Field {
            field: "upgrade.window",
            problem: format!(
                "{:?} in the time zone {:?} is no schedule ({problem}); give five cron fields like \"0 3 * * SUN\" and an \
                 IANA time zone like \"Europe/Berlin\"",
                spec.schedule, spec.time_zone
            ),
        };
        // The parser draws a picture of several lines; its last one says what is wrong.
        let openings = cronexpr::parse_crontab(&format!("{} UTC", spec.schedule))
            .map_err(|error| refused(error.to_string().lines().last().unwrap_or_default().trim().to_owned()))?;
        let zone = TimeZone::get(&spec.time_zone).map_err(|error| refused(error.to_string()))?;
        let duration = length("upgrade.window.duration", &spec.duration)?;
        let start_within = match &spec.start_deadline {
            Some(deadline) => length("upgrade.window.startDeadline", deadline)?.min(duration),
            None => (duration - LAST_START).max(SignedDuration::from_mins(1)),
        };
        Ok(Self { openings, zone, start_within })
    }

    /// Whether something may begin at `now`, and if not, when.
    pub fn at(&self, now: Timestamp) -> Opening {
        // One that opened a whole deadline ago counts no more.
        let deadline = now - self.start_within;
        let mut last = None;
        // An hour earlier than need be: that much a change to daylight-saving time may move.
        let mut wall = self.zone.to_datetime(deadline - SignedDuration::from_hours(1));
        while let Some(next) = self.next(wall) {
            // An opening that is left out comes as much later as the clock was put forward; of one that comes twice,
            // the first counts.
            let Ok(opening) = self.zone.to_ambiguous_zoned(next).compatible().map(|zoned| zoned.timestamp()) else {
                break;
            };
            if opening > now {
                return last.map_or(Opening::Closed(Some(opening)), Opening::Open);
            }
            if opening > deadline {
                last = Some(opening);
            }
            wall = next;
        }
        last.map_or(Opening::Closed(None), Opening::Open)
    }

    fn next(&self, wall: DateTime) -> Option<DateTime> {
        let after = TimeZone::UTC.to_timestamp(wall).ok()?;
        self.openings.find_next(MakeTimestamp(after)).ok().map(|zoned| zoned.datetime())
    }
}

fn length(field: &'static str, text: &str) -> Result<SignedDuration, Refusal> {
    Ok(SignedDuration::from_secs(i64::try_from(seconds(field, text)?).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(schedule: &str, time_zone: &str, duration: &str, start_deadline: Option<&str>) -> Window {
        let spec = Spec {
            schedule: schedule.into(),
            time_zone: time_zone.into(),
            duration: duration.into(),
            start_deadline: start_deadline.map(str::to_owned),
        };
        Window::of(&spec).expect("a window")
    }

    fn at(window: &Window, now: &str) -> Opening {
        window.at(time(now))
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_window_is_open_from_its_opening_to_its_last_start() {
        let sunday = window("0 3 * * SUN", "UTC", "2h", None);
        let opening = Opening::Open(time("2026-11-29T03:00:00Z"));
        assert_eq!(at(&sunday, "2026-11-29T02:59:59Z"), Opening::Closed(Some(time("2026-11-29T03:00:00Z"))));
        assert_eq!(at(&sunday, "2026-11-29T03:00:00Z"), opening);
        assert_eq!(at(&sunday, "2026-11-29T04:44:59Z"), opening);
        assert_eq!(at(&sunday, "2026-11-29T04:45:00Z"), Opening::Closed(Some(time("2026-12-06T03:00:00Z"))));
    }

    #[test]
    fn a_start_deadline_ends_the_starts_earlier() {
        let window = window("0 3 * * *", "UTC", "2h", Some("30m"));
        assert_eq!(at(&window, "2026-11-29T03:29:59Z"), Opening::Open(time("2026-11-29T03:00:00Z")));
        assert_eq!(at(&window, "2026-11-29T03:30:00Z"), Opening::Closed(Some(time("2026-11-30T03:00:00Z"))));
    }

    #[test]
    fn the_wall_clock_counts_in_summer_and_in_winter() {
        let berlin = window("0 3 * * SUN", "Europe/Berlin", "1h", None);
        // Clocks go back on 2026-10-25 at 03:00 CEST; 03:00 is at 02:00 UTC from then on.
        assert_eq!(at(&berlin, "2026-10-18T01:00:00Z"), Opening::Open(time("2026-10-18T01:00:00Z")));
        assert_eq!(at(&berlin, "2026-10-25T01:30:00Z"), Opening::Closed(Some(time("2026-10-25T02:00:00Z"))));
        assert_eq!(at(&berlin, "2026-10-25T02:00:00Z"), Opening::Open(time("2026-10-25T02:00:00Z")));
    }

    #[test]
    fn an_hour_that_is_left_out_or_comes_twice_opens_a_window_once() {
        // Clocks go forward on 2026-03-29 at 02:00 CET: 02:30 does not exist. They go back on 2026-10-25: 02:30 comes
        // twice.
        let berlin = window("30 2 * * *", "Europe/Berlin", "1h", None);
        for (from, until) in
            [("2026-03-28T12:00:00Z", "2026-03-31T12:00:00Z"), ("2026-10-24T12:00:00Z", "2026-10-27T12:00:00Z")]
        {
            let (mut now, until) = (time(from), time(until));
            let mut openings = std::collections::BTreeMap::new();
            while now < until {
                if let Opening::Open(opening) = berlin.at(now) {
                    let day = opening.to_zoned(jiff::tz::TimeZone::get("Europe/Berlin").expect("known")).date();
                    openings.entry(day).or_insert_with(std::collections::BTreeSet::new).insert(opening);
                }
                now += SignedDuration::from_mins(1);
            }
            assert!(openings.values().all(|openings| openings.len() == 1), "{openings:?}");
            assert_eq!(openings.len(), 3, "one on each day: {openings:?}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_field() {
        for (schedule, time_zone) in [("0 25 * * *", "UTC"), ("0 3 * * SUN", "Europe/Atlantis"), ("a b c d e", "UTC")] {
            let spec = Spec { schedule: schedule.into(), time_zone: time_zone.into(), ..Spec::default() };
            let refusal = Window::of(&spec).map(drop).expect_err("refused").to_string();
            assert!(refusal.starts_with("spec.upgrade.window:"), "{refusal}");
            assert!(!refusal.contains('\n'), "{refusal}");
        }
    }

    #[test]
    fn a_day_that_never_comes_leaves_the_window_closed() {
        let never = window("0 0 31 2 *", "UTC", "1h", None);
        assert_eq!(at(&never, "2026-11-29T03:00:00Z"), Opening::Closed(None));
    }
}
