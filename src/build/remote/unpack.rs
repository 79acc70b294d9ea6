//! Archives that are contexts: unpacked into a directory of our own.

use super::{FileTree, RemoteError};
use crate::build::copy::{self, Change, Changes, CopyRequest};
use crate::context::EmptyTree;
use crate::oci::layer::{Kind, Metadata};
use fs_err as fs;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Unpacks the file of `archive` into the empty directory `into`, which nobody else may write to; `from` is what messages
/// call it. Gives `false`, and does nothing, where the file is no tar with at least one member, compressed or not.
///
/// Owners are not kept: in a context everything belongs to root. Devices and names of deletions (`.wh.x`) are errors.
pub fn unpack(archive: &FileTree, into: &Path, spool: &Path, from: &str) -> Result<bool, RemoteError> {
    let broken = |source: copy::CopyError| RemoteError::Archive { from: from.to_string(), source: Box::new(source) };
    if !copy::is_archive(archive, archive.name.as_bytes())? {
        return Ok(false);
    }
    let request = CopyRequest {
        sources: std::slice::from_ref(&archive.name),
        is_add: true,
        unpack: Some(true),
        ..CopyRequest::PLAIN
    };
    let changes = copy::copy(&request, archive, &EmptyTree, spool).map_err(broken)?;
    Writer { changes: &changes, archive, into, from }.write().map(|()| true)
}

/// Writes changes of an empty tree. Each path is there once, after the directory that holds it, and that directory is an
/// entry itself: no link can be on the way.
struct Writer<'a> {
    changes: &'a Changes,
    archive: &'a FileTree,
    into: &'a Path,
    from: &'a str,
}

impl Writer<'_> {
    fn write(&self) -> Result<(), RemoteError> {
        let mut directories = Vec::new();
        for (path, change) in self.changes.iter() {
            let target = self.place(path);
            match change {
                Change::Entry { meta, data } if meta.is_dir() => {
                    debug_assert_eq!(*data, copy::Data::None);
                    if !path.is_empty() {
                        fs::create_dir(&target)?;
                    }
                    fs::set_permissions(&target, std::fs::Permissions::from_mode(0o700))?;
                    directories.push((target, meta));
                }
                Change::Entry { meta, data } => self.entry(&target, path, meta, data)?,
                Change::Hardlink { to } => fs::hard_link(self.place(to), &target)?,
                Change::Whiteout | Change::Opaque => return Err(self.refuse(path, "a file called like a deletion")),
            }
        }
        // Last and deepest first: filling a directory changes its time, and it may forbid to be entered.
        for (target, meta) in directories.iter().rev() {
            finish(target, meta)?;
        }
        Ok(())
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        self.into.join(OsStr::from_bytes(path))
    }

    fn refuse(&self, path: &[u8], what: &'static str) -> RemoteError {
        let path = String::from_utf8_lossy(path).into_owned();
        RemoteError::Member { from: self.from.to_string(), path, what }
    }

    fn entry(&self, target: &Path, path: &[u8], meta: &Metadata, data: &copy::Data) -> Result<(), RemoteError> {
        match &meta.kind {
            Kind::File { .. } => {
                let mut file = fs::OpenOptions::new().write(true).create_new(true).open(target)?;
                let mut from = self.changes.open(data, self.archive, &EmptyTree)?;
                io::copy(&mut from, &mut file)?;
            }
            Kind::Symlink { target: text } => fs::os::unix::fs::symlink(OsStr::from_bytes(text), target)?,
            Kind::Fifo => rustix::fs::mknodat(CWD, target, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .map_err(|errno| at(target, errno))?,
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
                return Err(self.refuse(path, "a device"));
            }
            Kind::Dir | Kind::Socket => return Ok(()),
        }
        Ok(finish(target, meta)?)
    }
}

/// Attributes, mode and time of what was just made.
fn finish(target: &Path, meta: &Metadata) -> io::Result<()> {
    let failed = |errno| at(target, errno);
    if !matches!(meta.kind, Kind::Symlink { .. }) {
        for (name, value) in meta.xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")) {
            let set = rustix::fs::lsetxattr(target, OsStr::from_bytes(name), value, XattrFlags::empty());
            set.map_err(failed)?;
        }
        fs::set_permissions(target, std::fs::Permissions::from_mode(meta.mode & 0o7777))?;
    }
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

fn at(path: &Path, errno: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("cannot make {}: {error}", path.display()))
}
