//! Layers that need not be compressed again.
//!
//! A COPY whose parent changed misses the cache, but often writes the very layer that it wrote before. Compressing costs ten
//! times what hashing does, so a layer of a shape that is known (everything but the bytes and times of its files) is first
//! only hashed: if its DiffId is the known one's, that layer is the result, and a push finds its blob there already. A
//! layer of any other shape is written in one pass, as ever.

use super::copy::{Change, Changes};
use crate::oci::digest::{Algorithm, Hasher};
use crate::oci::layer::Metadata;
use crate::oci::{Digest, Layer};
use crate::rootfs::LayerOptions;
use crate::store::{Store, StoreError};

/// Bucket of the store: the last layer of each shape.
const BUCKET: &str = "layer-shapes";

/// Layers with fewer bytes in files are compressed sooner than looked up.
const LEAST: u64 = 1 << 20;

/// The shape of the layer that `changes` make, written so; `None` for a small one.
pub fn shape(changes: &Changes, options: LayerOptions) -> Option<Digest> {
    let size = |change: &Change| match change {
        Change::Entry { meta, .. } => meta.size(),
        _ => 0,
    };
    if changes.iter().map(|(_, change)| size(change)).sum::<u64>() < LEAST {
        return None;
    }
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    put(format!("dockless layer shape 1 {:?}", options.compression).as_bytes());
    for (path, change) in changes.iter() {
        put(path);
        match change {
            Change::Entry { meta, .. } => put(outline(meta).as_bytes()),
            Change::Hardlink { to } => put(to),
            Change::Whiteout => put(b"whiteout"),
            Change::Opaque => put(b"opaque"),
        }
    }
    Some(hasher.finish())
}

/// Metadata without times.
fn outline(meta: &Metadata) -> String {
    let (kind, size) = (std::mem::discriminant(&meta.kind), meta.size());
    format!("{kind:?} {size} {:o} {} {}", meta.mode, meta.uid, meta.gid)
}

/// The layer of this shape, if one is known whose blob is in the store.
pub fn find(store: &Store, shape: &Digest) -> Result<Option<Layer>, StoreError> {
    let layer: Option<Layer> = store.record(BUCKET, shape)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match layer {
        Some(layer) if store.has_blob(&layer.digest)? == Some(layer.size) => Ok(Some(layer)),
        _ => Ok(None),
    }
}

/// Remembers `layer` as the last one of its shape.
pub fn remember(store: &Store, shape: &Digest, layer: &Layer) -> Result<(), StoreError> {
    // Digests and a number: always JSON.
    store.put_record(BUCKET, shape, &serde_json::to_vec(layer).unwrap_or_default())
}
