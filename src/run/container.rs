//! Containers as state: what one is, where it lies, and whether it runs.
//!
//! ```text
//! containers/
//!   lock               held while a container is made, renamed or removed
//!   ID/
//!     config.json      what it is; changes when it is renamed
//!     state.json       how its last run went
//!     lock             held exclusively by the process that keeps it for as long as it runs
//!     socket           where that process listens, see `client`
//!     log              what it wrote, see `logs`
//!     tree, work, ...  its files, see `rootfs::KeptTree`
//! ```
//!
//! Nobody believes a file about whether a container runs: a lock tells, which ends with the process that holds it, however
//! that ends.

use super::RunError;
use super::volumes::VolumeMount;
use crate::oci::{ContainerConfig, Descriptor, Digest, ImageConfig, Platform};
use crate::rootfs::SnapshotterKind;
use crate::sandbox::{Isolation, Limit};
use crate::store::{Store, TempDir};
use fs_err as fs;
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Digits of an ID that people see.
pub const SHORT: usize = 12;
/// The exit code of a container whose keeper was killed: as if it had been killed itself.
const KILLED: i32 = 137;

/// A time that nobody remembers.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// What a container is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its ID: 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's ID: the digest of its config.
    pub image_id: Digest,
    /// The image's manifest.
    pub manifest: Descriptor,
    /// The image's platform.
    pub platform: Platform,
    /// How its tree is written to.
    pub snapshots: SnapshotterKind,
    /// Which tiers may be taken.
    pub isolation: Isolation,
    /// How it is started.
    pub settings: Settings,
}

/// How a container is started: the image's config and the options put together. Arguments and variables are bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// ENTRYPOINT, the first part of the command line.
    pub entrypoint: Vec<Vec<u8>>,
    /// The rest of it.
    pub cmd: Vec<Vec<u8>>,
    /// `NAME=VALUE`, in order.
    pub env: Vec<Vec<u8>>,
    /// The working directory.
    pub workdir: Vec<u8>,
    /// The user.
    pub user: String,
    /// Its host name; the machine's if `None`.
    pub hostname: Option<String>,
    /// Further lines for `/etc/hosts`: name, address.
    pub add_hosts: Vec<(String, String)>,
    /// The network as it was asked for; `none` is a loopback interface alone, all others are the machine's.
    pub network: String,
    /// Ports as they were asked to be published.
    pub publish: Vec<String>,
    /// Volumes and directories.
    pub mounts: Vec<VolumeMount>,
    /// Whether the tree cannot be written to.
    pub readonly: bool,
    /// Size of /dev/shm.
    pub shm_size: Option<u64>,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// It has a terminal.
    pub tty: bool,
    /// Its standard input is open.
    pub interactive: bool,
    /// Labels, the image's included.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop, by number.
    pub stop_signal: i32,
    /// Seconds that it has to do so.
    pub stop_timeout: Option<u64>,
    /// It is removed when it ends.
    pub auto_remove: bool,
    /// EXPOSE and `--expose`.
    pub exposed: Vec<String>,
}

impl Settings {
    /// The whole command line.
    pub fn args(&self) -> Vec<Vec<u8>> {
        [self.entrypoint.clone(), self.cmd.clone()].concat()
    }
}

/// How the last run of a container went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// When it began, RFC 3339; never if `None`.
    pub started: Option<String>,
    /// When it ended; where it began and does not run any more, and this is `None`, the keeper was killed.
    pub finished: Option<String>,
    /// Its exit code.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: Option<String>,
    /// The process that keeps it, as its own pid namespace numbers it.
    pub keeper: Option<u32>,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was never started.
    Created,
    /// It runs.
    Running,
    /// It ran.
    Exited,
}

impl Status {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Exited => "exited",
        }
    }
}

impl Container {
    /// The beginning of its ID.
    pub fn short_id(&self) -> &str {
        &self.id[..SHORT.min(self.id.len())]
    }
}

/// A container that the caller keeps running.
#[derive(Debug)]
pub(super) struct Kept {
    lock: fs::File,
    id: String,
}

/// The containers of a state directory.
#[derive(Debug, Clone)]
pub struct Containers {
    dir: PathBuf,
}

impl Containers {
    /// Those of the state directory `root`, which need not exist.
    pub fn of(root: &Path) -> Containers {
        Containers { dir: root.join("containers") }
    }

    /// Where the files of container `id` lie.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// All, the newest first. One whose config a loss of power damaged is none any more, see [`Containers::remove_damaged`].
    pub fn list(&self) -> Result<Vec<Container>, RunError> {
        let mut found: Vec<Container> = Vec::new();
        for id in self.ids()? {
            let path = self.dir(&id).join("config.json");
            // The lock is no directory; one that is gone was removed just now.
            match read(&path) {
                Ok(container) => found.push(container),
                Err(RunError::Io(e)) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(RunError::Damaged { path, source }) => tracing::warn!(%source, path = %path.display(), "damaged"),
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    /// IDs of directories here that are no containers any more.
    fn damaged(&self) -> Result<Vec<String>, RunError> {
        let is_damaged = |id: &String| {
            let found = read::<Container>(&self.dir(id).join("config.json"));
            matches!(found, Err(RunError::Damaged { .. })) && !self.is_running(id).unwrap_or(true)
        };
        Ok(self.ids()?.into_iter().filter(is_damaged).collect())
    }

    /// Removes what is left of containers that are none any more.
    pub fn remove_damaged(&self, store: &Store) -> Result<(), RunError> {
        let _lock = self.lock()?;
        for id in self.damaged()? {
            let gone = store.temp_dir()?;
            fs::rename(self.dir(&id), gone.path().join("container"))?;
        }
        Ok(())
    }

    /// Names of what is here: IDs, and the lock.
    fn ids(&self) -> Result<Vec<String>, RunError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        entries.map(name).collect()
    }

    /// The container that `text` means: a name, an ID or the beginning of one.
    pub fn find(&self, text: &str) -> Result<Container, RunError> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let mut all = self.list()?;
        if let Some(at) = all.iter().position(|one| one.name == name || one.id == text) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|one| !text.is_empty() && one.id.starts_with(text));
        match all.len() {
            0 => Err(RunError::NoContainer(text.to_string())),
            1 => Ok(all.remove(0)),
            _ => Err(RunError::Ambiguous(text.to_string())),
        }
    }

    /// How its last run went.
    pub fn state(&self, id: &str) -> Result<State, RunError> {
        match read(&self.dir(id).join("state.json")) {
            Err(RunError::Io(e)) if e.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            // By a loss of power, which ended a run of it.
            Err(RunError::Damaged { .. }) => Ok(State { started: Some(EPOCH.into()), ..State::default() }),
            other => other,
        }
    }

    /// What it is doing, and how its last run went; an end that nobody was there to write down is told of as such.
    pub fn status(&self, id: &str) -> Result<(Status, State), RunError> {
        let running = self.is_running(id)?;
        let mut state = self.state(id)?;
        Ok(match (&state.started, &state.finished) {
            _ if running => (Status::Running, state),
            (None, _) => (Status::Created, state),
            (Some(_), Some(_)) => (Status::Exited, state),
            (Some(_), None) => {
                state.exit_code = KILLED;
                state.error = Some("the process that kept the container was killed".into());
                (Status::Exited, state)
            }
        })
    }

    /// Whether somebody keeps it running.
    pub fn is_running(&self, id: &str) -> Result<bool, RunError> {
        let lock = match fs::File::open(self.dir(id).join("lock")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// Waits until nobody keeps it running, and gives how that ended.
    pub fn wait(&self, id: &str) -> Result<State, RunError> {
        let lock = match fs::File::open(self.dir(id).join("lock")) {
            // Removed already, with how it ended.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            other => other?,
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockShared)).map_err(io::Error::from)?;
        // Its end may be followed by its removal, so what is to be told is in the file that we hold.
        let mut told = Vec::new();
        (&lock).read_to_end(&mut told)?;
        match serde_json::from_slice(&told) {
            Ok(state) => Ok(state),
            Err(_) if self.dir(id).exists() => Ok(self.status(id)?.1),
            Err(_) => Ok(State { exit_code: KILLED, ..State::default() }),
        }
    }

    /// Writes how its run goes.
    pub fn put_state(&self, id: &str, state: &State) -> Result<(), RunError> {
        write(&self.dir(id), "state.json", state)
    }

    /// Bytes that the container's own files take, as far as the caller may look.
    pub fn size(&self, id: &str) -> Result<u64, RunError> {
        let (mut pending, mut bytes) = (vec![self.dir(id).join("tree")], 0);
        while let Some(dir) = pending.pop() {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else {
                    bytes += metadata.len();
                }
            }
        }
        Ok(bytes)
    }

    /// Takes the container for a run of it, which lasts for as long as the lock is held.
    pub(super) fn keep(&self, container: &Container) -> Result<Kept, RunError> {
        let running = || RunError::Running { id: container.short_id().to_string() };
        let before = self.state(&container.id)?;
        if self.is_running(&container.id)? {
            return Err(running());
        }
        let path = self.dir(&container.id).join("lock");
        let lock = fs::OpenOptions::new().read(true).write(true).open(path)?;
        // Not without waiting: somebody may just be asking whether it runs.
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .map_err(io::Error::from)?;
        if !self.dir(&container.id).exists() {
            return Err(RunError::NoContainer(container.name.clone()));
        }
        // It was started, and ended, while we waited.
        if self.state(&container.id)? != before {
            return Err(running());
        }
        lock.set_len(0)?;
        Ok(Kept { lock, id: container.id.clone() })
    }

    /// Writes how the run ended, for everybody.
    pub(super) fn end(&self, kept: &Kept, state: &State) -> Result<(), RunError> {
        let damaged = |source| RunError::Damaged { path: self.dir(&kept.id).join("lock"), source };
        (&kept.lock).write_all(&serde_json::to_vec(state).map_err(damaged)?)?;
        self.put_state(&kept.id, state)
    }

    /// Adds a container whose files are in `made`, with a name that no other has: `container`'s, or, where that is empty, one
    /// that is made up.
    pub(super) fn add(&self, mut container: Container, made: TempDir) -> Result<Container, RunError> {
        let _lock = self.lock()?;
        let all = self.list()?;
        if container.name.is_empty() {
            container.name = super::names::free(|name| all.iter().all(|one| one.name != name))?;
        }
        check_name(&container.name, &all)?;
        write(made.path(), "config.json", &container)?;
        fs::File::create(made.path().join("lock"))?;
        fs::rename(made.path(), self.dir(&container.id))?;
        Ok(container)
    }

    /// Gives it another name.
    pub fn rename(&self, container: &Container, name: &str) -> Result<(), RunError> {
        let _lock = self.lock()?;
        check_name(name, &self.list()?)?;
        write(&self.dir(&container.id), "config.json", &Container { name: name.to_string(), ..container.clone() })
    }

    /// Changes what a container is started with from now on.
    pub fn configure(&self, container: &Container, settings: &Settings) -> Result<(), RunError> {
        let _lock = self.lock()?;
        write(&self.dir(&container.id), "config.json", &Container { settings: settings.clone(), ..container.clone() })
    }

    /// Removes a container that does not run, with its files. To be called where its files' owners can be touched.
    pub fn remove(&self, store: &Store, container: &Container) -> Result<(), RunError> {
        let Ok(lock) = fs::File::open(self.dir(&container.id).join("lock")) else {
            return Err(RunError::NoContainer(container.name.clone()));
        };
        // Somebody who asks whether it runs holds it shared for a moment.
        let taken = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        if taken.is_err() && self.is_running(&container.id)? {
            return Err(RunError::Running { id: container.short_id().to_string() });
        }
        self.discard(store, container, |_| {})
    }

    /// Removes the files of a container that the caller keeps: `last` may take them from the directory that it is given first.
    pub(super) fn discard(
        &self,
        store: &Store,
        container: &Container,
        last: impl FnOnce(&Path),
    ) -> Result<(), RunError> {
        let gone = store.temp_dir()?;
        let files = gone.path().join("container");
        let lock = self.lock()?;
        fs::rename(self.dir(&container.id), &files)?;
        drop(lock);
        last(&files);
        Ok(())
    }

    fn lock(&self) -> Result<fs::File, RunError> {
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join("lock");
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .map_err(io::Error::from)?;
        Ok(lock)
    }
}

/// A name's form is Docker's.
fn check_name(name: &str, all: &[Container]) -> Result<(), RunError> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = name.len() > 1 && name.bytes().all(inside) && name.as_bytes()[0].is_ascii_alphanumeric();
    match all.iter().find(|one| one.name == name) {
        _ if !good => Err(RunError::Name(name.to_string())),
        Some(other) => Err(RunError::NameTaken { name: name.to_string(), id: other.id.clone() }),
        None => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(|source| RunError::Damaged { path: path.to_path_buf(), source })
}

/// In one piece: whoever reads it sees the old or the new.
fn write(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), RunError> {
    let (path, temporary) = (dir.join(name), dir.join(format!("{name}.new")));
    let bytes = serde_json::to_vec(value).map_err(|source| RunError::Damaged { path: path.clone(), source })?;
    fs::write(&temporary, bytes)?;
    Ok(fs::rename(&temporary, &path)?)
}

/// Now, as Docker writes times.
pub(super) fn now() -> String {
    humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
}

/// The config of an image made of `settings`: what a commit of the container starts from.
pub(super) fn image_settings(base: &ImageConfig, settings: &Settings) -> ContainerConfig {
    let text = |words: &[Vec<u8>]| -> Option<Vec<String>> {
        let words: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        (!words.is_empty()).then_some(words)
    };
    let mut config = base.config.clone();
    config.entrypoint = text(&settings.entrypoint);
    config.cmd = text(&settings.cmd);
    config.env = text(&settings.env);
    config.working_dir = String::from_utf8_lossy(&settings.workdir).into_owned();
    config.user.clone_from(&settings.user);
    config.labels = (!settings.labels.is_empty()).then(|| settings.labels.clone());
    config
}
