//! Unpacked layers, by ChainID.

use super::{Inner, Store, StoreError, TempDir, temp};
use crate::oci::ChainId;
use fs_err as fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Spare trees that are kept of one stack.
const SPARES: usize = 2;

/// In `boot`, of a layer that was synced before it was put in place.
const SYNCED: &str = "synced";

impl Store {
    /// The unpacked layer that ends this stack: a directory in overlayfs's format, never to be written to. `None` where
    /// it is not there or was written in another boot.
    pub fn layer_dir(&self, chain: &ChainId) -> Option<PathBuf> {
        let dir = self.inner.layer_path(chain);
        let boot = dir.join("boot");
        self.inner.used(&boot).ok()??;
        let boot = fs::read_to_string(boot).ok()?;
        let holds = boot == SYNCED || Some(&boot) == self.inner.boot.as_ref();
        holds.then(|| dir.join("tree"))
    }

    /// Moves a spare tree of the stack `chain`, see [`Store::put_spare`], to the empty directory `to`; whether there was one.
    pub fn take_spare(&self, chain: &ChainId, to: &Path) -> Result<bool, StoreError> {
        let layer = self.inner.layer_path(chain);
        for number in 0..SPARES {
            match fs::rename(layer.join("spare").join(number.to_string()), to) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
                Ok(()) => {
                    count_anew(&layer);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Keeps the directory `from`, which holds a whole tree of the stack `chain` that nobody has changed, for whoever wants
    /// one; whether there was room. It goes with the layer.
    pub fn put_spare(&self, chain: &ChainId, from: &Path) -> Result<bool, StoreError> {
        if self.layer_dir(chain).is_none() {
            return Ok(false);
        }
        let _together = self.inner.stay()?;
        let layer = self.inner.layer_path(chain);
        match fs::create_dir(layer.join("spare")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
        for number in 0..SPARES {
            match fs::rename(from, layer.join("spare").join(number.to_string())) {
                // One is there.
                Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
                Err(e) => return Err(e.into()),
                Ok(()) => {
                    count_anew(&layer);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// An empty directory to unpack a layer into.
    pub fn stage_layer(&self) -> Result<StagedLayer, StoreError> {
        let temp = self.temp_dir()?;
        let tree = temp.path().join("tree");
        fs::create_dir(&tree)?;
        fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o755))?;
        Ok(StagedLayer { inner: Arc::clone(&self.inner), temp, tree })
    }
}

/// A layer has another size now: what it was is forgotten.
fn count_anew(layer: &Path) {
    if let Err(error) = fs::remove_file(layer.join(super::cleaning::SIZE)) {
        tracing::debug!(%error, "its size was not counted yet");
    }
}

impl Inner {
    fn layer_path(&self, chain: &ChainId) -> PathBuf {
        let digest = chain.digest();
        self.root.join("layers").join(digest.hex())
    }
}

/// Where a layer is.
#[derive(Debug)]
pub struct Committed {
    /// Its directory.
    pub path: PathBuf,
    /// It was there before.
    pub was_there: bool,
}

/// A layer being unpacked. Dropping it discards it; only committing puts it in the store.
#[derive(Debug)]
pub struct StagedLayer {
    inner: Arc<Inner>,
    temp: TempDir,
    tree: PathBuf,
}

impl StagedLayer {
    /// The directory to fill.
    pub fn path(&self) -> &Path {
        &self.tree
    }

    /// Puts the layer in place as the last of the stack `chain`, and gives its directory. Where another build was first,
    /// that one's is given and this one discarded: the same ChainID means the same files, but for the times that a layer
    /// does not tell.
    pub fn commit(self, chain: &ChainId) -> Result<Committed, StoreError> {
        let target = self.inner.layer_path(chain);
        let boot = match &self.inner.boot {
            Some(boot) => boot,
            None => {
                temp::sync_file_system(&self.tree)?;
                SYNCED
            }
        };
        fs::write(self.temp.path().join("boot"), boot)?;
        let store = Store { inner: Arc::clone(&self.inner) };
        let _lock = self.inner.commit_lock()?;
        if let Some(first) = store.layer_dir(chain) {
            return Ok(Committed { path: first, was_there: true });
        }
        let _together = self.inner.stay()?;
        // What is there still is of another boot, and nobody uses it: everybody's `layer_dir` says so.
        match fs::rename(&target, self.inner.temp_path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        fs::rename(self.temp.path(), &target)?;
        Ok(Committed { path: target.join("tree"), was_there: false })
    }
}
