//! The files of an image, without the image: a tar of its tree, or the tree itself.

use super::SaveError;
use super::sink::{Target, at, whole_file};
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata};
use crate::rootfs::layer::TarWriter;
use crate::rootfs::{self, TreeStep};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file that could not be written as what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// A device: making one takes privilege.
    Device(Vec<u8>),
    /// An extended attribute that the file system or the kernel refused.
    Xattr {
        /// The path.
        path: Vec<u8>,
        /// The attribute.
        name: Vec<u8>,
    },
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftOut::Device(path) => {
                write!(f, "/{} was not written: making a device takes privilege", String::from_utf8_lossy(path))
            }
            LeftOut::Xattr { path, name } => write!(
                f,
                "/{} was written without its attribute {}, which the file system refused",
                String::from_utf8_lossy(path),
                String::from_utf8_lossy(name)
            ),
        }
    }
}

/// Writes the files of trees as one canonical tar, owners and all, each tree in the directory that it comes with (in none
/// where that is empty). Times after `epoch` (seconds since 1970) are set back to it. `to` cannot be a directory;
/// [`save_local`] is for that.
pub fn save_tar(trees: &[(String, &dyn SourceTree)], epoch: Option<i64>, to: Target) -> Result<(), SaveError> {
    let fill = |out: &mut dyn Write| {
        let mut tar = TarWriter::new(out, epoch);
        for (place, tree) in trees {
            append_tree(&mut tar, place, *tree)?;
        }
        tar.finish()?.flush().map_err(SaveError::from)
    };
    match to {
        Target::File(path) => whole_file(path, fill),
        Target::Stream(out) => fill(out),
        Target::Directory(dir) => Err(at(dir, io::ErrorKind::IsADirectory.into()).into()),
    }
}

fn append_tree(tar: &mut TarWriter<&mut dyn Write>, place: &str, tree: &dyn SourceTree) -> Result<(), SaveError> {
    if !place.is_empty() {
        let mtime = tree.metadata(b"").ok().flatten().map_or(0, |root| root.mtime);
        let dir = Metadata { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() };
        tar.append(place.as_bytes(), &dir, None)?;
    }
    rootfs::append_tree(tar, tree, b"", place.as_bytes())
}

fn open(tree: &dyn SourceTree, path: &[u8]) -> Result<Box<dyn Read + Send>, SaveError> {
    tree.open(path).map_err(|source| SaveError::Tree { path: path.to_vec(), source })
}

/// Writes the files of `tree` into the directory `dir`, made if there is none. All belong to the caller, as Docker has it:
/// an ordinary user could not give them away. What is there already stays, but for what has a name of the tree's; no
/// symbolic link in `dir` is followed. Returns what could not be made.
pub fn save_local(tree: &dyn SourceTree, dir: &Path) -> Result<Vec<LeftOut>, SaveError> {
    fs_err::create_dir_all(dir)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|errno| at(dir, errno.into()))?;
    let mut local = Local { tree, root: dir, dirs: vec![(root, None)], left_out: Vec::new() };
    rootfs::walk(tree, b"", |path, step| local.visit(path, step))?;
    Ok(local.left_out)
}

struct Local<'a> {
    tree: &'a dyn SourceTree,
    root: &'a Path,
    /// Open directories from the root down; each with the mode and time that it gets in the end.
    dirs: Vec<(OwnedFd, Option<Metadata>)>,
    left_out: Vec<LeftOut>,
}

impl Local<'_> {
    fn visit(&mut self, path: &[u8], step: TreeStep<'_>) -> Result<(), SaveError> {
        let name = OsStr::from_bytes(path.rsplit(|b| *b == b'/').next().unwrap_or(path));
        let error = |errno: Errno| SaveError::from(at(&self.root.join(OsStr::from_bytes(path)), errno.into()));
        match step {
            TreeStep::Leave => match self.dirs.pop() {
                Some((fd, Some(meta))) => self.finish(&File::from(fd), path, &meta),
                _ => Ok(()),
            },
            TreeStep::Link(first, _) => {
                self.clear(name, false).map_err(error)?;
                // The first name was made here just now, under directories that were made or opened here.
                let from = &self.dirs[0].0;
                let made = rustix::fs::linkat(from, OsStr::from_bytes(first), self.dir(), name, AtFlags::empty());
                match made {
                    // The first name is a device that could not be made.
                    Err(Errno::NOENT) if self.left_out.contains(&LeftOut::Device(first.to_vec())) => {
                        self.left_out.push(LeftOut::Device(path.to_vec()));
                        Ok(())
                    }
                    made => made.map_err(error),
                }
            }
            TreeStep::Entry(meta) => {
                self.clear(name, meta.is_dir()).map_err(error)?;
                self.make(path, name, meta)
            }
        }
    }

    fn dir(&self) -> &OwnedFd {
        &self.dirs[self.dirs.len() - 1].0
    }

    /// Makes room for `name`: removes what is there, but for a directory where one is wanted.
    fn clear(&self, name: &OsStr, want_dir: bool) -> Result<(), Errno> {
        match rustix::fs::statat(self.dir(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                rustix::fs::unlinkat(self.dir(), name, AtFlags::empty())
            }
            Ok(_) if want_dir => Ok(()),
            // Only an empty one: nobody's files are removed for the sake of an export.
            Ok(_) => rustix::fs::unlinkat(self.dir(), name, AtFlags::REMOVEDIR),
        }
    }

    fn make(&mut self, path: &[u8], name: &OsStr, meta: &Metadata) -> Result<(), SaveError> {
        let full = self.root.join(OsStr::from_bytes(path));
        let error = |errno: Errno| SaveError::from(at(&full, errno.into()));
        let private = Mode::RUSR | Mode::WUSR;
        match &meta.kind {
            Kind::Dir => {
                match rustix::fs::mkdirat(self.dir(), name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(error(errno)),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(self.dir(), name, flags, Mode::empty()).map_err(error)?;
                // One that was there may be closed to its owner; it gets its mode when all is in it.
                rustix::fs::fchmod(&fd, Mode::RWXU).map_err(error)?;
                self.dirs.push((fd, Some(meta.clone())));
                Ok(())
            }
            Kind::File { .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(self.dir(), name, flags, private).map_err(error)?);
                let mut data = open(self.tree, path)?;
                io::copy(&mut data, &mut file).map_err(|source| at(&full, source))?;
                self.finish(&file, path, meta)
            }
            Kind::Symlink { target } => {
                rustix::fs::symlinkat(OsStr::from_bytes(target), self.dir(), name).map_err(error)?;
                let times = times(meta);
                rustix::fs::utimensat(self.dir(), name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(error)
            }
            Kind::Fifo => self.node(path, name, meta, FileType::Fifo, 0),
            Kind::CharDevice { major, minor } => {
                self.node(path, name, meta, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::BlockDevice { major, minor } => {
                self.node(path, name, meta, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::Socket => Ok(()),
        }
    }

    fn node(
        &mut self,
        path: &[u8],
        name: &OsStr,
        meta: &Metadata,
        kind: FileType,
        device: u64,
    ) -> Result<(), SaveError> {
        let error = |errno: Errno| SaveError::from(at(&self.root.join(OsStr::from_bytes(path)), errno.into()));
        match rustix::fs::mknodat(self.dir(), name, kind, Mode::RUSR | Mode::WUSR, device) {
            Err(Errno::PERM | Errno::ACCESS) if kind != FileType::Fifo => {
                self.left_out.push(LeftOut::Device(path.to_vec()));
                return Ok(());
            }
            made => made.map_err(error)?,
        }
        let mode = Mode::from_raw_mode(meta.mode & 0o7777);
        rustix::fs::chmodat(self.dir(), name, mode, AtFlags::empty()).map_err(error)?;
        rustix::fs::utimensat(self.dir(), name, &times(meta), AtFlags::SYMLINK_NOFOLLOW).map_err(error)
    }

    /// Attributes, mode and time, in the order in which none undoes another.
    fn finish(&mut self, file: &File, path: &[u8], meta: &Metadata) -> Result<(), SaveError> {
        let error = |errno: Errno| SaveError::from(at(&self.root.join(OsStr::from_bytes(path)), errno.into()));
        for (name, value) in &meta.xattrs {
            match rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) => {
                    self.left_out.push(LeftOut::Xattr { path: path.to_vec(), name: name.clone() });
                }
                Err(errno) => return Err(error(errno)),
            }
        }
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(meta.mode & 0o7777)).map_err(error)?;
        rustix::fs::futimens(file.as_fd(), &times(meta)).map_err(error)
    }
}

fn times(meta: &Metadata) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
