//! Data keys: what encrypts, what decrypts, and under which context.

use aws_sdk_kms::operation::decrypt::DecryptError;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyError;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeyState, KeyUsageType};
use serde_json::json;

use crate::world::{KEY, KEY_ID, OTHER_KEY, World, code, context, key, kms_client, policy};

#[tokio::test]
async fn a_data_key_decrypts_to_its_plaintext() {
    let world = World::start().await;
    let kms = world.kms().await;
    let generated = kms.generate().await.unwrap();
    let plaintext = generated.plaintext().unwrap();
    assert_eq!(plaintext.as_ref().len(), 32);
    assert_eq!(generated.key_id(), Some(KEY));
    let blob = generated.ciphertext_blob().unwrap();
    for key in [Some(KEY), Some(KEY_ID), None] {
        let decrypted = kms.decrypt_with(key, blob, &context()).await.unwrap();
        assert_eq!(decrypted.plaintext(), Some(plaintext));
        assert_eq!(decrypted.key_id(), Some(KEY));
    }
    let again = kms.generate().await.unwrap();
    assert_ne!(again.plaintext(), Some(plaintext));
}

#[tokio::test]
async fn key_specs_set_the_length() {
    let world = World::start().await;
    let kms = world.kms().await;
    let call = kms.0.generate_data_key().key_id(KEY).encryption_context("vectorkeep:cluster", "vc1");
    let generated = call.key_spec(DataKeySpec::Aes128).send().await.unwrap();
    assert_eq!(generated.plaintext().unwrap().as_ref().len(), 16);
}

#[tokio::test]
async fn another_context_does_not_decrypt() {
    let world = World::start().await;
    let kms = world.kms().await;
    let blob = kms.generate().await.unwrap().ciphertext_blob.unwrap();
    let other_zone = [("vectorkeep:cluster", "vc1"), ("vectorkeep:purpose", "system"), ("vectorkeep:zone", "00fe")];
    for context in [&other_zone[..], &other_zone[..2]] {
        let error = kms.decrypt_with(Some(KEY), &blob, context).await.unwrap_err().into_service_error();
        assert!(matches!(error, DecryptError::InvalidCiphertextException(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_altered_or_foreign_blob_does_not_decrypt() {
    let world = World::start().await;
    let kms = world.kms().await;
    let mut bytes = kms.generate().await.unwrap().ciphertext_blob.unwrap().into_inner();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    for blob in [Blob::new(bytes), Blob::new("no ciphertext")] {
        let error = kms.decrypt(&blob).await.unwrap_err().into_service_error();
        assert!(matches!(error, DecryptError::InvalidCiphertextException(_)), "{error:?}");
    }
}

#[tokio::test]
async fn the_named_key_must_be_the_one_that_encrypted() {
    let world = World::start().await;
    world.put("/keys/other", key(&policy())).await;
    let kms = world.kms().await;
    let blob = kms.generate().await.unwrap().ciphertext_blob.unwrap();
    let error = kms.decrypt_with(Some(OTHER_KEY), &blob, &context()).await.unwrap_err().into_service_error();
    assert!(matches!(error, DecryptError::IncorrectKeyException(_)), "{error:?}");
}

#[tokio::test]
async fn old_data_keys_decrypt_after_a_rotation() {
    let world = World::start().await;
    let kms = world.kms().await;
    let old = kms.generate().await.unwrap();
    world.post(&format!("/keys/{KEY_ID}/rotate"), json!(null)).await;
    let new = kms.generate().await.unwrap();
    assert_ne!(old.key_material_id(), new.key_material_id());
    for generated in [old, new] {
        let decrypted = kms.decrypt(generated.ciphertext_blob().unwrap()).await.unwrap();
        assert_eq!(decrypted.plaintext(), generated.plaintext());
        assert_eq!(decrypted.key_material_id(), generated.key_material_id());
    }
}

#[tokio::test]
async fn a_key_that_is_not_enabled_is_refused_and_comes_back() {
    let world = World::start().await;
    let kms = world.kms().await;
    let blob = kms.generate().await.unwrap().ciphertext_blob.unwrap();

    world.set_state("Disabled").await;
    let error = kms.decrypt(&blob).await.unwrap_err().into_service_error();
    assert!(matches!(error, DecryptError::DisabledException(_)), "{error:?}");
    let error = kms.generate().await.unwrap_err().into_service_error();
    assert!(matches!(error, GenerateDataKeyError::DisabledException(_)), "{error:?}");

    world.set_state("PendingDeletion").await;
    let error = kms.decrypt(&blob).await.unwrap_err().into_service_error();
    assert!(matches!(error, DecryptError::KmsInvalidStateException(_)), "{error:?}");

    world.set_state("Enabled").await;
    kms.decrypt(&blob).await.unwrap();
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_not_found() {
    let world = World::start().await;
    let kms = world.kms().await;
    for name in [
        OTHER_KEY,
        "other",
        "arn:aws:kms:us-east-1:111122223333:key/11111111-2222-3333-4444-555555555555",
        "arn:aws:kms:eu-central-1:444455556666:key/11111111-2222-3333-4444-555555555555",
        "arn:aws:kms:eu-central-1:111122223333:alias/support",
    ] {
        let error = kms.generate_with(name, &context()).await.unwrap_err().into_service_error();
        assert!(matches!(error, GenerateDataKeyError::NotFoundException(_)), "{name}: {error:?}");
    }
    assert_eq!(code(kms.generate_with("arn:aws:kms", &context()).await), "InvalidArnException");
}

#[tokio::test]
async fn the_region_of_the_client_must_be_that_of_the_key() {
    let world = World::start().await;
    let elsewhere = crate::world::Kms(kms_client(&world.endpoint, "us-east-1", world.credentials().await, None));
    for name in [KEY, KEY_ID] {
        let error = elsewhere.generate_with(name, &context()).await.unwrap_err().into_service_error();
        assert!(matches!(error, GenerateDataKeyError::NotFoundException(_)), "{name}: {error:?}");
    }
    let blob = world.kms().await.generate().await.unwrap().ciphertext_blob.unwrap();
    assert_eq!(code(elsewhere.decrypt_with(None, &blob, &context()).await), "AccessDeniedException");
}

#[tokio::test]
async fn a_signing_key_does_not_encrypt() {
    let world = World::start().await;
    let mut spec = key(&policy());
    spec["keyUsage"] = json!("SIGN_VERIFY");
    world.put("/keys/other", spec).await;
    let kms = world.kms().await;
    let error = kms.generate_with(OTHER_KEY, &context()).await.unwrap_err().into_service_error();
    assert!(matches!(error, GenerateDataKeyError::InvalidKeyUsageException(_)), "{error:?}");
}

#[tokio::test]
async fn a_deleted_key_does_not_come_back_under_its_name() {
    let world = World::start().await;
    let kms = world.kms().await;
    let blob = kms.generate().await.unwrap().ciphertext_blob.unwrap();
    let path = format!("/keys/{KEY_ID}");
    crate::world::request(world.control, http::Method::DELETE, &path, json!(null)).await;
    let error = kms.decrypt(&blob).await.unwrap_err().into_service_error();
    assert!(matches!(error, DecryptError::NotFoundException(_)), "{error:?}");
    world.put(&path, key(&policy())).await;
    let error = kms.decrypt(&blob).await.unwrap_err().into_service_error();
    assert!(matches!(error, DecryptError::InvalidCiphertextException(_)), "{error:?}");
}

#[tokio::test]
async fn a_key_describes_itself() {
    let world = World::start().await;
    let kms = world.kms().await;
    world.set_state("Disabled").await;
    let metadata = kms.0.describe_key().key_id(KEY).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(metadata.arn(), Some(KEY));
    assert_eq!(metadata.key_id(), KEY_ID);
    assert_eq!(metadata.key_state(), Some(&KeyState::Disabled));
    assert_eq!(metadata.key_usage(), Some(&KeyUsageType::EncryptDecrypt));
    assert!(!metadata.enabled());
}

#[tokio::test]
async fn other_operations_are_refused_and_logged() {
    let world = World::start().await;
    let kms = world.kms().await;
    let outcome = kms.0.encrypt().key_id(KEY).plaintext(Blob::new("x")).send().await;
    assert_eq!(code(outcome), "UnsupportedOperationException");
    let event = world.events().await.pop().unwrap();
    assert_eq!(event["eventName"], "Encrypt");
    assert_eq!(event["errorCode"], "UnsupportedOperationException");
}

#[tokio::test]
async fn a_dry_run_decides_and_does_nothing() {
    let world = World::start().await;
    let kms = world.kms().await;
    let call = kms.0.generate_data_key().key_id(KEY).number_of_bytes(32);
    let error = call.dry_run(true).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, GenerateDataKeyError::DryRunOperationException(_)), "{error:?}");
}
