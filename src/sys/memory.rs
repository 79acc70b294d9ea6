//! Another process's memory: process_vm_readv(2). Addresses are that process's, and bad ones are `EFAULT`. And code in
//! this one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Reads from `address` of the process of `thread` as far as it goes; `EFAULT` where nothing can be read.
pub fn read_memory(thread: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address as usize), iov_len: into.len() };
    // SAFETY: `local` is the exclusively borrowed `into`; the remote address is only looked at in the other process.
    let got = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    if got >= 0 { Ok(got as usize) } else { Err(io::Error::last_os_error()) }
}

/// Writes to `address` of the process of `thread` as far as it goes; `EFAULT` where nothing can be written.
pub fn write_memory(thread: i32, address: u64, from: &[u8]) -> io::Result<usize> {
    // The kernel only reads from the local part of a write; its type has no const.
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address as usize), iov_len: from.len() };
    if std::process::id() == thread as u32 {
        return Err(io::Error::from_raw_os_error(libc::EPERM)); // our own memory is not to be written this way
    }
    // SAFETY: `local` is the borrowed `from`; the remote address is another process's, as checked above, and a wrong
    // one is an error there.
    let put = unsafe { libc::process_vm_writev(thread, &raw const local, 1, &raw const remote, 1, 0) };
    if put >= 0 { Ok(put as usize) } else { Err(io::Error::last_os_error()) }
}

/// Code of a file that is mapped, and used by nobody; the mapping is taken away when this is dropped.
#[derive(Debug)]
pub struct MappedCode {
    address: *mut libc::c_void,
    length: usize,
}

impl MappedCode {
    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.address.addr() as u64
    }
}

impl Drop for MappedCode {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `map_code`, and no reference into it was.
        unsafe { libc::munmap(self.address, self.length) };
    }
}

/// Maps the first `length` bytes of `file` to be read and executed.
pub fn map_code(file: BorrowedFd<'_>, length: usize) -> io::Result<MappedCode> {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let anywhere = std::ptr::null_mut();
    // SAFETY: a new mapping, where the kernel has room for it, changes no other memory of this process.
    let address = unsafe { libc::mmap(anywhere, length, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(MappedCode { address, length })
}
