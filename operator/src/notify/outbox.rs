//! What one target has not accepted yet, in this process. It is filled from what is written down, again and again, so
//! that losing it loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::notice::CloudEvent;
use crate::plan::identity::Identity;

/// So many events wait at most, of about a kilobyte each: a target that never answers must not use up the memory that
/// every cluster is looked after with.
const ROOM: usize = 10_000;

/// One event of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    owner: Owner,
    event_id: String,
}

/// One resource. Another that is made under the same name has another UID: what is owed about the one before is not its
/// own to take back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    namespace: String,
    name: String,
    uid: String,
}

impl Key {
    fn of(identity: &Identity, event: &CloudEvent) -> Self {
        Self { owner: Owner::of(identity), event_id: event.id.clone() }
    }
}

impl Owner {
    fn of(identity: &Identity) -> Self {
        Self {
            namespace: identity.owner_namespace.clone(),
            name: identity.owner_name.clone(),
            uid: identity.owner_uid.clone(),
        }
    }
}

/// One event on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Whom it is about.
    pub identity: Identity,
    /// What happened.
    pub event: CloudEvent,
    /// Whether the target has accepted it, and only the ledger does not say so yet.
    pub accepted: bool,
    attempts: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: BTreeMap<Key, Item>,
    /// What went from the queue into the ledger: a reconcile that read the ledger before may still ask for it.
    settled: BTreeSet<Key>,
}

impl Outbox {
    /// Takes on everything that is owed about one cluster, in place of what was before. Where there is no room for it all,
    /// what would be tried last is let go: as long as it is written down, it is asked for again.
    pub fn owe(&mut self, identity: &Identity, events: Vec<CloudEvent>) {
        let owner = Owner::of(identity);
        let mut owed: BTreeMap<Key, CloudEvent> =
            events.into_iter().map(|event| (Key::of(identity, &event), event)).collect();
        self.queue.retain(|key, _| key.owner != owner || owed.contains_key(key));
        self.settled.retain(|key| key.owner != owner || owed.contains_key(key));
        owed.retain(|key, _| !self.settled.contains(key));
        for (key, event) in owed {
            let item = || Item { identity: identity.clone(), event, accepted: false, attempts: 0 };
            self.queue.entry(key).or_insert_with(item);
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        let excess = self.queue.len().saturating_sub(ROOM);
        if excess == 0 {
            return;
        }
        let mut ranked: Vec<_> = self.queue.iter().collect();
        ranked.sort_unstable_by_key(turn);
        let last: Vec<Key> = ranked.into_iter().rev().take(excess).map(|(key, _)| key.clone()).collect();
        for key in last {
            self.queue.remove(&key);
        }
    }

    /// What to try next.
    pub fn next(&self) -> Option<(Key, Item)> {
        self.queue.iter().min_by_key(turn).map(|(key, item)| (key.clone(), item.clone()))
    }

    /// An attempt came to nothing.
    pub fn failed(&mut self, key: &Key) {
        if let Some(item) = self.queue.get_mut(key) {
            item.attempts = item.attempts.saturating_add(1);
        }
    }

    /// The target has it.
    pub fn accepted(&mut self, key: &Key) {
        if let Some(item) = self.queue.get_mut(key) {
            item.accepted = true;
        }
    }

    /// The ledger says so.
    pub fn settled(&mut self, key: Key) {
        if self.queue.remove(&key).is_some() {
            self.settled.insert(key);
        }
    }

    /// Forgets what was settled about a resource that is gone, or going: the next reconcile, if there is one, reads the
    /// ledger anew. What is owed about it stays.
    pub fn forget(&mut self, namespace: &str, name: &str) {
        self.settled.retain(|Key { owner, .. }| owner.namespace != namespace || owner.name != name);
    }

    /// How many events the target has not accepted yet.
    pub fn pending(&self) -> usize {
        self.queue.values().filter(|item| !item.accepted).count()
    }
}

/// Whose turn it is: what was tried least, of these the oldest. So an event that the target can't digest does not keep
/// the others back.
fn turn<'a>((key, item): &(&'a Key, &'a Item)) -> (u32, Option<&'a str>, &'a Key) {
    (item.attempts, item.event.time.as_deref(), *key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn identity(name: &str) -> Identity {
        Identity {
            cluster_id: format!("vc-{name}"),
            namespace: format!("vk-vc-{name}"),
            owner_namespace: "acme".into(),
            owner_name: name.into(),
            owner_uid: "uid-1".into(),
        }
    }

    fn event(id: &str, time: &str) -> CloudEvent {
        CloudEvent {
            specversion: "1.0",
            id: id.into(),
            source: String::new(),
            type_: "test",
            subject: String::new(),
            time: Some(time.into()),
            datacontenttype: "application/json",
            data: Value::Null,
        }
    }

    fn next(outbox: &Outbox) -> (Key, String) {
        let (key, item) = outbox.next().expect("something is owed");
        (key, item.event.id)
    }

    #[test]
    fn the_oldest_goes_first_and_what_fails_goes_behind_what_was_not_tried() {
        let mut outbox = Outbox::default();
        outbox.owe(&identity("a"), vec![event("1", "2026-01-02T00:00:00Z"), event("2", "2026-01-01T00:00:00Z")]);
        let (key, id) = next(&outbox);
        assert_eq!(id, "2");
        outbox.failed(&key);
        assert_eq!(next(&outbox).1, "1");
    }

    #[test]
    fn what_was_settled_is_not_taken_on_again_by_a_reconcile_that_knew_less() {
        let mut outbox = Outbox::default();
        let owed = || vec![event("1", "2026-01-01T00:00:00Z")];
        outbox.owe(&identity("a"), owed());
        let (key, _) = next(&outbox);
        outbox.accepted(&key);
        assert_eq!(outbox.pending(), 0);
        assert!(outbox.next().is_some(), "the ledger is to be written still");
        outbox.settled(key);
        outbox.owe(&identity("a"), owed());
        assert_eq!(outbox.next(), None);
        // Once it is no longer asked for, it need not be remembered.
        outbox.owe(&identity("a"), Vec::new());
        assert!(outbox.settled.is_empty());
    }

    #[test]
    fn what_was_settled_is_forgotten_with_its_resource_and_what_is_not_in_the_queue_is_not_remembered() {
        let mut outbox = Outbox::default();
        for name in ["a", "b"] {
            outbox.owe(&identity(name), vec![event("1", "2026-01-01T00:00:00Z")]);
            let (key, _) = next(&outbox);
            outbox.settled(key.clone());
            outbox.settled(key);
        }
        outbox.forget("acme", "a");
        let left: Vec<_> = outbox.settled.iter().map(|key| key.owner.name.as_str()).collect();
        assert_eq!(left, ["b"]);
        outbox.owe(&identity("b"), Vec::new());
        let gone = Key::of(&identity("b"), &event("1", "2026-01-01T00:00:00Z"));
        outbox.settled(gone);
        assert!(outbox.settled.is_empty());
    }

    #[test]
    fn a_resource_made_anew_does_not_take_back_what_is_owed_about_the_one_before() {
        let mut outbox = Outbox::default();
        outbox.owe(&identity("a"), vec![event("1", "2026-01-01T00:00:00Z")]);
        let anew = Identity { owner_uid: "uid-2".into(), ..identity("a") };
        outbox.owe(&anew, Vec::new());
        assert_eq!(next(&outbox).1, "1");
    }

    #[test]
    fn a_target_that_never_answers_is_owed_so_much_and_what_was_tried_most_goes_first() {
        let mut outbox = Outbox::default();
        let tried = || vec![event("tried", "2026-01-01T00:00:00Z")];
        outbox.owe(&identity("a"), tried());
        let (key, _) = next(&outbox);
        outbox.failed(&key);
        let many = |count: usize| -> Vec<CloudEvent> {
            (0..count).map(|number| event(&number.to_string(), "2026-01-02T00:00:00Z")).collect()
        };
        outbox.owe(&identity("b"), many(ROOM - 1));
        assert!(outbox.queue.contains_key(&key), "there is room");
        outbox.owe(&identity("b"), many(ROOM));
        assert_eq!(outbox.pending(), ROOM);
        assert!(!outbox.queue.contains_key(&key));
        // It is written down still, and so it is asked for again.
        outbox.owe(&identity("a"), tried());
        assert_eq!((outbox.pending(), next(&outbox).0), (ROOM, key));
    }

    #[test]
    fn one_cluster_does_not_touch_what_is_owed_about_another_and_attempts_are_remembered() {
        let mut outbox = Outbox::default();
        outbox.owe(&identity("a"), vec![event("1", "2026-01-01T00:00:00Z")]);
        let (key, _) = next(&outbox);
        outbox.failed(&key);
        outbox.owe(&identity("a"), vec![event("1", "2026-01-01T00:00:00Z")]);
        outbox.owe(&identity("b"), vec![event("1", "2026-01-02T00:00:00Z")]);
        assert_eq!(outbox.pending(), 2);
        let (other, _) = next(&outbox);
        assert_ne!(other, key, "the one that was not tried");
        outbox.owe(&identity("b"), Vec::new());
        assert_eq!(next(&outbox).0, key);
    }
}
