//! Mount points in a tree that nobody trusts: finding them without leaving the tree, making those that are missing, and
//! taking them away again so that no layer shows them.

use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, mkdirat, openat, openat2, readlinkat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::error::{During, Failure, Step};

/// Symbolic links that are followed on the way to one mount point, as the kernel has it.
const MAX_LINKS: usize = 40;

/// What a mount needs to stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// Opens `path` below `root` as a place (`O_PATH`); no part of it may be a link.
pub(super) fn open_place(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, dot_if_empty(path), flags, Mode::empty(), resolve)
}

fn dot_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// What was made in a tree to have something to mount on.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    /// In the order of making.
    made: Vec<(PathBuf, Kind)>,
    /// Directories that were there, in which something was made, with their times before.
    parents: Vec<Parent>,
}

#[derive(Debug)]
struct Parent {
    path: PathBuf,
    before: Timestamps,
    /// Modification time once everything was made: where it is another one later, the command changed the directory.
    after: Option<Timespec>,
}

impl Stubs {
    /// Finds `target` below `root`: links are followed as a process whose root it is would follow them, and what is
    /// missing is made. Gives its path without links.
    pub(super) fn prepare(&mut self, root: BorrowedFd<'_>, target: &Path, kind: Kind) -> Result<PathBuf, Failure> {
        self.walk(root, target, kind).during_at(Step::MountPoint, target)
    }

    fn walk(&mut self, root: BorrowedFd<'_>, target: &Path, kind: Kind) -> Result<PathBuf, Errno> {
        let mut todo: Vec<OsString> = parts(target).rev().map(OsStr::to_owned).collect();
        let (mut at, mut links) = (PathBuf::new(), 0);
        while let Some(part) = todo.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let dir = open_place(root, &at)?;
            let stat = match statat(&dir, &part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => {
                    self.make(&dir, &at, &part, if todo.is_empty() { kind } else { Kind::Directory })?;
                    at.push(&part);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                at.push(&part);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let link = PathBuf::from(OsString::from_vec(readlinkat(&dir, &part, Vec::new())?.into_bytes()));
            if link.is_absolute() {
                at = PathBuf::new();
            }
            todo.extend(parts(&link).rev().map(OsStr::to_owned));
        }
        Ok(at)
    }

    fn make(&mut self, dir: &OwnedFd, at: &Path, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        self.remember_open(dir, at)?;
        match kind {
            Kind::Directory => mkdirat(dir, name, Mode::from_raw_mode(0o755))?,
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                drop(openat(dir, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        self.made.push((at.join(name), kind));
        Ok(())
    }

    /// Remembers the times of a directory of the tree in which something is going to be changed for the step.
    pub(super) fn remember(&mut self, root: BorrowedFd<'_>, at: &Path) -> Result<(), Errno> {
        self.remember_open(&open_place(root, at)?, at)
    }

    fn remember_open(&mut self, dir: &OwnedFd, at: &Path) -> Result<(), Errno> {
        let ours = self.made.iter().any(|(path, _)| path == at) || self.parents.iter().any(|parent| parent.path == at);
        if !ours {
            let stat = statat(dir, "", AtFlags::EMPTY_PATH)?;
            let before = Timestamps {
                last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
                last_modification: modified(&stat),
            };
            self.parents.push(Parent { path: at.to_owned(), before, after: None });
        }
        Ok(())
    }

    /// Leaves the directories of these names in the root in the tree, where they were made.
    pub(super) fn keep(&mut self, names: &[&str]) {
        self.made.retain(|(path, _)| !names.iter().any(|name| path == Path::new(name)));
    }

    /// To be called when all are made, before the command runs.
    pub(super) fn settle(&mut self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        for parent in &mut self.parents {
            let dir = open_place(root, &parent.path).during_at(Step::MountPoint, &parent.path)?;
            let stat = statat(&dir, "", AtFlags::EMPTY_PATH).during_at(Step::MountPoint, &parent.path)?;
            parent.after = Some(modified(&stat));
        }
        Ok(())
    }

    /// Removes what was made and is still as it was made, and gives the directories their times back where only that
    /// changed them. What the command put its own things into stays.
    pub(super) fn remove(self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        self.remove_after(root, || Ok(()))
    }

    /// The same once `undo` has undone what was changed besides.
    pub(super) fn remove_after(
        self,
        root: BorrowedFd<'_>,
        undo: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let touched: Vec<bool> = self.parents.iter().map(|parent| parent.touched(root)).collect();
        undo()?;
        for (path, kind) in self.made.iter().rev() {
            remove_one(root, path, *kind).during_at(Step::MountPoint, path)?;
        }
        for (parent, touched) in self.parents.iter().zip(touched) {
            if !touched {
                parent.restore(root).during_at(Step::MountPoint, &parent.path)?;
            }
        }
        Ok(())
    }
}

impl Parent {
    fn touched(&self, root: BorrowedFd<'_>) -> bool {
        let now = open_place(root, &self.path).and_then(|dir| statat(&dir, "", AtFlags::EMPTY_PATH));
        now.map_or(true, |stat| Some(modified(&stat)) != self.after)
    }

    fn restore(&self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        let dir = open_place(root, &self.path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&dir, ".", flags, Mode::empty())?;
        rustix::fs::futimens(&dir, &self.before)
    }
}

fn remove_one(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<(), Errno> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    // The command may have removed or replaced a directory on the way (a mount point itself it cannot).
    let dir = match open_place(root, dir) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        other => other?,
    };
    let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (Kind::File, FileType::RegularFile) if stat.st_size == 0 => unlinkat(&dir, name, AtFlags::empty()),
        (Kind::Directory, FileType::Directory) => match unlinkat(&dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            other => other,
        },
        _ => Ok(()),
    }
}

fn modified(stat: &rustix::fs::Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ }
}

pub(super) fn parts(path: &Path) -> impl DoubleEndedIterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
