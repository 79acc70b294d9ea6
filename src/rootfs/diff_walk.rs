//! A walk over a directory tree by descriptors: never through a symbolic link, at any depth, in canonical order.

use super::diff::DiffError;
use crate::oci::layer::{Kind, Metadata};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Directories kept open at once; those above are opened again through `..` on the way back.
const OPEN_DIRECTORIES: usize = 64;
/// What the kernel allows for an attribute's value and for a list of names.
const XATTR_MAX: usize = 64 * 1024;
/// Longest text of a symbolic link.
const SYMLINK_MAX: usize = 4096;
const OPAQUE: &[u8] = b"user.overlay.opaque";
const OVERRIDE: &[u8] = b"user.dockless.override";

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// One component.
    pub name: Vec<u8>,
    /// It says that the name below is gone: a character device 0:0, or put there by the walk's user.
    pub whiteout: bool,
}

struct Frame {
    fd: Option<OwnedFd>,
    id: (u64, u64),
    names: std::vec::IntoIter<Name>,
    /// Length of the directory's own path.
    len: usize,
}

/// Where a walk stands.
pub(super) struct Walk {
    frames: Vec<Frame>,
    path: Vec<u8>,
}

/// What a walk came to.
pub(super) enum Step {
    /// The entry [`Walk::path`].
    Entry(Name),
    /// The end of the directory [`Walk::path`].
    Leave,
}

impl Walk {
    /// A walk that has entered nothing.
    pub fn new() -> Self {
        Walk { frames: Vec::new(), path: Vec::new() }
    }

    /// Path of the entry that [`Walk::next`] gave, relative to the root.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Goes into the current entry (or the root, at the start), whose descriptor and names are given.
    pub fn enter(&mut self, fd: OwnedFd, names: Vec<Name>) -> Result<(), DiffError> {
        let stat = rustix::fs::fstat(&fd).map_err(self.error())?;
        self.frames.push(Frame { fd: Some(fd), id: id(&stat), names: names.into_iter(), len: self.path.len() });
        if let Some(far) = self.frames.len().checked_sub(OPEN_DIRECTORIES + 1) {
            self.frames[far].fd = None;
        }
        Ok(())
    }

    /// The next entry; `None` when the root is left.
    pub fn next(&mut self) -> Result<Option<Step>, DiffError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        self.path.truncate(frame.len);
        if let Some(name) = frame.names.next() {
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name.name);
            return Ok(Some(Step::Entry(name)));
        }
        let left = self.frames.pop();
        if let (Some(Frame { fd: Some(below), .. }), Some(frame)) = (left, self.frames.last_mut())
            && frame.fd.is_none()
        {
            let here = &self.path;
            let error = |errno: Errno| DiffError::Io { path: here.clone(), source: errno.into() };
            let fd = open(below.as_fd(), b"..", OFlags::DIRECTORY).map_err(error)?;
            if id(&rustix::fs::fstat(&fd).map_err(error)?) != frame.id {
                return Err(DiffError::Moved(here.clone()));
            }
            frame.fd = Some(fd);
        }
        Ok(Some(Step::Leave))
    }

    /// `lstat` of `name` in the directory that the walk is in.
    pub fn stat(&self, name: &[u8]) -> Result<Stat, DiffError> {
        rustix::fs::statat(self.dir()?, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW).map_err(self.error())
    }

    /// Opens the file or directory `name` for reading, in the directory that the walk is in.
    pub fn open(&self, name: &[u8]) -> Result<OwnedFd, DiffError> {
        open(self.dir()?, name, OFlags::empty()).map_err(self.error())
    }

    /// Text of the symbolic link `name` in the directory that the walk is in.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, DiffError> {
        let target = rustix::fs::readlinkat(self.dir()?, OsStr::from_bytes(name), Vec::new()).map_err(self.error())?;
        Ok(target.into_bytes())
    }

    /// An error about the current path.
    pub fn error<E: Into<std::io::Error>>(&self) -> impl Fn(E) -> DiffError + use<E> {
        let path = self.path.clone();
        move |error| DiffError::Io { path: path.clone(), source: error.into() }
    }

    fn dir(&self) -> Result<BorrowedFd<'_>, DiffError> {
        let fd = self.frames.last().and_then(|frame| frame.fd.as_ref());
        fd.map(OwnedFd::as_fd).ok_or_else(|| DiffError::Moved(self.path.clone()))
    }
}

/// Device and inode.
pub(super) fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Opens the root of a walk.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd, DiffError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .map_err(|errno| DiffError::Root { root: root.to_path_buf(), source: errno.into() })
}

fn open(dir: BorrowedFd<'_>, name: &[u8], more: OFlags) -> Result<OwnedFd, Errno> {
    // NONBLOCK: the caller has seen a file or a directory; should it be a pipe by now, do not hang.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | more;
    rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Names in the directory `fd`, sorted, whiteouts marked.
pub(super) fn list(fd: &OwnedFd) -> Result<Vec<Name>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let whiteout = matches!(entry.file_type(), FileType::CharacterDevice | FileType::Unknown) && {
            let stat = rustix::fs::statat(fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
        };
        names.push(Name { name: name.to_vec(), whiteout });
    }
    names.sort();
    Ok(names)
}

/// A path of an upper directory, as the image sees it.
pub(super) struct Node {
    /// Its metadata, overrides honoured, attributes of overlayfs and of ours left out.
    pub meta: Metadata,
    /// Device and inode, where it has more than one name.
    pub links: Option<(u64, u64)>,
    /// Open for reading: regular files and directories.
    pub file: Option<File>,
    /// A directory that hides what the layers below have under its name.
    pub opaque: bool,
}

/// Looks at the entry `name` that `walk` stands at.
pub(super) fn look(walk: &Walk, name: &[u8]) -> Result<Node, DiffError> {
    let stat = walk.stat(name)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => return look_inside(walk, name),
        FileType::Symlink => Kind::Symlink { target: walk.read_link(name)? },
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice { major: major(&stat), minor: minor(&stat) },
        FileType::BlockDevice => Kind::BlockDevice { major: major(&stat), minor: minor(&stat) },
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return Err(walk.error()(Errno::INVAL)),
    };
    Ok(Node { meta: metadata(&stat, kind, BTreeMap::new()), links: links(&stat), file: None, opaque: false })
}

/// Regular files and directories: only they can have the attributes that an image keeps.
fn look_inside(walk: &Walk, name: &[u8]) -> Result<Node, DiffError> {
    let file = File::from(walk.open(name)?);
    let stat = rustix::fs::fstat(&file).map_err(walk.error())?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let mut xattrs = xattrs(&file).map_err(walk.error())?;
    let opaque = xattrs.get(OPAQUE).is_some_and(|value| value == b"y");
    let stand_in = xattrs.remove(OVERRIDE);
    xattrs.retain(|name, _| belongs_to_image(name));
    let kind = if is_dir { Kind::Dir } else { Kind::File { size: stat.st_size as u64 } };
    let mut node = Node {
        meta: metadata(&stat, kind, xattrs),
        links: if is_dir { None } else { links(&stat) },
        file: Some(file),
        opaque: is_dir && opaque,
    };
    if let Some(text) = stand_in {
        apply_override(&mut node, &text, walk)?;
    }
    Ok(node)
}

/// The user's own attributes and file capabilities. Others belong to the host (labels, integrity) or to overlayfs.
fn belongs_to_image(name: &[u8]) -> bool {
    let ours = [&b"user.overlay."[..], b"user.dockless."].iter().any(|prefix| name.starts_with(prefix));
    name == b"security.capability" || (name.starts_with(b"user.") && !ours)
}

fn metadata(stat: &Stat, kind: Kind, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Metadata {
    let mtime = stat.st_mtime;
    Metadata { kind, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime, xattrs }
}

fn links(stat: &Stat) -> Option<(u64, u64)> {
    (stat.st_nlink > 1).then(|| id(stat))
}

fn major(stat: &Stat) -> u32 {
    rustix::fs::major(stat.st_rdev)
}

fn minor(stat: &Stat) -> u32 {
    rustix::fs::minor(stat.st_rdev)
}

fn xattrs(file: &File) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut found = BTreeMap::new();
    // Most files have none: ask for the length first.
    let length = match rustix::fs::flistxattr_query(file) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(found),
        Ok(length) => length,
        Err(errno) => return Err(errno),
    };
    let mut names = vec![0; length];
    let length = rustix::fs::flistxattr(file, &mut names[..])?;
    let mut value = vec![0; XATTR_MAX];
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if name == b"security.capability" || name.starts_with(b"user.") {
            let n = rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..])?;
            found.insert(name.to_vec(), value[..n].to_vec());
        }
    }
    Ok(found)
}

/// `uid:gid:octalmode:type[:major:minor]`, written where the file system could not hold it.
fn apply_override(node: &mut Node, text: &[u8], walk: &Walk) -> Result<(), DiffError> {
    let bad = || DiffError::Override { path: walk.path().to_vec(), text: String::from_utf8_lossy(text).into_owned() };
    let parts: Vec<&str> = std::str::from_utf8(text).map_err(|_| bad())?.split(':').collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u32>().ok()).ok_or_else(bad);
    node.meta.uid = number(0)?;
    node.meta.gid = number(1)?;
    node.meta.mode = parts.get(2).and_then(|mode| u32::from_str_radix(mode, 8).ok()).ok_or_else(bad)? & 0o7777;
    let kind = match (parts.get(3).copied(), &node.meta.kind) {
        (Some("f"), Kind::File { .. }) | (Some("d"), Kind::Dir) => return Ok(()),
        (Some("p"), Kind::File { .. }) => Kind::Fifo,
        (Some("c"), Kind::File { .. }) => Kind::CharDevice { major: number(4)?, minor: number(5)? },
        (Some("b"), Kind::File { .. }) => Kind::BlockDevice { major: number(4)?, minor: number(5)? },
        (Some("l"), Kind::File { size }) if *size <= SYMLINK_MAX as u64 => {
            let mut target = vec![0; *size as usize];
            node.file.as_ref().ok_or_else(bad)?.read_exact_at(&mut target, 0).map_err(walk.error())?;
            Kind::Symlink { target }
        }
        _ => return Err(bad()),
    };
    node.meta.kind = kind;
    node.file = None;
    Ok(())
}
