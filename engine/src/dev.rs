//! `dev`: an encrypted engine on one machine without Kubernetes and without a cloud.
//!
//! Everything is as in a cluster, but for the master key: it lies in a file beside the data, so whoever has the folder
//! has the data. That is said loudly.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use vectorkeep_keyring::kms::KmsError;
use vectorkeep_keyring::kms::local::LocalKms;

use crate::config::{Auth, ClientAuth, Config, KmsConfig, Listen, Tls};
use crate::server::auth::ROOT;

/// Why the folder can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file can't be written.
    #[error("{path}: {source}; choose another folder with --data-dir")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No certificate can be made.
    #[error("a certificate can't be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key file can't be used.
    #[error("the key file can't be used: {0}")]
    Key(#[from] KmsError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Makes what is missing in `folder` and tells how to connect.
pub fn prepare(folder: &Path, listen: SocketAddr, memory_mib: usize) -> Result<Config, DevError> {
    let private = folder.join("dev");
    let (serving_dir, internal_dir, client) =
        (private.join("serving"), private.join("internal"), folder.join("client"));
    for directory in [&private, &serving_dir, &internal_dir, &client] {
        fs::create_dir_all(directory).map_err(|source| DevError::File { path: directory.clone(), source })?;
    }
    let key_file = private.join("key");
    LocalKms::create_or_open(&key_file)?;
    let password_file = private.join("root-password");
    let password = match fs::read_to_string(&password_file) {
        Ok(password) => password.trim().to_owned(),
        Err(_) => {
            let password = random_text()?;
            write(&password_file, &password)?;
            password
        }
    };
    if !serving_dir.join("tls.crt").exists() {
        issue(&serving_dir, "VectorKeep development serving CA", listen.ip())?;
    }
    if !internal_dir.join("tls.crt").exists() {
        issue(&internal_dir, "VectorKeep development internal CA", listen.ip())?;
    }
    let host = if listen.ip().is_unspecified() { "localhost".to_owned() } else { listen.ip().to_string() };
    let host = if listen.ip().is_loopback() { "localhost".to_owned() } else { host };
    let uri = format!("https://{host}:{}", listen.port());
    let ca = fs::read_to_string(serving_dir.join("ca.crt"))
        .map_err(|source| DevError::File { path: serving_dir.join("ca.crt"), source })?;
    write(&client.join("ca.crt"), &ca)?;
    // Once: whoever changes the password keeps the file up to date, or not.
    if !client.join("token").exists() {
        write(&client.join("token"), &format!("{ROOT}:{password}"))?;
    }
    write(&client.join("uri"), &uri)?;
    if std::env::var_os("LISTEN_FDS").is_none() {
        greet(&client, &uri);
    }
    let local = |ip: IpAddr| SocketAddr::new(ip, 0);
    Ok(Config {
        cluster_id: "dev".into(),
        data_dir: folder.into(),
        memory_budget_bytes: memory_mib * 1024 * 1024,
        listen: Listen {
            client: listen,
            health: local(Ipv4Addr::LOCALHOST.into()),
            admin: local(Ipv4Addr::LOCALHOST.into()),
        },
        tls: Tls {
            serving_dir,
            internal_dir,
            operator_uri: "vectorkeep://dev/operator".into(),
            client_auth: ClientAuth::None,
        },
        auth: Auth { root_password_file: password_file },
        kms: KmsConfig::local(key_file),
        isolation: None,
        live_dir: Some(private),
    })
}

/// Tells a developer, on standard output, how to connect.
fn greet(client: &Path, uri: &str) {
    let text = format!(
        "DEVELOPMENT ENGINE: the master key lies in a file beside the data. Do not keep real data here.\n\n\
         from pymilvus import MilvusClient\n\
         client = MilvusClient(\n    uri=\"{uri}\",\n    token=open(\"{0}/token\").read(),\n    server_pem_path=\"{0}/ca.crt\",\n)\n",
        client.display()
    );
    // Nobody reads it: the same is in the folder.
    let _closed = std::io::stdout().write_all(text.as_bytes());
}

/// A CA that lives only for this call, and a certificate of it in `directory`.
fn issue(directory: &Path, name: &str, address: IpAddr) -> Result<(), DevError> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, name);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
    leaf.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    if !address.is_unspecified() && address != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        leaf.subject_alt_names.push(SanType::IpAddress(address));
    }
    leaf.distinguished_name.push(DnType::CommonName, "vectorkeep-engine");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &ca)?;
    write(&directory.join("ca.crt"), &ca.pem())?;
    write(&directory.join("tls.key"), &key.serialize_pem())?;
    write(&directory.join("tls.crt"), &leaf.pem())
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) -> Result<(), DevError> {
    let mut options = fs::OpenOptions::new();
    let written = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| DevError::File { path: path.into(), source })
}

fn random_text() -> Result<String, DevError> {
    let mut bytes = [0u8; 18];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| DevError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
