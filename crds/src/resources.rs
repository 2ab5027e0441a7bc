//! CPU and memory of an engine.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// CPU and memory of one engine.
///
/// The memory limit is the request unless it is given: an engine keeps all of its memory in one budget of
/// 75 % of the limit, so memory that was promised but isn't there would end it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.limits) || !has(self.limits.memory) || !has(self.requests) || !has(self.requests.memory) || quantity(string(self.limits.memory)).compareTo(quantity(string(self.requests.memory))) >= 0")
        .message("resources.limits.memory must not be less than resources.requests.memory"),
    validation = Rule::new("!has(self.limits) || !has(self.limits.cpu) || !has(self.requests) || !has(self.requests.cpu) || quantity(string(self.limits.cpu)).compareTo(quantity(string(self.requests.cpu))) >= 0")
        .message("resources.limits.cpu must not be less than resources.requests.cpu")
)]
pub struct Resources {
    /// What the engine is guaranteed. Default: 250m of CPU, 1Gi of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What the engine may use at most. Default: as much memory as requested, any CPU that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// An amount of CPU and an amount of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Cores, like `500m` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes, like `4Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// CPU that is requested unless the resource says otherwise.
pub const DEFAULT_CPU_REQUEST: &str = "250m";
/// Memory that is requested unless the resource says otherwise.
pub const DEFAULT_MEMORY_REQUEST: &str = "1Gi";

impl Resources {
    /// CPU that the engine is guaranteed.
    pub fn cpu_request(&self) -> Quantity {
        let given = self.requests.as_ref().and_then(|r| r.cpu.clone());
        let limit = self.limits.as_ref().and_then(|l| l.cpu.clone());
        given
            .or_else(|| limit.filter(|l| l.thousandths() < Some(250)))
            .unwrap_or_else(|| Quantity::new(DEFAULT_CPU_REQUEST))
    }

    /// Memory that the engine is guaranteed: the request, or the limit if only that is given.
    pub fn memory_request(&self) -> Quantity {
        let given = self.requests.as_ref().and_then(|r| r.memory.clone());
        given
            .or_else(|| self.limits.as_ref().and_then(|l| l.memory.clone()))
            .unwrap_or_else(|| Quantity::new(DEFAULT_MEMORY_REQUEST))
    }

    /// Memory that the engine may use at most.
    pub fn memory_limit(&self) -> Quantity {
        let given = self.limits.as_ref().and_then(|l| l.memory.clone());
        given.unwrap_or_else(|| self.memory_request())
    }

    /// CPU that the engine may use at most, if that is limited.
    pub fn cpu_limit(&self) -> Option<Quantity> {
        self.limits.as_ref().and_then(|l| l.cpu.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_anything_given_memory_is_guaranteed_up_to_its_limit() {
        let resources = Resources::default();
        assert_eq!(resources.memory_limit(), resources.memory_request());
        assert_eq!(resources.cpu_limit(), None);
    }

    #[test]
    fn a_limit_alone_is_also_the_request() {
        let resources: Resources = serde_json::from_str(r#"{"limits": {"memory": "2Gi"}}"#).expect("valid");
        assert_eq!(resources.memory_request().as_str(), "2Gi");
    }
}
