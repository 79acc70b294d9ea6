//! Makes single files of a layer, with all that its tar says about them: the part of [`Tree`] that makes the system calls.
//!
//! What the file system refuses is recorded as `overrides.rs` says.

use super::unpack_tree::{Result, Tree};
use super::view::last;
use super::xattrs;
use crate::oci::layer::{Kind, Metadata};
use crate::overrides::{OVERRIDE, Override, SHELVED, Type, image_ids, own_bits};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

impl Tree<'_> {
    /// Makes the bare node; gives the file open for writing where it is a regular one.
    pub(super) fn make_node(
        &self,
        dir: impl AsFd,
        path: &[u8],
        metadata: &Metadata,
    ) -> std::result::Result<Option<std::fs::File>, Errno> {
        let name = last(path);
        let regular = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&dir, name, flags, Mode::RUSR | Mode::WUSR).map(|fd| Some(fd.into()))
        };
        let device = |kind: FileType, major: u32, minor: u32| {
            let number = rustix::fs::makedev(major, minor);
            let held = (rustix::fs::major(number), rustix::fs::minor(number)) == (major, minor);
            // A character device 0:0 would be a whiteout.
            if number == 0 || !held {
                return regular();
            }
            match rustix::fs::mknodat(&dir, name, kind, Mode::empty(), number) {
                Err(Errno::PERM) => regular(),
                made => made.map(|()| None),
            }
        };
        match &metadata.kind {
            Kind::File { .. } => regular(),
            Kind::Symlink { target } => rustix::fs::symlinkat(&target[..], &dir, name).map(|()| None),
            Kind::Fifo => rustix::fs::mknodat(&dir, name, FileType::Fifo, Mode::empty(), 0).map(|()| None),
            Kind::CharDevice { major, minor } => device(FileType::CharacterDevice, *major, *minor),
            Kind::BlockDevice { major, minor } => device(FileType::BlockDevice, *major, *minor),
            Kind::Dir | Kind::Socket => Err(Errno::INVAL),
        }
    }

    /// Owner, xattrs, mode and time of `name` in `dir`, in the order in which they do not undo each other: a change of owner
    /// clears set-id bits and capabilities, and everything before the time changes nothing but it.
    pub(super) fn finish_node(&mut self, dir: impl AsFd, name: &[u8], path: &[u8], metadata: &Metadata) -> Result<()> {
        let found =
            rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.failed(path, "stat", e))?;
        let file_type = FileType::from_raw_mode(found.st_mode);
        let holds_xattrs = matches!(file_type, FileType::RegularFile | FileType::Directory);
        let owned = self.give(&dir, name, metadata, &found).map_err(|e| self.failed(path, "change the owner of", e))?;
        if file_type != FileType::Symlink {
            self.set_xattrs(&dir, name, path, metadata, holds_xattrs)?;
        }
        let mut mode = metadata.mode;
        if !owned {
            mode &= 0o777;
        }
        if self.ids.0 != 0 {
            // Without root's rights even we could not read it otherwise.
            mode |= own_bits(mode, file_type == FileType::Directory);
        }
        let wanted = Override::of(metadata).ok_or_else(|| self.failed(path, "make", Errno::INVAL))?;
        let held = owned && (mode == metadata.mode || file_type == FileType::Symlink) && same_type(&found, wanted.kind);
        match (held, holds_xattrs) {
            (true, _) => {}
            (false, true) => {
                let text = wanted.to_string();
                xattrs::set(&dir, name, OVERRIDE.as_bytes(), text.as_bytes())
                    .map_err(|e| self.failed(path, "record the owner of", e))?;
            }
            (false, false) => self.owners.insert(path.to_vec(), wanted),
        }
        if file_type != FileType::Symlink {
            rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(|e| self.failed(path, "change the mode of", e))?;
        }
        let time = Timespec { tv_sec: metadata.mtime, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.failed(path, "set the time of", e))
    }

    /// Changes the owner; false where the file system or the id map does not let us.
    fn give(&self, dir: impl AsFd, name: &[u8], metadata: &Metadata, found: &Stat) -> std::result::Result<bool, Errno> {
        if image_ids(found.st_uid, found.st_gid) == (metadata.uid, metadata.gid) {
            return Ok(true);
        }
        // An ordinary user may give nothing away, and what it could give itself would be root's to whoever reads it.
        if !rustix::process::geteuid().is_root() {
            return Ok(false);
        }
        // To chown(2) this means "leave it".
        if metadata.uid == u32::MAX || metadata.gid == u32::MAX {
            return Ok(false);
        }
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        match rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::INVAL | Errno::OVERFLOW) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn set_xattrs(&self, dir: impl AsFd, name: &[u8], path: &[u8], metadata: &Metadata, shelve: bool) -> Result<()> {
        for (key, value) in &metadata.xattrs {
            match xattrs::set(&dir, name, key, value) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL | Errno::ACCESS) if shelve => {
                    let shelved = [SHELVED.as_bytes(), key].concat();
                    xattrs::set(&dir, name, &shelved, value).map_err(|e| self.failed(path, "set an xattr of", e))?;
                }
                // Linux has no `user.` xattrs on pipes and devices; a tar made elsewhere may.
                Err(Errno::PERM | Errno::NOTSUP) => {}
                Err(errno) => return Err(self.failed(path, "set an xattr of", errno)),
            }
        }
        Ok(())
    }
}

fn same_type(found: &Stat, wanted: Type) -> bool {
    match (FileType::from_raw_mode(found.st_mode), wanted) {
        (FileType::RegularFile, Type::File) => true,
        // Made as told, or a stand-in, which is a regular file.
        (FileType::RegularFile, _) => false,
        _ => true,
    }
}
