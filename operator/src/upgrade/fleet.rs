//! What all clusters of an installation must agree on: how many are moving, and which releases are bad.
//!
//! Kept in one ConfigMap in the operator's namespace, which is only ever replaced in the version that was read: of two
//! clusters that want the last place, one gets it, also while two operators believe to lead.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, Serialize};
use vectorkeep_crds::well_known::{FIELD_MANAGER, LABEL_MANAGED_BY};

/// Name of the ConfigMap.
pub const FLEET: &str = "upgrade-fleet";
/// A cluster that has been moving for longer is stuck, and another matter.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);
const MOVING: &str = "moving.json";
const QUARANTINED: &str = "quarantined.json";

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Clusters with an upgrade under way, by id.
    moving: BTreeMap<String, Moving>,
    /// Releases that failed a cluster, by image.
    quarantined: BTreeMap<String, Quarantined>,
    /// Whether what is written down can't be read: then nobody moves, and nothing is written over it.
    broken: bool,
}

/// One cluster with an upgrade under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moving {
    /// Version that it moves to.
    to: String,
    /// Since when.
    since: Timestamp,
    /// Whether it waits for its key: then it takes nobody's place.
    #[serde(default)]
    suspended: bool,
}

/// A release that failed a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quarantined {
    version: String,
    reason: String,
    cluster_id: String,
}

impl Fleet {
    /// The fleet as it is written down.
    pub fn read(object: Option<&ConfigMap>) -> Self {
        let data = object.and_then(|object| object.data.as_ref());
        let (moving, quarantined) = (entry(data, MOVING), entry(data, QUARANTINED));
        Self {
            broken: moving.is_none() || quarantined.is_none(),
            moving: moving.unwrap_or_default(),
            quarantined: quarantined.unwrap_or_default(),
        }
    }

    /// Whether what is written down can't be read.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The object that says so.
    pub fn write(&self, namespace: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(FLEET.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(LABEL_MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([
                (MOVING.to_owned(), serde_json::to_string(&self.moving).unwrap_or_default()),
                (QUARANTINED.to_owned(), serde_json::to_string(&self.quarantined).unwrap_or_default()),
            ])),
            ..ConfigMap::default()
        }
    }

    /// Whether one more cluster may move, of at most `budget` at a time. One that has been moving for very long holds
    /// nobody up any more.
    pub fn has_room(&self, cluster_id: &str, budget: usize, now: Timestamp) -> bool {
        let counts = |moving: &Moving| !moving.suspended && now - LONGEST < moving.since;
        let others = self.moving.iter().filter(|(id, moving)| *id != cluster_id && counts(moving));
        !self.broken && others.count() < budget
    }

    /// Whether a cluster moves, and has not been at it for very long.
    pub fn is_on_its_way(&self, cluster_id: &str, now: Timestamp) -> bool {
        self.moving.get(cluster_id).is_some_and(|moving| now - LONGEST < moving.since)
    }

    /// Notes that a cluster moves to `to`, or waits for its key on the way.
    pub fn moves(&mut self, cluster_id: &str, to: &str, since: Timestamp, suspended: bool) {
        self.moving.insert(cluster_id.to_owned(), Moving { to: to.to_owned(), since, suspended });
    }

    /// Notes that a cluster rests.
    pub fn rests(&mut self, cluster_id: &str) {
        self.moving.remove(cluster_id);
    }

    /// Whether a release failed a cluster.
    pub fn is_quarantined(&self, image: &str) -> bool {
        self.quarantined.contains_key(image)
    }

    /// Notes that a release failed a cluster. The first report stays.
    pub fn quarantine(&mut self, image: &str, version: &str, reason: &str, cluster_id: &str) {
        self.quarantined.entry(image.to_owned()).or_insert_with(|| Quarantined {
            version: version.to_owned(),
            reason: reason.to_owned(),
            cluster_id: cluster_id.to_owned(),
        });
    }

    /// Versions that are quarantined, for people.
    pub fn quarantined_versions(&self) -> Vec<&str> {
        self.quarantined.values().map(|quarantined| quarantined.version.as_str()).collect()
    }
}

/// What an entry holds: nothing if it isn't there; `None` if it can't be read.
fn entry<T: Default + for<'a> Deserialize<'a>>(data: Option<&BTreeMap<String, String>>, key: &str) -> Option<T> {
    match data.and_then(|data| data.get(key)) {
        Some(text) => serde_json::from_str(text).ok(),
        None => Some(T::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    #[test]
    fn a_fleet_is_read_back_as_it_was_written() {
        let mut fleet = Fleet::default();
        fleet.moves("vc1", "1.4.2", at(0), true);
        fleet.quarantine("image", "1.4.1", "crashed", "vc1");
        assert_eq!(Fleet::read(Some(&fleet.write("system"))), fleet);
        assert_eq!(Fleet::read(None), Fleet::default());
    }

    #[test]
    fn there_is_room_for_so_many_and_those_that_wait_for_their_key_or_are_stuck_take_none() {
        let mut fleet = Fleet::default();
        fleet.moves("vc1", "1.4.2", at(0), false);
        fleet.moves("vc2", "1.4.2", at(0), true);
        assert!(fleet.has_room("vc3", 2, at(1)));
        assert!(!fleet.has_room("vc3", 1, at(1)));
        assert!(fleet.has_room("vc1", 1, at(1)), "its own place is its own");
        assert!(fleet.has_room("vc3", 1, at(3600)));
        fleet.rests("vc1");
        assert!(fleet.has_room("vc3", 1, at(1)));
    }

    #[test]
    fn what_a_person_wrote_wrongly_lifts_no_quarantine_and_is_not_written_over() {
        let mut object = Fleet::default().write("system");
        object.data.get_or_insert_default().insert(QUARANTINED.to_owned(), "{\"image\": {},}".to_owned());
        let fleet = Fleet::read(Some(&object));
        assert!(fleet.is_broken() && !fleet.has_room("vc1", 3, at(0)));
    }
}
