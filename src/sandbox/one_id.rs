//! A command in a user namespace of one id: every process really is that id, and a supervisor makes it seem otherwise.
//!
//! The supervisor lives in the second process of `init`, which has the command's root, mounts and processes. Owners are
//! recorded in the tree and beside it (`supervisor::owners`).

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::chroot::random;
use super::error::{During, Failure, Step};
use super::exec::{self, Prepared};
use super::spawner::Spawner;
use super::spec::Root;
use super::supervisor::credentials::Credentials;
use super::supervisor::filter::{Features, Ownership};
use super::supervisor::outside::Outside;
use super::supervisor::process::{State, Table};
use super::supervisor::recorded::Recorded;
use super::supervisor::serve::{Files, Setup, Supervisor};
use super::supervisor::shortcuts::Shortcuts;
use super::wire::Control;
use crate::sys;

/// What there is to know of the tree before the root changes.
#[derive(Debug)]
pub(super) struct OneId {
    recorded: Arc<Recorded>,
    /// The changed tree, the directory that it is in, and its name there: opened before anything is mounted on it.
    changed: OwnedFd,
    beside: OwnedFd,
    name: OsString,
    /// What calls are known by that programs make past the supervisor; see `filter`. There is code for one kind of processor.
    token: Option<u64>,
}

impl OneId {
    /// Reads the records of `root`, which is not mounted yet.
    pub(super) fn read(root: &Root) -> Result<OneId, Failure> {
        let (changed, lowers) = match root {
            Root::Overlay { lowers, upper, .. } => (upper, lowers.as_slice()),
            Root::Dir(dir) => (dir, &[][..]),
        };
        let layers: Vec<PathBuf> = std::iter::once(changed).chain(lowers).cloned().collect();
        let recorded = Arc::new(Recorded::read(&layers).during_at(Step::Owners, changed)?);
        let parent = changed.parent().unwrap_or(Path::new("/"));
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).during_at(Step::Owners, path)
        };
        let name = changed.file_name().unwrap_or_default().to_os_string();
        let token = cfg!(target_arch = "x86_64").then(random);
        Ok(OneId { recorded, changed: open(changed)?, beside: open(parent)?, name, token })
    }

    /// In the command's first process: comes back only with the reason why there is no command.
    pub(super) fn first_process(
        &self,
        prepared: &Prepared,
        supervisor: &Control,
        own_pids: bool,
        container: Option<Spawner<'_>>,
    ) -> Failure {
        let supervise = || {
            rustix::thread::set_no_new_privs(true).during(Step::Supervise)?;
            let listener = sys::install_filter(&self.features(own_pids).program()).during(Step::Supervise)?;
            supervisor.send(&(), &[listener.as_fd()]).during(Step::Supervise)
        };
        match container {
            Some(container) => container.serve_supervised(prepared, &supervise),
            None => prepared.exec_supervised(&supervise),
        }
    }

    /// In the second process of `init`: starts the supervisor once the first process has sent its listener; `None` where it
    /// failed before that, and has told.
    pub(super) fn supervise(&self, child: &Control) -> Result<Option<Arc<Supervisor>>, Failure> {
        let received = child.receive::<()>().during(Step::Supervise)?;
        let Some(listener) = received.and_then(|((), fds)| fds.into_iter().next()) else { return Ok(None) };
        // Modes of what workers make are the callers' own; each applies its caller's umask.
        rustix::process::umask(Mode::empty());
        let outside = Arc::new(Outside::open().during_at(Step::OpenDirectory, Path::new("/proc"))?);
        let root = rustix::process::getpid().as_raw_nonzero().get();
        let first = State { credentials: Credentials::new(0, 0, &[], exec::CAPABILITIES.into()), ..State::default() };
        let setup = Setup {
            listener: sys::Listener::new(listener),
            table: Arc::new(Table::new(root, first, outside.clone())),
            files: Files::Recorded(self.recorded.clone()),
            root,
            hostname: None,
            pass: 0,
            shortcuts: self.token.map(|token| Shortcuts::past_records(token, self.recorded.told())),
            outside,
        };
        Supervisor::start(setup).during(Step::Supervise).map(Some)
    }

    /// Writes what has to lie beside the tree; nothing of the command runs any more.
    pub(super) fn write(&self) -> Result<(), Failure> {
        let path = |fd: &OwnedFd| Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string());
        let layer = path(&self.beside).join(&self.name);
        self.recorded.write(&path(&self.changed), &layer).during_at(Step::Owners, &layer)
    }

    fn features(&self, own_pids: bool) -> Features {
        Features {
            credentials: true,
            ownership: Ownership::Recorded,
            places: false,
            emulated: false,
            pass: None,
            shortcuts: self.token,
            hostname: false,
            no_network: false,
            outsiders: !own_pids,
            volatile: false, // where it can be, the overlay is
        }
    }
}
