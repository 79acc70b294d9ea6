//! What no step may change, whoever it is there: what is shown read-only, and what is the machine's own.

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::path::ViewPath;
use super::perform::own;
use super::places::{Kind, is_at, is_directory, kind_of};
use super::procfs;
use super::view::{Eyes, Object};

impl Eyes<'_> {
    /// Fails where nothing can be changed at an object.
    pub(super) fn check_writable(&self, object: &Object) -> Result<(), Errno> {
        let Some(number) = object.place else { return Ok(()) };
        let rest = object.path.as_ref().and_then(|path| Some(self.places.find(path)?.1)).unwrap_or_default();
        self.check_place_writable(number, rest)
    }

    pub(super) fn check_place_writable(&self, number: usize, rest: &[u8]) -> Result<(), Errno> {
        let place = self.places.get(number);
        let closed = place.kind == Kind::Proc && procfs::among(&procfs::PROC_READONLY, rest);
        if place.readonly || closed { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Fails where an object is the machine's: what is in /proc and the directory of terminals are those of every process
    /// here, and their modes, owners and times would stay changed after the step. So would those of a device.
    pub(super) fn check_own(&self, object: &Object) -> Result<(), Errno> {
        // There nobody could have made another device.
        if self.places.is_emulated() && is_device(object)? {
            return Err(Errno::PERM);
        }
        let Some(number) = object.place else { return Ok(()) };
        let shared = match self.places.get(number).kind {
            Kind::Proc | Kind::Sys => true,
            Kind::Pts => is_directory(object.fd.as_fd())? || is_multiplexer(object),
            Kind::Bind => is_device(object)?,
        };
        if shared { Err(Errno::PERM) } else { Ok(()) }
    }

    /// Fails for a device that the caller has a descriptor of and that is none of the tree's: its input, or the other side
    /// of a terminal.
    pub(super) fn check_device(&self, object: &Object) -> Result<(), Errno> {
        if self.places.is_empty() || object.place.is_some() || !is_device(object)? {
            return Ok(());
        }
        let path = self.places.path_of(&own(&object.fd))?;
        if path.is_some_and(|path| is_at(object.fd.as_fd(), &path)) { Ok(()) } else { Err(Errno::PERM) }
    }
}

/// Whether an object of /dev/pts is `ptmx`, which makes terminals and is none.
pub(super) fn is_multiplexer(object: &Object) -> bool {
    matches!(object.path.as_ref().and_then(ViewPath::split), Some((_, b"ptmx")))
}

pub(super) fn is_device(object: &Object) -> Result<bool, Errno> {
    Ok(matches!(kind_of(object.fd.as_fd())?, FileType::CharacterDevice | FileType::BlockDevice))
}
