//! A child process that is never left behind, and waiting for it while passing signals on.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, set_child_subreaper};

use super::enter::pid_of;
use super::{Exit, Role, SandboxError};
use crate::sys::SignalSet;

/// The signals that are passed on.
const FORWARDED: [Signal; 6] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Blocks the signals that are passed on in this thread, and `more`.
pub(super) fn block_forwarded(more: &[Signal]) -> io::Result<SignalSet> {
    let numbers: Vec<i32> = FORWARDED.iter().chain(more).map(|signal| signal.as_raw()).collect();
    SignalSet::block(&numbers)
}

/// `number` as a signal, if it is one that is passed on.
pub(super) fn forwarded(number: i32) -> Option<Signal> {
    FORWARDED.into_iter().find(|signal| signal.as_raw() == number)
}

/// A child that is killed and reaped when this is dropped before it ended.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    pub(super) fn new(child: Child) -> Guard {
        Guard(child)
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn wait(&mut self) -> io::Result<Exit> {
        Ok(self.0.wait()?.into())
    }

    /// Waits, and passes on what other processes send this one meanwhile. A terminal's signals come from the kernel to
    /// the whole foreground group, so the child has those already.
    pub(super) fn wait_forwarding(&mut self, signals: &SignalSet) -> io::Result<Exit> {
        let Some(pid) = pid_of(&self.0) else { return self.wait() };
        // Not by SIGCHLD: where other threads do not block it, it may be dropped.
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        while let Some(caught) = signals.wait(Some(ended.as_fd()))? {
            if let (Some(signal), true) = (forwarded(caught.signal), caught.from_process) {
                kill_process(pid, signal)?; // it is not reaped yet, so the pid is still its own
            }
        }
        self.wait()
    }

    /// The error for a child that ended without a word.
    pub(super) fn lost(mut self, role: Role) -> SandboxError {
        match self.wait() {
            Ok(exit) => SandboxError::Lost { role: role.name(), exit },
            Err(source) => SandboxError::Control { role: role.name(), source },
        }
    }
}

/// Makes this process the parent of whatever a child of it leaves behind, so that [`wait_for_orphans`] can wait for it.
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Waits for the processes of ours that a killed child left behind: the kernel kills them with it, but not at once, and
/// until then a command of a step still runs. What else it left behind (a credential helper's daemon) may go on.
pub(super) fn wait_for_orphans() -> io::Result<()> {
    let own = rustix::process::getpid();
    loop {
        let mut waited = false;
        for entry in fs_err::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            if is_orphan_of(own, pid) {
                rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
                waited = true;
            }
        }
        // An orphan that ended may have left one of its own.
        if !waited {
            return Ok(());
        }
    }
}

/// Whether `pid` is a child of `own` that plays a role of ours, or is past having a command line because it ends. False
/// where it is gone.
fn is_orphan_of(own: Pid, pid: Pid) -> bool {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    // proc_pid_stat(5): the name is in parentheses and may hold any byte; the state and the parent follow.
    let stat = read("stat");
    let after = stat.iter().rposition(|b| *b == b')').map_or(&stat[..0], |at| &stat[at + 1..]);
    let parent = after.split(|b| *b == b' ').filter(|field| !field.is_empty()).nth(1);
    if parent != Some(own.to_string().as_bytes()) {
        return false;
    }
    let line = read("cmdline");
    let word = line.split(|b| *b == 0).nth(1);
    line.is_empty() || word.is_some_and(|word| Role::from_argument(OsStr::from_bytes(word)).is_some())
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill(); // it may have ended just now
            let _ = self.0.wait();
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }
    }
}
