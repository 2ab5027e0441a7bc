//! The KMS simulator as a process, and a cluster issuer for web-identity tokens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use vectorkeep_keyring::kms::aws::{AwsKms, AwsKmsConfig};

use super::CLUSTER;

pub const KEY_ID: &str = "11111111-2222-3333-4444-555555555555";
pub const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555";
pub const ROLE: &str = "arn:aws:iam::111122223333:role/support";
const ISSUER: &str = "https://issuer.acme.example";
const AUDIENCE: &str = "sts.amazonaws.com";
const SUBJECT: &str = "system:serviceaccount:vk-vc0123456789abcdef:engine";

/// A running simulator with one key and one role, and the token file of a pod.
pub struct Simulator {
    child: Child,
    endpoint: String,
    control: String,
    issuer: EcdsaKeyPair,
    folder: tempfile::TempDir,
    /// Kept open, so that the process can go on writing.
    _stderr: BufReader<ChildStderr>,
}

impl Simulator {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(binary())
            .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .arg("--self-signed")
            .arg(folder.path())
            .args(["--san", "127.0.0.1"])
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        let field = |name: &str| started["fields"][name].as_str().unwrap().to_owned();
        let issuer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let simulator = Self {
            child,
            endpoint: field("protocol"),
            control: field("control").trim_start_matches("http://").to_owned(),
            issuer,
            folder,
            _stderr: stderr,
        };
        simulator.put("/issuer", json!({"issuer": ISSUER, "publicKeyPem": simulator.public_pem()}));
        simulator.put(&format!("/keys/{KEY_ID}"), json!({"arn": KEY, "policy": policy(CLUSTER)}));
        simulator.put("/roles/support", role(SUBJECT));
        simulator.write_token(AUDIENCE, Duration::from_secs(3600));
        simulator
    }

    /// The provider as the engine configures it.
    pub fn kms(&self) -> AwsKms {
        AwsKms::new(self.config()).unwrap()
    }

    pub fn config(&self) -> AwsKmsConfig {
        AwsKmsConfig {
            key_arn: KEY.to_owned(),
            role_arn: ROLE.to_owned(),
            web_identity_token_file: self.token_file(),
            kms_endpoint: Some(self.endpoint.clone()),
            sts_endpoint: Some(self.endpoint.clone()),
            ca_bundle_file: Some(self.folder.path().join("ca.crt")),
            call_timeout: Duration::from_secs(3),
            session_name: CLUSTER.to_owned(),
        }
    }

    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Puts a fresh token in place, as the kubelet does.
    pub fn write_token(&self, audience: &str, lifetime: Duration) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(json!({"alg": "ES256", "typ": "JWT"})),
            part(json!({
                "iss": ISSUER,
                "sub": SUBJECT,
                "aud": [audience],
                "nbf": now - 10,
                "exp": now + lifetime.as_secs(),
            }))
        );
        let signature = self.issuer.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}\n", URL_SAFE_NO_PAD.encode(signature));
        std::fs::write(self.token_file(), token).unwrap();
    }

    pub fn state(&self, state: &str) {
        let path = format!("/keys/{KEY_ID}/state");
        self.control("POST", &path, &json!({"state": state}));
    }

    pub fn policy(&self, policy: Value) {
        self.put(&format!("/keys/{KEY_ID}/policy"), policy);
    }

    pub fn faults(&self, faults: Value) {
        self.put("/faults", faults);
    }

    pub fn clear_faults(&self) {
        self.control("DELETE", "/faults", &Value::Null);
    }

    pub fn put(&self, path: &str, body: Value) {
        self.control("PUT", path, &body);
    }

    pub fn events(&self) -> Vec<Value> {
        let log = self.control("GET", "/log", &Value::Null);
        log["events"].as_array().unwrap().clone()
    }

    /// One request to the control endpoint.
    pub fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.control).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.issuer.public_key().as_der().unwrap();
        let text = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The statement that `kubectl vectorkeep key-policy` prints, for `cluster`.
pub fn policy(cluster: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "VectorKeep",
            "Effect": "Allow",
            "Principal": {"AWS": ROLE},
            "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
            "Resource": "*",
            "Condition": {
                "StringEquals": {"kms:EncryptionContext:vectorkeep:cluster": cluster},
                "ForAllValues:StringEquals": {
                    "kms:EncryptionContextKeys":
                        ["vectorkeep:cluster", "vectorkeep:zone", "vectorkeep:purpose"],
                },
            },
        }],
    })
}

pub fn role(subject: &str) -> Value {
    json!({
        "arn": ROLE,
        "trust": {"issuer": ISSUER, "audience": AUDIENCE, "subjects": [subject]},
    })
}

fn binary() -> PathBuf {
    let named = std::env::var_os("VECTORKEEP_KMS_SIM").map(PathBuf::from);
    // This test lies in <target>/<profile>/deps, the simulator two folders up.
    let beside = || {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        profile.join("vectorkeep-kms-sim")
    };
    let path = named.unwrap_or_else(beside);
    assert!(
        path.is_file(),
        "the KMS simulator is not at {}: build it with `cargo build -p vectorkeep-kms-sim`, or name it in VECTORKEEP_KMS_SIM",
        path.display()
    );
    path
}
