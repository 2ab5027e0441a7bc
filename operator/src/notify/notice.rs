//! What there is to tell about a cluster, as CloudEvents 1.0.
//!
//! A notice is made from the record alone, so it is the same, byte for byte, whenever and by whomever it is made, until the
//! catalog says something else of an advisory. It names the cluster and the versions of its engine; it holds nothing of
//! what a tenant stores.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vectorkeep_crds::status::UpgradeReport;

use crate::{
    plan::{
        conditions::seconds,
        identity::Identity,
        record::{known_advisories, reports},
    },
    upgrade::advisories::Advisory,
};

/// An upgrade was kept.
pub const SUCCEEDED: &str = "dev.vectorkeep.upgrade.succeeded.v1";
/// An upgrade was taken back.
pub const ROLLED_BACK: &str = "dev.vectorkeep.upgrade.rolledback.v1";
/// A newer release answers an advisory that the running one does not.
pub const OPENED: &str = "dev.vectorkeep.advisory.opened.v1";
/// That is over.
pub const CLOSED: &str = "dev.vectorkeep.advisory.closed.v1";

/// One thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The event.
    pub event: CloudEvent,
    /// Whether it says what is the case right now, and not what once happened: a target that is new is told that too.
    pub current: bool,
}

/// An event in structured mode, with the attributes in the order of the specification.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub struct CloudEvent {
    /// Version of CloudEvents.
    pub specversion: &'static str,
    /// The same for the same event, each time it is told.
    pub id: String,
    /// The cluster, by installation, namespace and name.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// The cluster id.
    pub subject: String,
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Of `data`.
    pub datacontenttype: &'static str,
    /// What else is known of it.
    pub data: Value,
}

/// Everything that a cluster's record has to tell, oldest first.
pub fn notices(identity: &Identity, installation_id: &str, record: &ConfigMap) -> Vec<Notice> {
    let of = Cluster { identity, installation_id };
    let mut notices: Vec<_> = reports(record).iter().map(|report| of.report(report)).collect();
    for advisory in known_advisories(record) {
        notices.push(of.opened(&advisory));
        notices.extend(of.closed(&advisory));
    }
    notices.sort_by(|a, b| (&a.event.time, &a.event.id).cmp(&(&b.event.time, &b.event.id)));
    notices
}

/// Whom notices are about.
struct Cluster<'a> {
    identity: &'a Identity,
    installation_id: &'a str,
}

impl Cluster<'_> {
    fn report(&self, report: &UpgradeReport) -> Notice {
        let type_ = if report.outcome == "Succeeded" { SUCCEEDED } else { ROLLED_BACK };
        let started: Option<Timestamp> = report.started.parse().ok();
        let ended =
            started.and_then(|started| started.checked_add(SignedDuration::from_secs(report.duration_seconds)).ok());
        let data = serde_json::to_value(report).unwrap_or_default();
        Notice { event: self.event(type_, &[&report.started, &report.to], ended, data), current: false }
    }

    fn opened(&self, advisory: &Advisory) -> Notice {
        let data = json!({
            "advisory": advisory.id,
            "severity": advisory.severity,
            "runningVersion": advisory.running,
            "fixedIn": advisory.fixed_in,
            "opened": seconds(advisory.opened),
        });
        Notice { event: self.advisory(OPENED, advisory, advisory.opened, data), current: advisory.closed.is_none() }
    }

    fn closed(&self, advisory: &Advisory) -> Option<Notice> {
        let closing = advisory.closed.as_ref()?;
        let data = json!({
            "advisory": advisory.id,
            "severity": advisory.severity,
            "runningVersion": closing.running,
            "fixedIn": advisory.fixed_in,
            "opened": seconds(advisory.opened),
            "closed": seconds(closing.at),
            "because": closing.because,
        });
        Some(Notice { event: self.advisory(CLOSED, advisory, closing.at, data), current: false })
    }

    fn advisory(&self, type_: &'static str, advisory: &Advisory, time: Timestamp, data: Value) -> CloudEvent {
        self.event(type_, &[&advisory.id, &seconds(advisory.opened)], Some(time), data)
    }

    fn event(&self, type_: &'static str, which: &[&str], time: Option<Timestamp>, data: Value) -> CloudEvent {
        let Self { identity, installation_id } = self;
        CloudEvent {
            specversion: "1.0",
            id: id(&identity.cluster_id, type_, which),
            source: format!("/vectorkeep/{installation_id}/{}/{}", identity.owner_namespace, identity.owner_name),
            type_,
            subject: identity.cluster_id.clone(),
            time: time.map(seconds),
            datacontenttype: "application/json",
            data,
        }
    }
}

/// A hash of what tells an event from all others: the cluster, the type, and which one it is of its type.
fn id(cluster_id: &str, type_: &str, which: &[&str]) -> String {
    let named = json!([cluster_id, type_, which]).to_string();
    hex::encode(&Sha256::digest(named)[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::identity;

    fn record(history: &str, advisories: &str) -> ConfigMap {
        let data = [("history.json", history), ("advisories.json", advisories)];
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    const REPORT: &str = r#"[{"from": "1.4.2", "to": "1.4.3", "started": "2026-01-04T03:00:00Z", "durationSeconds": 90,
        "outcome": "Succeeded", "unavailableSeconds": 4, "advisories": ["CVE-2026-0001"]}]"#;
    const ADVISORY: &str = r#"[{"id": "CVE-2026-0001", "severity": "Security", "fixedIn": "1.4.3", "running": "1.4.2",
        "opened": "2026-01-01T00:00:00Z", "closed": {"running": "1.4.3", "at": "2026-01-04T03:01:30Z", "because": "Answered"}}]"#;

    #[test]
    fn a_report_is_told_with_its_fields_and_the_end_as_its_time() {
        let told = notices(&identity(), "test", &record(REPORT, "[]"));
        // The id was computed apart: sha256 of ["vc1","dev.vectorkeep.upgrade.succeeded.v1",["2026-01-04T03:00:00Z","1.4.3"]].
        let wanted = json!({
            "specversion": "1.0", "id": "6bb9a589ffc172b95024b4fbd7378b44", "source": "/vectorkeep/test/acme/support",
            "type": "dev.vectorkeep.upgrade.succeeded.v1", "subject": "vc1", "time": "2026-01-04T03:01:30Z",
            "datacontenttype": "application/json",
            "data": {
                "from": "1.4.2", "to": "1.4.3", "started": "2026-01-04T03:00:00Z", "durationSeconds": 90,
                "outcome": "Succeeded", "unavailableSeconds": 4, "advisories": ["CVE-2026-0001"],
            },
        });
        assert_eq!(serde_json::to_value(&told[0].event).expect("JSON"), wanted);
        assert!(!told[0].current);
    }

    #[test]
    fn an_advisory_is_told_when_it_opens_and_when_it_closes_in_this_order() {
        let told = notices(&identity(), "test", &record("[]", ADVISORY));
        assert_eq!(told.iter().map(|notice| notice.event.type_).collect::<Vec<_>>(), [OPENED, CLOSED]);
        assert_eq!(told[0].event.data["runningVersion"], "1.4.2");
        assert_eq!(told[1].event.data["runningVersion"], "1.4.3");
        assert_eq!(
            (&told[0].event.data["because"], &told[1].event.data["because"]),
            (&Value::Null, &json!("Answered"))
        );
        assert!(!told[0].current, "it is over");
        assert_ne!(told[0].event.id, told[1].event.id);
    }

    #[test]
    fn an_id_is_the_same_each_time_and_another_for_another_start_cluster_or_type() {
        let which: [&str; 2] = ["2026-01-04T03:00:00Z", "1.4.3"];
        let first = id("vc1", SUCCEEDED, &which);
        assert_eq!(id("vc1", SUCCEEDED, &which), first);
        for other in [
            id("vc2", SUCCEEDED, &which),
            id("vc1", ROLLED_BACK, &which),
            id("vc1", SUCCEEDED, &["2026-01-04T03:00:01Z", "1.4.3"]),
        ] {
            assert_ne!(other, first);
        }
    }
}
