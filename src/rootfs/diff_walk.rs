//! A walk over a directory tree by descriptors: never through a symbolic link, at any depth, in canonical order.

use super::diff::DiffError;
use super::xattrs;
use crate::oci::layer::{Kind, Metadata};
use crate::overrides::{Owners, image_ids};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Directories kept open at once; those above are opened again through `..` on the way back.
const OPEN_DIRECTORIES: usize = 64;

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
    /// Which directory it is; found out when it is closed.
    id: Option<(u64, u64)>,
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
        self.frames.push(Frame { fd: Some(fd), id: None, names: names.into_iter(), len: self.path.len() });
        if let Some(far) = self.frames.len().checked_sub(OPEN_DIRECTORIES + 1)
            && let Some(fd) = self.frames[far].fd.take()
        {
            let stat = rustix::fs::fstat(&fd).map_err(|error| self.error(error))?;
            self.frames[far].id = Some(id(&stat));
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
            if Some(id(&rustix::fs::fstat(&fd).map_err(error)?)) != frame.id {
                return Err(DiffError::Moved(here.clone()));
            }
            frame.fd = Some(fd);
        }
        Ok(Some(Step::Leave))
    }

    /// `lstat` of `name` in the directory that the walk is in.
    pub fn stat(&self, name: &[u8]) -> Result<Stat, DiffError> {
        rustix::fs::statat(self.dir()?, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.error(error))
    }

    /// Opens the file or directory `name` for reading, in the directory that the walk is in.
    pub fn open(&self, name: &[u8]) -> Result<OwnedFd, DiffError> {
        open(self.dir()?, name, OFlags::empty()).map_err(|error| self.error(error))
    }

    /// Text of the symbolic link `name` in the directory that the walk is in.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, DiffError> {
        let target = rustix::fs::readlinkat(self.dir()?, OsStr::from_bytes(name), Vec::new())
            .map_err(|error| self.error(error))?;
        Ok(target.into_bytes())
    }

    /// An error about the current path.
    pub fn error(&self, error: impl Into<std::io::Error>) -> DiffError {
        DiffError::Io { path: self.path.clone(), source: error.into() }
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

/// Names in the directory `fd`, which was opened just now, sorted, whiteouts marked.
pub(super) fn list(fd: &OwnedFd) -> Result<Vec<Name>, Errno> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut entries = RawDir::new(fd, &mut buffer);
    while let Some(entry) = entries.next() {
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
    names.sort_unstable();
    Ok(names)
}

/// A path of an upper directory, as the image sees it.
pub(super) struct Node {
    /// Its metadata, overrides honoured, attributes of overlayfs and of ours left out.
    pub meta: Metadata,
    /// Nanoseconds of its modification time.
    pub nanos: u32,
    /// Device and inode, where it has more than one name.
    pub links: Option<(u64, u64)>,
    /// Open for reading: regular files and directories.
    pub file: Option<File>,
    /// A directory that hides what the layers below have under its name.
    pub opaque: bool,
}

/// Looks at the entry `name` that `walk` stands at. `owners` is the side file of the tree.
pub(super) fn look(walk: &Walk, name: &[u8], owners: &Owners) -> Result<Node, DiffError> {
    let dir = walk.dir()?;
    let mut stat = walk.stat(name)?;
    let mut file = None;
    if matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
        let opened = File::from(walk.open(name)?);
        // What is open is what will be read.
        stat = rustix::fs::fstat(&opened).map_err(|error| walk.error(error))?;
        file = Some(opened);
    }
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File { size: stat.st_size as u64 },
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink { target: walk.read_link(name)? },
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice { major: major(&stat), minor: minor(&stat) },
        FileType::BlockDevice => Kind::BlockDevice { major: major(&stat), minor: minor(&stat) },
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return Err(walk.error(Errno::INVAL)),
    };
    let is_dir = kind == Kind::Dir;
    let found = xattrs::read(dir, name).map_err(|error| walk.error(error))?;
    let (uid, gid) = image_ids(stat.st_uid, stat.st_gid);
    let mut meta = Metadata { kind, mode: stat.st_mode & 0o7777, uid, gid, mtime: stat.st_mtime, xattrs: found.image };
    if let Some(told) = found.replaced.as_ref().or_else(|| owners.get(walk.path())) {
        told.apply(&mut meta);
    }
    // A stand-in's own bytes are nothing.
    let file = file.filter(|_| matches!(meta.kind, Kind::File { .. } | Kind::Dir));
    let opaque = is_dir && xattrs::is_opaque(dir, name).map_err(|error| walk.error(error))?;
    let links = (!is_dir && stat.st_nlink > 1).then(|| id(&stat));
    Ok(Node { meta, nanos: stat.st_mtime_nsec as u32, links, file, opaque })
}

fn major(stat: &Stat) -> u32 {
    rustix::fs::major(stat.st_rdev)
}

fn minor(stat: &Stat) -> u32 {
    rustix::fs::minor(stat.st_rdev)
}
