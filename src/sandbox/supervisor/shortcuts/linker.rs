//! Giving a dynamic linker the copy of a C library in the place of the file that it opens. Whoever else opens the file gets the
//! file.
//!
//! glibc's dynamic linker begins each program by asking access(2) for a list of libraries, at a path that is part of its own
//! code. So that call says where it is, and which calls are made from there; in the emulated tier it is loaded by the
//! supervisor, which knows that (`restart`). A linker tells libraries apart by device and inode. So a program that has got the
//! copy goes on to get it, and so do the children that go on as it; one that has the file goes on to get that.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno;

use super::{Known, Shortcuts, is_c_library};
use crate::sandbox::supervisor::call::{Call, PathArgument};
use crate::sandbox::supervisor::numbers as nr;
use crate::sandbox::supervisor::perform::own;
use crate::sandbox::supervisor::places::Places;
use crate::sandbox::supervisor::{Answer, Caller};

/// What the linker asks for.
const PRELOAD: &[u8] = b"/etc/ld.so.preload";

/// Its code and what belongs to it are smaller than this, in bytes.
const SPAN: u64 = 256 << 10;

/// Whose root a linker's path begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox::supervisor) enum Root {
    /// This process's.
    Own,
    /// Maybe another one.
    Other,
}

impl Shortcuts {
    /// What becomes of the answer to a call where the kernel opens files for the step: another one where a linker opens a library.
    /// As who the worker began as; the caller has these places, if there are any.
    pub(in crate::sandbox::supervisor) fn answer_linker(
        &self,
        (places, root): (Option<&Places>, Root),
        call: &Call,
        caller: &Caller<'_>,
        answer: Answer,
    ) -> Answer {
        let at = caller.notification.instruction;
        match *call {
            Call::Access { path, mode: libc::R_OK, flags: 0 }
                if caller.notification.number == nr::ACCESS && path.address.abs_diff(at) < SPAN =>
            {
                if caller.read_path(path.address).as_deref() == Ok(PRELOAD) {
                    caller.process.state().linker = Some((at.saturating_sub(SPAN), at.saturating_add(SPAN)));
                }
                answer
            }
            Call::Open { path, flags, .. }
                if matches!(answer, Answer::Continue)
                    && flags == libc::O_RDONLY | libc::O_CLOEXEC
                    && caller.is_linker() =>
            {
                // Without it is slower, and no more.
                let found = self.library(places, root, caller, &path);
                found.ok().flatten().map_or(answer, |fd| Answer::Descriptor { fd, close_on_exec: true })
            }
            _ => answer,
        }
    }

    /// The copy of the library at a path.
    fn library(
        &self,
        places: Option<&Places>,
        root: Root,
        caller: &Caller<'_>,
        path: &PathArgument,
    ) -> Result<Option<OwnedFd>, Errno> {
        let path = caller.read_path(path.address)?;
        if path.first() != Some(&b'/') || path.starts_with(b"/proc/") || !is_c_library(&path) {
            return Ok(None);
        }
        if root == Root::Own {
            return self.open_copy(places, caller, &path, || Ok(true));
        }
        let root =
            caller.outside.open_proc(format!("{}/root", caller.process.pid), OFlags::PATH | OFlags::DIRECTORY)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = openat2(root, &path[..], flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        self.open_copy(places, caller, own(&file).as_bytes(), || Ok(true))
    }

    /// What the caller's linker gets that has opened `file`, where the supervisor opens files for the step.
    pub(in crate::sandbox::supervisor) fn opened(
        &self,
        places: &Places,
        caller: &Caller<'_>,
        file: &OwnedFd,
    ) -> Result<Option<OwnedFd>, Errno> {
        let link = own(file);
        let name = || Ok(is_c_library(&readlinkat(caller.outside.proc(), &*link, Vec::new())?.into_bytes()));
        self.open_copy(Some(places), caller, link.as_bytes(), name)
    }

    /// The caller's copy of what is at `path`, from /proc if it is relative, if that is a library, opened anew: each who opens a file
    /// reads it from its beginning.
    fn open_copy(
        &self,
        places: Option<&Places>,
        caller: &Caller<'_>,
        path: &[u8],
        is_library: impl FnOnce() -> Result<bool, Errno>,
    ) -> Result<Option<OwnedFd>, Errno> {
        let known = self.known_at(places, caller, path, is_library)?;
        let run = caller.process.state().run;
        if let Known::Copied(copy) = &known
            && !run.is_some_and(|run| self.runs.is_short(&run))
            && self.may_use(places, caller)?
        {
            let fd = caller.outside.open_proc(own(&copy.file), OFlags::RDONLY)?;
            self.are_used.store(true, Ordering::Release);
            caller.process.set_shortcuts(true);
            return Ok(Some(fd));
        }
        if !matches!(known, Known::Other) {
            caller.process.state().linker = None;
        }
        Ok(None)
    }
}
