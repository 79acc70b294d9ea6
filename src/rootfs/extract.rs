//! Unpacks a tar into a directory of a tree that is in use: what `docker cp` and the first content of a volume need.
//!
//! Unlike a layer it comes on top of what is there, whiteouts mean nothing in it, and the tree is no directory of the store's
//! but a root that commands live in: every path is resolved beneath it by the kernel, links as a process would follow
//! them whose root it is (`openat2`, `RESOLVE_IN_ROOT`).

use super::unpack::{Stream, UnpackError, stream};
use super::unpack_tar::{Entry, EntryKind, TarReader};
use super::view::{join, last, parent};
use super::xattrs;
use crate::overrides::record_owner;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, mkdirat, openat, openat2,
};
use rustix::io::Errno;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Who what is unpacked belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Whom the tar names.
    Kept,
    /// Whoever unpacks.
    Own,
    /// This user and this group.
    Of(u32, u32),
}

type Result<T> = std::result::Result<T, UnpackError>;

/// Unpacks `tar` (plain, gzip or zstd) below `at` of the tree `root`; the directory `at` is there.
pub fn extract<R: Read + Send>(root: BorrowedFd<'_>, at: &[u8], tar: R, ownership: Ownership) -> Result<()> {
    let mut extraction = Extraction { root, at, ownership, directories: Vec::new() };
    stream(tar, None, |reader| {
        while let Some(entry) = reader.next_entry()? {
            extraction.add(&entry, reader)?;
        }
        extraction.finish()
    })?;
    Ok(())
}

/// Opens `path` of the tree `root`, links followed inside it.
pub fn open_inside(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let relative = match path.iter().position(|b| *b != b'/') {
        Some(start) => &path[start..],
        None => b".",
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Whether nothing is in the directory `dir`.
pub fn is_empty(dir: &Path) -> std::io::Result<bool> {
    Ok(fs_err::read_dir(dir)?.next().is_none())
}

struct Extraction<'a> {
    root: BorrowedFd<'a>,
    at: &'a [u8],
    ownership: Ownership,
    /// Directories with the times that they get when all is in them.
    directories: Vec<(OwnedFd, i64)>,
}

impl Extraction<'_> {
    fn add(&mut self, entry: &Entry, reader: &mut TarReader<Stream>) -> Result<()> {
        let path = plain(&entry.path)?;
        let failed = |errno: Errno| failed(&path, errno);
        if path.is_empty() {
            return if entry.kind == EntryKind::Dir { Ok(()) } else { Err(failed(Errno::ISDIR)) };
        }
        let full = join(self.at, &path);
        let dir = self.parent(parent(&full)).map_err(failed)?;
        let name = last(&full);
        match entry.kind {
            EntryKind::Dir => {
                let made = self.directory(&dir, name, &full).map_err(failed)?;
                self.finish_node(&made, b".", entry).map_err(failed)?;
                self.directories.push((made, entry.mtime));
                return Ok(());
            }
            EntryKind::File => self.file(&dir, name, &path, reader)?,
            EntryKind::HardLink => {
                let target = join(self.at, &plain(&entry.link)?);
                clear(&dir, name).map_err(failed)?;
                let from = self.parent(parent(&target)).map_err(failed)?;
                let link = rustix::fs::linkat(&from, last(&target), &dir, name, AtFlags::empty());
                return link.map_err(failed);
            }
            EntryKind::Symlink => {
                clear(&dir, name).and_then(|()| rustix::fs::symlinkat(&entry.link[..], &dir, name)).map_err(failed)?;
            }
            EntryKind::Fifo => node(&dir, name, FileType::Fifo, 0).map_err(failed)?,
            EntryKind::Char(major, minor) => {
                node(&dir, name, FileType::CharacterDevice, rustix::fs::makedev(major, minor)).map_err(failed)?;
            }
            EntryKind::Block(major, minor) => {
                node(&dir, name, FileType::BlockDevice, rustix::fs::makedev(major, minor)).map_err(failed)?;
            }
        }
        self.finish_node(&dir, name, entry).map_err(failed)?;
        let times = times(entry.mtime);
        rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// The directory `path` of the tree, made if it is not there.
    fn parent(&self, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match open_inside(self.root, path, flags) {
            Err(Errno::NOENT) if !path.is_empty() => {
                let above = self.parent(parent(path))?;
                match mkdirat(&above, last(path), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => open_inside(self.root, path, flags),
                    Err(errno) => Err(errno),
                }
            }
            other => other,
        }
    }

    fn directory(&self, dir: &OwnedFd, name: &[u8], full: &[u8]) -> std::result::Result<OwnedFd, Errno> {
        match mkdirat(dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        // What is there may be a link to a directory: that one is meant.
        open_inside(self.root, full, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn file(&self, dir: &OwnedFd, name: &[u8], path: &[u8], reader: &mut TarReader<Stream>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let opened = match clear(dir, name) {
            Ok(()) => openat(dir, name, flags | OFlags::EXCL, private),
            // Something is mounted there: that file gets the content.
            Err(Errno::BUSY) => openat(dir, name, flags | OFlags::TRUNC, private),
            Err(errno) => Err(errno),
        };
        let mut file = std::fs::File::from(opened.map_err(|errno| failed(path, errno))?);
        loop {
            let piece = reader.data()?;
            if piece.is_empty() {
                return Ok(());
            }
            let length = piece.len();
            file.write_all(piece).map_err(UnpackError::Write)?;
            reader.consume(length);
        }
    }

    /// Owner, attributes and mode, in the order in which none undoes another.
    fn finish_node(&self, dir: &OwnedFd, name: &[u8], entry: &Entry) -> std::result::Result<(), Errno> {
        let link = entry.kind == EntryKind::Symlink;
        let mut refused = false;
        let owner = match self.ownership {
            Ownership::Kept => Some((entry.uid, entry.gid)),
            Ownership::Of(uid, gid) => Some((uid, gid)),
            Ownership::Own => None,
        };
        if let Some((uid, gid)) = owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            match rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
                // Not ours to give, or not in the id map: what can hold it says so itself.
                Err(Errno::PERM | Errno::INVAL) => refused = true,
                other => other?,
            }
        }
        if self.ownership == Ownership::Kept {
            for (key, value) in &entry.xattrs {
                match xattrs::set(dir, name, key, value) {
                    Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) => {}
                    other => other?,
                }
            }
        }
        if link {
            return Ok(());
        }
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())?;
        if let Some((uid, gid)) = owner.filter(|_| refused && matches!(entry.kind, EntryKind::File | EntryKind::Dir)) {
            let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
            let path = path.join(std::ffi::OsStr::new(std::str::from_utf8(name).map_err(|_| Errno::NOTSUP)?));
            record_owner(&path, uid, gid)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        while let Some((dir, mtime)) = self.directories.pop() {
            rustix::fs::futimens(&dir, &times(mtime)).map_err(|errno| failed(b"", errno))?;
        }
        Ok(())
    }
}

/// A name of a tar as a relative path that does not lead upwards.
fn plain(name: &[u8]) -> Result<Vec<u8>> {
    let mut path = Vec::new();
    for part in name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            let path = String::from_utf8_lossy(name).into_owned();
            return Err(UnpackError::Path { path, why: "leads out of the directory" });
        }
        path = join(&path, part);
    }
    Ok(path)
}

/// Removes what is at `name`, but for a directory with something in it.
fn clear(dir: &OwnedFd, name: &[u8]) -> std::result::Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn node(dir: &OwnedFd, name: &[u8], kind: FileType, device: u64) -> std::result::Result<(), Errno> {
    clear(dir, name)?;
    rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn failed(path: &[u8], errno: Errno) -> UnpackError {
    let error = std::io::Error::from(errno);
    UnpackError::Write(std::io::Error::new(
        error.kind(),
        format!("cannot write '{}': {error}", String::from_utf8_lossy(path)),
    ))
}
