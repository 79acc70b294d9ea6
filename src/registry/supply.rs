//! Where the parts of an image come from that is pushed: the store, or another repository.

use super::blob::Download;
use super::manifest::MANIFEST_LIMIT;
use super::session::Session;
use super::sources::{self, digest_of};
use super::{RegistryClient, RegistryError};
use crate::oci::{Descriptor, Digest, Reference};
use crate::progress::Progress;
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

/// Gives the parts of an image.
pub(super) trait Supply: Sync {
    /// The bytes of a manifest or index; `None` where it is not at hand.
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, RegistryError>;

    /// Repositories that have the blob.
    fn origins(&self, digest: &Digest) -> Result<Vec<Reference>, RegistryError>;

    /// Whether this manifest was read, a moment ago, from where [`Supply::origins`] says that it is.
    fn was_just_read(&self, digest: &Digest) -> bool;

    /// Sees to it that the blob can be opened.
    fn prepare(&self, digest: &Digest) -> Result<(), RegistryError>;

    /// Opens the blob, `size` bytes of it, from the beginning. Without `verified` the reader may leave it to the registry
    /// whether they have the digest.
    fn open<'s>(&'s self, digest: &'s Digest, size: u64, verified: bool) -> io::Result<Box<dyn Read + 's>>;

    /// `there` now has these blobs.
    fn pushed(&self, there: &Reference, blobs: &[&Descriptor]) -> Result<(), RegistryError>;
}

/// Images in the store, and layers that are still where they were found.
pub(super) struct FromStore<'a> {
    client: &'a RegistryClient,
    store: &'a Store,
    progress: &'a dyn Progress,
    /// Registry to which all goes.
    registry: &'a str,
    /// Manifests that were read elsewhere.
    read: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl<'a> FromStore<'a> {
    pub(super) fn new(
        client: &'a RegistryClient,
        store: &'a Store,
        progress: &'a dyn Progress,
        registry: &'a str,
    ) -> Self {
        FromStore { client, store, progress, registry, read: Mutex::default() }
    }
}

impl Supply for FromStore<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, RegistryError> {
        let digest = crate::oci::manifest::digest_of(descriptor)
            .map_err(|cause| RegistryError::Descriptor { origin: "the store".into(), cause })?;
        if self.store.has_blob(&digest)?.is_some() {
            return Ok(Some(self.store.read_blob(&digest, MANIFEST_LIMIT)?));
        }
        // A platform that was not pulled. Inside its own registry its blobs need not travel, so the manifest is enough.
        if let Some(bytes) = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Some(bytes.clone()));
        }
        let origins = self.origins(&digest)?;
        let Some(near) = origins.iter().find(|origin| origin.registry() == self.registry) else { return Ok(None) };
        let document = self.client.session(near, false)?.manifest(near)?;
        let image: Result<crate::oci::Manifest, _> = serde_json::from_slice(&document.bytes);
        if let Ok(image) = image {
            sources::remember(self.store, near, image.layers().iter().chain([image.config()]))?;
        }
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, document.bytes.clone());
        Ok(Some(document.bytes))
    }

    fn origins(&self, digest: &Digest) -> Result<Vec<Reference>, RegistryError> {
        Ok(sources::recall(self.store, digest)?.map(|(_, origins)| origins).unwrap_or_default())
    }

    fn was_just_read(&self, _: &Digest) -> bool {
        false
    }

    fn prepare(&self, digest: &Digest) -> Result<(), RegistryError> {
        self.client.ensure_known(self.store, digest, self.progress)
    }

    fn open<'s>(&'s self, digest: &'s Digest, size: u64, verified: bool) -> io::Result<Box<dyn Read + 's>> {
        let blob = self.store.open_blob(digest).map_err(io::Error::other)?;
        let blob = if verified { blob } else { blob.unverified() };
        if blob.size() != size {
            let (digest, expected, found) = (digest.clone(), size, blob.size());
            return Err(io::Error::other(StoreError::Size { digest, expected, found }));
        }
        Ok(Box::new(blob))
    }

    fn pushed(&self, there: &Reference, blobs: &[&Descriptor]) -> Result<(), RegistryError> {
        sources::remember(self.store, there, blobs.iter().copied())
    }
}

/// An image in another repository. Its blobs are handed on as they come, and touch no disk.
pub(super) struct FromRegistry<'a> {
    pub(super) session: Session<'a>,
    pub(super) origin: &'a Reference,
    /// Manifests that were read, what the name stands for among them.
    pub(super) read: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl Supply for FromRegistry<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, RegistryError> {
        let digest = digest_of(descriptor, self.origin)?;
        if let Some(bytes) = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Some(bytes.clone()));
        }
        let bytes = self.session.manifest(&self.origin.at_digest(digest.clone()))?.bytes;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, bytes.clone());
        Ok(Some(bytes))
    }

    fn origins(&self, _: &Digest) -> Result<Vec<Reference>, RegistryError> {
        Ok(vec![self.origin.clone()])
    }

    fn was_just_read(&self, digest: &Digest) -> bool {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).contains_key(digest)
    }

    fn prepare(&self, _: &Digest) -> Result<(), RegistryError> {
        Ok(())
    }

    fn open<'s>(&'s self, digest: &'s Digest, size: u64, _: bool) -> io::Result<Box<dyn Read + 's>> {
        Ok(Box::new(Download::new(&self.session, digest, size)))
    }

    fn pushed(&self, _: &Reference, _: &[&Descriptor]) -> Result<(), RegistryError> {
        Ok(())
    }
}
