//! From what a call says of a file to a file that a worker can open. The worker's process has the step's root, its mounts
//! and its /proc, so an absolute path means the same to both; a relative one goes through the caller's /proc/PID/cwd or fd.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sandbox::supervisor::call::{self, PathArgument};
use crate::sandbox::supervisor::owners::{Records, Target};
use crate::sandbox::supervisor::path::{Found, Last};
use crate::sandbox::supervisor::places::Places;
use crate::sandbox::supervisor::view::Eyes;
use crate::sandbox::supervisor::{Caller, Worker};

/// A file, and how it was called.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    /// The file.
    pub target: Target,
    /// The path as the caller gave it; empty where it gave a descriptor.
    pub said: Vec<u8>,
}

/// What `argument` names.
pub(super) fn reach(caller: &Caller<'_>, argument: &PathArgument, chroots: bool) -> Result<Reached, Errno> {
    let base = base(caller, argument.dirfd);
    let said = match argument.as_descriptor() {
        Some(_) => Vec::new(),
        None => caller.read_path(argument.address)?,
    };
    if said.is_empty() {
        if !argument.empty_path {
            return Err(Errno::NOENT);
        }
        return Ok(Reached { target: Target::new(base, true)?, said });
    }
    if chroots && let Some((path, held)) = in_chroot(caller, &base, &said, argument.follow)? {
        return Ok(Reached { target: Target::through(held, path)?, said });
    }
    let path = match absolute(caller, &said) {
        Some(path) => path,
        None => [base.as_bytes(), b"/", &said].concat(),
    };
    Ok(Reached { target: Target::new(path, argument.follow)?, said })
}

/// What `argument` names in what the step sees, which is elsewhere.
pub(super) fn from_outside(
    caller: &Caller<'_>,
    places: &Places,
    records: &Records,
    argument: &PathArgument,
) -> Result<Reached, Errno> {
    let said = match argument.as_descriptor() {
        Some(_) => Vec::new(),
        None => caller.read_path(argument.address)?,
    };
    if said.is_empty() {
        if !argument.empty_path {
            return Err(Errno::NOENT);
        }
        return Ok(Reached { target: Target::new(base(caller, argument.dirfd), true)?, said });
    }
    let last = if argument.follow { Last::Follow } else { Last::Keep };
    let mut worker = Worker::only();
    let mut eyes = Eyes { places, caller, worker: &mut worker, identity: None, records: None };
    let walked = eyes.walk(argument.dirfd, &said, last)?;
    let follow = walked.found == Found::Magic && argument.follow;
    let mut path = records.host(&walked.path).as_bytes().to_vec();
    if let (true, Some(leads)) = (follow, eyes.leads(&walked.path)?) {
        return Ok(Reached { target: Target::new(records.host(&leads).as_bytes(), false)?, said });
    }
    if walked.slash {
        path.push(b'/');
    }
    Ok(Reached { target: Target::new(path, follow)?, said })
}

/// The magic link to a descriptor's file, or to the working directory.
pub(super) fn base(caller: &Caller<'_>, dirfd: i32) -> String {
    let thread = caller.thread;
    if dirfd == call::CWD { format!("/proc/{thread}/cwd") } else { format!("/proc/{thread}/fd/{dirfd}") }
}

/// An absolute path, where it is one, with the caller's own process in the place of the worker's.
pub(super) fn absolute(caller: &Caller<'_>, said: &[u8]) -> Option<Vec<u8>> {
    if said.first() != Some(&b'/') {
        return None;
    }
    let own = [
        ("/proc/self", format!("/proc/{}", caller.process.pid)),
        ("/proc/thread-self", format!("/proc/{}/task/{}", caller.process.pid, caller.thread)),
        ("/dev/fd", format!("/proc/{}/fd", caller.process.pid)),
        ("/dev/stdin", format!("/proc/{}/fd/0", caller.process.pid)),
        ("/dev/stdout", format!("/proc/{}/fd/1", caller.process.pid)),
        ("/dev/stderr", format!("/proc/{}/fd/2", caller.process.pid)),
    ];
    if said.starts_with(b"/proc/") || said.starts_with(b"/dev/") {
        for (name, real) in own {
            if let Some(rest @ ([] | [b'/', ..])) = said.strip_prefix(name.as_bytes()) {
                return Some([real.as_bytes(), rest].concat());
            }
        }
    }
    Some(said.to_vec())
}

/// The path of a caller whose root is not the step's, from descriptors that the kernel opened inside that root.
fn in_chroot(caller: &Caller<'_>, base: &str, said: &[u8], follow: bool) -> Result<Option<(Vec<u8>, OwnedFd)>, Errno> {
    let root_link = format!("/proc/{}/root", caller.thread);
    let root = rustix::fs::readlink(&root_link, Vec::new())?;
    if root.as_bytes() == b"/" {
        return Ok(None);
    }
    let mut inside = said.to_vec();
    if said.first() != Some(&b'/') {
        let cwd = rustix::fs::readlink(base, Vec::new())?;
        let below = cwd.as_bytes().strip_prefix(root.as_bytes()).ok_or(Errno::NOENT)?;
        inside = [below, b"/", said].concat();
    }
    let root = rustix::fs::open(&root_link, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let open = |path: &[u8], flags: OFlags| {
        let path = if path.is_empty() { b"/" } else { path };
        rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    if follow && let Ok(file) = open(&inside, OFlags::empty()) {
        // A magic link is followed by itself where the path goes on; "." lets it.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let is_dir = rustix::fs::fstat(&file)?.st_mode & 0o170000 == 0o040000;
        return Ok(Some(if is_dir { (format!("{path}/.").into_bytes(), file) } else { parent_path(&file)? }));
    }
    let end = inside.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let slash = inside[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let dir = open(&inside[..slash], OFlags::DIRECTORY)?;
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), &inside[slash..]].concat();
    Ok(Some((path, dir)))
}

/// A path to an open file through its directory.
fn parent_path(file: &OwnedFd) -> Result<(Vec<u8>, OwnedFd), Errno> {
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?.into_bytes();
    let slash = path.iter().rposition(|byte| *byte == b'/').ok_or(Errno::NOENT)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, &path[..=slash], flags, Mode::empty())?;
    Ok(([format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), &path[slash + 1..]].concat(), dir))
}

/// The caller's umask.
pub(super) fn umask(caller: &Caller<'_>) -> Result<u32, Errno> {
    let status = caller.outside.read_proc(format!("{}/status", caller.thread))?;
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Umask:"));
    let text = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Errno::SRCH)?;
    u32::from_str_radix(text.trim(), 8).map_err(|_| Errno::SRCH)
}
