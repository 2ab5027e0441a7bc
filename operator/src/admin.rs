//! What an engine says of itself on its admin port (`GET /v1/status`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Port of the admin API: mutual TLS, for the operator alone.
pub const ADMIN_PORT: u16 = 9092;
/// Port of health and metrics.
pub const HEALTH_PORT: u16 = 9091;

/// What is known of an engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum EngineView {
    /// Nothing has been heard yet since this operator process started to ask.
    #[default]
    NotAsked,
    /// Nothing has been heard yet since the engine was started anew; what it said before counts no more.
    Restarted,
    /// The engine does not answer; what it said before counts no more.
    Silent {
        /// Why, in words without addresses.
        reason: String,
    },
    /// The engine answered.
    Answered(Box<EngineStatus>),
}

impl EngineView {
    /// What the engine said, if it was heard.
    pub fn answer(&self) -> Option<&EngineStatus> {
        match self {
            Self::Answered(status) => Some(status),
            Self::NotAsked | Self::Restarted | Self::Silent { .. } => None,
        }
    }

    /// Whether the engine is just being asked: within seconds it is heard, or silent.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Self::NotAsked | Self::Restarted)
    }

    /// Whether the difference between two views is worth a reconcile. Times move with every poll.
    pub fn differs_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Answered(a), Self::Answered(b)) => {
                let still = |status: &EngineStatus| {
                    let mut status = EngineStatus::clone(status);
                    status.key.last_check = None;
                    if status.key.state == KeyState::Accessible {
                        status.key.last_success = None;
                    }
                    status.shards.clear();
                    status.traffic = None;
                    if let Some(isolation) = &mut status.isolation {
                        isolation.at = None;
                    }
                    status
                };
                still(a) != still(b)
            }
            (a, b) => a != b,
        }
    }
}

/// The answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// Version of the engine.
    pub version: String,
    /// File formats, of an engine that tells them.
    #[serde(default)]
    pub format: Option<EngineFormat>,
    /// Cluster that the engine believes to serve.
    pub cluster_id: String,
    /// Identity of the store, once it was unlocked.
    pub store_id: Option<String>,
    /// New for each process image.
    pub boot_id: String,
    /// Whether the engine serves.
    pub state: EngineState,
    /// State of the master key.
    pub key: EngineKey,
    /// Encryption zones.
    #[serde(default)]
    pub zones: Vec<EngineZone>,
    /// Shards with their epochs.
    #[serde(default)]
    pub shards: Vec<EngineShard>,
    /// The certificate that clients are shown right now.
    pub serving_certificate: Option<ShownCertificate>,
    /// Fingerprints of the CA certificates that lie beside it.
    #[serde(default)]
    pub serving_authorities: Vec<String>,
    /// The certificate that the operator is shown right now.
    #[serde(default)]
    pub internal_certificate: Option<ShownCertificate>,
    /// Fingerprints of the CA certificates by which the operator's own certificate is judged.
    #[serde(default)]
    pub internal_authorities: Vec<String>,
    /// Whether the engine read and found the row that it keeps for this, once it was unlocked.
    #[serde(default)]
    pub self_test: Option<SelfTest>,
    /// What clients asked of it in the last minutes.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// What the engine reached of what it must not reach.
    #[serde(default)]
    pub isolation: Option<Isolation>,
}

impl EngineStatus {
    /// Whether the network leaves the engine so open that it asks for no key, or would not if it were started now.
    pub fn is_exposed(&self) -> bool {
        let exposed = |it: &Isolation| it.withholds.unwrap_or(it.required && !it.reached.is_empty());
        self.isolation.as_ref().is_some_and(exposed)
    }

    /// Whether the engine can't serve a store of file format `format`, since it knows only older ones.
    pub fn knows_less_than(&self, format: i32) -> bool {
        self.state != EngineState::Serving && self.format.is_some_and(|known| known.newest < format)
    }
}

/// File formats of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct EngineFormat {
    /// The newest that it knows.
    pub newest: i32,
    /// The highest that one of its shards has, once it has seen one.
    #[serde(default)]
    pub committed: Option<i32>,
}

/// Whether an engine serves. What a later engine may say beside these counts as not serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum EngineState {
    /// Without key and without data.
    Locked,
    /// The key answered; collections are being loaded.
    Unlocking,
    /// Reads and writes are served.
    Serving,
    /// Something that this operator does not know.
    #[serde(other)]
    Other,
}

/// State of the master key, as the engine sees it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineKey {
    /// The state.
    pub state: KeyState,
    /// What the KMS said, in words.
    #[serde(default)]
    pub message: Option<String>,
    /// When the key last answered.
    #[serde(default)]
    pub last_success: Option<Timestamp>,
    /// When the key was last asked.
    #[serde(default)]
    pub last_check: Option<Timestamp>,
    /// Whether the KMS is asked at an address that was configured.
    #[serde(default)]
    pub endpoint_override: bool,
}

/// State of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum KeyState {
    /// The key answers.
    Accessible,
    /// The KMS or the identity service said no.
    Refused,
    /// No answer, or one that says "later".
    Unreachable,
    /// An answer that can't be right.
    Invalid,
    /// Not asked yet.
    #[serde(other)]
    Unknown,
}

impl KeyState {
    /// The state as status and messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accessible => "Accessible",
            Self::Refused => "Refused",
            Self::Unreachable => "Unreachable",
            Self::Invalid => "Invalid",
            Self::Unknown => "Unknown",
        }
    }
}

/// The outcome of an engine's self-test.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfTest {
    /// Whether the row was read and found.
    pub passed: bool,
    /// What went wrong, without data.
    #[serde(default)]
    pub message: String,
}

/// What clients asked of an engine in the last minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests for data.
    pub requests: u64,
    /// Those that failed through no fault of the client.
    pub failures: u64,
    /// Median time to serve one, in milliseconds.
    pub p50_ms: f64,
    /// Time within which 99 of 100 were served, in milliseconds.
    pub p99_ms: f64,
}

/// What an engine reached of what its policies forbid.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Isolation {
    /// Whether it stays locked while it reaches one that decides.
    #[serde(default)]
    pub required: bool,
    /// Whether it asks for no key because of what it reached. Older engines don't say; there, everything decides.
    #[serde(default)]
    pub withholds: Option<bool>,
    /// Listeners that it reached.
    #[serde(default)]
    pub reached: Vec<String>,
    /// Listeners that it did not reach.
    #[serde(default)]
    pub unreached: Vec<String>,
    /// When it tried.
    #[serde(default)]
    pub at: Option<Timestamp>,
}

/// One encryption zone.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EngineZone {
    /// Random id.
    pub id: String,
    /// `system` or `database`.
    pub purpose: String,
    /// Version of the zone's key.
    pub version: i64,
    /// State of the zone's key.
    pub state: KeyState,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineShard {
    /// Random id of the database.
    pub database_id: String,
    /// Number of the slot within the database.
    pub slot: u32,
    /// Epoch of the manifest.
    pub epoch: u64,
    /// End of the write-ahead log.
    pub high_water: u64,
}

/// A certificate that an engine shows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ShownCertificate {
    /// SHA-256 of the leaf's DER form, hexadecimal.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> EngineStatus {
        serde_json::from_str(json).expect("a valid answer")
    }

    fn answered(json: &str) -> EngineView {
        EngineView::Answered(Box::new(status(json)))
    }

    const SERVING: &str = r#"{
        "version": "0.1.0", "clusterId": "vc0123456789abcdef", "storeId": null, "bootId": "b1",
        "state": "Serving",
        "key": {"state": "Accessible", "message": "", "lastSuccess": "2026-01-01T00:00:00Z",
                "lastCheck": "2026-01-01T00:00:00Z", "endpointOverride": true},
        "zones": [{"id": "00", "purpose": "system", "version": 1, "state": "Accessible"}],
        "shards": [{"databaseId": "00", "slot": 0, "epoch": 3, "highWater": 1}],
        "servingCertificate": {"sha256": "ab"}
    }"#;

    #[test]
    fn the_passing_of_time_is_not_a_change() {
        let before = answered(SERVING);
        let later =
            answered(&SERVING.replace("00:00:00Z", "00:00:10Z").replace("\"highWater\": 1", "\"highWater\": 2"));
        assert!(!later.differs_from(&before));
    }

    #[test]
    fn a_refused_key_and_silence_are_changes() {
        let before = answered(SERVING);
        let refused =
            answered(&SERVING.replace("\"key\": {\"state\": \"Accessible\"", "\"key\": {\"state\": \"Refused\""));
        assert!(refused.differs_from(&before));
        let silent = EngineView::Silent { reason: "no answer".to_owned() };
        assert!(silent.differs_from(&before));
    }

    #[test]
    fn a_state_of_a_later_engine_is_read_and_does_not_count_as_serving() {
        let later = status(&SERVING.replace("\"Serving\"", "\"Hibernating\""));
        assert_eq!(later.state, EngineState::Other);
    }
}
