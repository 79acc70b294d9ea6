//! System calls that no safe crate wraps: the only module with `unsafe`.
//!
//! Every function here is safe to call: what it needs (one thread, say) it checks itself, or the kernel does.
#![allow(unsafe_code)]

mod files;
mod identity;
mod landlock;
mod memory;
mod relations;
mod remove;
mod seccomp;
mod signals;
mod stat;
mod trace;

pub use files::{Replaced, find, may_access, name_to_handle, stat_object, statfs_bytes, statx_object, truncate, watch};
pub use identity::{set_file_gid, set_file_uid, set_thread_groups};
pub use landlock::fence;
pub use memory::{MappedCode, map_code, read_memory, write_memory};
pub use relations::{process_group, relations};
pub use remove::{empty_at, remove_at, remove_tree};
pub use seccomp::{Instruction, Listener, Notification, install_filter};
pub use signals::{Caught, SignalSet, reset_signals, send_signal, unblock_all, want_no_word_of_stops};
pub use stat::{STAT_SIZE, STATX_SIZE, stat_bytes, statx_bytes};
pub use trace::{RESTARTS, Registers, Stop, Traced};

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// The two sides of [`fork`].
#[derive(Debug)]
pub enum Fork {
    /// In the new process.
    Child,
    /// In the caller, with the id of the new process.
    Parent(Pid),
}

/// `fork(2)`. Fails with `EBUSY` where the process has more than one thread: after a fork in a threaded process only
/// async-signal-safe calls are defined, and the callers do far more than that.
pub fn fork() -> io::Result<Fork> {
    if threads()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: the process has one thread (checked above), so no lock of another thread is left held in the child, and
    // the child may go on as any program does.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Threads of this process: the link count of /proc/self/task less the two every directory has.
fn threads() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs_err::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// `unshare(2)` of namespaces. `CLONE_FILES` is not for this function: it is refused with `EINVAL`.
pub fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: the call is unsafe for CLONE_FILES alone (descriptors of other threads would change meaning), refused above.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Ends the process at once, without running exit handlers or flushing: the end of a forked child.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit takes no pointer and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Keeps other processes of the same user from tracing this one and from reading its memory, environment and descriptors
/// (`PR_SET_DUMPABLE`), until it executes another program.
pub fn forbid_inspection() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}

/// Undoes [`forbid_inspection`].
pub fn allow_inspection() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?)
}

/// `execve(2)`; comes back only with the error.
pub fn execve(path: &CStr, args: &[&CStr], env: &[&CStr]) -> io::Error {
    let args: Vec<*const libc::c_char> = args.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    let env: Vec<*const libc::c_char> = env.iter().map(|e| e.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: both arrays end in a null pointer and, as the strings they point to, outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` on close-on-exec, so that an exec hands none of them over.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing now; it takes three integers and no pointer.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a mount (a descriptor of its root), and with `recursive` those below it, read-only: `mount_setattr(2)`.
pub fn make_mount_readonly(mount: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr = MountAttr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a nul-terminated static, `attr` has the layout of struct mount_attr (version 0), lives through
    // the call, and its size is the one passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Brings the loopback interface of this network namespace up.
pub fn bring_loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is made of integers and arrays of them, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives through the call and holds a nul-terminated name.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
