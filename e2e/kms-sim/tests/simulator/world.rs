//! A running simulator with one key, one role and one issuer, and clients for it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::decrypt::{DecryptError, DecryptOutput};
use aws_sdk_kms::operation::generate_data_key::{GenerateDataKeyError, GenerateDataKeyOutput};
use aws_sdk_kms::primitives::Blob;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use vectorkeep_kms_sim::access_log::AccessLog;
use vectorkeep_kms_sim::server::Server;
use vectorkeep_kms_sim::simulator::Simulator;

use crate::issuer::{AUDIENCE, Issuer, SUBJECT, URL};

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555";
pub(crate) const KEY_ID: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const OTHER_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/other";
pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/support";

/// The encryption context that the key policy asks for.
pub(crate) fn context() -> Vec<(&'static str, &'static str)> {
    vec![("vectorkeep:cluster", "vc1"), ("vectorkeep:purpose", "system"), ("vectorkeep:zone", "00ff")]
}

/// The key policy that a customer would set.
pub(crate) fn policy() -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "VectorKeep",
            "Effect": "Allow",
            "Principal": {"AWS": ROLE},
            "Action": ["kms:GenerateDataKey", "kms:Decrypt", "kms:DescribeKey"],
            "Resource": "*",
            "Condition": {
                "StringEqualsIfExists": {"kms:EncryptionContext:vectorkeep:cluster": "vc1"},
                "ForAllValues:StringEquals": {
                    "kms:EncryptionContextKeys": ["vectorkeep:cluster", "vectorkeep:zone", "vectorkeep:purpose"],
                },
            },
        }],
    })
}

pub(crate) struct World {
    pub(crate) endpoint: String,
    pub(crate) control: SocketAddr,
    pub(crate) issuer: Issuer,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl World {
    /// The usual world: everything in order.
    pub(crate) async fn start() -> Self {
        let world = Self::empty().await;
        world.put("/issuer", world.issuer.as_pem()).await;
        world.put("/keys/11111111-2222-3333-4444-555555555555", key(&policy())).await;
        world.put("/roles/support", role(&[SUBJECT])).await;
        world
    }

    pub(crate) async fn empty() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let simulator = Arc::new(Simulator::new(AccessLog::new(None)));
        let server = Server::bind(any, any, None, simulator).await.unwrap();
        let endpoint = format!("http://{}", server.protocol_addr().unwrap());
        let control = server.control_addr().unwrap();
        let serving = tokio::spawn(async move { server.run(std::future::pending()).await.unwrap() });
        Self { endpoint, control, issuer: Issuer::es256(), serving }
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = request(self.control, Method::PUT, path, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = request(self.control, Method::POST, path, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        request(self.control, Method::GET, path, Value::Null).await.1
    }

    pub(crate) async fn set_state(&self, state: &str) {
        self.post(&format!("/keys/{KEY_ID}/state"), json!({"state": state})).await;
    }

    pub(crate) async fn set_policy(&self, policy: Value) {
        self.put(&format!("/keys/{KEY_ID}/policy"), policy).await;
    }

    pub(crate) async fn events(&self) -> Vec<Value> {
        self.get("/log").await["events"].as_array().unwrap().clone()
    }

    /// A KMS client with credentials from STS.
    pub(crate) async fn kms(&self) -> Kms {
        Kms(kms_client(&self.endpoint, REGION, self.credentials().await, None))
    }

    pub(crate) async fn credentials(&self) -> Credentials {
        let output = sts_client(&self.endpoint, None)
            .assume_role_with_web_identity()
            .role_arn(ROLE)
            .role_session_name("vc1")
            .web_identity_token(self.issuer.token())
            .send()
            .await
            .unwrap();
        let issued = output.credentials.unwrap();
        let token = Some(issued.session_token);
        Credentials::new(issued.access_key_id, issued.secret_access_key, token, None, "test")
    }
}

/// The description of a key in the usual account and region.
pub(crate) fn key(policy: &Value) -> Value {
    json!({"region": REGION, "account": "111122223333", "policy": policy})
}

/// The description of the usual role, trusting some subjects.
pub(crate) fn role(subjects: &[&str]) -> Value {
    json!({"arn": ROLE, "trust": {"issuer": URL, "audience": AUDIENCE, "subjects": subjects}})
}

/// The two operations, with the usual key and context.
pub(crate) struct Kms(pub(crate) aws_sdk_kms::Client);

impl Kms {
    pub(crate) async fn generate(&self) -> Result<GenerateDataKeyOutput, SdkError<GenerateDataKeyError>> {
        self.generate_with(KEY, &context()).await
    }

    pub(crate) async fn generate_with(
        &self,
        key: &str,
        context: &[(&str, &str)],
    ) -> Result<GenerateDataKeyOutput, SdkError<GenerateDataKeyError>> {
        let mut call = self.0.generate_data_key().key_id(key).number_of_bytes(32);
        for (name, value) in context {
            call = call.encryption_context(*name, *value);
        }
        call.send().await
    }

    pub(crate) async fn decrypt(&self, blob: &Blob) -> Result<DecryptOutput, SdkError<DecryptError>> {
        self.decrypt_with(Some(KEY), blob, &context()).await
    }

    pub(crate) async fn decrypt_with(
        &self,
        key: Option<&str>,
        blob: &Blob,
        context: &[(&str, &str)],
    ) -> Result<DecryptOutput, SdkError<DecryptError>> {
        let mut call = self.0.decrypt().set_key_id(key.map(str::to_owned)).ciphertext_blob(blob.clone());
        for (name, value) in context {
            call = call.encryption_context(*name, *value);
        }
        call.send().await
    }
}

/// The error code of a refused call.
pub(crate) fn code<O: std::fmt::Debug, E: ProvideErrorMetadata>(outcome: Result<O, SdkError<E>>) -> String {
    match outcome {
        Ok(answer) => panic!("answered {answer:?}"),
        Err(error) => error.code().unwrap_or("no answer").to_owned(),
    }
}

/// Clients try once and don't wait long, so that each refusal is seen as it comes.
pub(crate) fn kms_client(
    endpoint: &str,
    region: &'static str,
    credentials: Credentials,
    ca: Option<&Path>,
) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(20)).build())
        .http_client(http_client(ca))
        .build();
    aws_sdk_kms::Client::from_conf(config)
}

pub(crate) fn sts_client(endpoint: &str, ca: Option<&Path>) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::disabled())
        .http_client(http_client(ca))
        .build();
    aws_sdk_sts::Client::from_conf(config)
}

fn http_client(ca: Option<&Path>) -> SharedHttpClient {
    let mut trust = TrustStore::empty();
    if let Some(ca) = ca {
        trust.add_pem_certificate(std::fs::read(ca).unwrap());
    }
    let tls = TlsContext::builder().with_trust_store(trust).build().unwrap();
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .build_https()
}

/// One request to the control endpoint.
pub(crate) async fn request(address: SocketAddr, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
