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
    /// File format that its engine commits to once it has proven itself, or that the store is committed to already, if
    /// that is higher.
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    pub format: i32,
}

/// The file format of releases that say none.
pub const FIRST_FORMAT: i32 = 1;

fn first_format() -> i32 {
    FIRST_FORMAT
}

fn is_first_format(format: &i32) -> bool {
    *format == FIRST_FORMAT
}

impl From<&EngineRelease> for Release {
    fn from(release: &EngineRelease) -> Self {
        Self { version: release.version.clone(), image: release.image.clone(), format: release.format }
    }
}
