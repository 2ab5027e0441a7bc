//! The engine's workload.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{
            Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
            PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
            ServiceAccountTokenProjection, Toleration, Volume, VolumeMount, VolumeProjection,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use vectorkeep_crds::{
    VectorClusterSpec,
    identity::CLIENT_PORT,
    isolation::Nodes,
    well_known::{COMPONENT_ENGINE, DEDICATED},
};

use super::{
    certificates::{INTERNAL_TLS, SERVING_TLS},
    change::contains,
    config_map::{CONFIG_FILE, CONFIG_MAP, paths},
    connection::{LOCAL_KEY, ROOT_PASSWORD},
    identity::Identity,
    pvc::VOLUME_CLAIM,
    quota::quantities,
    service::PEERS_SERVICE,
    service_account::SERVICE_ACCOUNT,
};
use crate::{
    admin::{ADMIN_PORT, HEALTH_PORT},
    settings::Settings,
};

/// Name of the workload; its pod is `engine-0`.
pub const STATEFUL_SET: &str = "engine";
/// Name of the pod.
pub const POD: &str = "engine-0";

/// User and group of the engine in its image.
const USER: i64 = 65532;
/// Life of the token for the cloud's identity service; kubelet renews it in time.
const TOKEN_SECONDS: i64 = 3600;
/// Scratch space, in memory: nothing that an engine writes there may reach a disk.
const SCRATCH: &str = "16Mi";

/// The workload around a template.
pub fn stateful_set(identity: &Identity, spec: &VectorClusterSpec, template: PodTemplateSpec) -> StatefulSet {
    StatefulSet {
        metadata: identity.meta(STATEFUL_SET),
        spec: Some(StatefulSetSpec {
            replicas: Some(spec.replicas),
            service_name: Some(PEERS_SERVICE.to_owned()),
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector { match_labels: Some(identity.engine_labels()), match_expressions: None },
            template,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// The pod template, freshly rendered from the resource and the installation.
pub fn template(
    identity: &Identity,
    spec: &VectorClusterSpec,
    settings: &Settings,
    image: &str,
    inputs: &str,
) -> PodTemplateSpec {
    let mut volumes = vec![
        volume("config", |volume| {
            volume.config_map =
                Some(ConfigMapVolumeSource { name: CONFIG_MAP.to_owned(), ..ConfigMapVolumeSource::default() });
        }),
        secret_volume("serving-tls", SERVING_TLS),
        secret_volume("internal-tls", INTERNAL_TLS),
        secret_volume("root-password", ROOT_PASSWORD),
        volume("data", |volume| {
            volume.persistent_volume_claim =
                Some(PersistentVolumeClaimVolumeSource { claim_name: VOLUME_CLAIM.to_owned(), read_only: None });
        }),
        volume("scratch", |volume| {
            volume.empty_dir = Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity(SCRATCH.to_owned())),
            });
        }),
    ];
    let mut mounts = vec![
        mount("config", paths::CONFIG, true),
        mount("serving-tls", paths::SERVING_TLS, true),
        mount("internal-tls", paths::INTERNAL_TLS, true),
        mount("root-password", paths::ROOT_PASSWORD, true),
        mount("data", paths::DATA, false),
        mount("scratch", "/tmp", false),
    ];
    if spec.encryption.aws.is_some() {
        volumes.push(token_volume(&settings.token_audience));
        mounts.push(mount("token", paths::TOKEN, true));
    }
    if spec.encryption.local.is_some() {
        volumes.push(secret_volume("local-key", LOCAL_KEY));
        mounts.push(mount("local-key", paths::LOCAL_KEY, true));
    }
    let dedicated = spec.isolation.nodes == Nodes::Dedicated;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(identity.engine_labels()),
            // A change of configuration alone must make new pods as well.
            annotations: Some(annotations(settings, inputs)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            runtime_class_name: spec.isolation.runtime_class_name.clone(),
            node_selector: dedicated.then(|| super::identity::strings([(DEDICATED, &identity.cluster_id)])),
            tolerations: dedicated.then(|| vec![toleration(identity)]),
            service_account_name: Some(SERVICE_ACCOUNT.to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(60),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container(spec, image, mounts)],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

/// Marks a template, and the workload made from it, with the hash of the inputs that they were rendered from.
pub const ANNOTATION_INPUTS: &str = "vectorkeep.dev/rollout-inputs";

/// Whether the workload's pods are all made from this template.
pub fn runs(live: &StatefulSet, template: &PodTemplateSpec) -> bool {
    live.spec.as_ref().is_some_and(|spec| contains(&spec.template, template))
}

/// Whether every pod is of the current template, and answers.
pub fn is_rolled_out(stateful_set: &StatefulSet) -> bool {
    let wanted = stateful_set.spec.as_ref().and_then(|spec| spec.replicas);
    stateful_set.status.as_ref().is_some_and(|status| {
        status.observed_generation >= stateful_set.metadata.generation
            && status.ready_replicas == wanted
            && (status.update_revision.is_none() || status.updated_replicas == wanted)
    })
}

/// Lets the pod run on a node that keeps every other pod away.
fn toleration(identity: &Identity) -> Toleration {
    Toleration {
        key: Some(DEDICATED.to_owned()),
        operator: Some("Equal".to_owned()),
        value: Some(identity.cluster_id.clone()),
        ..Toleration::default()
    }
}

fn annotations(settings: &Settings, inputs: &str) -> BTreeMap<String, String> {
    let mut annotations: BTreeMap<String, String> = settings.pod_annotations.iter().cloned().collect();
    annotations.insert(ANNOTATION_INPUTS.to_owned(), inputs.to_owned());
    annotations
}

fn container(spec: &VectorClusterSpec, image: &str, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: COMPONENT_ENGINE.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["serve".to_owned(), "--config".to_owned(), format!("{}/{CONFIG_FILE}", paths::CONFIG)]),
        ports: Some(vec![port("client", CLIENT_PORT), port("health", HEALTH_PORT), port("admin", ADMIN_PORT)]),
        resources: Some(resources(spec)),
        // Loading may take long and is not an illness; `/healthz` answers from the first moment on.
        startup_probe: Some(probe("/healthz", 2, 60)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 3)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn resources(spec: &VectorClusterSpec) -> ResourceRequirements {
    let resources = &spec.resources;
    let mut limits = quantities([("memory", resources.memory_limit().as_str())]);
    if let Some(cpu) = resources.cpu_limit() {
        limits.insert("cpu".to_owned(), Quantity(cpu.to_string()));
    }
    ResourceRequirements {
        requests: Some(quantities([
            ("cpu", resources.cpu_request().as_str()),
            ("memory", resources.memory_request().as_str()),
        ])),
        limits: Some(limits),
        claims: None,
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(HEALTH_PORT)),
            scheme: Some("HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn volume(name: &str, source: impl FnOnce(&mut Volume)) -> Volume {
    let mut volume = Volume { name: name.to_owned(), ..Volume::default() };
    source(&mut volume);
    volume
}

fn secret_volume(name: &str, secret: &str) -> Volume {
    volume(name, |volume| {
        volume.secret = Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            // Readable for the engine's group alone.
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        });
    })
}

fn token_volume(audience: &str) -> Volume {
    volume("token", |volume| {
        volume.projected = Some(ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    audience: Some(audience.to_owned()),
                    expiration_seconds: Some(TOKEN_SECONDS),
                    path: "token".to_owned(),
                }),
                ..VolumeProjection::default()
            }]),
            default_mode: Some(0o440),
        });
    })
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        // The API server leaves `false` out, and what it leaves out would look like a difference for ever.
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
