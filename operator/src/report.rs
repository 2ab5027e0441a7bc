//! Says what was found and done: the status, and Events about what changed. It takes only what `apply` returned.

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder},
};
use serde_json::json;
use vectorkeep_crds::{
    VectorCluster,
    status::{Condition, VectorClusterStatus},
    well_known::FIELD_MANAGER,
};

use crate::{apply::Applied, plan::conditions::types};

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the status of {name} could not be written")]
pub struct ReportError {
    /// Of which resource.
    pub name: String,
    /// Why.
    #[source]
    pub source: Box<kube::Error>,
}

/// Writes the status, if it is another one, and publishes Events.
///
/// An Event that can't be published is only logged: it is a courtesy, and must not hold up the next reconcile.
pub async fn report(
    client: &Client,
    recorder: &Recorder,
    cluster: &VectorCluster,
    applied: &Applied,
) -> Result<(), ReportError> {
    for event in events(cluster, applied) {
        if let Err(error) = recorder.publish(&event, &cluster.object_ref(&())).await {
            tracing::warn!(%error, reason = event.reason, "an Event could not be published");
        }
    }
    let Some(status) = applied.status() else {
        return Ok(());
    };
    if cluster.status.as_ref() == Some(status) {
        return Ok(());
    }
    write(client, cluster, status).await
}

async fn write(client: &Client, cluster: &VectorCluster, status: &VectorClusterStatus) -> Result<(), ReportError> {
    let name = cluster.name_any();
    let api: Api<VectorCluster> = Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": VectorCluster::api_version(&()),
        "kind": VectorCluster::kind(&()),
        "metadata": {"name": name, "uid": cluster.uid()},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&name, &parameters, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        // The resource went in the meantime: nobody is left to be told.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ReportError { name, source: Box::new(source) }),
    }
}

/// What was done, and which conditions turned.
fn events(cluster: &VectorCluster, applied: &Applied) -> Vec<Event> {
    let mut events: Vec<Event> = applied
        .happenings()
        .iter()
        .map(|happening| event(EventType::Normal, happening.reason, &happening.note))
        .collect();
    let before = cluster.status.as_ref().map(|status| &status.conditions);
    let now = applied.status().map(|status| status.conditions.as_slice());
    let now = now.unwrap_or_default();
    let stalled = now.iter().any(|condition| condition.type_ == types::STALLED && condition.status == "True");
    for condition in now {
        if speaks(condition, now) && turned(before, condition) {
            // Not yet ready is no reason to worry; unheard or in need of a person is.
            let worrying = stalled
                || condition.status == "Unknown"
                || condition.type_ == types::NETWORK_ISOLATED
                || condition.reason == "KeyUnreachable";
            let type_ = match worrying {
                true => EventType::Warning,
                false => EventType::Normal,
            };
            events.push(event(type_, &condition.reason, &condition.message));
        }
    }
    events
}

/// `Ready` speaks for itself; the others explain it, and would say everything twice. But a network that stops enforcing
/// policies cuts off no cluster that serves.
fn speaks(condition: &Condition, all: &[Condition]) -> bool {
    let told = || all.iter().any(|other| other.type_ == types::READY && other.reason == condition.reason);
    condition.type_ == types::READY
        || (condition.type_ == types::NETWORK_ISOLATED && condition.status == "False" && !told())
}

fn turned(before: Option<&Vec<Condition>>, condition: &Condition) -> bool {
    !before.into_iter().flatten().any(|earlier| {
        earlier.type_ == condition.type_ && earlier.status == condition.status && earlier.reason == condition.reason
    })
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    /// The API server refuses longer notes.
    const LONGEST: usize = 1000;
    let mut note = note.to_owned();
    if note.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    Event { type_, reason: reason.to_owned(), note: Some(note), action: "Reconcile".to_owned(), secondary: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            observed_generation: None,
            last_transition_time: String::new(),
            reason: reason.to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn a_network_that_stops_enforcing_policies_is_told_once_whether_or_not_the_cluster_serves() {
        let exposed = condition(types::NETWORK_ISOLATED, "False", "PoliciesNotEnforced");
        let serving = condition(types::READY, "True", "Serving");
        let locked = condition(types::READY, "False", "PoliciesNotEnforced");
        assert!(speaks(&exposed, &[serving.clone(), exposed.clone()]));
        assert!(
            !speaks(&exposed, &[locked.clone(), exposed.clone()]) && speaks(&locked, std::slice::from_ref(&locked))
        );
        assert!(turned(Some(&vec![serving]), &exposed));
        assert!(!turned(Some(&vec![exposed.clone()]), &exposed));
        assert!(!speaks(&condition(types::NETWORK_ISOLATED, "True", "Proven"), &[]));
    }
}
