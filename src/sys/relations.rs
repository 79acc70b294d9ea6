//! Whose thread a thread is: `PIDFD_GET_INFO` of ioctl_pidfd(2), Linux 6.13. And which group a process is in.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct pidfd_info` as it was first; the kernel takes its size from the request's number.
#[repr(C)]
#[derive(Default)]
struct Information {
    mask: u64,
    cgroup: u64,
    pid: u32,
    group: u32,
    parent: u32,
    ids: [u32; 8],
    spare: u32,
}

/// `PIDFD_INFO_PID`
const PIDS: u64 = 1;

/// `_IOWR(0xff, 11, struct pidfd_info)`
const GET_INFORMATION: u64 = 0xc000_ff0b | (size_of::<Information>() as u64) << 16;

/// `PIDFD_THREAD`, Linux 6.9: not only of a process's first thread.
const THREAD: i32 = libc::O_EXCL;

/// The process of `thread`, and the parent of that, by their ids here. `ESRCH` where it is gone; another error where this kernel
/// does not tell so.
pub fn relations(thread: i32) -> io::Result<(i32, i32)> {
    // SAFETY: this call takes integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, thread, THREAD) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut found = Information { mask: PIDS, ..Information::default() };
    // SAFETY: the ioctl reads and writes a structure of the size that its number has, which lives through the call.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), GET_INFORMATION as _, &raw mut found) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    if found.mask & PIDS == 0 || found.group == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok((found.group as i32, found.parent as i32))
}

/// The process group of a process, as getpgid(2): 0 where it has no id here, which rustix takes for impossible.
pub fn process_group(process: i32) -> io::Result<i32> {
    // SAFETY: this call takes an integer.
    let group = unsafe { libc::getpgid(process) };
    if group >= 0 { Ok(group) } else { Err(io::Error::last_os_error()) }
}
