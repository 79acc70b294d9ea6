//! The processes of a step and what the supervisor knows of each. Nothing tells of a new process: one is looked up in
//! /proc when a thread of it makes a trapped call, and has from its parent what the supervisor keeps for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::io::Errno;

use super::credentials::Credentials;
use super::outside::Outside;

/// A process: a group of threads.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: with the id it tells it from a later one.
    started: u64,
    state: Mutex<State>,
}

/// What changes during a process's life.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Its ids, groups and capabilities.
    pub credentials: Credentials,
    /// It has executed, or tried to execute, a set-id program: who it is once it has.
    pub pending: Option<Pending>,
}

/// An exec of a set-id program that has been let through and may yet fail.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// Device and inode of the program.
    pub program: (u64, u64),
    /// What the process is if it now runs that program.
    pub credentials: Credentials,
}

impl Process {
    /// Its state, for a moment: no system call is to be made while it is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of its credentials.
    pub(crate) fn credentials(&self) -> Credentials {
        self.state().credentials.clone()
    }
}

/// All processes that have made a trapped call.
#[derive(Debug)]
pub(crate) struct Table {
    /// By id of a thread.
    threads: RwLock<HashMap<i32, Arc<Process>>>,
    /// The state of the step's first process at its start.
    first: State,
    /// The process that all of the step descends from: this one.
    root: i32,
    outside: Arc<Outside>,
}

/// What /proc says of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relations {
    /// Its process.
    pub group: i32,
    /// The parent of that.
    pub parent: i32,
    /// When its process started.
    pub started: u64,
    /// Its process group.
    pub process_group: i32,
}

impl Table {
    /// An empty table: the first process of the step, a child of `root`, begins as `first`.
    pub(crate) fn new(root: i32, first: State, outside: Arc<Outside>) -> Table {
        Table { threads: RwLock::new(HashMap::new()), first, root, outside }
    }

    /// The process of `thread`, which has just made a call.
    pub(crate) fn process_of(&self, thread: i32) -> Result<Arc<Process>, Errno> {
        if let Some(known) = self.known(thread) {
            return Ok(known);
        }
        self.register(thread, 0)
    }

    fn known(&self, thread: i32) -> Option<Arc<Process>> {
        self.threads.read().unwrap_or_else(PoisonError::into_inner).get(&thread).cloned()
    }

    fn register(&self, thread: i32, depth: u32) -> Result<Arc<Process>, Errno> {
        let relations = relations(&self.outside, thread)?;
        // A thread of a process that is known.
        let known = self.known(relations.group).filter(|known| known.started == relations.started);
        let process = match known {
            Some(known) => known,
            None => {
                let state = if relations.parent == self.root || depth > 1000 {
                    self.first.clone()
                } else {
                    let parent = match self.known(relations.parent) {
                        Some(parent) => parent,
                        None => self.register(relations.parent, depth + 1)?,
                    };
                    let mut state = parent.state().clone();
                    state.pending = None;
                    state
                };
                Arc::new(Process { pid: relations.group, started: relations.started, state: Mutex::new(state) })
            }
        };
        let mut threads = self.threads.write().unwrap_or_else(PoisonError::into_inner);
        let process = threads.entry(relations.group).or_insert(process).clone();
        threads.insert(thread, process.clone());
        Ok(process)
    }

    /// Whether `pid` (a process or a thread) is of the step: it descends from this process and is not this process.
    pub(crate) fn belongs(&self, pid: i32) -> bool {
        let mut at = pid;
        for _ in 0..10_000 {
            match relations(&self.outside, at) {
                Ok(found) if found.group == self.root => return false,
                Ok(found) if found.parent == self.root => return true,
                Ok(found) if found.parent > 1 => at = found.parent,
                _ => return false,
            }
        }
        false
    }
}

/// Reads what /proc says of `thread`; `ESRCH` where it is gone.
pub(crate) fn relations(outside: &Outside, thread: i32) -> Result<Relations, Errno> {
    // The second thread's number stands for its process in /proc/TID/stat, too, but for the start time.
    let status = outside.read_proc(format!("{thread}/status")).map_err(|_| Errno::SRCH)?;
    let field = |name: &[u8]| {
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        std::str::from_utf8(line).ok()?.trim().parse::<i32>().ok()
    };
    let (group, parent) = (field(b"Tgid:").ok_or(Errno::SRCH)?, field(b"PPid:").ok_or(Errno::SRCH)?);
    let stat = outside.read_proc(format!("{group}/stat")).map_err(|_| Errno::SRCH)?;
    let (process_group, started) = parse_stat(&stat).ok_or(Errno::SRCH)?;
    Ok(Relations { group, parent, started, process_group })
}

/// Process group and start time of proc_pid_stat(5): the name is in parentheses and may hold any byte.
fn parse_stat(stat: &[u8]) -> Option<(i32, u64)> {
    let after = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
    let process_group = fields.nth(2)?.parse().ok()?;
    Some((process_group, fields.nth(16)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_behind_any_name() {
        let stat = b"12 (a) b (c) S 1 34 56 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 10";
        assert_eq!(parse_stat(stat), Some((34, 777)));
        assert_eq!(parse_stat(b"12 (x"), None);
    }

    #[test]
    fn knows_threads_by_their_process() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let outside = Arc::new(Outside::open().unwrap());
        let found = relations(&outside, own).unwrap();
        assert_eq!(found.group, own);
        let of_thread = std::thread::spawn({
            let outside = outside.clone();
            move || relations(&outside, rustix::thread::gettid().as_raw_nonzero().get()).unwrap()
        });
        assert_eq!(of_thread.join().unwrap(), found);
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        let table = Table::new(parent, State::default(), outside);
        assert!(table.belongs(own) && !table.belongs(parent) && !table.belongs(1));
        assert!(!table.belongs(0) && !table.belongs(-1));
        assert_eq!(table.process_of(own).unwrap().pid, own);
    }
}
