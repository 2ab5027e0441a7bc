//! The allow-list scan of a store, and its positive controls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use support::{open, write};
use vectorkeep_keyring::audit::{AuditFinding, AuditVerdict};
use vectorkeep_keyring::{Keyring, Purpose};

const CANARY: &[u8] = b"CANARY-4f1b-plaintext-that-must-not-be-found";

async fn on_disk() -> (tempfile::TempDir, Arc<dyn ObjectStore>, Keyring) {
    let dir = tempfile::tempdir().unwrap();
    let raw: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
    let keyring = open(&raw, &support::ScriptedKms::new()).await.unwrap();
    (dir, raw, keyring)
}

/// Files below `root` that hold the canary.
fn files_with_canary(root: &FilePath) -> usize {
    let mut found = 0;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found += usize::from(bytes.windows(CANARY.len()).any(|window| window == CANARY));
            }
        }
    }
    found
}

fn foreign(findings: &[AuditFinding]) -> Vec<&str> {
    let bad = findings.iter().filter(|finding| !finding.is_allowed());
    bad.map(|finding| finding.object.as_str()).collect()
}

#[tokio::test]
async fn a_store_in_use_holds_only_records_and_sealed_objects() {
    let (dir, raw, keyring) = on_disk().await;
    let database = keyring.create_zone(Purpose::Database).await.unwrap();
    for store in [keyring.system().sealed_store("a"), database.sealed_store(""), database.sealed_row_store("b")] {
        write(store.as_ref(), "o", &CANARY.repeat(3000)).await;
        write(store.as_ref(), "empty", b"").await;
    }
    let mut upload = database.sealed_store("c").put_multipart(&Path::from("unfinished")).await.unwrap();
    upload.put_part(CANARY.repeat(300_000).into()).await.unwrap();
    std::mem::forget(upload);

    let listed = keyring.audit(raw.as_ref()).await.unwrap();
    assert_eq!(foreign(&listed), Vec::<&str>::new());
    assert_eq!(listed.len(), 4 + 6);
    assert_eq!(keyring.audit_own_store().await.unwrap(), listed);

    let files = keyring.audit_directory(dir.path()).unwrap();
    assert_eq!(foreign(&files), Vec::<&str>::new());
    let count = |wanted: fn(&AuditVerdict) -> bool| files.iter().filter(|f| wanted(&f.verdict)).count();
    assert_eq!(count(|v| *v == AuditVerdict::KeyringRecord), 4);
    assert_eq!(count(|v| *v == AuditVerdict::SealedObject), 6);
    assert_eq!(count(|v| matches!(v, AuditVerdict::Unfinished { .. })), 1);
    assert_eq!(files_with_canary(dir.path()), 0);
}

/// The control: the same writes through a store that does not seal turn both scans red.
#[tokio::test]
async fn a_store_that_does_not_seal_is_found_by_both_scans() {
    let (dir, raw, keyring) = on_disk().await;
    let path = format!("zones/{}/bulk/a/o", keyring.system().id());
    write(raw.as_ref(), &path, &CANARY.repeat(3000)).await;
    assert_eq!(files_with_canary(dir.path()), 1);
    assert_eq!(foreign(&keyring.audit(raw.as_ref()).await.unwrap()), [path.as_str()]);
    assert_eq!(foreign(&keyring.audit_directory(dir.path()).unwrap()), [path.as_str()]);
}

#[tokio::test]
async fn strangers_are_named_wherever_they_lie() {
    let (dir, _raw, keyring) = on_disk().await;
    let store = keyring.system().sealed_store("a");
    write(store.as_ref(), "o", b"data").await;
    let zone = format!("zones/{}/bulk/a", keyring.system().id());
    let sealed = std::fs::read(dir.path().join(&zone).join("o")).unwrap();
    let mut flipped = sealed.clone();
    flipped[200] ^= 1;
    let strangers: [(String, Vec<u8>); 7] = [
        ("core.1234".to_owned(), b"dump".to_vec()),
        ("keyring/backup".to_owned(), b"x".to_vec()),
        (format!("{zone}/renamed"), sealed.clone()),
        (format!("{zone}/flipped"), flipped),
        (format!("{zone}/longer"), [sealed, vec![0]].concat()),
        (format!("{zone}/upload#1"), vec![b'p'; 100_000]),
        (format!("zones/{}/bulk/a/o", "0".repeat(32)), b"x".to_vec()),
    ];
    for (name, bytes) in &strangers {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    let mut expected: Vec<_> = strangers.iter().map(|(name, _)| name.as_str()).collect();
    expected.push("link");
    expected.sort();
    let findings = keyring.audit_directory(dir.path()).unwrap();
    assert_eq!(foreign(&findings), expected);
}
