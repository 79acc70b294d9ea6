//! A stack of unpacked layers seen as one tree, without a mount.
//!
//! The layers are directories in overlayfs's format with `userxattr`, and the view is what an overlay mount of them shows:
//! a name is looked for from the top layer down; a character device 0:0 (whiteout) ends the search with nothing; a directory
//! goes on with the directories below, up to an opaque one or to something that is no directory; anything else hides what is
//! below. On top of that, overrides (see [`crate::overrides`]) say what a file should have been.
//!
//! Layers come from strangers. Every directory is opened by the name in its parent's descriptor with `O_NOFOLLOW`, and no
//! lookup follows a symbolic link, so nothing outside the layers can be reached; [`LayerView::resolve`] follows links by
//! looking their targets up inside the view.
//!
//! Reading needs `/proc` (xattrs, see [`super::xattrs`]).

use super::xattrs;
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata};
use crate::overrides::{Owners, image_ids};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Descriptors that the cache of directories may hold; the usual limit of a process is 1024.
const CACHED_DESCRIPTORS: usize = 256;
/// As many links as the kernel follows in one lookup (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// A stack of unpacked layers, read as one tree.
#[derive(Debug)]
pub struct LayerView {
    layers: Vec<Layer>,
    root: Arc<MergedDir>,
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Layer {
    path: PathBuf,
    owners: Owners,
}

/// A directory as the view shows it: the directories that are merged in it, top first.
#[derive(Debug)]
struct MergedDir {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    /// Index into the view's layers.
    layer: usize,
    /// Opened with `O_PATH`.
    dir: OwnedFd,
}

/// Open directories by path, the oldest dropped first.
#[derive(Debug, Default)]
struct Cache {
    dirs: HashMap<Vec<u8>, Arc<MergedDir>>,
    order: VecDeque<Vec<u8>>,
    descriptors: usize,
}

/// Where the view found a name: which part of the parent holds it, and its status there.
struct Hit {
    parent: Arc<MergedDir>,
    part: usize,
    stat: Stat,
}

impl Hit {
    fn part(&self) -> &Part {
        &self.parent.parts[self.part]
    }
}

impl LayerView {
    /// The view of these layer directories, **top first** (the order of overlayfs's `lowerdir`). No layers at all is an
    /// empty root directory.
    pub fn new(layers: &[PathBuf]) -> io::Result<LayerView> {
        let (mut parts, mut opened) = (Vec::new(), Vec::new());
        for (layer, path) in layers.iter().enumerate() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| at_path(path, b"", e.into()))?;
            parts.push(Part { layer, dir });
            opened.push(Layer { path: path.clone(), owners: Owners::read(path)? });
        }
        Ok(LayerView { layers: opened, root: Arc::new(MergedDir { parts }), cache: Mutex::default() })
    }

    /// The layer directories, top first.
    pub fn layers(&self) -> impl Iterator<Item = &Path> {
        self.layers.iter().map(|layer| layer.path.as_path())
    }

    /// Opens the regular file `path` for reading.
    pub fn open_file(&self, path: &[u8]) -> io::Result<fs_err::File> {
        let (hit, metadata) = self.find_with_metadata(path)?.ok_or_else(|| not_found(path))?;
        if !matches!(metadata.kind, Kind::File { .. }) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no regular file", show(path))));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&hit.part().dir, last(path), flags, Mode::empty())
            .map_err(|e| self.at(&hit, path, e.into()))?;
        Ok(fs_err::File::from_parts(fd.into(), self.layers[hit.part().layer].path.join(to_path(path))))
    }

    /// The path that `path` leads to when symbolic links are followed inside the view, the last component included; an
    /// absolute target starts at the view's root, and `..` ends there. `None` where there is nothing; an error after 40
    /// links.
    pub fn resolve(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut pending: Vec<Vec<u8>> = split(path).rev().map(<[u8]>::to_vec).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(name) = pending.pop() {
            if name == b".." {
                at.truncate(parent(&at).len());
                continue;
            }
            let next = join(&at, &name);
            let Some(metadata) = self.metadata(&next)? else { return Ok(None) };
            match metadata.kind {
                Kind::Symlink { target } => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(at_path(Path::new("/"), path, Errno::LOOP.into()));
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    pending.extend(split(&target).rev().map(<[u8]>::to_vec));
                }
                Kind::Dir => at = next,
                _ if pending.is_empty() => at = next,
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The directory `path`; `None` where there is none, or something else.
    fn dir(&self, path: &[u8]) -> io::Result<Option<Arc<MergedDir>>> {
        let mut known = path;
        let mut dir = loop {
            if known.is_empty() {
                break Arc::clone(&self.root);
            }
            if let Some(dir) = self.lock().dirs.get(known) {
                break Arc::clone(dir);
            }
            known = parent(known);
        };
        let mut at = known.len();
        for name in split(&path[known.len()..]) {
            at = if at == 0 { name.len() } else { at + 1 + name.len() };
            match self.open_dir(&dir, name, &path[..at]).map_err(|e| at_path(Path::new("/"), &path[..at], e))? {
                Some(child) => dir = Arc::new(child),
                None => return Ok(None),
            }
            self.lock().insert(&path[..at], &dir);
        }
        Ok(Some(dir))
    }

    /// The directory `name` of `parent`, whose own path is `path`.
    fn open_dir(&self, parent: &MergedDir, name: &[u8], path: &[u8]) -> io::Result<Option<MergedDir>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut parts = Vec::new();
        for part in &parent.parts {
            match rustix::fs::openat(&part.dir, name, flags, Mode::empty()) {
                Ok(dir) => parts.push(Part { layer: part.layer, dir }),
                Err(Errno::NOENT) if self.layers[part.layer].owners.hides(path) => break,
                Err(Errno::NOENT) => continue,
                // Something else, a whiteout included (ELOOP for a symbolic link): what is below is hidden.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(Errno::NAMETOOLONG) => break,
                Err(errno) => return Err(errno.into()),
            }
            if xattrs::is_opaque(&part.dir, name)? {
                break;
            }
        }
        Ok((!parts.is_empty()).then_some(MergedDir { parts }))
    }

    /// What the view shows at `path`, which must not be the root.
    fn find(&self, path: &[u8]) -> io::Result<Option<Hit>> {
        let Some(parent) = self.dir(parent(path))? else { return Ok(None) };
        for (index, part) in parent.parts.iter().enumerate() {
            match rustix::fs::statat(&part.dir, last(path), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is_whiteout(&stat) => return Ok(None),
                Ok(stat) => return Ok(Some(Hit { parent, part: index, stat })),
                Err(Errno::NOENT) if self.layers[part.layer].owners.hides(path) => return Ok(None),
                Err(Errno::NOENT) => continue,
                Err(Errno::NAMETOOLONG) => return Ok(None),
                Err(errno) => return Err(at_path(&self.layers[part.layer].path, path, errno.into())),
            }
        }
        Ok(None)
    }

    fn find_with_metadata(&self, path: &[u8]) -> io::Result<Option<(Hit, Metadata)>> {
        check(path)?;
        let hit = match path.is_empty() {
            false => self.find(path)?,
            true => self.find_root()?,
        };
        let Some(hit) = hit else { return Ok(None) };
        let metadata = self.read_metadata(&hit, path).map_err(|e| self.at(&hit, path, e))?;
        Ok(Some((hit, metadata)))
    }

    fn find_root(&self) -> io::Result<Option<Hit>> {
        let Some(top) = self.root.parts.first() else { return Ok(None) };
        let stat = rustix::fs::statat(&top.dir, ".", AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| at_path(&self.layers[top.layer].path, b"", e.into()))?;
        Ok(Some(Hit { parent: Arc::clone(&self.root), part: 0, stat }))
    }

    fn read_metadata(&self, hit: &Hit, path: &[u8]) -> io::Result<Metadata> {
        let (part, stat) = (hit.part(), &hit.stat);
        let name = if path.is_empty() { b"." } else { last(path) };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::Symlink => {
                Kind::Symlink { target: rustix::fs::readlinkat(&part.dir, name, Vec::new())?.into_bytes() }
            }
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice { major: major(stat), minor: minor(stat) },
            FileType::BlockDevice => Kind::BlockDevice { major: major(stat), minor: minor(stat) },
            FileType::Socket => Kind::Socket,
            _ => Kind::File { size: stat.st_size as u64 },
        };
        let found = xattrs::read(&part.dir, name)?;
        let (uid, gid) = image_ids(stat.st_uid, stat.st_gid);
        let mut metadata =
            Metadata { kind, mode: stat.st_mode & 0o7777, uid, gid, mtime: stat.st_mtime, xattrs: found.image };
        if let Some(told) = found.replaced.as_ref().or_else(|| self.layers[part.layer].owners.get(path)) {
            told.apply(&mut metadata);
        }
        Ok(metadata)
    }

    fn at(&self, hit: &Hit, path: &[u8], error: io::Error) -> io::Error {
        at_path(&self.layers[hit.part().layer].path, path, error)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        // What a panicking thread left is still a cache.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn insert(&mut self, path: &[u8], dir: &Arc<MergedDir>) {
        if self.dirs.insert(path.to_vec(), Arc::clone(dir)).is_some() {
            return;
        }
        self.order.push_back(path.to_vec());
        self.descriptors += dir.parts.len();
        while self.descriptors > CACHED_DESCRIPTORS {
            let Some(oldest) = self.order.pop_front() else { return };
            self.descriptors -= self.dirs.remove(&oldest).map_or(0, |dir| dir.parts.len());
        }
    }
}

impl SourceTree for LayerView {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        if path.is_empty() && self.layers.is_empty() {
            let xattrs = BTreeMap::new();
            return Ok(Some(Metadata { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs }));
        }
        Ok(self.find_with_metadata(path)?.map(|(_, metadata)| metadata))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        check(path)?;
        let dir = self.dir(path)?.ok_or_else(|| not_found(path))?;
        let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for part in &dir.parts {
            let failed = |errno: Errno| at_path(&self.layers[part.layer].path, path, errno.into());
            // The part's own descriptor is only good for looking names up.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let list = rustix::fs::openat(&part.dir, ".", flags, Mode::empty()).map_err(failed)?;
            for entry in rustix::fs::Dir::new(list).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") || names.contains_key(name) {
                    continue;
                }
                let whiteout = match entry.file_type() {
                    FileType::CharacterDevice | FileType::Unknown => {
                        is_whiteout(&rustix::fs::statat(&part.dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?)
                    }
                    _ => false,
                };
                names.insert(name.to_vec(), !whiteout);
            }
            for name in self.layers[part.layer].owners.hidden_in(path) {
                names.entry(name.to_vec()).or_insert(false);
            }
        }
        Ok(names.into_iter().filter(|(_, shown)| *shown).map(|(name, _)| name).collect())
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.open_file(path)?))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        check(path)?;
        if path.is_empty() {
            return Ok(None);
        }
        let hit = self.find(path)?.ok_or_else(|| not_found(path))?;
        let linked = hit.stat.st_nlink > 1 && FileType::from_raw_mode(hit.stat.st_mode) != FileType::Directory;
        Ok(linked.then_some((hit.stat.st_dev, hit.stat.st_ino)))
    }

    fn mtime_nanos(&self, path: &[u8]) -> io::Result<Option<u32>> {
        check(path)?;
        let hit = if path.is_empty() { None } else { self.find(path)? };
        Ok(hit.map(|hit| hit.stat.st_mtime_nsec as u32))
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn major(stat: &Stat) -> u32 {
    rustix::fs::major(stat.st_rdev)
}

fn minor(stat: &Stat) -> u32 {
    rustix::fs::minor(stat.st_rdev)
}

/// The components of a path, empty ones and `.` left out.
pub(super) fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// All but the last component.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at])
}

/// The last component.
pub(super) fn last(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(path, |at| &path[at + 1..])
}

/// `name` in the directory `dir`.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Paths of a tree have neither empty components nor `.` and `..`; asking the kernel for those would leave the layer.
fn check(path: &[u8]) -> io::Result<()> {
    let clean = path.is_empty() || path.split(|b| *b == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no path of a tree", show(path)));
    clean.then_some(()).ok_or_else(wrong)
}

fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

fn to_path(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
}

fn not_found(path: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file or directory in the image", show(path)))
}

fn at_path(layer: &Path, path: &[u8], error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", layer.join(to_path(path)).display()))
}
