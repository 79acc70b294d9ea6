//! What the store holds, when it was last of use, and dropping what nobody needs.
//!
//! Whoever finds a blob, a record or an unpacked layer here sets its file's modification time: that is when it was last
//! of use. This and dropping exclude one another by the file `lock`, so nothing is dropped between being found and being
//! marked. What was used since the oldest process that has the store open began to is never dropped: that process may be
//! about to read it. A cache directory is dropped under its own lock alone.
//!
//! Blobs that a name or a container leads to are images, not cache, and stay. All else can be had again: by building, fetching,
//! unpacking.
//!
//! What is dropped is moved under `tmp` first, which takes no time, and removed when the lock is given back. So a process
//! that is killed meanwhile leaves a store that is whole, and the next one that opens it removes the rest.

use super::{Inner, Store, StoreError, TempDir, lock_file, named};
use crate::oci::Digest;
use fs_err as fs;
use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// In a layer's directory: how many bytes its files have, once somebody counted.
pub(super) const SIZE: &str = "size";
/// Its modification time is when the store was last cleaned by itself.
const CLEANED: &str = "cleaned";
/// What was not used for so long is dropped where nobody says otherwise.
const LATELY: Duration = Duration::from_secs(14 * 24 * 3600);
/// As much is kept where nobody says otherwise, and a quarter of the file system at most.
const BYTES: u64 = 20 << 30;
/// The store cleans itself this often at most.
const OFTEN: Duration = Duration::from_secs(3600);

/// What an item of the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// A blob that no name leads to: a layer of a step, or of a base.
    Blob,
    /// The files of an unpacked layer.
    Layer,
    /// A record.
    Record,
    /// What a cache mount keeps.
    CacheMount,
}

/// Something that can be dropped.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Of a record, what it is of.
    pub bucket: Option<String>,
    /// The digest that it is kept under, in hexadecimal.
    pub id: String,
    /// Bytes on the disk.
    pub size: u64,
    /// When it was last of use.
    pub used: SystemTime,
    path: PathBuf,
}

/// What the store holds.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// What can be dropped, the least lately used first.
    pub items: Vec<Item>,
    /// How many blobs named images have, and their bytes.
    pub named: (usize, u64),
}

impl Usage {
    /// Bytes of all that can be dropped.
    pub fn size(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }
}

/// What is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// What was used in this time; `None` for however old.
    pub lately: Option<Duration>,
    /// No more bytes than this in all, the last used; `None` for however much.
    pub bytes: Option<u64>,
}

impl Keep {
    /// Nothing.
    pub const NOTHING: Keep = Keep { lately: Some(Duration::ZERO), bytes: None };
}

/// What was dropped.
#[derive(Debug, Clone, Default)]
pub struct Dropped {
    /// The items.
    pub items: Vec<Item>,
    /// Items that would have been, but a process that has the store open may need.
    pub in_use: usize,
}

impl Dropped {
    /// Bytes that are free now.
    pub fn size(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }
}

impl Store {
    /// Everything that can be dropped.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let named = self.named_blobs()?;
        let mut usage = Usage::default();
        for algorithm in ["sha256", "sha512"] {
            for (path, name) in entries(&self.inner.root.join("blobs").join(algorithm))? {
                let Some(meta) = there(fs::symlink_metadata(&path))? else { continue };
                match format!("{algorithm}:{name}").parse::<Digest>() {
                    Ok(digest) if named.contains(&digest) => {
                        usage.named = (usage.named.0 + 1, usage.named.1 + meta.len());
                    }
                    _ => usage.items.push(item(ItemKind::Blob, None, name, path, &meta)?),
                }
            }
        }
        for (path, bucket) in entries(&self.inner.root.join("records"))? {
            for (path, name) in entries(&path)? {
                let Some(meta) = there(fs::symlink_metadata(&path))? else { continue };
                usage.items.push(item(ItemKind::Record, Some(bucket.clone()), name, path, &meta)?);
            }
        }
        for (path, name) in entries(&self.inner.root.join("layers"))? {
            // The file that is marked when the layer is used.
            let Some(meta) = there(fs::symlink_metadata(path.join("boot")))? else { continue };
            let mut layer = item(ItemKind::Layer, None, name, path.clone(), &meta)?;
            layer.size = layer_size(&path)?;
            usage.items.push(layer);
        }
        for (path, name) in entries(&self.inner.root.join("caches"))? {
            for (path, _) in entries(&path)? {
                let Some(meta) = there(fs::symlink_metadata(path.join("lock")))? else { continue };
                let mut cache = item(ItemKind::CacheMount, None, name.clone(), path.clone(), &meta)?;
                cache.size = tree_size(&path)?;
                usage.items.push(cache);
            }
        }
        usage.items.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        Ok(usage)
    }

    /// Drops what `keep` does not name, as far as nobody may be using it, and `which` says.
    pub fn clean(&self, keep: Keep, which: &dyn Fn(&Item) -> bool) -> Result<Dropped, StoreError> {
        let bin = self.temp_dir()?;
        let alone = lock_file(&self.inner.root.join("lock"), FlockOperation::LockExclusive)?;
        let Dropped { items, mut in_use } = self.would_drop(keep, which)?;
        let mut dropped = Vec::new();
        for item in items {
            match discard(&item, &bin, dropped.len())? {
                true => dropped.push(item),
                false => in_use += 1,
            }
        }
        drop(alone);
        Ok(Dropped { items: dropped, in_use })
    }

    /// What [`Store::clean`] would drop; a cache directory may be in use nevertheless.
    pub fn would_drop(&self, keep: Keep, which: &dyn Fn(&Item) -> bool) -> Result<Dropped, StoreError> {
        let (usage, oldest, now) = (self.usage()?, self.inner.oldest_user()?, SystemTime::now());
        let mut too_many = keep.bytes.map_or(0, |bytes| usage.size().saturating_sub(bytes));
        let mut dropped = Dropped::default();
        for item in usage.items {
            let old = keep.lately.is_some_and(|lately| now.duration_since(item.used).is_ok_and(|ago| ago >= lately));
            if !(old || too_many > 0) || !which(&item) {
                continue;
            }
            if item.kind != ItemKind::CacheMount && item.used >= oldest {
                dropped.in_use += 1;
                continue;
            }
            too_many = too_many.saturating_sub(item.size);
            dropped.items.push(item);
        }
        Ok(dropped)
    }

    /// Cleans as [`Store::clean`], if that was not done lately; `None` where it was.
    pub fn clean_at_times(&self, keep: Keep) -> Result<Option<Dropped>, StoreError> {
        let marker = self.inner.root.join(CLEANED);
        let often = keep.lately.map_or(OFTEN, |lately| OFTEN.min(lately / 10));
        let last = there(fs::symlink_metadata(&marker))?.and_then(|meta| meta.modified().ok());
        if last.and_then(|last| last.elapsed().ok()).is_some_and(|ago| ago < often) {
            return Ok(None);
        }
        // Before the work, so that builds that end at the same time do not all do it.
        fs::write(&marker, "")?;
        self.clean(keep, &|_| true).map(Some)
    }

    /// What is kept where nobody says otherwise.
    pub fn usual(&self) -> Result<Keep, StoreError> {
        let found = rustix::fs::statvfs(&self.inner.root);
        let found = found.map_err(|errno| named(&self.inner.root, "ask for the size of", errno))?;
        let quarter = found.f_blocks.saturating_mul(found.f_frsize) / 4;
        Ok(Keep { lately: Some(LATELY), bytes: Some(BYTES.min(quarter)) })
    }
}

impl Inner {
    /// Metadata of the file `path`, which is marked as used now; `None` where there is none.
    pub(super) fn used(&self, path: &Path) -> Result<Option<std::fs::Metadata>, StoreError> {
        let Some(meta) = there(fs::metadata(path))? else { return Ok(None) };
        // As long as this process lives, that is enough.
        if meta.modified()? >= self.temp.since() {
            return Ok(Some(meta));
        }
        let _together = self.stay()?;
        if there(fs::metadata(path))?.is_none() {
            return Ok(None);
        }
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let now = Timestamps { last_access: omit, last_modification: Timespec { tv_nsec: UTIME_NOW, ..omit } };
        rustix::fs::utimensat(CWD, path, &now, AtFlags::empty()).map_err(|errno| named(path, "mark", errno))?;
        Ok(Some(meta))
    }

    /// As long as the file is held, nothing is dropped.
    pub(super) fn stay(&self) -> Result<fs::File, StoreError> {
        lock_file(&self.root.join("lock"), FlockOperation::LockShared)
    }

    /// When the oldest of the processes that have the store open began to.
    fn oldest_user(&self) -> Result<SystemTime, StoreError> {
        Ok(self.oldest_other()?.map_or(self.temp.since(), |other| other.min(self.temp.since())))
    }

    /// The same of the others alone.
    pub(super) fn oldest_other(&self) -> Result<Option<SystemTime>, StoreError> {
        let tmp = self.root.join("tmp");
        // Without this lock one that begins right now could find its own taken.
        let _all = lock_file(&tmp.join("lock"), FlockOperation::LockExclusive)?;
        let mut oldest: Option<SystemTime> = None;
        for (path, _) in entries(&tmp)?.into_iter().filter(|(path, _)| path != self.temp.path()) {
            let Ok(lock) = fs::OpenOptions::new().read(true).open(path.join("lock")) else { continue };
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    let since = lock.metadata()?.modified()?;
                    oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
                }
                // Its process is gone.
                _ => continue,
            }
        }
        Ok(oldest)
    }
}

fn item(
    kind: ItemKind,
    bucket: Option<String>,
    id: String,
    path: PathBuf,
    meta: &std::fs::Metadata,
) -> Result<Item, StoreError> {
    Ok(Item { kind, bucket, id, size: on_disk(meta), used: meta.modified()?, path })
}

/// Moves an item into `bin`; whether nobody holds it.
fn discard(item: &Item, bin: &TempDir, number: usize) -> Result<bool, StoreError> {
    let mut lock = None;
    if item.kind == ItemKind::CacheMount {
        let Some(file) = there(fs::OpenOptions::new().read(true).open(item.path.join("lock")))? else {
            return Ok(false);
        };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        lock = Some(file);
    }
    there(fs::rename(&item.path, bin.path().join(number.to_string())))?;
    drop(lock);
    Ok(true)
}

/// What a system call gave; `None` where there is no such file.
pub(super) fn there<T>(result: io::Result<T>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is in a directory, with names; nothing where there is none.
pub(super) fn entries(dir: &Path) -> Result<Vec<(PathBuf, String)>, StoreError> {
    let mut out = Vec::new();
    for entry in there(fs::read_dir(dir))?.into_iter().flatten() {
        let entry = entry?;
        out.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(out)
}

fn on_disk(meta: &std::fs::Metadata) -> u64 {
    meta.blocks() * 512 // stat(2): in units of 512 bytes
}

/// Bytes of an unpacked layer; counted once, as it never changes.
fn layer_size(dir: &Path) -> Result<u64, StoreError> {
    let file = dir.join(SIZE);
    let known = there(fs::read_to_string(&file))?.and_then(|text| text.strip_suffix('\n')?.parse().ok());
    if let Some(known) = known {
        return Ok(known);
    }
    let size = tree_size(dir)?;
    // Half of a number is counted again.
    there(fs::write(&file, format!("{size}\n")))?;
    Ok(size)
}

/// Bytes of all that is in a directory; what this user may not look at counts nothing.
fn tree_size(dir: &Path) -> Result<u64, StoreError> {
    let (mut size, mut pending) = (0, vec![dir.to_path_buf()]);
    while let Some(dir) = pending.pop() {
        let listed = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            other => there(other)?,
        };
        for entry in listed.into_iter().flatten() {
            let entry = entry?;
            let Some(meta) = there(fs::symlink_metadata(entry.path()))? else { continue };
            size += on_disk(&meta);
            if meta.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(size)
}
