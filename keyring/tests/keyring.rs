//! The keyring: creating, opening, surviving damage, checking, locking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use support::{CLUSTER, Mood, ScriptedKms, contents, fresh, open, read, write};
use vectorkeep_keyring::kms::{Kms, KmsErrorKind};
use vectorkeep_keyring::{
    CheckOutcome, KeyState, KeyStatus, Keyring, KeyringError, LockReason, Purpose, WatchConfig, is_locked_error, watch,
};

async fn record_paths(raw: &dyn ObjectStore) -> Vec<String> {
    let all = contents(raw).await;
    all.into_keys().filter(|path| path.starts_with("keyring/")).collect()
}

#[tokio::test]
async fn an_empty_store_gets_a_system_zone_in_two_copies() {
    let (raw, kms, keyring) = fresh().await;
    assert_eq!(keyring.system().purpose(), Purpose::System);
    let stored = contents(raw.as_ref()).await;
    let id = keyring.system().id();
    let (a, b) = (&stored[&format!("keyring/{id}/00000001.a")], &stored[&format!("keyring/{id}/00000001.b")]);
    assert_eq!(a, b);
    assert_eq!(stored.len(), 2);
    assert_eq!(kms.decrypts.load(Ordering::SeqCst), 1, "proven before use");
}

#[tokio::test]
async fn a_reopened_keyring_has_the_same_identity_zones_and_data() {
    let (raw, kms, keyring) = fresh().await;
    let database = keyring.create_zone(Purpose::Database).await.unwrap();
    write(database.sealed_store("x").as_ref(), "o", b"data").await;

    let again = open(&raw, &kms).await.unwrap();
    assert_eq!(again.store_id(), keyring.store_id());
    assert_eq!(again.system().id(), keyring.system().id());
    assert_eq!(again.zones(), keyring.zones());
    assert_eq!(again.zones().len(), 2);
    let store = again.zone(database.id()).unwrap().sealed_store("x");
    assert_eq!(read(store.as_ref(), "o").await.unwrap(), b"data");
}

#[tokio::test]
async fn any_single_damaged_copy_is_survived_and_repaired() {
    let (raw, kms, keyring) = fresh().await;
    keyring.create_zone(Purpose::Database).await.unwrap();
    let good = contents(raw.as_ref()).await;
    for path in record_paths(raw.as_ref()).await {
        let mut flipped = good[&path].clone();
        flipped[130] ^= 1;
        let damages = [None, Some(vec![]), Some(flipped), Some(good[&path][..50].to_vec())];
        for damage in damages {
            match &damage {
                Some(bytes) => write(raw.as_ref(), &path, bytes).await,
                None => raw.delete(&Path::from(path.as_str())).await.unwrap(),
            }
            open(&raw, &kms).await.unwrap();
            assert_eq!(contents(raw.as_ref()).await, good, "{path} {damage:?}");
        }
    }
}

#[tokio::test]
async fn two_damaged_copies_are_named_and_nothing_is_overwritten() {
    let (raw, kms, keyring) = fresh().await;
    let zone = keyring.create_zone(Purpose::Database).await.unwrap().id();
    for copy in ["a", "b"] {
        let path = format!("keyring/{zone}/00000001.{copy}");
        write(raw.as_ref(), &path, b"garbage").await;
    }
    let before = contents(raw.as_ref()).await;
    let error = open(&raw, &kms).await.unwrap_err();
    assert!(matches!(&error, KeyringError::Corrupt { object, .. } if object.contains(&zone.to_string())), "{error}");
    assert_eq!(contents(raw.as_ref()).await, before);
}

#[tokio::test]
async fn a_forged_record_with_a_right_digest_is_not_believed() {
    let (raw, kms, keyring) = fresh().await;
    let id = keyring.system().id();
    let path = format!("keyring/{id}/00000001.a");
    let mut forged = read(raw.as_ref(), &path).await.unwrap();
    let good = forged.clone();
    let body = forged.len() - 32;
    // The commitment, with a fresh digest: only the key tells.
    forged[90] ^= 1;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &forged[..body]);
    forged[body..].copy_from_slice(digest.as_ref());
    write(raw.as_ref(), &path, &forged).await;
    open(&raw, &kms).await.unwrap();
    assert_eq!(read(raw.as_ref(), &path).await.unwrap(), good, "repaired");

    for copy in ["a", "b"] {
        write(raw.as_ref(), &format!("keyring/{id}/00000001.{copy}"), &forged).await;
    }
    let error = open(&raw, &kms).await.unwrap_err();
    assert!(matches!(&error, KeyringError::Kms(e) if e.kind == KmsErrorKind::Invalid), "{error}");
}

#[tokio::test]
async fn a_store_with_objects_but_no_keyring_is_refused_by_name() {
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    write(raw.as_ref(), "zones/x", b"something").await;
    let error = open(&raw, &ScriptedKms::new()).await.unwrap_err();
    assert!(matches!(&error, KeyringError::Corrupt { object, .. } if object == "keyring/"));
    assert_eq!(contents(raw.as_ref()).await.len(), 1);
}

#[tokio::test]
async fn a_stranger_in_the_keyring_folder_is_named() {
    let (raw, kms, _) = fresh().await;
    write(raw.as_ref(), "keyring/notes.txt", b"x").await;
    let error = open(&raw, &kms).await.unwrap_err();
    assert!(matches!(&error, KeyringError::Corrupt { object, .. } if object == "keyring/notes.txt"));
}

#[tokio::test]
async fn the_store_of_another_cluster_is_refused() {
    let (raw, kms, _) = fresh().await;
    let kms: Arc<dyn Kms> = kms;
    let error = Keyring::open(raw, kms, "vcother").await.unwrap_err();
    assert!(matches!(
        &error,
        KeyringError::WrongCluster { expected, found } if expected == "vcother" && found == CLUSTER
    ));
}

#[tokio::test]
async fn a_cluster_id_that_does_not_fit_is_refused_before_anything_is_stored() {
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let kms: Arc<dyn Kms> = ScriptedKms::new();
    let long = "a".repeat(31);
    for id in ["", "Upper", "with space", long.as_str()] {
        let error = Keyring::open(Arc::clone(&raw), Arc::clone(&kms), id).await.unwrap_err();
        assert!(matches!(error, KeyringError::ClusterId(_)), "{id}");
    }
    assert!(contents(raw.as_ref()).await.is_empty());
}

#[tokio::test]
async fn opening_and_creating_report_what_the_kms_says() {
    let (raw, kms, keyring) = fresh().await;
    let before = contents(raw.as_ref()).await;
    for (mood, kind) in [
        (Mood::Refusing, KmsErrorKind::Refused),
        (Mood::Silent, KmsErrorKind::Unreachable),
        (Mood::Lying, KmsErrorKind::Invalid),
    ] {
        kms.set(mood);
        for error in [open(&raw, &kms).await.unwrap_err(), keyring.create_zone(Purpose::Database).await.unwrap_err()] {
            assert!(matches!(&error, KeyringError::Kms(e) if e.kind == kind), "{mood:?}: {error}");
        }
    }
    assert_eq!(contents(raw.as_ref()).await, before, "nothing stored");
}

#[tokio::test]
async fn a_check_asks_for_every_zone_and_tells_the_worst() {
    let (_raw, kms, keyring) = fresh().await;
    keyring.create_zone(Purpose::Database).await.unwrap();
    let before = kms.decrypts.load(Ordering::SeqCst);
    assert_eq!(keyring.check().await, CheckOutcome::Ok);
    assert_eq!(kms.decrypts.load(Ordering::SeqCst), before + 2);
    for (mood, state) in [
        (Mood::Refusing, KeyState::Refused),
        (Mood::Silent, KeyState::Unreachable),
        (Mood::Lying, KeyState::Invalid),
        (Mood::Honest, KeyState::Accessible),
    ] {
        kms.set(mood);
        assert_eq!(keyring.check().await.state(), state);
        // An answer that decides ends a check: the zones that were not asked any more keep what they had.
        let told = keyring.zones().iter().filter(|zone| zone.state == state).count();
        let decided = matches!(state, KeyState::Refused | KeyState::Invalid);
        assert!(if decided { told >= 1 } else { told == 2 }, "{mood:?}");
    }
}

#[tokio::test]
async fn an_answer_that_decides_is_not_held_up_by_a_zone_that_gets_none() {
    for (mood, state) in [(Mood::RefusingSystem, KeyState::Refused), (Mood::LyingSystem, KeyState::Invalid)] {
        let (_raw, kms, keyring) = fresh().await;
        keyring.create_zone(Purpose::Database).await.unwrap();
        kms.set(mood);
        assert_eq!(bounded(keyring.check()).await.state(), state);
    }
}

#[tokio::test]
async fn only_a_successful_check_extends_the_lease() {
    let (_raw, kms, keyring) = fresh().await;
    let first = keyring.lease().expires().unwrap();
    kms.set(Mood::Silent);
    keyring.check().await;
    assert_eq!(keyring.lease().expires().unwrap(), first);
    kms.set(Mood::Honest);
    keyring.check().await;
    assert!(keyring.lease().expires().unwrap() > first);
}

#[tokio::test]
async fn a_lease_without_grace_is_over_and_locks_the_stores() {
    let (_raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    write(store.as_ref(), "o", b"data").await;
    keyring.set_outage_grace(Duration::ZERO);
    assert!(!keyring.lease().is_valid());
    let error = read(store.as_ref(), "o").await.unwrap_err();
    assert!(is_locked_error(&error), "{error}");
    assert!(matches!(keyring.create_zone(Purpose::Database).await, Err(KeyringError::Locked)));
}

#[tokio::test]
async fn there_is_no_second_system_zone() {
    let (_raw, _kms, keyring) = fresh().await;
    assert!(keyring.create_zone(Purpose::System).await.is_err());
}

/// So that a watch or a check that never ends is a failed test and not a hanging one.
async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it should have ended")
}

fn config(grace: Duration) -> WatchConfig {
    WatchConfig { interval: Duration::from_millis(100), outage_grace: grace }
}

#[tokio::test]
async fn the_watch_locks_on_a_refusal_and_on_an_invalid_answer() {
    for (mood, refused) in [(Mood::Refusing, true), (Mood::Lying, false)] {
        let (_raw, kms, keyring) = fresh().await;
        let (status, seen) = tokio::sync::watch::channel(KeyStatus::default());
        kms.set(mood);
        let reason = bounded(watch(keyring.clone(), config(Duration::from_secs(600)), status)).await;
        assert_eq!(matches!(reason, LockReason::Refused(_)), refused);
        assert_eq!(matches!(reason, LockReason::Invalid(_)), !refused);
        assert!(!keyring.lease().is_valid());
        let expected = if refused { KeyState::Refused } else { KeyState::Invalid };
        assert_eq!(seen.borrow().state, expected);
        assert!(!seen.borrow().message.is_empty());
    }
}

#[tokio::test]
async fn the_watch_endures_silence_only_for_the_grace() {
    for mood in [Mood::Silent, Mood::Hanging] {
        let (_raw, kms, keyring) = fresh().await;
        let (status, seen) = tokio::sync::watch::channel(KeyStatus::default());
        kms.set(mood);
        let reason = bounded(watch(keyring.clone(), config(Duration::from_millis(400)), status)).await;
        assert!(matches!(reason, LockReason::OutageGraceOver(_)), "{reason}");
        assert!(!keyring.lease().is_valid());
        assert_eq!(seen.borrow().state, KeyState::Unreachable);
    }
}

#[tokio::test]
async fn a_grace_of_one_interval_is_enough_also_if_the_watch_starts_long_after_the_opening() {
    let (_raw, _kms, keyring) = fresh().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let interval = Duration::from_secs(2);
    let (status, mut seen) = tokio::sync::watch::channel(KeyStatus::default());
    let watching = tokio::spawn(watch(keyring, WatchConfig { interval, outage_grace: interval }, status));
    let accessible = bounded(seen.wait_for(|status| status.state == KeyState::Accessible)).await.is_ok();
    assert!(accessible && !watching.is_finished(), "the watch locked while the KMS answered");
    watching.abort();
}

#[tokio::test]
async fn the_watch_goes_on_while_the_key_answers() {
    let (_raw, kms, keyring) = fresh().await;
    let (status, mut seen) = tokio::sync::watch::channel(KeyStatus::default());
    let watching = tokio::spawn(watch(keyring.clone(), config(Duration::from_secs(600)), status));
    let accessible = seen.wait_for(|status| status.state == KeyState::Accessible).await;
    assert!(accessible.unwrap().last_success.is_some());
    assert!(!watching.is_finished());
    kms.set(Mood::Refusing);
    assert!(matches!(bounded(watching).await.unwrap(), LockReason::Refused(_)));
}
