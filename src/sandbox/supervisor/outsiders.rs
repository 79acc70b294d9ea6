//! Calls that act on other processes, where there is no pid namespace: the step may act on its own processes and on no
//! other. To it those outside do not exist (`ESRCH`), but for what it could see anyway.
//!
//! Whether its users may signal one another is decided here where ids are emulated; elsewhere the kernel does that
//! ([`Neighbours`]).

use std::cell::RefCell;
use std::sync::Arc;

use rustix::io::Errno;

use super::call::{Call, UNKNOWN};
use super::call::{IOPRIO_WHO_PROCESS, ProcessCall};
use super::capability::Capability;
use super::memory::Memory;
use super::outside::Outside;
use super::process::{State, Table};
use super::{Answer, Caller};
use crate::sys::{self, Listener, Notification};

/// Knows the step's processes from others.
#[derive(Debug)]
pub(super) struct Outsiders {
    table: Arc<Table>,
    outside: Arc<Outside>,
    /// The process that all of the step descends from: this one.
    root: i32,
    /// Processes are whose the kernel says they are.
    real_ids: bool,
}

impl Outsiders {
    /// Of the step whose processes are in `table`.
    pub(super) fn new(table: Arc<Table>, outside: Arc<Outside>, root: i32) -> Outsiders {
        Outsiders { table, outside, root, real_ids: false }
    }

    /// What becomes of `call`.
    pub(super) fn answer(&self, call: ProcessCall, caller: &Caller<'_>) -> Answer {
        match call {
            ProcessCall::Kill { pid, signal } if pid <= 0 => self.kill_many(pid, signal, caller).into(),
            ProcessCall::Kill { pid, signal } => self.signal(pid, pid, signal, caller),
            ProcessCall::ThreadKill { group, thread, signal } => {
                self.signal(group.unwrap_or(thread), thread, signal, caller)
            }
            ProcessCall::Queue { group, target, signal, .. } => {
                self.signal(group.unwrap_or(target), target, signal, caller)
            }
            ProcessCall::PidfdOpen { pid, .. } => self.own(pid, caller, Errno::SRCH),
            ProcessCall::Trace { pid } => self.own(pid, caller, Errno::PERM),
            ProcessCall::Reach { pid } => self.own(pid, caller, Errno::SRCH),
            ProcessCall::Compare { first, second } => self.both(first, second, caller),
            // A whole group or user: only the caller's own processes could be meant, and finding those is not worth it.
            ProcessCall::Priority { which, who, process } if which == process => self.own_or_zero(who, caller),
            ProcessCall::Priority { which, process, .. } => {
                let group = if process == IOPRIO_WHO_PROCESS { process + 1 } else { libc::PRIO_PGRP as i32 };
                if which == group { self.own_group(caller) } else { Answer::Error(Errno::PERM) }
            }
        }
    }

    /// Lets a call about process or thread `pid` through where it is the step's. Ids below 1 are errors of the kernel's.
    fn own(&self, pid: i32, caller: &Caller<'_>, otherwise: Errno) -> Answer {
        if pid <= 0 || pid == caller.thread || pid == caller.process.pid || self.table.belongs(pid) {
            Answer::Continue
        } else {
            Answer::Error(otherwise)
        }
    }

    /// Lets a signal to `thread` of process `group` through where the caller may send it.
    fn signal(&self, group: i32, thread: i32, signal: i32, caller: &Caller<'_>) -> Answer {
        match self.both(group, thread, caller) {
            Answer::Continue if thread <= 0 || self.real_ids || self.may_signal(thread, signal, caller) => {
                Answer::Continue
            }
            Answer::Continue => Answer::Error(Errno::PERM),
            other => other,
        }
    }

    /// Whether the caller's ids allow it to send `signal` to `target`, which is the step's.
    fn may_signal(&self, target: i32, signal: i32, caller: &Caller<'_>) -> bool {
        if self.real_ids {
            return self.is_same_user(target, caller.thread);
        }
        let own = caller.process.credentials();
        // Within a session a job may always be continued; sessions of the step have one user but for rare cases.
        signal == libc::SIGCONT
            || target == caller.thread
            || self.table.process_of(target).is_ok_and(|process| own.may_signal(&process.credentials()))
    }

    /// `kill_ok_by_cred`, and that root may signal all.
    fn is_same_user(&self, target: i32, caller: i32) -> bool {
        let ids = |pid: i32| -> Option<[u32; 3]> {
            let status = self.outside.read_proc(format!("{pid}/status")).ok()?;
            let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
            let mut ids = std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(str::parse);
            Some([ids.next()?.ok()?, ids.next()?.ok()?, ids.next()?.ok()?])
        };
        match (ids(caller), ids(target)) {
            (Some([real, effective, _]), Some([of, _, saved])) => {
                effective == 0 || [of, saved].iter().any(|id| [real, effective].contains(id))
            }
            _ => false,
        }
    }

    fn own_or_zero(&self, pid: i32, caller: &Caller<'_>) -> Answer {
        self.own(pid, caller, Errno::SRCH)
    }

    fn both(&self, first: i32, second: i32, caller: &Caller<'_>) -> Answer {
        match self.own(first, caller, Errno::SRCH) {
            Answer::Continue => self.own(second, caller, Errno::SRCH),
            other => other,
        }
    }

    /// Lets a call about the caller's own process group through where nobody outside is in it.
    fn own_group(&self, caller: &Caller<'_>) -> Answer {
        match (process_group(caller.process.pid), process_group(self.root)) {
            (Ok(own), Ok(outside)) if own != outside => Answer::Continue,
            _ => Answer::Error(Errno::PERM),
        }
    }

    /// `kill` of a group, or of everything: each process of the step that it means gets the signal from here.
    fn kill_many(&self, pid: i32, signal: i32, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let group = match pid {
            -1 => None,
            0 => Some(process_group(caller.process.pid)?),
            i32::MIN => return Err(Errno::SRCH),
            group => Some(-group),
        };
        // A group that is the step's alone, and root: the kernel's way is the quick and the atomic one.
        let root = caller.process.credentials().has(Capability::KILL);
        let shared = process_group(self.root)?;
        if let Some(group) = group
            && (root || self.real_ids)
            && group != shared
            && self.table.belongs(group)
        {
            return Ok(Answer::Continue);
        }
        if !(0..=64).contains(&signal) {
            return Err(Errno::INVAL);
        }
        let (mut found, mut sent) = (false, false);
        for other in self.outside.list_proc(".")? {
            let meant = match group {
                Some(group) => process_group(other) == Ok(group),
                None => other != caller.process.pid,
            };
            if meant && self.table.belongs(other) {
                found = true;
                if self.may_signal(other, signal, caller) {
                    sent = true;
                    let _ = sys::send_signal(other, false, signal); // it may have ended just now
                }
            }
        }
        match (found, sent) {
            (false, _) => Err(Errno::SRCH),
            (true, false) => Err(Errno::PERM),
            (true, true) => Ok(Answer::Value(0)),
        }
    }
}

/// Keeps a step off other processes where ids are the kernel's and nothing else of it is supervised.
#[derive(Debug)]
pub(in crate::sandbox) struct Neighbours {
    outsiders: Outsiders,
    memory: Memory,
}

impl Neighbours {
    /// For the step whose processes all descend from `root`, this process.
    pub(in crate::sandbox) fn new(outside: Arc<Outside>, root: i32) -> Neighbours {
        let table = Arc::new(Table::new(root, State::default(), outside.clone()));
        let memory = Memory::new(outside.clone());
        Neighbours { outsiders: Outsiders { table, outside, root, real_ids: true }, memory }
    }

    /// What becomes of a call about a process.
    pub(in crate::sandbox) fn answer(&self, listener: &Listener, notification: &Notification) -> Answer {
        let Outsiders { table, outside, .. } = &self.outsiders;
        let Some(Call::Process(call)) = Call::decode(notification.number, notification.arguments) else {
            return Answer::Error(UNKNOWN);
        };
        let process = match table.process_of(notification.thread) {
            Ok(process) => process,
            Err(errno) => return Answer::Error(errno),
        };
        let (thread, notification) = (notification.thread, *notification);
        let caller = Caller {
            thread,
            process,
            notification,
            outside,
            listener,
            memory: &self.memory,
            table,
            pass: 0,
            shortcuts: None,
            said: RefCell::default(),
        };
        self.outsiders.answer(call, &caller)
    }
}

/// The process group of a process.
fn process_group(pid: i32) -> Result<i32, Errno> {
    sys::process_group(pid).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::SRCH))
}
