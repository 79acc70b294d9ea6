//! Entering what a build works in: the outer side, [`enter`], and the inner side, [`entered`].
//!
//! That is a user namespace where one can be had; in the chroot tier it is only a process of its own.
//!
//! `unshare(CLONE_NEWUSER)` fails in a process with threads, so the executable is started again in a role. The new
//! process unshares, the old one writes its id maps (which needs the rights of the old namespace), hands over the
//! payload and stays, with the job's environment, outside: the role's environment is empty, so its `/proc/PID/environ`
//! gives nothing away to a command that runs inside.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{Pid, Signal, getegid, geteuid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, Gid, Uid, UnshareFlags};
use serde::{Deserialize, Serialize};

use super::error::{Attempt, AttemptFailure, During, Failure, Namespaces, SandboxError, Step};
use super::idmap::{self, IdMap, IdMapKind};
use super::mounts::{mount_tmpfs_at, place};
use super::wire::Control;
use super::{Exit, Isolation, Role, Tier, Way, child};
use crate::sys;

/// What the inner side is to be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Begin {
    tier: Tier,
}

/// What the inner side says.
#[derive(Debug, Serialize, Deserialize)]
enum FromInside {
    /// The user namespace is there: write its maps. In the chroot tier: what it takes is allowed.
    Unshared,
    /// The role begins its work.
    Ready,
    /// What the role gives back, see [`Entered::report`].
    Report(Vec<u8>),
    /// A step failed; the process ends.
    Failed(Failure),
}

/// How a role ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit of the process.
    pub exit: Exit,
    /// What it reported, if it did.
    pub report: Option<Vec<u8>>,
    /// Better ways that did not work.
    pub attempts: Vec<Attempt>,
}

/// Runs `exe` in `role` in the best tier that `isolation` and this machine allow, as id 0 there, and waits for it: in a new
/// user and mount namespace with the best id map to be had, else in the tiers chroot or emulated. Standard input, output and error are the caller's; `payload` is what [`entered`] gives there.
///
/// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 that a process sends to the caller meanwhile are passed on; those of a terminal reach
/// the role by themselves. That takes a caller without other threads, which would get them. The role is killed when the calling thread ends.
pub fn enter(exe: &Path, role: Role, payload: &[u8], isolation: Isolation) -> Result<Ended, SandboxError> {
    let signals = child::block_forwarded(&[]).map_err(|source| SandboxError::Control { role: role.name(), source })?;
    let result = enter_blocked(exe, role, payload, isolation, &signals);
    signals.unblock();
    result
}

fn enter_blocked(
    exe: &Path,
    role: Role,
    payload: &[u8],
    isolation: Isolation,
    signals: &sys::SignalSet,
) -> Result<Ended, SandboxError> {
    child::adopt_orphans().map_err(|source| SandboxError::Control { role: role.name(), source })?;
    let mut attempts: Vec<Attempt> = Vec::new();
    for plan in plans(isolation) {
        let (how, tier, map) = match plan {
            Ok((tier, map)) => (way(tier, &map), tier, map),
            Err(attempt) => {
                attempts.push(attempt);
                continue;
            }
        };
        // Without a namespace at all no other map will help.
        if tier == Tier::Namespaces && attempts.iter().any(Attempt::is_hopeless) {
            continue;
        }
        match start(exe, role, payload, tier, &map)? {
            Ok((mut child, control)) => {
                let (exit, report) = finish(role, &mut child, &control, signals)?;
                return Ok(Ended { exit, report, attempts });
            }
            Err(why) => attempts.push(Attempt { how, why }),
        }
    }
    Err(SandboxError::NoIsolation { attempts })
}

/// Starts the role and maps its ids. The outer error ends everything, the inner one only this map.
type Started = Result<(child::Guard, Control), AttemptFailure>;

fn start(exe: &Path, role: Role, payload: &[u8], tier: Tier, map: &IdMap) -> Result<Started, SandboxError> {
    let lost = |source| SandboxError::Control { role: role.name(), source };
    let (control, theirs) = Control::pair().map_err(lost)?;
    let child = spawn(exe, role, theirs, Stdio::inherit(), Stdio::inherit())?;
    if control.send(&Begin { tier }, &[]).is_err() {
        return Err(child.lost(role));
    }
    match control.receive::<FromInside>().map_err(lost)? {
        Some((FromInside::Unshared, _)) => {}
        Some((FromInside::Failed(failure), _)) => return Ok(Err(failure.into())),
        Some(_) => return Err(lost(io::ErrorKind::InvalidData.into())),
        None => return Err(child.lost(role)),
    }
    if tier == Tier::Namespaces
        && let Err(why) = write_maps(child.pid(), map)
    {
        return Ok(Err(why));
    }
    control.send(map, &[rustix::stdio::stdin()]).map_err(lost)?;
    control.send_bytes(payload, &[]).map_err(lost)?;
    match control.receive::<FromInside>().map_err(lost)? {
        Some((FromInside::Ready, _)) => Ok(Ok((child, control))),
        Some((FromInside::Failed(failure), _)) => Ok(Err(failure.into())),
        Some(_) => Err(lost(io::ErrorKind::InvalidData.into())),
        None => Err(child.lost(role)),
    }
}

/// Starts `exe` in `role`, with an empty environment and `control` as its standard input.
pub(super) fn spawn(
    exe: &Path,
    role: Role,
    control: OwnedFd,
    stdout: Stdio,
    stderr: Stdio,
) -> Result<child::Guard, SandboxError> {
    let mut command = Command::new(exe);
    command.arg(role.argument()).env_clear().stdin(control).stdout(stdout).stderr(stderr);
    let child: Child = command.spawn().map_err(|source| SandboxError::Spawn { exe: exe.to_path_buf(), source })?;
    Ok(child::Guard::new(child))
}

fn finish(
    role: Role,
    child: &mut child::Guard,
    control: &Control,
    signals: &sys::SignalSet,
) -> Result<(Exit, Option<Vec<u8>>), SandboxError> {
    let lost = |source| SandboxError::Control { role: role.name(), source };
    let exit = child.wait_forwarding(signals).map_err(lost)?;
    if matches!(exit, Exit::Signal(_)) {
        child::wait_for_orphans().map_err(lost)?;
    }
    // The report, if any, waits in the socket; a process that the role left behind does not hold the other end.
    let mut report = None;
    while let Some((message, _)) = control.receive::<FromInside>().map_err(lost)? {
        match message {
            FromInside::Report(bytes) => report = Some(bytes),
            FromInside::Failed(failure) => return Err(failure.into()),
            FromInside::Unshared | FromInside::Ready => return Err(lost(io::ErrorKind::InvalidData.into())),
        }
    }
    Ok((exit, report))
}

/// What to try, best first, each with the reason where it need not be tried.
fn plans(isolation: Isolation) -> Vec<Result<(Tier, IdMap), Attempt>> {
    let mut plans = Vec::new();
    if isolation.allows(Tier::Namespaces) {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let namespaces = |kind, plan: Result<IdMap, AttemptFailure>| match plan {
            Ok(map) => Ok((Tier::Namespaces, map)),
            Err(why) => Err(Attempt { how: Way::Namespaces(kind), why }),
        };
        plans.push(namespaces(IdMapKind::Ranges, direct_plan()));
        plans.push(namespaces(IdMapKind::Newuidmap, granted_plan(uid, gid)));
        plans.push(namespaces(IdMapKind::OneId, Ok(IdMap::one(uid, gid))));
    }
    if isolation.allows(Tier::Chroot) {
        let map = chroot_map().map(|map| (Tier::Chroot, map));
        plans.push(map.map_err(|why| Attempt { how: Way::Chroot, why }));
    }
    if isolation.allows(Tier::Emulated) {
        plans.push(Ok((Tier::Emulated, IdMap::one(geteuid().as_raw(), getegid().as_raw()))));
    }
    plans
}

fn way(tier: Tier, map: &IdMap) -> Way {
    match tier {
        Tier::Namespaces => Way::Namespaces(map.kind),
        Tier::Chroot => Way::Chroot,
        Tier::Emulated => Way::Emulated,
    }
}

fn direct_plan() -> Result<IdMap, AttemptFailure> {
    let sets = rustix::thread::capabilities(None).during(Step::WriteMap)?;
    if !sets.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        return Err(AttemptFailure::NotPrivileged);
    }
    own_map()
}

/// The ids that this process's namespace has, each as it is.
fn own_map() -> Result<IdMap, AttemptFailure> {
    let read = |path: &str| {
        let text = fs_err::read_to_string(path).during_at(Step::WriteMap, Path::new(path))?;
        Ok::<_, AttemptFailure>(idmap::parse_map(&text))
    };
    Ok(IdMap::identity(&read("/proc/self/uid_map")?, &read("/proc/self/gid_map")?))
}

/// Steps in the chroot tier are this process's ids: with one of them no file could be given its owner.
fn chroot_map() -> Result<IdMap, AttemptFailure> {
    let map = own_map()?;
    if idmap::is_one(&map.uids) || idmap::is_one(&map.gids) { Err(AttemptFailure::OneId) } else { Ok(map) }
}

fn granted_plan(uid: u32, gid: u32) -> Result<IdMap, AttemptFailure> {
    // Files that are not there grant nothing. The name comes from the file alone: a static binary cannot ask NSS.
    let read = |path| fs_err::read(path).unwrap_or_default();
    let passwd = read("/etc/passwd");
    let name = idmap::name_of(&passwd, uid);
    let ranges = |file: &'static str| match idmap::subordinate_ranges(&read(file), name, uid) {
        ranges if ranges.is_empty() => Err(AttemptFailure::NoRange { uid, file }),
        ranges => Ok(ranges),
    };
    Ok(IdMap::subordinate(uid, gid, &ranges("/etc/subuid")?, &ranges("/etc/subgid")?))
}

fn write_maps(pid: u32, map: &IdMap) -> Result<(), AttemptFailure> {
    let write = |file: &str, text: String| {
        let path = format!("/proc/{pid}/{file}");
        fs_err::write(&path, text).during_at(Step::WriteMap, Path::new(&path)).map_err(AttemptFailure::from)
    };
    match map.kind {
        IdMapKind::Newuidmap => {
            run_map_program("newuidmap", pid, &map.uids)?;
            run_map_program("newgidmap", pid, &map.gids)
        }
        kind => {
            // A group may be mapped without CAP_SETGID only once setgroups is given up, see user_namespaces(7).
            if kind == IdMapKind::OneId {
                write("setgroups", "deny".into())?;
            }
            write("uid_map", idmap::format_map(&map.uids))?;
            write("gid_map", idmap::format_map(&map.gids))
        }
    }
}

fn run_map_program(program: &'static str, pid: u32, ranges: &[idmap::IdRange]) -> Result<(), AttemptFailure> {
    let failed = |message: String| AttemptFailure::Program { program, message };
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    for range in ranges {
        command.args([range.inside, range.outside, range.count].map(|id| id.to_string()));
    }
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let mut said = String::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.take(4096).read_to_string(&mut said); // what it said only explains its status
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{status}: {}", said.trim()))) }
}

/// The inner side of [`enter`].
#[derive(Debug)]
pub struct Entered {
    /// What the outer side was given to hand over.
    pub payload: Vec<u8>,
    /// The ids that files and processes can have.
    pub id_map: IdMap,
    /// What commands will run in.
    pub tier: Tier,
    control: Control,
}

impl Entered {
    /// Gives `report` to the caller of [`enter`]; at most once, and not more than a socket buffers (64 KiB), since it is
    /// read only after this process has ended.
    pub fn report(&self, report: &[u8]) -> io::Result<()> {
        self.control.send(&FromInside::Report(report.to_vec()), &[])
    }
}

/// In a process that [`enter`] started, before any thread: makes the namespaces and gives the payload. `None` where that
/// failed: the caller of [`enter`] has been told, and this process is to end.
pub fn entered() -> Option<Entered> {
    let control = Control::from_stdin().ok()?;
    match take_up(&control) {
        Ok((payload, id_map, tier)) => {
            control.send(&FromInside::Ready, &[]).ok()?;
            Some(Entered { payload, id_map, tier, control })
        }
        Err(failure) => {
            let _ = control.send(&FromInside::Failed(failure), &[]); // nobody is there to tell where this fails
            None
        }
    }
}

fn take_up(control: &Control) -> Result<(Vec<u8>, IdMap, Tier), Failure> {
    sys::unblock_all();
    die_with_parent(control)?;
    let gone = || Failure::Step { step: Step::Start, path: None, errno: rustix::io::Errno::PIPE.raw_os_error() };
    let (Begin { tier }, _) = control.receive().during(Step::Start)?.ok_or_else(gone)?;
    match tier {
        Tier::Namespaces => sys::unshare(UnshareFlags::NEWUSER).during(Step::Unshare(Namespaces::User))?,
        Tier::Chroot => super::chroot::prepare_build()?,
        Tier::Emulated => super::emulated::prepare_build()?,
    }
    control.send(&FromInside::Unshared, &[]).during(Step::Start)?;
    let (map, fds): (IdMap, _) = control.receive().during(Step::Start)?.ok_or_else(gone)?;
    let (payload, _) = control.receive_bytes().during(Step::Start)?.ok_or_else(gone)?;
    let stdin = fds.first().ok_or_else(gone)?;
    rustix::stdio::dup2_stdin(stdin).during(Step::Start)?;
    if tier == Tier::Namespaces {
        enter_namespaces(&map)?;
        // Changing ids cleared it, see prctl(2).
        die_with_parent(control)?;
    }
    Ok((payload, map, tier))
}

/// Becomes id 0 of the user namespace and makes the mount namespace.
fn enter_namespaces(map: &IdMap) -> Result<(), Failure> {
    if geteuid().as_raw() != 0 && map.has_uid(0) {
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during(Step::SetIds)?;
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during(Step::SetIds)?;
    }
    sys::unshare(UnshareFlags::NEWNS).during(Step::Unshare(Namespaces::Mount))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).during(Step::MakePrivate)?;
    // AppArmor may grant the namespace and deny mounts in it.
    let anywhere = Path::new("/proc");
    mount_tmpfs_at(&place(anywhere)?, anywhere)?;
    unmount(anywhere, UnmountFlags::DETACH).during_at(Step::Unmount, anywhere)
}

/// Has this process killed when its parent ends; it ends here where that has happened already.
pub(super) fn die_with_parent(control: &Control) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Start)?;
    if control.hung_up() {
        sys::exit_now(125);
    }
    Ok(())
}

/// The pid of a child as the kernel calls take it.
pub(super) fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}
