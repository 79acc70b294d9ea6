//! Writes the entries of a layer as files in overlayfs's format.
//!
//! # Where an entry goes
//!
//! A name is cleaned as text (`/a/./b/../c` is `a/c`; one that would leave the root is refused). Its directory is then walked
//! through the **image**, this layer over those below, following symbolic links inside the image: with `var/run -> /run`
//! in a layer below, `var/run/x` becomes `run/x`, as when Docker unpacks into the mounted tree. Directories on the way that
//! this layer lacks are made with the metadata they have below. All links are followed by this code, as text; the kernel is
//! only ever given one name in a directory that was opened without following anything (`O_NOFOLLOW` at each step), so a
//! planted link cannot lead out of the layer's directory.
//!
//! # What an entry becomes
//!
//! - A whiteout hides only what is below (layer.md): a character device 0:0 (or a word in the side file where that cannot be
//!   made), or, where this layer has a directory of that name, that directory made opaque.
//! - A directory that takes the place of something else (a file or whiteout of this layer, a file below) is opaque.
//! - Opacity of the root cannot be said to overlayfs, so each of its names below gets a whiteout.
//! - Of two entries of one name the later wins.
//! - What the file system refuses (an owner, a device, an xattr) is recorded as `overrides.rs` says. Set-id bits are
//!   then only recorded, since the file really belongs to somebody else.
//! - Xattrs of overlayfs, of the machine (SELinux and integrity labels) and of dockless are not taken from a layer.

use super::open_dirs::OpenDirs;
use super::unpack::UnpackError;
use super::unpack_tar::{Entry, EntryKind, TarReader};
use super::view::{LayerView, join, last, parent, split};
use super::xattrs::{self, OPAQUE};
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata, OPAQUE_WHITEOUT, WHITEOUT_PREFIX};
use crate::overrides::Owners;
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// As many links as the kernel follows in one lookup (path_resolution(7)).
pub(super) const MAX_LINKS: u32 = 40;
/// Longest path that a program can name (PATH_MAX), and so the deepest tree.
const MAX_PATH: usize = 4096;
/// Prefix of aufs's own bookkeeping, in images that ancient Dockers made.
pub(super) const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// The directory of a layer that is being unpacked.
pub(super) struct Tree<'a> {
    below: &'a LayerView,
    path: PathBuf,
    open: OpenDirs,
    /// Directories by the name that entries call them; forgotten when something is replaced.
    entered: HashMap<Vec<u8>, Vec<u8>>,
    /// Directories of this layer, which get their metadata at the end: filling them changes their times.
    dirs: BTreeMap<Vec<u8>, Metadata>,
    opaque: HashSet<Vec<u8>>,
    pub(super) owners: Owners,
    pub(super) ids: (u32, u32),
}

/// What stands at a path in this layer's directory.
enum Own {
    Nothing,
    Whiteout,
    Dir,
    Symlink(Vec<u8>),
    Other,
}

pub(super) type Result<T> = std::result::Result<T, UnpackError>;

impl<'a> Tree<'a> {
    /// Starts a layer on top of `below` in the empty directory `path`.
    pub(super) fn new(below: &'a LayerView, path: &Path) -> Result<Self> {
        let open = OpenDirs::new(path).map_err(|e| failed(path, b"", "open", e))?;
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let root_metadata = below.metadata(b"").map_err(UnpackError::Read)?.unwrap_or_else(plain_dir);
        Ok(Tree {
            below,
            path: path.to_path_buf(),
            open,
            entered: HashMap::new(),
            dirs: [(Vec::new(), root_metadata)].into(),
            opaque: HashSet::new(),
            owners: Owners::default(),
            ids,
        })
    }

    /// Makes what `entry` says; its data comes from `data`.
    pub(super) fn add<R: BufRead>(&mut self, entry: Entry, data: &mut TarReader<R>) -> Result<()> {
        let clean = clean(&entry.path).map_err(|why| refuse(&entry.path, why))?;
        if split(&clean).any(|name| name.starts_with(AUFS_PREFIX) && name != OPAQUE_WHITEOUT.as_bytes()) {
            return Ok(());
        }
        if split(parent(&clean)).any(|name| name.starts_with(WHITEOUT_PREFIX.as_bytes())) {
            return Err(refuse(&entry.path, "lies below a whiteout"));
        }
        if let Some(hidden) = last(&clean).strip_prefix(WHITEOUT_PREFIX.as_bytes()) {
            let dir = self.enter(parent(&clean))?;
            return match hidden {
                _ if last(&clean) == OPAQUE_WHITEOUT.as_bytes() => self.hide_all(&dir),
                b"" | b"." | b".." => Err(refuse(&entry.path, "is a whiteout of no name")),
                _ => self.hide(&dir, hidden),
            };
        }
        if clean.is_empty() && entry.kind != EntryKind::Dir {
            return Err(refuse(&entry.path, "puts something other than a directory at the root"));
        }
        let dir = self.enter(parent(&clean))?;
        let path = join(&dir, last(&clean));
        let kind = match entry.kind {
            EntryKind::HardLink => return self.hard_link(&path, &entry),
            EntryKind::File => Kind::File { size: data.remaining() },
            EntryKind::Dir => Kind::Dir,
            EntryKind::Symlink => Kind::Symlink { target: entry.link },
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Char(major, minor) => Kind::CharDevice { major, minor },
            EntryKind::Block(major, minor) => Kind::BlockDevice { major, minor },
        };
        let (mode, uid, gid, mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
        let mut xattrs = entry.xattrs;
        xattrs.retain(|key, _| xattrs::is_images(key));
        let metadata = Metadata { kind, mode, uid, gid, mtime, xattrs };
        match metadata.is_dir() {
            true => self.directory(&path, metadata),
            false => self.file(&path, &metadata, |file, name| copy_entry(data, file, name)),
        }
    }

    /// Gives directories their metadata, and writes the side file.
    pub(super) fn finish(mut self) -> Result<()> {
        let dirs = std::mem::take(&mut self.dirs);
        // Deepest first: a directory may forbid to enter it, and filling it changes its time.
        for (path, metadata) in dirs.iter().rev() {
            let dir = self.fd(parent(path))?;
            let name = if path.is_empty() { b"." } else { last(path) };
            self.finish_node(&*dir, name, path, metadata)?;
        }
        self.owners.write(&self.path).map_err(UnpackError::Write)
    }

    /// The real path of the directory that entries call `called`, made where this layer lacks it.
    fn enter(&mut self, called: &[u8]) -> Result<Vec<u8>> {
        if let Some(real) = self.entered.get(called) {
            return Ok(real.clone());
        }
        let mut pending: Vec<Vec<u8>> = split(called).rev().map(<[u8]>::to_vec).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(name) = pending.pop() {
            if name == b".." {
                at.truncate(parent(&at).len());
                continue;
            }
            let next = join(&at, &name);
            if next.len() >= MAX_PATH {
                return Err(refuse(called, "leads to a path longer than Linux lets it be"));
            }
            let target = match self.own(&next)? {
                Own::Dir => None,
                Own::Symlink(target) => Some(target),
                Own::Other => return Err(refuse(called, "lies below something that is no directory")),
                Own::Whiteout => {
                    self.directory(&next, plain_dir())?;
                    None
                }
                Own::Nothing => match self.shown_below(&next)? {
                    Some(Metadata { kind: Kind::Symlink { target }, .. }) => Some(target),
                    Some(metadata) if !metadata.is_dir() => {
                        return Err(refuse(called, "lies below something that is no directory"));
                    }
                    metadata => {
                        self.directory(&next, metadata.unwrap_or_else(plain_dir))?;
                        None
                    }
                },
            };
            let Some(target) = target else {
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(refuse(called, "leads through too many symbolic links"));
            }
            if target.starts_with(b"/") {
                at.clear();
            }
            pending.extend(split(&target).rev().map(<[u8]>::to_vec));
        }
        self.entered.insert(called.to_vec(), at.clone());
        Ok(at)
    }

    /// What the layers below show at `path`, unless this layer hides it.
    fn shown_below(&self, path: &[u8]) -> Result<Option<Metadata>> {
        let mut above = parent(path);
        while !above.is_empty() {
            if self.opaque.contains(above) {
                return Ok(None);
            }
            above = parent(above);
        }
        self.below.metadata(path).map_err(UnpackError::Read)
    }

    /// Makes the directory `path`, or gives the one that is there other metadata.
    fn directory(&mut self, path: &[u8], metadata: Metadata) -> Result<()> {
        let own = if path.is_empty() { Own::Dir } else { self.own(path)? };
        let opaque = match own {
            Own::Dir => false,
            Own::Nothing => self.shown_below(path)?.is_some_and(|below| !below.is_dir()),
            Own::Whiteout | Own::Symlink(_) | Own::Other => {
                self.remove(path)?;
                true
            }
        };
        if !matches!(own, Own::Dir) {
            let dir = self.fd(parent(path))?;
            rustix::fs::mkdirat(&*dir, last(path), Mode::RWXU).map_err(|e| self.failed(path, "make", e))?;
            self.owners.show(path);
        }
        self.dirs.insert(path.to_vec(), metadata);
        if opaque { self.make_opaque(path) } else { Ok(()) }
    }

    /// Makes anything but a directory; `fill` writes the content of a regular file.
    fn file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        fill: impl FnOnce(&std::fs::File, &dyn Fn(io::Error) -> UnpackError) -> Result<()>,
    ) -> Result<()> {
        let dir = self.fd(parent(path))?;
        let mut made = self.make_node(&dir, path, metadata);
        if let Err(Errno::EXIST) = made {
            self.remove(path)?;
            made = self.make_node(&dir, path, metadata);
        }
        self.owners.show(path);
        if let Some(file) = made.map_err(|e| self.failed(path, "make", e))?
            && matches!(metadata.kind, Kind::File { .. })
        {
            let shown = self.path.join(std::ffi::OsStr::from_bytes(path));
            fill(&file, &|e| {
                UnpackError::Write(io::Error::new(e.kind(), format!("failed to write {}: {e}", shown.display())))
            })?;
        }
        self.finish_node(&*dir, last(path), path, metadata)
    }

    /// A second name for what this layer, or the image below, has at the entry's target.
    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let missing = || UnpackError::LinkTarget { path: show(&entry.path), target: show(&entry.link) };
        let called = clean(&entry.link).map_err(|_| missing())?;
        let target = join(&self.enter(parent(&called))?, last(&called));
        if target == *path {
            return Ok(());
        }
        match self.own(&target)? {
            Own::Whiteout | Own::Dir => return Err(missing()),
            Own::Symlink(_) | Own::Other => {}
            Own::Nothing => {
                let below = self.shown_below(&target)?.filter(|m| !m.is_dir() && m.kind != Kind::Socket);
                let metadata = below.ok_or_else(missing)?;
                self.copy_up(&target, &metadata)?;
            }
        }
        let (from, to) = (self.fd(parent(&target))?, self.fd(parent(path))?);
        let link = || rustix::fs::linkat(&*from, last(&target), &*to, last(path), AtFlags::empty());
        let mut linked = link();
        if let Err(Errno::EXIST) = linked {
            self.remove(path)?;
            linked = link();
        }
        linked.map_err(|e| self.failed(path, "link", e))?;
        self.owners.show(path);
        if let Some(told) = self.owners.get(&target).copied() {
            self.owners.insert(path.to_vec(), told);
        }
        Ok(())
    }

    /// Copies a file of the layers below to the same path in this one.
    fn copy_up(&mut self, path: &[u8], metadata: &Metadata) -> Result<()> {
        let below = self.below;
        self.file(path, metadata, |mut file, failed| {
            let mut source = below.open_file(path).map_err(UnpackError::Read)?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match source.read(&mut buffer).map_err(UnpackError::Read)? {
                    0 => return Ok(()),
                    n => file.write_all(&buffer[..n]).map_err(failed)?,
                }
            }
        })
    }

    /// Hides what the layers below have at `name` in `dir`.
    fn hide(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        let path = join(dir, name);
        match self.own(&path)? {
            Own::Dir => self.make_opaque(&path),
            // It hides what is below already.
            Own::Whiteout | Own::Symlink(_) | Own::Other => Ok(()),
            Own::Nothing if self.shown_below(&path)?.is_none() => Ok(()),
            Own::Nothing => {
                let parent = self.fd(dir)?;
                self.entered.clear();
                match rustix::fs::mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
                    // An overlay refuses to hold another one's whiteouts (ovl_mknod).
                    Err(Errno::PERM) => {
                        self.owners.hide(&path);
                        Ok(())
                    }
                    made => made.map_err(|e| self.failed(&path, "make a whiteout at", e)),
                }
            }
        }
    }

    /// Hides all that the layers below have in `dir`.
    fn hide_all(&mut self, dir: &[u8]) -> Result<()> {
        if !dir.is_empty() {
            return self.make_opaque(dir);
        }
        for name in self.below.read_dir(b"").map_err(UnpackError::Read)? {
            self.hide(b"", &name)?;
        }
        Ok(())
    }

    fn make_opaque(&mut self, path: &[u8]) -> Result<()> {
        let dir = self.fd(parent(path))?;
        match xattrs::set(&*dir, last(path), OPAQUE.as_bytes(), b"y") {
            // No such xattrs here: then each name by itself.
            Err(Errno::NOTSUP | Errno::PERM) => {
                if self.shown_below(path)?.is_some_and(|below| below.is_dir()) {
                    for name in self.below.read_dir(path).map_err(UnpackError::Read)? {
                        self.hide(path, &name)?;
                    }
                }
            }
            made => made.map_err(|e| self.failed(path, "make opaque", e))?,
        }
        self.opaque.insert(path.to_vec());
        self.entered.clear();
        Ok(())
    }

    /// Takes what this layer has at `path` away, and all below it.
    fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.entered.clear();
        let told_only = self.owners.hides(path);
        self.owners.remove(path);
        if told_only {
            return Ok(());
        }
        let inside = |other: &[u8]| other.starts_with(path) && matches!(other.get(path.len()), None | Some(b'/'));
        if self.dirs.contains_key(path) {
            self.dirs.retain(|dir, _| !inside(dir));
            self.open.forget(path);
            self.opaque.retain(|dir| !inside(dir));
        }
        let dir = self.fd(parent(path))?;
        sys::remove_at(dir.as_fd(), last(path)).map_err(|e| self.failed(path, "remove", e))
    }

    fn own(&mut self, path: &[u8]) -> Result<Own> {
        let dir = self.fd(parent(path))?;
        let stat = match rustix::fs::statat(&*dir, last(path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if self.owners.hides(path) => return Ok(Own::Whiteout),
            Err(Errno::NOENT) => return Ok(Own::Nothing),
            Err(errno) => return Err(self.failed(path, "stat", errno)),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Own::Dir,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&*dir, last(path), Vec::new());
                Own::Symlink(target.map_err(|e| self.failed(path, "read the link", e))?.into_bytes())
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => Own::Whiteout,
            _ => Own::Other,
        })
    }

    /// Opens the directory `path` of this layer, step by step and following nothing.
    fn fd(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        self.open.get(path).map_err(|(at, errno)| self.failed(&path[..at], "open", errno))
    }

    pub(super) fn failed(&self, path: &[u8], action: &str, errno: Errno) -> UnpackError {
        failed(&self.path, path, action, errno)
    }
}

fn copy_entry<R: BufRead>(
    data: &mut TarReader<R>,
    mut file: &std::fs::File,
    failed: &dyn Fn(io::Error) -> UnpackError,
) -> Result<()> {
    loop {
        let piece = data.data()?;
        if piece.is_empty() {
            return Ok(());
        }
        file.write_all(piece).map_err(failed)?;
        let length = piece.len();
        data.consume(length);
    }
}

/// What a directory is that only an entry below it speaks of.
pub(super) fn plain_dir() -> Metadata {
    Metadata { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}

/// The components of a name without `.` and `..`.
pub(super) fn clean(name: &[u8]) -> std::result::Result<Vec<u8>, &'static str> {
    if name.contains(&0) {
        return Err("has a NUL in its name");
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in split(name) {
        match part {
            b".." => drop(parts.pop().ok_or("leaves the root of the image")?),
            part => parts.push(part),
        }
    }
    let clean = parts.join(&b'/');
    if clean.len() < MAX_PATH { Ok(clean) } else { Err("is longer than Linux lets a path be") }
}

pub(super) fn refuse(path: &[u8], why: &'static str) -> UnpackError {
    UnpackError::Path { path: show(path), why }
}

pub(super) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn failed(layer: &Path, path: &[u8], action: &str, errno: Errno) -> UnpackError {
    let shown = layer.join(std::ffi::OsStr::from_bytes(path));
    let error = io::Error::from(errno);
    UnpackError::Write(io::Error::new(error.kind(), format!("failed to {action} {}: {error}", shown.display())))
}
