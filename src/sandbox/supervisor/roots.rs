//! `chroot` in a step. The kernel's root stays the step's, out of which nothing leads. The other one is kept with the process,
//! whose children have it, too, and every path of such a process is followed by hand (`Eyes::locate`); its programs are
//! run as those of a tree that is nobody's root ([`super::load`]).

use std::sync::Arc;

use rustix::io::Errno;

use super::Answer;
use super::call::{Address, CWD, PathArgument};
use super::capability::Capability;
use super::path::{self, Last, Rules, ViewPath};
use super::view::Eyes;

impl Eyes<'_> {
    /// `chroot`.
    pub(super) fn chroot(&mut self, argument: &PathArgument) -> Result<Answer, Errno> {
        let path = self.path(argument)?;
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        self.as_self()?;
        let root = self.own_root();
        let start = if path[0] == b'/' { root.clone() } else { self.start(argument.dirfd)? };
        // What a link of /proc leads to is meant, not the link.
        let path = [&path[..], b"/."].concat();
        let walked = path::walk_within(self, &root, &start, &path, Last::Follow, Rules::default())?;
        let directory = self.node(&walked.path)?;
        self.check_search(&directory)?;
        if !self.caller.process.credentials().has(Capability::SYS_CHROOT) {
            return Err(Errno::PERM);
        }
        let other = (walked.path != ViewPath::root()).then(|| Arc::new(walked.path));
        self.as_self()?;
        self.caller.turn_off_shortcuts()?;
        self.places.table.set_root(&self.caller.process, other);
        Ok(Answer::Value(0))
    }

    /// The kernel names a working directory in a place by where it really is.
    pub(super) fn getcwd(&mut self, buffer: Address, size: u64) -> Result<Answer, Errno> {
        let has_other_root = self.caller.process.root().is_some();
        if !self.places.has_given_directory() && !has_other_root {
            return Ok(Answer::Continue);
        }
        let object = self.object_of_descriptor(CWD)?;
        let path = match object.path {
            Some(path) => path,
            None if self.places.is_emulated() || has_other_root => self.start(CWD)?,
            None => return Ok(Answer::Continue),
        };
        let path = self.seen_from_root(&path);
        if rustix::fs::fstat(&object.fd)?.st_nlink == 0 {
            return Err(Errno::NOENT);
        }
        let bytes = [path.as_slice(), b"\0"].concat();
        if bytes.len() as u64 > size {
            return Err(Errno::RANGE);
        }
        self.caller.write(buffer, &bytes)?;
        Ok(Answer::Value(bytes.len() as i64))
    }

    /// Where the caller has its root.
    pub(super) fn own_root(&self) -> ViewPath {
        self.caller.process.root().as_deref().cloned().unwrap_or_else(ViewPath::root)
    }

    /// What the caller calls `path`: see getcwd(2).
    fn seen_from_root(&self, path: &ViewPath) -> Vec<u8> {
        let root = self.own_root();
        match path.below(&root) {
            Some(below) => [b"/", below].concat(),
            None => [b"(unreachable)", path.as_bytes()].concat(),
        }
    }
}
