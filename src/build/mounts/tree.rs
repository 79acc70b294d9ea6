//! Writing (a part of) a [`SourceTree`] into a directory, to be mounted.

use super::MountError;
use crate::build::StepError;
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata};
use crate::overrides::record_owner;
use crate::sandbox::has_one_id;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Copies what is at `path` (no link) to the same place below `dir`, whose mode becomes that of the tree's root.
pub(super) fn copy_tree(tree: &dyn SourceTree, path: &[u8], dir: &Path) -> Result<(), StepError> {
    let mut above = Vec::new();
    for name in path.split(|b| *b == b'/').filter(|_| !path.is_empty()) {
        let at = dir.join(OsStr::from_bytes(&above));
        if !above.is_empty() {
            fs_err::create_dir(&at)?;
        }
        if let Some(meta) = tree.metadata(&above)? {
            fs_err::set_permissions(&at, std::fs::Permissions::from_mode(meta.mode))?;
        }
        above = join(&above, name);
    }
    Copier { tree, links: HashMap::new() }.copy(path, &dir.join(OsStr::from_bytes(path)))
}

/// Copies what the directory `path` holds into `dir`.
pub(super) fn copy_below(tree: &dyn SourceTree, path: &[u8], dir: &Path) -> Result<(), StepError> {
    Copier { tree, links: HashMap::new() }.copy(path, dir)
}

/// Makes `uid` and `gid` the owner of `path`, which then gets the mode `mode` if there is one. Where the map does not hold
/// the ids that is recorded, as steps with one id see it.
pub(super) fn give(path: &Path, uid: u32, gid: u32, mode: Option<u32>) -> Result<(), StepError> {
    let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let held = match rustix::fs::chownat(CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => true,
        // The kernel's words for an id that the map does not hold, and for a process without the right.
        Err(Errno::INVAL | Errno::PERM) => false,
        Err(errno) => return Err(failed(path.as_os_str().as_bytes(), errno)),
    };
    if let Some(mode) = mode {
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    if held {
        return Ok(());
    }
    if !has_one_id()? {
        return Err(MountError::Owner { path: path.to_path_buf(), uid, gid }.into());
    }
    match record_owner(path, uid, gid) {
        // A link or a socket: to a step with one id these are root's, which keeps nobody from using them.
        Err(Errno::NOTSUP) if !path.symlink_metadata().is_ok_and(|found| found.is_file() || found.is_dir()) => Ok(()),
        Err(Errno::NOTSUP) => Err(MountError::Owner { path: path.to_path_buf(), uid, gid }.into()),
        other => other.map_err(|errno| failed(path.as_os_str().as_bytes(), errno)),
    }
}

fn failed(path: &[u8], error: impl Into<io::Error>) -> StepError {
    MountError::Copy { path: PathBuf::from(OsStr::from_bytes(path)), source: error.into() }.into()
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

struct Copier<'a> {
    tree: &'a dyn SourceTree,
    /// Files with several names, and where the first of them went.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier<'_> {
    fn copy(&mut self, path: &[u8], to: &Path) -> Result<(), StepError> {
        let Some(meta) = self.tree.metadata(path)? else {
            return Err(failed(path, io::ErrorKind::NotFound));
        };
        match &meta.kind {
            Kind::Dir => self.directory(path, to)?,
            Kind::File { .. } => {
                let identity = self.tree.link_identity(path)?;
                if let Some(first) = identity.and_then(|identity| self.links.get(&identity)) {
                    return Ok(fs_err::hard_link(first, to)?);
                }
                if let Some(identity) = identity {
                    self.links.insert(identity, to.to_path_buf());
                }
                self.file(path, to)?;
            }
            Kind::Symlink { target } => fs_err::os::unix::fs::symlink(OsStr::from_bytes(target), to)?,
            Kind::Fifo => node(to, FileType::Fifo, 0).map_err(|errno| failed(path, errno))?,
            Kind::CharDevice { major, minor } => {
                let device = rustix::fs::makedev(*major, *minor);
                node(to, FileType::CharacterDevice, device).map_err(|errno| failed(path, errno))?;
            }
            Kind::BlockDevice { major, minor } => {
                let device = rustix::fs::makedev(*major, *minor);
                node(to, FileType::BlockDevice, device).map_err(|errno| failed(path, errno))?;
            }
            // Nobody listens on a copy.
            Kind::Socket => return Ok(()),
        }
        finish(path, to, &meta)
    }

    fn directory(&mut self, path: &[u8], to: &Path) -> Result<(), StepError> {
        if !to.is_dir() {
            fs_err::create_dir(to)?;
        }
        for name in self.tree.read_dir(path)? {
            self.copy(&join(path, &name), &to.join(OsStr::from_bytes(&name)))?;
        }
        Ok(())
    }

    fn file(&self, path: &[u8], to: &Path) -> Result<(), StepError> {
        let mut from = self.tree.open(path)?;
        // Not fs_err's: it would name the copy where reading the original fails.
        let mut file = File::create_new(to).map_err(|error| failed(path, error))?;
        let mut buffer = vec![0; 1 << 17];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => file.write_all(&buffer[..n]).map_err(|error| failed(path, error))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(path, error)),
            }
        }
    }
}

fn node(path: &Path, kind: FileType, device: u64) -> Result<(), Errno> {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device)
}

/// Owner, mode, attributes and time of what was made.
fn finish(path: &[u8], to: &Path, meta: &Metadata) -> Result<(), StepError> {
    let failed = |errno: Errno| failed(path, errno);
    give(to, meta.uid, meta.gid, (!matches!(meta.kind, Kind::Symlink { .. })).then_some(meta.mode))?;
    for (name, value) in &meta.xattrs {
        rustix::fs::lsetxattr(to, &name[..], value, XattrFlags::empty()).map_err(failed)?;
    }
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ContextDir;
    use crate::context::ignore::IgnoreFile;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_part_arrives_as_it_is_without_what_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        for name in ["top", "a/x", "a/left out", "a/b/y"] {
            fs::write(at(name), name).unwrap();
        }
        fs::hard_link(at("a/x"), at("a/second")).unwrap();
        symlink("/etc/passwd", at("a/link")).unwrap();
        fs::set_permissions(at("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(at(".dockerignore"), "a/left*\n").unwrap();
        std::os::unix::fs::chown(at("a/b/y"), Some(1234), Some(1234)).unwrap();
        let context = ContextDir::open(dir.path(), IgnoreFile::find(dir.path(), None).unwrap()).unwrap();

        let out = tempfile::tempdir().unwrap();
        copy_tree(&context, b"a", out.path()).unwrap();
        let stat = |name: &str| fs::symlink_metadata(out.path().join(name)).unwrap();
        assert!(!out.path().join("top").exists() && !out.path().join("a/left out").exists());
        assert_eq!(fs::read_to_string(out.path().join("a/b/y")).unwrap(), "a/b/y");
        assert_eq!((stat("a/b/y").uid(), stat("a/b").mode() & 0o7777), (0, 0o700));
        assert_eq!(stat("a/x").ino(), stat("a/second").ino());
        assert_eq!(stat("a/x").mtime(), fs::metadata(at("a/x")).unwrap().mtime());
        assert_eq!(fs::read_link(out.path().join("a/link")).unwrap(), Path::new("/etc/passwd"));

        let out = tempfile::tempdir().unwrap();
        copy_tree(&context, b"a/b/y", out.path()).unwrap();
        assert!(out.path().join("a/b/y").is_file() && !out.path().join("a/x").exists());
        let out = tempfile::tempdir().unwrap();
        copy_below(&context, b"a/b", out.path()).unwrap();
        assert!(out.path().join("y").is_file());
    }
}
