//! Asking the process that keeps a container: it listens on a socket in the container's directory.

use super::container::{Container, Containers};
use super::terminal::{self, RawMode};
use super::{RunError, Stdio};
use crate::sandbox::{Control, Exit, TerminalSize};
use crate::sys::SignalSet;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A further command in a container. Arguments and variables are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub args: Vec<Vec<u8>>,
    /// `NAME=VALUE`, on top of the container's.
    pub env: Vec<Vec<u8>>,
    /// Its working directory; the container's if `None`.
    pub workdir: Option<Vec<u8>>,
    /// Its user; the container's if `None`.
    pub user: Option<String>,
    /// The size of the terminal that it has.
    pub terminal: Option<TerminalSize>,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// To start a command; its standard input, output and error come along unless it has a terminal.
    Exec(ExecOptions),
    /// To send a signal to the container's command.
    Signal(i32),
    /// For the container's root directory.
    Root,
    /// To have the command's output written to the two descriptors that come along, and to read its input from a third.
    Attach,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// A command runs; its terminal comes along.
    Started,
    /// It could not be started: the message, and the exit code that stands for it.
    Failed(String, u8),
    /// It has ended.
    Ended(Exit),
    /// It is done; what was asked for comes along.
    Done,
}

/// The socket of a container by a path that is short enough for its address, and what has to stay open meanwhile.
fn socket(dir: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let dir = OwnedFd::from(fs_err::File::open(dir)?.into_parts().0);
    let path = PathBuf::from(format!("/proc/self/fd/{}/socket", dir.as_raw_fd()));
    Ok((dir, path))
}

/// Listens for the container whose files are in `dir`; to be called by its keeper.
pub(super) fn listen(dir: &Path) -> io::Result<UnixListener> {
    let (_dir, path) = socket(dir)?;
    match fs_err::remove_file(dir.join("socket")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => UnixListener::bind(path),
    }
}

/// Asks the keeper of a container that runs.
fn ask(containers: &Containers, container: &Container, ask: &Ask, fds: &[&OwnedFd]) -> Result<Control, RunError> {
    let not_running = || RunError::NotRunning { id: container.id.clone() };
    if !containers.is_running(&container.id)? {
        return Err(not_running());
    }
    let (_dir, path) = socket(&containers.dir(&container.id))?;
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        // It ends, or begins, just now.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => not_running(),
        _ => error.into(),
    })?;
    let control = Control::of(stream.into());
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    control.send(ask, &fds)?;
    Ok(control)
}

/// Sends a signal to the command of a container that runs.
pub fn kill(containers: &Containers, container: &Container, signal: i32) -> Result<(), RunError> {
    let control = ask(containers, container, &Ask::Signal(signal), &[])?;
    control.receive::<Answer>()?;
    Ok(())
}

/// The root directory of a container that runs.
pub(super) fn root(containers: &Containers, container: &Container) -> Result<OwnedFd, RunError> {
    let control = ask(containers, container, &Ask::Root, &[])?;
    let answer = control.receive::<Answer>()?.and_then(|(_, fds)| fds.into_iter().next());
    answer.ok_or_else(|| RunError::NotRunning { id: container.id.clone() })
}

/// Asks a container to stop: by its signal, and, after so many seconds (`None` for ever), by force.
pub fn stop(
    containers: &Containers,
    container: &Container,
    signal: Option<i32>,
    seconds: Option<u64>,
) -> Result<(), RunError> {
    let gone = |error| match error {
        RunError::NotRunning { .. } => Ok(()),
        error => Err(error),
    };
    kill(containers, container, signal.unwrap_or(container.settings.stop_signal)).or_else(gone)?;
    if let Some(seconds) = seconds {
        let (done, ended) = io::pipe()?;
        let (all, id) = (containers.clone(), container.id.clone());
        // Ends with the container.
        std::thread::spawn(move || {
            let _ = all.wait(&id); // where that fails there is nothing left to wait for
            drop(ended);
        });
        let mut fds = [rustix::event::PollFd::new(&done, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
        if rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&limit))).map_err(io::Error::from)? == 0 {
            kill(containers, container, Signal::KILL.as_raw()).or_else(gone)?;
        }
    }
    match containers.wait(&container.id) {
        Err(RunError::NoContainer(_)) => Ok(()),
        other => other.map(drop),
    }
}

/// Starts a further command in a container that runs. Waits for it unless `detach`; its terminal, if it has one, is joined to
/// `stdio`.
pub fn exec(
    containers: &Containers,
    container: &Container,
    options: &ExecOptions,
    stdio: Stdio,
    detach: bool,
) -> Result<Exit, RunError> {
    let terminal = options.terminal.is_some();
    let piped = if terminal { None } else { Some(Piped::of(&stdio)?) };
    let fds: Vec<&OwnedFd> = piped.iter().flat_map(|piped| piped.theirs.iter()).collect();
    let control = ask(containers, container, &Ask::Exec(options.clone()), &fds)?;
    let lost = || RunError::NotRunning { id: container.id.clone() };
    let master = match control.receive::<Answer>()?.ok_or_else(lost)? {
        (Answer::Failed(message, code), _) => return Err(RunError::Exec { message, code }),
        (_, fds) => fds.into_iter().next(),
    };
    if detach {
        return Ok(Exit::Code(0));
    }
    let relayed = match (master, piped) {
        (Some(master), _) => Some(Relayed::terminal(master, &stdio)?),
        (None, Some(piped)) => Some(piped.relay(stdio)),
        (None, None) => None,
    };
    let exit = match control.receive::<Answer>()? {
        Some((Answer::Ended(exit), _)) => exit,
        _ => Exit::Signal(Signal::KILL.as_raw()),
    };
    if let Some(relayed) = relayed {
        relayed.finish();
    }
    Ok(exit)
}

/// Joins `stdio` to a container that runs, until it ends; how it did comes back.
pub fn attach(containers: &Containers, container: &Container, stdio: Stdio) -> Result<u8, RunError> {
    let input = if container.settings.interactive { stdio.input.as_ref() } else { None };
    let raw = match input {
        Some(input) if container.settings.tty => RawMode::set(input.as_fd())?,
        _ => None,
    };
    let fds: Vec<&OwnedFd> = [&stdio.output, &stdio.error].into_iter().chain(input).collect();
    let control = ask(containers, container, &Ask::Attach, &fds)?;
    // The keeper closes it when all is written.
    while control.receive::<Answer>()?.is_some() {}
    drop(raw);
    Ok(containers.wait(&container.id)?.exit_code as u8)
}

/// Descriptors for a command in place of the caller's: what is a terminal must not be one there.
struct Piped {
    theirs: [OwnedFd; 3],
    input: Option<io::PipeWriter>,
    outputs: [Option<io::PipeReader>; 2],
}

impl Piped {
    fn of(stdio: &Stdio) -> io::Result<Piped> {
        let mut input = None;
        let their_input = match &stdio.input {
            None => fs_err::File::open("/dev/null")?.into_parts().0.into(),
            Some(given) if rustix::termios::isatty(given) => {
                let (reader, writer) = io::pipe()?;
                input = Some(writer);
                reader.into()
            }
            Some(given) => given.try_clone()?,
        };
        let output = |given: &OwnedFd| match rustix::termios::isatty(given) {
            true => io::pipe().map(|(reader, writer)| (writer.into(), Some(reader))),
            false => given.try_clone().map(|given| (given, None)),
        };
        let ((out, first), (err, second)) = (output(&stdio.output)?, output(&stdio.error)?);
        Ok(Piped { theirs: [their_input, out, err], input, outputs: [first, second] })
    }

    fn relay(self, stdio: Stdio) -> Relayed {
        let Piped { theirs, input, outputs } = self;
        drop(theirs);
        if let (Some(writer), Some(from)) = (input, stdio.input) {
            // Ends with this process: reading a terminal cannot be interrupted.
            std::thread::spawn(move || terminal::copy(&from, |bytes| terminal::write_all(&writer, bytes)));
        }
        let mut threads = Vec::new();
        for (reader, to) in outputs.into_iter().zip([stdio.output, stdio.error]) {
            if let Some(reader) = reader {
                threads.push(std::thread::spawn(move || {
                    terminal::copy(&reader, |bytes| terminal::write_all(&to, bytes));
                }));
            }
        }
        Relayed { threads, raw: None }
    }
}

/// Threads that copy what a command writes.
struct Relayed {
    threads: Vec<std::thread::JoinHandle<()>>,
    raw: Option<RawMode>,
}

impl Relayed {
    /// Joins the caller's terminal to the container's.
    fn terminal(master: OwnedFd, stdio: &Stdio) -> io::Result<Relayed> {
        let master = Arc::new(master);
        let mut raw = None;
        if let Some(input) = &stdio.input {
            raw = RawMode::set(input.as_fd())?;
            let (input, to) = (input.try_clone()?, master.clone());
            std::thread::spawn(move || terminal::copy(&input, |bytes| terminal::write_all(&to, bytes)));
        }
        let output = stdio.output.try_clone()?;
        if rustix::termios::isatty(&output) {
            let signals = SignalSet::block(&[Signal::WINCH.as_raw()])?;
            let (from, to) = (output.try_clone()?, master.clone());
            std::thread::spawn(move || {
                while let Ok(Some(_)) = signals.wait(None) {
                    terminal::pass_size(from.as_fd(), to.as_fd());
                }
            });
        }
        let copying = std::thread::spawn(move || {
            terminal::copy(&*master, |bytes| terminal::write_all(&output, bytes));
        });
        Ok(Relayed { threads: vec![copying], raw })
    }

    /// Waits until everything that was written has been copied.
    fn finish(self) {
        for thread in self.threads {
            let _ = thread.join(); // one that panicked has copied what it could
        }
        drop(self.raw);
    }
}
