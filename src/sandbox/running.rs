//! A container that runs, as seen by the process that keeps it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use crate::sys;

use super::child::Guard;
use super::enter::spawn;
use super::error::{During, Failure, SandboxError, Step};
use super::init::{FromInit, Job};
use super::mounts::{MountedRoot, place};
use super::run::Sandbox;
use super::spawner::{Command, Request, TerminalSize};
use super::spec::{Root, RunSpec};
use super::wire::Control;
use super::{Exit, Role, Tier};

/// What the first process of a container tells. Each command that is started in it is a session; the container's own command
/// is session 0, and the container ends with it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// The container is set up; its root directory comes with this.
    Ready,
    /// A command runs; the other side of its terminal comes with this if it has one.
    Started {
        /// Which.
        session: u64,
    },
    /// A command could not be started.
    Failed {
        /// Which.
        session: u64,
        /// Why.
        failure: Failure,
    },
    /// A command has ended.
    Ended {
        /// Which.
        session: u64,
        /// How.
        exit: Exit,
    },
}

/// Takes away what a volatile overlay that was mounted once leaves in its work directory: it forbids a second mount (Linux,
/// Documentation/filesystems/overlayfs.rst, "Volatile mount").
fn allow_second_mount(root: &Root) -> Result<(), SandboxError> {
    match root {
        Root::Overlay { work, .. } => {
            let left = work.join("work");
            sys::remove_tree(&left).during_at(Step::Unmount, &left).map_err(SandboxError::Setup)
        }
        Root::Dir(_) => Ok(()),
    }
}

/// A container that runs. Everything in it is killed when this is dropped, or the thread that started it ends.
#[derive(Debug)]
pub struct Running {
    role: Role,
    control: Control,
    requests: Control,
    /// One frame at a time.
    sending: Mutex<()>,
    root: OwnedFd,
    /// Gone once it has been waited for.
    child: Mutex<Option<Guard>>,
}

impl Sandbox {
    /// Sets a container up as `spec` says, whose `stdio` is [`super::spec::Stdio::Served`]: no command runs in it yet, those
    /// are started by [`Running::start`]. The arguments of `spec` are not used.
    pub fn start(&self, spec: &RunSpec) -> Result<Running, SandboxError> {
        match self.start_once(spec, self.own_pids()) {
            Err(SandboxError::Setup(Failure::MaskedProc)) if self.own_pids() => {
                self.give_up_own_pids();
                allow_second_mount(&spec.root)?;
                self.start_once(spec, false)
            }
            other => other,
        }
    }

    fn start_once(&self, spec: &RunSpec, own_pids: bool) -> Result<Running, SandboxError> {
        let role = match self.tier() {
            Tier::Namespaces => Role::Init,
            Tier::Chroot => Role::Chroot,
            Tier::Emulated => Role::Emulated,
        };
        let lost = |source| SandboxError::Control { role: role.name(), source };
        let (control, theirs) = Control::pair().map_err(lost)?;
        let (requests, far) = Control::pair().map_err(lost)?;
        // Whatever is standard output here is nobody's in there: it would be held open for as long as the container runs.
        let child = spawn(self.exe(), role, theirs, Stdio::null(), Stdio::null())?;
        let sent = control.send(&Job { spec: spec.clone(), own_pids }, &[far.as_fd()]);
        drop(far);
        if sent.is_err() {
            return Err(child.lost(role));
        }
        match first_word(&control, &requests).map_err(lost)? {
            First::Ready(root) => {
                let (sending, child) = (Mutex::new(()), Mutex::new(Some(child)));
                Ok(Running { role, control, requests, sending, root, child })
            }
            First::Failed(failure) => Err(failure.into()),
            First::Nothing => Err(child.lost(role)),
        }
    }
}

enum First {
    Ready(OwnedFd),
    Failed(Failure),
    Nothing,
}

/// What comes first: that the container is ready, or why it is not.
fn first_word(control: &Control, requests: &Control) -> io::Result<First> {
    let mut fds = [PollFd::new(requests, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    let ready = !fds[0].revents().is_empty();
    if ready && let Some((Event::Ready, fds)) = requests.receive::<Event>()? {
        let Some(root) = fds.into_iter().next() else { return Err(io::ErrorKind::InvalidData.into()) };
        return Ok(First::Ready(root));
    }
    // Nobody is at the other end of the requests any more, so the rest is said here.
    while let Some((message, _)) = control.receive::<FromInit>()? {
        if let FromInit::Failed(failure) = message {
            return Ok(First::Failed(failure));
        }
    }
    Ok(First::Nothing)
}

/// Calls `work` with the root directory of a tree that nobody uses, in a process that `enter` made.
pub fn with_tree<T>(root: &Root, work: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T, SandboxError> {
    match root {
        Root::Dir(dir) => Ok(work(place(dir)?.as_fd())),
        Root::Overlay { .. } => {
            let mounted = MountedRoot::mount(root)?;
            let tree = mounted.open()?;
            let done = work(tree.as_fd());
            drop(tree);
            mounted.unmount(root)?;
            mounted.uncover()?;
            Ok(done)
        }
    }
}

impl Running {
    /// The root directory of the container, with what is mounted in it where that is possible.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Asks for a command to be started under the number `session`, which no other has had; without a terminal `stdio` is its
    /// standard input, output and error. [`Running::next_event`] tells what came of it.
    pub fn start(
        &self,
        session: u64,
        command: &Command,
        terminal: Option<TerminalSize>,
        stdio: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.ask(&Request::Start { session, command: command.clone(), terminal }, stdio)
    }

    /// Asks for a signal to be sent to a command that was started. Nothing happens where it has ended.
    pub fn signal(&self, session: u64, signal: i32) -> io::Result<()> {
        self.ask(&Request::Signal { session, signal }, &[])
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let _one = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.requests.send(request, fds)
    }

    /// Waits for the next event; `None` when the container has ended. To be called by one thread.
    pub fn next_event(&self) -> io::Result<Option<(Event, Vec<OwnedFd>)>> {
        self.requests.receive()
    }

    /// Waits until nothing of the container is left, and gives how its first process ended, which is known before by
    /// [`Event::Ended`] unless that was killed. To be called once.
    pub fn finish(&self) -> Result<Exit, SandboxError> {
        let lost = |source| SandboxError::Control { role: self.role.name(), source };
        let mut told = None;
        while let Some((message, _)) = self.control.receive::<FromInit>().map_err(lost)? {
            match message {
                FromInit::Failed(failure) => return Err(failure.into()),
                FromInit::Ended(exit) => told = Some(exit),
            }
        }
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return Err(lost(io::ErrorKind::NotFound.into())) };
        match told {
            Some(exit) => {
                child.wait().map_err(lost)?;
                Ok(exit)
            }
            None => Err(child.lost(self.role)),
        }
    }
}
