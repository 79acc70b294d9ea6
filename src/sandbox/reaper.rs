//! Children of a process of which some are traced by workers of a supervisor: how they ended, and ending them all.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, waitid, waitpid};

use super::error::{During, Failure, Step};

/// Waits for the children of the thread that uses it.
///
/// One after another, and first without taking what there is to be told: a wait for any child would also take the stop of
/// one that a worker traces, since the kernel makes no difference between the threads of a tracer (`wait_consider_task`),
/// and the worker would wait for that stop for ever.
pub(super) struct Reaper<'a> {
    /// Reads a file below /proc.
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl Reaper<'_> {
    /// The children, each with how it ended where it has; such a one is gone then.
    pub(super) fn children(&self) -> Result<Vec<(Pid, Option<WaitStatus>)>, Failure> {
        let path = Path::new("thread-self/children");
        let children = (self.read)(path).during_at(Step::Wait, path)?;
        let children = String::from_utf8_lossy(&children);
        let pids = children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        pids.map(|pid| Ok((pid, ended(pid).during(Step::Wait)?))).collect()
    }

    /// Reaps all that have ended; how `first` did, if it has.
    pub(super) fn reap(&self, first: Pid) -> Result<Option<WaitStatus>, Failure> {
        Ok(self.children()?.into_iter().find_map(|(pid, status)| status.filter(|_| pid == first)))
    }

    /// Kills what descends from this subreaper until nothing is left.
    pub(super) fn kill_descendants(&self) -> Result<(), Failure> {
        loop {
            let children = self.children()?;
            if children.is_empty() {
                return Ok(());
            }
            // Children of killed processes become ours, so look again.
            for (pid, status) in children {
                if status.is_none() {
                    let _ = kill_process(pid, Signal::KILL); // it may have ended just now
                }
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// How a child of this thread ended, if it has.
fn ended(pid: Pid) -> rustix::io::Result<Option<WaitStatus>> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let gone = |error| if error == rustix::io::Errno::CHILD { Ok(None) } else { Err(error) };
    match rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), look)) {
        Ok(Some(status)) if status.exited() || status.killed() || status.dumped() => {
            let taken = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::NOHANG));
            // Somebody who traced it may have taken leave of it already: then it is told once more.
            taken.map(|taken| taken.map(|(_, status)| status)).or_else(gone)
        }
        Ok(_) => Ok(None),
        Err(error) => gone(error),
    }
}
