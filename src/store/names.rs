//! Names: `index.json` of the OCI image layout.
//!
//! A name is a descriptor's annotation `org.opencontainers.image.ref.name` and holds the reference in full, so that other
//! tools see the same names. Descriptors without a name, or with one that is no reference, are kept as they are.

use super::{Store, StoreError};
use crate::oci::{Descriptor, Index, Reference};
use fs_err as fs;
use std::io;
use std::sync::atomic::Ordering;

const NAME: &str = "org.opencontainers.image.ref.name";

impl Store {
    /// Makes `reference` a name of `target`, whatever it named before. On disk when this returns.
    pub fn tag(&self, reference: &Reference, target: &Descriptor) -> Result<(), StoreError> {
        // Nothing new, and all of it on disk already: syncs are most of what an unchanged build costs.
        if !self.inner.wrote.load(Ordering::SeqCst) && self.resolve(reference)?.as_ref() == Some(target) {
            return Ok(());
        }
        // A name must not survive a loss of power that its blobs' directory entries did not.
        for algorithm in ["sha256", "sha512"] {
            fs::File::open(self.inner.root.join("blobs").join(algorithm))?.sync_all()?;
        }
        let mut named = target.clone();
        let mut annotations = named.annotations().clone().unwrap_or_default();
        annotations.insert(NAME.to_string(), reference.to_string());
        named.set_annotations(Some(annotations));
        self.change(|manifests| {
            manifests.retain(|m| name_of(m).as_ref() != Some(reference));
            manifests.push(named);
            true
        })
    }

    /// Takes the name away; whether it was there. The blobs stay.
    pub fn untag(&self, reference: &Reference) -> Result<bool, StoreError> {
        let mut found = false;
        self.change(|manifests| {
            let before = manifests.len();
            manifests.retain(|m| name_of(m).as_ref() != Some(reference));
            found = manifests.len() != before;
            found
        })?;
        Ok(found)
    }

    /// What `reference` names, without the annotation that holds the name.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.names()?.into_iter().find(|(name, _)| name == reference).map(|(_, target)| target))
    }

    /// All names with what they name, sorted by name.
    pub fn names(&self) -> Result<Vec<(Reference, Descriptor)>, StoreError> {
        let index = self.read_index()?;
        let mut names: Vec<_> =
            index.manifests().iter().filter_map(|m| Some((name_of(m)?, without_name(m.clone())))).collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }

    /// Everything that `index.json` lists, with a name or without.
    pub(super) fn targets(&self) -> Result<Vec<Descriptor>, StoreError> {
        Ok(self.read_index()?.manifests().clone())
    }

    /// Applies `edit` to the descriptors in `index.json`; writes it where `edit` says that it changed something.
    fn change(&self, edit: impl FnOnce(&mut Vec<Descriptor>) -> bool) -> Result<(), StoreError> {
        let _lock = self.inner.commit_lock()?;
        let mut index = self.read_index()?;
        let mut manifests = index.manifests().clone();
        let changed = edit(&mut manifests);
        index.set_manifests(manifests);
        if !changed {
            return Ok(());
        }
        let path = self.inner.root.join("index.json");
        let damaged = |e: serde_json::Error| StoreError::Damaged { path: path.clone(), why: e.to_string() };
        let bytes = crate::oci::json::to_canonical(&index).map_err(damaged)?;
        self.inner.write_synced(&path, &bytes)
    }

    fn read_index(&self) -> Result<Index, StoreError> {
        let path = self.inner.root.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| StoreError::Damaged { path, why: e.to_string() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut index = Index::default();
                index.set_media_type(Some(crate::oci::manifest::OCI_INDEX.into()));
                Ok(index)
            }
            Err(e) => Err(e.into()),
        }
    }
}

fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    descriptor.annotations().as_ref()?.get(NAME)?.parse().ok()
}

fn without_name(mut descriptor: Descriptor) -> Descriptor {
    let mut annotations = descriptor.annotations().clone().unwrap_or_default();
    annotations.remove(NAME);
    descriptor.set_annotations(Some(annotations).filter(|a| !a.is_empty()));
    descriptor
}
