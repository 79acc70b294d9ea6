//! The way from a context's root to a directory: one open handle for each name on it, the last way kept.
//!
//! Each is opened by its name in the one above with no symbolic link followed, so a path cannot leave the root.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The directories on the way to the one used last, from the root's entry down.
#[derive(Debug)]
pub(super) struct Chain {
    root: Arc<OwnedFd>,
    levels: Vec<(Vec<u8>, Arc<OwnedFd>)>,
}

impl Chain {
    /// A way that begins, and as yet ends, at `root`.
    pub fn new(root: Arc<OwnedFd>) -> Chain {
        Chain { root, levels: Vec::new() }
    }

    /// The handle of the directory `path`, or `None` where there is no such directory (a symbolic link is none).
    pub fn walk_to(&mut self, path: &[u8]) -> Result<Option<Arc<OwnedFd>>, Errno> {
        let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        let known = names.clone().zip(&self.levels).take_while(|(name, (known, _))| name == known).count();
        self.levels.truncate(known);
        for name in names.skip(known) {
            if name == b".." {
                return Ok(None);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(self.end(), name, flags, Mode::empty()) {
                Ok(fd) => self.levels.push((name.to_vec(), Arc::new(fd))),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        Ok(Some(self.end().clone()))
    }

    fn end(&self) -> &Arc<OwnedFd> {
        self.levels.last().map_or(&self.root, |(_, fd)| fd)
    }
}
