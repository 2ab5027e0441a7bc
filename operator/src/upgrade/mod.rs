//! Patches by themselves: which release, when, through which gates, and what is left of it afterwards.
//!
//! Pure, like everything that plans: each question is answered from the resource, the catalog, what was recorded, what
//! was observed, and the time. [`offer`] picks a release, [`decision`] says whether it is begun, [`progress`] leads one
//! that was begun to its verdict, [`fleet`] keeps many clusters from moving at once and remembers bad releases,
//! [`advisories`] says what a cluster lacks for as long as it has not moved.

pub mod advisories;
pub mod decision;
pub mod fleet;
pub mod offer;
pub mod progress;
pub mod window;

use serde::{Deserialize, Serialize};
use vectorkeep_crds::EngineRelease;

/// An engine release that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Version that the engine reports.
    pub version: String,
    /// Image by digest.
    pub image: String,
}

impl From<&EngineRelease> for Release {
    fn from(release: &EngineRelease) -> Self {
        Self { version: release.version.clone(), image: release.image.clone() }
    }
}
