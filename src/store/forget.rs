//! Dropping an image that has no name any more, at once: its blobs, its unpacked layers, and what was remembered of them.
//!
//! What another image is made of stays, and so does what a build's records speak of: layers of steps, and the bases that
//! steps stand on. That is the cache, which is cleaned by its own rules. So does what was used since the oldest other
//! process that has the store open began to, see `store/cleaning.rs`: it may be about to read it.

use super::cleaning::{entries, there};
use super::{Store, StoreError, lock_file};
use crate::oci::manifest::{OCI_INDEX, OCI_MANIFEST, descriptor, digest_of};
use crate::oci::{ChainId, Descriptor, DiffId, Digest, ImageConfig, Index, Manifest};
use fs_err as fs;
use rustix::fs::FlockOperation;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A document that a record speaks of is no longer than this.
const DOCUMENT: u64 = 1 << 20;

/// Digits of a SHA-256.
const DIGITS: usize = 64;

/// What an image is made of.
#[derive(Debug, Default)]
struct Parts {
    /// Documents and layers.
    blobs: HashSet<Digest>,
    /// Its layers, each with the stack up to it.
    layers: Vec<(ChainId, DiffId, Digest)>,
}

impl Store {
    /// Drops what nobody needs of the image, or of the images of the index, at `target`. Gives the stacks of layers that are
    /// gone, the highest first.
    pub fn forget(&self, target: &Descriptor) -> Result<Vec<ChainId>, StoreError> {
        let bin = self.temp_dir()?;
        let alone = lock_file(&self.inner.root.join("lock"), FlockOperation::LockExclusive)?;
        let oldest = self.inner.oldest_other()?;
        let mut moved = 0;
        let mut discard = |path: &Path, marked: &Path| -> Result<bool, StoreError> {
            let Some(meta) = there(fs::symlink_metadata(marked))? else { return Ok(false) };
            if oldest.is_some_and(|oldest| meta.modified().is_ok_and(|used| used >= oldest)) {
                return Ok(false);
            }
            moved += 1;
            Ok(there(fs::rename(path, bin.path().join(moved.to_string())))?.is_some())
        };
        let own = self.parts(vec![target.clone()])?;
        let (spoken, mut needed) = (self.spoken_of(&own)?, self.needed_images()?);
        needed.extend(self.documents_among(&spoken)?);
        let needed = self.parts(needed)?;
        let is_needed = |digest: &Digest| needed.blobs.contains(digest) || spoken.contains(digest.hex());
        let mut gone = Vec::new();
        for (chain, diff_id, blob) in own.layers.iter().rev() {
            let kept = spoken.contains(diff_id.digest().hex()) || spoken.contains(blob.hex());
            if kept || needed.layers.iter().any(|(other, ..)| other == chain) {
                continue;
            }
            let dir = self.inner.root.join("layers").join(chain.digest().hex());
            let unpacked = discard(&dir, &dir.join("boot"))?;
            let path = self.inner.blob_path(blob);
            if (!is_needed(blob) && discard(&path, &path)?) || unpacked {
                gone.push(chain.clone());
            }
            self.discard_records(diff_id.digest(), &mut discard)?;
        }
        for digest in own.blobs.iter().filter(|digest| !is_needed(digest)) {
            let path = self.inner.blob_path(digest);
            discard(&path, &path)?;
            self.discard_records(digest, &mut discard)?;
        }
        drop(alone);
        Ok(gone)
    }

    /// Drops what was remembered of a blob or layer, in whatever bucket.
    fn discard_records(
        &self,
        key: &Digest,
        discard: &mut dyn FnMut(&Path, &Path) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for (bucket, _) in entries(&self.inner.root.join("records"))? {
            let path = bucket.join(key.hex());
            discard(&path, &path)?;
        }
        Ok(())
    }

    fn parts(&self, targets: Vec<Descriptor>) -> Result<Parts, StoreError> {
        let mut parts = Parts { blobs: self.reachable(targets)?, layers: Vec::new() };
        for digest in &parts.blobs {
            // Of all documents only a manifest has layers; of the rest only documents are so short.
            if !self.looks_like_a_document(digest)? {
                continue;
            }
            let Some(manifest) = self.document::<Manifest>(digest)? else { continue };
            let Ok(config) = digest_of(manifest.config()) else { continue };
            let Some(config) = self.document::<ImageConfig>(&config)? else { continue };
            let mut chain: Option<ChainId> = None;
            for (layer, diff_id) in manifest.layers().iter().zip(config.rootfs.diff_ids) {
                let next = chain.map_or_else(|| ChainId::bottom(&diff_id), |below| below.push(&diff_id));
                if let Ok(blob) = digest_of(layer) {
                    parts.layers.push((next.clone(), diff_id, blob));
                }
                chain = Some(next);
            }
        }
        Ok(parts)
    }

    /// Digests, in hexadecimal, that are spoken of in records, but for the records of the image itself.
    fn spoken_of(&self, own: &Parts) -> Result<HashSet<String>, StoreError> {
        let own: HashSet<&str> = own.blobs.iter().map(Digest::hex).collect();
        let mut found = HashSet::new();
        for (bucket, _) in entries(&self.inner.root.join("records"))? {
            let records: Vec<(PathBuf, String)> = entries(&bucket)?;
            for (path, _) in records.iter().filter(|(_, key)| !own.contains(key.as_str())) {
                let Some(bytes) = there(fs::read(path))? else { continue };
                let words = bytes.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| word.len() == DIGITS);
                found.extend(words.map(|word| String::from_utf8_lossy(word).into_owned()));
            }
        }
        Ok(found)
    }

    /// The images and indexes among these digests that are here: bases that steps stand on, images without a name.
    fn documents_among(&self, digests: &HashSet<String>) -> Result<Vec<Descriptor>, StoreError> {
        let mut found = Vec::new();
        for hex in digests {
            let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else { continue };
            if !self.looks_like_a_document(&digest)? {
                continue;
            }
            if self.document::<Manifest>(&digest)?.is_some() {
                found.push(descriptor(OCI_MANIFEST, &digest, 0));
            } else if self.document::<Index>(&digest)?.is_some() {
                found.push(descriptor(OCI_INDEX, &digest, 0));
            }
        }
        Ok(found)
    }

    /// Whether a blob is here and begins as JSON does.
    fn looks_like_a_document(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.inner.blob_path(digest);
        let Some(meta) = there(fs::symlink_metadata(&path))? else { return Ok(false) };
        if meta.len() > DOCUMENT {
            return Ok(false);
        }
        Ok(there(fs::read(path))?.is_some_and(|bytes| bytes.first() == Some(&b'{')))
    }
}
