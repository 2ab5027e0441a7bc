//! The engine's pod and its configuration, and what they are made from.
//!
//! *Inputs* are listed one by one below: a field that a later version adds to the resource is listed only where it differs
//! from its default, so that its arrival changes no hash.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use vectorkeep_crds::{EngineRelease, VectorClusterSpec, isolation::Isolation, tls::ClientAuth};

use super::{change::fingerprint, config_map, identity::Identity, record::text, refusal::Refusal, statefulset};
use crate::{
    observed::Observed,
    settings::Settings,
    upgrade::{FIRST_FORMAT, Release},
};

/// A pod and its configuration, and what they were made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendering {
    /// Hash of the inputs that it was rendered from.
    pub inputs: String,
    /// The engine's release.
    pub release: Release,
    /// The pod template.
    pub template: PodTemplateSpec,
    /// The configuration files.
    pub files: BTreeMap<String, String>,
}

impl Rendering {
    /// What runs, as far as it says what it was rendered from.
    pub fn running(observed: &Observed, catalog: &[EngineRelease]) -> Option<Self> {
        let children = observed.children.as_ref()?;
        let template = &children.stateful_set.as_ref()?.spec.as_ref()?.template;
        let image = template.spec.as_ref()?.containers.first()?.image.clone()?;
        let known = catalog.iter().find(|release| release.image == image).map(|release| release.version.clone());
        let version = known.or_else(|| observed.engine.answer().map(|status| status.version.clone()))?;
        let config = children.config.as_ref()?;
        // Nobody remembers whether the release has proven itself, so nothing newer is committed to by it.
        let format = config_map::committed_format(config).unwrap_or(FIRST_FORMAT);
        Some(Self {
            inputs: template.metadata.as_ref()?.annotations.as_ref()?.get(statefulset::ANNOTATION_INPUTS)?.clone(),
            release: Release { version, image, format },
            template: template.clone(),
            files: config_map::rolled_out(config)?,
        })
    }

    /// Whether both make the same pod. As they are written down: what is empty and what is missing is the same.
    pub fn is_same_pod(&self, other: &Self) -> bool {
        text(&self.template) == text(&other.template) && self.files == other.files
    }

    /// A fingerprint of the pod and its configuration.
    pub fn print(&self) -> String {
        print(&self.template, &self.files)
    }
}

/// A fingerprint of a pod and its configuration.
pub fn print(template: &PodTemplateSpec, files: &BTreeMap<String, String>) -> String {
    fingerprint(&(template, files))
}

/// Renders what the resource says.
pub struct Renderer<'a> {
    /// Whose pod it is.
    pub identity: &'a Identity,
    spec: &'a VectorClusterSpec,
    /// What the operator was told.
    pub settings: &'a Settings,
    inputs: String,
    files: BTreeMap<String, String>,
}

impl<'a> Renderer<'a> {
    /// A renderer, unless the resource is invalid.
    pub fn new(identity: &'a Identity, spec: &'a VectorClusterSpec, settings: &'a Settings) -> Result<Self, Refusal> {
        let files = config_map::files(identity, spec, settings)?;
        Ok(Self { identity, spec, settings, inputs: inputs(identity, spec), files })
    }

    /// Hash of the inputs.
    pub fn inputs(&self) -> &str {
        &self.inputs
    }

    /// The pod of a release.
    pub fn with(&self, release: Release) -> Rendering {
        let template = statefulset::template(self.identity, self.spec, self.settings, &release.image, &self.inputs);
        Rendering { inputs: self.inputs.clone(), release, template, files: self.files.clone() }
    }
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
    if spec.isolation != Isolation::default() {
        inputs.insert("isolation", text(&spec.isolation));
    }
    if spec.tls.client_auth != ClientAuth::None {
        inputs.insert("clientAuth", text(&spec.tls.client_auth));
    }
    fingerprint(&inputs)
}
