//! When and how far a cluster's engine patches itself.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When and how far the engine patches itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// Minor line to stay on, like `1.4`. If there is none: that of the release that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+\.[0-9]+$"))]
    pub version: Option<String>,
    /// Whether the newest patch level of the line is taken by itself, inside the window.
    #[serde(default = "yes")]
    pub auto_patch: bool,
    /// Whether nothing new is begun, not even a security release. What is under way is finished.
    #[serde(default)]
    pub paused: bool,
    /// When security releases are taken.
    #[serde(default)]
    pub security_releases: SecurityReleases,
    /// When patches and renewed pod templates are rolled out.
    #[serde(default)]
    pub window: Window,
}

/// When security releases are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecurityReleases {
    /// Inside the window, like every other release.
    #[default]
    InWindow,
    /// As soon as they are in the catalog.
    Immediately,
}

/// A recurring maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.duration) >= duration('15m') && duration(self.duration) <= duration('24h')")
        .message("upgrade.window.duration must lie between 15m and 24h")
        .field_path(".duration"),
    validation = Rule::new("!has(self.startDeadline) || (duration(self.startDeadline) >= duration('1m') && duration(self.startDeadline) <= duration(self.duration))")
        .message("upgrade.window.startDeadline must lie between 1m and upgrade.window.duration")
        .field_path(".startDeadline")
)]
pub struct Window {
    /// When it opens: a cron expression of five fields (minute, hour, day of month, month, day of week), in wall-clock
    /// time of the time zone, also across changes of daylight-saving time.
    #[serde(default = "default_schedule")]
    #[schemars(length(max = 128), regex(pattern = r"^\S+( \S+){4}$"))]
    pub schedule: String,
    /// IANA name of its time zone, like `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
    /// How long it is open, between 15m and 24h.
    #[serde(default = "default_window_duration")]
    #[schemars(length(max = 32), regex(pattern = crate::upgrade::DURATION))]
    pub duration: String,
    /// How long after its opening something may begin, at least 1m. If there is none: until fifteen minutes before it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::upgrade::DURATION))]
    pub start_deadline: Option<String>,
}

/// A duration as Go writes it.
pub const DURATION: &str = r"^([0-9]+(h|m|s|ms))+$";

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            version: None,
            auto_patch: true,
            paused: false,
            security_releases: SecurityReleases::default(),
            window: Window::default(),
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self {
            schedule: default_schedule(),
            time_zone: default_time_zone(),
            duration: default_window_duration(),
            start_deadline: None,
        }
    }
}

fn yes() -> bool {
    true
}

fn default_schedule() -> String {
    "0 3 * * SUN".to_owned()
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn default_window_duration() -> String {
    "2h".to_owned()
}
