//! Cache directories: files that RUN steps keep for later builds, each under a digest of what it is.
//!
//! A cache has one directory, `0`, that all share or take turns with; whoever wants one alone gets the first that nobody
//! holds, and further ones are made as needed.

use super::{Inner, Store, StoreError, named};
use crate::oci::Digest;
use fs_err as fs;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Who else may use a cache directory meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// All that share it; those that want it locked wait.
    Shared,
    /// Nobody: another one is taken if this one is in use.
    Private,
    /// Nobody: waits until it is free.
    Locked,
}

/// A cache directory in use; dropping it gives it back.
#[derive(Debug)]
pub struct CacheDir {
    tree: PathBuf,
    _lock: fs::File,
    _inner: Arc<Inner>,
}

impl CacheDir {
    pub(super) fn held(tree: PathBuf, lock: fs::File, inner: Arc<Inner>) -> Self {
        CacheDir { tree, _lock: lock, _inner: inner }
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.tree
    }
}

impl Store {
    /// The cache directory `key`. `fill` is given an empty directory where there is none yet, and makes of it what the
    /// cache begins with; `wait` is called before waiting for others that hold it.
    pub fn cache_dir<E: From<StoreError>>(
        &self,
        key: &Digest,
        usage: CacheUse,
        wait: &dyn Fn(),
        fill: &dyn Fn(&Path) -> Result<(), E>,
    ) -> Result<CacheDir, E> {
        let dir = self.inner.root.join("caches").join(key.hex());
        let mut number = 0;
        loop {
            let slot = dir.join(number.to_string());
            fs::create_dir_all(&slot).map_err(StoreError::from)?;
            let lock = match lock_slot(&slot.join("lock"), usage, wait)? {
                Locked::Held(lock) => lock,
                Locked::InUse => {
                    number += 1;
                    continue;
                }
                Locked::Gone => continue,
            };
            let tree = slot.join("tree");
            let there = || tree.try_exists().map_err(StoreError::from);
            if there()? {
                return Ok(CacheDir { tree, _lock: lock, _inner: Arc::clone(&self.inner) });
            }
            // Filling needs the directory alone; then look again, as nothing was held in between.
            drop(lock);
            let Locked::Held(alone) = lock_slot(&slot.join("lock"), CacheUse::Locked, &|| ())? else { continue };
            if !there()? {
                let temp = self.temp_dir()?;
                fill(temp.path())?;
                fs::rename(temp.path(), &tree).map_err(StoreError::from)?;
            }
            drop(alone);
        }
    }
}

/// What came of locking a slot.
enum Locked {
    Held(fs::File),
    /// It is another's, and waiting is not wanted.
    InUse,
    /// The slot was dropped meanwhile.
    Gone,
}

fn lock_slot(path: &Path, usage: CacheUse, wait: &dyn Fn()) -> Result<Locked, StoreError> {
    let (at_once, blocking) = match usage {
        CacheUse::Shared => (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared),
        CacheUse::Private | CacheUse::Locked => {
            (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive)
        }
    };
    let file = match fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locked::Gone),
        other => other?,
    };
    match rustix::fs::flock(&file, at_once) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) if usage == CacheUse::Private => return Ok(Locked::InUse),
        Err(Errno::WOULDBLOCK) => {
            wait();
            while let Err(errno) = rustix::fs::flock(&file, blocking) {
                if errno != Errno::INTR {
                    return Err(named(path, "lock", errno).into());
                }
            }
        }
        Err(errno) => return Err(named(path, "lock", errno).into()),
    }
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {
            // When the cache was last of use.
            file.file().set_modified(SystemTime::now())?;
            Ok(Locked::Held(file))
        }
        Ok(_) => Ok(Locked::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Locked::Gone),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(store: &Store, key: &str, usage: CacheUse) -> CacheDir {
        let fill = |dir: &Path| Ok::<_, StoreError>(fs::write(dir.join("seed"), "")?);
        let waits = || panic!("{key}: waits");
        store.cache_dir(&Digest::sha256(key), usage, &waits, &fill).unwrap()
    }

    #[test]
    fn what_is_written_stays() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store")).unwrap();
        let dir = take(&store, "a", CacheUse::Shared);
        assert!(dir.path().join("seed").exists());
        fs::write(dir.path().join("kept"), "").unwrap();
        fs::remove_file(dir.path().join("seed")).unwrap();
        drop((dir, store));
        let store = Store::open(&temp.path().join("store")).unwrap();
        let dir = take(&store, "a", CacheUse::Locked);
        assert!(dir.path().join("kept").exists());
        assert!(!dir.path().join("seed").exists(), "filled once");
        assert!(!take(&store, "b", CacheUse::Shared).path().join("kept").exists());
    }

    #[test]
    fn who_shares_with_whom() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store")).unwrap();
        let other = Store::open(&temp.path().join("store")).unwrap();
        let first = take(&store, "a", CacheUse::Shared);
        assert_eq!(take(&other, "a", CacheUse::Shared).path(), first.path());
        let private = take(&other, "a", CacheUse::Private);
        assert_ne!(private.path(), first.path());
        assert_ne!(take(&store, "a", CacheUse::Private).path(), private.path());
        let second = private.path().to_owned();
        drop(private);
        assert_eq!(take(&store, "a", CacheUse::Private).path(), second, "a free one is taken again");
    }

    #[test]
    fn a_locked_one_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store")).unwrap();
        let held = std::sync::Mutex::new(Some(take(&store, "a", CacheUse::Locked)));
        let path = held.lock().unwrap().as_ref().unwrap().path().to_owned();
        let free = || drop(held.lock().unwrap().take());
        let fill = |_: &Path| Ok::<_, StoreError>(());
        let dir = store.cache_dir(&Digest::sha256("a"), CacheUse::Locked, &free, &fill).unwrap();
        assert_eq!(dir.path(), path);
        assert!(held.lock().unwrap().is_none(), "it said that it waits");
    }
}
