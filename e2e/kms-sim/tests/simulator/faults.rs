//! Injected faults as clients meet them.

use std::time::{Duration, Instant};

use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyError;
use http::Method;
use serde_json::{Value, json};

use crate::world::{KEY, World, code, context, request, sts_client};

async fn last_fault(world: &World) -> Value {
    world.events().await.pop().unwrap()["additionalEventData"]["injectedFault"].clone()
}

#[tokio::test]
async fn kms_throttles_fails_and_recovers() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.put("/faults", json!({"kms": {"throttle": true}})).await;
    assert_eq!(code(kms.generate().await), "ThrottlingException");
    assert_eq!(last_fault(&world).await, "throttle");

    world.put("/faults", json!({"kms": {"error_5xx": true}})).await;
    let error = kms.generate().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 500);
    let error = error.into_service_error();
    assert!(matches!(error, GenerateDataKeyError::KmsInternalException(_)), "{error:?}");
    assert_eq!(last_fault(&world).await, "error_5xx");

    request(world.control, Method::DELETE, "/faults", Value::Null).await;
    kms.generate().await.unwrap();
}

#[tokio::test]
async fn kms_drops_connections() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.put("/faults", json!({"kms": {"drop": true}})).await;
    let error = kms.generate().await.unwrap_err();
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
    assert_eq!(last_fault(&world).await, "drop");
}

#[tokio::test]
async fn kms_hangs_until_the_client_gives_up() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.put("/faults", json!({"kms": {"hang": true}})).await;
    let gave_up = tokio::time::timeout(Duration::from_secs(1), kms.generate()).await;
    assert!(gave_up.is_err(), "{gave_up:?}");
    assert_eq!(last_fault(&world).await, "hang");
}

#[tokio::test]
async fn kms_is_slow() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.put("/faults", json!({"kms": {"latency_ms": 300}})).await;
    let start = Instant::now();
    kms.generate().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn kms_answers_another_key() {
    let world = World::start().await;
    let kms = world.kms().await;
    let generated = kms.generate().await.unwrap();
    let blob = generated.ciphertext_blob().unwrap();
    world.put("/faults", json!({"kms": {"wrong_plaintext": true, "operations": ["Decrypt"], "times": 1}})).await;
    let wrong = kms.decrypt(blob).await.unwrap();
    assert_eq!(wrong.plaintext().unwrap().as_ref().len(), 32);
    assert_ne!(wrong.plaintext(), generated.plaintext());
    assert_eq!(last_fault(&world).await, "wrong_plaintext");
    assert_eq!(kms.decrypt(blob).await.unwrap().plaintext(), generated.plaintext());
}

#[tokio::test]
async fn changes_of_a_key_propagate_late() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.put("/faults", json!({"propagation_delay_ms": 86_400_000})).await;
    world.set_state("Disabled").await;
    world.set_policy(json!({"Version": "2012-10-17", "Statement": []})).await;
    kms.generate().await.unwrap();
    let key = world.get("/keys/11111111-2222-3333-4444-555555555555").await;
    assert_eq!((&key["state"], &key["effectiveState"]), (&json!("Disabled"), &json!("Enabled")));

    world.put("/faults", json!({"propagation_delay_ms": 200})).await;
    world.set_state("PendingDeletion").await;
    // Bounded wait for the change to be seen.
    let mut seen = false;
    for _ in 0..100 {
        if kms.generate().await.is_err() {
            seen = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(seen, "the change never took effect");
}

#[tokio::test]
async fn faults_of_one_service_leave_the_other_alone() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.put("/faults", json!({"sts": {"throttle": true}})).await;
    kms.generate_with(KEY, &context()).await.unwrap();
    let assume = async || {
        sts_client(&world.endpoint, None)
            .assume_role_with_web_identity()
            .role_arn(crate::world::ROLE)
            .role_session_name("vc1")
            .web_identity_token(world.issuer.token())
            .send()
            .await
    };
    assert_eq!(code(assume().await), "Throttling");
    world.put("/faults", json!({"sts": {"error_5xx": true}})).await;
    assert_eq!(code(assume().await), "InternalFailure");
    world.put("/faults", json!({"sts": {"drop": true}})).await;
    let error = assume().await.unwrap_err();
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");

    world.put("/faults", json!({"sts": {"session_seconds": 0}})).await;
    assert_eq!(code(world.kms().await.generate().await), "ExpiredTokenException");
}

#[tokio::test]
async fn no_request_is_hit_at_probability_zero() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.put("/faults", json!({"kms": {"throttle": true, "probability": 0.0}})).await;
    kms.generate().await.unwrap();
}
