//! The engine's configuration file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::Duration;
use serde::Serialize;
use vectorkeep_crds::{
    VectorClusterSpec,
    arn::{KeyArn, RoleArn},
    encryption::AwsEncryption,
    isolation::Enforcement,
    tls::ClientAuth,
};

use super::{identity::Identity, refusal::Refusal};
use crate::{
    admin::{ADMIN_PORT, HEALTH_PORT},
    settings::Settings,
};

/// Name of the ConfigMap.
pub const CONFIG_MAP: &str = "engine-config";
/// Entry with the configuration.
pub const CONFIG_FILE: &str = "engine.toml";
/// Entry with the file format that is committed to.
pub const FORMAT_FILE: &str = "format";
/// Entry with the listeners that must not be reached.
pub const ISOLATION_FILE: &str = "isolation.json";
/// Entry with CA certificates for the KMS addresses that the resource gives.
pub const CA_BUNDLE_FILE: &str = "kms-ca.pem";

/// Where the parts of the pod's file system are mounted.
pub mod paths {
    /// The ConfigMap.
    pub const CONFIG: &str = "/etc/vectorkeep/config";
    /// Certificate that clients see.
    pub const SERVING_TLS: &str = "/etc/vectorkeep/serving-tls";
    /// Certificate of health and admin ports.
    pub const INTERNAL_TLS: &str = "/etc/vectorkeep/internal-tls";
    /// Initial password.
    pub const ROOT_PASSWORD: &str = "/etc/vectorkeep/root-password";
    /// Master key of a development cluster.
    pub const LOCAL_KEY: &str = "/etc/vectorkeep/local-key";
    /// Token for the cloud's identity service.
    pub const TOKEN: &str = "/var/run/secrets/vectorkeep/token";
    /// The volume.
    pub const DATA: &str = "/var/lib/vectorkeep";
}

#[derive(Serialize)]
struct EngineConfig {
    cluster_id: String,
    data_dir: &'static str,
    memory_budget_bytes: u64,
    listen: Listen,
    tls: Tls,
    auth: Auth,
    kms: Kms,
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation: Option<Isolation>,
}

#[derive(Serialize)]
struct Isolation {
    forbidden: Vec<String>,
    required: bool,
}

#[derive(Serialize)]
struct Listen {
    client: String,
    health: String,
    admin: String,
}

#[derive(Serialize)]
struct Tls {
    serving_dir: &'static str,
    internal_dir: &'static str,
    operator_uri: String,
    /// Left out where nothing is asked for, so that the configuration of clusters from before stays what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_auth: Option<&'static str>,
}

#[derive(Serialize)]
struct Auth {
    root_password_file: String,
}

#[derive(Serialize)]
struct Kms {
    check_interval_seconds: u64,
    outage_grace_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws: Option<KmsAws>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<KmsLocal>,
}

#[derive(Serialize)]
struct KmsAws {
    key_arn: String,
    role_arn: String,
    web_identity_token_file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sts_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_bundle_file: Option<String>,
}

#[derive(Serialize)]
struct KmsLocal {
    key_file: String,
}

/// The files that the engine is given, freshly rendered from the resource.
pub fn files(
    identity: &Identity,
    spec: &VectorClusterSpec,
    settings: &Settings,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut files = BTreeMap::new();
    let kms = Kms {
        check_interval_seconds: seconds("encryption.checkInterval", &spec.encryption.check_interval)?,
        outage_grace_seconds: seconds("encryption.outageGrace", &spec.encryption.outage_grace)?,
        aws: match &spec.encryption.aws {
            Some(aws) => Some(kms_aws(aws, &mut files)?),
            None => None,
        },
        local: spec.encryption.local.as_ref().map(|_| KmsLocal { key_file: format!("{}/key", paths::LOCAL_KEY) }),
    };
    let config = EngineConfig {
        cluster_id: identity.cluster_id.clone(),
        data_dir: paths::DATA,
        memory_budget_bytes: memory_budget(spec)?,
        listen: Listen {
            client: format!("0.0.0.0:{}", vectorkeep_crds::identity::CLIENT_PORT),
            health: format!("0.0.0.0:{HEALTH_PORT}"),
            admin: format!("0.0.0.0:{ADMIN_PORT}"),
        },
        tls: Tls {
            serving_dir: paths::SERVING_TLS,
            internal_dir: paths::INTERNAL_TLS,
            operator_uri: identity.operator_uri(),
            client_auth: match spec.tls.client_auth {
                ClientAuth::None => None,
                ClientAuth::Optional => Some("optional"),
                ClientAuth::Required => Some("required"),
            },
        },
        auth: Auth { root_password_file: format!("{}/password", paths::ROOT_PASSWORD) },
        kms,
        isolation: (!settings.isolation_probes.is_empty()).then(|| Isolation {
            forbidden: settings.isolation_probes.clone(),
            required: spec.isolation.enforcement == Enforcement::Required,
        }),
    };
    let text =
        toml::to_string(&config).map_err(|error| Refusal::Field { field: "encryption", problem: error.to_string() })?;
    files.insert(CONFIG_FILE.to_owned(), text);
    Ok(files)
}

/// Entries that the engine reads again and again. They are no part of what is rolled out and recorded: when one changes,
/// kubelet brings it into the running pod, and nothing restarts.
const LIVE: [&str; 2] = [FORMAT_FILE, ISOLATION_FILE];

/// The live entries.
pub fn live(format: i32, isolation: Option<String>) -> BTreeMap<String, String> {
    let entries = [(FORMAT_FILE, Some(format.to_string())), (ISOLATION_FILE, isolation)];
    entries.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?))).collect()
}

/// The ConfigMap that holds the files that were last rolled out, and the live entries.
pub fn config_map(identity: &Identity, files: &BTreeMap<String, String>, live: BTreeMap<String, String>) -> ConfigMap {
    let data = files.clone().into_iter().chain(live).collect();
    ConfigMap { metadata: identity.meta(CONFIG_MAP), data: Some(data), ..ConfigMap::default() }
}

/// What was rolled out, from the ConfigMap that holds it.
pub fn rolled_out(config: &ConfigMap) -> Option<BTreeMap<String, String>> {
    let mut files = config.data.clone()?;
    files.retain(|name, _| !LIVE.contains(&name.as_str()));
    Some(files)
}

/// The file format that is committed to, from the ConfigMap that says it.
pub fn committed_format(config: &ConfigMap) -> Option<i32> {
    config.data.as_ref()?.get(FORMAT_FILE)?.parse().ok()
}

fn kms_aws(aws: &AwsEncryption, files: &mut BTreeMap<String, String>) -> Result<KmsAws, Refusal> {
    let endpoints = aws.endpoints.clone().unwrap_or_default();
    let ca_bundle_file = endpoints.ca_bundle.map(|bundle| {
        files.insert(CA_BUNDLE_FILE.to_owned(), bundle);
        format!("{}/{CA_BUNDLE_FILE}", paths::CONFIG)
    });
    Ok(KmsAws {
        key_arn: KeyArn::parse(&aws.key_arn)?.to_string(),
        role_arn: RoleArn::parse(&aws.role_arn)?.to_string(),
        web_identity_token_file: format!("{}/token", paths::TOKEN),
        kms_endpoint: endpoints.kms,
        sts_endpoint: endpoints.sts,
        ca_bundle_file,
    })
}

/// Three quarters of the memory limit: the rest is for stacks, the allocator and the runtime.
fn memory_budget(spec: &VectorClusterSpec) -> Result<u64, Refusal> {
    let limit = spec.resources.memory_limit();
    let bytes = limit.units().ok_or_else(|| Refusal::Field {
        field: "resources.limits.memory",
        problem: format!("{limit} is not an amount of memory"),
    })?;
    if bytes < MINIMUM_MEMORY {
        return Err(Refusal::Field {
            field: "resources.requests.memory",
            problem: format!("{limit} is less than an engine needs to start (256Mi)"),
        });
    }
    Ok(bytes / 4 * 3)
}

const MINIMUM_MEMORY: u64 = 256 << 20;

/// A duration as Go writes it, in whole seconds; the schema has checked its form and bounds.
pub(crate) fn seconds(field: &'static str, text: &str) -> Result<u64, Refusal> {
    let duration: Duration = text
        .parse()
        .map_err(|error| Refusal::Field { field, problem: format!("{text:?} is not a duration: {error}") })?;
    Ok(std::time::Duration::from(duration).as_secs())
}
