//! Blocking, waiting for and resetting signals.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

/// A set of signals, blocked in the calling thread, that are read one by one instead of interrupting (`signalfd(2)`).
pub struct SignalSet {
    set: libc::sigset_t,
    fd: OwnedFd,
}

/// One signal that [`SignalSet::wait`] fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// The signal's number.
    pub signal: i32,
    /// It was sent by a process, not by the kernel (a terminal's Ctrl-C comes from the kernel, to the whole group).
    pub from_process: bool,
}

impl SignalSet {
    /// Blocks `signals` in the calling thread; threads and children made later inherit that.
    pub fn block(signals: &[i32]) -> io::Result<SignalSet> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills the set in before it is read; all calls get valid pointers to it, a null old set is
        // allowed, and the descriptor is new and owned by nobody else.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                if libc::sigaddset(set.as_mut_ptr(), *signal) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            let set = set.assume_init();
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(fd);
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(SignalSet { set, fd }),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// Waits for the next signal of the set, or, where `until` is given, until that descriptor is readable: then `None`.
    pub fn wait(&self, until: Option<BorrowedFd<'_>>) -> io::Result<Option<Caught>> {
        if let Some(until) = until {
            let mut fds = [PollFd::new(&until, PollFlags::IN), PollFd::new(&self.fd, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
            if !fds[0].revents().is_empty() {
                return Ok(None);
            }
        }
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        let got = rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut info))?;
        if got != info.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: signalfd_siginfo is made of integers, for which any bytes are valid; the array has its size.
        let info: libc::signalfd_siginfo = unsafe { std::mem::transmute(info) };
        // A code <= 0 (SI_USER, SI_QUEUE, SI_TKILL) marks a sender that is a process, see sigaction(2).
        Ok(Some(Caught { signal: info.ssi_signo as i32, from_process: info.ssi_code <= 0 }))
    }

    /// Unblocks the set again in the calling thread.
    pub fn unblock(self) {
        // SAFETY: the set is initialised; a null old set is allowed. It cannot fail with a valid `how`.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const self.set, std::ptr::null_mut()) };
    }
}

/// Gives every signal its default action and unblocks all: the state that a program expects to start in. (Rust's
/// runtime ignores SIGPIPE, and whoever started us may have ignored or blocked more.)
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is no function to be called; the numbers that cannot be set (9, 19, libc's own) fail harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_all();
}

/// Has the kernel send no SIGCHLD where a child, or a thread that this process traces, stops, but only where one ends:
/// `SA_NOCLDSTOP`. Who waits for a stop is told all the same.
pub fn want_no_word_of_stops() -> io::Result<()> {
    // SAFETY: sigaction is made of integers and a set, for which zero is valid: the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_flags = libc::SA_NOCLDSTOP;
    // SAFETY: the action is read only, it names no function, and a null old action is allowed.
    let done = unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the signal of that number (0 for none, as a question) to a process, or with `thread` to one thread.
pub fn send_signal(id: i32, thread: bool, number: i32) -> io::Result<()> {
    if id <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH)); // groups are not meant
    }
    let call = if thread { libc::SYS_tkill } else { libc::SYS_kill };
    // SAFETY: both take two integers.
    let done = unsafe { libc::syscall(call, id, number) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Unblocks every signal in the calling thread.
pub fn unblock_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set in before pthread_sigmask reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}
