//! The memory of a caller: paths, structures in and out. Addresses are the caller's and may be anything: what cannot be
//! read or written is `EFAULT`, as the kernel has it.
//!
//! A process's memory is kept open: reading it so takes 1.2 µs where process_vm_readv(2), which asks each time whether it is
//! allowed, takes 1.5 µs (Linux 6.18, a virtual machine). An exec gives a process other memory, so from then on until the exec is over nothing is kept.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::call::{Address, PATH_MAX};
use super::outside::Outside;
use crate::sys;

/// Pages are this large, or a multiple of it.
const PAGE: u64 = 4096;

/// Memory of so many processes is kept open at most: descriptors are few.
const MOST_HELD: usize = 200;

/// After so many reads it is worth while: most processes make only a few calls.
const OFTEN: u32 = 8;

/// The memory of one process, as far as it is kept open.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Holding>);

#[derive(Debug, Default)]
struct Holding {
    file: Option<Arc<HeldFile>>,
    /// The thread whose exec is under way, or was when it was last heard of; 0 for none.
    executing: i32,
    /// How often it was read since its last exec.
    reads: u32,
}

#[derive(Debug)]
struct HeldFile {
    file: File,
    all: Arc<AtomicUsize>,
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Holding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before `thread` executes a program.
    pub(crate) fn execs(&self, thread: i32) {
        *self.lock() = Holding { executing: thread, ..Holding::default() };
    }

    /// To be called when `thread` makes a call: an exec of its own is over.
    pub(crate) fn calls(&self, thread: i32) {
        let mut holding = self.lock();
        if holding.executing == thread {
            holding.executing = 0;
        }
    }

    /// To be called when the process ends.
    pub(crate) fn ends(&self) {
        self.lock().file = None;
    }
}

/// Ways to other processes' memory.
#[derive(Debug)]
pub(crate) struct Memory {
    outside: Arc<Outside>,
    /// Processes whose memory is kept open.
    held: Arc<AtomicUsize>,
    /// process_vm_readv(2) is denied here (Docker's profile up to 20.10): /proc/PID/mem is the other way.
    by_file: AtomicBool,
}

impl Memory {
    /// By whatever way turns out to be allowed.
    pub(crate) fn new(outside: Arc<Outside>) -> Memory {
        Memory { outside, held: Arc::default(), by_file: AtomicBool::new(false) }
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

    /// The memory of the process of `thread` that is kept open, or is from now on.
    fn keep(&self, thread: i32, held: &Held) -> Option<Arc<HeldFile>> {
        {
            let mut holding = held.lock();
            holding.reads = holding.reads.saturating_add(1);
            if holding.executing != 0 || holding.reads <= OFTEN || holding.file.is_some() {
                return holding.file.clone();
            }
        }
        if self.held.fetch_add(1, Ordering::Relaxed) >= MOST_HELD {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let all = self.held.clone();
        let Ok(file) = self.open(thread, OFlags::RDONLY) else {
            all.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let file = Arc::new(HeldFile { file, all });
        let mut holding = held.lock();
        if holding.executing == 0 {
            holding.file = Some(file.clone());
        }
        Some(file)
    }

    /// Fills `into` from `address` of the process of `thread`, whose memory may be kept open in `held`.
    pub(crate) fn read(
        &self,
        thread: i32,
        held: Option<&Held>,
        address: Address,
        into: &mut [u8],
    ) -> Result<(), Errno> {
        match self.read_some(thread, held, address, into)? {
            got if got == into.len() => Ok(()),
            _ => Err(Errno::FAULT),
        }
    }

    /// Reads from `address` as far as it goes, at least one byte.
    fn read_some(&self, thread: i32, held: Option<&Held>, address: Address, into: &mut [u8]) -> Result<usize, Errno> {
        if into.is_empty() {
            return Ok(0);
        }
        // What cannot be read there is asked again in the other way, which gives the errors.
        if let Some(kept) = held.and_then(|held| self.keep(thread, held))
            && let Ok(got @ 1..) = kept.file.read_at(into, address)
        {
            return Ok(got);
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
        // The caller harms only itself.
        self.force(thread, address, from)
    }

    /// Writes `from` to `address` of the process of `thread`, also where that is only to be read or executed: the process
    /// gets pages of its own, as a debugger would have it.
    pub(crate) fn force(&self, thread: i32, address: Address, from: &[u8]) -> Result<(), Errno> {
        match self.open(thread, OFlags::RDWR)?.write_at(from, address) {
            Ok(put) if put == from.len() => Ok(()),
            _ => Err(Errno::FAULT),
        }
    }

    /// The string at `address` without its nul; `ENAMETOOLONG` where it has none within `PATH_MAX` bytes.
    pub(crate) fn read_path(&self, thread: i32, held: Option<&Held>, address: Address) -> Result<Vec<u8>, Errno> {
        self.read_string(thread, held, address, PATH_MAX)
            .map_err(|error| if error == Errno::TOOBIG { Errno::NAMETOOLONG } else { error })
    }

    /// The string at `address` without its nul; `E2BIG` where it has none within `limit` bytes.
    pub(crate) fn read_string(
        &self,
        thread: i32,
        held: Option<&Held>,
        address: Address,
        limit: usize,
    ) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::with_capacity(256);
        while out.len() < limit {
            let from = address.checked_add(out.len() as u64).ok_or(Errno::FAULT)?;
            // Not past the page: the next one may not be there, nor be needed. Most paths are short.
            let page = (PAGE - from % PAGE) as usize;
            let wanted = page.min(if out.is_empty() { 256 } else { 4096 }).min(limit - out.len());
            let start = out.len();
            out.resize(start + wanted, 0);
            let got = self.read_some(thread, held, from, &mut out[start..])?;
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

    fn reads_from(memory: &Memory, held: Option<&Held>) {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let text = c"/some/path";
        assert_eq!(memory.read_path(own, held, text.as_ptr() as u64).unwrap(), b"/some/path");
        let long = [b'x'; PATH_MAX + 10];
        assert_eq!(memory.read_path(own, held, long.as_ptr() as u64), Err(Errno::NAMETOOLONG));
        for bad in [0, 8, u64::MAX, u64::MAX - 5, 1 << 63] {
            assert_eq!(memory.read_path(own, held, bad), Err(Errno::FAULT), "{bad:#x}");
            assert_eq!(memory.read(own, held, bad, &mut [0; 16]), Err(Errno::FAULT), "{bad:#x}");
        }
        let mut bytes = [0; 4];
        memory.read(own, held, text.as_ptr() as u64, &mut bytes).unwrap();
        assert_eq!(&bytes, b"/som");
    }

    #[test]
    fn reads_paths_and_refuses_bad_addresses() {
        let memory = || Memory::new(Arc::new(Outside::open().unwrap()));
        for held in [None, Some(&Held::default())] {
            reads_from(&memory(), held);
            reads_from(&Memory { by_file: AtomicBool::new(true), ..memory() }, held);
        }
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
        assert_eq!(memory.read_path(own, Some(&Held::default()), end - 4).unwrap(), b"yyy");
    }

    #[test]
    fn keeps_nothing_while_an_exec_is_under_way() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let memory = Memory::new(Arc::new(Outside::open().unwrap()));
        let (held, text) = (Held::default(), c"text".as_ptr() as u64);
        let kept = || {
            for _ in 0..=OFTEN {
                assert_eq!(memory.read_path(own, Some(&held), text).unwrap(), b"text");
            }
            memory.held.load(Ordering::Relaxed)
        };
        memory.read_path(own, Some(&held), text).unwrap();
        assert_eq!(memory.held.load(Ordering::Relaxed), 0, "one read");
        assert_eq!(kept(), 1);
        held.execs(own);
        assert_eq!(kept(), 0);
        held.calls(own + 1);
        assert_eq!(kept(), 0, "another thread");
        held.calls(own);
        assert_eq!(kept(), 1);
        held.ends();
        assert_eq!(memory.held.load(Ordering::Relaxed), 0);
        memory.held.store(MOST_HELD, Ordering::Relaxed);
        assert_eq!(kept(), MOST_HELD, "no room");
    }
}
