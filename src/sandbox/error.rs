//! What can go wrong, on either side of the processes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Tier;
use super::advice::remedies;
use super::idmap::IdMapKind;
use super::users::UserError;

/// Why a process could not be run in a sandbox. The command's own exit is no error.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No tier works here, or not the one that was asked for.
    #[error("this machine gives no way to run commands in a root of their own\n{}", explain(attempts))]
    NoIsolation {
        /// What was tried, in order.
        attempts: Vec<Attempt>,
    },
    /// The set-up failed in one of the processes that were started for it.
    #[error(transparent)]
    Setup(#[from] Failure),
    /// The executable could not be started in a role.
    #[error("cannot start {exe} as a helper process: {source}", exe = exe.display())]
    Spawn {
        /// The executable.
        exe: PathBuf,
        /// The error of spawning it.
        source: io::Error,
    },
    /// Talking to a helper process, or waiting for it, failed.
    #[error("lost touch with the sandbox's {role} process: {source}")]
    Control {
        /// The role of that process.
        role: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The command was killed because [`super::Sandbox::stop`] was called.
    #[error("the command was stopped")]
    Stopped,
    /// A helper process ended before its work was done; out of memory is the usual cause.
    #[error("the sandbox's {role} process ended early: {exit}")]
    Lost {
        /// The role of that process.
        role: &'static str,
        /// How it ended.
        exit: super::Exit,
    },
}

impl SandboxError {
    /// The exit code that stands for this error where it stands for the command's: 127 where the program does not exist,
    /// 126 where it cannot be executed, as `docker run` has them; 125 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            SandboxError::Setup(Failure::ProgramNotFound { .. }) => 127,
            SandboxError::Setup(Failure::Exec { errno, .. }) if *errno == rustix::io::Errno::NOENT.raw_os_error() => {
                127
            }
            SandboxError::Setup(Failure::Exec { .. }) => 126,
            _ => 125,
        }
    }

    /// Whether the program is there, but the kernel found no way to start it: it is for another machine, and an emulator
    /// is not registered, or registered so that it would have to be in the tree (ENOENT; binfmt_misc without its flag F).
    pub fn is_foreign_program(&self) -> bool {
        let foreign = [rustix::io::Errno::NOEXEC, rustix::io::Errno::NOENT].map(rustix::io::Errno::raw_os_error);
        matches!(self, SandboxError::Setup(Failure::Exec { errno, .. }) if foreign.contains(errno))
    }
}

/// A way to run commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In namespaces, with ids mapped this way.
    Namespaces(IdMapKind),
    /// By chroot.
    Chroot,
    /// By emulation.
    Emulated,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Namespaces(IdMapKind::Ranges) => "namespaces, id ranges written directly",
            Way::Namespaces(IdMapKind::Newuidmap) => "namespaces, id ranges by newuidmap",
            Way::Namespaces(IdMapKind::OneId) => "namespaces, one id",
            Way::Chroot => "chroot",
            Way::Emulated => "emulated",
        })
    }
}

/// A way to run commands that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub how: Way,
    /// Why that did not work.
    pub why: AttemptFailure,
}

impl Attempt {
    /// There is no user namespace to be had, however ids would be mapped.
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(&self.why, AttemptFailure::Setup(Failure::Step { step: Step::Unshare(_), .. }))
    }
}

/// Why a way to run commands did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttemptFailure {
    /// The caller may not set ids.
    #[error("needs the capabilities SETUID and SETGID")]
    NotPrivileged,
    /// The namespace that the caller is in has one id.
    #[error("this user namespace has one id, so files could not be given their owners")]
    OneId,
    /// `/etc/subuid` or `/etc/subgid` grants the caller nothing.
    #[error("no range for uid {uid} in {file}")]
    NoRange {
        /// The caller.
        uid: u32,
        /// The file that lacks it.
        file: &'static str,
    },
    /// `newuidmap` or `newgidmap` failed.
    #[error("{program}: {message}")]
    Program {
        /// Which one.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A step of the set-up failed.
    #[error(transparent)]
    Setup(#[from] Failure),
}

/// A step of a set-up that failed in a helper process; what comes back from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// A system call.
    #[error("cannot {step}{}: {}", at(path), io::Error::from_raw_os_error(*errno))]
    Step {
        /// What was being done.
        step: Step,
        /// The path it was done to (as text, for people).
        path: Option<String>,
        /// The error number.
        errno: i32,
    },
    /// A new /proc is refused because the one of this container has masked parts.
    #[error("cannot mount a new /proc: the one outside has masked parts")]
    MaskedProc,
    /// USER names nobody.
    #[error(transparent)]
    User(#[from] UserError),
    /// The id exists in the image but not in the id map.
    #[error(
        "cannot run as {what} {id}: only the ids of the map are to be had ({mapped}). \
         Grant this user a range in /etc/subuid and /etc/subgid and install newuidmap (package uidmap), or run dockless as root"
    )]
    NotMapped {
        /// `user` or `group`.
        what: String,
        /// The id.
        id: u32,
        /// The ids that are mapped.
        mapped: String,
    },
    /// A file or directory is to belong to ids that are not in the id map.
    #[error(
        "cannot give {path} to {uid}:{gid}: these ids are not in the id map. \
         Grant this user a range in /etc/subuid and /etc/subgid and install newuidmap (package uidmap), or run dockless as root"
    )]
    OwnerNotMapped {
        /// What was to be given, in the image.
        path: String,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The program is in none of the directories of PATH.
    #[error("exec: {program:?}: executable file not found in $PATH")]
    ProgramNotFound {
        /// The program as given.
        program: String,
    },
    /// The program cannot be executed.
    #[error("exec: {program:?}: {}", io::Error::from_raw_os_error(*errno))]
    Exec {
        /// The program as given.
        program: String,
        /// The error number.
        errno: i32,
    },
    /// A string for the command holds a nul byte.
    #[error("{what} holds a nul byte")]
    Nul {
        /// Which string.
        what: String,
    },
    /// A root or a mount that this tier cannot give.
    #[error("{what} cannot be mounted in the tiers chroot and emulated")]
    NeedsMount {
        /// What was to be mounted.
        what: String,
    },
    /// The command is empty.
    #[error("no command to run")]
    NoCommand,
}

fn at(path: &Option<String>) -> String {
    path.as_ref().map(|path| format!(" {path}")).unwrap_or_default()
}

/// A step of a set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // each is described where it is printed, right below
pub enum Step {
    Start,
    Chroot,
    Supervise,
    Trace,
    /// Reading or writing the owners of files that the file system cannot hold.
    Owners,
    Unshare(Namespaces),
    WriteMap,
    SetIds,
    MakePrivate,
    Fork,
    OpenDirectory,
    MountTmpfs,
    MountOverlay,
    MountProc,
    MountDevices,
    Bind,
    ReadOnly,
    MountPoint,
    WriteFile,
    PivotRoot,
    Hostname,
    Loopback,
    Terminal,
    WorkingDirectory,
    ReadUsers,
    Capabilities,
    Limit,
    Owner,
    Signals,
    Wait,
    ReplaceDirectory,
    MoveAside,
    MoveBack,
    Unmount,
}

/// Which namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Namespaces {
    User,
    Mount,
    Step,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Start => "take up the role",
            Step::Chroot => "change the root by chroot to",
            Step::Supervise => "supervise system calls",
            Step::Trace => "trace a process of its own",
            Step::Owners => "keep the owners of files",
            Step::Unshare(Namespaces::User) => "make a user namespace",
            Step::Unshare(Namespaces::Mount) => "make a mount namespace",
            Step::Unshare(Namespaces::Step) => "make the mount, pid, ipc and uts namespaces",
            Step::WriteMap => "write the id map",
            Step::SetIds => "set the process's ids",
            Step::MakePrivate => "make the mounts private",
            Step::Fork => "fork",
            Step::OpenDirectory => "open",
            Step::MountTmpfs => "mount a tmpfs on",
            Step::MountOverlay => "mount the overlay on",
            Step::MountProc => "mount",
            Step::MountDevices => "set up",
            Step::Bind => "bind mount",
            Step::ReadOnly => "make read-only",
            Step::MountPoint => "prepare the mount point",
            Step::WriteFile => "write",
            Step::PivotRoot => "change the root",
            Step::Hostname => "set the host name",
            Step::Loopback => "bring up the loopback interface",
            Step::Terminal => "make a terminal by",
            Step::WorkingDirectory => "change to the working directory",
            Step::ReadUsers => "read the image's",
            Step::Capabilities => "drop capabilities",
            Step::Limit => "set the limit",
            Step::Owner => "give an owner to",
            Step::Signals => "block signals",
            Step::Wait => "wait for the command",
            Step::MoveAside => "move aside for the command",
            Step::MoveBack => "move back what was aside for the command:",
            Step::Unmount => "clear away",
            Step::ReplaceDirectory => "remove and make again the directory of a lower layer in",
        })
    }
}

/// Turns the error of a system call into a [`Failure`] that names the step.
pub(super) trait During<T> {
    /// Names the step.
    fn during(self, step: Step) -> Result<T, Failure>;
    /// Names the step and the path it was done to.
    fn during_at(self, step: Step, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure::Step { step, path: None, errno: errno(error.into()) })
    }

    fn during_at(self, step: Step, path: &Path) -> Result<T, Failure> {
        let path = || Some(path.display().to_string());
        self.map_err(|error| Failure::Step { step, path: path(), errno: errno(error.into()) })
    }
}

/// The number of an error; EIO for one that has none (a broken frame).
fn errno(error: io::Error) -> i32 {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    error.raw_os_error().or(inner).unwrap_or(rustix::io::Errno::IO.raw_os_error())
}

/// The attempts, and what would help.
fn explain(attempts: &[Attempt]) -> String {
    let mut out = String::from("tried:");
    for Attempt { how, why } in attempts {
        out.push_str(&format!("\n  {how}: {why}"));
    }
    for tier in Tier::ALL {
        let remedies = remedies(tier, attempts);
        if !remedies.is_empty() {
            out.push_str(&format!("\nwhat would enable {tier}, any one of:"));
            remedies.iter().for_each(|remedy| out.push_str(&format!("\n  {remedy}")));
        }
    }
    out.push_str("\na Dockerfile without RUN needs none of this; `dockless doctor` prints every probe");
    out
}
