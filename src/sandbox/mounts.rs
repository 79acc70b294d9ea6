//! The mounts of a root: the root itself, /proc, /sys, /dev, files of our own and the caller's further mounts.
//!
//! Two mount namespaces nest. In the outer one (`init`) only a scratch tmpfs and the root are mounted, so that mount
//! points can be made in the tree before and taken away after. In the inner one (`pid 1`) everything else is mounted on
//! top, and it goes with its last process.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, open_tree,
};

use super::error::{During, Failure, Step};
use super::idmap;
use super::sources::Sources;
use super::spec::{Mount, MountSource, Network, Root, RunSpec};
use super::supervisor::procfs;
use super::target::{Kind, Stubs, open_place};
use crate::sys;

/// Device nodes that are taken from the host.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links in /dev and where they lead.
pub(super) const DEV_LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Names in the scratch tmpfs.
const HOSTS: &str = "hosts";
const RESOLV: &str = "resolv.conf";

const NO_DEVICES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Opens a directory, or a file, as a place.
pub(super) fn place(path: &Path) -> Result<OwnedFd, Failure> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during_at(Step::OpenDirectory, path)
}

/// A new file system, not attached anywhere yet.
fn new_mount(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What mount(8) shows first; without it that is `none`.
    fsconfig_set_string(context.as_fd(), "source", kind)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a mount at a place.
fn attach(mount: &OwnedFd, at: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", at, "", flags)
}

/// A copy of what is mounted at `path`, with what is mounted below it.
fn copy_of(at: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(at, path, flags | OpenTreeFlags::AT_EMPTY_PATH)
}

/// The root, mounted in this process's mount namespace.
#[derive(Debug)]
pub(super) struct MountedRoot {
    /// The tmpfs for files of our own; it covers the upper directory, in this namespace only.
    pub(super) scratch: PathBuf,
    /// Where the root is mounted.
    pub(super) path: PathBuf,
}

impl MountedRoot {
    /// Mounts `root`.
    pub(super) fn mount(root: &Root) -> Result<MountedRoot, Failure> {
        let scratch = match root {
            Root::Overlay { upper, .. } => upper.clone(),
            Root::Dir(dir) => dir.clone(),
        };
        let layers = Layers::open(root)?;
        mount_tmpfs_at(&place(&scratch)?, &scratch)?;
        let path = scratch.join("root");
        fs_err::create_dir(&path).during_at(Step::WriteFile, &path)?;
        match &layers {
            Layers::Dir(dir) => {
                attach(dir, &place(&path)?).during_at(Step::Bind, &scratch)?;
            }
            Layers::Overlay { lowers, upper, work } => {
                let empty;
                let mut lowers: Vec<&OwnedFd> = lowers.iter().collect();
                if lowers.is_empty() {
                    let dir = scratch.join("empty");
                    fs_err::create_dir(&dir).during_at(Step::WriteFile, &dir)?;
                    empty = place(&dir)?;
                    lowers.push(&empty);
                }
                mount_overlay(&lowers, Some((upper, work)), &path).during_at(Step::MountOverlay, &scratch)?;
            }
        }
        Ok(MountedRoot { scratch, path })
    }

    /// Takes the root away again, once nothing uses it, and makes the work directory of an overlay as empty as it was: what
    /// a volatile overlay leaves there forbids a second mount.
    pub(super) fn unmount(&self, root: &Root) -> Result<(), Failure> {
        rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH).during_at(Step::Unmount, &self.path)?;
        match root {
            Root::Overlay { work, .. } => {
                let left = work.join("work");
                sys::remove_tree(&left).during_at(Step::Unmount, &left)
            }
            Root::Dir(_) => Ok(()),
        }
    }

    /// Takes the tmpfs away that covers the upper directory, in a mount namespace that goes on.
    pub(super) fn uncover(&self) -> Result<(), Failure> {
        rustix::mount::unmount(&self.scratch, rustix::mount::UnmountFlags::DETACH)
            .during_at(Step::Unmount, &self.scratch)
    }

    /// The root as a place in the mount namespace that this process is in now.
    pub(super) fn open(&self) -> Result<OwnedFd, Failure> {
        place(&self.path)
    }
}

/// The directories of a [`Root`], opened before the scratch tmpfs covers one of them.
enum Layers {
    Overlay {
        lowers: Vec<OwnedFd>,
        upper: OwnedFd,
        work: OwnedFd,
    },
    /// A copy of the mount.
    Dir(OwnedFd),
}

impl Layers {
    fn open(root: &Root) -> Result<Layers, Failure> {
        Ok(match root {
            Root::Overlay { lowers, upper, work } => Layers::Overlay {
                lowers: lowers.iter().map(|lower| place(lower)).collect::<Result<_, _>>()?,
                upper: place(upper)?,
                work: place(work)?,
            },
            Root::Dir(dir) => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                let copy = open_tree(CWD, dir, flags | OpenTreeFlags::AT_RECURSIVE);
                Layers::Dir(copy.during_at(Step::Bind, dir)?)
            }
        })
    }
}

/// Mounts a tmpfs at a place.
pub(super) fn mount_tmpfs_at(at: &OwnedFd, name: &Path) -> Result<(), Failure> {
    let tmpfs = new_mount("tmpfs", &[("mode", "0755")], NO_DEVICES).during_at(Step::MountTmpfs, name)?;
    attach(&tmpfs, at).during_at(Step::MountTmpfs, name)
}

/// Upper and work directory of an overlay.
type UpperAndWork<'a> = (&'a OwnedFd, &'a OwnedFd);

/// Mounts an overlay at `at`, read-only where it has no `upper`. Layers are named by their descriptors: any bytes may be in
/// a path, and there is room for 500 of them.
pub(super) fn mount_overlay(lowers: &[&OwnedFd], upper: Option<UpperAndWork<'_>>, at: &Path) -> Result<(), Errno> {
    match overlay_by_fsconfig(lowers, upper) {
        Ok(overlay) => attach(&overlay, &openat(CWD, at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
        // `lowerdir+` came with Linux 6.5.
        Err(Errno::INVAL) => overlay_by_mount(lowers, upper, at),
        Err(error) => Err(error),
    }
}

fn fd_path(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn overlay_by_fsconfig(lowers: &[&OwnedFd], upper: Option<UpperAndWork<'_>>) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "overlay")?;
    for lower in lowers {
        fsconfig_set_string(context, "lowerdir+", fd_path(lower))?;
    }
    if let Some((upper, work)) = upper {
        fsconfig_set_string(context, "upperdir", fd_path(upper))?;
        fsconfig_set_string(context, "workdir", fd_path(work))?;
        fsconfig_set_flag(context, "volatile")?;
    }
    fsconfig_set_flag(context, "userxattr")?;
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// By mount(2), whose options must fit into a page: so descriptors' numbers, relative to /proc/self/fd.
fn overlay_by_mount(lowers: &[&OwnedFd], upper: Option<UpperAndWork<'_>>, at: &Path) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    rustix::process::chdir("/proc/self/fd")?;
    let lowers: Vec<String> = lowers.iter().map(|lower| lower.as_raw_fd().to_string()).collect();
    let upper =
        upper.map(|(upper, work)| format!(",upperdir={},workdir={},volatile", upper.as_raw_fd(), work.as_raw_fd()));
    let data = format!("lowerdir={}{},userxattr\0", lowers.join(":"), upper.unwrap_or_default());
    let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).map_err(|_| Errno::INVAL)?;
    let mounted = mount("overlay", at, "overlay", MountFlags::empty(), Some(data));
    rustix::process::chdir("/")?;
    mounted
}

/// Where everything that [`mount_all`] mounts goes: paths in the root without links.
#[derive(Debug)]
pub(super) struct Targets {
    proc: PathBuf,
    sys: PathBuf,
    dev: PathBuf,
    hosts: PathBuf,
    resolv: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Targets {
    /// Finds them, and makes them where the tree lacks them.
    pub(super) fn prepare(
        stubs: &mut Stubs,
        root: BorrowedFd<'_>,
        spec: &RunSpec,
        sources: &Sources,
    ) -> Result<Targets, Failure> {
        let mut directory = |path: &str| stubs.prepare(root, Path::new(path), Kind::Directory);
        let (proc, sys, dev) = (directory("/proc")?, directory("/sys")?, directory("/dev")?);
        // Every runtime wants them, so an image that had none has them from its first RUN on, as `docker build` has it.
        stubs.keep(&["proc", "sys", "dev"]);
        let mut prepare = |path: &Path, kind| stubs.prepare(root, path, kind);
        let targets = Targets {
            proc,
            sys,
            dev,
            hosts: prepare(Path::new("/etc/hosts"), Kind::File)?,
            resolv: prepare(Path::new("/etc/resolv.conf"), Kind::File)?,
            mounts: spec
                .mounts
                .iter()
                .enumerate()
                .map(|(number, mount)| prepare(&mount.target, sources.kind(number, mount)?))
                .collect::<Result<_, _>>()?,
        };
        stubs.settle(root)?;
        Ok(targets)
    }
}

/// What [`mount_all`] works on: the root as this namespace sees it.
struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// Only finds: what is missing was made before. What it makes all the same lies on mounts, not in the tree.
    finder: Stubs,
}

impl Tree<'_> {
    /// The place that `target` is.
    fn place(&mut self, target: &Path, kind: Kind) -> Result<OwnedFd, Failure> {
        let path = self.finder.prepare(self.root, target, kind)?;
        open_place(self.root, &path).during_at(Step::MountPoint, target)
    }

    fn attach(&mut self, mount: &OwnedFd, target: &Path, kind: Kind, step: Step) -> Result<(), Failure> {
        let place = self.place(target, kind)?;
        attach(mount, &place).during_at(step, target)
    }
}

/// A new /proc for the pid namespace of this process.
pub(super) fn new_proc() -> Result<OwnedFd, Failure> {
    let attributes = NO_DEVICES | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    match new_mount("proc", &[], attributes) {
        Err(Errno::PERM) => Err(Failure::MaskedProc),
        other => other.during_at(Step::MountProc, Path::new("/proc")),
    }
}

/// Mounts everything into the root. `proc` is a new /proc; without one, that of this namespace is shown.
pub(super) fn mount_all(
    root: &MountedRoot,
    targets: &Targets,
    proc: Option<OwnedFd>,
    spec: &RunSpec,
    sources: &Sources,
) -> Result<(), Failure> {
    let fd = root.open()?;
    let mut tree = Tree { root: fd.as_fd(), finder: Stubs::default() };
    // The host's /dev, /proc and /sys stay where they are until the root changes, so copies can be made at any time.
    let proc = match proc {
        Some(proc) => proc,
        None => copy_of(CWD, Path::new("/proc")).during_at(Step::MountProc, Path::new("/proc"))?,
    };
    tree.attach(&proc, &targets.proc, Kind::Directory, Step::MountProc)?;
    let sys = sys_mount(spec.network).during_at(Step::MountProc, Path::new("/sys"))?;
    sys::make_mount_readonly(sys.as_fd(), true).during_at(Step::ReadOnly, Path::new("/sys"))?;
    tree.attach(&sys, &targets.sys, Kind::Directory, Step::MountProc)?;
    mount_dev(&mut tree, &targets.dev, spec)?;
    for (name, target) in [(HOSTS, &targets.hosts), (RESOLV, &targets.resolv)] {
        let own = root.scratch.join(name);
        let copy = copy_of(CWD, &own).during_at(Step::Bind, &own)?;
        tree.attach(&copy, target, Kind::File, Step::Bind)?;
    }
    for (number, target) in targets.mounts.iter().enumerate() {
        mount_further(&mut tree, sources, number, &spec.mounts[number], target)?;
    }
    protect(&mut tree)?;
    match spec.readonly_root {
        true => sys::make_mount_readonly(fd.as_fd(), false).during_at(Step::ReadOnly, Path::new("/")),
        false => Ok(()),
    }
}

/// The host's /sys; a new one, which shows the interfaces of this network namespace, where the host's network is not shared.
/// The kernel refuses that where parts of the host's /sys are masked (`mount_too_revealing`, fs/namespace.c): in containers.
fn sys_mount(network: Network) -> Result<OwnedFd, Errno> {
    if network == Network::None {
        match new_mount("sysfs", &[], NO_DEVICES | MountAttrFlags::MOUNT_ATTR_NOEXEC) {
            Err(Errno::PERM) => {}
            made => return made,
        }
    }
    copy_of(CWD, Path::new("/sys"))
}

fn mount_dev(tree: &mut Tree<'_>, target: &Path, spec: &RunSpec) -> Result<(), Failure> {
    let dev = Path::new("/dev");
    let step = Step::MountDevices;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let tmpfs = new_mount("tmpfs", &[("mode", "0755"), ("size", "65536k")], attributes).during_at(step, dev)?;
    // From here on by the mount itself, so no link in the tree can lead anywhere else.
    tree.attach(&tmpfs, target, Kind::Directory, step)?;
    let mut inside = Tree { root: tmpfs.as_fd(), finder: Stubs::default() };
    for name in DEVICES {
        match copy_of(CWD, &dev.join(name)) {
            Err(Errno::NOENT) => {} // a minimal container may lack some
            copy => {
                let copy = copy.during_at(step, &dev.join(name))?;
                // It is the machine's own node: root could give it another mode or owner. Writing to the device is no
                // writing to its file system.
                sys::make_mount_readonly(copy.as_fd(), false).during_at(step, &dev.join(name))?;
                inside.attach(&copy, Path::new(name), Kind::File, step)?;
            }
        }
    }
    for (name, to) in DEV_LINKS {
        rustix::fs::symlinkat(to, &tmpfs, name).during_at(step, &dev.join(name))?;
    }
    // The group tty; where the id map lacks it the kernel refuses the option.
    let gids = fs_err::read_to_string("/proc/self/gid_map").during(step)?;
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    if idmap::contains(&idmap::parse_map(&gids), 5) {
        options.push(("gid", "5"));
    }
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = new_mount("devpts", &options, no_exec).during_at(step, &dev.join("pts"))?;
    inside.attach(&pts, Path::new("pts"), Kind::Directory, step)?;
    // A mount of the caller's stands in its place.
    if spec.mounts.iter().all(|mount| mount.target != dev.join("shm")) {
        let shm = new_shm(spec.shm_size).during_at(step, &dev.join("shm"))?;
        inside.attach(&shm, Path::new("shm"), Kind::Directory, step)?;
    }
    match new_mount("mqueue", &[], no_exec | NO_DEVICES) {
        Err(Errno::NODEV) => Ok(()), // a kernel without message queues
        mqueue => {
            inside.attach(&mqueue.during_at(step, &dev.join("mqueue"))?, Path::new("mqueue"), Kind::Directory, step)
        }
    }
}

/// The tmpfs of /dev/shm. A size that was asked for comes without `noexec`, as BuildKit has it.
fn new_shm(size: Option<u64>) -> Result<OwnedFd, Errno> {
    let (size, attributes) = match size {
        Some(bytes) => (bytes.to_string(), MountAttrFlags::MOUNT_ATTR_NOSUID),
        None => ("65536k".to_string(), NO_DEVICES | MountAttrFlags::MOUNT_ATTR_NOEXEC),
    };
    new_mount("tmpfs", &[("mode", "1777"), ("size", &size)], attributes)
}

fn mount_further(
    tree: &mut Tree<'_>,
    sources: &Sources,
    number: usize,
    wanted: &Mount,
    target: &Path,
) -> Result<(), Failure> {
    let copy = match &wanted.source {
        MountSource::Tmpfs(size) => {
            let size = size.map(|bytes| bytes.to_string());
            let options: Vec<(&str, &str)> =
                [("mode", "1777")].into_iter().chain(size.iter().map(|size| ("size", size.as_str()))).collect();
            // Devices cannot be made in a user namespace anyway; BuildKit has no more than this either.
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
            new_mount("tmpfs", &options, attributes).during_at(Step::MountTmpfs, target)?
        }
        _ => copy_of(sources.open(number, wanted)?.as_fd(), Path::new("")).during_at(Step::Bind, target)?,
    };
    if wanted.readonly {
        sys::make_mount_readonly(copy.as_fd(), true).during_at(Step::ReadOnly, target)?;
    }
    tree.attach(&copy, target, sources.kind(number, wanted)?, Step::Bind)
}

/// Hides and write-protects what Docker does, and more where it is needed.
fn protect(tree: &mut Tree<'_>) -> Result<(), Failure> {
    let below = |root: &str, paths: &[&str]| paths.iter().map(|path| Path::new(root).join(path)).collect::<Vec<_>>();
    let masked = [below("proc", &procfs::PROC_MASKED), below("sys", &procfs::SYS_MASKED)].concat();
    let mut readonly = below("proc", &procfs::PROC_READONLY);
    for path in of_the_machine(tree)? {
        if !masked.contains(&path) && !readonly.contains(&path) {
            readonly.push(path);
        }
    }
    for path in &masked {
        let Some(place) = place_there(tree, path)? else { continue };
        let stat = rustix::fs::fstat(&place).during_at(Step::MountPoint, path)?;
        let cover = if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            new_mount("tmpfs", &[("mode", "0755")], NO_DEVICES | MountAttrFlags::MOUNT_ATTR_RDONLY)
        } else {
            copy_of(CWD, Path::new("/dev/null"))
        };
        attach(&cover.during_at(Step::Bind, path)?, &place).during_at(Step::Bind, path)?;
    }
    for path in &readonly {
        let Some(place) = place_there(tree, path)? else { continue };
        let copy = copy_of(place.as_fd(), Path::new("")).during_at(Step::Bind, path)?;
        sys::make_mount_readonly(copy.as_fd(), true).during_at(Step::ReadOnly, path)?;
        attach(&copy, &place).during_at(Step::Bind, path)?;
    }
    Ok(())
}

/// What is at `path` of the tree; `None` where that is nothing or a link.
fn place_there(tree: &Tree<'_>, path: &Path) -> Result<Option<OwnedFd>, Failure> {
    match open_place(tree.root, path) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
        other => other.map(Some).during_at(Step::MountPoint, path),
    }
}

/// Everything in /proc that is no process's, where root here is the machine's: the kernel keeps its mode and owner for all
/// of the machine (`proc_notify_change`), so a command must not change them. Those of processes' files do not stay.
fn of_the_machine(tree: &Tree<'_>) -> Result<Vec<PathBuf>, Failure> {
    let proc = Path::new("proc");
    let step = Step::MountProc;
    let Some(shown) = place_there(tree, proc)? else { return Ok(Vec::new()) };
    let owner = rustix::fs::statat(&shown, "uptime", AtFlags::SYMLINK_NOFOLLOW).during_at(step, proc)?.st_uid;
    if owner != 0 {
        return Ok(Vec::new());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(&shown, ".", flags, Mode::empty()).and_then(rustix::fs::Dir::new).during_at(step, proc)?;
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.during_at(step, proc)?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") && !name[0].is_ascii_digit() {
            found.push(proc.join(OsStr::from_bytes(name)));
        }
    }
    Ok(found)
}

/// Writes `/etc/hosts` and `/etc/resolv.conf` for the command into the scratch tmpfs.
pub(super) fn write_own_files(root: &MountedRoot, spec: &RunSpec) -> Result<(), Failure> {
    for (name, text) in [(HOSTS, hosts(spec)), (RESOLV, resolv())] {
        let path = root.scratch.join(name);
        fs_err::write(&path, text).during_at(Step::WriteFile, &path)?;
        fs_err::set_permissions(&path, Permissions::from_mode(0o644)).during_at(Step::WriteFile, &path)?;
    }
    Ok(())
}

/// The `/etc/hosts` of a command: a copy of the host's, so that it may change it, with the spec's entries added.
pub(super) fn hosts(spec: &RunSpec) -> Vec<u8> {
    let mut hosts = fs_err::read("/etc/hosts").unwrap_or_else(|_| b"127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_vec());
    if !hosts.ends_with(b"\n") {
        hosts.push(b'\n');
    }
    if let Some(name) = &spec.hostname {
        hosts.extend(format!("127.0.0.1\t{name}\n").bytes());
    }
    for (name, address) in &spec.hosts {
        hosts.extend(format!("{address}\t{name}\n").bytes());
    }
    hosts
}

/// Its `/etc/resolv.conf`: without one outside resolvers use their default, as they do there; an empty one says the same.
pub(super) fn resolv() -> Vec<u8> {
    fs_err::read("/etc/resolv.conf").unwrap_or_default()
}
