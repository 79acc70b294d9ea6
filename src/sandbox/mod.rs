//! Running a process in a root file system of its own.
//!
//! Two doors for a build. [`enter`] starts the executable again in a user and mount namespace, with the best id map to be had: a build
//! lives there, so ids inside are the image's ids. [`Sandbox::run`], called from there, runs one command in namespaces and
//! a root of its own. Both start `/proc/self/exe` in a [`Role`], because namespaces can be made only by a process without
//! threads; `main` hands a role that it finds in its first argument to [`entered`],
//! [`init`], [`probe_role`] or [`trial_role`].
//!
//! What a command sees: its root and what [`RunSpec`] mounts; /proc of its own pid namespace, the host's /sys read-only, a
//! /dev of its own; copies of the host's resolv.conf and hosts; exactly the given environment; no descriptor but 0, 1, 2.
//! It has Docker's fourteen capabilities, inside the user namespace. Nothing that is mounted or running stays afterwards.
//!
//! What it may do that a container under Docker may not: there is no seccomp filter and no cgroup limit. Where the /proc
//! outside has masked parts (in most containers) there is no pid namespace either: the command sees the processes of the
//! container, and can neither look into them nor signal them.

mod advice;
mod child;
mod chroot;
mod chroot_tree;
mod device_nodes;
mod emulated;
mod enter;
mod error;
mod exec;
mod idmap;
mod init;
mod limits;
mod mounts;
mod one_id;
mod probe;
mod reaper;
mod run;
mod running;
mod sources;
mod spawner;
mod spec;
mod supervisor;
mod target;
mod trial;
pub mod users;
mod wire;

pub use advice::remedies;
pub use chroot::{chroot_role, emulated_role};
pub use enter::{Ended, Entered, enter, entered};
pub use error::{Attempt, AttemptFailure, Failure, Namespaces, SandboxError, Step, Way};
pub use idmap::{IdMap, IdMapKind, IdRange, has_one_id};
pub use init::init;
pub use limits::{Limit, Resource};
pub use probe::{OverlayProbe, Probe, probe, probe_overlay, probe_role};
pub use run::Sandbox;
pub use running::{Event, Running, with_tree};
pub use spawner::{Command, TerminalSize};
pub use spec::{Mount, MountSource, Network, Root, RunSpec, Stdio, Writes};
pub use trial::{TrialResult, trial, trial_in, trial_role};
pub use wire::Control;

use std::ffi::OsStr;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How commands are kept apart from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// By namespaces; overlays can be mounted if the machine has them.
    Namespaces,
    /// By chroot and a supervisor of system calls, as real root; nothing can be mounted.
    Chroot,
    /// By a supervisor of system calls alone, which makes every call about a path itself; no right is needed.
    Emulated,
}

impl Tier {
    /// The tiers, the best first.
    pub const ALL: [Tier; 3] = [Tier::Namespaces, Tier::Chroot, Tier::Emulated];

    /// Whether anything can be mounted in it.
    pub fn mounts(self) -> bool {
        self == Tier::Namespaces
    }

    /// What takes this tier or none.
    pub fn alone(self) -> Isolation {
        match self {
            Tier::Namespaces => Isolation::Namespaces,
            Tier::Chroot => Isolation::Chroot,
            Tier::Emulated => Isolation::Emulated,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Namespaces => "namespaces",
            Tier::Chroot => "chroot",
            Tier::Emulated => "emulated",
        })
    }
}

/// Which tiers may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Isolation {
    /// The best that works.
    #[default]
    Auto,
    /// Namespaces, or none.
    Namespaces,
    /// Chroot, or none.
    Chroot,
    /// Emulation, or none.
    Emulated,
}

impl Isolation {
    /// Whether `tier` may be taken.
    pub fn allows(self, tier: Tier) -> bool {
        self == Isolation::Auto || self == tier.alone()
    }
}

/// What the executable is to be when it is started by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An operation inside the namespaces that [`enter`] makes; it begins with [`entered`].
    Build,
    /// The namespaces and the root of one command: [`init`].
    Init,
    /// The root and the supervisor of one command in the chroot tier: [`chroot_role`].
    Chroot,
    /// The supervisor of one command in the emulated tier: [`emulated_role`].
    Emulated,
    /// A trial of what this machine allows: [`probe_role`].
    Probe,
    /// Commands run by themselves: [`trial_role`].
    Trial,
    /// A container in the background: it stays when whoever started it ends.
    Keep,
}

impl Role {
    /// The role that a process's first argument names, if it is one.
    pub fn from_argument(argument: &OsStr) -> Option<Role> {
        [Role::Build, Role::Init, Role::Chroot, Role::Emulated, Role::Probe, Role::Trial, Role::Keep]
            .into_iter()
            .find(|role| argument == role.argument())
    }

    /// The first argument of a process that has it.
    pub fn argument(self) -> &'static str {
        match self {
            Role::Build => "dockless-role:build",
            Role::Init => "dockless-role:init",
            Role::Chroot => "dockless-role:chroot",
            Role::Emulated => "dockless-role:emulated",
            Role::Probe => "dockless-role:probe",
            Role::Trial => "dockless-role:trial",
            Role::Keep => "dockless-role:keep",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Role::Build => "build",
            Role::Init => "init",
            Role::Chroot => "chroot",
            Role::Emulated => "emulated",
            Role::Probe => "probe",
            Role::Trial => "trial",
            Role::Keep => "keep",
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code as a shell gives it: 128 and the signal's number for a signal.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code as u8, // the kernel keeps eight bits
            Exit::Signal(signal) => (128 + signal) as u8,
        }
    }

    /// It ended with code 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}
