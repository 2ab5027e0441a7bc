//! What the operator reports about a cluster. What it decides about a cluster, it never reads from here: deleting a status
//! changes nothing but the status. Of others it reads the version and `Ready`, to see which clusters have engines and
//! whether canaries are done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine_catalog::Severity;

/// What the operator reports about a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VectorClusterStatus {
    /// Generation of the resource that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Identity of the cluster, which the key policy names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Namespace of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane_namespace: Option<String>,
    /// Address for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Secret in the resource's namespace that holds address, CA certificate and initial password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret: Option<String>,
    /// Version that the engine reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the engine says about the master key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyStatus>,
    /// When certificates end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificateStatus>,
    /// What the engine and the operator reach of what the engine must not reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationStatus>,
    /// Patches: what is on offer, what is under way, what was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// `Ready`, `Reconciling`, `Stalled`, `KeyAccessible`, `CertificatesValid`, `NetworkIsolated`, `UpToDate`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What the engine says about the master key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// `Accessible`, `Refused`, `Unreachable`, `Invalid` or `Unknown`.
    pub state: String,
    /// When the key last answered, given while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    /// Whether the KMS is asked at another address than the public one of the key's region.
    #[serde(default)]
    pub endpoint_override: bool,
    /// State of each encryption zone, by its random id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub zones: Vec<ZoneStatus>,
}

/// State of one encryption zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneStatus {
    /// Random id: that of a database, or of the system zone.
    pub id: String,
    /// `system` or `database`.
    pub purpose: String,
    /// Version of the zone's key.
    pub version: i64,
    /// State of the zone's key.
    pub state: String,
}

/// When certificates end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// End of the certificate that clients see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_not_after: Option<String>,
    /// End of the engine's internal certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_not_after: Option<String>,
    /// End of the operator's client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_not_after: Option<String>,
    /// End of the certificate that clients are given to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_not_after: Option<String>,
    /// End of the CA that clients trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_ca_not_after: Option<String>,
}

/// What the engine and the operator reach of what the engine must not reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IsolationStatus {
    /// When the engine last tried, as of the last change or the last request for a check.
    pub checked: String,
    /// One entry for each listener.
    #[serde(default)]
    pub probes: Vec<IsolationProbe>,
}

/// One listener that the engine must not reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IsolationProbe {
    /// What it is: `operator`, `kubernetes-api`, `cloud-metadata`, or a port of another cluster's engine, like
    /// `other-cluster-5d03fa:9092`. Which cluster that is, is not told.
    pub target: String,
    /// Whether the engine reached it.
    pub engine_reached: bool,
    /// Whether the operator reached it: if nobody does, that the engine doesn't proves nothing. The operator reaches only
    /// the admin port of other engines, by which it sees that the whole engine is there.
    pub control_reached: bool,
    /// What follows from that.
    #[serde(default)]
    pub verdict: ProbeVerdict,
}

/// What is known of a listener that the engine must not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProbeVerdict {
    /// The engine does not reach it, and the operator does.
    Isolated,
    /// The engine reaches it.
    Reached,
    /// The operator does not reach it either, or the engine has not tried.
    #[default]
    NotProven,
}

/// Patches: what is on offer, what is under way, what was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStatus {
    /// File format that the cluster's store is committed to: releases that don't know it can't take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<i32>,
    /// Version that would be taken next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
    /// When it is taken, if nothing comes between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What is being rolled out right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress: Option<UpgradeInProgress>,
    /// What was rolled out, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<UpgradeReport>,
    /// Advisories that newer releases of the cluster's minor line answer and the one that runs does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub advisories: Vec<OpenAdvisory>,
}

/// An advisory that a newer release answers and the one that runs does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenAdvisory {
    /// Its name, like `CVE-2026-0001`.
    pub id: String,
    /// `Security` if a release that answers it is one.
    #[serde(default)]
    pub severity: Severity,
    /// The lowest version that answers it.
    pub fixed_in: String,
    /// When it was first seen to be open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// A rollout that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeInProgress {
    /// Version before.
    pub from: String,
    /// Version that is being started.
    pub to: String,
    /// When it began.
    pub started: String,
    /// What it waits for.
    pub waits_for: String,
}

/// A rollout that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeReport {
    /// Version before.
    pub from: String,
    /// Version that was started. The same as `from` if only the pod template changed.
    pub to: String,
    /// Opening of the window in which it began; none if it began outside of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// When it began.
    pub started: String,
    /// Seconds until its verdict.
    pub duration_seconds: i64,
    /// `Succeeded` or `RolledBack`.
    pub outcome: String,
    /// Why it was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds in which the operator saw the cluster not serving.
    pub unavailable_seconds: i64,
    /// Advisories that the release answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisories: Vec<String>,
}

/// One condition, in Kubernetes' own shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is judged.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Generation of the resource that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the condition's status last changed.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// One word for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// One sentence for people: what is the matter and what to do.
    #[schemars(length(max = 32768))]
    pub message: String,
}
