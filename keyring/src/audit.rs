//! The allow-list scan: every stored byte must belong to a keyring record or to a sealed object that opens.

use std::io;
use std::path::{Path as FilePath, PathBuf};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::ids::ZoneId;
use crate::keyring::Keyring;
use crate::record::{KeyringRecord, RecordPlace};
use crate::sealed::{ChunkSize, open_prefix, open_whole};
use crate::zone::ZONES_PREFIX;

/// What one stored object turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFinding {
    /// Its path in the outer store, or its file name below the scanned folder.
    pub object: String,
    /// Its length in bytes.
    pub size: u64,
    /// The verdict.
    pub verdict: AuditVerdict,
}

/// The verdict on one stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditVerdict {
    /// A keyring record, authenticated by the key that it wraps.
    KeyringRecord,
    /// A sealed object, all of whose chunks open under its name.
    SealedObject,
    /// What a crash left of an upload: as far as it got, the sealed form of one object. The last `unchecked` bytes are
    /// too few for a chunk.
    Unfinished {
        /// Bytes at the end that can't be checked.
        unchecked: u64,
    },
    /// None of these.
    Foreign {
        /// What it lacks.
        reason: String,
    },
}

impl AuditFinding {
    /// Whether the object may be there.
    pub fn is_allowed(&self) -> bool {
        !matches!(self.verdict, AuditVerdict::Foreign { .. })
    }
}

impl Keyring {
    /// Reads all of `raw` and says of every object what it is. Needs the unlocked keyring of the same store.
    pub async fn audit(&self, raw: &dyn ObjectStore) -> Result<Vec<AuditFinding>, object_store::Error> {
        let mut findings = Vec::new();
        let mut listed = raw.list(None);
        while let Some(meta) = listed.try_next().await? {
            let bytes = raw.get(&meta.location).await?.bytes().await?;
            findings.push(AuditFinding {
                object: meta.location.to_string(),
                size: bytes.len() as u64,
                verdict: self.judge(&meta.location, &bytes),
            });
        }
        Ok(findings)
    }

    /// As [`audit`](Self::audit), over the store that this keyring was opened from.
    pub async fn audit_own_store(&self) -> Result<Vec<AuditFinding>, object_store::Error> {
        self.audit(self.raw().as_ref()).await
    }

    /// Reads every file below `root`, the folder of a local store: also what the store's own listing hides, such as
    /// the remains of unfinished uploads (`name#number`). Anything but files and folders is foreign. Blocks.
    pub fn audit_directory(&self, root: &FilePath) -> io::Result<Vec<AuditFinding>> {
        let mut findings = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(root.join(&folder))? {
                let entry = entry?;
                let name = folder.join(entry.file_name());
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(name);
                    continue;
                }
                let (size, verdict) = if kind.is_file() {
                    let bytes = std::fs::read(root.join(&name))?;
                    (bytes.len() as u64, self.judge_file(&name, &bytes))
                } else {
                    (0, foreign("it is neither a file nor a folder"))
                };
                findings.push(AuditFinding { object: name.to_string_lossy().into_owned(), size, verdict });
            }
        }
        findings.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(findings)
    }

    fn judge_file(&self, name: &FilePath, bytes: &[u8]) -> AuditVerdict {
        let Some(name) = name.to_str() else {
            return foreign("its name is not UTF-8");
        };
        match name.rsplit_once('#') {
            Some((object, suffix)) if suffix.bytes().all(|b| b.is_ascii_digit()) => {
                self.judge_unfinished(object, bytes)
            }
            _ => match Path::parse(name) {
                Ok(path) => self.judge(&path, bytes),
                Err(_) => foreign("its name is no object's name"),
            },
        }
    }

    fn judge(&self, path: &Path, bytes: &[u8]) -> AuditVerdict {
        if let Some(place) = RecordPlace::of(path) {
            return self.judge_record(place, bytes);
        }
        let Some((zone, chunk_size)) = zone_of(path.as_ref()) else {
            return foreign("it is neither below keyring/ nor below zones/<zone>/<kind>/");
        };
        let Some(keys) = self.zone_keys(zone) else {
            return foreign("the keyring does not know its zone");
        };
        match open_whole(&keys, path.as_ref(), chunk_size, bytes) {
            Ok(_) => AuditVerdict::SealedObject,
            Err(error) => foreign(error.to_string()),
        }
    }

    fn judge_record(&self, place: RecordPlace, bytes: &[u8]) -> AuditVerdict {
        let record = match KeyringRecord::parse(bytes) {
            Ok(record) => record,
            Err(fault) => return foreign(fault.to_string()),
        };
        if record.zone != place.zone || record.ezk_version != place.ezk_version {
            return foreign("it is the record of another zone or version");
        }
        let key = self.zone_keys(place.zone).and_then(|keys| keys.version(place.ezk_version).ok().flatten());
        match key.map(|key| record.prove(&key)) {
            Some(Ok(true)) => AuditVerdict::KeyringRecord,
            Some(_) => foreign("its key does not authenticate it"),
            None => foreign("the keyring does not know its key"),
        }
    }

    fn judge_unfinished(&self, object: &str, bytes: &[u8]) -> AuditVerdict {
        let Some((zone, chunk_size)) = zone_of(object) else {
            // A record is shorter than a disk block; what a crash leaves of one is a prefix without any key in clear.
            let is_record = Path::parse(object).is_ok_and(|path| RecordPlace::of(&path).is_some());
            return if is_record && bytes.len() <= MAX_RECORD_REMAINS {
                AuditVerdict::Unfinished { unchecked: bytes.len() as u64 }
            } else {
                foreign("it is the remains of an upload to a name that no object has")
            };
        };
        let Some(keys) = self.zone_keys(zone) else {
            return foreign("the keyring does not know its zone");
        };
        match open_prefix(&keys, object, chunk_size, bytes) {
            Ok(unchecked) => AuditVerdict::Unfinished { unchecked },
            Err(error) => foreign(error.to_string()),
        }
    }
}

/// The longest keyring record.
const MAX_RECORD_REMAINS: usize = 178 + 6144;

fn zone_of(path: &str) -> Option<(ZoneId, ChunkSize)> {
    let mut parts = path.split('/');
    if parts.next()? != ZONES_PREFIX {
        return None;
    }
    let zone = parts.next()?.parse().ok()?;
    let folder = parts.next()?;
    let chunk_size = ChunkSize::ALL.into_iter().find(|size| size.folder() == folder)?;
    parts.next()?;
    Some((zone, chunk_size))
}

fn foreign(reason: impl Into<String>) -> AuditVerdict {
    AuditVerdict::Foreign { reason: reason.into() }
}
