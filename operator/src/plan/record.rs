//! What was last rolled out, kept verbatim, so that only a change of the resource makes new pods.
//!
//! A later operator may render another template or another configuration from the same resource. It re-applies
//! what is recorded until an *input* changes. Inputs are listed one by one below: a field that a later version
//! adds to the resource is listed only where it differs from its default, so that its arrival changes no hash.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use serde::{Serialize, de::DeserializeOwned};
use vectorkeep_crds::VectorClusterSpec;

use super::{change::fingerprint, config_map, identity::Identity, refusal::Refusal, statefulset};
use crate::{
    observed::{Children, Observed},
    settings::Settings,
};

/// What a cluster's engine was last told to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Hash of the inputs that it was rendered from.
    pub inputs: String,
    /// The pod template.
    pub template: PodTemplateSpec,
    /// The configuration files.
    pub files: BTreeMap<String, String>,
}

const INPUTS: &str = "inputs";
const TEMPLATE: &str = "template.json";
const FILES: &str = "files.json";
/// Fingerprint of the serving CA that was last published to the customer's namespace.
const PUBLISHED_AUTHORITY: &str = "publishedAuthority";

/// Name of the record in the operator's namespace.
pub fn record_name(cluster_id: &str) -> String {
    format!("record-{cluster_id}")
}

/// What is to be rolled out now: what is recorded, as long as its inputs are the resource's; else a new
/// rendering.
///
/// If the record was lost, the running workload and its configuration stand in for it, provided that they were
/// rendered from the same inputs: losing a record must not restart anything.
pub fn rollout(identity: &Identity, observed: &Observed, settings: &Settings) -> Result<Rollout, Refusal> {
    let spec = &observed.cluster.spec;
    let inputs = inputs(identity, spec);
    // Rendered in any case: an invalid resource must be told so, not hidden by what runs.
    let files = config_map::files(identity, spec)?;
    let recorded = observed.custody.record.as_ref().and_then(read);
    let known = recorded.or_else(|| running(observed));
    if let Some(known) = known.filter(|known| known.inputs == inputs) {
        return Ok(known);
    }
    Ok(Rollout { template: statefulset::template(identity, spec, settings, &inputs), inputs, files })
}

/// The record of a rollout and of what was published.
pub fn record(
    identity: &Identity,
    rollout: &Rollout,
    published_authority: Option<&str>,
    settings: &Settings,
) -> ConfigMap {
    let mut data = BTreeMap::from([
        (INPUTS.to_owned(), rollout.inputs.clone()),
        (TEMPLATE.to_owned(), text(&rollout.template)),
        (FILES.to_owned(), text(&rollout.files)),
    ]);
    if let Some(authority) = published_authority {
        data.insert(PUBLISHED_AUTHORITY.to_owned(), authority.to_owned());
    }
    ConfigMap {
        metadata: identity.meta_in(Some(&settings.operator_namespace), &record_name(&identity.cluster_id)),
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// Fingerprint of the serving CA that the customer was last given.
pub fn published_authority(observed: &Observed) -> Option<&str> {
    let data = observed.custody.record.as_ref()?.data.as_ref()?;
    data.get(PUBLISHED_AUTHORITY).map(String::as_str)
}

/// Hash of everything in the resource that reaches the engine's pod or its configuration.
fn inputs(identity: &Identity, spec: &VectorClusterSpec) -> String {
    let mut inputs = BTreeMap::from([
        ("clusterId", identity.cluster_id.clone()),
        ("checkInterval", spec.encryption.check_interval.clone()),
        ("outageGrace", spec.encryption.outage_grace.clone()),
        ("cpuRequest", spec.resources.cpu_request().to_string()),
        ("memoryRequest", spec.resources.memory_request().to_string()),
        ("memoryLimit", spec.resources.memory_limit().to_string()),
    ]);
    if let Some(limit) = spec.resources.cpu_limit() {
        inputs.insert("cpuLimit", limit.to_string());
    }
    if let Some(aws) = &spec.encryption.aws {
        inputs.insert("keyArn", aws.key_arn.clone());
        inputs.insert("roleArn", aws.role_arn.clone());
        let endpoints = aws.endpoints.clone().unwrap_or_default();
        for (name, value) in
            [("kmsEndpoint", endpoints.kms), ("stsEndpoint", endpoints.sts), ("caBundle", endpoints.ca_bundle)]
        {
            if let Some(value) = value {
                inputs.insert(name, value);
            }
        }
    }
    if spec.encryption.local.is_some() {
        inputs.insert("local", "true".to_owned());
    }
    fingerprint(&inputs)
}

fn read(record: &ConfigMap) -> Option<Rollout> {
    let data = record.data.as_ref()?;
    Some(Rollout {
        inputs: data.get(INPUTS)?.clone(),
        template: parse(data.get(TEMPLATE)?)?,
        files: parse(data.get(FILES)?)?,
    })
}

/// Hash of the inputs that the workload was rendered from, as it says itself.
pub fn running_inputs(children: &Children) -> Option<&str> {
    let template = &children.stateful_set.as_ref()?.spec.as_ref()?.template;
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(statefulset::ANNOTATION_INPUTS).map(String::as_str)
}

/// What runs, as far as it says what it was rendered from.
fn running(observed: &Observed) -> Option<Rollout> {
    let children = observed.children.as_ref()?;
    let template = &children.stateful_set.as_ref()?.spec.as_ref()?.template;
    Some(Rollout {
        inputs: running_inputs(children)?.to_owned(),
        template: template.clone(),
        files: children.config.as_ref()?.data.clone()?,
    })
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}
