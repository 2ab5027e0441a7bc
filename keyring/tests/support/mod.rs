//! Builders for the keyring's tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod aws;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use vectorkeep_keyring::kms::local::LocalKms;
use vectorkeep_keyring::kms::{DataKey, Kms, KmsError};
use vectorkeep_keyring::{EncryptionContext, EzkBytes, Keyring};

/// The cluster of all tests.
pub const CLUSTER: &str = "vc0123456789abcdef";

/// How a [`ScriptedKms`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As the key file says.
    Honest,
    /// With a refusal.
    Refusing,
    /// With a time-out, at once.
    Silent,
    /// Not at all.
    Hanging,
    /// With a key that was never asked for.
    Lying,
    /// With a refusal for the system zone, and not at all for others.
    RefusingSystem,
    /// For the system zone as when lying, and not at all for others.
    LyingSystem,
}

/// The local provider with a mood.
#[derive(Debug)]
pub struct ScriptedKms {
    inner: LocalKms,
    mood: Mutex<Mood>,
    /// Calls of `decrypt` so far.
    pub decrypts: AtomicUsize,
    _dir: tempfile::TempDir,
}

impl ScriptedKms {
    pub fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Self {
            inner: LocalKms::create_or_open(dir.path().join("key")).unwrap(),
            mood: Mutex::new(Mood::Honest),
            decrypts: AtomicUsize::new(0),
            _dir: dir,
        })
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn obey(&self, context: &EncryptionContext) -> Result<Mood, KmsError> {
        let mood = *self.mood.lock().unwrap();
        let system = context.pairs()[2].1 == "system";
        match mood {
            Mood::Refusing => Err(KmsError::refused("the key is disabled")),
            Mood::Silent => Err(KmsError::unreachable("time-out")),
            Mood::RefusingSystem if system => Err(KmsError::refused("the key is disabled")),
            Mood::LyingSystem if system => Ok(Mood::Lying),
            Mood::Hanging | Mood::RefusingSystem | Mood::LyingSystem => std::future::pending().await,
            Mood::Honest | Mood::Lying => Ok(mood),
        }
    }
}

#[async_trait]
impl Kms for ScriptedKms {
    async fn generate_data_key(&self, context: &EncryptionContext) -> Result<DataKey, KmsError> {
        self.obey(context).await?;
        self.inner.generate_data_key(context).await
    }

    async fn decrypt(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<EzkBytes, KmsError> {
        self.decrypts.fetch_add(1, Ordering::SeqCst);
        match self.obey(context).await? {
            Mood::Lying => Ok(EzkBytes::take(&mut [0x5a; 32])?),
            _ => self.inner.decrypt(wrapped, context).await,
        }
    }
}

/// A keyring over an empty store in memory, with its KMS.
pub async fn fresh() -> (Arc<dyn ObjectStore>, Arc<ScriptedKms>, Keyring) {
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let kms = ScriptedKms::new();
    let keyring = open(&raw, &kms).await.unwrap();
    (raw, kms, keyring)
}

pub async fn open(
    raw: &Arc<dyn ObjectStore>,
    kms: &Arc<ScriptedKms>,
) -> Result<Keyring, vectorkeep_keyring::KeyringError> {
    Keyring::open(Arc::clone(raw), Arc::clone(kms) as Arc<dyn Kms>, CLUSTER).await
}

pub async fn read(store: &dyn ObjectStore, path: &str) -> object_store::Result<Vec<u8>> {
    Ok(store.get(&Path::from(path)).await?.bytes().await?.to_vec())
}

pub async fn write(store: &dyn ObjectStore, path: &str, bytes: &[u8]) {
    store.put(&Path::from(path), bytes.to_vec().into()).await.unwrap();
}

/// Every object of a store, by path.
pub async fn contents(store: &dyn ObjectStore) -> std::collections::BTreeMap<String, Vec<u8>> {
    use futures::TryStreamExt;
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut all = std::collections::BTreeMap::new();
    for meta in listed {
        let path = meta.location.to_string();
        let bytes = read(store, &path).await.unwrap();
        all.insert(path, bytes);
    }
    all
}
