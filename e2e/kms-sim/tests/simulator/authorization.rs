//! Key policies as callers meet them.

use aws_sdk_kms::error::ProvideErrorMetadata;
use serde_json::{Value, json};

use crate::world::{KEY, ROLE, World, code, context, policy};

fn statement(changes: &[(&str, Value)]) -> Value {
    let mut policy = policy();
    for (element, value) in changes {
        policy["Statement"][0][element] = value.clone();
    }
    policy
}

#[tokio::test]
async fn another_cluster_or_an_extra_context_key_is_denied() {
    let world = World::start().await;
    let kms = world.kms().await;
    kms.generate().await.unwrap();
    let other_cluster = [("vectorkeep:cluster", "vc2"), ("vectorkeep:zone", "00ff")];
    let extra_key = [("vectorkeep:cluster", "vc1"), ("colour", "red")];
    for context in [&other_cluster[..], &extra_key[..]] {
        let error = kms.generate_with(KEY, context).await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some("AccessDeniedException"));
        let expected = "User: arn:aws:sts::111122223333:assumed-role/support/vc1 is not authorized to perform: \
                        kms:GenerateDataKey on resource: arn:aws:kms:eu-central-1:111122223333:key/\
                        11111111-2222-3333-4444-555555555555 because no resource-based policy allows the \
                        kms:GenerateDataKey action";
        assert_eq!(error.message(), Some(expected));
    }
}

#[tokio::test]
async fn only_named_actions_and_principals_are_allowed() {
    let world = World::start().await;
    let kms = world.kms().await;
    let blob = kms.generate().await.unwrap().ciphertext_blob.unwrap();

    world.set_policy(statement(&[("Action", json!("kms:Decrypt"))])).await;
    kms.decrypt(&blob).await.unwrap();
    assert_eq!(code(kms.generate().await), "AccessDeniedException");

    world.set_policy(statement(&[("Principal", json!({"AWS": format!("{ROLE}-2")}))])).await;
    assert_eq!(code(kms.decrypt(&blob).await), "AccessDeniedException");

    world.set_policy(statement(&[("Principal", json!("*")), ("Action", json!("kms:*"))])).await;
    kms.decrypt(&blob).await.unwrap();
}

#[tokio::test]
async fn an_explicit_deny_wins() {
    let world = World::start().await;
    let kms = world.kms().await;
    let mut denied = policy();
    let deny = json!({
        "Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*",
        "Condition": {"StringLike": {"kms:EncryptionContext:vectorkeep:zone": "00*"}},
    });
    denied["Statement"].as_array_mut().unwrap().push(deny);
    world.set_policy(denied).await;
    let error = kms.generate().await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("AccessDeniedException"));
    assert!(error.message().unwrap().ends_with("with an explicit deny in a resource-based policy"));
    let other_zone = [("vectorkeep:cluster", "vc1"), ("vectorkeep:zone", "1100")];
    kms.generate_with(KEY, &other_zone).await.unwrap();
}

#[tokio::test]
async fn a_caller_without_rights_learns_nothing_of_the_state() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.set_state("Disabled").await;
    world.set_policy(statement(&[("Action", json!("kms:DescribeKey"))])).await;
    assert_eq!(code(kms.generate().await), "AccessDeniedException");
}

#[tokio::test]
async fn the_log_says_who_did_what_with_which_key_and_context() {
    let world = World::start().await;
    let kms = world.kms().await;
    let generated = kms.generate().await.unwrap();
    assert_eq!(code(kms.generate_with(KEY, &[("colour", "red")]).await), "AccessDeniedException");
    let events = world.events().await;
    let [assume, allowed, denied] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(assume["eventSource"], "sts.amazonaws.com");
    assert_eq!(assume["eventName"], "AssumeRoleWithWebIdentity");
    assert_eq!(assume["userIdentity"]["userName"], "system:serviceaccount:vk-vc1:engine");
    assert_eq!(assume["requestParameters"]["roleArn"], ROLE);

    assert_eq!(allowed["eventSource"], "kms.amazonaws.com");
    assert_eq!(allowed["eventName"], "GenerateDataKey");
    assert_eq!(allowed["userIdentity"]["type"], "AssumedRole");
    assert_eq!(allowed["userIdentity"]["arn"], "arn:aws:sts::111122223333:assumed-role/support/vc1");
    assert_eq!(allowed["awsRegion"], "eu-central-1");
    assert_eq!(allowed["requestParameters"]["keyId"], KEY);
    let logged = &allowed["requestParameters"]["encryptionContext"];
    for (name, value) in context() {
        assert_eq!(logged[name], value);
    }
    assert_eq!(allowed["resources"][0]["ARN"], KEY);
    assert!(allowed.get("errorCode").is_none());
    assert!(allowed["requestID"].is_string());
    assert!(allowed["eventTime"].as_str().unwrap().ends_with('Z'));

    assert_eq!(denied["errorCode"], "AccessDeniedException");
    assert!(denied["errorMessage"].as_str().unwrap().contains("kms:GenerateDataKey"));

    // No secret of any kind.
    let text = serde_json::to_string(&events).unwrap();
    let plaintext = generated.plaintext().unwrap().as_ref();
    let blob = generated.ciphertext_blob().unwrap().as_ref();
    for bytes in [plaintext, blob] {
        assert!(!text.contains(&hex::encode(bytes)));
        use base64::Engine;
        assert!(!text.contains(&base64::engine::general_purpose::STANDARD.encode(bytes)));
    }
    assert!(!text.contains("eyJ"), "a token was logged");
}
