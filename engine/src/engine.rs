//! The engine as one value: configuration, gate, metrics, and the loop that unlocks and locks it.

use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use futures::future::select_all;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use prost::Message;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use vectorkeep_keyring::kms::aws::{AwsKms, AwsKmsConfig};
use vectorkeep_keyring::kms::local::LocalKms;
use vectorkeep_keyring::kms::{DataKey, Kms, KmsError, KmsErrorKind};
use vectorkeep_keyring::{
    EncryptionContext, EzkBytes, KeyState, KeyStatus, Keyring, KeyringError, LockReason, Purpose, WatchConfig, ZoneId,
};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{Config, Isolation};
use crate::error::{Code, Error, Result};
use crate::gate::{Database, Gate, Unlocked};
use crate::isolation::{self, Targets};
use crate::live;
use crate::metrics::Metrics;
use crate::proto::storage;
use crate::release::Release;
use crate::self_test::SelfTest;
use crate::server::auth::{ROOT, Users};
use crate::storage::format::Formats;
use crate::storage::keys::{self, Kind};
use crate::storage::shard::{Operation, Shard, decode};
use crate::traffic::Traffic;

/// The database that every cluster has.
const DEFAULT_DATABASE: &str = "default";
/// Requests in work get so long to leave after the gate was shut; their answers are refused all the same.
const LEAVE: Duration = Duration::from_millis(200);
/// So often a probe is repeated of whose names none resolves.
const UNRESOLVED: u32 = 8;
/// Time between two probes while the network is given time to enforce its policies.
const SETTLING: Duration = Duration::from_secs(1);
/// Time between two looks at the file format that the operator has committed to.
const COMMIT: Duration = Duration::from_secs(5);
/// Time between two probes of the network while the engine runs, about: not all engines are to try at once.
const PROBE: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    /// The configuration.
    pub config: Config,
    /// The version of the release.
    pub version: &'static str,
    /// The file formats that it knows, and those of its shards.
    pub formats: Arc<Formats>,
    /// Lets requests in while the keys are there.
    pub gate: Gate,
    /// Counters.
    pub metrics: Metrics,
    /// How clients were served in the last minutes.
    pub traffic: Traffic,
    /// What the last probe of the network found; none before the first, and none where nothing is to be tried.
    pub isolation: ArcSwapOption<isolation::Report>,
    /// A new one for each process image.
    pub boot_id: uuid::Uuid,
    /// What the last check of the master key said.
    pub key: watch::Sender<KeyStatus>,
    budget: Budget,
    clients: AtomicI64,
}

/// Where the engine is in its life, as the admin API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Locked,
    Unlocking,
    Serving,
}

impl Engine {
    /// A locked engine of this release.
    pub fn new(config: Config, release: impl Into<Release>) -> Arc<Self> {
        let Release { version, format } = release.into();
        Arc::new(Self {
            formats: Arc::new(Formats::new(format)),
            budget: Budget::new(config.memory_budget_bytes),
            config,
            version,
            gate: Gate::default(),
            metrics: Metrics::default(),
            traffic: Traffic::new(Instant::now()),
            isolation: ArcSwapOption::empty(),
            boot_id: uuid::Uuid::new_v4(),
            key: watch::Sender::new(KeyStatus::default()),
            clients: AtomicI64::new(1),
        })
    }

    /// A number for a client that connects.
    pub fn next_client(&self) -> i64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// Where the engine is in its life.
    pub fn state(&self) -> State {
        match (self.gate.unlocked().is_some(), self.key.borrow().state) {
            (true, _) => State::Serving,
            (false, KeyState::Accessible) => State::Unlocking,
            (false, _) => State::Locked,
        }
    }

    /// Memory in use and the limit.
    pub fn memory(&self) -> (usize, usize) {
        self.budget.usage()
    }

    /// Unlocks as soon as the network and the KMS allow it, serves, and returns when this process image must go:
    /// because the keys must be given up, or because it holds remains of a failed attempt. The caller replaces the
    /// process.
    pub async fn run(self: &Arc<Self>) -> Replace {
        let settled = Instant::now() + self.config.isolation.as_ref().map_or(Duration::ZERO, Isolation::settling);
        self.wait_for_isolation(settled).await;
        let _probing = AbortOnDropHandle::new(tokio::spawn(self.clone().keep_probing(settled)));
        let interval = self.config.kms.check_interval();
        loop {
            let kms = match self.kms() {
                Ok(kms) => Arc::new(Counting { kms, used: AtomicU64::new(0) }),
                Err(error) => {
                    tracing::warn!(reason = %error, "the KMS can't be asked; the engine stays locked");
                    self.report(&error);
                    tokio::time::sleep(interval / 2).await;
                    continue;
                }
            };
            match self.unlock_and_serve(kms.clone()).await {
                Ok(replace) => return replace,
                Err(error) => {
                    tracing::warn!(code = error.code as i32, reason = %error, "the engine stays locked");
                    self.gate.blame(Some(error).filter(|error| error.code != Code::KeyRevoked));
                    tokio::time::sleep(interval / 2).await;
                    // A key that was unwrapped on the way may lie in memory that nobody wiped.
                    if kms.used.load(Ordering::Acquire) > 0 {
                        return Replace::AfterFailure;
                    }
                }
            }
        }
    }

    /// Returns as soon as no forbidden listener that decides is reached, or reaching one is no reason to stay locked. Later findings
    /// are reported only: a cluster that serves is not cut off.
    async fn wait_for_isolation(&self, settled: Instant) {
        let mut patience = UNRESOLVED;
        // Where it is not required, `keep_probing` looks first.
        while let Some(targets) = Targets::of(&self.config).filter(|targets| targets.required) {
            let found = isolation::Report::probe(targets).await;
            let early = found.is_early(settled);
            let (lacks_dns, forbids) = (found.lacks_dns(), found.forbids_unlocking());
            if !early {
                self.keep(found);
            }
            if lacks_dns && patience > 0 {
                // Without names nothing is known; but an engine must not wait for ever for a DNS that is gone.
                patience -= 1;
                tokio::time::sleep(Duration::from_secs(3)).await;
                continue;
            }
            if !forbids {
                break;
            }
            let error = Error::new(
                Code::NotReady,
                "the network of this cluster does not enforce its policies; the engine asks for no key until it does",
            );
            if !early {
                tracing::warn!(code = error.code as i32, reason = %error, "the engine stays locked");
            }
            self.gate.blame(Some(error));
            tokio::time::sleep(if early { SETTLING } else { self.config.kms.check_interval() }).await;
        }
        self.gate.blame(None);
    }

    async fn keep_probing(self: Arc<Self>, settled: Instant) {
        let later = || PROBE.mul_f64(rand::random_range(0.75..1.25));
        let mut pause = self.isolation.load().as_ref().map_or(Duration::ZERO, |_| later());
        loop {
            tokio::time::sleep(pause).await;
            pause = later();
            let Some(targets) = Targets::of(&self.config) else {
                self.isolation.store(None);
                continue;
            };
            let found = isolation::Report::probe(targets).await;
            match found.is_early(settled) {
                true => pause = SETTLING,
                false => self.keep(found),
            }
        }
    }

    /// Keeps what a probe of the network found, and logs it if it is another finding than the last.
    fn keep(&self, found: isolation::Report) {
        let found = Arc::new(found);
        let last = self.isolation.swap(Some(found.clone()));
        if last.is_none_or(|last| last.outcomes != found.outcomes) {
            found.tell();
        }
    }

    /// Opens the keyring, loads what is under its keys, and serves until this process image must go. The keys are
    /// watched from the moment they are there: to load may take longer than the KMS may be silent, and a refusal counts
    /// at any time.
    async fn unlock_and_serve(self: &Arc<Self>, kms: Arc<dyn Kms>) -> Result<Replace> {
        let keyring = self.open_keyring(kms).await?;
        let mut watching = pin!(vectorkeep_keyring::watch(keyring.clone(), self.watch_config(), self.key.clone()));
        // A task of its own, since to load is to compute, which must hold neither the watch nor its verdict up.
        let loading = AbortOnDropHandle::new(tokio::spawn(self.clone().load(keyring)));
        let loaded = tokio::select! {
            reason = &mut watching => return Ok(Replace::Locked(reason)),
            loaded = loading => loaded,
        };
        let unlocked =
            loaded.map_err(|_panic| Error::new(Code::Unexpected, "loading the store ended in a panic"))??;
        Ok(self.serve(unlocked, watching).await)
    }

    /// Serves until `watching` says that the keys must be given up.
    async fn serve(
        self: &Arc<Self>,
        unlocked: Arc<Unlocked>,
        mut watching: Pin<&mut impl Future<Output = LockReason>>,
    ) -> Replace {
        let tasks = unlocked.databases.iter().flat_map(|database| database.shard.start_maintenance());
        let maintenance: Vec<_> = tasks.map(AbortOnDropHandle::new).collect();
        let committing = AbortOnDropHandle::new(tokio::spawn(self.clone().keep_committing(unlocked.clone())));
        self.gate.blame(None);
        self.gate.open(unlocked.clone());
        tracing::info!("the engine is unlocked and serves");
        let lost = select_all(unlocked.shards().map(|shard| Box::pin(shard.lost())));
        let reason = tokio::select! {
            reason = &mut watching => reason,
            _ = lost => {
                // Reads would tell what was; and to take the store back would only make both take it again and again.
                self.gate.blame(Some(Error::new(
                    Code::NotReady,
                    "another process has taken this cluster's store over; this one serves it no more",
                )));
                self.gate.shut();
                watching.await
            }
        };
        self.gate.shut();
        self.gate.blame(None);
        drop((maintenance, committing));
        let waited = async {
            while self.gate.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _timed_out = tokio::time::timeout(LEAVE, waited).await;
        Replace::Locked(reason)
    }

    /// Commits the shards to a newer file format as soon as the operator has.
    async fn keep_committing(self: Arc<Self>, unlocked: Arc<Unlocked>) {
        loop {
            let format = live::format(&self.config);
            // The one that is opened first goes first, and the others wait for it: an older release must be refused before
            // it has opened any.
            for shard in unlocked.shards() {
                if let Err(error) = shard.commit_format(format).await {
                    tracing::warn!(
                        code = error.code as i32,
                        reason = %error,
                        format,
                        "a shard can't be committed to a newer file format yet; it is tried again"
                    );
                    break;
                }
            }
            tokio::time::sleep(COMMIT).await;
        }
    }

    async fn open_keyring(&self, kms: Arc<dyn Kms>) -> Result<Keyring> {
        let raw = LocalFileSystem::new_with_prefix(store_dir(&self.config.data_dir)?)?.with_fsync(true);
        let opened = Keyring::open(Arc::new(raw), kms, &self.config.cluster_id).await;
        let keyring = opened.inspect_err(|error| self.report_keyring(error))?;
        let checked = vectorkeep_keyring::CheckOutcome::Ok;
        self.key.send_modify(|status| {
            status.state = checked.state();
            status.message.clear();
            status.last_success = Some(std::time::SystemTime::now());
            status.last_check = status.last_success;
        });
        Ok(keyring)
    }

    /// Opens everything in the keyring.
    async fn load(self: Arc<Self>, keyring: Keyring) -> Result<Arc<Unlocked>> {
        let system = self.open_shard(keyring.system().sealed_store("shard")).await?;
        let users = Users::new(system.clone());
        if !users.names().await?.iter().any(|name| name == ROOT) {
            users.ensure_root(&root_password(&self.config.auth.root_password_file).await?).await?;
        }
        let listed = databases_in(&keyring, &system).await?;
        // After all that is read from the system shard here, since a log that refuses the rows of the test refuses
        // readers too; and before the databases take memory, of which it needs a little.
        let self_test = SelfTest::run(&system).await;
        let mut databases = Vec::new();
        for (name, zone, created) in listed {
            let store = keyring.zone(zone)?.sealed_store("shard");
            let shard = self.open_shard(store).await?;
            databases.push(Arc::new(Database { name, zone, created, shard }));
        }
        Ok(Arc::new(Unlocked { keyring, users, system, databases, budget: self.budget.clone(), self_test }))
    }

    async fn open_shard(&self, store: Arc<dyn ObjectStore>) -> Result<Arc<Shard>> {
        Shard::open(store, self.budget.clone(), self.formats.clone()).await
    }

    /// Closes the shards in order, so that the next start has nothing to replay.
    pub async fn close(&self) {
        let Some(unlocked) = self.gate.unlocked() else { return };
        self.gate.shut();
        for shard in unlocked.shards() {
            if let Err(error) = shard.close().await {
                tracing::warn!(reason = %error, "a shard was not closed; its log is replayed at the next start");
            }
        }
    }

    fn kms(&self) -> std::result::Result<Arc<dyn Kms>, KmsError> {
        if let Some(local) = &self.config.kms.local {
            return Ok(Arc::new(LocalKms::open(&local.key_file)?));
        }
        let aws = self.config.kms.aws.clone();
        let aws = aws.ok_or_else(|| KmsError::invalid("no KMS is configured; set kms.aws or kms.local"))?;
        Ok(Arc::new(AwsKms::new(AwsKmsConfig {
            key_arn: aws.key_arn,
            role_arn: aws.role_arn,
            web_identity_token_file: aws.web_identity_token_file,
            kms_endpoint: aws.kms_endpoint,
            sts_endpoint: aws.sts_endpoint,
            ca_bundle_file: aws.ca_bundle_file,
            call_timeout: self.watch_config().call_timeout(),
            session_name: self.config.cluster_id.clone(),
        })?))
    }

    fn watch_config(&self) -> WatchConfig {
        WatchConfig { interval: self.config.kms.check_interval(), outage_grace: self.config.kms.outage_grace() }
    }

    fn report_keyring(&self, error: &KeyringError) {
        match error {
            KeyringError::Kms(error) => self.report(error),
            other => self.key.send_modify(|status| status.message = other.to_string()),
        }
    }

    fn report(&self, error: &KmsError) {
        self.key.send_modify(|status| {
            status.state = match error.kind {
                KmsErrorKind::Refused => KeyState::Refused,
                KmsErrorKind::Unreachable => KeyState::Unreachable,
                KmsErrorKind::Invalid => KeyState::Invalid,
            };
            status.message = error.message.clone();
            status.last_check = Some(std::time::SystemTime::now());
        });
    }
}

/// Why the process must replace itself.
#[derive(Debug)]
pub enum Replace {
    /// The keys were given up.
    Locked(LockReason),
    /// Unlocking failed after a key had been unwrapped.
    AfterFailure,
}

impl std::fmt::Display for Replace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked(reason) => write!(f, "{reason:?}"),
            Self::AfterFailure => write!(f, "unlocking failed half-way"),
        }
    }
}

/// Counts the keys that passed through this process image.
#[derive(Debug)]
struct Counting {
    kms: Arc<dyn Kms>,
    used: AtomicU64,
}

#[async_trait]
impl Kms for Counting {
    async fn generate_data_key(&self, context: &EncryptionContext) -> std::result::Result<DataKey, KmsError> {
        let key = self.kms.generate_data_key(context).await;
        self.used.fetch_add(u64::from(key.is_ok()), Ordering::AcqRel);
        key
    }

    async fn decrypt(&self, blob: &[u8], context: &EncryptionContext) -> std::result::Result<EzkBytes, KmsError> {
        let key = self.kms.decrypt(blob, context).await;
        self.used.fetch_add(u64::from(key.is_ok()), Ordering::AcqRel);
        key
    }
}

/// The folder of the sealed store; everything in it is sealed or a wrapped key.
pub fn store_dir(data_dir: &Path) -> Result<std::path::PathBuf> {
    let folder = data_dir.join("store");
    std::fs::create_dir_all(&folder)
        .map_err(|error| Error::new(Code::Io, format!("the folder {} can't be made: {error}", folder.display())))?;
    Ok(folder)
}

async fn root_password(file: &Path) -> Result<zeroize::Zeroizing<String>> {
    let text = tokio::fs::read_to_string(file).await.map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| {
        Error::new(Code::Io, format!("the root password file {} can't be read: {error}", file.display()))
    })?;
    let password = zeroize::Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    match password.is_empty() {
        true => Err(Error::new(Code::Io, format!("the root password file {} is empty", file.display()))),
        false => Ok(password),
    }
}

/// Name, zone and creation time of every database. The default one is made when it isn't there.
async fn databases_in(keyring: &Keyring, system: &Arc<Shard>) -> Result<Vec<(String, ZoneId, u64)>> {
    let mut databases = Vec::new();
    for (key, value) in system.records(keys::kind(Kind::Database)).await? {
        let record: storage::Database = decode("database", value)?;
        let id = <[u8; 16]>::try_from(record.id.as_ref())
            .map_err(|_| Error::new(Code::DataIntegrity, "the record of a database is damaged: its id"))?;
        databases.push((String::from_utf8_lossy(&key[2..]).into_owned(), ZoneId::from_bytes(id), record.created));
    }
    if databases.iter().any(|(name, ..)| name == DEFAULT_DATABASE) {
        return Ok(databases);
    }
    // A zone that no record names is what a crash between the two left: it is empty.
    let named = |zone: ZoneId| databases.iter().any(|(_, named, _)| *named == zone);
    let left = keyring.zones().into_iter().find(|zone| zone.purpose == Purpose::Database && !named(zone.id));
    let zone = match left {
        Some(zone) => zone.id,
        None => keyring.create_zone(Purpose::Database).await?.id(),
    };
    let created = Clock::default().next();
    let record = storage::Database { id: zone.as_bytes().to_vec().into(), name: DEFAULT_DATABASE.into(), created };
    let operation = Operation::Put(keys::named(Kind::Database, DEFAULT_DATABASE), record.encode_to_vec().into());
    system.commit(|_| Ok((vec![operation], || {}))).await?;
    databases.push((DEFAULT_DATABASE.into(), zone, created));
    Ok(databases)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;
    use crate::dev;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// The configuration of a development engine that asks for its key every half second.
    fn config(folder: &Path, outage_grace_seconds: u64) -> Config {
        let mut config = dev::prepare(folder, "127.0.0.1:19530".parse().unwrap(), 512).unwrap();
        let kms = format!(
            "check_interval_seconds = 1\noutage_grace_seconds = {outage_grace_seconds}\nlocal.key_file = {:?}",
            folder.join("dev/key")
        );
        config.kms = toml::from_str(&kms).unwrap();
        config
    }

    /// An engine that stands still while it loads, until a password comes through the pipe.
    fn waiting_for_its_password(folder: &Path, outage_grace_seconds: u64) -> (Arc<Engine>, File) {
        let mut config = config(folder, outage_grace_seconds);
        config.auth.root_password_file = folder.join("pipe");
        mkfifoat(CWD, &config.auth.root_password_file, Mode::RUSR | Mode::WUSR).unwrap();
        // For both, so that neither end waits until the other is opened.
        let pipe = File::options().read(true).write(true).open(&config.auth.root_password_file).unwrap();
        (Engine::new(config, "9.8.7"), pipe)
    }

    async fn until(engine: &Engine, state: State) {
        let reached = async {
            while engine.state() != state {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    }

    /// Runs `engine` until `work` is done, and closes it. Why it gave up, if it did so before.
    async fn running(engine: &Arc<Engine>, work: impl Future<Output = ()>) -> Option<Replace> {
        let gave_up = tokio::select! {
            replace = engine.run() => Some(replace),
            () = work => None,
        };
        engine.close().await;
        gave_up
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_that_is_refused_while_the_store_is_loaded_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, _pipe) = waiting_for_its_password(folder.path(), 600);
        let refused = async {
            until(&engine, State::Unlocking).await;
            std::fs::remove_file(folder.path().join("dev/key")).unwrap();
            tokio::time::sleep(PATIENCE).await;
        };
        let gave_up = running(&engine, refused).await;
        assert!(matches!(gave_up, Some(Replace::Locked(LockReason::Refused(_)))), "{gave_up:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn to_load_may_take_longer_than_the_kms_may_be_silent() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, mut pipe) = waiting_for_its_password(folder.path(), 3);
        let loaded = async {
            until(&engine, State::Unlocking).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            pipe.write_all(b"password\n").unwrap();
            drop(pipe);
            until(&engine, State::Serving).await;
        };
        let gave_up = running(&engine, loaded).await;
        assert!(gave_up.is_none(), "{gave_up:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_root_password_file_is_needed_only_until_there_is_a_root() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), 600);
        for start in ["first", "second"] {
            if start == "second" {
                std::fs::remove_file(&config.auth.root_password_file).unwrap();
            }
            let engine = Engine::new(config.clone(), "9.8.7");
            let gave_up = running(&engine, until(&engine, State::Serving)).await;
            assert!(gave_up.is_none(), "{start} start: {gave_up:?}");
        }
    }

    #[tokio::test]
    async fn an_empty_file_is_no_root_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "\n").unwrap();
        assert!(root_password(&file).await.is_err_and(|error| error.message.contains("is empty")));
        std::fs::write(&file, "secret\r\n").unwrap();
        assert_eq!(root_password(&file).await.unwrap().as_str(), "secret");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_engine_that_is_closed_has_closed_all_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(config(folder.path(), 600), "9.8.7");
        let mut shards = Vec::new();
        let served = async {
            until(&engine, State::Serving).await;
            shards.extend(engine.gate.unlocked().unwrap().shards().cloned());
        };
        assert!(running(&engine, served).await.is_none());
        assert_eq!(shards.len(), 2, "the system's and the default database's");
        for shard in shards {
            assert!(shard.record(b"any").await.is_err());
        }
    }
}
