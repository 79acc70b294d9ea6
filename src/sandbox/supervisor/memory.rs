//! The memory of a caller: paths, structures in and out. Addresses are the caller's and may be anything: what cannot be
//! read or written is `EFAULT`, as the kernel has it.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::call::{Address, PATH_MAX};
use super::outside::Outside;
use crate::sys;

/// Pages are this large, or a multiple of it.
const PAGE: u64 = 4096;

/// Ways to other processes' memory.
#[derive(Debug)]
pub(crate) struct Memory {
    outside: Arc<Outside>,
    /// process_vm_readv(2) is denied here (Docker's profile up to 20.10): /proc/PID/mem is the other way.
    by_file: AtomicBool,
}

impl Memory {
    /// By whatever way turns out to be allowed.
    pub(crate) fn new(outside: Arc<Outside>) -> Memory {
        Memory { outside, by_file: AtomicBool::new(false) }
    }

    /// Opened as who this process really is: the kernel looks at the file system ids of the thread (`mm_access` with
    /// `PTRACE_MODE_ATTACH_FSCREDS`), and those may be a caller's.
    fn open(&self, thread: i32, flags: OFlags) -> Result<std::fs::File, Errno> {
        let (uid, gid) = (sys::set_file_uid(0), sys::set_file_gid(0));
        let opened = self.outside.open_proc(format!("{thread}/mem"), flags);
        if (uid, gid) != (0, 0) {
            sys::set_file_gid(gid);
            sys::set_file_uid(uid);
        }
        opened.map(Into::into).map_err(|_| Errno::FAULT)
    }

    /// Fills `into` from `address` of the process of `thread`.
    pub(crate) fn read(&self, thread: i32, address: Address, into: &mut [u8]) -> Result<(), Errno> {
        match self.read_some(thread, address, into)? {
            got if got == into.len() => Ok(()),
            _ => Err(Errno::FAULT),
        }
    }

    /// Reads from `address` as far as it goes, at least one byte.
    fn read_some(&self, thread: i32, address: Address, into: &mut [u8]) -> Result<usize, Errno> {
        if into.is_empty() {
            return Ok(0);
        }
        if !self.by_file.load(Ordering::Relaxed) {
            match sys::read_memory(thread, address, into) {
                Ok(0) => return Err(Errno::FAULT),
                Ok(got) => return Ok(got),
                Err(error) if is_denied(&error) => {}
                Err(_) => return Err(Errno::FAULT),
            }
        }
        let got = self.open(thread, OFlags::RDONLY)?.read_at(into, address).map_err(|_| Errno::FAULT)?;
        self.by_file.store(true, Ordering::Relaxed);
        if got == 0 { Err(Errno::FAULT) } else { Ok(got) }
    }

    /// Writes `from` to `address` of the process of `thread`.
    pub(crate) fn write(&self, thread: i32, address: Address, from: &[u8]) -> Result<(), Errno> {
        if from.is_empty() {
            return Ok(());
        }
        let written =
            if self.by_file.load(Ordering::Relaxed) { None } else { Some(sys::write_memory(thread, address, from)) };
        match written {
            Some(Ok(put)) if put == from.len() => return Ok(()),
            Some(Err(error)) if is_denied(&error) => {}
            Some(_) => return Err(Errno::FAULT),
            None => {}
        }
        // Through the file even read-only pages can be written, as a debugger does. The caller harms only itself.
        match self.open(thread, OFlags::RDWR)?.write_at(from, address) {
            Ok(put) if put == from.len() => Ok(()),
            _ => Err(Errno::FAULT),
        }
    }

    /// The string at `address` without its nul; `ENAMETOOLONG` where it has none within `PATH_MAX` bytes.
    pub(crate) fn read_path(&self, thread: i32, address: Address) -> Result<Vec<u8>, Errno> {
        self.read_string(thread, address, PATH_MAX)
            .map_err(|error| if error == Errno::TOOBIG { Errno::NAMETOOLONG } else { error })
    }

    /// The string at `address` without its nul; `E2BIG` where it has none within `limit` bytes.
    pub(crate) fn read_string(&self, thread: i32, address: Address, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::with_capacity(256);
        while out.len() < limit {
            let from = address.checked_add(out.len() as u64).ok_or(Errno::FAULT)?;
            // Not past the page: the next one may not be there, nor be needed. Most paths are short.
            let page = (PAGE - from % PAGE) as usize;
            let wanted = page.min(if out.is_empty() { 256 } else { 4096 }).min(limit - out.len());
            let start = out.len();
            out.resize(start + wanted, 0);
            let got = self.read_some(thread, from, &mut out[start..])?;
            out.truncate(start + got);
            if let Some(end) = out[start..].iter().position(|byte| *byte == 0) {
                out.truncate(start + end);
                return Ok(out);
            }
        }
        Err(Errno::TOOBIG)
    }
}

fn is_denied(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_from(memory: &Memory) {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let text = c"/some/path";
        assert_eq!(memory.read_path(own, text.as_ptr() as u64).unwrap(), b"/some/path");
        let long = [b'x'; PATH_MAX + 10];
        assert_eq!(memory.read_path(own, long.as_ptr() as u64), Err(Errno::NAMETOOLONG));
        for bad in [0, 8, u64::MAX, u64::MAX - 5, 1 << 63] {
            assert_eq!(memory.read_path(own, bad), Err(Errno::FAULT), "{bad:#x}");
            assert_eq!(memory.read(own, bad, &mut [0; 16]), Err(Errno::FAULT), "{bad:#x}");
        }
        let mut bytes = [0; 4];
        memory.read(own, text.as_ptr() as u64, &mut bytes).unwrap();
        assert_eq!(&bytes, b"/som");
    }

    #[test]
    fn reads_paths_and_refuses_bad_addresses() {
        let memory = || Memory::new(Arc::new(Outside::open().unwrap()));
        reads_from(&memory());
        reads_from(&Memory { by_file: AtomicBool::new(true), ..memory() });
    }

    #[test]
    fn reads_up_to_the_end_of_what_is_mapped() {
        // Two pages, of which the second is taken away again: the string ends with the first.
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let memory = Memory::new(Arc::new(Outside::open().unwrap()));
        let mut page = vec![b'y'; 3 * PAGE as usize];
        let end = (page.as_ptr() as u64 + PAGE).next_multiple_of(PAGE);
        let at = (end - page.as_ptr() as u64) as usize;
        page[at - 1] = 0;
        assert_eq!(memory.read_path(own, end - 4).unwrap(), b"yyy");
    }
}
