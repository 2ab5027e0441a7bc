//! The custom resources of VectorKeep as Rust types, and the pure rules that go with them.
//!
//! There is no client in this crate: it is shared by the operator, the `kubectl` plugin and tests, and holds
//! what they must agree on: field names, validation rules, how a cluster's identity is derived, which labels
//! mark an object, and which statement a customer puts into a key policy.
//!
//! `crds/vectorclusters.yaml` is generated from these types by `make generate`.
#![warn(missing_docs)]
// The schema derive copies each struct, `pub` included, into a place that nothing reaches.
#![allow(unreachable_pub)]

pub mod arn;
pub mod encryption;
pub mod engine_catalog;
pub mod identity;
pub mod isolation;
pub mod key_policy;
pub mod network;
pub mod quantity;
pub mod resources;
pub mod status;
pub mod storage;
pub mod tls;
pub mod upgrade;
pub mod vector_cluster;
pub mod well_known;

pub use engine_catalog::{EngineCatalog, EngineCatalogSpec, EngineRelease, Severity};
pub use vector_cluster::{DeletionPolicy, VectorCluster, VectorClusterSpec};

/// The generated manifest of one custom resource definition, as the YAML that is committed and shipped.
///
/// The text starts with a line that says how it is made, so that nobody edits it by hand.
pub fn manifest_header() -> &'static str {
    "# Generated from crds/src by `make generate`; edits here are lost.\n"
}
