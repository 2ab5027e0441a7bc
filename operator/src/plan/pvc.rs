//! The volume that holds the sealed store.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use vectorkeep_crds::storage::Volume;

use super::{identity::Identity, quota::quantities};

/// Name of the claim.
pub const VOLUME_CLAIM: &str = "engine-data";

/// The claim.
///
/// A class that Kubernetes chose by default stays as it is, since a claim's class can't change; so it is only
/// named where the resource names it.
pub fn volume_claim(identity: &Identity, volume: &Volume) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: identity.meta(VOLUME_CLAIM),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: volume.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(quantities([("storage", &volume.size)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
