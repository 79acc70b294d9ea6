//! Keeping a container: the process that starts it, holds its lock, writes its log, answers at its socket, and writes down
//! how it ended.

use super::client::{self, Answer, Ask, ExecOptions};
use super::container::{Container, Containers, State, now};
use super::logs::Log;
use super::terminal::{self, RawMode};
use super::volumes::{self, Volumes};
use super::{RunError, Services, Stdio, environment};
use crate::oci::Layer;
use crate::progress::Stream;
use crate::rootfs::{KeptTree, Snapshotter};
use crate::sandbox::{self, Command, Control, Event, Exit, Network, RunSpec, Running, SandboxError, TerminalSize};
use crate::store::Image;
use crate::sys::SignalSet;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Signals that are passed on to the command.
const FORWARDED: [Signal; 6] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];
/// Signals that are passed on to a container once it runs. Until then they end this process, as they would without.
pub struct Interrupts {
    set: Arc<SignalSet>,
    /// Ends the thread that waits for them.
    until: Mutex<Option<(io::PipeWriter, JoinHandle<()>)>>,
}

impl Interrupts {
    /// To be called before the process has threads: they would get the signals.
    pub fn block() -> io::Result<Interrupts> {
        let watched: Vec<i32> = FORWARDED.iter().chain([&Signal::WINCH]).map(|signal| signal.as_raw()).collect();
        let set = Arc::new(SignalSet::block(&watched)?);
        let (done, until) = io::pipe()?;
        let waiting = set.clone();
        let thread = std::thread::spawn(move || {
            while let Ok(Some(caught)) = waiting.wait(Some(done.as_fd())) {
                if caught.signal != Signal::WINCH.as_raw() {
                    crate::sys::exit_now(Exit::Signal(caught.signal).code());
                }
            }
        });
        Ok(Interrupts { set, until: Mutex::new(Some((until, thread))) })
    }

    /// Ends the wait for them.
    fn take_over(&self) {
        if let Some((until, thread)) = lock(&self.until).take() {
            drop(until);
            let _ = thread.join(); // one that panicked waits no more either
        }
    }

    fn set(&self) -> &SignalSet {
        &self.set
    }
}

/// The size of a terminal where nobody sits at one.
const NO_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// How a container is joined to whoever starts it.
#[derive(Debug)]
pub struct Attachment {
    /// The caller's; `None` for a container in the background.
    pub stdio: Option<Stdio>,
    /// What it writes is kept.
    pub log: bool,
}

/// The tree of a container, to be started from or looked at.
pub(super) fn tree(container: &Container, services: &Services<'_>) -> Result<KeptTree, RunError> {
    tree_in(&Containers::of(services.store.root()).dir(&container.id), container, services)
}

/// The same, of a container whose files are in `dir`.
pub(super) fn tree_in(dir: &Path, container: &Container, services: &Services<'_>) -> Result<KeptTree, RunError> {
    let image = Image::load(services.store, &container.manifest, &container.platform)?;
    let fetch = |layer: &Layer| Ok(services.registry.ensure_known(services.store, &layer.digest, services.progress)?);
    let snapshots = Snapshotter::new(services.store.clone(), container.snapshots);
    Ok(KeptTree::open(&snapshots, dir, &image.layers, &fetch)?)
}

/// Starts a container and keeps it until it ends; `started` is called when its command runs. Signals that this process is sent
/// are passed on from now on.
pub fn start(
    container: &Container,
    services: &Services<'_>,
    attachment: Attachment,
    signals: &Interrupts,
    started: &mut dyn FnMut(),
) -> Result<Exit, RunError> {
    let containers = Containers::of(services.store.root());
    let kept = containers.keep(container)?;
    signals.take_over();
    let mut state = State { keeper: Some(std::process::id()), ..State::default() };
    let result = keep(container, services, attachment, signals.set(), &mut |begun| {
        state.started = Some(begun);
        let written = containers.put_state(&container.id, &state);
        started();
        written
    });
    state.finished = state.started.is_some().then(now);
    match &result {
        Ok(exit) => state.exit_code = exit.code().into(),
        Err(error) => {
            state.exit_code = error.exit_code().into();
            state.error = Some(error.to_string());
        }
    }
    containers.end(&kept, &state)?;
    let socket = containers.dir(&container.id).join("socket");
    if let Err(error) = fs_err::remove_file(socket) {
        tracing::debug!(%error, "no socket to remove");
    }
    if container.settings.auto_remove {
        super::remove_kept(services, container)?;
    }
    result
}

fn keep(
    container: &Container,
    services: &Services<'_>,
    attachment: Attachment,
    signals: &SignalSet,
    started: &mut dyn FnMut(String) -> Result<(), RunError>,
) -> Result<Exit, RunError> {
    if container.settings.args().is_empty() {
        return Err(RunError::NoCommand { image: container.image.clone() });
    }
    let tree = tree(container, services)?;
    let dir = Containers::of(services.store.root()).dir(&container.id);
    let mounts = &container.settings.mounts;
    let mounts = volumes::prepare(&Volumes::of(services.store.root()), mounts, &tree.view()?)?;
    let mut spec = spec(container, RunSpec::new(tree.root()?, Vec::<OsString>::new()));
    spec.mounts = mounts;
    let listener = client::listen(&dir)?;
    let log = if attachment.log { Some(Log::open(&dir.join("log"))?) } else { None };
    let running = services.sandbox.start(&spec)?;
    let mut first = First::prepare(container, attachment.stdio)?;
    let sinks = first.sinks.take().map(|(out, err)| Sink { out, err, _connection: None });
    let keeper = Arc::new(Keeper {
        container: container.clone(),
        running,
        sessions: Mutex::default(),
        next: AtomicU64::new(1),
        sinks: Mutex::new(sinks.into_iter().collect()),
        input: Mutex::new(None),
        log,
    });
    keeper.running.start(
        0,
        &command(container),
        first.size,
        &first.theirs.iter().map(AsFd::as_fd).collect::<Vec<_>>(),
    )?;
    first.theirs.clear();
    let master = match keeper.running.next_event()? {
        Some((Event::Started { .. }, fds)) => fds.into_iter().next(),
        Some((Event::Failed { failure, .. }, _)) => {
            // It ends by itself, and clears up.
            keeper.running.finish()?;
            return Err(SandboxError::from(failure).into());
        }
        _ => return Err(keeper.running.finish().map_or_else(RunError::from, |_| RunError::Lost)),
    };
    started(now())?;
    keeper.wait(listener, first, master, signals)
}

/// What the sandbox is told of a container.
fn spec(container: &Container, mut spec: RunSpec) -> RunSpec {
    let settings = &container.settings;
    let command = command(container);
    // Checked before anything runs.
    (spec.args, spec.env, spec.cwd, spec.user) = (command.args, command.env, command.cwd, command.user);
    spec.hosts.clone_from(&settings.add_hosts);
    spec.hostname.clone_from(&settings.hostname);
    spec.network = if settings.network == "none" { Network::None } else { Network::Host };
    spec.shm_size = settings.shm_size;
    spec.limits.clone_from(&settings.limits);
    spec.readonly_root = settings.readonly;
    spec.stdio = sandbox::Stdio::Served;
    spec
}

/// The container's command.
fn command(container: &Container) -> Command {
    let settings = &container.settings;
    let options =
        ExecOptions { args: settings.args(), terminal: settings.tty.then_some(NO_SIZE), ..ExecOptions::default() };
    exec_command(container, &options)
}

/// A further command.
fn exec_command(container: &Container, options: &ExecOptions) -> Command {
    let settings = &container.settings;
    let mut own: Vec<Vec<u8>> = Vec::new();
    if let Some(name) = &settings.hostname {
        own.push([b"HOSTNAME=", name.as_bytes()].concat());
    }
    if options.terminal.is_some() {
        own.push(b"TERM=xterm".to_vec());
    }
    let variables = own.iter().chain(&settings.env).chain(&options.env);
    let workdir = options.workdir.as_ref().unwrap_or(&settings.workdir);
    Command {
        args: options.args.iter().cloned().map(OsString::from_vec).collect(),
        env: environment(variables.map(Vec::as_slice)),
        cwd: PathBuf::from("/").join(OsString::from_vec(workdir.clone())),
        user: options.user.clone().unwrap_or_else(|| settings.user.clone()),
    }
}

/// What the container's command is joined to.
struct First {
    /// The size of its terminal, if it has one.
    size: Option<TerminalSize>,
    /// Else its standard input, output and error.
    theirs: Vec<OwnedFd>,
    /// The other ends of its output.
    outputs: Vec<(Stream, io::PipeReader)>,
    /// The other end of its input, where that is not the caller's itself.
    input: Option<OwnedFd>,
    /// Where the caller's input is copied from.
    from: Option<OwnedFd>,
    /// Where its output goes.
    sinks: Option<(OwnedFd, OwnedFd)>,
}

impl First {
    fn prepare(container: &Container, stdio: Option<Stdio>) -> io::Result<First> {
        let mut first =
            First { size: None, theirs: Vec::new(), outputs: Vec::new(), input: None, from: None, sinks: None };
        let mut given = None;
        if let Some(stdio) = stdio {
            given = stdio.input.filter(|_| container.settings.interactive);
            first.sinks = Some((stdio.output, stdio.error));
        }
        if container.settings.tty {
            let seen = first.sinks.as_ref().and_then(|(out, _)| terminal::size_of(out.as_fd()));
            first.size = Some(seen.unwrap_or(NO_SIZE));
            first.from = given;
            return Ok(first);
        }
        let input = match given {
            // A terminal of the caller's must not be the container's.
            Some(given) if !rustix::termios::isatty(&given) => given,
            given if container.settings.interactive => {
                let (reader, writer) = io::pipe()?;
                (first.input, first.from) = (Some(writer.into()), given);
                reader.into()
            }
            _ => fs_err::File::open("/dev/null")?.into_parts().0.into(),
        };
        first.theirs.push(input);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (reader, writer) = io::pipe()?;
            first.theirs.push(writer.into());
            first.outputs.push((stream, reader));
        }
        Ok(first)
    }
}

/// Where output is written to.
struct Sink {
    out: OwnedFd,
    err: OwnedFd,
    /// Closed when everything is written.
    _connection: Option<Control>,
}

/// An event, with the descriptors that came with it.
type Told = (Event, Vec<OwnedFd>);

/// A container that runs, shared by the threads that keep it.
struct Keeper {
    container: Container,
    running: Running,
    /// Where events of further commands go.
    sessions: Mutex<HashMap<u64, Sender<Told>>>,
    next: AtomicU64,
    sinks: Mutex<Vec<Sink>>,
    /// Where input for the command is written to.
    input: Mutex<Option<OwnedFd>>,
    log: Option<Log>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Serves the container until it ends.
    fn wait(
        self: &Arc<Self>,
        listener: UnixListener,
        first: First,
        master: Option<OwnedFd>,
        signals: &SignalSet,
    ) -> Result<Exit, RunError> {
        let raw = match (&master, &first.from) {
            (Some(_), Some(from)) => RawMode::set(from.as_fd())?,
            _ => None,
        };
        let input = match &master {
            Some(master) => Some(master.try_clone()?),
            None => first.input,
        };
        *lock(&self.input) = input.as_ref().map(OwnedFd::try_clone).transpose()?;
        if let (Some(from), Some(to)) = (first.from, input) {
            let (keeper, tty) = (self.clone(), master.is_some());
            // Ends with this process: reading a terminal cannot be interrupted.
            std::thread::spawn(move || {
                terminal::copy(&from, |bytes| terminal::write_all(&to, bytes));
                if !tty {
                    *lock(&keeper.input) = None;
                }
            });
        }
        let copying = self.copy_output(first.outputs, master.as_ref())?;
        let accepting = listener.try_clone()?;
        let keeper = self.clone();
        std::thread::spawn(move || keeper.accept(&accepting));
        let (done, ended) = io::pipe()?;
        let keeper = self.clone();
        let events = std::thread::spawn(move || keeper.take_events(ended));
        while let Some(caught) = signals.wait(Some(done.as_fd()))? {
            if caught.signal == Signal::WINCH.as_raw() {
                self.pass_size(master.as_ref());
            } else if self.running.signal(0, caught.signal).is_err() {
                break;
            }
        }
        let told = events.join().unwrap_or(None);
        let finished = self.running.finish();
        let _ = copying.join(); // one that panicked has copied what it could
        drop(raw);
        lock(&self.sinks).clear();
        // Nobody else is let in.
        let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        match told {
            Some(exit) => Ok(exit),
            None => Ok(finished?),
        }
    }

    fn pass_size(&self, master: Option<&OwnedFd>) {
        if let (Some(master), Some(sink)) = (master, lock(&self.sinks).first()) {
            terminal::pass_size(sink.out.as_fd(), master.as_fd());
        }
    }

    /// Copies what the command writes, in a thread that ends when nobody can write any more.
    fn copy_output(
        self: &Arc<Self>,
        outputs: Vec<(Stream, io::PipeReader)>,
        master: Option<&OwnedFd>,
    ) -> io::Result<JoinHandle<()>> {
        let mut from: Vec<(Stream, OwnedFd)> =
            outputs.into_iter().map(|(stream, reader)| (stream, reader.into())).collect();
        if let Some(master) = master {
            from.push((Stream::Stdout, master.try_clone()?));
        }
        let keeper = self.clone();
        Ok(std::thread::spawn(move || keeper.copy_until_closed(from)))
    }

    /// By one thread for both streams, so that what comes one after the other mostly stays so.
    fn copy_until_closed(&self, mut from: Vec<(Stream, OwnedFd)>) {
        let mut buffer = vec![0; 64 << 10];
        while !from.is_empty() {
            let mut fds: Vec<PollFd<'_>> = from.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            if rustix::io::retry_on_intr(|| poll(&mut fds, None)).is_err() {
                return;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut at = 0;
            let mut ready = ready.into_iter();
            from.retain(|(stream, fd)| {
                at += 1;
                if !ready.next().unwrap_or(false) {
                    return true;
                }
                // Of a terminal that nobody has open any more reading fails.
                match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer)) {
                    Ok(0) | Err(_) => false,
                    Ok(got) => {
                        self.pass_on(*stream, &buffer[..got]);
                        true
                    }
                }
            });
        }
    }

    fn pass_on(&self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &self.log
            && let Err(error) = log.add(stream, bytes)
        {
            tracing::warn!(%error, "the container's log is not complete");
        }
        lock(&self.sinks).retain(|sink| {
            let to = if stream == Stream::Stdout { &sink.out } else { &sink.err };
            // One that went away gets no more; the container goes on.
            terminal::write_all(to, bytes).is_ok()
        });
    }

    /// Hands events to those who wait for them until the container ends; gives how its command did, if it told.
    fn take_events(&self, ended: io::PipeWriter) -> Option<Exit> {
        let mut told = None;
        while let Ok(Some((event, fds))) = self.running.next_event() {
            let session = match &event {
                Event::Ended { session: 0, exit } => {
                    told = Some(*exit);
                    continue;
                }
                Event::Started { session } | Event::Failed { session, .. } | Event::Ended { session, .. } => *session,
                Event::Ready => continue,
            };
            if let Some(waiting) = lock(&self.sessions).get(&session) {
                let _ = waiting.send((event, fds)); // who asked has gone
            }
        }
        lock(&self.sessions).clear();
        drop(ended);
        told
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            let keeper = self.clone();
            std::thread::spawn(move || {
                if let Err(error) = keeper.answer(Control::of(stream.into())) {
                    tracing::debug!(%error, "somebody who asked has gone");
                }
            });
        }
    }

    fn answer(&self, asked: Control) -> io::Result<()> {
        match asked.receive::<Ask>()? {
            None => Ok(()),
            Some((Ask::Root, _)) => asked.send(&Answer::Done, &[self.running.root()]),
            Some((Ask::Signal(signal), _)) => {
                self.running.signal(0, signal)?;
                asked.send(&Answer::Done, &[])
            }
            Some((Ask::Attach, fds)) => self.attach(asked, fds),
            Some((Ask::Exec(options), fds)) => self.exec(&asked, &options, fds),
        }
    }

    fn attach(&self, asked: Control, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut fds = fds.into_iter();
        let (Some(out), Some(err)) = (fds.next(), fds.next()) else { return Ok(()) };
        lock(&self.sinks).push(Sink { out, err, _connection: Some(asked) });
        let to = lock(&self.input).as_ref().map(OwnedFd::try_clone).transpose()?;
        if let (Some(from), Some(to)) = (fds.next(), to) {
            terminal::copy(&from, |bytes| terminal::write_all(&to, bytes));
        }
        Ok(())
    }

    fn exec(&self, asked: &Control, options: &ExecOptions, fds: Vec<OwnedFd>) -> io::Result<()> {
        let (session, events) = self.session();
        let command = exec_command(&self.container, options);
        let stdio: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.running.start(session, &command, options.terminal, &stdio)?;
        drop(fds);
        let result = tell(asked, &events);
        lock(&self.sessions).remove(&session);
        result
    }

    fn session(&self) -> (u64, Receiver<(Event, Vec<OwnedFd>)>) {
        let session = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = channel();
        lock(&self.sessions).insert(session, sender);
        (session, events)
    }
}

/// Tells who asked for a command what becomes of it.
fn tell(asked: &Control, events: &Receiver<(Event, Vec<OwnedFd>)>) -> io::Result<()> {
    for (event, fds) in events {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match event {
            Event::Failed { failure, .. } => {
                let error = SandboxError::from(failure);
                return asked.send(&Answer::Failed(error.to_string(), error.exit_code()), &[]);
            }
            Event::Ended { exit, .. } => return asked.send(&Answer::Ended(exit), &[]),
            Event::Started { .. } | Event::Ready => asked.send(&Answer::Started, &fds)?,
        }
    }
    // The container has ended, and the command with it.
    asked.send(&Answer::Ended(Exit::Signal(Signal::KILL.as_raw())), &[])
}
