//! Answers that take one look, for the calls that make up most of a build: of root, about absolute paths that stay in the
//! tree. A call that the kernel is to make after all costs more than one that is answered here, so what fails, and what has
//! no more to tell than that it does not, is answered. All else is [`super::perform`]'s.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno;
use std::ffi::CString;

use super::Answer;
use super::call::{Address, Call, PathArgument};
use super::trodden::Fact;
use super::view::Eyes;
use crate::sys;

impl Eyes<'_> {
    /// The answer to a call, where it is such a one.
    pub(super) fn at_once(&mut self, call: &Call) -> Result<Option<Answer>, Errno> {
        let is_native = self.identity.is_none() && !self.places.is_empty() && !self.places.is_emulated();
        if !is_native || self.places.has_given_directory() || self.caller.process.root().is_some() {
            return Ok(None);
        }
        // What has wrong flags fails before its path is looked at.
        let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
        match *call {
            Call::Open { path, flags, .. }
                if flags & libc::O_CREAT == 0 && flags & libc::O_TMPFILE != libc::O_TMPFILE =>
            {
                self.look_once(&path, None)
            }
            Call::Stat { path, flags, .. } if flags & !known == 0 => self.look_once(&path, None),
            Call::Access { path, mode, flags } if flags & !(known | libc::AT_EACCESS) == 0 && mode & !7 == 0 => {
                self.look_once(&path, Some(mode))
            }
            Call::Readlink { path, buffer, size } if size as i32 > 0 => self.readlink_once(&path, buffer, size),
            _ => Ok(None),
        }
    }

    /// The path of a call, where it is absolute as written and in no place.
    fn own_path(&mut self, argument: &PathArgument) -> Result<Option<Vec<u8>>, Errno> {
        let path = self.path(argument)?;
        if path.first() != Some(&b'/') || self.places.begins_in_place(&path) {
            self.said.set(Some((argument.address, path)));
            return Ok(None);
        }
        self.as_self()?;
        Ok(Some(path))
    }

    /// Whether something is at a path, with `mode` whether it may be used so.
    fn look_once(&mut self, argument: &PathArgument, mode: Option<i32>) -> Result<Option<Answer>, Errno> {
        let Some(path) = self.own_path(argument)? else { return Ok(None) };
        let follow = argument.follow || path.last() == Some(&b'/');
        if !follow && self.places.may_end_at_place(&path) {
            return Ok(None);
        }
        let begun = match self.places.trodden.ask(&path, Fact::Stays) {
            Ok(()) if mode.is_none() => return Ok(Some(Answer::Continue)),
            Ok(()) => None,
            Err(begun) => Some(begun),
        };
        let name = CString::new(path).map_err(|_| Errno::INVAL)?;
        let found = sys::find(self.places.outside.proc(), &name, mode.unwrap_or(libc::F_OK), follow);
        match (found.map_err(|error| error.raw_os_error()), mode) {
            (Err(Some(libc::ENOENT)), _) => Err(Errno::NOENT),
            (Err(Some(libc::ENOTDIR)), _) => Err(Errno::NOTDIR),
            (Err(_), _) => Ok(None),
            (Ok(()), Some(_)) => Ok(Some(Answer::Value(0))),
            (Ok(()), None) => {
                if let Some(begun) = begun.filter(|_| follow) {
                    self.places.trodden.note(name.as_bytes(), Fact::Stays, begun);
                }
                Ok(Some(Answer::Continue))
            }
        }
    }

    /// realpath(3) asks this of each directory of a path.
    fn readlink_once(&mut self, argument: &PathArgument, buffer: Address, size: u64) -> Result<Option<Answer>, Errno> {
        let Some(path) = self.own_path(argument)? else { return Ok(None) };
        if self.places.may_end_at_place(&path) {
            return Ok(None);
        }
        let Err(begun) = self.places.trodden.ask(&path, Fact::IsDirectory) else { return Err(Errno::INVAL) };
        match readlinkat(CWD, path.as_slice(), Vec::new()) {
            Ok(text) => {
                let length = text.as_bytes().len().min(size as usize);
                self.caller.write(buffer, &text.as_bytes()[..length])?;
                Ok(Some(Answer::Value(length as i64)))
            }
            Err(Errno::INVAL) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                if openat2(CWD, path.as_slice(), flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok() {
                    self.places.trodden.note(&path, Fact::IsDirectory, begun);
                }
                Err(Errno::INVAL)
            }
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}
