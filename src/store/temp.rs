//! Temporary files and directories of one open store, and the sweep of those that killed processes left.

use super::{Inner, StoreError, lock_file, named};
use fs_err as fs;
use rustix::fs::FlockOperation;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The directory under `tmp` that one open store writes in; removed with it.
#[derive(Debug)]
pub(super) struct ProcessTemp {
    path: PathBuf,
    next: AtomicU64,
    since: SystemTime,
    _lock: fs::File,
}

impl ProcessTemp {
    /// Sweeps `tmp`, then makes and locks a directory in it.
    pub(super) fn create(tmp: &Path) -> Result<Self, StoreError> {
        // Without this lock a sweep could see a directory between its making and its locking.
        let _all = lock_file(&tmp.join("lock"), FlockOperation::LockExclusive)?;
        sweep(tmp)?;
        let prefix = format!("{}-", std::process::id());
        let path = tempfile::Builder::new().prefix(&prefix).disable_cleanup(true).tempdir_in(tmp)?.keep();
        let lock = lock_file(&path.join("lock"), FlockOperation::NonBlockingLockExclusive)?;
        // By the clock that also gives files their times.
        let since = lock.metadata()?.modified()?;
        Ok(ProcessTemp { path, next: AtomicU64::new(0), since, _lock: lock })
    }

    /// When this process opened the store.
    pub(super) fn since(&self) -> SystemTime {
        self.since
    }

    pub(super) fn next_path(&self) -> PathBuf {
        self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for ProcessTemp {
    fn drop(&mut self) {
        discard(&self.path);
    }
}

/// Removes the directories whose process is gone.
fn sweep(tmp: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(tmp)? {
        let dir = entry?.path();
        // One that is gone was another process's, which has just ended.
        if !fs::symlink_metadata(&dir).is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let Ok(lock) = fs::OpenOptions::new().read(true).open(dir.join("lock")) else {
            discard(&dir);
            continue;
        };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            discard(&dir);
        }
    }
    Ok(())
}

/// Removes a temporary tree. What cannot be removed now (files of ids that only a user namespace of ours can touch) is
/// left for the next sweep, so this is no error.
pub(super) fn discard(path: &Path) {
    if let Err(error) = remove_tree(path) {
        tracing::debug!(%error, "left behind for the next sweep");
    }
}

/// Removes `path` and what is below, directories that forbid it included (overlayfs leaves one of mode 000).
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            unlock_directories(path)?;
            fs::remove_dir_all(path)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn unlock_directories(path: &Path) -> io::Result<()> {
    let mut pending = vec![path.to_path_buf()];
    while let Some(dir) = pending.pop() {
        fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}

/// A file that vanishes when dropped, unless it was renamed.
#[derive(Debug)]
pub(super) struct TempFile {
    file: fs::File,
    path: PathBuf,
    keep: bool,
}

impl TempFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, StoreError> {
        let file = fs::OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
        Ok(TempFile { file, path, keep: false })
    }

    pub(super) fn file(&self) -> &fs::File {
        &self.file
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        Ok((&self.file).write_all(bytes)?)
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        Ok(self.file.sync_data()?)
    }

    pub(super) fn rename_to(mut self, path: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, path)?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.keep {
            discard_file(&self.path);
        }
    }
}

fn discard_file(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "left behind for the next sweep");
    }
}

/// An empty directory on the store's file system, removed when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    _inner: Arc<Inner>,
}

impl TempDir {
    pub(super) fn create(inner: &Arc<Inner>) -> Result<Self, StoreError> {
        let path = inner.temp_path();
        fs::create_dir(&path)?;
        // The umask must not decide about it.
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(TempDir { path, _inner: Arc::clone(inner) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Gone already where a layer was made of it.
        discard(&self.path);
    }
}

/// Syncs the file system that `path` lies on.
pub(super) fn sync_file_system(path: &Path) -> Result<(), StoreError> {
    rustix::fs::syncfs(fs::File::open(path)?).map_err(|errno| named(path, "sync the file system of", errno).into())
}
