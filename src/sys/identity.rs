//! File system ids and groups of one thread. The C library changes groups for all threads of a process; these calls go to
//! the kernel, which has them by thread: credentials(7).

use std::io;

/// Makes `uid` the calling thread's file system user id and gives the one before. Away from 0 the thread loses its
/// effective file system capabilities, back at 0 it regains them: capabilities(7). Without the right to, nothing changes.
pub fn set_file_uid(uid: u32) -> u32 {
    // SAFETY: takes one integer and changes only the calling thread.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) as u32 }
}

/// Makes `gid` the calling thread's file system group id and gives the one before.
pub fn set_file_gid(gid: u32) -> u32 {
    // SAFETY: takes one integer and changes only the calling thread.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) as u32 }
}

/// Sets the calling thread's supplementary groups.
pub fn set_thread_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one slice, which is only read.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
