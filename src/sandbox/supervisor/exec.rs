//! What an exec does to emulated credentials: set-user-ID, set-group-ID and file capabilities.
//!
//! Whether an exec succeeds is not known when it is let through. So what the process will be then is kept beside what it
//! is, until a call of it shows which program it runs: that of the exec, or still the one before.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::Caller;
use super::access::Owned;
use super::capability::FileCapabilities;
use super::credentials::{Credentials, Privilege};
use super::process::{Pending, Table};

/// What `security.capability` (of no value: none) and the set-id bits of a program give; a script gives nothing.
pub(super) fn privilege(
    file: &Owned,
    capability: Option<&[u8]>,
    is_script: impl FnOnce() -> bool,
) -> Result<Privilege, Errno> {
    let (set_uid, set_gid) = file.set_ids();
    let capabilities = capability.map(FileCapabilities::parse).transpose()?;
    let privilege = Privilege { set_uid, set_gid, capabilities };
    Ok(if privilege.is_none() || is_script() { Privilege::default() } else { privilege })
}

/// Whether the file at `path` begins as scripts do.
pub(super) fn is_script(path: impl rustix::path::Arg) -> bool {
    let mut start = [0; 2];
    // Not waiting: it may have become a pipe.
    let opened = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    opened.and_then(|fd| rustix::io::read(fd, &mut start)).is_ok_and(|got| got == 2) && start == *b"#!"
}

/// Notes what the caller is once it runs `program` (device and inode), which has this privilege.
pub(super) fn begin(
    caller: &Caller<'_>,
    credentials: &Credentials,
    program: (u64, u64),
    privilege: &Privilege,
) -> Result<(), Errno> {
    let after = credentials.after_exec(privilege)?;
    let pending = Pending { program, credentials: after, thread: caller.thread };
    let is_changed = pending.credentials != *credentials;
    caller.process.state().pending = is_changed.then_some(pending);
    Ok(())
}

/// Finds out what became of an exec that the caller's process had under way.
pub(super) fn settle(caller: &Caller<'_>, table: &Table) {
    let Some(pending) = caller.process.state().pending.clone() else { return };
    let runs =
        caller.outside.open_proc(format!("{}/exe", caller.process.pid), OFlags::PATH).and_then(rustix::fs::fstat);
    if runs.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == pending.program) {
        table.set_credentials(&caller.process, pending.credentials);
        caller.process.state().pending = None;
    } else if caller.thread == pending.thread {
        // It made another call, so the exec has failed.
        caller.process.state().pending = None;
    }
}
