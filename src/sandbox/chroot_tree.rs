//! A tree made ready for a command where nothing can be mounted: what a mount would cover is moved aside for the step, and
//! what it would show is put in its place, or, where the supervisor shows it, a barrier. Afterwards all is moved back,
//! so that nothing of it is in the layer.
//!
//! A barrier is a symbolic link to itself: no path that the kernel resolves leads through it (`ELOOP`). Its text begins as
//! that of hardly another link does, so that who reads links can tell.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, XattrFlags, makedev, mknodat, renameat};
use rustix::io::Errno;

use super::chroot::own_files;
use super::error::{During, Failure, Step};
use super::exec::Ids;
use super::mounts::{DEV_LINKS, place};
use super::sources;
use super::spec::{Mount, MountSource, RunSpec};
use super::supervisor::places::{Place, PlaceKind};
use super::supervisor::shortcuts::BARRIER_TEXT;
use super::supervisor::stands::{Stand, Tmpfs};
use super::target::{Kind, Stubs, open_place};
use crate::overrides::{OVERRIDE, Override, Type, image_ids, own_bits};
use crate::sys;

/// Device nodes: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Size of /dev/shm where none is asked for, as Docker has it.
const SHM_SIZE: u64 = 64 << 20;

/// Files up to this size are copied into the tree; larger ones are shown by the supervisor.
const COPIED: u64 = 1 << 20;

/// A tree that a command can run in.
#[derive(Debug)]
pub(super) struct PreparedTree {
    root: OwnedFd,
    /// A directory beside the tree: what is moved aside, and what takes its place before it does.
    stash: tempfile::TempDir,
    /// Names given out there.
    names: usize,
    stubs: Stubs,
    swapped: Vec<Swapped>,
    /// What the supervisor is to show.
    pub(super) places: Vec<Place>,
    /// What stands for a mount in the tree itself.
    pub(super) stands: Vec<Stand>,
}

/// Something that was moved aside.
#[derive(Debug)]
struct Swapped {
    /// Where it was, from the tree's root, without links.
    path: PathBuf,
    /// Its name in the stash.
    name: String,
}

impl PreparedTree {
    /// Prepares the tree at `root` for `spec`.
    pub(super) fn prepare(root: &Path, spec: &RunSpec, ids: &Ids) -> Result<PreparedTree, Failure> {
        let beside = root.parent().unwrap_or(root);
        let stash = tempfile::Builder::new().prefix(".dockless-step-").tempdir_in(beside);
        let mut tree = PreparedTree {
            root: place(root)?,
            stash: stash.during_at(Step::WriteFile, beside)?,
            names: 0,
            stubs: Stubs::default(),
            swapped: Vec::new(),
            places: Vec::new(),
            stands: Vec::new(),
        };
        match tree.fill(spec, ids) {
            Ok(()) => Ok(tree),
            Err(failure) => {
                tree.restore()?;
                Err(failure)
            }
        }
    }

    fn fill(&mut self, spec: &RunSpec, ids: &Ids) -> Result<(), Failure> {
        let [proc, sys, dev] = [
            self.find("/proc", Kind::Directory)?,
            self.find("/sys", Kind::Directory)?,
            self.find("/dev", Kind::Directory)?,
        ];
        // Every runtime wants them, so an image that had none has them from its first RUN on, as `docker build` has it.
        self.stubs.keep(&["proc", "sys", "dev"]);
        self.place(&proc, PlaceKind::Proc)?;
        self.place(&sys, PlaceKind::Sys)?;
        self.make_dev(&dev, spec.shm_size)?;
        for (path, content) in own_files(spec) {
            let target = self.find(path, Kind::File)?;
            let own = self.fresh();
            fs_err::write(&own, content).during_at(Step::WriteFile, &own)?;
            fs_err::set_permissions(&own, PermissionsExt::from_mode(0o644)).during_at(Step::WriteFile, &own)?;
            self.stands(&target, None);
            self.swap(&target, &own)?;
        }
        for mount in &spec.mounts {
            self.mount(mount, ids)?;
        }
        self.stubs.settle(self.root.as_fd())
    }

    /// The tree's root directory.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where `path` leads in the tree, without links; made for the step if it is not there.
    fn find(&mut self, path: impl AsRef<Path>, kind: Kind) -> Result<PathBuf, Failure> {
        self.stubs.prepare(self.root.as_fd(), path.as_ref(), kind)
    }

    /// A name in the stash that nothing has yet.
    fn fresh(&mut self) -> PathBuf {
        self.names += 1;
        self.stash.path().join(format!("own-{}", self.names))
    }

    /// Moves what is at `target` aside and `own` (in the stash) to its place.
    fn swap(&mut self, target: &Path, own: &Path) -> Result<(), Failure> {
        let name = format!("aside-{}", self.swapped.len());
        let parent = target.parent().unwrap_or(Path::new(""));
        self.stubs.remember(self.root.as_fd(), parent).during_at(Step::MountPoint, target)?;
        let (dir, file) = split(self.root.as_fd(), target).during_at(Step::MountPoint, target)?;
        renameat(&dir, file, CWD, self.stash.path().join(&name)).during_at(Step::MoveAside, target)?;
        self.swapped.push(Swapped { path: target.to_owned(), name });
        renameat(CWD, own, &dir, file).during_at(Step::MountPoint, target)
    }

    /// Has the supervisor show something at `target`.
    fn place(&mut self, target: &Path, kind: PlaceKind) -> Result<(), Failure> {
        let own = self.fresh();
        barrier(target.file_name().unwrap_or_default(), &own).during_at(Step::MountPoint, target)?;
        self.swap(target, &own)?;
        self.places.push(Place { at: Path::new("/").join(target), kind });
        Ok(())
    }

    /// A /dev of the step's own.
    fn make_dev(&mut self, target: &Path, shm_size: Option<u64>) -> Result<(), Failure> {
        let own = self.fresh();
        let step = Step::MountDevices;
        let directory = |path: &Path, mode| {
            fs_err::create_dir(path)?;
            fs_err::set_permissions(path, PermissionsExt::from_mode(mode))
        };
        directory(&own, 0o755).during_at(step, &own)?;
        for (name, major, minor) in DEVICES {
            let path = own.join(name);
            if !make_device(&path, major, minor) {
                // Refused, or of no use on this file system: the one outside is shown.
                barrier(name.as_ref(), &path).during_at(step, &path)?;
                let source = place(&Path::new("/dev").join(name))?;
                self.places.push(Place {
                    at: Path::new("/").join(target).join(name),
                    kind: PlaceKind::Bind { source, readonly: false },
                });
            }
        }
        for (name, to) in DEV_LINKS {
            symlink(to, own.join(name)).during_at(step, &own)?;
        }
        barrier("pts".as_ref(), &own.join("pts")).during_at(step, &own)?;
        self.places.push(Place { at: Path::new("/").join(target).join("pts"), kind: PlaceKind::Pts });
        for name in ["shm", "mqueue"] {
            directory(&own.join(name), 0o1777).during_at(step, &own)?;
        }
        self.stands(target, None);
        self.stands(&target.join("shm"), Some(Tmpfs { size: Some(shm_size.unwrap_or(SHM_SIZE)) }));
        self.swap(target, &own)
    }

    fn mount(&mut self, mount: &Mount, ids: &Ids) -> Result<(), Failure> {
        let target = &mount.target;
        let at = Step::Bind;
        let mut tmpfs = None;
        let own = match &mount.source {
            MountSource::Overlay { .. } => return Err(Failure::NeedsMount { what: "an overlay".into() }),
            // Nothing bounds its size here.
            MountSource::Tmpfs(size) => {
                tmpfs = Some(Tmpfs { size: *size });
                let own = self.fresh();
                fs_err::create_dir(&own).during_at(Step::WriteFile, target)?;
                fs_err::set_permissions(&own, PermissionsExt::from_mode(0o1777)).during_at(Step::WriteFile, target)?;
                own
            }
            MountSource::Secret { content, uid, gid, mode } => {
                ids.check_owner(target, *uid, *gid)?;
                let own = self.fresh();
                fs_err::write(&own, content.expose()).during_at(Step::WriteFile, target)?;
                give(&own, *uid, *gid, *mode).during_at(Step::Owner, target)?;
                own
            }
            MountSource::Bind(path) => match self.copied(path, mount.readonly).during_at(at, path)? {
                Some(own) => own,
                None => return self.bind(target, place(path)?, mount.readonly),
            },
            MountSource::Below { dir, path } => {
                return self.bind(target, sources::below(&place(dir)?, path)?, mount.readonly);
            }
        };
        self.put(target, &own, tmpfs)
    }

    /// A copy of a small file that is only to be read: its path then is one like any other to the step.
    fn copied(&mut self, path: &Path, readonly: bool) -> std::io::Result<Option<PathBuf>> {
        let metadata = fs_err::metadata(path)?;
        if !readonly || !metadata.is_file() || metadata.len() > COPIED {
            return Ok(None);
        }
        let own = self.fresh();
        fs_err::copy(path, &own)?;
        let stat = rustix::fs::stat(path)?;
        let (uid, gid) = image_ids(stat.st_uid, stat.st_gid);
        give(&own, uid, gid, metadata.mode() & 0o7777)?;
        Ok(Some(own))
    }

    /// Puts `own`, in the stash, at `target`.
    fn put(&mut self, target: &Path, own: &Path, tmpfs: Option<Tmpfs>) -> Result<(), Failure> {
        if let Some(covered) = self.covered(target) {
            let kind = PlaceKind::Bind { source: place(own)?, readonly: false };
            self.places.push(Place { at: covered, kind });
            return Ok(());
        }
        let kind = if own.is_dir() { Kind::Directory } else { Kind::File };
        let target = self.find(target, kind)?;
        self.stands(&target, tmpfs);
        self.swap(&target, own)
    }

    /// Remembers what is going to stand for a mount at `target`.
    fn stands(&mut self, target: &Path, tmpfs: Option<Tmpfs>) {
        let at = Path::new("/").join(target);
        self.stands.retain(|stand| stand.at != at);
        self.stands.push(Stand { at, tmpfs });
    }

    fn bind(&mut self, target: &Path, source: OwnedFd, readonly: bool) -> Result<(), Failure> {
        let stat = rustix::fs::fstat(&source).during_at(Step::Bind, target)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        let kind = PlaceKind::Bind { source, readonly };
        if let Some(covered) = self.covered(target) {
            self.places.push(Place { at: covered, kind });
            return Ok(());
        }
        let target = self.find(target, if is_dir { Kind::Directory } else { Kind::File })?;
        self.place(&target, kind)
    }

    /// `target` as a path without `.` and `..`, where it lies below a place: the tree then holds nothing of it.
    fn covered(&self, target: &Path) -> Option<PathBuf> {
        let mut path = PathBuf::from("/");
        for part in super::target::parts(target) {
            if part == ".." {
                path.pop();
            } else {
                path.push(part);
            }
        }
        self.places.iter().any(|place| path.starts_with(&place.at)).then_some(path)
    }

    /// Moves everything back.
    pub(super) fn restore(self) -> Result<(), Failure> {
        let PreparedTree { root, stash, stubs, swapped, .. } = self;
        stubs.remove_after(root.as_fd(), || {
            for (number, Swapped { path, name }) in swapped.iter().enumerate().rev() {
                put_back(&root, path, &stash.path().join(name), &stash.path().join(format!("out-{number}")))
                    .during_at(Step::MoveBack, path)?;
            }
            Ok(())
        })?;
        let path = stash.keep();
        sys::remove_tree(&path).during_at(Step::Unmount, &path)
    }
}

/// Moves what is at `path` away to `out`, if anything is, and `aside` back there.
fn put_back(root: &OwnedFd, path: &Path, aside: &Path, out: &Path) -> Result<(), Errno> {
    let (dir, name) = match split(root.as_fd(), path) {
        // The command removed or replaced a directory on the way: what was in it is gone with it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        other => other?,
    };
    match renameat(&dir, name, CWD, out) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    renameat(CWD, aside, &dir, name)
}

/// Gives a file an owner and then its mode, which changing the owner changes. Without the right to, both are recorded, and
/// the mode is one that this process's own id can use the file with.
fn give(path: &Path, uid: u32, gid: u32, mode: u32) -> std::io::Result<()> {
    match rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        Ok(()) => fs_err::set_permissions(path, PermissionsExt::from_mode(mode)),
        Err(Errno::PERM) => {
            let record = Override { uid, gid, mode, kind: Type::File };
            // Before the mode, which may forbid it.
            rustix::fs::lsetxattr(path, OVERRIDE, record.to_string().as_bytes(), XattrFlags::empty())?;
            fs_err::set_permissions(path, PermissionsExt::from_mode(mode & 0o777 | own_bits(mode, false)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The directory of `path`, which has no links, and its name there.
fn split<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
    let name = path.file_name().ok_or(Errno::BUSY)?;
    Ok((open_place(root, path.parent().unwrap_or(Path::new("")))?, name))
}

/// Makes a barrier at `path`, which is to have this name.
fn barrier(name: &OsStr, path: &Path) -> std::io::Result<()> {
    let mut text = OsStr::from_bytes(&BARRIER_TEXT).to_owned();
    text.push(name);
    symlink(text, path)
}

/// Makes a device that can be opened.
fn make_device(path: &Path, major: u32, minor: u32) -> bool {
    let mode = Mode::from_raw_mode(0o666);
    let made = mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor))
        .and_then(|()| rustix::fs::chmod(path, mode));
    // Only opening tells of `nodev` and of a device cgroup. Without a terminal /dev/tty gives ENXIO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let works = made.and_then(|()| match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NXIO) => Ok(()),
        other => other.map(drop),
    });
    if works.is_err() {
        let _ = rustix::fs::unlink(path); // where it was not even made there is nothing to remove
    }
    works.is_ok()
}
