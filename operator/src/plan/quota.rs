//! Bounds on what a data-plane namespace may hold, whoever writes into it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use vectorkeep_crds::VectorClusterSpec;

use super::identity::Identity;

/// Enough for one engine, its replacement beside it, and nothing that opens the cluster to the outside.
pub fn quota(identity: &Identity) -> ResourceQuota {
    let hard = [
        ("pods", "2"),
        ("persistentvolumeclaims", "1"),
        ("services", "4"),
        ("services.loadbalancers", "0"),
        ("services.nodeports", "0"),
        ("secrets", "16"),
        ("configmaps", "8"),
        ("count/statefulsets.apps", "1"),
        ("count/deployments.apps", "0"),
        ("count/jobs.batch", "0"),
    ];
    ResourceQuota {
        metadata: identity.meta("data-plane"),
        spec: Some(ResourceQuotaSpec { hard: Some(quantities(hard)), ..ResourceQuotaSpec::default() }),
        status: None,
    }
}

/// No container and no volume is larger than what the resource asks for.
pub fn limit_range(identity: &Identity, spec: &VectorClusterSpec) -> LimitRange {
    let memory = spec.resources.memory_limit();
    LimitRange {
        metadata: identity.meta("data-plane"),
        spec: Some(LimitRangeSpec {
            limits: vec![
                LimitRangeItem {
                    type_: "Container".to_owned(),
                    max: Some(quantities([("memory", memory.as_str())])),
                    ..LimitRangeItem::default()
                },
                LimitRangeItem {
                    type_: "PersistentVolumeClaim".to_owned(),
                    max: Some(quantities([("storage", &spec.storage.volume.size)])),
                    ..LimitRangeItem::default()
                },
            ],
        }),
    }
}

/// A map of quantities as the Kubernetes types have it.
pub(super) fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(key, amount)| (key.to_owned(), Quantity(amount.to_owned()))).collect()
}
