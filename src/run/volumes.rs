//! Volumes: directories of the store that containers share and keep, and what else is mounted into a container.

use super::RunError;
use super::container::{Container, now};
use crate::context::SourceTree;
use crate::oci::layer::Kind;
use crate::rootfs::layer::TarWriter;
use crate::rootfs::{LayerView, Ownership, append_tree, extract, is_empty};
use crate::sandbox::{Mount, MountSource};
use crate::store::Store;
use fs_err as fs;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Something that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// What.
    pub source: VolumeSource,
    /// Where, an absolute path in the container.
    pub target: PathBuf,
    /// It cannot be written to.
    pub readonly: bool,
}

/// What a [`VolumeMount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A file or directory of the machine.
    Path(PathBuf),
    /// A volume.
    Volume {
        /// Its name; where that is empty one is made up, and the volume is removed with the container.
        name: String,
        /// What the image has there is copied into it while it is empty.
        seed: bool,
        /// It is removed with the container.
        anonymous: bool,
    },
    /// Memory, of at most so many bytes.
    Tmpfs(Option<u64>),
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// It was made for one container.
    pub anonymous: bool,
}

/// The volumes of a state directory.
#[derive(Debug, Clone)]
pub struct Volumes {
    dir: PathBuf,
}

impl Volumes {
    /// Those of the state directory `root`, which need not exist.
    pub fn of(root: &Path) -> Volumes {
        Volumes { dir: root.join("volumes") }
    }

    /// Where the files of the volume lie.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("_data")
    }

    /// All, by name.
    pub fn list(&self) -> Result<Vec<Volume>, RunError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            found.extend(self.get(&entry?.file_name().to_string_lossy())?);
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The volume of that name, if there is one.
    pub fn get(&self, name: &str) -> Result<Option<Volume>, RunError> {
        let path = self.dir.join(name).join("volume.json");
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(volume) => Ok(Some(volume)),
                Err(source) => Err(RunError::Damaged { path, source }),
            },
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The volume of that name, made if there is none; with an empty name a new one.
    pub fn ensure(&self, name: &str, labels: &BTreeMap<String, String>, anonymous: bool) -> Result<Volume, RunError> {
        let name = if name.is_empty() { super::names::id()? } else { check(name)?.to_string() };
        if let Some(volume) = self.get(&name)? {
            return Ok(volume);
        }
        let volume = Volume { name: name.clone(), created: now(), labels: labels.clone(), anonymous };
        let dir = self.dir.join(&name);
        fs::create_dir_all(dir.join("_data"))?;
        fs::set_permissions(dir.join("_data"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let path = dir.join("volume.json");
        let bytes = serde_json::to_vec(&volume).map_err(|source| RunError::Damaged { path: path.clone(), source })?;
        fs::write(path, bytes)?;
        Ok(volume)
    }

    /// Removes a volume that none of `containers` has. To be called where its files' owners can be touched.
    pub fn remove(&self, store: &Store, name: &str, containers: &[Container]) -> Result<(), RunError> {
        if !self.data(check(name)?).exists() {
            return Err(RunError::NoVolume(name.to_string()));
        }
        if let Some(user) = containers.iter().find(|one| uses(one, name)) {
            return Err(RunError::VolumeUsed { name: name.to_string(), id: user.id.clone() });
        }
        let gone = store.temp_dir()?;
        fs::rename(self.dir.join(name), gone.path().join("volume"))?;
        Ok(())
    }
}

/// Whether the container has that volume.
pub fn uses(container: &Container, volume: &str) -> bool {
    let mounts = &container.settings.mounts;
    mounts.iter().any(|mount| matches!(&mount.source, VolumeSource::Volume { name, .. } if name == volume))
}

fn check(name: &str) -> Result<&str, RunError> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = name.len() > 1 && name.bytes().all(inside) && name.as_bytes()[0].is_ascii_alphanumeric();
    if good { Ok(name) } else { Err(RunError::VolumeName(name.to_string())) }
}

/// The mounts of a container as the sandbox takes them: volumes are made if need be, and filled while they are empty.
pub(super) fn prepare(volumes: &Volumes, mounts: &[VolumeMount], tree: &LayerView) -> Result<Vec<Mount>, RunError> {
    let mut prepared: Vec<Mount> = Vec::new();
    for mount in mounts {
        let source = match &mount.source {
            VolumeSource::Path(path) => {
                if !path.exists() {
                    return Err(RunError::NoSource(path.clone()));
                }
                MountSource::Bind(path.clone())
            }
            VolumeSource::Tmpfs(size) => MountSource::Tmpfs(*size),
            VolumeSource::Volume { name, seed, anonymous } => {
                volumes.ensure(name, &BTreeMap::new(), *anonymous)?;
                let data = volumes.data(name);
                if *seed && is_empty(&data)? {
                    fill(&data, tree, mount.target.as_os_str().as_bytes())?;
                }
                MountSource::Bind(data)
            }
        };
        prepared.push(Mount { source, target: mount.target.clone(), readonly: mount.readonly });
    }
    // One may lie in another.
    prepared.sort_by_key(|mount| mount.target.components().count());
    Ok(prepared)
}

/// Copies what the tree has at `target` into the empty directory `data`.
fn fill(data: &Path, tree: &LayerView, target: &[u8]) -> Result<(), RunError> {
    let Some(from) = tree.resolve(target)? else { return Ok(()) };
    let Some(metadata) = tree.metadata(&from)?.filter(|metadata| metadata.kind == Kind::Dir) else { return Ok(()) };
    let dir = rustix::fs::open(data, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let dir = dir.map_err(io::Error::from)?;
    tar_to(tree, &from, b"", |tar| Ok(extract(dir.as_fd(), b"", tar, Ownership::Kept)?))?;
    let owned = rustix::fs::fchown(&dir, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)));
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(metadata.mode)).map_err(io::Error::from)?;
    if owned.is_err() {
        crate::overrides::record_owner(data, metadata.uid, metadata.gid).map_err(io::Error::from)?;
    }
    Ok(())
}

/// Lets `take` read the tar of what is at `from` of the tree, under the name `place`.
pub(super) fn tar_to(
    tree: &dyn SourceTree,
    from: &[u8],
    place: &[u8],
    take: impl FnOnce(io::PipeReader) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || -> Result<(), RunError> {
            let mut tar = TarWriter::new(io::BufWriter::with_capacity(1 << 16, writer), None);
            append_tree::<_, RunError>(&mut tar, tree, from, place)?;
            use io::Write;
            Ok(tar.finish()?.flush()?)
        });
        let taken = take(reader);
        let written = writing.join().unwrap_or_else(|_| Err(RunError::Io(io::Error::other("the writer panicked"))));
        // Where the reader failed the writer has a broken pipe.
        taken.and(written)
    })
}
