//! Signatures and credentials.

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::world::{Kms, REGION, World, code, kms_client};

async fn refused(world: &World, credentials: Credentials) -> String {
    code(Kms(kms_client(&world.endpoint, REGION, credentials, None)).generate().await)
}

#[tokio::test]
async fn only_credentials_that_were_issued_are_accepted() {
    let world = World::start().await;
    let issued = world.credentials().await;
    let (id, secret) = (issued.access_key_id(), issued.secret_access_key());
    let token = issued.session_token().map(str::to_owned);

    let wrong_secret = Credentials::new(id, "not the secret", token.clone(), None, "test");
    assert_eq!(refused(&world, wrong_secret).await, "InvalidSignatureException");
    let unknown_key = Credentials::new("ASIAAAAAAAAAAAAAAAAA", secret, token.clone(), None, "test");
    assert_eq!(refused(&world, unknown_key).await, "UnrecognizedClientException");
    let no_token = Credentials::new(id, secret, None, None, "test");
    assert_eq!(refused(&world, no_token).await, "UnrecognizedClientException");
    let other_token = world.credentials().await.session_token().map(str::to_owned);
    let mixed = Credentials::new(id, secret, other_token, None, "test");
    assert_eq!(refused(&world, mixed).await, "UnrecognizedClientException");

    Kms(kms_client(&world.endpoint, REGION, issued, None)).generate().await.unwrap();
}

#[tokio::test]
async fn expired_credentials_are_refused() {
    let world = World::start().await;
    let kms = world.kms().await;
    kms.generate().await.unwrap();
    assert_eq!(world.post("/sessions/expire", json!(null)).await["expired"], 1);
    assert_eq!(code(kms.generate().await), "ExpiredTokenException");
    world.kms().await.generate().await.unwrap();
}

/// The error code of a request without the SDK.
async fn raw(world: &World, headers: &[(&str, &str)]) -> String {
    let mut request = Request::post(&world.endpoint)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "TrentService.DescribeKey");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.headers().contains_key("x-amzn-requestid"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    body["__type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn requests_must_be_signed_wholly_and_now() {
    let world = World::start().await;
    assert_eq!(raw(&world, &[]).await, "MissingAuthenticationTokenException");
    assert_eq!(raw(&world, &[("authorization", "AWS4-HMAC-SHA256 x")]).await, "IncompleteSignatureException");

    let issued = world.credentials().await;
    let token = issued.session_token().unwrap();
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    for date in ["20200101T000000Z", now.as_str()] {
        let signed = "host;x-amz-date;x-amz-security-token;x-amz-target";
        let id = issued.access_key_id();
        let day = &date[..8];
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={id}/{day}/{REGION}/kms/aws4_request, SignedHeaders={signed}, Signature=00"
        );
        let headers =
            [("authorization", authorization.as_str()), ("x-amz-date", date), ("x-amz-security-token", token)];
        assert_eq!(raw(&world, &headers).await, "InvalidSignatureException", "{date}");
    }
}
