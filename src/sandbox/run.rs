//! The caller's side of running one command.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::enter::spawn;
use super::error::{Failure, SandboxError};
use super::init::{FromInit, Job};
use super::spec::RunSpec;
use super::wire::Control;
use super::{Exit, Role, Tier, child};
use crate::progress::Stream;

/// Runs commands. Shared by the threads of a build; to be used inside the namespaces of [`super::enter`].
#[derive(Debug)]
pub struct Sandbox {
    exe: PathBuf,
    tier: Tier,
    /// A new /proc was refused once; it will be again.
    masked_proc: AtomicBool,
    /// Readable once [`Sandbox::stop`] was called.
    stop: OwnedFd,
}

impl Sandbox {
    /// Runs commands in `tier` with the help of `exe`, which is this program: `/proc/self/exe` but in tests. Fails where the process
    /// has no descriptor left.
    pub fn new(exe: impl Into<PathBuf>, tier: Tier) -> Result<Sandbox, SandboxError> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC);
        let stop = stop.map_err(|errno| SandboxError::Control { role: Role::Init.name(), source: errno.into() })?;
        Ok(Sandbox { exe: exe.into(), tier, masked_proc: AtomicBool::new(false), stop })
    }

    /// What commands run in.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// This program.
    pub(super) fn exe(&self) -> &Path {
        &self.exe
    }

    /// Whether a pid namespace is to be tried.
    pub(super) fn own_pids(&self) -> bool {
        !self.masked_proc.load(Ordering::Relaxed)
    }

    /// A new /proc was refused.
    pub(super) fn give_up_own_pids(&self) {
        self.masked_proc.store(true, Ordering::Relaxed);
    }

    /// Kills the captured commands that run, and those that are started from now on: their runs end with
    /// [`SandboxError::Stopped`].
    pub fn stop(&self) {
        // Adding one to an eventfd fails only when 2^64 - 2 calls were made before; it is readable then, too.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }

    /// Runs a command and waits for it and everything it started. `output` gets what it writes, as it comes. The command is
    /// killed when the calling thread ends.
    pub fn run(&self, spec: &RunSpec, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Exit, SandboxError> {
        let own_pids = self.own_pids();
        match self.run_once(spec, own_pids, output) {
            Err(SandboxError::Setup(Failure::MaskedProc)) if own_pids => {
                self.give_up_own_pids();
                self.run_once(spec, false, output)
            }
            other => other,
        }
    }

    fn run_once(
        &self,
        spec: &RunSpec,
        own_pids: bool,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Exit, SandboxError> {
        let role = match self.tier {
            Tier::Namespaces => Role::Init,
            Tier::Chroot => Role::Chroot,
            Tier::Emulated => Role::Emulated,
        };
        let lost = |source| SandboxError::Control { role: role.name(), source };
        let (control, theirs) = Control::pair().map_err(lost)?;
        let mut child = spawn(&self.exe, role, theirs, Stdio::piped(), Stdio::piped())?;
        let sent = control.send(&Job { spec: spec.clone(), own_pids }, &[]);
        if sent.is_err() {
            return Err(child.lost(role));
        }
        let told = match collect(&control, &mut child, self.stop.as_fd(), output).map_err(lost)? {
            Collected::Told(told) => told,
            Collected::Stopped => {
                if !self.tier.mounts() {
                    // Without a pid namespace the role has to kill the command; that we are gone tells it.
                    drop(control);
                    child.wait().map_err(lost)?;
                }
                return Err(SandboxError::Stopped);
            }
        };
        match told {
            Some(FromInit::Ended(exit)) => {
                child.wait().map_err(lost)?;
                Ok(exit)
            }
            Some(FromInit::Failed(failure)) => {
                child.wait().map_err(lost)?;
                Err(failure.into())
            }
            None => Err(child.lost(role)),
        }
    }
}

/// What came of listening to a command.
enum Collected {
    /// All ends are closed; the last word that counts, if there was one.
    Told(Option<FromInit>),
    /// Everything is to stop. The command dies with its guard.
    Stopped,
}

/// Reads output and messages until all ends are closed, or `stop` is readable.
fn collect(
    control: &Control,
    child: &mut child::Guard,
    stop: BorrowedFd<'_>,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<Collected> {
    let mut stdout = child.child().stdout.take();
    let mut stderr = child.child().stderr.take();
    let (mut told, mut talking) = (None, true);
    let mut buffer = vec![0; 64 << 10];
    while talking || stdout.is_some() || stderr.is_some() {
        let ready = {
            let (out, err) = (stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd));
            ready(&[out, err, talking.then(|| control.as_fd()), Some(stop)])?
        };
        if ready[3] {
            return Ok(Collected::Stopped);
        }
        if ready[0] && !pass_on(stdout.as_ref().map(AsFd::as_fd), Stream::Stdout, &mut buffer, output)? {
            stdout = None;
        }
        if ready[1] && !pass_on(stderr.as_ref().map(AsFd::as_fd), Stream::Stderr, &mut buffer, output)? {
            stderr = None;
        }
        if ready[2] {
            match control.receive()? {
                Some((message, _)) => told = first_failure(told, message),
                None => talking = false,
            }
        }
    }
    Ok(Collected::Told(told))
}

/// Waits until at least one of the open descriptors has something.
fn ready(open: &[Option<BorrowedFd<'_>>; 4]) -> io::Result<[bool; 4]> {
    let mut fds: Vec<PollFd<'_>> = open.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    let mut polled = fds.iter();
    let mut out = [false; 4];
    for (ready, fd) in out.iter_mut().zip(open) {
        *ready = fd.is_some() && polled.next().is_some_and(|fd| !fd.revents().is_empty());
    }
    Ok(out)
}

/// Reads once and hands it on; `false` at the end.
fn pass_on(
    fd: Option<BorrowedFd<'_>>,
    stream: Stream,
    buffer: &mut [u8],
    output: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<bool> {
    let Some(fd) = fd else { return Ok(false) };
    let got = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?;
    if got > 0 {
        output(stream, &buffer[..got]);
    }
    Ok(got > 0)
}

/// A failed exec is followed by the exit of the process that failed: the failure is what counts.
fn first_failure(told: Option<FromInit>, message: FromInit) -> Option<FromInit> {
    match told {
        Some(FromInit::Failed(failure)) => Some(FromInit::Failed(failure)),
        _ => Some(message),
    }
}
