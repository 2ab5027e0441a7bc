//! The control endpoint's own answers.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{KEY, KEY_ID, World, key, policy, request};

#[tokio::test]
async fn unusable_descriptions_are_refused_with_a_reason() {
    let world = World::empty().await;
    let mut unknown_field = key(&policy());
    unknown_field["colour"] = json!("red");
    for (path, body, reason) in [
        ("/keys/k1", json!({"policy": policy()}), "needs an arn"),
        ("/keys/k1", json!({"arn": KEY, "policy": policy()}), "contradicts"),
        ("/keys/k1", unknown_field, "colour"),
        ("/keys/k1", key(&json!({"Statement": [{"NotAction": "kms:*"}]})), "NotAction"),
        ("/roles/r1", json!({"arn": KEY, "trust": {"issuer": "i", "audience": "a", "subjects": []}}), "role"),
        ("/issuer", json!({"issuer": "i"}), "publicKeyPem"),
        ("/issuer", json!({"issuer": "i", "publicKeyPem": "x"}), "not a usable"),
        ("/faults", json!({"kms": {"drop": true, "throttle": true}}), "only one"),
        ("/faults", json!({"kms": {"slow": true}}), "slow"),
    ] {
        let (status, answer) = request(world.control, Method::PUT, path, body).await;
        assert!(status.is_client_error(), "{path} {answer}");
        assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
    }
    let (status, _) = request(world.control, Method::POST, "/keys/k1/rotate", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_world_can_be_read() {
    let world = World::start().await;
    assert_eq!(world.get("/healthz").await["status"], "ok");
    assert_eq!(world.get("/keys").await["keys"], json!([KEY_ID]));
    world.post(&format!("/keys/{KEY_ID}/rotate"), Value::Null).await;
    let key = world.get(&format!("/keys/{KEY_ID}")).await;
    assert_eq!(key["arn"], KEY);
    assert_eq!(key["backingKeys"], 2);
    assert_eq!(key["policy"], policy());
}

#[tokio::test]
async fn putting_a_key_again_keeps_what_it_encrypted_readable() {
    let world = World::start().await;
    let kms = world.kms().await;
    let blob = kms.generate().await.unwrap().ciphertext_blob.unwrap();
    world.put(&format!("/keys/{KEY_ID}"), key(&policy())).await;
    kms.decrypt(&blob).await.unwrap();
}

#[tokio::test]
async fn the_log_is_read_piece_by_piece() {
    let world = World::start().await;
    let kms = world.kms().await;
    let next = world.get("/log").await["next"].as_u64().unwrap();
    kms.generate().await.unwrap();
    let page = world.get(&format!("/log?since={next}")).await;
    assert_eq!(page["events"].as_array().unwrap().len(), 1);
    assert_eq!(page["next"], next + 1);
}
