//! The AWS provider against the KMS simulator, over TLS, with web-identity tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use support::aws::{KEY, KEY_ID, ROLE, Simulator, policy, role};
use support::{CLUSTER, read, write};
use vectorkeep_keyring::kms::aws::{AwsKms, AwsKmsConfig};
use vectorkeep_keyring::kms::{Kms, KmsError, KmsErrorKind};
use vectorkeep_keyring::{
    EncryptionContext, KeyStatus, Keyring, LockReason, Purpose, WatchConfig, ZoneId, is_locked_error, watch,
};

fn context(zone: u8) -> EncryptionContext {
    EncryptionContext::new(CLUSTER, ZoneId::from_bytes([zone; 16]), Purpose::System)
}

async fn wrapped(kms: &AwsKms) -> Vec<u8> {
    kms.generate_data_key(&context(1)).await.unwrap().wrapped
}

/// Messages go into statuses: nothing of the account in them, nothing of the token.
fn assert_presentable(error: &KmsError) {
    for secret in ["arn:", "111122223333", "eyJ"] {
        assert!(!error.message.contains(secret), "{}", error.message);
    }
}

async fn fails(kms: &AwsKms, blob: &[u8], kind: KmsErrorKind) -> KmsError {
    let error = kms.decrypt(blob, &context(1)).await.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert_presentable(&error);
    error
}

#[tokio::test]
async fn a_keyring_lives_on_aws_and_calls_nothing_but_the_two() {
    let simulator = Simulator::start();
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let open = async |kms: AwsKms| Keyring::open(Arc::clone(&raw), Arc::new(kms), CLUSTER).await;

    let keyring = open(simulator.kms()).await.unwrap();
    let zone = keyring.create_zone(Purpose::Database).await.unwrap();
    write(zone.sealed_store("x").as_ref(), "o", b"data").await;
    let again = open(simulator.kms()).await.unwrap();
    let store = again.zone(zone.id()).unwrap().sealed_store("x");
    assert_eq!(read(store.as_ref(), "o").await.unwrap(), b"data");

    let mut seen = std::collections::BTreeSet::new();
    for event in simulator.events() {
        let name = event["eventName"].as_str().unwrap();
        if name != "AssumeRoleWithWebIdentity" {
            let context = event["requestParameters"]["encryptionContext"].as_object().unwrap();
            assert_eq!(context["vectorkeep:cluster"], json!(CLUSTER));
            assert_eq!(context.len(), 3);
        }
        seen.insert(name.to_owned());
    }
    let expected = ["AssumeRoleWithWebIdentity", "Decrypt", "GenerateDataKey"];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn another_context_or_blob_is_invalid() {
    let simulator = Simulator::start();
    let kms = simulator.kms();
    let blob = wrapped(&kms).await;
    assert!(kms.decrypt(&blob, &context(1)).await.is_ok());
    let error = kms.decrypt(&blob, &context(2)).await.unwrap_err();
    assert_eq!(error.kind, KmsErrorKind::Invalid, "{error}");
    let mut bad = blob.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    fails(&kms, &bad, KmsErrorKind::Invalid).await;
}

#[tokio::test]
async fn key_states_and_policies_are_refusals_and_their_return_heals() {
    let simulator = Simulator::start();
    let kms = simulator.kms();
    let blob = wrapped(&kms).await;
    for state in ["Disabled", "PendingDeletion"] {
        simulator.state(state);
        fails(&kms, &blob, KmsErrorKind::Refused).await;
        let error = kms.generate_data_key(&context(1)).await.unwrap_err();
        assert_eq!(error.kind, KmsErrorKind::Refused);
        simulator.state("Enabled");
        assert!(kms.decrypt(&blob, &context(1)).await.is_ok());
    }
    simulator.policy(policy("vcanothercluster"));
    fails(&kms, &blob, KmsErrorKind::Refused).await;
    simulator.policy(policy(CLUSTER));
    assert!(kms.decrypt(&blob, &context(1)).await.is_ok());
    simulator.control("DELETE", &format!("/keys/{KEY_ID}"), &Value::Null);
    fails(&kms, &blob, KmsErrorKind::Refused).await;
}

#[tokio::test]
async fn a_rotated_master_key_is_invisible() {
    let simulator = Simulator::start();
    let kms = simulator.kms();
    let blob = wrapped(&kms).await;
    let path = format!("/keys/{KEY_ID}/rotate");
    simulator.control("POST", &path, &json!({}));
    assert!(kms.decrypt(&blob, &context(1)).await.is_ok());
    let newer = wrapped(&kms).await;
    assert!(kms.decrypt(&newer, &context(1)).await.is_ok());
}

#[tokio::test]
async fn silence_in_every_form_is_unreachable_and_bounded() {
    let simulator = Simulator::start();
    let blob = wrapped(&simulator.kms()).await;
    for service in ["kms", "sts"] {
        for fault in ["throttle", "error_5xx", "drop", "hang"] {
            // A provider without a session, so that the identity service is asked.
            let kms = simulator.kms();
            simulator.faults(json!({service: {fault: true}}));
            let bound = tokio::time::timeout(Duration::from_secs(60), fails(&kms, &blob, KmsErrorKind::Unreachable));
            bound.await.unwrap();
            simulator.clear_faults();
            assert!(kms.decrypt(&blob, &context(1)).await.is_ok(), "{service} {fault}");
        }
    }
}

#[tokio::test]
async fn a_short_disturbance_is_bridged_by_retries() {
    let simulator = Simulator::start();
    let kms = simulator.kms();
    let blob = wrapped(&kms).await;
    for fault in ["error_5xx", "drop", "throttle"] {
        simulator.faults(json!({"kms": {fault: true, "times": 1}}));
        assert!(kms.decrypt(&blob, &context(1)).await.is_ok(), "{fault}");
    }
}

#[tokio::test]
async fn a_wrong_plaintext_is_caught_by_the_commitment() {
    let simulator = Simulator::start();
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let keyring = Keyring::open(Arc::clone(&raw), Arc::new(simulator.kms()), CLUSTER).await.unwrap();
    simulator.faults(json!({"kms": {"wrong_plaintext": true}}));
    let outcome = keyring.check().await;
    assert_eq!(outcome.state(), vectorkeep_keyring::KeyState::Invalid);
    assert!(Keyring::open(raw, Arc::new(simulator.kms()), CLUSTER).await.is_err());
}

#[tokio::test]
async fn a_rejected_identity_is_a_refusal() {
    let simulator = Simulator::start();
    let blob = wrapped(&simulator.kms()).await;
    let hour = Duration::from_secs(3600);

    simulator.write_token("another-audience", hour);
    fails(&simulator.kms(), &blob, KmsErrorKind::Refused).await;
    simulator.write_token("sts.amazonaws.com", Duration::ZERO);
    fails(&simulator.kms(), &blob, KmsErrorKind::Refused).await;
    std::fs::write(simulator.token_file(), "no token").unwrap();
    fails(&simulator.kms(), &blob, KmsErrorKind::Refused).await;

    simulator.write_token("sts.amazonaws.com", hour);
    simulator.put("/roles/support", role("system:serviceaccount:other:engine"));
    fails(&simulator.kms(), &blob, KmsErrorKind::Refused).await;

    std::fs::remove_file(simulator.token_file()).unwrap();
    fails(&simulator.kms(), &blob, KmsErrorKind::Unreachable).await;
}

#[tokio::test]
async fn the_token_file_is_read_again_and_an_expired_session_is_renewed() {
    let simulator = Simulator::start();
    // Sessions so short that every call renews.
    simulator.faults(json!({"sts": {"session_seconds": 60}}));
    let kms = simulator.kms();
    let blob = wrapped(&kms).await;
    simulator.write_token("another-audience", Duration::from_secs(3600));
    fails(&kms, &blob, KmsErrorKind::Refused).await;
    simulator.write_token("sts.amazonaws.com", Duration::from_secs(3600));
    assert!(kms.decrypt(&blob, &context(1)).await.is_ok());

    simulator.clear_faults();
    let kms = simulator.kms();
    assert!(kms.decrypt(&blob, &context(1)).await.is_ok());
    simulator.control("POST", "/sessions/expire", &json!({}));
    assert!(kms.decrypt(&blob, &context(1)).await.is_ok(), "one fresh session is tried");
}

#[tokio::test]
async fn a_silent_identity_service_takes_no_session_back() {
    let simulator = Simulator::start();
    for fault in ["error_5xx", "hang"] {
        // A session so short that every call wants it renewed, and more calls than can try one after the other.
        simulator.faults(json!({"sts": {"session_seconds": 60}}));
        let (kms, context) = (simulator.kms(), context(1));
        let blob = wrapped(&kms).await;
        simulator.faults(json!({"sts": {fault: true}}));
        let answers = join_all((0..8).map(|_| kms.decrypt(&blob, &context))).await;
        let failures: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert!(failures.is_empty(), "{fault}: {failures:?}");
    }
}

#[tokio::test]
async fn an_unknown_certificate_and_plain_http_are_not_talked_to() {
    let simulator = Simulator::start();
    let blob = wrapped(&simulator.kms()).await;
    let untrusting = AwsKms::new(AwsKmsConfig { ca_bundle_file: None, ..simulator.config() });
    // Where the machine has no system roots at all, that is said at once.
    if let Ok(kms) = untrusting {
        fails(&kms, &blob, KmsErrorKind::Unreachable).await;
    }
    let plain = AwsKms::new(AwsKmsConfig { kms_endpoint: Some("http://127.0.0.1:1".to_owned()), ..simulator.config() });
    assert_eq!(plain.unwrap_err().kind, KmsErrorKind::Invalid);
}

#[tokio::test]
async fn malformed_arns_are_refused_before_any_call() {
    let simulator = Simulator::start();
    for (key, role) in [(KEY, "role"), ("key", ROLE)] {
        let error =
            AwsKms::new(AwsKmsConfig { key_arn: key.to_owned(), role_arn: role.to_owned(), ..simulator.config() })
                .unwrap_err();
        assert_eq!(error.kind, KmsErrorKind::Invalid);
    }
    assert!(simulator.events().is_empty());
}

#[tokio::test]
async fn the_kill_switch_from_the_key_to_the_store() {
    let simulator = Simulator::start();
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let config = WatchConfig { interval: Duration::from_secs(6), outage_grace: Duration::from_secs(600) };
    let kms = AwsKms::new(AwsKmsConfig { call_timeout: config.call_timeout(), ..simulator.config() }).unwrap();
    let keyring = Keyring::open(Arc::clone(&raw), Arc::new(kms), CLUSTER).await.unwrap();
    let store = keyring.system().sealed_store("x");
    write(store.as_ref(), "o", b"data").await;
    let (status, _seen) = tokio::sync::watch::channel(KeyStatus::default());
    let watching = tokio::spawn(watch(keyring.clone(), config, status));
    simulator.state("Disabled");
    let reason = tokio::time::timeout(Duration::from_secs(60), watching).await.unwrap();
    assert!(matches!(reason.unwrap(), LockReason::Refused(_)));
    assert!(is_locked_error(&read(store.as_ref(), "o").await.unwrap_err()));

    simulator.state("Enabled");
    let again = Keyring::open(raw, Arc::new(simulator.kms()), CLUSTER).await.unwrap();
    let store = again.system().sealed_store("x");
    assert_eq!(read(store.as_ref(), "o").await.unwrap(), b"data");
}
