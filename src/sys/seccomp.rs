//! seccomp filters and the listener that serves the calls they hand over: seccomp(2), seccomp_unotify(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

/// One instruction of a filter: `code`, jumps where true and false, operand.
pub type Instruction = libc::sock_filter;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6: caller and listener are run on one processor, one after the other.
const SYNC_WAKE_UP: u64 = 1;

/// A trapped call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    /// Its number, valid until it is answered.
    pub id: u64,
    /// The thread that made it.
    pub thread: i32,
    /// The call's number.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// The address of the instruction after it.
    pub instruction: u64,
}

/// Installs `filter` in the calling thread, which must have no_new_privs or CAP_SYS_ADMIN, and gives its listener. Where
/// the kernel can (5.19), a call that was received can be interrupted by fatal signals alone.
pub fn install_filter(filter: &[Instruction]) -> io::Result<OwnedFd> {
    let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    match install(filter, listen | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(filter, listen),
        other => other,
    }
}

fn install(filter: &[Instruction], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // The kernel only reads through the pointer; its type has no const.
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `program` and the instructions it points to live through the call, and its length is theirs.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The listener of a filter. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Serves the filter whose listener this is.
    pub fn new(fd: OwnedFd) -> Listener {
        Listener(fd)
    }

    /// Has the kernel run caller and listener by turns on one processor; `false` before Linux 6.6.
    pub fn wake_synchronously(&self) -> bool {
        // SAFETY: this ioctl takes an integer.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) == 0 }
    }

    /// Waits for the next call. `None` where the thread that made one died meanwhile, or a signal came: try again.
    pub fn receive(&self) -> io::Result<Option<Notification>> {
        // SAFETY: seccomp_notif is made of integers, for which zero is valid; the kernel demands zeros.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the ioctl writes one seccomp_notif, whose layout is the kernel's; it has only ever been appended to
        // by making a new ioctl number of the new size.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw) };
        if done != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // Also where nobody is left that the filter is of; then the descriptor says so.
                Some(libc::ENOENT) if self.is_hung_up() => Err(error),
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        Ok(Some(Notification {
            id: raw.id,
            thread: raw.pid as i32,
            number: i64::from(raw.data.nr),
            arguments: raw.data.args,
            instruction: raw.data.instruction_pointer,
        }))
    }

    fn is_hung_up(&self) -> bool {
        self.is(PollFlags::HUP)
    }

    /// Whether a call waits to be received.
    pub fn has_waiting(&self) -> bool {
        self.is(PollFlags::IN)
    }

    fn is(&self, state: PollFlags) -> bool {
        let mut fds = [PollFd::new(&self.0, state)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(state)
    }

    /// Whether the call still waits: what was read by the thread's id before then was the thread's.
    pub fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the ioctl reads one u64, which lives through the call.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
    }

    /// Lets the kernel make the call as it is.
    pub fn proceed(&self, id: u64) -> io::Result<()> {
        self.answer(libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        })
    }

    /// Answers with a value.
    pub fn give(&self, id: u64, value: i64) -> io::Result<()> {
        self.answer(libc::seccomp_notif_resp { id, val: value, error: 0, flags: 0 })
    }

    /// Answers with an error number.
    pub fn refuse(&self, id: u64, errno: i32) -> io::Result<()> {
        self.answer(libc::seccomp_notif_resp { id, val: 0, error: -errno, flags: 0 })
    }

    fn answer(&self, response: libc::seccomp_notif_resp) -> io::Result<()> {
        // SAFETY: the ioctl reads one seccomp_notif_resp, which lives through the call.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives the caller a copy of `fd` and its number there; the call still waits. Linux 5.9.
    pub fn add_descriptor(&self, id: u64, fd: BorrowedFd<'_>, close_on_exec: bool) -> io::Result<i32> {
        self.add(id, fd, close_on_exec, None, 0)
    }

    /// Gives the caller a copy of `fd` in the place of its descriptor `number`; the call still waits.
    pub fn replace_descriptor(&self, id: u64, fd: BorrowedFd<'_>, number: i32, close_on_exec: bool) -> io::Result<()> {
        self.add(id, fd, close_on_exec, Some(number), 0).map(|_| ())
    }

    /// Gives the caller a copy of `fd` and answers the call with its number. Linux 5.14, before that in two steps.
    pub fn give_descriptor(&self, id: u64, fd: BorrowedFd<'_>, close_on_exec: bool) -> io::Result<()> {
        match self.add(id, fd, close_on_exec, None, libc::SECCOMP_ADDFD_FLAG_SEND as u32) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let number = self.add(id, fd, close_on_exec, None, 0)?;
                self.give(id, i64::from(number))
            }
            other => other.map(|_| ()),
        }
    }

    fn add(
        &self,
        id: u64,
        fd: BorrowedFd<'_>,
        close_on_exec: bool,
        number: Option<i32>,
        flags: u32,
    ) -> io::Result<i32> {
        let set = if number.is_some() { libc::SECCOMP_ADDFD_FLAG_SETFD as u32 } else { 0 };
        let request = libc::seccomp_notif_addfd {
            id,
            flags: flags | set,
            srcfd: fd.as_raw_fd() as u32,
            newfd: number.unwrap_or_default() as u32,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        loop {
            // SAFETY: the ioctl reads one seccomp_notif_addfd, which lives through the call.
            let number =
                unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request) };
            match io::Error::last_os_error() {
                _ if number >= 0 => return Ok(number),
                // It waits for the caller to take the descriptor; a signal ends that before the caller did.
                error if error.raw_os_error() == Some(libc::EINTR) => {}
                error => return Err(error),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
