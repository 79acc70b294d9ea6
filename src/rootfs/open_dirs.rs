//! Directories of a tree that nobody trusts, opened one name at a time: no symbolic link is ever followed.

use super::view::split;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// Directories kept open, by number. The usual limit of a process is 1024 descriptors, and each thread that copies has
/// two trees' directories open, in each of the stages that are built at the same time.
const KEPT: usize = 16;

/// A tree's directories, opened with `O_PATH`.
pub(super) struct OpenDirs {
    root: Rc<OwnedFd>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
}

impl OpenDirs {
    /// Those of the tree at `root`.
    pub(super) fn new(root: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Rc::new(rustix::fs::open(root, flags, Mode::empty())?);
        Ok(OpenDirs { root, open: HashMap::new() })
    }

    /// The directory `path`. An error says how much of the path led to it.
    pub(super) fn get(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, (usize, Errno)> {
        let mut known = path;
        let mut dir = loop {
            if known.is_empty() {
                break Rc::clone(&self.root);
            }
            if let Some(dir) = self.open.get(known) {
                break Rc::clone(dir);
            }
            known = super::view::parent(known);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = known.len();
        for name in split(&path[known.len()..]) {
            at = if at == 0 { name.len() } else { at + 1 + name.len() };
            dir = Rc::new(rustix::fs::openat(&*dir, name, flags, Mode::empty()).map_err(|errno| (at, errno))?);
            if self.open.len() >= KEPT {
                self.open.clear();
            }
            self.open.insert(path[..at].to_vec(), Rc::clone(&dir));
        }
        Ok(dir)
    }

    /// Forgets `path` and what is below: something else will be there.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.open.retain(|dir, _| !(dir.starts_with(path) && matches!(dir.get(path.len()), None | Some(b'/'))));
    }
}
