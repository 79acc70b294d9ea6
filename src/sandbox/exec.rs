//! The last steps in the new root: who to be, what to drop, and `execve`.

use std::ffi::{CString, OsStr, OsString};
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::error::{During, Failure, Step};
use super::idmap::{self, IdRange};
use super::limits::Limit;
use super::spec::{RunSpec, Stdio};
use super::users::{self, User};
use crate::sys;

/// Docker's PATH where the image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Largest `/etc/passwd` or `/etc/group` that is read.
const MAX_USERS: u64 = 16 << 20;

/// What Docker leaves a container.
pub(super) const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What a command has of them in the tiers without mounts: by chroot it would leave the root that it has.
const SUPERVISED_CAPABILITIES: CapabilitySet = CAPABILITIES.difference(CapabilitySet::SYS_CHROOT);

/// A command made ready, in the root, before the process for it is forked. Not `Debug`: its environment may hold secrets.
pub(super) struct Prepared {
    user: User,
    set_groups: bool,
    one_id: bool,
    powerless: bool,
    program: String,
    /// Files to try, in the order of PATH.
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: PathBuf,
    limits: Vec<Limit>,
    /// It is to be killed when the process that started it ends.
    dies_with_parent: bool,
}

/// Which ids this namespace has: to be read before the root changes.
#[derive(Debug)]
pub(super) struct Ids {
    uids: Vec<IdRange>,
    gids: Vec<IdRange>,
    set_groups: bool,
    /// This process has no capability.
    powerless: bool,
}

impl Ids {
    /// Those of this process.
    pub(super) fn read() -> Result<Ids, Failure> {
        let read = |path: &str| fs_err::read_to_string(path).during_at(Step::SetIds, Path::new(path));
        let sets = rustix::thread::capabilities(None).during(Step::Capabilities)?;
        Ok(Ids {
            powerless: sets.permitted.is_empty(),
            uids: idmap::parse_map(&read("/proc/self/uid_map")?),
            gids: idmap::parse_map(&read("/proc/self/gid_map")?),
            set_groups: read("/proc/self/setgroups")?.trim() == "allow",
        })
    }

    /// Whether `path` can be given to these ids.
    pub(super) fn check_owner(&self, path: &Path, uid: u32, gid: u32) -> Result<(), Failure> {
        match self.powerless || (idmap::contains(&self.uids, uid) && idmap::contains(&self.gids, gid)) {
            true => Ok(()),
            false => Err(Failure::OwnerNotMapped { path: path.display().to_string(), uid, gid }),
        }
    }

    /// Whether there is one id only, so that all others are emulated.
    pub(super) fn one_id(&self) -> bool {
        self.powerless || (idmap::is_one(&self.uids) && idmap::is_one(&self.gids))
    }

    fn check(&self, user: &User) -> Result<(), Failure> {
        if self.one_id() {
            return Ok(());
        }
        let mapped = |ranges: &[IdRange]| {
            let text: Vec<String> = ranges
                .iter()
                .map(|r| {
                    if r.count == 1 {
                        r.inside.to_string()
                    } else {
                        format!("{}-{}", r.inside, r.inside + (r.count - 1))
                    }
                })
                .collect();
            text.join(", ")
        };
        let missing = |what: &str, id, ranges: &[IdRange]| {
            Err(Failure::NotMapped { what: what.to_string(), id, mapped: mapped(ranges) })
        };
        if !idmap::contains(&self.uids, user.uid) {
            return missing("user", user.uid, &self.uids);
        }
        // Supplementary groups of root are left out where none can be set: root may do what they allow anyway.
        let wanted = user.groups.iter().filter(|_| self.set_groups);
        match [user.gid].iter().chain(wanted).find(|gid| !idmap::contains(&self.gids, **gid)) {
            Some(gid) => missing("group", *gid, &self.gids),
            None => Ok(()),
        }
    }
}

impl Prepared {
    /// Resolves the user, the environment and the program of a command whose root directory is `root`.
    pub(super) fn new(root: BorrowedFd<'_>, spec: &RunSpec, ids: &Ids) -> Result<Prepared, Failure> {
        let user = users::lookup(&read_small(root, "/etc/passwd")?, &read_small(root, "/etc/group")?, &spec.user)?;
        ids.check(&user)?;
        let mut env = spec.env.clone();
        for (name, value) in &spec.secret_env {
            env.retain(|(known, _)| known != name.as_str());
            env.push((name.into(), OsString::from_vec(value.expose().to_vec())));
        }
        let missing = |env: &[(OsString, OsString)], name: &str| env.iter().all(|(key, _)| key != name);
        if missing(&env, "PATH") {
            env.insert(0, ("PATH".into(), DEFAULT_PATH.into()));
        }
        if missing(&env, "HOME") {
            env.push(("HOME".into(), user.home.clone().into_os_string()));
        }
        let program = spec.args.first().ok_or(Failure::NoCommand)?;
        let path = env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone()).unwrap_or_default();
        let candidates = candidates(program, &path, &spec.cwd)
            .into_iter()
            .map(|path| c_string(path.into_os_string(), "the program"))
            .collect::<Result<_, _>>()?;
        let assign = |(key, value): &(OsString, OsString)| {
            let mut text = key.clone();
            text.push("=");
            text.push(value);
            c_string(text, "a variable")
        };
        Ok(Prepared {
            set_groups: ids.set_groups || ids.one_id(),
            one_id: ids.one_id(),
            powerless: ids.powerless,
            program: program.to_string_lossy().into_owned(),
            candidates,
            args: spec.args.iter().map(|arg| c_string(arg.clone(), "an argument")).collect::<Result<_, _>>()?,
            env: env.iter().map(assign).collect::<Result<_, _>>()?,
            limits: spec.limits.clone(),
            cwd: Path::new("/").join(&spec.cwd),
            user,
            dies_with_parent: spec.stdio == Stdio::Served,
        })
    }

    /// The user that the command has.
    pub(super) fn uid(&self) -> Uid {
        Uid::from_raw(self.user.uid)
    }

    /// Makes the working directory, as root, if it is not there.
    pub(super) fn make_cwd(&self) -> Result<(), Failure> {
        fs_err::create_dir_all(&self.cwd).during_at(Step::WorkingDirectory, &self.cwd)
    }

    /// In the process of the command: becomes the user and executes the program. Comes back only with the reason why not.
    pub(super) fn exec(&self) -> Failure {
        let ready = self.limit().and_then(|()| self.change_directory()).and_then(|()| {
            drop_bounding_set()?;
            self.become_user(CAPABILITIES)?;
            clean_up()
        });
        match ready {
            Ok(()) => self.exec_first(),
            Err(failure) => failure,
        }
    }

    /// The same where the command's system calls are supervised from when `supervise` has returned: rights are dropped
    /// before that, as far as a command of root may not have them, and the rest is done as any program would do it.
    pub(super) fn exec_supervised(&self, supervise: &dyn Fn() -> Result<(), Failure>) -> Failure {
        match self.limit().and_then(|()| self.enter_supervision(supervise)) {
            Ok(()) => self.exec_inside_supervision(),
            Err(failure) => failure,
        }
    }

    /// The first half of that: this process is supervised afterwards, and all that it forks.
    pub(super) fn enter_supervision(&self, supervise: &dyn Fn() -> Result<(), Failure>) -> Result<(), Failure> {
        if !self.powerless {
            drop_bounding_set()?;
            if !self.one_id {
                rustix::thread::set_thread_groups(&[]).during(Step::SetIds)?;
            }
            set_capabilities(self.capabilities_supervised())?;
        }
        clean_up()?;
        supervise()
    }

    /// The second half.
    pub(super) fn exec_inside_supervision(&self) -> Failure {
        let ready = self.make_cwd().and_then(|()| {
            self.change_directory()?;
            self.become_user(CAPABILITIES) // `chroot` is emulated
        });
        match ready {
            Ok(()) => self.exec_first(),
            Err(failure) => failure,
        }
    }

    fn capabilities_supervised(&self) -> CapabilitySet {
        if self.one_id && !self.powerless { CAPABILITIES } else { SUPERVISED_CAPABILITIES }
    }

    /// Sets the umask and the resource limits.
    pub(super) fn limit(&self) -> Result<(), Failure> {
        rustix::process::umask(Mode::from_raw_mode(0o022));
        self.limits.iter().try_for_each(Limit::apply)
    }

    fn change_directory(&self) -> Result<(), Failure> {
        rustix::process::chdir(&self.cwd).during_at(Step::WorkingDirectory, &self.cwd)
    }

    fn become_user(&self, of_root: CapabilitySet) -> Result<(), Failure> {
        let gid = Gid::from_raw(self.user.gid);
        let uid = Uid::from_raw(self.user.uid);
        if self.set_groups {
            let groups: Vec<Gid> = [self.user.gid].iter().chain(&self.user.groups).map(|g| Gid::from_raw(*g)).collect();
            rustix::thread::set_thread_groups(&groups).during(Step::SetIds)?;
        }
        rustix::thread::set_thread_res_gid(gid, gid, gid).during(Step::SetIds)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).during(Step::SetIds)?;
        set_capabilities(if uid.is_root() { of_root } else { CapabilitySet::empty() })?;
        if self.dies_with_parent {
            // Changing ids has cleared it, see prctl(2).
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Start)?;
        }
        Ok(())
    }

    fn exec_first(&self) -> Failure {
        let args: Vec<_> = self.args.iter().map(CString::as_c_str).collect();
        let env: Vec<_> = self.env.iter().map(CString::as_c_str).collect();
        let mut denied = None;
        for candidate in &self.candidates {
            let errno = sys::execve(candidate, &args, &env).raw_os_error().unwrap_or_default();
            match Errno::from_raw_os_error(errno) {
                // In a search these mean: look on. A script without its interpreter gives ENOENT too, but is there.
                Errno::NOENT | Errno::NOTDIR if self.candidates.len() > 1 && !exists(candidate) => {}
                Errno::ACCESS if self.candidates.len() > 1 => denied = Some(errno),
                _ => return Failure::Exec { program: self.program.clone(), errno },
            }
        }
        match denied {
            Some(errno) => Failure::Exec { program: self.program.clone(), errno },
            None => Failure::ProgramNotFound { program: self.program.clone() },
        }
    }
}

fn drop_bounding_set() -> Result<(), Failure> {
    for number in 0..63 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if CAPABILITIES.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(Errno::INVAL) => break, // past the last one that this kernel knows
            other => other.during(Step::Capabilities)?,
        }
    }
    Ok(())
}

fn set_capabilities(kept: CapabilitySet) -> Result<(), Failure> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).during(Step::Capabilities)
}

/// Leaves nothing of this program to the command.
fn clean_up() -> Result<(), Failure> {
    sys::reset_signals();
    sys::close_on_exec_from(3).during(Step::Start)
}

fn exists(path: &CString) -> bool {
    Path::new(OsStr::from_bytes(path.as_bytes())).exists()
}

/// The files that `program` may be, as execvp(3) looks for them. A part of PATH that is empty is left out: it would mean the
/// working directory.
fn candidates(program: &OsStr, path: &OsStr, cwd: &Path) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![Path::new("/").join(cwd).join(program)];
    }
    let parts = path.as_bytes().split(|b| *b == b':').filter(|part| !part.is_empty());
    parts.map(|part| Path::new("/").join(cwd).join(OsStr::from_bytes(part)).join(program)).collect()
}

fn c_string(text: OsString, what: &str) -> Result<CString, Failure> {
    CString::new(text.into_vec()).map_err(|_| Failure::Nul { what: what.to_string() })
}

/// The bytes of a file of the image; none where there is no regular file.
fn read_small(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, Failure> {
    let path = Path::new(path);
    // Not blocking: it may be a fifo.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        other => fs_err::File::from_parts(other.during_at(Step::ReadUsers, path)?.into(), path),
    };
    let mut text = Vec::new();
    if file.metadata().during_at(Step::ReadUsers, path)?.is_file() {
        file.take(MAX_USERS).read_to_end(&mut text).during_at(Step::ReadUsers, path)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_as_execvp_does() {
        let table: [(&str, &str, &str, &[&str]); 4] = [
            ("sh", "/bin:/usr/bin", "/", &["/bin/sh", "/usr/bin/sh"]),
            ("sh", ":/bin::rel", "/w", &["/bin/sh", "/w/rel/sh"]),
            ("./x", "/bin", "/w", &["/w/./x"]),
            ("/x", "", "/w", &["/x"]),
        ];
        for (program, path, cwd, expected) in table {
            let found = candidates(OsStr::new(program), OsStr::new(path), Path::new(cwd));
            let found: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
            assert_eq!(found, expected, "{program} in {path}");
        }
    }
}
