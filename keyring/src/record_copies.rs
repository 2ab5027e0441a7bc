//! The two stored copies of every keyring record: reading, writing, repairing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::ids::ZoneId;
use crate::keyring::KeyringError;
use crate::record::{KEYRING_PREFIX, KeyringRecord, RecordCopy, RecordFault, RecordPlace};

/// One copy as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyFound {
    Missing,
    Damaged(RecordFault),
    Whole(KeyringRecord),
}

/// Both copies of the record of one key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    pub(crate) zone: ZoneId,
    pub(crate) ezk_version: u32,
    copies: [CopyFound; 2],
}

impl StoredRecord {
    /// The different whole records among the copies, in order.
    pub(crate) fn candidates(&self) -> Vec<&KeyringRecord> {
        let mut found: Vec<&KeyringRecord> = Vec::new();
        for copy in &self.copies {
            if let CopyFound::Whole(record) = copy
                && !found.contains(&record)
            {
                found.push(record);
            }
        }
        found
    }

    pub(crate) fn path(&self, copy: RecordCopy) -> Path {
        RecordPlace { zone: self.zone, ezk_version: self.ezk_version, copy }.path()
    }

    /// The error that names a record of which no copy is whole.
    pub(crate) fn corrupt(&self) -> KeyringError {
        let reason = |copy: &CopyFound| match copy {
            CopyFound::Missing => "it is missing".to_owned(),
            CopyFound::Damaged(fault) => fault.to_string(),
            CopyFound::Whole(_) => "it is whole".to_owned(),
        };
        KeyringError::Corrupt {
            object: self.path(RecordCopy::A).to_string(),
            reason: format!(
                "{}; its second copy {}: {}",
                reason(&self.copies[0]),
                self.path(RecordCopy::B),
                reason(&self.copies[1]),
            ),
        }
    }

    /// Rewrites every copy that is not `proven`. Called only after `proven` was authenticated by its own key. A failed
    /// repair leaves one good copy, which is what there was before; so it is only logged.
    pub(crate) async fn repair(&self, raw: &Arc<dyn ObjectStore>, proven: &KeyringRecord) {
        for (copy, found) in RecordCopy::BOTH.into_iter().zip(&self.copies) {
            if matches!(found, CopyFound::Whole(record) if record == proven) {
                continue;
            }
            let path = self.path(copy);
            match raw.put(&path, proven.encode().into()).await {
                Ok(_) => tracing::warn!(%path, "repaired a damaged copy of a keyring record"),
                Err(error) => {
                    tracing::error!(%path, %error, "a damaged copy of a keyring record can't be repaired");
                }
            }
        }
    }
}

/// Reads every record below `keyring/`. An object there whose name is no record's is an error: nobody else may write
/// to that folder.
pub(crate) async fn load_records(raw: &Arc<dyn ObjectStore>) -> Result<Vec<StoredRecord>, KeyringError> {
    let folder = Path::from(KEYRING_PREFIX);
    let listed: Vec<_> =
        raw.list(Some(&folder)).try_collect().await.map_err(|source| KeyringError::io(&folder, source))?;

    let mut records = BTreeMap::new();
    for meta in listed {
        let place = RecordPlace::of(&meta.location).ok_or_else(|| KeyringError::Corrupt {
            object: meta.location.to_string(),
            reason: "it is not the name of a keyring record; move the object away".to_owned(),
        })?;
        let copies = records.entry((place.zone, place.ezk_version)).or_insert([CopyFound::Missing, CopyFound::Missing]);
        copies[place.copy as usize] = load_copy(raw, place).await?;
    }
    Ok(records.into_iter().map(|((zone, ezk_version), copies)| StoredRecord { zone, ezk_version, copies }).collect())
}

async fn load_copy(raw: &Arc<dyn ObjectStore>, place: RecordPlace) -> Result<CopyFound, KeyringError> {
    let path = place.path();
    let read = async { raw.get(&path).await?.bytes().await };
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => return Ok(CopyFound::Missing),
        Err(source) => return Err(KeyringError::io(&path, source)),
    };
    Ok(match KeyringRecord::parse(&bytes) {
        Ok(record) if record.zone == place.zone && record.ezk_version == place.ezk_version => CopyFound::Whole(record),
        Ok(_) => CopyFound::Damaged(RecordFault::Place),
        Err(fault) => CopyFound::Damaged(fault),
    })
}

/// Writes both copies of a new record; never over an existing one.
pub(crate) async fn store_record(raw: &Arc<dyn ObjectStore>, record: &KeyringRecord) -> Result<(), KeyringError> {
    for copy in RecordCopy::BOTH {
        let path = RecordPlace { zone: record.zone, ezk_version: record.ezk_version, copy }.path();
        raw.put_opts(&path, record.encode().into(), PutMode::Create.into())
            .await
            .map_err(|source| KeyringError::io(&path, source))?;
    }
    Ok(())
}
