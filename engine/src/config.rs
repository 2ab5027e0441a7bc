//! The configuration file of `serve` (TOML). Unknown keys are refused, so that a typing error can't switch off anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// The file as a whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    /// Part of the encryption context of every KMS call.
    pub cluster_id: String,
    /// Folder of the sealed store.
    pub data_dir: PathBuf,
    /// Memory for data, bytes.
    pub memory_budget_bytes: usize,
    pub listen: Listen,
    pub tls: Tls,
    pub auth: Auth,
    pub kms: KmsConfig,
    /// What the network must keep the engine from; without it, nothing is tried.
    pub isolation: Option<Isolation>,
    /// Folder of the files that may change while the engine runs.
    #[serde(skip)]
    pub live_dir: Option<PathBuf>,
}

/// Addresses to listen on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Listen {
    pub client: SocketAddr,
    pub health: SocketAddr,
    pub admin: SocketAddr,
}

/// Folders with `tls.crt`, `tls.key` and `ca.crt`, and what is asked of clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// What clients see.
    pub serving_dir: PathBuf,
    /// What the operator, probes and metrics see; its CA also signs the operator's certificate.
    pub internal_dir: PathBuf,
    /// The URI that the operator's certificate must carry.
    pub operator_uri: String,
    /// Whether clients show a certificate, judged by `ca.crt` in `serving_dir`.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Nobody is asked for one.
    #[default]
    None,
    /// One that is shown has to be good.
    Optional,
    /// Nobody connects without a good one.
    Required,
}

/// Where the first password comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Read while there is no root user; later changes of the file change nothing, and it may go.
    pub root_password_file: PathBuf,
}

/// The customer's KMS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmsConfig {
    check_interval_seconds: u64,
    outage_grace_seconds: u64,
    /// AWS KMS.
    pub aws: Option<Aws>,
    /// A key file, for development only.
    pub local: Option<Local>,
}

/// AWS KMS with a web identity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Aws {
    pub key_arn: String,
    pub role_arn: String,
    pub web_identity_token_file: PathBuf,
    pub kms_endpoint: Option<String>,
    pub sts_endpoint: Option<String>,
    /// PEM file of further CAs for these endpoints.
    pub ca_bundle_file: Option<PathBuf>,
}

/// The key file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Local {
    pub key_file: PathBuf,
}

/// Listeners that the cluster's network policies must keep the engine from, unless the operator names others while the
/// engine runs (see [`crate::live`]).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolation {
    /// Each as host:port; the host is an address or a name.
    pub forbidden: Vec<String>,
    /// Whether no key is asked for while one of them is reached.
    pub required: bool,
    /// So long after the engine's start it is no finding yet that one of them is reached, but tried again: networks may take
    /// seconds to enforce their policies on a new pod.
    #[serde(default = "default_settling")]
    pub settling_seconds: u64,
}

/// Nobody means to give a network more than this.
const LONGEST_SETTLING: Duration = Duration::from_secs(86400);

fn default_settling() -> u64 {
    15
}

impl Isolation {
    /// How long the network has to enforce its policies.
    pub fn settling(&self) -> Duration {
        Duration::from_secs(self.settling_seconds)
    }

    /// For a process that took another's place: the network had its time.
    pub fn settled(self) -> Self {
        Self { settling_seconds: 0, ..self }
    }
}

impl KmsConfig {
    /// A `local` configuration with the default times.
    pub fn local(key_file: PathBuf) -> Self {
        Self { check_interval_seconds: 10, outage_grace_seconds: 600, aws: None, local: Some(Local { key_file }) }
    }

    /// Bound of the kill switch.
    pub fn check_interval(&self) -> Duration {
        Duration::from_secs(self.check_interval_seconds)
    }

    /// How long a silent KMS is endured.
    pub fn outage_grace(&self) -> Duration {
        Duration::from_secs(self.outage_grace_seconds)
    }

    /// Whether an endpoint does not come from the key's ARN.
    pub fn endpoint_override(&self) -> bool {
        self.aws.as_ref().is_some_and(|aws| aws.kms_endpoint.is_some() || aws.sts_endpoint.is_some())
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration file {path} can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no valid TOML, or has a wrong or unknown key.
    #[error("the configuration file {path} is wrong: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// Values that don't go together.
    #[error("the configuration is wrong: {0}")]
    Invalid(&'static str),
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })?;
        config.check()?;
        config.live_dir = path.parent().map(Path::to_owned);
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.kms.aws.is_some() == self.kms.local.is_some() {
            return Err(ConfigError::Invalid("exactly one of kms.aws and kms.local must be set"));
        }
        if !(1..=60).contains(&self.kms.check_interval_seconds) {
            return Err(ConfigError::Invalid("kms.check_interval_seconds must be between 1 and 60"));
        }
        // A check that succeeds may take the interval: a shorter grace would be over while the KMS answers.
        if self.kms.outage_grace_seconds < self.kms.check_interval_seconds {
            return Err(ConfigError::Invalid("kms.outage_grace_seconds must be at least kms.check_interval_seconds"));
        }
        if self.memory_budget_bytes < 64 * 1024 * 1024 {
            return Err(ConfigError::Invalid("memory_budget_bytes must be at least 67108864 (64 MiB)"));
        }
        let mut forbidden = self.isolation.iter().flat_map(|isolation| &isolation.forbidden);
        if !forbidden.all(|listener| is_host_and_port(listener)) {
            return Err(ConfigError::Invalid("each of isolation.forbidden must be host:port"));
        }
        if self.isolation.as_ref().is_some_and(|isolation| isolation.settling() > LONGEST_SETTLING) {
            return Err(ConfigError::Invalid("isolation.settling_seconds must be at most 86400 (a day)"));
        }
        Ok(())
    }
}

/// Whether a text is host:port.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        cluster_id = "vc0123456789abcdef"
        data_dir = "/var/lib/vectorkeep"
        memory_budget_bytes = 1073741824
        [listen]
        client = "0.0.0.0:19530"
        health = "0.0.0.0:9091"
        admin = "0.0.0.0:9092"
        [tls]
        serving_dir = "/s"
        internal_dir = "/i"
        operator_uri = "vectorkeep://vc0123456789abcdef/operator"
        [auth]
        root_password_file = "/p"
        [kms]
        check_interval_seconds = 10
        outage_grace_seconds = 600
        [kms.local]
        key_file = "/k"
    "#;

    fn parse(text: &str) -> Result<(), String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_complete_file_is_accepted() {
        assert_eq!(parse(GOOD), Ok(()));
    }

    #[test]
    fn an_unknown_key_or_a_wrong_value_is_refused_by_name() {
        let unknown = parse(&GOOD.replace("data_dir", "data_folder"));
        assert!(unknown.is_err_and(|error| error.contains("data_folder")));
        let interval = parse(&GOOD.replace("interval_seconds = 10", "interval_seconds = 61"));
        assert!(interval.is_err_and(|error| error.contains("check_interval_seconds")));
        let neither = parse(&GOOD.replace("[kms.local]\n        key_file = \"/k\"", ""));
        assert!(neither.is_err_and(|error| error.contains("exactly one")));
    }

    #[test]
    fn an_outage_grace_in_which_no_check_fits_is_refused_by_name() {
        let with = |seconds: u64| parse(&GOOD.replace("grace_seconds = 600", &format!("grace_seconds = {seconds}")));
        assert_eq!(with(10), Ok(()));
        for seconds in [0, 9] {
            assert!(with(seconds).is_err_and(|error| error.contains("outage_grace_seconds")), "{seconds}");
        }
    }

    #[test]
    fn clients_show_no_certificate_unless_it_is_asked_for() {
        let with = |line: &str| GOOD.replace("[auth]", &format!("{line}\n[auth]"));
        let client_auth = |line: &str| toml::from_str::<Config>(&with(line)).map(|config| config.tls.client_auth);
        assert_eq!(client_auth(""), Ok(ClientAuth::None));
        assert_eq!(client_auth("client_auth = \"optional\""), Ok(ClientAuth::Optional));
        assert_eq!(client_auth("client_auth = \"required\""), Ok(ClientAuth::Required));
        assert!(client_auth("client_auth = \"demanded\"").is_err());
    }

    #[test]
    fn the_section_on_isolation_may_be_absent_and_names_listeners() {
        let with = |section: &str| parse(&format!("{GOOD}\n[isolation]\n{section}"));
        assert_eq!(
            with("forbidden = [\"10.96.0.7:8444\", \"[fd00::7]:8444\", \"a.b.svc:1\"]\nrequired = true"),
            Ok(())
        );
        assert_eq!(with("forbidden = []\nrequired = false"), Ok(()));
        let no_port = with("forbidden = [\"10.96.0.7\"]\nrequired = true");
        assert!(no_port.is_err_and(|error| error.contains("isolation.forbidden")));
        let endless = with("forbidden = []\nrequired = true\nsettling_seconds = 86401");
        assert!(endless.is_err_and(|error| error.contains("isolation.settling_seconds")));
        let unknown = with("forbidden = []\nrequire = true");
        assert!(unknown.is_err_and(|error| error.contains("require")));
    }
}
