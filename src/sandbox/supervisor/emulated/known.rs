//! Answers that take one look or none, for the calls of root that make up most of a build: which directories of a path are
//! links, at which paths there is nothing, and what is a file that is known to have no record. All else is for
//! [`super::super::perform`] to do.

use std::ffi::CString;

use rustix::fs::{FileType, OFlags, readlinkat};
use rustix::io::Errno;

use crate::sandbox::supervisor::Answer;
use crate::sandbox::supervisor::call::{Address, Call, PathArgument};
use crate::sandbox::supervisor::findings::{Change, Finding, is_plain};
use crate::sandbox::supervisor::path::Last;
use crate::sandbox::supervisor::places::{descriptor_path, kind_of};
use crate::sandbox::supervisor::view::Eyes;
use crate::sys;

impl<'a> Eyes<'a> {
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
        if !self.may_be_found(&path) {
            self.said.set(Some((argument.address, path)));
            return Ok(None);
        }
        let begun = match self.places.findings.ask(&path) {
            Ok(Finding::NoLink) => return Err(Errno::INVAL),
            Ok(Finding::Nothing) => return Err(Errno::NOENT),
            Err(begun) => begun,
        };
        let finding = match self.places.open_without_links(&path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(object) if kind_of(std::os::fd::AsFd::as_fd(&object))? == FileType::Symlink => {
                let text = readlinkat(&object, "", Vec::new())?.into_bytes();
                let length = text.len().min(size as usize);
                self.caller.write(buffer, &text[..length])?;
                return Ok(Some(Answer::Value(length as i64)));
            }
            Ok(_) => Finding::NoLink,
            Err(Errno::NOENT) => Finding::Nothing,
            Err(Errno::NOTDIR) => return Err(Errno::NOTDIR),
            Err(_) => {
                self.said.set(Some((argument.address, path)));
                return Ok(None);
            }
        };
        self.places.findings.note(&path, finding, begun);
        Err(if finding == Finding::NoLink { Errno::INVAL } else { Errno::NOENT })
    }

    /// Whether it is a path of which it can be known what is found there: of the tree, as long as no link is on the way.
    fn may_be_found(&self, path: &[u8]) -> bool {
        is_plain(path) && !self.places.begins_in_place(path)
    }

    /// The path of a call that fails where nothing is at it, if it is such a one.
    pub(super) fn looked_for(&mut self, call: &Call) -> Result<Option<Vec<u8>>, Errno> {
        let stat = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
        let access = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_EACCESS;
        let argument = match *call {
            Call::Open { path, flags, .. } if flags & (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) == 0 => {
                path
            }
            Call::Stat { path, flags, .. } if flags & !stat == 0 => path,
            Call::Access { path, mode, flags } if flags & !access == 0 && mode & !7 == 0 => path,
            _ => return Ok(None),
        };
        if argument.as_descriptor().is_some() || self.caller.process.root().is_some() {
            return Ok(None);
        }
        let path = self.path(&argument)?;
        let looked_for = self.may_be_found(&path).then(|| path.clone());
        self.said.set(Some((argument.address, path)));
        Ok(looked_for)
    }

    /// Remembers that nothing is at a path, if nothing is there now and no link on the way.
    pub(super) fn note_nothing(&self, path: &[u8]) {
        let Err(begun) = self.places.findings.ask(path) else { return };
        if matches!(self.places.open_without_links(path, OFlags::PATH | OFlags::NOFOLLOW), Err(Errno::NOENT)) {
            self.places.findings.note(path, Finding::Nothing, begun);
        }
    }

    /// Forgets what has been found where a call makes names, moves them or takes them away, for as long as it is under way.
    pub(super) fn changes(&mut self, call: &Call) -> Result<Option<Change<'a>>, Errno> {
        let (one, other) = match *call {
            Call::Open { path, flags, .. } if flags & libc::O_CREAT != 0 => {
                ((path, if path.follow { Last::Follow } else { Last::Entry }), None)
            }
            Call::Mkdir { path, .. }
            | Call::Mknod { path, .. }
            | Call::Symlink { path, .. }
            | Call::Unlink { path, .. } => ((path, Last::Entry), None),
            Call::Link { to, .. } => ((to, Last::Entry), None),
            Call::Rename { from, to, .. } => ((from, Last::Entry), Some((to, Last::Entry))),
            Call::OpenHow { .. } => {
                let change = self.places.findings.change();
                change.anywhere()?;
                return Ok(Some(change));
            }
            // The caller makes that one itself.
            Call::Bind { .. } => {
                self.places.findings.end()?;
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let places = self.places;
        let change = places.findings.change();
        if !places.findings.is_empty() {
            for (argument, last) in [Some(one), other].into_iter().flatten() {
                self.forget(&change, &argument, last)?;
            }
        }
        Ok(Some(change))
    }

    fn forget(&mut self, change: &Change<'_>, argument: &PathArgument, last: Last) -> Result<(), Errno> {
        let path = self.path(argument)?;
        let walked = self.walk(argument.dirfd, &path, last);
        self.said.set(Some((argument.address, path)));
        match walked {
            // What is shown somewhere may be in the tree as well.
            Ok(walked) if self.places.find(&walked.path).is_none() => change.at(&walked.path),
            _ => change.anywhere(),
        }
    }
}
