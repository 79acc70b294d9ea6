//! A fence around what a process reaches by itself: landlock(7).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Rights to files, `LANDLOCK_ACCESS_FS_*`: all that the second version has, and truncation, which the third one added.
const ALL: u64 = 0x3fff;
const TRUNCATE: u64 = 1 << 14;

/// Those that a file has which is no directory: execute, write, read, truncate.
const OF_FILES: u64 = 0x7 | TRUNCATE;

const CREATE: libc::c_long = 444;
const ADD: libc::c_long = 445;
const RESTRICT: libc::c_long = 446;
const BENEATH: libc::c_int = 1;
const VERSION: libc::c_int = 1;

/// `struct landlock_ruleset_attr` of the first version; later ones appended to it.
#[repr(C)]
struct Ruleset {
    handled: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Keeps the calling thread, and all that it starts, from opening, executing or changing by a path what is not one of
/// `allowed`, or below one. What they are given open they can use. The thread must have no_new_privs. False where the kernel
/// cannot: before its second version (Linux 5.19) landlock forbade every move between directories.
pub fn fence(allowed: &[BorrowedFd<'_>]) -> io::Result<bool> {
    let none = std::ptr::null::<Ruleset>();
    // SAFETY: with this flag the call takes no structure and tells a number.
    let version = unsafe { libc::syscall(CREATE, none, 0usize, VERSION) };
    if version < 2 {
        return Ok(false);
    }
    let handled = if version < 3 { ALL } else { ALL | TRUNCATE };
    let ruleset = Ruleset { handled };
    // SAFETY: the kernel reads a structure of the size that it is told, which lives through the call.
    let made = check(unsafe { libc::syscall(CREATE, &raw const ruleset, size_of::<Ruleset>(), 0) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(made as i32) };
    for place in allowed {
        let is_directory = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode).is_dir();
        let rights = if is_directory { handled } else { handled & OF_FILES };
        let beneath = Beneath { allowed: rights, parent: place.as_raw_fd() };
        // SAFETY: the kernel reads one structure of this kind of rule, which lives through the call.
        check(unsafe { libc::syscall(ADD, ruleset.as_raw_fd(), BENEATH, &raw const beneath, 0) })?;
    }
    // SAFETY: takes two integers.
    check(unsafe { libc::syscall(RESTRICT, ruleset.as_raw_fd(), 0) })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn keeps_inside() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = std::fs::File::open(inside.path()).unwrap();
        // It is the thread that is kept.
        std::thread::scope(|scope| {
            let fenced = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                if !fence(&[dir.as_fd()]).unwrap() {
                    return None;
                }
                let written = |dir: &tempfile::TempDir| fs_err::write(dir.path().join("x"), "x").is_ok();
                Some((written(&inside), written(&outside), fs_err::read(file!()).is_ok()))
            });
            if let Some(found) = fenced.join().unwrap() {
                assert_eq!(found, (true, false, false));
            }
        });
    }
}
