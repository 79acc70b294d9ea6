//! Looking whether children have ended, beside threads that trace some of them: waitid(2).

use std::io;
use std::mem::MaybeUninit;

/// What there is to know of children of the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// There is none.
    None,
    /// None has ended.
    Runs,
    /// This one has ended and can be reaped.
    Ended(i32),
    /// One is stopped, for another thread of this process that traces it: it is not to be waited for here, which would
    /// take the stop away from that thread.
    Stopped,
}

/// Looks at the child `pid`, or at any, without taking anything.
pub fn look_at_child(pid: Option<i32>) -> io::Result<Child> {
    let (kind, id) = pid.map_or((libc::P_ALL, 0), |pid| (libc::P_PID, pid as libc::id_t));
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WNOTHREAD;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel writes one siginfo_t, which lives through the call.
    if unsafe { libc::waitid(kind, id, info.as_mut_ptr(), flags) } != 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(Child::None) } else { Err(error) };
    }
    // SAFETY: zeros before, which stay where no child has changed, and else filled in by the kernel as for SIGCHLD.
    let (pid, code) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_code)
    };
    Ok(match code {
        _ if pid == 0 => Child::Runs,
        libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => Child::Ended(pid),
        _ => Child::Stopped,
    })
}
