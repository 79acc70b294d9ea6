//! Where a blob can be had: remembered in the store, so that it can be fetched when something first reads it, and mounted
//! instead of moved when it is pushed to another repository of the same registry.

use super::RegistryError;
use crate::oci::{Descriptor, Digest, Reference, manifest};
use crate::store::Store;
use serde::{Deserialize, Serialize};

const BUCKET: &str = "blob-source";
/// Repositories remembered for one blob, the last ones used.
const MOST: usize = 4;

/// What is remembered of a blob.
#[derive(Serialize, Deserialize)]
struct Record {
    descriptor: Descriptor,
    /// Last one first.
    origins: Vec<Reference>,
}

impl super::RegistryClient {
    /// Remembers that the repository of `origin` has the blob.
    pub fn remember(&self, store: &Store, origin: &Reference, descriptor: &Descriptor) -> Result<(), RegistryError> {
        remember(store, origin, [descriptor])
    }
}

/// Remembers that the blobs in `descriptors` can be had from the repository of `origin`.
pub(super) fn remember<'a>(
    store: &Store,
    origin: &Reference,
    descriptors: impl IntoIterator<Item = &'a Descriptor>,
) -> Result<(), RegistryError> {
    for descriptor in descriptors {
        let digest = digest_of(descriptor, origin)?;
        let pinned = origin.at_digest(digest.clone());
        let mut record =
            read(store, &digest)?.unwrap_or_else(|| Record { descriptor: descriptor.clone(), origins: Vec::new() });
        if record.origins.first() == Some(&pinned) {
            continue;
        }
        record.origins.retain(|known| *known != pinned);
        record.origins.insert(0, pinned);
        record.origins.truncate(MOST);
        // A record always is JSON: a descriptor and references.
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        store.put_record(BUCKET, &digest, &bytes)?;
    }
    Ok(())
}

/// The blob's descriptor and where it can be had; `None` if nothing is remembered.
pub(super) fn recall(store: &Store, digest: &Digest) -> Result<Option<(Descriptor, Vec<Reference>)>, RegistryError> {
    Ok(read(store, digest)?.map(|record| (record.descriptor, record.origins)))
}

fn read(store: &Store, digest: &Digest) -> Result<Option<Record>, RegistryError> {
    // One that cannot be read, from another version for example, is as good as none.
    Ok(store.record(BUCKET, digest)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// A descriptor's digest, as an error that names where the descriptor comes from.
pub(super) fn digest_of(descriptor: &Descriptor, origin: &Reference) -> Result<Digest, RegistryError> {
    manifest::digest_of(descriptor).map_err(|cause| RegistryError::Descriptor { origin: origin.to_string(), cause })
}
