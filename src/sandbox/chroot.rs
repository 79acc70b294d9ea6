//! The tiers without mounts. Chroot: a command as real root in a directory of its own, supervised. Emulated: the same
//! without the root, and without the change of it (see `emulated`).
//!
//! One role process a command. It prepares the tree, forks the command's first process while it has one thread, changes
//! its own root to the tree as well, and then serves the command's system calls (`supervisor`). It is the subreaper of
//! all that descend from the command; when the command ends, or the builder goes away, it kills what is left and puts the
//! tree back as it was.
//!
//! The first process drops its rights, installs the filter, sends the listener, and does the rest of its set-up (working
//! directory, ids) under the supervisor already, so that this is emulated as anything later is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process, set_child_subreaper};

use super::child::{block_forwarded, forwarded};
use super::chroot_tree::PreparedTree;
use super::error::{During, Failure, Step};
use super::exec::{CAPABILITIES, Ids, Prepared};
use super::init::{FromInit, Job, exit_of};
use super::reaper::Reaper;
use super::spawner::Spawner;
use super::spec::{Mount, Network, Root, RunSpec};
use super::supervisor::credentials::Credentials;
use super::supervisor::emulated::Emulated;
use super::supervisor::filter::{Features, Ownership};
use super::supervisor::outside::Outside;
use super::supervisor::places::Places;
use super::supervisor::process::{State, Table};
use super::supervisor::recorded::Recorded;
use super::supervisor::serve::{Files, Setup, Supervisor};
use super::supervisor::shortcuts::Shortcuts;
use super::wire::Control;
use super::{Exit, Tier, emulated, mounts};
use crate::sys::{self, Fork, SignalSet};

/// In the process that a build lives in: checks that this tier can work, and keeps commands from looking into it.
pub(super) fn prepare_build() -> Result<(), Failure> {
    // To where the root is anyway: only whether it is allowed is asked.
    rustix::process::chroot("/").during(Step::Chroot)?;
    sys::forbid_inspection().during(Step::Start)
}

/// The role in the chroot tier: to be called in a process that `Sandbox::run` started, before any thread.
pub fn chroot_role() -> ExitCode {
    role(Tier::Chroot)
}

/// The role in the emulated tier, likewise.
pub fn emulated_role() -> ExitCode {
    role(Tier::Emulated)
}

fn role(tier: Tier) -> ExitCode {
    let Ok(control) = Control::from_stdin() else { return ExitCode::from(125) };
    let told = match run_job(&control, tier) {
        Ok(Some(exit)) => FromInit::Ended(exit),
        // The builder is gone.
        Ok(None) => sys::exit_now(125),
        Err(failure) => FromInit::Failed(failure),
    };
    let sent = control.send(&told, &[]);
    // At once, with all workers.
    sys::exit_now(if sent.is_ok() { 0 } else { 125 })
}

fn run_job(control: &Control, tier: Tier) -> Result<Option<Exit>, Failure> {
    sys::unblock_all();
    if tier == Tier::Emulated {
        emulated::give_up_rights()?;
    }
    sys::forbid_inspection().during(Step::Start)?;
    let gone = || Failure::Step { step: Step::Start, path: None, errno: rustix::io::Errno::PIPE.raw_os_error() };
    let (job, fds): (Job, _) = control.receive().during(Step::Start)?.ok_or_else(gone)?;
    let spec = &job.spec;
    let Root::Dir(root) = &spec.root else { return Err(Failure::NeedsMount { what: "an overlay".into() }) };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let signals = block_forwarded(&[Signal::CHILD]).during(Step::Signals)?;
    set_child_subreaper(Some(rustix::process::getpid())).during(Step::Fork)?;
    let outside = Arc::new(Outside::open().during_at(Step::OpenDirectory, Path::new("/proc"))?);
    let ids = Ids::read()?;
    let mut tree = PreparedTree::prepare(root, spec, &ids)?;
    let step = ChrootStep {
        control,
        spec,
        root,
        ids,
        outside: outside.clone(),
        signals,
        tier,
        pass: random(),
        token: random(),
    };
    let done = Served::open(&outside, &mut tree, step.tree()).and_then(|served| step.run(served, fds));
    // Nothing of the step runs any more, or nothing ever did: this process may go back to where its root was.
    rustix::process::fchdir(outside.root()).during(Step::Chroot)?;
    if tier == Tier::Chroot {
        rustix::process::chroot(".").during(Step::Chroot)?;
    }
    tree.restore()?;
    done
}

/// What the supervisor serves to the step, opened while this process still has its own root.
struct Served {
    root: i32,
    table: Arc<Table>,
    places: Places,
    /// Whose files are whose, where that is recorded.
    recorded: Option<Arc<Recorded>>,
}

impl Served {
    /// With the path of a tree that is not this process's root: see `Places::open`.
    fn open(outside: &Arc<Outside>, tree: &mut PreparedTree, emulated: Option<&Path>) -> Result<Served, Failure> {
        let root = rustix::process::getpid().as_raw_nonzero().get();
        let credentials = Credentials::new(0, 0, &[], CAPABILITIES.into());
        let table = Arc::new(Table::new(root, State { credentials, ..State::default() }, outside.clone()));
        let places = std::mem::take(&mut tree.places);
        let places =
            Places::open(outside.clone(), table.clone(), tree.root(), places, &tree.stands, emulated.is_some());
        let places = places.during(Step::Supervise)?;
        let recorded = emulated.map(|path| {
            let read = Recorded::read(&[path.to_path_buf()]).during_at(Step::Owners, path);
            read.map(|recorded| Arc::new(recorded.seen_from_outside(places.mapping())))
        });
        Ok(Served { root, table, places, recorded: recorded.transpose()? })
    }
}

struct ChrootStep<'a> {
    control: &'a Control,
    spec: &'a RunSpec,
    root: &'a PathBuf,
    ids: Ids,
    outside: Arc<Outside>,
    signals: SignalSet,
    tier: Tier,
    /// See `filter`.
    pass: u64,
    /// What shortcuts are known by; see `filter`.
    token: u64,
}

impl ChrootStep<'_> {
    /// The tree, where it does not become a root.
    fn tree(&self) -> Option<&Path> {
        (self.tier == Tier::Emulated).then_some(self.root)
    }

    fn enter_tree(&self) -> Result<(), Failure> {
        rustix::process::chdir(self.root).during_at(Step::Chroot, self.root)?;
        match self.tier {
            Tier::Emulated => Ok(()),
            Tier::Chroot | Tier::Namespaces => rustix::process::chroot(".").during_at(Step::Chroot, self.root),
        }
    }

    /// Runs the command; `None` where the builder went away meanwhile.
    fn run(&self, served: Served, fds: Vec<OwnedFd>) -> Result<Option<Exit>, Failure> {
        let stdin = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .during_at(Step::OpenDirectory, Path::new("/dev/null"))?;
        let container =
            fds.into_iter().next().map(|requests| Spawner::new(Control::of(requests), self.spec, &self.ids));
        let (ours, theirs) = Control::pair().during(Step::Fork)?;
        match sys::fork().during(Step::Fork)? {
            Fork::Parent(pid) => {
                drop((theirs, stdin, container));
                self.supervise(pid, &ours, served)
            }
            Fork::Child => {
                drop(ours);
                let failure = self.first_process(&stdin, &Control::of(theirs), &served.places, container);
                let _ = self.control.send(&FromInit::Failed(failure), &[]); // then the exit code alone tells
                sys::exit_now(125)
            }
        }
    }

    /// What programs of the step may do without the supervisor: code for that there is for one kind of processor.
    fn shortcuts(&self) -> Option<Shortcuts> {
        if !cfg!(target_arch = "x86_64") {
            return None;
        }
        Some(match self.tier {
            Tier::Emulated => Shortcuts::from_outside(self.token),
            Tier::Chroot | Tier::Namespaces => Shortcuts::past_barriers(self.token),
        })
    }

    /// What the supervisor is to do for the step.
    fn features(&self, is_fenced: bool) -> Features {
        Features {
            credentials: true,
            ownership: if self.tier == Tier::Emulated { Ownership::Recorded } else { Ownership::Real },
            emulated: self.tier == Tier::Emulated,
            pass: Some(self.pass),
            // What they open by themselves is to be fenced.
            shortcuts: self.shortcuts().filter(|_| is_fenced || self.tier == Tier::Emulated).map(|_| self.token),
            places: true,
            hostname: self.spec.hostname.is_some(),
            no_network: self.spec.network == Network::None,
            outsiders: true,
            volatile: !self.spec.mounts.iter().any(Mount::outlives_the_step),
        }
    }

    /// In the command's first process: comes back only with the reason why there is no command.
    fn first_process(
        &self,
        stdin: &OwnedFd,
        supervisor: &Control,
        places: &Places,
        container: Option<Spawner<'_>>,
    ) -> Failure {
        let ready = self.change_root(stdin).and_then(|()| {
            // The tree: its root directory is the working directory in either tier.
            let root = mounts::place(Path::new("."))?;
            let prepared = Prepared::new(root.as_fd(), self.spec, &self.ids)?;
            Ok((root, prepared))
        });
        let (root, prepared) = match ready {
            Ok(ready) => ready,
            Err(failure) => return failure,
        };
        let supervise = || {
            // The supervisor reads this process's memory, the first program's name in it.
            sys::allow_inspection().during(Step::Supervise)?;
            rustix::thread::set_no_new_privs(true).during(Step::Supervise)?;
            let is_fenced = self.fence(root.as_fd(), places)?;
            let listener = sys::install_filter(&self.features(is_fenced).program()).during(Step::Supervise)?;
            supervisor.send(&(), &[listener.as_fd()]).during(Step::Supervise)
        };
        match container {
            Some(container) => container.serve_supervised(&prepared, &supervise),
            None => prepared.exec_supervised(&supervise),
        }
    }

    /// What the command makes the kernel do by itself, past the supervisor, is to end at what it may see; false where
    /// it does not. With the tree as its root that is the tree, and mounts: what it sees elsewhere it is given.
    fn fence(&self, tree: BorrowedFd<'_>, places: &Places) -> Result<bool, Failure> {
        let (devices, inside);
        match self.tier {
            Tier::Emulated => {
                devices = mounts::place(Path::new("/dev"))?;
                inside = [places.sources(), vec![devices.as_fd()]].concat();
            }
            Tier::Chroot | Tier::Namespaces => inside = [places.binds(), vec![tree]].concat(),
        }
        match sys::fence(&inside) {
            // Refused by the container's profile: there is none then, as before Linux 5.19.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP)) => {
                Ok(false)
            }
            done => done.during(Step::Supervise),
        }
    }

    fn change_root(&self, stdin: &OwnedFd) -> Result<(), Failure> {
        // A session, and a process group, that nobody outside is in.
        rustix::process::setsid().during(Step::Fork)?;
        self.enter_tree()?;
        // The tree's own device, where it has one: through a descriptor root could change the mode and owner of the machine's.
        let own = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        match own {
            Ok(own) => rustix::stdio::dup2_stdin(&own).during(Step::Start),
            Err(_) => rustix::stdio::dup2_stdin(stdin).during(Step::Start),
        }
    }

    /// In the role: serves the command's calls until it ends and nothing is left of it.
    fn supervise(&self, first: Pid, child: &Control, served: Served) -> Result<Option<Exit>, Failure> {
        self.enter_tree()?;
        let recorded = served.recorded.clone();
        let received = child.receive::<()>().during(Step::Supervise)?;
        let listener = received.and_then(|((), fds)| fds.into_iter().next());
        let supervisor = match listener {
            Some(listener) => Some(self.start_supervisor(listener, served)?),
            // It failed before that, and has told.
            None => None,
        };
        let read = |path: &Path| Ok(self.outside.read_proc(path)?);
        let reaper = Reaper { read: &read };
        let ended = self.wait(first, &reaper);
        reaper.kill_descendants()?;
        if let Some(supervisor) = supervisor {
            supervisor.settle();
        }
        if let Some(recorded) = recorded {
            recorded.write(self.root, self.root).during_at(Step::Owners, self.root)?;
        }
        ended
    }

    fn start_supervisor(&self, listener: OwnedFd, served: Served) -> Result<Arc<Supervisor>, Failure> {
        // What the supervisor reaches by the number of a descriptor of its own it reaches from here.
        rustix::process::fchdir(self.outside.proc()).during(Step::Supervise)?;
        // Modes of what workers make are the callers' own; each applies its caller's umask.
        rustix::process::umask(Mode::empty());
        let setup = Setup {
            listener: sys::Listener::new(listener),
            outside: self.outside.clone(),
            root: served.root,
            table: served.table,
            files: match served.recorded {
                Some(recorded) => Files::Emulated(Emulated::new(served.places, recorded).during(Step::Supervise)?),
                None => Files::Placed(served.places),
            },
            hostname: self.spec.hostname.clone(),
            pass: self.pass,
            shortcuts: self.shortcuts(),
        };
        Supervisor::start(setup).during(Step::Supervise)
    }

    /// Waits for the first process, reaping every other child on the way and passing signals on; `None` once the builder
    /// has gone away.
    fn wait(&self, first: Pid, reaper: &Reaper<'_>) -> Result<Option<Exit>, Failure> {
        loop {
            if let Some(status) = reaper.reap(first)? {
                return Ok(Some(exit_of(status)));
            }
            let Some(caught) = self.signals.wait(Some(self.control.as_fd())).during(Step::Wait)? else {
                return Ok(None);
            };
            if let (Some(signal), true) = (forwarded(caught.signal), caught.from_process) {
                kill_process(first, signal).during(Step::Wait)?; // not reaped yet, so the pid is its own
            }
        }
    }
}

/// A number that nobody can guess.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() | 1
}

/// `/etc/hosts` and `/etc/resolv.conf` as the command is to see them.
pub(super) fn own_files(spec: &RunSpec) -> [(&'static str, Vec<u8>); 2] {
    [("/etc/hosts", mounts::hosts(spec)), ("/etc/resolv.conf", mounts::resolv())]
}
