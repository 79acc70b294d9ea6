//! The step's terminals: pseudo terminals of the /dev/pts outside that the step has opened itself, and no others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::outside::Outside;
use super::places::NAMED;

/// What the step has opened, by number. A terminal's number is used anew once it is closed; the object that is kept here
/// tells whether it is still the same one.
#[derive(Debug, Default)]
pub(super) struct Terminals(Mutex<BTreeMap<u32, OwnedFd>>);

impl Terminals {
    /// Opens the multiplexer outside, with the ids of the calling thread, which become the new terminal's, and makes the
    /// terminal the step's.
    pub(super) fn open_new(&self, outside: &Outside, flags: OFlags) -> Result<OwnedFd, Errno> {
        // The node itself has no permissions where devpts is mounted without ptmxmode, so by the usual name.
        let open = |path| openat(outside.root(), path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
        let master = open("dev/ptmx").or_else(|error| open("dev/pts/ptmx").map_err(|_| error))?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let number = name.to_bytes().rsplit(|byte| *byte == b'/').next().and_then(number);
        let number = number.ok_or(Errno::NOTTY)?;
        let node = openat(outside.root(), format!("dev/pts/{number}"), NAMED, Mode::empty())?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, node| is_there(node));
        all.insert(number, node);
        Ok(master)
    }

    /// Whether a name in /dev/pts is that of something the step sees there.
    pub(super) fn shows(&self, name: &[u8]) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        name == b"ptmx" || number(name).and_then(|number| all.get(&number)).is_some_and(is_there)
    }

    /// Names a node of /dev/pts: `ptmx`, or the number of one of the step's terminals.
    pub(super) fn open_node(&self, outside: &Outside, name: &[u8]) -> Result<OwnedFd, Errno> {
        if name == b"ptmx" {
            return openat(outside.root(), "dev/pts/ptmx", NAMED, Mode::empty());
        }
        let number = number(name).ok_or(Errno::NOENT)?;
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = all.get(&number).filter(|node| is_there(node)).ok_or(Errno::NOENT)?;
        rustix::io::fcntl_dupfd_cloexec(node.as_fd(), 0)
    }
}

fn is_there(node: &OwnedFd) -> bool {
    rustix::fs::fstat(node).is_ok_and(|stat| stat.st_nlink > 0)
}

fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok()?.parse().ok().filter(|number: &u32| number.to_string().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_terminals_alone() {
        let outside = Outside::open().unwrap();
        let (ours, other) = (Terminals::default(), Terminals::default());
        let master = ours.open_new(&outside, OFlags::RDWR).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let name = name.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap();
        assert!(ours.open_node(&outside, name).is_ok());
        assert_eq!(other.open_node(&outside, name).unwrap_err(), Errno::NOENT);
        assert!(other.open_node(&outside, b"ptmx").is_ok());
        drop(master);
        assert_eq!(ours.open_node(&outside, name).unwrap_err(), Errno::NOENT, "closed");
        for name in ["", "..", "x", "007", "-1", "+1"] {
            assert_eq!(ours.open_node(&outside, name.as_bytes()).unwrap_err(), Errno::NOENT, "{name}");
        }
    }
}
