//! Virtual places: paths of the step that the supervisor serves from elsewhere, because nothing can be mounted there.
//!
//! In the step's tree a symbolic link to itself stands at each place (of those in another place, nothing). So the kernel
//! fails with `ELOOP` on every path that would cross a place's border, and on such paths only [`super::path`] is needed.
//! It may be a link in the tree that leads to a place, so what a path looks like does not tell.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat, statat};
use rustix::io::Errno;

use super::call;
use super::devices::Terminals;
use super::findings::Findings;
use super::mounttable::{MountTable, Shown, parse};
use super::outside::Outside;
use super::path::ViewPath;
use super::process::Table;
use super::procfs::{self, ProcPath};
use super::shortcuts::Guarded;
use super::stands::{Mounts, Stand};
use super::trodden::Trodden;
use crate::sys;

/// A path of the step that stands for something outside its tree.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where the step sees it: absolute, without links.
    pub at: PathBuf,
    /// What it sees there.
    pub kind: PlaceKind,
}

/// What a [`Place`] shows.
#[derive(Debug)]
pub(crate) enum PlaceKind {
    /// /proc, of the step's processes alone.
    Proc,
    /// /sys, which cannot be written to.
    Sys,
    /// /dev/pts, with the step's own terminals.
    Pts,
    /// A file or directory outside.
    Bind {
        /// What is shown, opened with `O_PATH`.
        source: OwnedFd,
        /// Whether it can be written to.
        readonly: bool,
    },
}

/// What a place that is served shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Proc,
    Sys,
    Pts,
    Bind,
}

/// Where what a step sees really is.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    tree: ViewPath,
    /// Those with longer paths first.
    served: Vec<(ViewPath, ViewPath)>,
}

impl Mapping {
    /// All is where the step sees it.
    pub(super) fn none() -> Mapping {
        Mapping { tree: ViewPath::root(), served: Vec::new() }
    }

    /// The kernel's name for what the step has at `path`.
    pub(super) fn host(&self, path: &ViewPath) -> ViewPath {
        let served = self.served.iter().find_map(|(at, host)| Some(host.join(path.below(at)?)));
        served.unwrap_or_else(|| self.tree.join(path.relative()))
    }

    /// The path in the tree, without the slash before it, of what the kernel calls `host`.
    pub(super) fn in_tree<'a>(&self, host: &'a [u8]) -> Option<&'a [u8]> {
        let rest = if self.tree == ViewPath::root() { host } else { host.strip_prefix(self.tree.as_bytes())? };
        rest.strip_prefix(b"/").or_else(|| rest.is_empty().then_some(rest))
    }

    /// Whether something else than paths tells where things are.
    pub(super) fn is_some(&self) -> bool {
        self.tree != ViewPath::root()
    }
}

/// A place that is served.
pub(super) struct Served {
    pub(super) at: ViewPath,
    pub(super) kind: Kind,
    /// What is shown.
    pub(super) source: OwnedFd,
    /// The kernel's name for that.
    host: ViewPath,
    pub(super) readonly: bool,
    is_directory: bool,
    /// Its id in the table of mounts.
    pub(super) mount: Option<u64>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?} of {:?}", self.kind, self.at, self.host)
    }
}

/// The places of a step.
#[derive(Debug)]
pub(crate) struct Places {
    pub(super) outside: Arc<Outside>,
    pub(super) table: Arc<Table>,
    /// Those with longer paths first.
    served: Vec<Served>,
    /// Last names of their paths: at those, a link in the tree is not one to the step.
    names: Vec<Vec<u8>>,
    /// What stands in the tree for them.
    guarded: Guarded,
    pub(super) mounts: MountTable,
    /// Where these are.
    pub(super) mounted: Mounts,
    pub(super) terminals: Terminals,
    /// Stands in for hidden directories and files.
    empty: OwnedFd,
    null: OwnedFd,
    /// The tree, where it is not this process's root.
    tree: Option<Tree>,
    /// What is known of its paths.
    pub(super) trodden: Trodden,
    /// What has been found in it, where it is not this process's root.
    pub(super) findings: Findings,
    /// The device number of files in /proc.
    pub(super) proc_device: u64,
    /// The step holds a directory of a place, as a descriptor or as a working directory: from then on relative paths may
    /// begin in one.
    given: AtomicBool,
}

/// A tree that is nobody's root: a path in it is no path to this process.
#[derive(Debug)]
struct Tree {
    directory: OwnedFd,
    /// The kernel's name for that.
    host: ViewPath,
}

/// How something in a place is opened: by its path from there, in which no link is.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// An object named and nothing more.
pub(super) const NAMED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

impl Places {
    /// Prepares `places` for a step whose root directory is `tree`; to be called while this process's root is the one
    /// outside. `stands` are what stands for a mount in the tree itself.
    pub(crate) fn open(
        outside: Arc<Outside>,
        table: Arc<Table>,
        tree: BorrowedFd<'_>,
        places: Vec<Place>,
        stands: &[Stand],
        emulated: bool,
    ) -> Result<Places, Errno> {
        let mut served =
            places.into_iter().map(|place| Served::open(&outside, place)).collect::<Result<Vec<_>, _>>()?;
        let mounts = mount_table(&outside, tree, &served, stands)?;
        for one in &mut served {
            one.mount = mounts.id_at(&one.at);
        }
        served.sort_by_key(|one| std::cmp::Reverse(one.at.as_bytes().len()));
        let at_stand = |stand: &Stand| (view_path(&stand.at), stand.tmpfs);
        let at_place = |one: &Served| (one.at.clone(), None);
        let mounted = Mounts::new(stands.iter().map(at_stand).chain(served.iter().map(at_place)).collect());
        let names = served.iter().filter_map(|one| Some(one.at.split()?.1.to_vec())).collect();
        let guarded = guarded(tree, &served)?;
        let null = openat(outside.root(), "dev/null", NAMED, Mode::empty())?;
        let empty = empty_directory(tree)?;
        let terminals = Terminals::default();
        let tree = match emulated {
            true => Some(Tree { directory: rustix::io::fcntl_dupfd_cloexec(tree, 0)?, host: host_of(&outside, tree)? }),
            false => None,
        };
        let given = AtomicBool::new(false);
        let proc_device = rustix::fs::fstat(outside.proc())?.st_dev;
        let trodden = Trodden::default();
        Ok(Places {
            outside,
            table,
            served,
            names,
            guarded,
            mounts,
            mounted,
            terminals,
            empty,
            null,
            tree,
            trodden,
            findings: Findings::default(),
            proc_device,
            given,
        })
    }

    /// The step's tree.
    pub(super) fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_ref().map_or(CWD, |tree| tree.directory.as_fd())
    }

    /// All that the step sees: the tree and what is shown in it.
    pub(crate) fn sources(&self) -> Vec<BorrowedFd<'_>> {
        let tree = self.tree.iter().map(|tree| tree.directory.as_fd());
        tree.chain(self.served.iter().map(|one| one.source.as_fd())).collect()
    }

    /// What of the machine's files is shown besides /proc, /sys and terminals.
    pub(crate) fn binds(&self) -> Vec<BorrowedFd<'_>> {
        let binds = self.served.iter().filter(|one| one.kind == Kind::Bind);
        binds.map(|one| one.source.as_fd()).collect()
    }

    /// What stands in the tree for places as the step began.
    pub(super) fn guarded(&self) -> &Guarded {
        &self.guarded
    }

    /// Whether nobody has the tree as its root, so that the kernel can make no call about a path as it is.
    pub(super) fn is_emulated(&self) -> bool {
        self.tree.is_some()
    }

    /// Where what the step sees really is.
    pub(crate) fn mapping(&self) -> Mapping {
        let tree = self.tree.as_ref().map_or_else(ViewPath::root, |tree| tree.host.clone());
        let served = self.served.iter().map(|one| (one.at.clone(), one.host.clone())).collect();
        Mapping { tree, served }
    }

    /// Opens a path of the step's that leads through its tree alone, from the directory `from` or the tree's root. `ELOOP`
    /// where it leads over the border of a place.
    pub(super) fn open_in_tree(
        &self,
        from: Option<&OwnedFd>,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let Some(tree) = &self.tree else {
            return openat(from.map_or(CWD, AsFd::as_fd), path, flags, mode);
        };
        let path = if path.is_empty() { b"." } else { path };
        // openat2(2) takes no mode where nothing is made, nor flags that mean nothing.
        let makes = flags.intersects(OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY));
        let mode = if makes { mode } else { Mode::empty() };
        let flags = OFlags::from_bits_truncate(flags.bits());
        loop {
            // It is tried anew where something was moved meanwhile.
            match openat2(&tree.directory, path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// Opens a path of the tree from its root, which has no link on its way: else `ELOOP`. For a tree that nobody has as
    /// its root.
    pub(super) fn open_without_links(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(self.tree(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// No places at all: where /proc and the like are really mounted.
    pub(super) fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    /// Something outside is shown that may hold programs.
    pub(super) fn has_binds(&self) -> bool {
        self.served.iter().any(|one| one.kind == Kind::Bind && one.is_directory)
    }

    pub(super) fn get(&self, number: usize) -> &Served {
        &self.served[number]
    }

    /// What stands at a path of the tree without links, as a directory and a name there.
    pub(super) fn name_in_tree<'a>(&'a self, path: &'a ViewPath) -> (BorrowedFd<'a>, &'a [u8]) {
        match &self.tree {
            None => (CWD, path.as_bytes()),
            Some(tree) if path.relative().is_empty() => (tree.directory.as_fd(), b"."),
            Some(tree) => (tree.directory.as_fd(), path.relative()),
        }
    }

    /// The place that `path` is in, and the rest of the path there.
    pub(super) fn find<'a>(&self, path: &'a ViewPath) -> Option<(usize, &'a [u8])> {
        self.served.iter().enumerate().find_map(|(number, one)| Some((number, path.below(&one.at)?)))
    }

    /// Whether a path as it is written begins with that of a place.
    pub(super) fn begins_in_place(&self, path: &[u8]) -> bool {
        let begins = |at: &[u8]| matches!(path.strip_prefix(at), Some([] | [b'/', ..]));
        self.served.iter().any(|one| begins(one.at.as_bytes()))
    }

    /// Whether the last name of a path is that of a place, so that a link found there may be our own.
    pub(super) fn may_end_at_place(&self, path: &[u8]) -> bool {
        let mut names = path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        names.next().is_some_and(|last| last == b".." || self.names.iter().any(|name| name == last))
    }

    /// Whether `path`, seen from a directory that is in no place, is a name there and no more, at which no place can be.
    /// A link at such a name is one of the tree.
    pub(super) fn is_plain_name(&self, path: &[u8]) -> bool {
        !path.contains(&b'/') && path != b".." && !self.names.iter().any(|name| name == path)
    }

    /// The place at `path`, with the file type of what is there.
    pub(super) fn at(&self, path: &ViewPath) -> Option<(Kind, FileType)> {
        let (number, rest) = self.find(path)?;
        let place = &self.served[number];
        rest.is_empty().then(|| (place.kind, kind_of(place.source.as_fd()).unwrap_or(FileType::Unknown)))
    }

    /// Whether a place is at a name right in the directory `path`.
    pub(super) fn has_in(&self, path: &ViewPath) -> bool {
        self.served.iter().any(|one| one.at.split().is_some_and(|(above, _)| above == *path))
    }

    /// Remembers that a directory of a place has been handed out.
    pub(super) fn give_directory(&self) {
        self.given.store(true, Ordering::Release);
    }

    /// Whether a relative path may begin in a place, or the kernel has another one for it anyway.
    pub(super) fn has_given_directory(&self) -> bool {
        self.is_emulated() || self.is_directory_given()
    }

    /// Whether the step may hold a directory of a place.
    pub(super) fn is_directory_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// The path that the step has for an object whose name is `host` to the kernel, seen from the step's root.
    /// `object` opens it, to tell a file of the tree from one outside of the same name.
    pub(super) fn translate(&self, host: &[u8], object: impl FnOnce() -> Option<OwnedFd>) -> ViewPath {
        let host = ViewPath::without_links(host);
        if let Some(tree) = &self.tree {
            return self.translate_from_outside(&host, tree);
        }
        let outside = self.served.iter().filter_map(|one| Some((one, host.below(&one.host)?)));
        let Some((place, rest)) = outside.max_by_key(|(one, _)| one.host.as_bytes().len()) else { return host };
        if place.kind == Kind::Bind && object().is_some_and(|object| is_at(object.as_fd(), &host)) {
            return host;
        }
        place.at.join(rest)
    }

    fn translate_from_outside(&self, host: &ViewPath, tree: &Tree) -> ViewPath {
        let root = ViewPath::root();
        let all = self.served.iter().map(|one| (&one.at, &one.host)).chain([(&root, &tree.host)]);
        let found = all.filter_map(|(at, of)| Some((at, of.as_bytes().len(), host.below(of)?)));
        found.max_by_key(|(_, length, _)| *length).map_or_else(|| host.clone(), |(at, _, rest)| at.join(rest))
    }

    /// The lines of a file of /proc with the step's paths for the kernel's.
    pub(super) fn with_own_paths(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match line.iter().position(|byte| *byte == b'/') {
                Some(at) => {
                    let (before, path) = line.split_at(at);
                    let path = path.strip_suffix(b"\n").unwrap_or(path);
                    out.extend_from_slice(before);
                    out.extend_from_slice(self.translate(path, || None).as_bytes());
                    out.push(b'\n');
                }
                None => out.extend_from_slice(line),
            }
        }
        out
    }

    /// The path of the program that a process runs, for a path below /proc that is the link to it, where the kernel has
    /// another one.
    pub(super) fn program(&self, link: &str) -> Option<Arc<[u8]>> {
        let pid = link.strip_suffix("/exe")?.split('/').next()?.parse().ok()?;
        self.tree.as_ref()?;
        self.table.process_of(pid).ok()?.state().program.clone()
    }

    /// The path that the step has for the object behind a link of /proc, such as `PID/cwd`; `None` for one without a path:
    /// a pipe, a socket.
    pub(super) fn path_of(&self, link: &str) -> Result<Option<ViewPath>, Errno> {
        if let Some(program) = self.program(link) {
            return Ok(Some(ViewPath::without_links(&program)));
        }
        let host = readlinkat(self.outside.proc(), link, Vec::new())?.into_bytes();
        if host.first() != Some(&b'/') {
            return Ok(None);
        }
        Ok(Some(self.translate(&host, || self.outside.open_proc(link, OFlags::PATH).ok())))
    }

    /// Opens the object at `rest` in a place; links are not followed. Nothing in the path may be one, but for the last.
    pub(super) fn open_node(&self, number: usize, rest: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let place = &self.served[number];
        match place.kind {
            Kind::Proc if procfs::among(&procfs::PROC_MASKED, rest) => self.masked(place, rest, &procfs::PROC_MASKED),
            Kind::Sys if procfs::among(&procfs::SYS_MASKED, rest) => self.masked(place, rest, &procfs::SYS_MASKED),
            Kind::Pts if !rest.is_empty() => self.terminals.open_node(&self.outside, rest),
            _ if rest.is_empty() => rustix::io::fcntl_dupfd_cloexec(&place.source, 0),
            _ => openat2(&place.source, rest, flags, Mode::empty(), INSIDE),
        }
    }

    /// The directory that what is shown at a place really lies in, and its name there.
    pub(super) fn real_name(&self, number: usize) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let (above, name) = self.served[number].host.split().ok_or(Errno::NOENT)?;
        let above = openat(self.outside.root(), above.relative(), NAMED, Mode::empty())?;
        Ok((above, name.to_vec()))
    }

    /// What stands where something is hidden.
    fn masked(&self, place: &Served, rest: &[u8], list: &[&str]) -> Result<OwnedFd, Errno> {
        let hidden = openat2(&place.source, rest, NAMED, Mode::empty(), INSIDE)?;
        if !list.iter().any(|one| one.as_bytes() == rest) {
            return Err(Errno::NOENT);
        }
        let stands = if is_directory(hidden.as_fd())? { &self.empty } else { &self.null };
        rustix::io::fcntl_dupfd_cloexec(stands, 0)
    }

    /// Whether `path` leads over the border of a place: from the directory behind `from`, a link below /proc, or, where that is
    /// empty, from the root; `None` where it leads nowhere. To be asked as who the worker began as.
    pub(super) fn crosses(&self, from: &str, path: &[u8], follow: bool) -> Option<bool> {
        let between = if from.is_empty() { "" } else { "/" };
        let path = CString::new([from.as_bytes(), between.as_bytes(), path].concat()).ok()?;
        match sys::find(self.outside.proc(), &path, libc::F_OK, follow) {
            Ok(()) => Some(false),
            Err(error) => (error.raw_os_error() == Some(libc::ELOOP)).then_some(true),
        }
    }

    /// The rest of `path` in /proc, taken apart, where it is one in there.
    pub(super) fn proc_path<'a>(&self, path: &'a ViewPath) -> Option<ProcPath<'a>> {
        let (number, rest) = self.find(path)?;
        (self.served[number].kind == Kind::Proc).then(|| procfs::parse(rest))
    }

    pub(super) fn is_place_directory(&self, number: usize) -> bool {
        self.served[number].is_directory
    }
}

/// Where /proc has a descriptor of `thread`, or its working directory.
pub(super) fn descriptor_path(thread: i32, fd: i32) -> String {
    if fd == call::CWD { format!("{thread}/cwd") } else { format!("{thread}/fd/{fd}") }
}

pub(super) fn is_directory(object: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(kind_of(object)? == FileType::Directory)
}

pub(super) fn kind_of(object: BorrowedFd<'_>) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(object)?.st_mode))
}

/// Whether `object` is what is at `path` of the tree.
pub(super) fn is_at(object: BorrowedFd<'_>, path: &ViewPath) -> bool {
    let there = statat(CWD, path.as_bytes(), AtFlags::SYMLINK_NOFOLLOW);
    matches!((there, rustix::fs::fstat(object)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// What stands in `tree` for these places, and the directories that it is in.
fn guarded(tree: BorrowedFd<'_>, served: &[Served]) -> Result<Guarded, Errno> {
    let mut inodes = Vec::new();
    for one in served {
        let above = one.at.split().map(|(above, _)| above);
        for path in [Some(&one.at), above.as_ref()].into_iter().flatten() {
            let name = if path.relative().is_empty() { b"." } else { path.relative() };
            match statat(tree, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => inodes.push(stat.st_ino),
                // Of what is in another place the tree has nothing.
                Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error),
            }
        }
    }
    inodes.sort_unstable();
    inodes.dedup();
    Ok(Guarded { device: rustix::fs::fstat(tree)?.st_dev, inodes })
}

/// A directory in which nothing is nor can be made: one that has been removed.
fn empty_directory(tree: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let name = format!("dev/.dockless-empty-{}", std::process::id());
    rustix::fs::mkdirat(tree, &name, Mode::from_raw_mode(0o555))?;
    let opened = openat(tree, &name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    rustix::fs::unlinkat(tree, &name, AtFlags::REMOVEDIR)?;
    opened
}

fn mount_table(
    outside: &Outside,
    tree: BorrowedFd<'_>,
    served: &[Served],
    stands: &[Stand],
) -> Result<MountTable, Errno> {
    let tree_host = host_of(outside, tree)?;
    let mut all = vec![Shown {
        at: ViewPath::root(),
        host: tree_host.clone(),
        mount: mount_id(tree)?,
        readonly: false,
        tmpfs: None,
    }];
    for one in served {
        let mount = mount_id(one.source.as_fd())?;
        all.push(Shown { at: one.at.clone(), host: one.host.clone(), mount, readonly: one.readonly, tmpfs: None });
    }
    for stand in stands {
        let at = view_path(&stand.at);
        let host = tree_host.join(at.relative());
        all.push(Shown { at, host, mount: mount_id(tree)?, readonly: false, tmpfs: stand.tmpfs });
    }
    all[1..].sort_by(|a, b| a.at.cmp(&b.at)); // what a mount lies in comes before it
    Ok(MountTable::new(&all, &parse(&outside.read_proc("self/mountinfo")?)))
}

fn view_path(path: &Path) -> ViewPath {
    ViewPath::without_links(path.as_os_str().as_bytes())
}

fn mount_id(object: BorrowedFd<'_>) -> Result<u64, Errno> {
    let flags = AtFlags::EMPTY_PATH;
    // STATX_MNT_ID, Linux 5.8.
    let found = rustix::fs::statx(object, "", flags, rustix::fs::StatxFlags::from_bits_retain(0x1000))?;
    Ok(found.stx_mnt_id)
}

fn host_of(outside: &Outside, object: BorrowedFd<'_>) -> Result<ViewPath, Errno> {
    use std::os::fd::AsRawFd;
    let name = readlinkat(outside.proc(), format!("self/fd/{}", object.as_raw_fd()), Vec::new())?;
    Ok(ViewPath::without_links(name.as_bytes()))
}

impl Served {
    fn open(outside: &Outside, place: Place) -> Result<Served, Errno> {
        let system = |path: &str| openat(outside.root(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let (kind, source, readonly) = match place.kind {
            PlaceKind::Proc => (Kind::Proc, system("proc")?, false),
            PlaceKind::Sys => (Kind::Sys, system("sys")?, true),
            PlaceKind::Pts => (Kind::Pts, system("dev/pts")?, false),
            PlaceKind::Bind { source, readonly } => (Kind::Bind, source, readonly),
        };
        let is_directory = is_directory(source.as_fd())?;
        let host = host_of(outside, source.as_fd())?;
        let at = view_path(&place.at);
        Ok(Served { at, kind, source, host, readonly, is_directory, mount: None })
    }
}

/// Errors of calls in `sys`, which are the kernel's.
pub(super) fn raw<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(errno)
}
