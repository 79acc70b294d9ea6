//! The content store: blobs, names, unpacked layers and cache records under the state directory.
//!
//! # What lies where
//!
//! ```text
//! ROOT/                  mode 0700, owned by whoever uses it
//!   version              format of this directory, a number
//!   lock                 held shared while something is marked as used or put in place, exclusively while things are dropped
//!   cleaned              empty; when the store was last cleaned by itself
//!   commit.lock          held exclusively while index.json or layers/ changes
//!   oci-layout           \
//!   index.json            > an OCI image layout; a name is the annotation org.opencontainers.image.ref.name
//!   blobs/ALGORITHM/HEX  /
//!   layers/HEX/          an unpacked layer, by the ChainID of the stack up to it
//!     boot               the boot it was written in; its modification time is when the layer was last of use
//!     size               bytes of the whole, once somebody counted
//!     tree/              its files in overlayfs's format (`userxattr`)
//!     spare/N/           whole trees of the stack, as `rootfs` makes them for containers; nobody has changed them
//!     owners             owners that `tree` cannot hold itself, see `overrides`; often absent
//!   caches/HEX/N/        a directory that RUN steps keep, by what it is; N is 0 but for those that want one alone
//!     lock               held by its users, shared or exclusively
//!     tree/              its files
//!   records/BUCKET/HEX   a checksum line, then the bytes
//!   containers/ID/       a container: its config, state, log and changed tree; `crate::run`'s
//!   volumes/NAME/_data   files that containers share and keep; `crate::run`'s
//!   login.json           credentials that `dockless login` could not keep elsewhere; not this module's
//!   tmp/PID-RANDOM/      what one open store is writing; `lock` in it is held for as long as that lasts
//! ```
//!
//! `skopeo inspect oci:ROOT:docker.io/library/app:1` reads it; names are references in full.
//!
//! # Locks (flock, so they end with the process that holds them)
//!
//! - `lock`: see `store/cleaning.rs`. Who drops things takes it exclusively, and drops nothing that was used since the
//!   oldest process that has the store open began to: nothing vanishes under a build.
//! - `commit.lock` exclusive: a change of `index.json`, or putting a layer in place. Readers need no lock: both change by
//!   rename. Blobs and records need none: two writers of one digest write the same bytes.
//! - `caches/HEX/N/lock`: a cache directory in use, shared or alone; alone too while it gets its first content.
//! - `tmp/lock` exclusive: making a directory in `tmp`, and taking over those whose own lock nobody holds any more.
//!
//! # Crashes
//!
//! Everything is written under `tmp` and renamed. A process killed at any instant leaves only files under `tmp`, which the
//! next [`Store::open`] removes. A machine that loses power:
//!
//! - A **blob** is synced before its rename, and the blob directories before a name that needs them, so a name never
//!   refers to a blob that is not whole. Readers verify nevertheless; a blob that fails is removed, to be fetched anew.
//! - A **name** is synced before [`Store::tag`] returns.
//! - A **record** is not synced: it may be lost, and its checksum turns a torn one into none.
//! - An **unpacked layer** is not synced either (syncing 20,000 files costs more than unpacking them): it counts only in
//!   the boot that wrote it, and is unpacked again after another. Where the kernel tells no boot id, the file system is
//!   synced before the layer is put in place.
//! - A **cache directory** is whatever the file system kept of it: its users must bear that, as they must a killed step.

mod blob;
mod caches;
mod cleaning;
mod forget;
mod idle_cache;
pub mod image;
mod layers;
mod names;
mod reach;
mod records;
mod tail;
mod temp;

pub use blob::{BlobReader, BlobWriter};
pub use caches::{CacheDir, CacheUse};
pub use cleaning::{Dropped, Item, ItemKind, Keep, Usage};
pub use image::{Image, ImageError};
pub use layers::{Committed, StagedLayer};
pub use tail::Follower;
pub use temp::TempDir;

use crate::oci::Digest;
use fs_err as fs;
use rustix::fs::FlockOperation;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// The format this code reads and writes.
const FORMAT: u32 = 1;
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// What a store's root may hold; a directory with anything else in it is somebody's.
const OWN_NAMES: &[&str] = &[
    "version",
    "lock",
    "cleaned",
    "commit.lock",
    "oci-layout",
    "index.json",
    "blobs",
    "layers",
    "caches",
    "containers",
    "volumes",
    "records",
    "tmp",
    "login.json",
    "lost+found",
];

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed; the message names the path.
    #[error(transparent)]
    Io(io::Error),
    /// No room left on the file system, or in the quota.
    #[error("no space left for the content store: {0}")]
    DiskFull(io::Error),
    /// The directory belongs to another user.
    #[error("{path} belongs to user {owner}, not to user {user}: the content store needs a directory of its own")]
    Owner {
        /// The directory or symbolic link.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who asked.
        user: u32,
    },
    /// The directory exists and holds other things.
    #[error("{path} is no content store, and not empty either (it holds '{found}')")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// A name in it that no store has.
        found: String,
    },
    /// A later version of dockless wrote it.
    #[error("{path} has the format {found}, this version of dockless knows formats up to {known}")]
    Newer {
        /// The store's root.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The last format we know.
        known: u32,
    },
    /// A file of the store does not hold what it should.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A blob that must be there is not.
    #[error("blob {0} is not in the content store")]
    Missing(Digest),
    /// Bytes that do not have the digest they should have.
    #[error("digest mismatch: expected {expected}, the bytes have {found}")]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What the bytes have.
        found: Digest,
    },
    /// Fewer or more bytes than announced.
    #[error("{digest} should have {expected} bytes, there are {found}")]
    Size {
        /// Digest of the blob.
        digest: Digest,
        /// Length announced.
        expected: u64,
        /// Length found.
        found: u64,
    },
    /// A blob too long to be read into memory.
    #[error("{digest} has {size} bytes, more than the {limit} that a document may have")]
    TooLong {
        /// Digest of the blob.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull(error),
            _ => StoreError::Io(error),
        }
    }
}

/// A content store, open. Clones share it; several processes may have it open at once.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    temp: temp::ProcessTemp,
    /// This boot, where the kernel tells.
    boot: Option<String>,
    /// A blob was put in place.
    wrote: AtomicBool,
    /// What is to be said of the last blob that was found damaged.
    damage: Mutex<Option<String>>,
}

impl Store {
    /// Opens the store at `root`, made if there is none, and removes what killed processes left in it.
    ///
    /// Refuses a directory of another user, one that holds other things, and one of a later format.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        prepare_root(root)?;
        for dir in ["blobs/sha256", "blobs/sha512", "layers", "caches", "records", "tmp"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let temp = temp::ProcessTemp::create(&root.join("tmp"))?;
        let boot = match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            Ok(id) => Some(id.trim().to_string()),
            Err(_) => None,
        };
        let inner =
            Inner { root: root.to_path_buf(), temp, boot, wrote: AtomicBool::new(false), damage: Mutex::default() };
        inner.write_once("oci-layout", LAYOUT)?;
        inner.write_once("version", format!("{FORMAT}\n").as_bytes())?;
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Where it lies. What is under it, except for the OCI layout, is this module's business.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// An empty directory on the store's file system, removed when dropped.
    pub fn temp_dir(&self) -> Result<TempDir, StoreError> {
        TempDir::create(&self.inner)
    }
}

impl Inner {
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// A path under the temporary directory that nobody uses.
    fn temp_path(&self) -> PathBuf {
        self.temp.next_path()
    }

    /// Waits until nobody else changes names or layers; ends when the file is dropped.
    fn commit_lock(&self) -> Result<fs::File, StoreError> {
        lock_file(&self.root.join("commit.lock"), FlockOperation::LockExclusive)
    }

    /// Writes `name` in the root, unless it is there.
    fn write_once(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(name);
        match path.try_exists()? {
            true => Ok(()),
            false => self.write_synced(&path, bytes),
        }
    }

    /// Puts `bytes` at `path` in one piece, and durably.
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temp = temp::TempFile::create(self.temp_path())?;
        temp.write_all(bytes)?;
        temp.sync()?;
        temp.rename_to(path)?;
        if let Some(parent) = path.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(())
    }
}

/// Makes sure that `root` is a directory that is ours, private, and of a format we know.
fn prepare_root(root: &Path) -> Result<(), StoreError> {
    let user = rustix::process::geteuid().as_raw();
    let check_owner = |path: &Path, owner: u32| match owner == user {
        true => Ok(()),
        false => Err(StoreError::Owner { path: path.to_path_buf(), owner, user }),
    };
    // Somebody else's symbolic link, planted in a directory that all can write, must not choose where we write.
    if let Ok(link) = fs::symlink_metadata(root) {
        check_owner(root, link.uid())?;
    }
    // Not fs_err's builder: it has no mode.
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(root).map_err(|e| io::Error::new(e.kind(), format!("cannot make {}: {e}", root.display())))?;
    let dir = fs::File::open(root)?;
    let metadata = dir.metadata()?;
    check_owner(root, metadata.uid())?;
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if !OWN_NAMES.iter().any(|own| name == *own) {
            let found = name.to_string_lossy().into_owned();
            return Err(StoreError::NotAStore { path: root.to_path_buf(), found });
        }
    }
    check_format(root)?;
    if metadata.permissions().mode() & 0o7777 != 0o700 {
        dir.set_permissions(std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn check_format(root: &Path) -> Result<(), StoreError> {
    let path = root.join("version");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(StoreError::Newer { path: root.to_path_buf(), found, known: FORMAT }),
        Ok(_) => Ok(()),
        Err(_) => Err(StoreError::Damaged { path, why: format!("'{}' is no format number", text.trim()) }),
    }
}

/// Opens or makes the file `path` and locks it, waiting for whoever stands in the way.
fn lock_file(path: &Path, operation: FlockOperation) -> Result<fs::File, StoreError> {
    let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(named(path, "lock", errno).into()),
        }
    }
}

/// An I/O error that names what was tried and on which path, as `fs_err`'s do.
fn named(path: &Path, action: &str, errno: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("failed to {action} {}: {error}", path.display()))
}
