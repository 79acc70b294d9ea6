//! The role `init`: sets up the namespaces and the root of one command, runs it and cleans up after it.
//!
//! Two processes. The first makes the namespaces, mounts the root and the mount points; it stays out of the new pid
//! namespace and removes the mount points when all is over. The second is pid 1: it mounts the rest, changes the root,
//! starts the command as its child, reaps what is orphaned, and ends when the command ends, which kills everything that
//! the command left running. Where a new /proc cannot be mounted there is no pid namespace; then the second process is
//! the subreaper of all that descend from it and kills them at the end. With one id it also supervises the command
//! (`one_id`), and kills what is left before it writes down whose files are whose.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, pivot_root, set_child_subreaper};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::Exit;
use super::child::{block_forwarded, forwarded};
use super::device_nodes;
use super::enter::die_with_parent;
use super::error::{During, Failure, Namespaces, Step};
use super::exec::{Ids, Prepared};
use super::mounts::{self, MountedRoot, Targets};
use super::one_id::OneId;
use super::reaper::Reaper;
use super::sources::Sources;
use super::spawner::{Rights, Spawner};
use super::spec::{Network, RunSpec, Stdio};
use super::target::Stubs;
use super::wire::Control;
use crate::sys::{self, Fork, SignalSet};

/// What `init` is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The command.
    pub(super) spec: RunSpec,
    /// Whether to make a pid namespace, and a new /proc.
    pub(super) own_pids: bool,
}

/// What `init` tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromInit {
    /// The command ended.
    Ended(Exit),
    /// It could not be run.
    Failed(Failure),
}

/// The role: to be called in a process that `Sandbox::run` started, before any thread.
pub fn init() -> ExitCode {
    let Ok(control) = Control::from_stdin() else { return ExitCode::from(125) };
    match run_job(&control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = control.send(&FromInit::Failed(failure), &[]); // nobody is there to tell where this fails
            ExitCode::from(125)
        }
    }
}

fn run_job(control: &Control) -> Result<(), Failure> {
    sys::unblock_all();
    die_with_parent(control)?;
    let gone = || Failure::Step { step: Step::Start, path: None, errno: rustix::io::Errno::PIPE.raw_os_error() };
    let (job, fds): (Job, _) = control.receive().during(Step::Start)?.ok_or_else(gone)?;
    let spec = &job.spec;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let signals = block_forwarded(&[Signal::CHILD]).during(Step::Signals)?;
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    flags.set(UnshareFlags::NEWPID, job.own_pids);
    flags.set(UnshareFlags::NEWNET, spec.network == Network::None);
    sys::unshare(flags).during(Step::Unshare(Namespaces::Step))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).during(Step::MakePrivate)?;
    if let Some(name) = &spec.hostname {
        rustix::system::sethostname(name.as_bytes()).during(Step::Hostname)?;
    }
    if spec.network == Network::None {
        sys::bring_loopback_up().during(Step::Loopback)?;
    }
    let ids = Ids::read()?;
    let one_id = if ids.one_id() { Some(OneId::read(&spec.root)?) } else { None };
    let root = MountedRoot::mount(&spec.root)?;
    mounts::write_own_files(&root, spec)?;
    let tree = root.open()?;
    let mut stubs = Stubs::default();
    let sources = Sources::prepare(&root, spec, &ids)?;
    let place = Place { root, ids, sources, one_id };
    let done = Targets::prepare(&mut stubs, tree.as_fd(), spec, &place.sources)
        .and_then(|targets| run_inner(control, &job, &place, &targets, fds, &signals));
    stubs.remove(tree.as_fd())?;
    drop(tree);
    place.sources.unmount(spec)?;
    place.root.unmount(&job.spec.root)?;
    done
}

/// What the first process prepared for the second.
struct Place {
    root: MountedRoot,
    ids: Ids,
    sources: Sources,
    one_id: Option<OneId>,
}

/// Starts the second process and waits for it.
fn run_inner(
    control: &Control,
    job: &Job,
    place: &Place,
    targets: &Targets,
    fds: Vec<OwnedFd>,
    signals: &SignalSet,
) -> Result<(), Failure> {
    let (alive, ours) = Control::pair().during(Step::Fork)?;
    match sys::fork().during(Step::Fork)? {
        Fork::Parent(pid) => {
            drop(alive);
            let status = wait_for(pid, signals, reap_any)?;
            drop(ours);
            // Killed from outside (out of memory): nobody has told yet.
            match exit_of(status) {
                Exit::Signal(signal) => control.send(&FromInit::Ended(Exit::Signal(signal)), &[]).during(Step::Wait),
                Exit::Code(_) => Ok(()),
            }
        }
        Fork::Child => {
            drop(ours);
            let told = match pid_one(&alive, control, job, place, targets, fds) {
                Ok(exit) => FromInit::Ended(exit),
                Err(failure) => FromInit::Failed(failure),
            };
            let sent = control.send(&told, &[]);
            sys::exit_now(if sent.is_ok() { 0 } else { 125 })
        }
    }
}

fn pid_one(
    alive: &Control,
    control: &Control,
    job: &Job,
    place: &Place,
    targets: &Targets,
    fds: Vec<OwnedFd>,
) -> Result<Exit, Failure> {
    die_with_parent(alive)?;
    let signals = block_forwarded(&[Signal::CHILD]).during(Step::Signals)?;
    let proc = if job.own_pids { Some(mounts::new_proc()?) } else { None };
    if !job.own_pids {
        set_child_subreaper(Some(rustix::process::getpid())).during(Step::Fork)?;
    }
    sys::unshare(UnshareFlags::NEWNS).during(Step::Unshare(Namespaces::Mount))?;
    mounts::mount_all(&place.root, targets, proc, &job.spec, &place.sources)?;
    change_root(&place.root)?;
    let prepared = Prepared::new(mounts::place(Path::new("/"))?.as_fd(), &job.spec, &place.ids)?;
    let stdin = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .during_at(Step::OpenDirectory, Path::new("/dev/null"))?;
    let container = fds.into_iter().next().map(|requests| Spawner::new(Control::of(requests), &job.spec, &place.ids));
    if let Some(one_id) = &place.one_id {
        return run_supervised(control, job, one_id, &prepared, &stdin, container, &signals);
    }
    prepared.make_cwd()?;
    let (ours, theirs) = Control::pair().during(Step::Fork)?;
    match sys::fork().during(Step::Fork)? {
        Fork::Parent(pid) => {
            drop((stdin, theirs, container));
            device_nodes::serve(&ours)?;
            let exit = exit_of(wait_for(pid, &signals, reap_any)?);
            if !job.own_pids {
                Reaper { read: &read_proc }.kill_descendants()?;
            }
            Ok(exit)
        }
        Fork::Child => {
            drop(ours);
            first_process(control, job, &stdin, || {
                match (device_nodes::hand_over(&Control::of(theirs), job.own_pids), container) {
                    (Ok(()), None) => prepared.exec(),
                    (Ok(()), Some(container)) => container.serve(Rights::All),
                    (Err(failure), _) => failure,
                }
            })
        }
    }
}

/// The same where the command's system calls are supervised.
fn run_supervised(
    control: &Control,
    job: &Job,
    one_id: &OneId,
    prepared: &Prepared,
    stdin: &OwnedFd,
    container: Option<Spawner<'_>>,
    signals: &SignalSet,
) -> Result<Exit, Failure> {
    let (ours, theirs) = Control::pair().during(Step::Fork)?;
    match sys::fork().during(Step::Fork)? {
        Fork::Parent(pid) => {
            drop((theirs, container));
            let supervisor = one_id.supervise(&ours)?;
            let exit = exit_of(wait_for(pid, signals, |first| Reaper { read: &read_proc }.reap(first))?);
            Reaper { read: &read_proc }.kill_descendants()?;
            if let Some(supervisor) = supervisor {
                supervisor.settle();
            }
            one_id.write()?;
            Ok(exit)
        }
        Fork::Child => {
            drop(ours);
            let supervisor = Control::of(theirs);
            first_process(control, job, stdin, || one_id.first_process(prepared, &supervisor, job.own_pids, container))
        }
    }
}

/// In the command's first process: becomes the command.
fn first_process(control: &Control, job: &Job, stdin: &OwnedFd, exec: impl FnOnce() -> Failure) -> ! {
    // A session, and so a process group, that nobody outside is in: `kill 0` means the whole group, in all pid namespaces.
    // A terminal's program stays in the terminal's.
    let alone = match job.spec.stdio {
        Stdio::Capture => rustix::process::setsid().map(drop),
        Stdio::Served => Ok(()),
    };
    let failure = match alone.and_then(|()| rustix::stdio::dup2_stdin(stdin)).during(Step::Start) {
        Ok(()) => exec(),
        Err(failure) => failure,
    };
    let _ = control.send(&FromInit::Failed(failure), &[]); // the exit code is not looked at once this is sent
    sys::exit_now(125)
}

/// Makes the root the root of this process, and drops everything outside it.
fn change_root(root: &MountedRoot) -> Result<(), Failure> {
    let fd = root.open()?;
    rustix::process::fchdir(&fd).during(Step::PivotRoot)?;
    // With "." twice the old root ends up on top of the new one, and is then taken away, see pivot_root(2).
    pivot_root(".", ".").during(Step::PivotRoot)?;
    unmount(".", UnmountFlags::DETACH).during(Step::PivotRoot)?;
    rustix::process::chdir("/").during(Step::PivotRoot)
}

/// Waits for `main`, reaping every other child on the way and passing signals on.
fn wait_for(
    main: Pid,
    signals: &SignalSet,
    reap: impl Fn(Pid) -> Result<Option<WaitStatus>, Failure>,
) -> Result<WaitStatus, Failure> {
    loop {
        if let Some(status) = reap(main)? {
            return Ok(status);
        }
        let caught = signals.wait(None).during(Step::Wait)?;
        let signal = caught.filter(|caught| caught.from_process).and_then(|caught| forwarded(caught.signal));
        if let Some(signal) = signal {
            kill_process(main, signal).during(Step::Wait)?; // not reaped yet, so the pid is its own
        }
    }
}

/// Reaps all children that have ended, where none is traced; how `first` did, if it has.
fn reap_any(first: Pid) -> Result<Option<WaitStatus>, Failure> {
    while let Some((pid, status)) = rustix::process::wait(WaitOptions::NOHANG).during(Step::Wait)? {
        if pid == first {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

/// Reads a file below /proc.
fn read_proc(path: &Path) -> std::io::Result<Vec<u8>> {
    fs_err::read(Path::new("/proc").join(path))
}

pub(super) fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}
