//! `struct stat` and `struct statx` as the kernel writes them: bytes to be handed on to another process.

use std::ffi::CStr;
use std::io;

/// Bytes of `struct stat`.
pub const STAT_SIZE: usize = size_of::<libc::stat>();
/// Bytes of `struct statx`.
pub const STATX_SIZE: usize = size_of::<libc::statx>();

/// `newfstatat(2)` of a path, a relative one from the working directory.
pub fn stat_bytes(path: &CStr, flags: i32) -> io::Result<[u8; STAT_SIZE]> {
    let mut out = [0; STAT_SIZE];
    // SAFETY: the path is nul-terminated, and the kernel writes one struct stat, whose size the buffer has. Its alignment
    // does not matter to the kernel, which copies bytes.
    let done = unsafe { libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), out.as_mut_ptr(), flags) };
    if done == 0 { Ok(out) } else { Err(io::Error::last_os_error()) }
}

/// `statx(2)` of an absolute path.
pub fn statx_bytes(path: &CStr, flags: i32, mask: u32) -> io::Result<[u8; STATX_SIZE]> {
    let mut out = [0; STATX_SIZE];
    // SAFETY: as above, with struct statx, whose size is fixed for good: new fields take the place of spare ones.
    let done = unsafe { libc::syscall(libc::SYS_statx, libc::AT_FDCWD, path.as_ptr(), flags, mask, out.as_mut_ptr()) };
    if done == 0 { Ok(out) } else { Err(io::Error::last_os_error()) }
}
