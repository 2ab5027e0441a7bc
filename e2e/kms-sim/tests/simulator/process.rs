//! The simulator as a process: flags, configuration file, TLS, access log, SIGTERM.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;

use aws_credential_types::Credentials;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::issuer::Issuer;
use crate::world::{KEY_ID, Kms, REGION, ROLE, key, kms_client, policy, request, role, sts_client};

struct Process {
    child: Child,
    protocol: String,
    control: SocketAddr,
    /// Kept open, so that the process can go on writing.
    _stderr: BufReader<ChildStderr>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vectorkeep-kms-sim"))
            .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .args(arguments)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        let field = |name: &str| started["fields"][name].as_str().unwrap().to_owned();
        let control = field("control").strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, protocol: field("protocol"), control, _stderr: stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

#[tokio::test]
async fn a_configured_process_serves_over_tls_logs_and_stops_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (config, log, ca) = (path("config.json"), path("access.log"), path("ca.crt"));
    let issuer = Issuer::es256();
    write(
        &config,
        &json!({
            "issuer": issuer.as_pem(),
            "keys": {KEY_ID: key(&policy())},
            "roles": {"support": role(&["system:serviceaccount:*:engine"])},
        }),
    );
    let mut process = Process::start(&[
        "--config",
        config.to_str().unwrap(),
        "--access-log",
        log.to_str().unwrap(),
        "--self-signed",
        folder.path().to_str().unwrap(),
        "--san",
        "127.0.0.1",
        "kms.test",
    ]);
    let endpoint = process.protocol.clone();
    assert!(endpoint.starts_with("https://"));

    let output = sts_client(&endpoint, Some(&ca))
        .assume_role_with_web_identity()
        .role_arn(ROLE)
        .role_session_name("vc1")
        .web_identity_token(issuer.token())
        .send()
        .await
        .unwrap();
    let issued = output.credentials.unwrap();
    let token = Some(issued.session_token);
    let credentials = Credentials::new(issued.access_key_id, issued.secret_access_key, token, None, "test");
    Kms(kms_client(&endpoint, REGION, credentials, Some(&ca))).generate().await.unwrap();

    let stranger = sts_client(&endpoint, None).assume_role_with_web_identity().send().await;
    assert!(stranger.is_err(), "a client that doesn't know the CA was served");

    // A request hangs while the process is told to stop.
    let faults = json!({"sts": {"hang": true}});
    request(process.control, http::Method::PUT, "/faults", faults).await;
    let hanging = tokio::spawn(
        sts_client(&endpoint, Some(&ca))
            .assume_role_with_web_identity()
            .role_arn(ROLE)
            .role_session_name("vc1")
            .web_identity_token(issuer.token())
            .send(),
    );
    for _ in 0..200 {
        let logged = std::fs::read_to_string(&log).unwrap();
        if logged.lines().count() == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(process.child.wait().unwrap().success());
    assert!(hanging.await.unwrap().is_err());

    let logged = std::fs::read_to_string(&log).unwrap();
    let events: Vec<Value> = logged.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = events.iter().map(|event| event["eventName"].as_str().unwrap()).collect();
    assert_eq!(names, ["AssumeRoleWithWebIdentity", "GenerateDataKey", "AssumeRoleWithWebIdentity"]);
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&["--self-signed", folder.path().to_str().unwrap()]);
    let address = process.protocol.strip_prefix("https://").unwrap();
    for (version, accepted) in [(&rustls::version::TLS13, true), (&rustls::version::TLS12, false)] {
        let mut roots = rustls::RootCertStore::empty();
        let ca = rustls::pki_types::CertificateDer::from_pem_file(folder.path().join("ca.crt")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        assert_eq!(connected.is_ok(), accepted, "{version:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    write(&config, &json!({"keys": {"k1": {"policy": policy()}}}));
    let output = Command::new(env!("CARGO_BIN_EXE_vectorkeep-kms-sim"))
        .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config", config.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs an arn"));
}

#[tokio::test]
async fn the_example_configuration_works() {
    let process = Process::start(&["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/example.json")]);
    let keys = request(process.control, http::Method::GET, "/keys", Value::Null).await.1;
    assert_eq!(keys["keys"], json!(["1234abcd-12ab-34cd-56ef-1234567890ab"]));
}
