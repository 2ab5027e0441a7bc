//! What one target has not accepted yet, in this process. It is filled from what is written down, again and again, so
//! that losing it loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::notice::CloudEvent;
use crate::plan::identity::Identity;

/// One event of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    owner: (String, String),
    event_id: String,
}

impl Key {
    fn of(identity: &Identity, event: &CloudEvent) -> Self {
        Self { owner: owner(identity), event_id: event.id.clone() }
    }
}

/// Namespace and name of a resource.
fn owner(identity: &Identity) -> (String, String) {
    (identity.owner_namespace.clone(), identity.owner_name.clone())
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
    /// What the ledger holds as accepted by now: a reconcile that read it before may still ask for it.
    settled: BTreeSet<Key>,
}

impl Outbox {
    /// Takes on everything that is owed about one cluster, in place of what was before.
    pub fn owe(&mut self, identity: &Identity, events: Vec<CloudEvent>) {
        let owner = owner(identity);
        let mut owed: BTreeMap<Key, CloudEvent> =
            events.into_iter().map(|event| (Key::of(identity, &event), event)).collect();
        self.queue.retain(|key, _| key.owner != owner || owed.contains_key(key));
        self.settled.retain(|key| key.owner != owner || owed.contains_key(key));
        owed.retain(|key, _| !self.settled.contains(key));
        for (key, event) in owed {
            let item = || Item { identity: identity.clone(), event, accepted: false, attempts: 0 };
            self.queue.entry(key).or_insert_with(item);
        }
    }

    /// What to try next: what was tried least, of these the oldest. So an event that the target can't digest does not
    /// keep the others back.
    pub fn next(&self) -> Option<(Key, Item)> {
        let rank = |item: &Item| (item.attempts, item.event.time.clone());
        let first = self.queue.iter().min_by(|a, b| rank(a.1).cmp(&rank(b.1)).then(a.0.cmp(b.0)))?;
        Some((first.0.clone(), first.1.clone()))
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
        self.queue.remove(&key);
        self.settled.insert(key);
    }

    /// How many events the target has not accepted yet.
    pub fn pending(&self) -> usize {
        self.queue.values().filter(|item| !item.accepted).count()
    }
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
