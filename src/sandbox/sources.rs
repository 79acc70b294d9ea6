//! What further mounts show, made ready before the tree's mount points: overlays are mounted and secrets written in the
//! scratch tmpfs, where the command never sees them; what lies below a directory is opened without leaving it.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::error::{During, Failure, Step};
use super::exec::Ids;
use super::mounts::{MountedRoot, mount_overlay, place};
use super::spec::{Mount, MountSource, RunSpec, Writes};
use super::target::Kind;
use crate::overrides::record_owner;

/// The sources of a run, each by its number in [`RunSpec::mounts`].
#[derive(Debug)]
pub(super) struct Sources {
    dir: PathBuf,
}

impl Sources {
    /// Mounts and writes what the mounts of `spec` need.
    pub(super) fn prepare(root: &MountedRoot, spec: &RunSpec, ids: &Ids) -> Result<Sources, Failure> {
        let sources = Sources { dir: root.scratch.join("sources") };
        let empty = ["empty-1", "empty-2"].map(|name| sources.dir.join(name));
        for dir in &empty {
            fs_err::create_dir_all(dir).during_at(Step::WriteFile, dir)?;
        }
        for (number, mount) in spec.mounts.iter().enumerate() {
            sources.prepare_one(number, mount, &empty, ids)?;
        }
        Ok(sources)
    }

    fn prepare_one(&self, number: usize, mount: &Mount, empty: &[PathBuf], ids: &Ids) -> Result<(), Failure> {
        let own = self.own(number);
        match &mount.source {
            MountSource::Bind(_) | MountSource::Below { .. } | MountSource::Tmpfs(_) => Ok(()),
            MountSource::Overlay { lowers, writes, .. } => {
                fs_err::create_dir(&own).during_at(Step::WriteFile, &own)?;
                overlay(lowers, writes.as_ref(), empty, &own).during_at(Step::MountOverlay, &mount.target)
            }
            MountSource::Secret { content, uid, gid, mode } => {
                fs_err::write(&own, content.expose()).during_at(Step::WriteFile, &mount.target)?;
                if !ids.one_id() {
                    ids.check_owner(&mount.target, *uid, *gid)?;
                    rustix::fs::chown(&own, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))
                        .during_at(Step::Owner, &mount.target)?;
                }
                fs_err::set_permissions(&own, Permissions::from_mode(*mode))
                    .during_at(Step::WriteFile, &mount.target)?;
                if ids.one_id() && (*uid, *gid) != (0, 0) {
                    record_owner(&own, *uid, *gid).during_at(Step::Owner, &mount.target)?;
                }
                Ok(())
            }
        }
    }

    fn own(&self, number: usize) -> PathBuf {
        self.dir.join(number.to_string())
    }

    /// What the mount of this number shows, as a place in the mount namespace of this process; not for a tmpfs.
    pub(super) fn open(&self, number: usize, mount: &Mount) -> Result<OwnedFd, Failure> {
        match &mount.source {
            MountSource::Bind(path) => place(path),
            MountSource::Below { dir, path } => below(&place(dir)?, path),
            MountSource::Overlay { path, .. } => below(&place(&self.own(number))?, path),
            MountSource::Secret { .. } | MountSource::Tmpfs(_) => place(&self.own(number)),
        }
    }

    /// What the mount point of the mount has to be.
    pub(super) fn kind(&self, number: usize, mount: &Mount) -> Result<Kind, Failure> {
        if let MountSource::Tmpfs(_) = mount.source {
            return Ok(Kind::Directory);
        }
        let stat = rustix::fs::fstat(self.open(number, mount)?).during_at(Step::Bind, &mount.target)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(if is_dir { Kind::Directory } else { Kind::File })
    }

    /// Unmounts the overlays, once nothing uses them.
    pub(super) fn unmount(&self, spec: &RunSpec) -> Result<(), Failure> {
        for (number, mount) in spec.mounts.iter().enumerate() {
            if let MountSource::Overlay { .. } = mount.source {
                unmount(self.own(number), UnmountFlags::DETACH).during_at(Step::Unmount, &mount.target)?;
            }
        }
        Ok(())
    }
}

/// Mounts an overlay at `at`; `empty` are directories to fill up with.
fn overlay(lowers: &[PathBuf], writes: Option<&Writes>, empty: &[PathBuf], at: &Path) -> Result<(), Errno> {
    let open = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    // overlayfs wants two lower directories where nothing can be written, else one.
    let wanted: usize = if writes.is_some() { 1 } else { 2 };
    let filler = empty.iter().take(wanted.saturating_sub(lowers.len()));
    let lowers = lowers.iter().chain(filler).map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()?;
    let writes = match writes {
        Some(writes) => Some((open(&writes.upper)?, open(&writes.work)?)),
        None => None,
    };
    let writes = writes.as_ref().map(|(upper, work)| (upper, work));
    mount_overlay(&lowers.iter().collect::<Vec<_>>(), writes, at)
}

/// Opens `path` below `dir` as a place; links lead to where they would for a process whose root `dir` is.
pub(super) fn below(dir: &OwnedFd, path: &Path) -> Result<OwnedFd, Failure> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(dir, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).during_at(Step::Bind, path)
}
