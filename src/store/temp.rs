//! Temporary files and directories of one open store, and the sweep of those that killed processes left.

use super::{Inner, StoreError, lock_file, named};
use crate::sys::{self, SignalSet};
use fs_err as fs;
use rustix::fs::{FlockOperation, IFlags};
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Threads that remove one tree.
const REMOVERS: usize = 4;

/// The directory under `tmp` that one open store writes in; removed with it.
#[derive(Debug)]
pub(super) struct ProcessTemp {
    path: PathBuf,
    next: AtomicU64,
    since: SystemTime,
    remover: Remover,
    _lock: fs::File,
}

impl ProcessTemp {
    /// Makes and locks a directory in `tmp`. What killed processes left there is removed in the background.
    pub(super) fn create(tmp: &Path) -> Result<Self, StoreError> {
        // Without this lock a sweep could see a directory between its making and its locking.
        let all = lock_file(&tmp.join("lock"), FlockOperation::LockExclusive)?;
        spread(tmp);
        let dead = abandoned(tmp)?;
        let prefix = format!("{}-", std::process::id());
        let path = tempfile::Builder::new().prefix(&prefix).disable_cleanup(true).tempdir_in(tmp)?.keep();
        let lock = lock_file(&path.join("lock"), FlockOperation::NonBlockingLockExclusive)?;
        // By the clock that also gives files their times.
        let since = lock.metadata()?.modified()?;
        drop(all);
        let temp = ProcessTemp { path, next: AtomicU64::new(0), since, remover: Remover::default(), _lock: lock };
        dead.into_iter().for_each(|doomed| temp.remover.take(doomed));
        Ok(temp)
    }

    /// When this process opened the store.
    pub(super) fn since(&self) -> SystemTime {
        self.since
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn next_path(&self) -> PathBuf {
        self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for ProcessTemp {
    fn drop(&mut self) {
        self.remover.finish();
        discard(&self.path);
    }
}

/// Tells ext4 that the directories in `tmp` have nothing to do with one another, so that each gets a block group of its own
/// (`find_group_orlov`). A tree is made fast only where no other was removed just now: ext4 passes over inodes that were
/// freed within the last minutes one by one, for each new one again (`recently_deleted`). Other file systems do not know the flag.
fn spread(tmp: &Path) {
    let flagged = fs::File::open(tmp).and_then(|dir| {
        let flags = rustix::fs::ioctl_getflags(dir.file())?;
        if flags.contains(IFlags::TOPDIR) {
            return Ok(());
        }
        Ok(rustix::fs::ioctl_setflags(dir.file(), flags | IFlags::TOPDIR)?)
    });
    if let Err(error) = flagged {
        tracing::debug!(%error, "temporary trees are not spread");
    }
}

/// The directories whose process is gone. Each is locked, so that nobody else takes it up.
fn abandoned(tmp: &Path) -> Result<Vec<Doomed>, StoreError> {
    let mut dead = Vec::new();
    for entry in fs::read_dir(tmp)? {
        let path = entry?.path();
        // One that is gone was another process's, which has just ended.
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock")).ok();
        let free = |lock: &fs::File| rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        if lock.as_ref().is_none_or(free) {
            dead.push(Doomed { path, _lock: lock });
        }
    }
    Ok(dead)
}

/// A tree that is no longer needed, with the lock that keeps others from removing it, too.
#[derive(Debug)]
struct Doomed {
    path: PathBuf,
    _lock: Option<fs::File>,
}

/// Removes trees in a thread of its own: whoever drops one need not wait for it.
#[derive(Debug, Default)]
struct Remover(Mutex<Option<(mpsc::Sender<Doomed>, JoinHandle<()>)>>);

impl Remover {
    fn take(&self, doomed: Doomed) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match &*running {
            Some((queue, _)) => queue.send(doomed).err().map(|refused| refused.0),
            None => Some(doomed),
        };
        let Some(first) = refused else { return };
        let (queue, doomed) = mpsc::channel::<Doomed>();
        let work = move || {
            // Signals are for the threads that wait for them; without this one of ours would end the process by default.
            let _ = SignalSet::block(&[Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].map(Signal::as_raw));
            doomed.iter().for_each(|doomed| discard(&doomed.path));
        };
        match std::thread::Builder::new().name("remover".into()).spawn(work) {
            Ok(thread) if queue.send(first).is_ok() => *running = Some((queue, thread)),
            // Where no thread can be had, what was dropped is left to the end of the process, or to the next sweep.
            _ => {}
        }
    }

    /// Waits until all is removed.
    fn finish(&self) {
        if let Some((queue, thread)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(queue);
            let _ = thread.join(); // a panic there left something to the next sweep
        }
    }
}

/// Removes a temporary tree. What cannot be removed now (files of ids that only a user namespace of ours can touch) is
/// left for the next sweep, so this is no error.
fn discard(path: &Path) {
    // A large tree has most of its files three levels down, as in `N/tree/usr/lib`.
    let parts = Mutex::new(below(path, 3));
    let work = || {
        while let Some(part) = parts.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            remove(&part);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(REMOVERS);
    if parts.lock().unwrap_or_else(PoisonError::into_inner).len() > 1 {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
    }
    remove(path);
}

fn remove(path: &Path) {
    if let Err(error) = sys::remove_tree(path) {
        tracing::debug!(%error, "left behind for the next sweep");
    }
}

/// The directories `depth` levels below `path`; those that cannot be read count for nothing.
fn below(path: &Path, depth: usize) -> Vec<PathBuf> {
    let mut level = vec![path.to_path_buf()];
    for _ in 0..depth {
        let entries = level.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        // Not through links: what is told here is the entry's own type.
        level = entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect();
    }
    level
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
    inner: Arc<Inner>,
}

impl TempDir {
    pub(super) fn create(inner: &Arc<Inner>) -> Result<Self, StoreError> {
        let path = inner.temp_path();
        fs::create_dir(&path)?;
        // The umask must not decide about it.
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(TempDir { path, inner: Arc::clone(inner) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Gone already where a layer was made of it.
        self.inner.temp.remover.take(Doomed { path: std::mem::take(&mut self.path), _lock: None });
    }
}

/// Syncs the file system that `path` lies on.
pub(super) fn sync_file_system(path: &Path) -> Result<(), StoreError> {
    rustix::fs::syncfs(fs::File::open(path)?).map_err(|errno| named(path, "sync the file system of", errno).into())
}
