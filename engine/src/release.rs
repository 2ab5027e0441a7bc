//! What a build says of itself.

use crate::storage::format;

/// A release of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Its version, like `1.4.2`.
    pub version: &'static str,
    /// The newest file format that it knows.
    pub format: u32,
}

impl From<&'static str> for Release {
    /// The release `version` with the newest format of this library.
    fn from(version: &'static str) -> Self {
        Self { version, format: format::NEWEST }
    }
}
