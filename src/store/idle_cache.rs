//! Looking at cache directories between the steps that use them.

use super::caches::CacheDir;
use super::{Store, StoreError, named};
use crate::oci::Digest;
use fs_err as fs;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

impl Store {
    /// The cache directory `key` that all share or take turns with, to be read; `None` where there is none, or where a step
    /// that wants it alone has it.
    pub fn idle_cache_dir(&self, key: &Digest) -> Result<Option<CacheDir>, StoreError> {
        let slot = self.inner.root.join("caches").join(key.hex()).join("0");
        let path = slot.join("lock");
        let lock = match fs::OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(named(&path, "lock", errno).into()),
        }
        let tree = slot.join("tree");
        Ok(tree.try_exists()?.then(|| CacheDir::held(tree, lock, Arc::clone(&self.inner))))
    }
}
