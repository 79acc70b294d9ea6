//! Another process's memory: process_vm_readv(2). Addresses are that process's, and bad ones are `EFAULT`. And memory of this
//! one that is a file's: code, and words that others read.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;

use rustix::fs::SealFlags;

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

/// Maps the first `length` bytes of `file` to be read and executed, and takes the mapping away again: only whether that is
/// possible is asked.
pub fn map_code(file: BorrowedFd<'_>, length: usize) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let anywhere = std::ptr::null_mut();
    // SAFETY: a new mapping, where the kernel has room for it, changes no other memory of this process.
    let address = unsafe { libc::mmap(anywhere, length, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping was made above, and no reference into it was.
    unsafe { libc::munmap(address, length) };
    Ok(())
}

/// Words of a file in memory, which other processes may have mapped, too: what is written here they read.
#[derive(Debug)]
pub struct SharedWords {
    start: *const AtomicU64,
    count: usize,
}

// SAFETY: the mapping is this value's own until it is dropped, whichever thread has it, and is only used as atomics.
unsafe impl Send for SharedWords {}
// SAFETY: likewise.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// The `count` words from `offset`, a multiple of a page, of `file`, a memfd that may be sealed: it can become no
    /// shorter from now on, so that they stay there.
    pub fn map(file: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<SharedWords> {
        rustix::fs::fcntl_add_seals(file, SealFlags::SHRINK)?;
        let end = offset.checked_add(8 * count as u64);
        let size = rustix::fs::fstat(file)?.st_size as u64;
        let (Ok(start), true) = (libc::off_t::try_from(offset), end.is_some_and(|end| end <= size)) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let (anywhere, protection) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping, where the kernel has room for it, changes no other memory of this process.
        let at = unsafe { libc::mmap(anywhere, 8 * count, protection, libc::MAP_SHARED, file.as_raw_fd(), start) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedWords { start: at.cast(), count })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: so many words were mapped from there, at a page's beginning, and stay so until this is dropped; the file
        // holds them all and is sealed against becoming shorter. Others may write to them at any time, as atomics allow.
        unsafe { std::slice::from_raw_parts(self.start, self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map`, and no reference into it outlives this value.
        unsafe { libc::munmap(self.start.cast_mut().cast(), 8 * self.count) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    use rustix::fs::MemfdFlags;

    use super::*;

    #[test]
    fn shares_words_with_whoever_reads_the_file() {
        let file = rustix::fs::memfd_create("words", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&file, 3 * 4096).unwrap();
        let words = SharedWords::map(file.as_fd(), 4096, 1024).unwrap();
        words[1].store(0x0102_0304_0506_0708, Ordering::Release);
        let mut bytes = [0; 8];
        assert_eq!(rustix::io::pread(&file, &mut bytes, 4096 + 8).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(bytes), 0x0102_0304_0506_0708);
        assert_eq!(words.len(), 1024);
        assert!(rustix::fs::ftruncate(&file, 4096).is_err(), "it stays as long as it is");
        for (offset, count) in [(4096, 1025), (8192, 513), (u64::MAX - 4095, 1)] {
            assert!(SharedWords::map(file.as_fd(), offset, count).is_err(), "{offset} {count}");
        }
        let other = rustix::fs::memfd_create("words", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&other, 4096).unwrap();
        assert!(SharedWords::map(other.as_fd(), 0, 1).is_err(), "it cannot be sealed");
    }
}
