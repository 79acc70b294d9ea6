//! Answers that take one look, for the calls of root that make up most of a build: which directories of a path are links,
//! and what is a file that is known to have no record. All else is for [`super::super::perform`] to do.

use std::ffi::CString;

use rustix::fs::{FileType, OFlags, readlinkat};
use rustix::io::Errno;

use crate::sandbox::supervisor::Answer;
use crate::sandbox::supervisor::call::{Address, Call, PathArgument};
use crate::sandbox::supervisor::places::{descriptor_path, kind_of};
use crate::sandbox::supervisor::trodden::Fact;
use crate::sandbox::supervisor::view::Eyes;
use crate::sys;

impl Eyes<'_> {
    /// The answer to a call of root, where it is such a one.
    pub(super) fn known(&mut self, call: &Call) -> Result<Option<Answer>, Errno> {
        // What has wrong flags fails before its path is looked at.
        let allowed = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
        let is_short = match *call {
            Call::Stat { flags, .. } => flags & !allowed == 0,
            Call::Readlink { size, .. } => size as i32 > 0,
            _ => false,
        };
        if !is_short || self.caller.process.root().is_some() {
            return Ok(None);
        }
        match *call {
            Call::Stat { path, buffer, .. } => self.stat_from_held(&path, buffer),
            Call::Readlink { path, buffer, size } => self.readlink_from_root(&path, buffer, size),
            _ => Ok(None),
        }
    }

    /// What a descriptor is for, or a name in its directory: the kernel goes there by the descriptor itself. Whatever
    /// another thread puts in its place meanwhile, what is told is the state of one file, which is known to be no other's.
    fn stat_from_held(&mut self, argument: &PathArgument, buffer: Address) -> Result<Option<Answer>, Errno> {
        let Some(records) = self.records else { return Ok(None) };
        let name = self.path(argument)?;
        let mut link = descriptor_path(self.caller.thread, argument.dirfd).into_bytes();
        let mut flags = 0;
        if !name.is_empty() {
            link.push(b'/');
            link.extend_from_slice(&name);
            flags = libc::AT_SYMLINK_NOFOLLOW;
        }
        let is_own = (!name.is_empty() || argument.empty_path) && name != b"." && self.places.is_plain_name(&name);
        self.said.set(Some((argument.address, name)));
        if !is_own {
            return Ok(None);
        }
        let link = CString::new(link).map_err(|_| Errno::INVAL)?;
        let Ok(mut bytes) = sys::stat_bytes(&link, flags) else { return Ok(None) };
        // A link to be followed is none of those.
        if !records.correct_known_stat(&mut bytes) {
            return Ok(None);
        }
        self.caller.write(buffer, &bytes)?;
        Ok(Some(Answer::Value(0)))
    }

    /// realpath(3) asks this of each directory of a path.
    fn readlink_from_root(
        &mut self,
        argument: &PathArgument,
        buffer: Address,
        size: u64,
    ) -> Result<Option<Answer>, Errno> {
        let path = self.path(argument)?;
        let is_own = path.first() == Some(&b'/') && !self.places.begins_in_place(&path);
        if !is_own || self.places.may_end_at_place(&path) {
            self.said.set(Some((argument.address, path)));
            return Ok(None);
        }
        let Err(begun) = self.places.trodden.ask(&path, Fact::IsDirectory) else { return Err(Errno::INVAL) };
        let object = match self.places.open_without_links(&path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(object) => object,
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => return Err(error),
            Err(_) => {
                self.said.set(Some((argument.address, path)));
                return Ok(None);
            }
        };
        match kind_of(std::os::fd::AsFd::as_fd(&object))? {
            FileType::Symlink => {
                let text = readlinkat(&object, "", Vec::new())?.into_bytes();
                let length = text.len().min(size as usize);
                self.caller.write(buffer, &text[..length])?;
                return Ok(Some(Answer::Value(length as i64)));
            }
            FileType::Directory => self.places.trodden.note(&path, Fact::IsDirectory, begun),
            _ => {}
        }
        Err(Errno::INVAL)
    }
}
