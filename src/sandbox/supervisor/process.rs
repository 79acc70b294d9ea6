//! The processes of a step and what the supervisor knows of each. Nothing tells of a new process: one is looked up in
//! /proc when a thread of it makes a trapped call, and has from its parent what the supervisor keeps for that.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::credentials::Credentials;
use super::memory::Held;
use super::outside::Outside;
use super::path::ViewPath;
use super::shortcuts::Run;
use crate::sys;

/// A process: a group of threads.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its id.
    pub pid: i32,
    /// It was a child of the supervisor's when it was first seen.
    pub is_child: bool,
    /// Its memory.
    pub memory: Held,
    /// Threads of it that have made a trapped call.
    threads: Mutex<Vec<i32>>,
    state: Mutex<State>,
    /// A thread whose calls the kernel makes as they are, because the supervisor has it make them; 0 for none.
    native: AtomicI32,
    /// Its memory may hold a library that takes shortcuts, see `shortcuts`.
    has_shortcuts: AtomicBool,
}

/// What changes during a process's life.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Its ids, groups and capabilities.
    pub credentials: Credentials,
    /// It has executed, or tried to execute, a set-id program: who it is once it has.
    pub pending: Option<Pending>,
    /// The path of the program that it runs, as the step has it, where the kernel does not know it.
    pub program: Option<Arc<[u8]>>,
    /// The directory that it has made its root, where that is not the step's.
    pub root: Option<Arc<ViewPath>>,
    /// What it has executed last.
    pub run: Option<Run>,
    /// Where glibc's dynamic linker is in its memory, about: the first address, and the one behind the last.
    pub linker: Option<(u64, u64)>,
}

/// An exec of a set-id program that has been let through and may yet fail.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// Device and inode of the program.
    pub program: (u64, u64),
    /// What the process is if it now runs that program.
    pub credentials: Credentials,
    /// The thread that made the call.
    pub thread: i32,
}

impl Process {
    /// Its state, for a moment: no system call is to be made while it is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<i32>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the kernel make the calls of `thread`, one at a time of a process, as they are: 0 for none again.
    pub(crate) fn set_native(&self, thread: i32) {
        self.native.store(thread, Ordering::Release);
    }

    /// Whether the kernel makes the calls of `thread` as they are.
    pub(crate) fn is_native(&self, thread: i32) -> bool {
        self.native.load(Ordering::Acquire) == thread
    }

    /// Says whether it may take shortcuts from now on; gives whether it might before.
    pub(crate) fn set_shortcuts(&self, may: bool) -> bool {
        self.has_shortcuts.swap(may, Ordering::AcqRel)
    }

    /// Whether the supervisor is told how `thread` ends: it is a child of its own, and no mere thread of one.
    pub(crate) fn is_own_child(&self, thread: i32) -> bool {
        self.is_child && self.pid == thread
    }

    /// The directory that it has made its root.
    pub(crate) fn root(&self) -> Option<Arc<ViewPath>> {
        self.state().root.clone()
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
    /// The state of the step's first process at its start; of orphans, too, since that is who nearly all processes are. So
    /// from its first exec on it is who that process has made itself by then.
    first: RwLock<State>,
    is_settled: AtomicBool,
    /// The process that all of the step descends from: this one.
    root: i32,
    outside: Arc<Outside>,
    /// Processes that are ending, the last to begin that at the end. They are kept for a while: other threads of them may
    /// still be making calls.
    ending: Mutex<VecDeque<Arc<Process>>>,
    /// Processes that have been entered since the start.
    entered: AtomicUsize,
    /// Somebody is not who the first process began as.
    changed: AtomicBool,
}

/// Ending processes that are kept.
const ENDING: usize = 64;

/// After so many new processes those that were killed are looked for: well before their numbers can come again.
const SWEEP: usize = 4096;

/// What the kernel says of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relations {
    /// Its process.
    pub group: i32,
    /// The parent of that.
    pub parent: i32,
}

impl Table {
    /// An empty table: the first process of the step, a child of `root`, begins as `first`.
    pub(crate) fn new(root: i32, first: State, outside: Arc<Outside>) -> Table {
        Table {
            threads: RwLock::new(HashMap::new()),
            first: RwLock::new(first),
            is_settled: AtomicBool::new(false),
            root,
            outside,
            ending: Mutex::new(VecDeque::new()),
            entered: AtomicUsize::new(0),
            changed: AtomicBool::new(false),
        }
    }

    /// The process of `thread`, which has just made a call.
    pub(crate) fn process_of(&self, thread: i32) -> Result<Arc<Process>, Errno> {
        if let Some(known) = self.known(thread) {
            return Ok(known);
        }
        self.register(thread, 0)
    }

    fn first(&self) -> State {
        self.first.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be called when `process` executes a program.
    pub(crate) fn execs(&self, process: &Process) {
        if process.is_child && !self.is_settled.swap(true, Ordering::AcqRel) {
            let state = State { credentials: process.credentials(), ..State::default() };
            // Root's groups are set even where they stay the same to everybody.
            self.changed.store(!state.credentials.is_whole_root(), Ordering::Release);
            *self.first.write().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }

    fn known(&self, thread: i32) -> Option<Arc<Process>> {
        self.threads.read().unwrap_or_else(PoisonError::into_inner).get(&thread).cloned()
    }

    fn register(&self, thread: i32, depth: u32) -> Result<Arc<Process>, Errno> {
        let relations = relations(&self.outside, thread)?;
        let process = match self.known(relations.group) {
            Some(known) => known,
            None => {
                let state = if relations.parent == self.root || depth > 1000 {
                    self.first()
                } else {
                    let parent = match self.known(relations.parent) {
                        Some(parent) => parent,
                        None => self.register(relations.parent, depth + 1)?,
                    };
                    State { pending: None, ..parent.state().clone() }
                };
                self.make_room();
                Arc::new(Process {
                    pid: relations.group,
                    is_child: relations.parent == self.root,
                    memory: Held::default(),
                    threads: Mutex::default(),
                    state: Mutex::new(state),
                    native: AtomicI32::new(0),
                    has_shortcuts: AtomicBool::new(true), // as its parent may
                })
            }
        };
        let mut threads = self.threads.write().unwrap_or_else(PoisonError::into_inner);
        let process = threads.entry(relations.group).or_insert(process).clone();
        if thread != relations.group && threads.insert(thread, process.clone()).is_none() {
            process.threads().push(thread);
        }
        Ok(process)
    }

    /// Forgets processes that have ended.
    fn make_room(&self) {
        let mut gone: Vec<Arc<Process>> = Vec::new();
        {
            let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
            while ending.len() > ENDING {
                gone.extend(ending.pop_front());
            }
        }
        if (self.entered.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(SWEEP) {
            let all: Vec<_> = self.threads.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            let exists = |process: &Process| self.outside.open_proc(process.pid.to_string(), OFlags::PATH).is_ok();
            gone.extend(all.into_iter().filter(|process| !exists(process)));
        }
        if gone.is_empty() {
            return;
        }
        let mut threads = self.threads.write().unwrap_or_else(PoisonError::into_inner);
        for process in gone {
            let of_it = std::mem::take(&mut *process.threads());
            for thread in of_it.into_iter().chain([process.pid]) {
                // Another process may have the number by now.
                if threads.get(&thread).is_some_and(|known| Arc::ptr_eq(known, &process)) {
                    threads.remove(&thread);
                }
            }
        }
    }

    /// To be called when a thread ends by `exit`, or with `group` all of its process by `exit_group`.
    pub(crate) fn ends(&self, process: &Arc<Process>, thread: i32, group: bool) {
        if !group {
            if thread != process.pid {
                self.threads.write().unwrap_or_else(PoisonError::into_inner).remove(&thread);
                process.threads().retain(|known| *known != thread);
            }
            return;
        }
        process.memory.ends();
        // Its children become this process's, and would then be taken for the step's first.
        let first = self.first();
        let is_other = |state: &State| state.credentials != first.credentials || state.root != first.root;
        if is_other(&process.state()) {
            self.register_children(process.pid);
        }
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).push_back(process.clone());
    }

    /// Changes the credentials of `process`. A child that has made no call yet has those from before, so all are looked up
    /// first.
    pub(crate) fn set_credentials(&self, process: &Process, credentials: Credentials) {
        if process.state().credentials != credentials {
            self.register_children(process.pid);
            self.changed.store(true, Ordering::Release);
            process.state().credentials = credentials;
        }
    }

    /// Gives `process` another root, its children not: those are looked up first.
    pub(crate) fn set_root(&self, process: &Process, root: Option<Arc<ViewPath>>) {
        self.register_children(process.pid);
        process.state().root = root;
    }

    /// The process that has, or had, the id `pid`, if it is the step's.
    pub(crate) fn peer(&self, pid: i32) -> Option<Arc<Process>> {
        self.known(pid).or_else(|| if self.belongs(pid) { self.process_of(pid).ok() } else { None })
    }

    /// Whether anybody has ever changed who it is.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Looks the children of the process `pid` up, and theirs.
    pub(crate) fn register_children(&self, pid: i32) {
        let Ok(tasks) = self.outside.list_proc(format!("{pid}/task")) else { return };
        for task in tasks {
            let children = self.outside.read_proc(format!("{pid}/task/{task}/children")).unwrap_or_default();
            let children = String::from_utf8_lossy(&children).into_owned();
            for child in children.split_ascii_whitespace().filter_map(|child| child.parse().ok()) {
                if self.known(child).is_none() && self.register(child, 0).is_ok() {
                    self.register_children(child);
                }
            }
        }
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

/// What the kernel says of `thread`; `ESRCH` where it is gone.
pub(crate) fn relations(outside: &Outside, thread: i32) -> Result<Relations, Errno> {
    match sys::relations(thread) {
        Ok((group, parent)) => Ok(Relations { group, parent }),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(Errno::SRCH),
        Err(_) => relations_by_status(outside, thread),
    }
}

/// The same from `/proc/PID/status`, which takes five times as long.
fn relations_by_status(outside: &Outside, thread: i32) -> Result<Relations, Errno> {
    let file = outside.open_proc(format!("{thread}/status"), OFlags::RDONLY).map_err(|_| Errno::SRCH)?;
    // What is wanted comes early: mostly one read gives it.
    let mut status = [0; 4096];
    let mut length = 0;
    loop {
        let got = rustix::io::read(&file, &mut status[length..]).map_err(|_| Errno::SRCH)?;
        length += got;
        let whole = status[..length].iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
        match parse_status(&status[..whole]) {
            None if got > 0 => {}
            found => return found.ok_or(Errno::SRCH),
        }
    }
}

/// What `/proc/PID/status` says; proc_pid_status(5).
fn parse_status(status: &[u8]) -> Option<Relations> {
    let mut lines = status.split(|byte| *byte == b'\n');
    // They come in this order.
    let mut field = |name: &[u8]| {
        let line = lines.find_map(|line| line.strip_prefix(name))?;
        std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse::<i32>().ok()
    };
    Some(Relations { group: field(b"Tgid:")?, parent: field(b"PPid:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_of_a_status() {
        let status = b"Name:\tTgid: 5\nUmask:\t0022\nTgid:\t12\nNgid:\t0\nPid:\t13\nPPid:\t7\nTracerPid:\t0\n";
        assert_eq!(parse_status(status), Some(Relations { group: 12, parent: 7 }));
        assert_eq!(parse_status(b"Name:\tx\nTgid:\t1\n"), None);
    }

    #[test]
    fn knows_threads_by_their_process() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let outside = Arc::new(Outside::open().unwrap());
        let found = relations(&outside, own).unwrap();
        assert_eq!(found.group, own);
        assert_eq!(relations_by_status(&outside, own), Ok(found));
        assert_eq!(relations(&outside, i32::MAX), Err(Errno::SRCH));
        assert_eq!(relations_by_status(&outside, i32::MAX), Err(Errno::SRCH));
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
