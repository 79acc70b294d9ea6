//! Copies files from one tree to another as they are: content, owner, mode, xattrs (our own records included), times,
//! devices, hard links. Neither tree is trusted: nothing is looked up through a symbolic link.

use super::open_dirs::OpenDirs;
use super::view::{last, parent};
use super::xattrs;
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What becomes of the further names of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// They stay names of one file.
    Keep,
    /// Each becomes a file of its own, as if it had been copied up by overlayfs, which gives a name that is written to a copy
    /// of its own. Only where that takes less than [`SPLIT`] for all names of one file: past that they stay links.
    Split,
}

/// Bytes that splitting the names of one file may take. Busybox images have hundreds of names for one program of a megabyte;
/// nobody writes to such a file in place.
const SPLIT: u64 = 16 << 20;

/// A copy in progress.
pub(super) struct NodeCopy {
    from: OpenDirs,
    to: OpenDirs,
    from_path: PathBuf,
    to_path: PathBuf,
    links: Links,
    /// First name copied, of each inode with several that stay links.
    copied: HashMap<(u64, u64), Vec<u8>>,
    linked: bool,
    /// Directories that are there and get their metadata at the end: filling them changes their times.
    dirs: BTreeSet<Vec<u8>>,
    /// The file system has not refused to share blocks yet.
    reflink: bool,
}

impl NodeCopy {
    /// From the tree at `from` to the one at `to`.
    pub(super) fn new(from: &Path, to: &Path, links: Links) -> io::Result<Self> {
        let open = |path: &Path| OpenDirs::new(path).map_err(|errno| named(path, b"", "open", errno));
        Ok(NodeCopy {
            from: open(from)?,
            to: open(to)?,
            from_path: from.to_path_buf(),
            to_path: to.to_path_buf(),
            links,
            copied: HashMap::new(),
            linked: false,
            dirs: BTreeSet::new(),
            reflink: true,
        })
    }

    /// Makes sure that there are the directory `path` and those above it, each to be as it is in the source.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<()> {
        if self.dirs.contains(path) {
            return Ok(());
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        let missing: Vec<usize> =
            [0].into_iter().chain(ends).chain([path.len()]).filter(|end| !self.dirs.contains(&path[..*end])).collect();
        for end in missing {
            let dir = &path[..end];
            if end > 0 {
                self.make_directory(dir)?;
            }
            self.dirs.insert(dir.to_vec());
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8]) -> io::Result<()> {
        let dir = self.target(parent(path))?;
        match rustix::fs::mkdirat(&*dir, last(path), Mode::RWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed(path, "make", errno)),
        }
        let there = rustix::fs::statat(&*dir, last(path), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed(path, "stat", errno))?;
        if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.remove(path)?;
        rustix::fs::mkdirat(&*dir, last(path), Mode::RWXU).map_err(|errno| self.failed(path, "make", errno))
    }

    /// Takes away what the target has at `path`, which may be nothing.
    pub(super) fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let dir = self.target(parent(path))?;
        self.to.forget(path);
        sys::remove_at(dir.as_fd(), last(path)).map_err(|errno| self.failed(path, "remove", errno))
    }

    /// Takes away what the target has in the directory `path`, if that is one.
    pub(super) fn clear(&mut self, path: &[u8]) -> io::Result<()> {
        let dir = self.target(parent(path))?;
        self.to.forget(path);
        match sys::empty_at(dir.as_fd(), last(path)) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            done => done.map_err(|errno| self.failed(path, "empty", errno)),
        }
    }

    /// Copies `path`, with the directories above it; of a directory only itself. False where the source has nothing there.
    pub(super) fn node(&mut self, path: &[u8]) -> io::Result<bool> {
        let from = match self.from.get(parent(path)) {
            Err((_, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => return Ok(false),
            found => found.map_err(|(at, errno)| named(&self.from_path, &path[..at], "open", errno))?,
        };
        let stat = match rustix::fs::statat(&*from, last(path), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            found => found.map_err(|errno| named(&self.from_path, path, "stat", errno))?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.directory(path)?;
        } else {
            self.directory(parent(path))?;
            self.leaf(path)?;
        }
        Ok(true)
    }

    /// Makes a whiteout in the target, and the directories above it; false where the file system refuses that.
    pub(super) fn whiteout(&mut self, path: &[u8]) -> io::Result<bool> {
        self.directory(parent(path))?;
        let dir = self.target(parent(path))?;
        match rustix::fs::mknodat(&*dir, last(path), FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(true),
            Err(Errno::PERM) => Ok(false),
            Err(errno) => Err(self.failed(path, "make a whiteout at", errno)),
        }
    }

    /// Copies `path`, which is no directory, in the place of whatever the target has there. Its directory must be there.
    pub(super) fn leaf(&mut self, path: &[u8]) -> io::Result<()> {
        let from = self.source(parent(path))?;
        let to = self.target(parent(path))?;
        let name = last(path);
        let stat = rustix::fs::statat(&*from, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| named(&self.from_path, path, "stat", errno))?;
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.copied.get(&inode).cloned() {
            let first_dir = self.target(parent(&first))?;
            let link = || rustix::fs::linkat(&*first_dir, last(&first), &*to, name, AtFlags::empty());
            self.linked = true;
            return self.replacing(path, "link", link);
        }
        let file = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(self.make_file(&from, &to, path, &stat)?),
            kind => {
                self.make_other(&from, &to, path, kind, &stat)?;
                None
            }
        };
        finish(&from, &to, name, &stat, file.as_ref())
            .map_err(|errno| self.failed(path, "set the attributes of", errno))?;
        if stat.st_nlink > 1 && self.keeps_links(&stat) {
            self.copied.insert(inode, path.to_vec());
        }
        Ok(())
    }

    /// Gives directories what the source has for them, and ends the copy; tells whether it made hard links.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        let dirs = std::mem::take(&mut self.dirs);
        // Deepest first: one may forbid to enter it.
        for path in dirs.iter().rev() {
            let name = if path.is_empty() { b"." } else { last(path) };
            let (from, to) = (self.source(parent(path))?, self.target(parent(path))?);
            let stat = rustix::fs::statat(&*from, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| named(&self.from_path, path, "stat", errno))?;
            finish(&from, &to, name, &stat, None).map_err(|errno| self.failed(path, "set the attributes of", errno))?;
        }
        Ok(self.linked)
    }

    fn keeps_links(&self, stat: &Stat) -> bool {
        self.links == Links::Keep || !splits(stat)
    }

    fn make_file(&mut self, from: &OwnedFd, to: &OwnedFd, path: &[u8], stat: &Stat) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, last(path), flags, Mode::empty())
            .map_err(|errno| named(&self.from_path, path, "open", errno))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(to, last(path), flags, Mode::RUSR | Mode::WUSR);
        let (source, target) = (File::from(source), File::from(self.replacing(path, "make", make)?));
        self.copy_data(&source, &target, stat).map_err(|error| {
            let shown = self.to_path.join(OsStr::from_bytes(path));
            io::Error::new(error.kind(), format!("failed to copy to {}: {error}", shown.display()))
        })?;
        Ok(target)
    }

    fn make_other(&mut self, from: &OwnedFd, to: &OwnedFd, path: &[u8], kind: FileType, stat: &Stat) -> io::Result<()> {
        if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(from, last(path), Vec::new())
                .map_err(|errno| named(&self.from_path, path, "read the link", errno))?;
            return self.replacing(path, "make", || rustix::fs::symlinkat(&target, to, last(path)));
        }
        // A directory that is taken for something else would be EINVAL here.
        self.replacing(path, "make", || rustix::fs::mknodat(to, last(path), kind, Mode::empty(), stat.st_rdev))
    }

    /// Does `make`, after removing what stands in its place if need be.
    fn replacing<T>(&mut self, path: &[u8], action: &str, make: impl Fn() -> Result<T, Errno>) -> io::Result<T> {
        let mut made = make();
        if let Err(Errno::EXIST) = made {
            self.remove(path)?;
            made = make();
        }
        made.map_err(|errno| self.failed(path, action, errno))
    }

    /// Shares the blocks where the file system can, else copies what is not a hole.
    fn copy_data(&mut self, from: &File, to: &File, stat: &Stat) -> io::Result<()> {
        let size = stat.st_size as u64;
        if size == 0 {
            return Ok(());
        }
        if self.reflink {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(_) => self.reflink = false,
            }
        }
        // Blocks of 512 bytes, see stat(3type).
        if stat.st_blocks as u64 * 512 >= size {
            return copy_range(from, to, 0, size);
        }
        let mut at = 0;
        while at < size {
            let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Ok(start) => start,
                // Nothing but a hole is left.
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno.into()),
            };
            let end = rustix::fs::seek(from, SeekFrom::Hole(start))?.min(size);
            copy_range(from, to, start, end)?;
            at = end;
        }
        to.set_len(size)
    }

    fn source(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        self.from.get(path).map_err(|(at, errno)| named(&self.from_path, &path[..at], "open", errno))
    }

    fn target(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        self.to.get(path).map_err(|(at, errno)| named(&self.to_path, &path[..at], "open", errno))
    }

    fn failed(&self, path: &[u8], action: &str, errno: Errno) -> io::Error {
        named(&self.to_path, path, action, errno)
    }
}

/// Whether the names of this file become files of their own under [`Links::Split`].
pub(super) fn splits(stat: &Stat) -> bool {
    let further = u64::from(stat.st_nlink as u32).saturating_sub(1);
    further > 0 && (stat.st_size as u64).saturating_mul(further) <= SPLIT
}

/// Copies the bytes from `start` to `end`.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let length = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length) {
            // Shorter than it was: somebody cut it meanwhile.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return read_and_write(from, to, read_at, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// For file systems without `copy_file_range(2)` between them.
fn read_and_write(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 256 << 10];
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        match from.read_at(&mut buffer[..length], at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                to.write_all_at(&buffer[..got], at)?;
                at += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Owner, xattrs, mode and times, in the order in which they do not undo each other: a change of owner clears set-id bits and
/// capabilities. `file` is the target, where that is open.
fn finish(from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &Stat, file: Option<&File>) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    // The types of these fields differ between architectures.
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    };
    match file {
        Some(file) => rustix::fs::fchown(file, Some(uid), Some(gid))?,
        None => rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?,
    }
    xattrs::copy((from, name), (to, name))?;
    match file {
        Some(file) => rustix::fs::fchmod(file, mode)?,
        None if kind == FileType::Symlink => {}
        None => rustix::fs::chmodat(to, name, mode, AtFlags::empty())?,
    }
    match file {
        Some(file) => rustix::fs::futimens(file, &times),
        None => rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW),
    }
}

fn named(root: &Path, path: &[u8], action: &str, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    let shown = root.join(OsStr::from_bytes(path));
    io::Error::new(error.kind(), format!("failed to {action} {}: {error}", shown.display()))
}
