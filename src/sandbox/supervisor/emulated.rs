//! Calls about files of a step that has the machine's root: nothing about a path is left to the kernel.
//!
//! [`Recorded`] is asked first, as where there is one id: it checks what a user may do, and makes what has to have an owner.
//! What it would let the kernel do [`Eyes`] does, as for callers whose ids are not their real ones. Root is checked by
//! nobody, so for it calls that only look, or take away, are made at once.

mod known;
mod lookahead;

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::call::{Call, PathArgument};
use super::findings::Finding;
use super::path::{Found, Last, ViewPath};
use super::places::{Kind, Places, descriptor_path};
use super::recorded::{Recorded, is_root};
use super::view::Eyes;
use super::{Answer, Caller, Identity, Worker};
use lookahead::LookAhead;

/// The files of one step.
#[derive(Debug)]
pub(crate) struct Emulated {
    places: Places,
    recorded: Arc<Recorded>,
    ahead: LookAhead,
}

impl Emulated {
    /// Of a step that sees `places`.
    pub(crate) fn new(places: Places, recorded: Arc<Recorded>) -> Result<Emulated, Errno> {
        let ahead = LookAhead::new(recorded.clone(), places.tree())?;
        Ok(Emulated { places, recorded, ahead })
    }

    /// What it sees.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// What becomes of `call`.
    pub(crate) fn answer(&self, call: &Call, caller: &Caller<'_>, worker: &mut Worker) -> Result<Answer, Errno> {
        let who = caller.process.credentials();
        let identity = Identity::of(&who);
        let records = Some(self.recorded.records());
        let mut eyes =
            Eyes { places: &self.places, caller, worker, identity: identity.as_ref(), records, said: Cell::default() };
        let is_root = is_root(&who);
        let looked_for = if is_root { eyes.looked_for(call)? } else { None };
        if let Some(path) = &looked_for
            && self.places.findings.ask(path) == Ok(Finding::Nothing)
        {
            return Err(Errno::NOENT);
        }
        if is_root && let Some(answer) = eyes.known(call)? {
            return Ok(answer);
        }
        let _change = eyes.changes(call)?;
        eyes.check_mounts(call)?;
        if let Some(path) = owned(call, is_root)
            && !is_elsewhere(&mut eyes, &path)?
        {
            let answered = self.recorded.answer(call, caller, caller.table, Some(&self.places));
            let makes_links = matches!(call, Call::Symlink { .. } | Call::Link { .. } | Call::Rename { .. });
            if makes_links && !matches!(answered, Ok(Answer::Continue)) {
                self.places.trodden.forget();
            }
            match answered? {
                Answer::Continue => {}
                answer => return Ok(answer),
            }
        }
        let answer = eyes.perform(call).inspect_err(|error| {
            if let (Errno::NOENT, Some(path)) = (*error, &looked_for) {
                eyes.note_nothing(path);
            }
        })?;
        match (call, answer) {
            (Call::Open { flags, .. }, Answer::Descriptor { fd, close_on_exec }) => {
                if flags & libc::O_DIRECTORY != 0 && !self.places.has_binds() {
                    self.ahead.opens(&fd);
                }
                let is_read = flags & libc::O_ACCMODE == libc::O_RDONLY;
                let copy = if is_read { self.library(caller, &fd) } else { None };
                Ok(Answer::Descriptor { fd: copy.unwrap_or(fd), close_on_exec })
            }
            (_, answer) => Ok(answer),
        }
    }

    /// What the caller's dynamic linker gets in the place of a C library; see `shortcuts`.
    fn library(&self, caller: &Caller<'_>, fd: &OwnedFd) -> Option<OwnedFd> {
        let (shortcuts, (first, end)) = (caller.shortcuts?, caller.process.state().linker?);
        let by_linker = (first..end).contains(&caller.notification.instruction);
        // Without it is slower, and no more.
        if by_linker { shortcuts.opened(&self.places, caller, fd).ok().flatten() } else { None }
    }
}

/// The path of a call that depends on, or changes, whose files are whose; `None` for one that does not.
fn owned(call: &Call, is_root: bool) -> Option<PathArgument> {
    match *call {
        Call::Open { path, flags, .. } => {
            (!is_root || flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE).then_some(path)
        }
        Call::OpenHow { path, .. }
        | Call::Xattr { path, .. }
        | Call::Chmod { path, .. }
        | Call::Chown { path, .. }
        | Call::Mkdir { path, .. }
        | Call::Mknod { path, .. }
        | Call::Symlink { path, .. }
        | Call::Exec { path, .. }
        | Call::Link { to: path, .. }
        | Call::Rename { to: path, .. } => Some(path),
        Call::Stat { path, .. }
        | Call::Statx { path, .. }
        | Call::Statfs { path, .. }
        | Call::OpenTree { path, .. }
        | Call::Access { path, .. }
        | Call::Readlink { path, .. }
        | Call::Utimes { path, .. }
        | Call::Truncate { path, .. }
        | Call::Unlink { path, .. }
        | Call::FileAttributes { path, .. }
        | Call::WatchPath { path, .. }
        | Call::NameToHandle { path, .. }
        | Call::Chdir { path } => (!is_root).then_some(path),
        Call::Bind { .. } => (!is_root).then_some(PathArgument::descriptor(0)),
        _ => None,
    }
}

/// Whether a path leads to what nobody owns by records: /proc, /sys, terminals, and what cannot be written to.
fn is_elsewhere(eyes: &mut Eyes<'_>, argument: &PathArgument) -> Result<bool, Errno> {
    let path = eyes.path(argument)?;
    let places = eyes.places;
    let is_there = |path: &ViewPath| {
        places.find(path).is_some_and(|(number, _)| {
            let place = places.get(number);
            place.kind != Kind::Bind || place.readonly
        })
    };
    let leads_there = |link: &str| matches!(places.path_of(link), Ok(Some(path)) if is_there(&path));
    if path.is_empty() {
        return Ok(leads_there(&descriptor_path(eyes.caller.thread, argument.dirfd)));
    }
    let last = if argument.follow { Last::Follow } else { Last::Keep };
    let walked = eyes.walk(argument.dirfd, &path, last);
    eyes.said.set(Some((argument.address, path)));
    // What is wrong with it is for those to say who make the call.
    let Ok(walked) = walked else { return Ok(false) };
    if walked.found == Found::Magic && argument.follow {
        let (_, link) = places.find(&walked.path).unwrap_or_default();
        return Ok(leads_there(&String::from_utf8_lossy(link)));
    }
    Ok(is_there(&walked.path))
}
