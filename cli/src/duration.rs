//! Durations as people write and read them.

use std::time::Duration;

use jiff::SignedDuration;

/// Parses a duration like `90s`, `10m` or `1h30m`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|_| "a duration is written like 90s, 10m or 1h30m".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "a duration can't be negative".to_owned())
}

/// A number of seconds in its largest units: `42s`, `3m05s`, `2h10m`, `89d`.
pub(crate) fn show(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    if seconds < MINUTE {
        format!("{seconds}s")
    } else if seconds < HOUR {
        format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE)
    } else if seconds < 2 * DAY {
        format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE)
    } else {
        format!("{}d", seconds / DAY)
    }
}

/// As [`show`], for a limit that was given.
pub(crate) fn show_limit(limit: Duration) -> String {
    show(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        assert_eq!(parse("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(parse("10").is_err());
        assert!(parse("-10m").is_err());
    }

    #[test]
    fn the_largest_units_are_shown() {
        assert_eq!(show(0), "0s");
        assert_eq!(show(185), "3m05s");
        assert_eq!(show(7800), "2h10m");
        assert_eq!(show(90 * 86_400 - 1), "89d");
    }
}
