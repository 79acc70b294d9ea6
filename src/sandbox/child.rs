//! A child process that is never left behind, and waiting for it while passing signals on.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

use super::enter::pid_of;
use super::{Exit, Role, SandboxError};
use crate::sys::SignalSet;

/// The signals that are passed on.
const FORWARDED: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

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
