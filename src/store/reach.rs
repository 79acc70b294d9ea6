//! Which blobs images are made of. Nothing here marks a blob as used.

use super::cleaning::{entries, there};
use super::image::DOCUMENT_MAX;
use super::{Store, StoreError};
use crate::oci::manifest::{digest_of, is_index};
use crate::oci::{Descriptor, Digest, Index, Manifest};
use fs_err as fs;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashSet};

impl Store {
    /// The blobs of the images and indexes `targets` that are here, with their lengths.
    pub fn blobs_of(&self, targets: Vec<Descriptor>) -> Result<BTreeMap<Digest, u64>, StoreError> {
        let mut found = BTreeMap::new();
        for digest in self.reachable(targets)? {
            if let Some(meta) = there(fs::symlink_metadata(self.inner.blob_path(&digest)))? {
                found.insert(digest, meta.len());
            }
        }
        Ok(found)
    }

    /// The blobs that names lead to, containers' images do, and those that entries without a name do.
    pub(super) fn named_blobs(&self) -> Result<HashSet<Digest>, StoreError> {
        let mut targets = self.targets()?;
        targets.extend(self.container_images()?);
        self.reachable(targets)
    }

    /// The images that containers were made from: they are needed to start one again, named or not.
    fn container_images(&self) -> Result<Vec<Descriptor>, StoreError> {
        /// What counts of `crate::run`'s document.
        #[derive(Deserialize)]
        struct Container {
            manifest: Descriptor,
        }
        let mut found = Vec::new();
        for (path, _) in entries(&self.inner.root.join("containers"))? {
            // One that cannot be read can be started by nobody.
            let Ok(bytes) = fs::read(path.join("config.json")) else { continue };
            found.extend(serde_json::from_slice(&bytes).map(|container: Container| container.manifest));
        }
        Ok(found)
    }

    /// All that `targets` lead to, here or not.
    fn reachable(&self, targets: Vec<Descriptor>) -> Result<HashSet<Digest>, StoreError> {
        let (mut found, mut pending) = (HashSet::new(), targets);
        while let Some(target) = pending.pop() {
            let Ok(digest) = digest_of(&target) else { continue };
            if !found.insert(digest.clone()) {
                continue;
            }
            if is_index(target.media_type().as_ref()) {
                let index: Option<Index> = self.document(&digest)?;
                pending.extend(index.into_iter().flat_map(|index| index.manifests().clone()));
            } else if let Some(manifest) = self.document::<Manifest>(&digest)? {
                let parts = manifest.layers().iter().chain([manifest.config()]);
                found.extend(parts.filter_map(|part: &Descriptor| digest_of(part).ok()));
            }
        }
        Ok(found)
    }

    /// A document of an image; `None` where it is not here, or none.
    fn document<T: DeserializeOwned>(&self, digest: &Digest) -> Result<Option<T>, StoreError> {
        let path = self.inner.blob_path(digest);
        match there(fs::symlink_metadata(&path))? {
            Some(meta) if meta.len() <= DOCUMENT_MAX => Ok(serde_json::from_slice(&fs::read(&path)?).ok()),
            _ => Ok(None),
        }
    }
}
