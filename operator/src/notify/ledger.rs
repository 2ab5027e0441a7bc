//! Which notices each target has accepted.
//!
//! Kept in one ConfigMap for each cluster, in the operator's namespace. The reconciler notes a target's beginning there
//! *before* it writes anything to the record that could be told, so that nothing which becomes known after a target was
//! seen can be missed. The notifier adds what was accepted. Both write only onto the version that they read.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;

use super::notice::{CloudEvent, Notice, notices};
use crate::{
    observed::Observed,
    plan::{change::Change, identity::Identity},
    settings::Settings,
};

const TOLD: &str = "told.json";

/// Name of the ledger in the operator's namespace.
pub fn ledger_name(cluster_id: &str) -> String {
    format!("notified-{cluster_id}")
}

/// The ids of what each target has accepted or need not be told, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    told: BTreeMap<String, BTreeSet<String>>,
}

/// What is to be told about one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// Which cluster.
    pub identity: Identity,
    /// What each target has not accepted yet, oldest first, by the target's name.
    pub owed: BTreeMap<String, Vec<CloudEvent>>,
}

impl Ledger {
    /// The ledger as it is written down. What can't be read is begun anew.
    pub fn read(object: Option<&ConfigMap>) -> Self {
        let told = object.and_then(|object| object.data.as_ref()?.get(TOLD));
        Self { told: told.and_then(|told| serde_json::from_str(told).ok()).unwrap_or_default() }
    }

    fn write(&self, identity: &Identity, namespace: &str) -> ConfigMap {
        let told = serde_json::to_string(&self.told).unwrap_or_default();
        ConfigMap {
            metadata: identity.meta_in(Some(namespace), &ledger_name(&identity.cluster_id)),
            data: Some(BTreeMap::from([(TOLD.to_owned(), told)])),
            ..ConfigMap::default()
        }
    }

    /// The ledger for these targets and no others, without what can't be owed any more. A target that is new need not be
    /// told what happened before, but what is the case right now.
    pub fn of(mut self, targets: &[String], notices: &[Notice]) -> Self {
        self.told.retain(|target, _| targets.contains(target));
        for told in self.told.values_mut() {
            told.retain(|id| notices.iter().any(|notice| notice.event.id == *id));
        }
        for target in targets {
            let past = notices.iter().filter(|notice| !notice.current).map(|notice| notice.event.id.clone());
            self.told.entry(target.clone()).or_insert_with(|| past.collect());
        }
        self
    }

    /// What a target has not accepted yet. Nothing while its beginning is not written down.
    fn owed(&self, target: &str, notices: &[Notice]) -> Vec<CloudEvent> {
        let Some(told) = self.told.get(target) else { return Vec::new() };
        let owed = notices.iter().filter(|notice| !told.contains(&notice.event.id));
        owed.map(|notice| notice.event.clone()).collect()
    }
}

/// What becomes of a cluster's ledger, from what the record said before this reconcile.
pub fn change(identity: &Identity, observed: &Observed, settings: &Settings) -> Change<ConfigMap> {
    let (seen, targets) = (observed.custody.notified.as_ref(), &settings.notification_targets);
    if seen.is_none() && targets.is_empty() {
        return Change::Keep;
    }
    let record = observed.custody.record.as_ref();
    let notices = record.map(|record| notices(identity, &settings.installation_id, record)).unwrap_or_default();
    Change::between(Ledger::read(seen).of(targets, &notices).write(identity, &settings.operator_namespace), seen)
}

/// What is to be told about a cluster, as of what is written down about this very resource. `None` at its end, once its
/// record is gone: what was owed by then is owed still.
pub fn dispatch(observed: &Observed, settings: &Settings) -> Option<Dispatch> {
    let identity = Identity::of(&observed.cluster, &settings.installation_id);
    let record = observed.custody.record.as_ref().filter(|record| identity.owns(*record));
    if record.is_none() && observed.cluster.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ledger = Ledger::read(observed.custody.notified.as_ref().filter(|seen| identity.owns(*seen)));
    let notices = record.map(|record| notices(&identity, &settings.installation_id, record)).unwrap_or_default();
    let targets = settings.notification_targets.iter();
    let owed = targets.map(|target| (target.clone(), ledger.owed(target, &notices))).collect();
    Some(Dispatch { identity, owed })
}

/// The ledger after a target accepted something, to be applied onto the version that was read. `None` if there is nothing
/// to note: it is noted already, the target is gone, or the ledger is another's by now.
pub fn accepted(
    identity: &Identity,
    namespace: &str,
    seen: &ConfigMap,
    target: &str,
    event_id: &str,
) -> Option<ConfigMap> {
    let mut ledger = Ledger::read(Some(seen));
    if !identity.owns(seen) || !ledger.told.get_mut(target)?.insert(event_id.to_owned()) {
        return None;
    }
    match Change::between(ledger.write(identity, namespace), Some(seen)) {
        Change::Keep => None,
        Change::Apply(mut object) => {
            object.metadata.resource_version.clone_from(&seen.metadata.resource_version);
            Some(*object)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::identity;
    use serde_json::Value;

    fn notice(id: &str, current: bool) -> Notice {
        let event = CloudEvent {
            specversion: "1.0",
            id: id.into(),
            source: String::new(),
            type_: "test",
            subject: String::new(),
            time: None,
            datacontenttype: "application/json",
            data: Value::Null,
        };
        Notice { event, current }
    }

    fn ids(events: &[CloudEvent]) -> Vec<&str> {
        events.iter().map(|event| event.id.as_str()).collect()
    }

    fn targets(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_new_target_is_told_what_is_the_case_and_what_comes_and_no_old_history() {
        let mut notices = vec![notice("old report", false), notice("open advisory", true)];
        let ledger = Ledger::default().of(&targets(&["a"]), &notices);
        assert_eq!(ids(&ledger.owed("a", &notices)), ["open advisory"]);
        notices.push(notice("new report", false));
        let ledger = ledger.of(&targets(&["a", "b"]), &notices);
        assert_eq!(ids(&ledger.owed("a", &notices)), ["open advisory", "new report"]);
        assert_eq!(ids(&ledger.owed("b", &notices)), ["open advisory"]);
    }

    #[test]
    fn nothing_is_owed_before_a_targets_beginning_is_written_down() {
        assert!(Ledger::default().owed("a", &[notice("report", false)]).is_empty());
    }

    #[test]
    fn what_was_accepted_is_owed_no_more_and_forgotten_with_what_it_was_about() {
        let notices = [notice("first", false), notice("second", false)];
        let begun = Ledger::default().of(&targets(&["a", "b"]), &[]);
        let seen = begun.write(&identity(), "system");
        let seen = accepted(&identity(), "system", &seen, "a", "first").expect("noted");
        let ledger = Ledger::read(Some(&seen));
        assert_eq!(ids(&ledger.owed("a", &notices)), ["second"]);
        assert_eq!(ids(&ledger.owed("b", &notices)), ["first", "second"]);
        assert_eq!(accepted(&identity(), "system", &seen, "a", "first"), None, "once is enough");
        assert_eq!(accepted(&identity(), "system", &seen, "c", "first"), None, "no such target");
        assert_eq!(ledger.of(&targets(&["a", "b"]), &notices[1..]), begun);
    }

    #[test]
    fn a_target_that_went_and_came_again_is_new() {
        let notices = [notice("report", false)];
        let begun = Ledger::default().of(&targets(&["a"]), &[]);
        assert_eq!(begun.owed("a", &notices).len(), 1);
        let again = begun.of(&[], &notices).of(&targets(&["a"]), &notices);
        assert!(again.owed("a", &notices).is_empty());
    }

    #[test]
    fn the_ledger_of_another_resource_is_not_written() {
        let seen = Ledger::default().of(&targets(&["a"]), &[]).write(&identity(), "system");
        let other = Identity { owner_name: "other".into(), ..identity() };
        assert_eq!(accepted(&other, "system", &seen, "a", "first"), None);
    }
}
