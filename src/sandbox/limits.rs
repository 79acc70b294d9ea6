//! Resource limits of a command: setrlimit(2).

use rustix::process::{Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::path::Path;

use super::error::{During, Failure, Step};

/// A limit for a command and its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub resource: Resource,
    /// The limit that holds; `None` for none.
    pub soft: Option<u64>,
    /// As far as the command may raise it; `None` for no bound.
    pub hard: Option<u64>,
}

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // their meanings are setrlimit(2)'s
pub enum Resource {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Names as Docker's `--ulimit` has them.
const NAMES: [(&str, Resource, rustix::process::Resource); 15] = [
    ("core", Resource::Core, rustix::process::Resource::Core),
    ("cpu", Resource::Cpu, rustix::process::Resource::Cpu),
    ("data", Resource::Data, rustix::process::Resource::Data),
    ("fsize", Resource::Fsize, rustix::process::Resource::Fsize),
    ("locks", Resource::Locks, rustix::process::Resource::Locks),
    ("memlock", Resource::Memlock, rustix::process::Resource::Memlock),
    ("msgqueue", Resource::Msgqueue, rustix::process::Resource::Msgqueue),
    ("nice", Resource::Nice, rustix::process::Resource::Nice),
    ("nofile", Resource::Nofile, rustix::process::Resource::Nofile),
    ("nproc", Resource::Nproc, rustix::process::Resource::Nproc),
    ("rss", Resource::Rss, rustix::process::Resource::Rss),
    ("rtprio", Resource::Rtprio, rustix::process::Resource::Rtprio),
    ("rttime", Resource::Rttime, rustix::process::Resource::Rttime),
    ("sigpending", Resource::Sigpending, rustix::process::Resource::Sigpending),
    ("stack", Resource::Stack, rustix::process::Resource::Stack),
];

impl Resource {
    /// The resource that Docker calls `name`.
    pub fn from_name(name: &str) -> Option<Resource> {
        NAMES.iter().find(|(known, ..)| *known == name).map(|(_, resource, _)| *resource)
    }

    /// What Docker calls it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, resource, _)| *resource == self).map_or("", |(name, ..)| name)
    }
}

impl Limit {
    /// Sets the limit for this process.
    pub(super) fn apply(&self) -> Result<(), Failure> {
        let Some((name, _, resource)) = NAMES.iter().find(|(_, resource, _)| *resource == self.resource) else {
            return Ok(());
        };
        setrlimit(*resource, Rlimit { current: self.soft, maximum: self.hard }).during_at(Step::Limit, Path::new(name))
    }
}
