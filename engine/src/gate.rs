//! The gate: whether requests are served, checked when one is admitted and again before its answer leaves.
//!
//! Locked is where a process starts. While locked there are neither keys nor data in the process, and every request is
//! answered with Milvus code 2500. Once the gate is shut after having been open, the process is about to replace itself, or
//! another process has its store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use vectorkeep_keyring::{Keyring, KeyringError, Lease};

use crate::budget::Budget;
use crate::error::{Code, Error, Result};
use crate::self_test::SelfTest;
use crate::server::auth::Users;
use crate::storage::shard::Shard;

/// What an unlocked engine serves.
#[derive(Debug)]
pub struct Unlocked {
    /// The keys, for as long as their lease lasts.
    pub keyring: Keyring,
    /// Users; they live in the system zone.
    pub users: Users,
    /// The shard of the system zone, which users and the list of databases live in.
    pub system: Arc<Shard>,
    /// Databases by name.
    pub databases: Vec<Arc<Database>>,
    /// Memory for data.
    pub budget: Budget,
    /// What the test on the way here said.
    pub self_test: SelfTest,
}

/// A database: one zone, one shard.
#[derive(Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The zone's id, which binds the ciphertext.
    pub zone: vectorkeep_keyring::ZoneId,
    /// Hybrid timestamp of its creation.
    pub created: u64,
    /// Its only shard.
    pub shard: Arc<Shard>,
}

impl Unlocked {
    /// Every shard, in the order in which they are opened.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        std::iter::once(&self.system).chain(self.databases.iter().map(|database| &database.shard))
    }

    /// The database called `name`; the empty name is the default database.
    pub fn database(&self, name: &str) -> Result<Arc<Database>> {
        let wanted = if name.is_empty() { "default" } else { name };
        let found = self.databases.iter().find(|database| database.name == wanted).cloned();
        found.ok_or_else(|| Error::new(Code::DatabaseNotFound, format!("database not found[database={wanted}]")))
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Gate {
    open: ArcSwapOption<Admitting>,
    /// Why the engine can't or must not open its store, if that is not for want of a key.
    damage: ArcSwapOption<Error>,
    in_flight: AtomicUsize,
}

#[derive(Debug)]
struct Admitting {
    unlocked: Arc<Unlocked>,
    lease: Lease,
}

/// A request that was let in. Its answer may leave only after [`Admitted::confirm`].
#[derive(Debug)]
pub struct Admitted<'a> {
    gate: &'a Gate,
    admitting: Arc<Admitting>,
}

impl Gate {
    /// Serves requests from now on.
    pub fn open(&self, unlocked: Arc<Unlocked>) {
        let lease = unlocked.keyring.lease();
        self.open.store(Some(Arc::new(Admitting { unlocked, lease })));
    }

    /// Answers requests with `error` as long as the gate is shut, since it is not for want of a key: the store is
    /// damaged, full, or another process's by now, or the network enforces no policies. With none, with code 2500 again.
    pub fn blame(&self, error: Option<Error>) {
        self.damage.store(error.map(Arc::new));
    }

    /// Refuses all requests from now on, also those whose answer is being made.
    pub fn shut(&self) {
        self.open.store(None);
    }

    /// What is served, while it is.
    pub fn unlocked(&self) -> Option<Arc<Unlocked>> {
        self.open.load().as_ref().map(|admitting| admitting.unlocked.clone())
    }

    /// Lets a request in, or refuses it with code 2500, or with the code of what else is wrong.
    pub fn admit(&self) -> Result<Admitted<'_>> {
        let admitting = self.open.load_full().filter(|admitting| admitting.lease.is_valid());
        let admitting = admitting.ok_or_else(|| self.refusal())?;
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Ok(Admitted { gate: self, admitting })
    }

    /// Requests that are being served.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Why nothing is served.
    fn refusal(&self) -> Error {
        match &*self.damage.load() {
            Some(damage) => (**damage).clone(),
            None => Error::key_revoked(),
        }
    }
}

impl Admitted<'_> {
    /// What is served.
    pub fn unlocked(&self) -> &Arc<Unlocked> {
        &self.admitting.unlocked
    }

    /// Refuses the answer if the gate was shut, or the lease ran out, since the request was let in.
    pub fn confirm(&self) -> Result<()> {
        let open = self.gate.open.load();
        let same = open.as_ref().is_some_and(|open| Arc::ptr_eq(open, &self.admitting));
        match same && self.admitting.lease.is_valid() {
            true => Ok(()),
            false => Err(self.gate.refusal()),
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.gate.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl From<KeyringError> for Error {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Kms(_) | KeyringError::Locked => Self::key_revoked(),
            KeyringError::Corrupt { .. } => Self::new(Code::DataIntegrity, error.to_string()),
            other => Self::new(Code::Io, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use object_store::memory::InMemory;
    use vectorkeep_keyring::kms::local::LocalKms;

    use super::*;

    /// A cluster without databases.
    async fn unlocked(folder: &std::path::Path) -> Arc<Unlocked> {
        let kms = Arc::new(LocalKms::create_or_open(folder.join("key")).unwrap());
        let keyring = Keyring::open(Arc::new(InMemory::new()), kms, "test").await.unwrap();
        let budget = Budget::new(1 << 20);
        let store = keyring.system().sealed_store("shard");
        let system = Shard::open(store, budget.clone(), Arc::default()).await.unwrap();
        let users = Users::new(system.clone());
        let self_test = SelfTest { passed: true, message: String::new(), at: SystemTime::UNIX_EPOCH };
        Arc::new(Unlocked { keyring, users, system, databases: Vec::new(), budget, self_test })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_in_work_when_the_gate_is_shut_is_refused_as_a_new_request_is() {
        let folder = tempfile::tempdir().unwrap();
        let unlocked = unlocked(folder.path()).await;
        let gate = Gate::default();
        let taken_over = Error::new(Code::NotReady, "another process has the store");
        for (blamed, code) in [(None, Code::KeyRevoked), (Some(taken_over), Code::NotReady)] {
            gate.open(unlocked.clone());
            let admitted = gate.admit().unwrap();
            assert!(admitted.confirm().is_ok());
            gate.blame(blamed);
            gate.shut();
            assert_eq!(admitted.confirm().map_err(|error| error.code), Err(code));
            assert_eq!(gate.admit().map(drop).map_err(|error| error.code), Err(code));
        }
    }

    #[test]
    fn a_keyring_that_was_locked_meanwhile_is_no_failure_of_the_store() {
        assert_eq!(Error::from(KeyringError::Locked).code, Code::KeyRevoked);
    }
}
