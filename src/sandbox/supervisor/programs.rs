//! Which program an exec that goes on natively is of, and what its set-id bits and capabilities give.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::Caller;
use super::access::Owned;
use super::call::PathArgument;
use super::credentials::Credentials;
use super::exec::{begin, is_script, privilege};

/// Notes what the caller will be where it executes the program at `path`. What cannot be found is the kernel's to refuse.
pub(super) fn note(caller: &Caller<'_>, path: &PathArgument, credentials: &Credentials) -> Result<(), Errno> {
    // To whole root only the set-id bits of a program mean anything, and nearly none has them.
    if credentials.is_whole_root() && !has_set_id(caller, path) {
        return Ok(());
    }
    let Ok(program) = open(caller, path) else { return Ok(()) };
    let stat = statat(&program, "", AtFlags::EMPTY_PATH)?;
    // From the working directory, the real /proc.
    let name = format!("self/fd/{}", program.as_raw_fd());
    let mut value = [0; 64];
    let capability = match rustix::fs::getxattr(&name, "security.capability", &mut value) {
        Ok(length) => Some(&value[..length]),
        Err(_) => None,
    };
    let owned = Owned { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode };
    let privilege = privilege(&owned, capability, || is_script(&name))?;
    begin(caller, credentials, (stat.st_dev, stat.st_ino), &privilege)
}

/// Whether a program is to run as another user or group; true where one look does not tell.
fn has_set_id(caller: &Caller<'_>, path: &PathArgument) -> bool {
    if path.as_descriptor().is_some() || !path.follow {
        return true;
    }
    match caller.read_path(path.address) {
        Ok(name) if name.starts_with(b"/") => {
            rustix::fs::stat(name).is_ok_and(|stat| stat.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0)
        }
        _ => true,
    }
}

fn open(caller: &Caller<'_>, path: &PathArgument) -> Result<OwnedFd, Errno> {
    let name = if path.as_descriptor().is_some() { Vec::new() } else { caller.read_path(path.address)? };
    if name.is_empty() {
        return if path.empty_path { caller.open_descriptor(path.dirfd, OFlags::PATH) } else { Err(Errno::NOENT) };
    }
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !path.follow);
    if name.starts_with(b"/") {
        return openat(CWD, name, flags, Mode::empty());
    }
    let from = caller.open_descriptor(path.dirfd, OFlags::PATH)?;
    openat(from, name, flags, Mode::empty())
}
