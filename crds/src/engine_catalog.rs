//! `EngineCatalog`: the engine releases on offer.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the catalog that the chart installs and the operator reads.
pub const CATALOG: &str = "vectorkeep";

/// The engine releases on offer. The operator reads it and can't write it; admission policies let only images in it run
/// under a tenant's identity.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "vectorkeep.dev",
    version = "v1alpha1",
    kind = "EngineCatalog",
    plural = "enginecatalogs",
    shortname = "vec",
    derive = "PartialEq",
    doc = "The engine releases on offer. The operator reads it and can't write it.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Versions", type_ = "string", json_path = ".spec.releases[*].version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct EngineCatalogSpec {
    /// Releases, in any order.
    #[serde(default)]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"]))]
    pub releases: Vec<EngineRelease>,
}

/// One engine release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineRelease {
    /// Version that the engine reports, like `1.4.2`.
    #[schemars(length(max = 64), regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$"))]
    pub version: String,
    /// Image by digest.
    #[schemars(length(max = 512), regex(pattern = r"^[^@\s]+@sha256:[0-9a-f]{64}$"))]
    pub image: String,
    /// Versions that it can take over from, as a semantic version requirement like `>=1.3.0, <1.4.2`. If there is none:
    /// lower patch levels of its own minor line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub upgrades_from: Option<String>,
    /// Newest file format that it writes.
    #[serde(default = "first_format")]
    #[schemars(range(min = 1))]
    pub format: i32,
    /// Why one would want it.
    #[serde(default)]
    pub severity: Severity,
    /// Advisories that it answers, like `CVE-2026-0001`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 128)))]
    pub advisories: Vec<String>,
}

/// Why one would want a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// Improvements and repairs.
    #[default]
    Routine,
    /// It closes a hole: a resource may allow it outside its window.
    Security,
}

fn first_format() -> i32 {
    1
}
