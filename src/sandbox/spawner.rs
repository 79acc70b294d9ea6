//! The first process of a container: starts the container's command and any further one that is asked for, and tells how
//! each ended.
//!
//! A RUN step's first process becomes the command. A container's stays what it is, so that further commands can be started
//! beside the first with the container's root, namespaces and supervisor: they are its children, in every tier. Where system
//! calls are supervised it is supervised itself. It ends when the container's command (session 0) has ended, or when
//! whoever asks is gone.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};

use super::error::{During, Failure, Step};
use super::exec::{Ids, Prepared};
use super::init::exit_of;
use super::spec::{RunSpec, path};
use super::wire::Control;
use super::{Event, Exit, mounts};
use crate::sys::{self, Fork, SignalSet};

/// A command in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment, but for PATH and HOME, see [`RunSpec::env`].
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    #[serde(with = "path")]
    pub cwd: PathBuf,
    /// Its user, see [`RunSpec::user`].
    pub user: String,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What the first process is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// To start a command; without a terminal its standard input, output and error come with the message.
    Start {
        /// The number that it has from then on.
        session: u64,
        /// The command.
        command: Command,
        /// The size of the terminal of its own that it is to have.
        terminal: Option<TerminalSize>,
    },
    /// To send a signal to a command that it started.
    Signal {
        /// Which.
        session: u64,
        /// The signal's number.
        signal: i32,
    },
}

/// What the first process may do when it starts a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// Everything in the namespaces: each command drops what it may not have.
    All,
    /// What a supervised command of root has.
    Supervised,
}

/// The first process, before it is one.
pub(super) struct Spawner<'a> {
    requests: Control,
    spec: &'a RunSpec,
    ids: &'a Ids,
    rights: Rights,
    /// The root directory; where it is no process's root, the tree that is emulated as one.
    root: Option<OwnedFd>,
    children: Vec<(u64, Pid)>,
}

impl<'a> Spawner<'a> {
    /// It will take requests from `requests`.
    pub(super) fn new(requests: Control, spec: &'a RunSpec, ids: &'a Ids) -> Spawner<'a> {
        Spawner { requests, spec, ids, rights: Rights::All, root: None, children: Vec::new() }
    }

    /// Has this process supervised, and serves; comes back only with the reason why it cannot.
    pub(super) fn serve_supervised(
        mut self,
        prepared: &Prepared,
        supervise: &dyn Fn() -> Result<(), Failure>,
    ) -> Failure {
        let opened = self.open_root();
        match opened.and_then(|()| prepared.enter_supervision(supervise)) {
            Ok(()) => self.serve(Rights::Supervised),
            Err(failure) => failure,
        }
    }

    /// Serves, and ends the process; comes back only with the reason why it cannot.
    pub(super) fn serve(mut self, rights: Rights) -> Failure {
        self.rights = rights;
        match self.open_root().and_then(|()| self.work()) {
            Ok(exit) => sys::exit_now(exit.code()),
            Err(failure) => failure,
        }
    }

    /// The working directory is the root directory, in every tier.
    fn open_root(&mut self) -> Result<(), Failure> {
        if self.root.is_none() {
            self.root = Some(mounts::place(Path::new("."))?);
        }
        Ok(())
    }

    fn work(&mut self) -> Result<Exit, Failure> {
        let signals = SignalSet::block(&[Signal::CHILD.as_raw()]).during(Step::Signals)?;
        set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Start)?;
        // The chroot tier has made one already.
        let _ = rustix::process::setsid();
        self.tell(&Event::Ready, self.root.as_slice())?;
        loop {
            if let Some(exit) = self.reap()? {
                return Ok(exit);
            }
            if signals.wait(Some(self.requests.as_fd())).during(Step::Wait)?.is_some() {
                continue;
            }
            let Some((request, fds)) = self.requests.receive::<Request>().during(Step::Wait)? else {
                // Nobody is there any more: what is left is killed with this process's parent.
                for (_, pid) in &self.children {
                    let _ = kill_process(*pid, Signal::KILL);
                }
                return Ok(Exit::Code(125));
            };
            match request {
                Request::Signal { session, signal } => {
                    if let Some((_, pid)) = self.children.iter().find(|(number, _)| *number == session) {
                        // Not reaped yet, so the pid is its own. A number that is no signal is the asker's to check.
                        let _ = sys::send_signal(pid.as_raw_nonzero().get(), false, signal);
                    }
                }
                Request::Start { session, command, terminal } => match self.start(&command, terminal, fds) {
                    Ok((pid, terminal)) => {
                        self.children.push((session, pid));
                        self.tell(&Event::Started { session }, terminal.as_slice())?;
                    }
                    Err(failure) => {
                        self.tell(&Event::Failed { session, failure }, &[])?;
                        if session == 0 {
                            return Ok(Exit::Code(125));
                        }
                    }
                },
            }
        }
    }

    fn tell(&self, event: &Event, fds: &[OwnedFd]) -> Result<(), Failure> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.requests.send(event, &fds).during(Step::Wait)
    }

    /// Tells of those that have ended; how session 0 did, if it has.
    fn reap(&mut self) -> Result<Option<Exit>, Failure> {
        let mut at = 0;
        while let Some((session, pid)) = self.children.get(at).copied() {
            let status = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::NOHANG)).during(Step::Wait)?;
            let Some((_, status)) = status else {
                at += 1;
                continue;
            };
            self.children.remove(at);
            let exit = exit_of(status);
            self.tell(&Event::Ended { session, exit }, &[])?;
            if session == 0 {
                return Ok(Some(exit));
            }
        }
        Ok(None)
    }

    /// Starts a command; with a terminal its other side comes back.
    fn start(
        &self,
        command: &Command,
        terminal: Option<TerminalSize>,
        fds: Vec<OwnedFd>,
    ) -> Result<(Pid, Option<OwnedFd>), Failure> {
        let mut spec = self.spec.clone();
        spec.args.clone_from(&command.args);
        spec.env.clone_from(&command.env);
        spec.cwd.clone_from(&command.cwd);
        spec.user.clone_from(&command.user);
        let Some(root) = &self.root else { return Err(Failure::NoCommand) };
        let prepared = Prepared::new(root.as_fd(), &spec, self.ids)?;
        let (stdio, master) = match terminal {
            Some(size) => {
                let (master, slave) = open_terminal(size, &prepared)?;
                (vec![slave], Some(master))
            }
            None => (fds, None),
        };
        let (ours, theirs) = Control::pair().during(Step::Fork)?;
        match sys::fork().during(Step::Fork)? {
            Fork::Parent(pid) => {
                drop((theirs, stdio));
                // The other end is closed by exec.
                match ours.receive::<Failure>().during(Step::Fork)? {
                    None => Ok((pid, master)),
                    Some((failure, _)) => {
                        rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty())).during(Step::Wait)?;
                        Err(failure)
                    }
                }
            }
            Fork::Child => {
                drop((ours, master));
                let failure = self.become_command(&prepared, stdio, terminal.is_some());
                let _ = Control::of(theirs).send(&failure, &[]); // then the exit code alone tells
                sys::exit_now(125)
            }
        }
    }

    /// In the new process: comes back only with the reason why it is not the command.
    fn become_command(&self, prepared: &Prepared, stdio: Vec<OwnedFd>, terminal: bool) -> Failure {
        let ready = take_stdio(&stdio, terminal).and_then(|()| {
            set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Start)?;
            prepared.limit()
        });
        match (ready, self.rights) {
            (Err(failure), _) => failure,
            (Ok(()), Rights::Supervised) => {
                sys::reset_signals();
                prepared.exec_inside_supervision()
            }
            (Ok(()), Rights::All) => match prepared.make_cwd() {
                Ok(()) => prepared.exec(),
                Err(failure) => failure,
            },
        }
    }
}

/// Makes a session, and `stdio` its standard input, output and error: one terminal, or three descriptors.
fn take_stdio(stdio: &[OwnedFd], terminal: bool) -> Result<(), Failure> {
    rustix::process::setsid().during(Step::Start)?;
    let [first, rest @ ..] = stdio else {
        return Err(Failure::Step { step: Step::Start, path: None, errno: rustix::io::Errno::BADF.raw_os_error() });
    };
    if terminal {
        rustix::process::ioctl_tiocsctty(first).during(Step::Terminal)?;
    }
    rustix::stdio::dup2_stdin(first).during(Step::Start)?;
    rustix::stdio::dup2_stdout(rest.first().unwrap_or(first)).during(Step::Start)?;
    rustix::stdio::dup2_stderr(rest.get(1).unwrap_or(first)).during(Step::Start)
}

/// A terminal of the container's own: the side of whoever sits at it, and the command's.
fn open_terminal(size: TerminalSize, prepared: &Prepared) -> Result<(OwnedFd, OwnedFd), Failure> {
    let at = Path::new("/dev/ptmx");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).during_at(Step::Terminal, at)?;
    rustix::pty::unlockpt(&master).during_at(Step::Terminal, at)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).during_at(Step::Terminal, at)?;
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).during_at(Step::Terminal, at)?;
    // Where the terminal is the machine's it cannot be given away: then its user can use it, but not open it anew by name.
    let _ = rustix::fs::fchown(&slave, Some(prepared.uid()), None);
    Ok((master, slave))
}
