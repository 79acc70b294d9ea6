//! What is remembered of a step: its layer and when it was made.

use super::key::{CacheKey, ParentId};
use crate::oci::{Digest, Layer};
use crate::rootfs::Glimpse;
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

/// Bucket of the store that holds step records.
const BUCKET: &str = "steps";

/// The remembered result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// RFC 3339: when the step's result was made. A cached build keeps it, and so gives the same image.
    pub created: String,
    /// The layer; `None` for instructions that make none.
    pub layer: Option<Layer>,
    /// What was seen of the tree below; `None` for a RUN step, which may read anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saw: Option<Sight>,
}

/// What a step saw of the tree that it was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// That tree.
    pub of: ParentId,
    /// What was seen.
    pub glimpse: Glimpse,
}

impl StepRecord {
    /// What [`StepRecord::encode`] made; `None` where it is something else.
    pub fn decode(bytes: &[u8]) -> Option<StepRecord> {
        serde_json::from_slice(bytes).ok()
    }

    /// As it is kept.
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers only: always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The record of `key`, if there is one whose layer is still in the store. A record that cannot be read is a miss.
pub fn find(store: &Store, key: &CacheKey) -> Result<Option<StepRecord>, StoreError> {
    find_by(store, key.digest())
}

fn find_by(store: &Store, key: &Digest) -> Result<Option<StepRecord>, StoreError> {
    let Some(bytes) = store.record(BUCKET, key)? else { return Ok(None) };
    let Some(record) = StepRecord::decode(&bytes) else { return Ok(None) };
    match &record.layer {
        // A blob of another length was cut off by a crash of the machine.
        Some(layer) if layer.content.is_none() || store.has_blob(&layer.digest)? != Some(layer.size) => Ok(None),
        _ => Ok(Some(record)),
    }
}

/// All records whose layers are still in the store, by their keys.
pub fn all(store: &Store) -> Result<Vec<(Digest, StepRecord)>, StoreError> {
    let mut out = Vec::new();
    for key in store.record_keys(BUCKET)? {
        if let Some(record) = find_by(store, &key)? {
            out.push((key, record));
        }
    }
    Ok(out)
}

/// Remembers `record` under `key`.
pub fn save(store: &Store, key: &CacheKey, record: &StepRecord) -> Result<(), StoreError> {
    save_by(store, key.digest(), record)
}

/// Remembers `record` under the key with this digest.
pub fn save_by(store: &Store, key: &Digest, record: &StepRecord) -> Result<(), StoreError> {
    store.put_record(BUCKET, key, &record.encode())
}
