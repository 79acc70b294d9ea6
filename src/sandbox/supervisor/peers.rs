//! What one process of a step may do to another, and is told of it, by emulated credentials.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::call::{Address, ProcessCall};
use super::capability::Capability;
use super::process::{Table, relations};
use super::{Answer, Caller};
use crate::sys;

/// Whether the caller's credentials allow `call`; `None` where they do. Signals to many go from here to those that it may
/// signal.
pub(super) fn answer(call: ProcessCall, caller: &Caller<'_>, table: &Table) -> Result<Option<Answer>, Errno> {
    if !table.has_changed() {
        return Ok(None);
    }
    let one = |pid: i32| {
        if pid <= 0 || may_signal(caller, table, pid)? { Ok(None) } else { Err(Errno::PERM) }
    };
    match call {
        ProcessCall::Kill { pid, signal } if pid <= 0 => kill_many(caller, table, pid, signal),
        ProcessCall::Kill { pid, .. } => one(pid),
        ProcessCall::ThreadKill { group, thread, .. } => one(group.unwrap_or(thread)),
        ProcessCall::Queue { group, target, .. } => one(group.unwrap_or(target)),
        _ => Ok(None),
    }
}

fn may_signal(caller: &Caller<'_>, table: &Table, pid: i32) -> Result<bool, Errno> {
    let own = pid == caller.thread || pid == caller.process.pid;
    if own || caller.process.credentials().has(Capability::KILL) {
        return Ok(true);
    }
    let target = table.process_of(pid)?;
    Ok(caller.process.credentials().may_signal(&target.credentials()))
}

/// `kill` of a group or of all by somebody who may not signal everybody.
fn kill_many(caller: &Caller<'_>, table: &Table, pid: i32, signal: i32) -> Result<Option<Answer>, Errno> {
    if caller.process.credentials().has(Capability::KILL) || !(0..=64).contains(&signal) {
        return Ok(None);
    }
    let group = match pid {
        -1 => None,
        0 => Some(relations(caller.outside, caller.process.pid)?.process_group),
        i32::MIN => return Err(Errno::SRCH),
        group => Some(-group),
    };
    let (mut found, mut allowed) = (false, false);
    for other in caller.outside.list_proc(".")? {
        let meant = match group {
            Some(group) => relations(caller.outside, other).is_ok_and(|of| of.process_group == group),
            None => other != caller.process.pid && table.belongs(other),
        };
        if !meant {
            continue;
        }
        found = true;
        if may_signal(caller, table, other).unwrap_or_default() {
            allowed = true;
            let _ = sys::send_signal(other, false, signal); // it may have ended just now
        }
    }
    match (found, allowed) {
        (_, true) => Ok(Some(Answer::Value(0))),
        (true, false) => Err(Errno::PERM),
        (false, false) => Err(Errno::SRCH),
    }
}

/// `SO_PEERCRED`: the kernel knows the peer, and we know who it is.
pub(super) fn credentials_of_peer(
    caller: &Caller<'_>,
    table: &Table,
    socket: i32,
    value: Address,
    length: Address,
) -> Result<Answer, Errno> {
    let level = caller.notification.arguments[1] as i32;
    if level != libc::SOL_SOCKET || !table.has_changed() {
        return Ok(Answer::Continue);
    }
    let pid = Pid::from_raw(caller.process.pid).ok_or(Errno::SRCH)?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let socket = rustix::process::pidfd_getfd(&process, socket, PidfdGetfdFlags::empty())?;
    let peer = rustix::net::sockopt::socket_peercred(&socket)?;
    let pid = peer.pid.as_raw_nonzero().get();
    let Ok(process) = table.process_of(pid) else { return Ok(Answer::Continue) };
    let credentials = process.credentials();
    let mut size = [0; 4];
    caller.read(length, &mut size)?;
    let size = i32::from_ne_bytes(size);
    let fields = [pid as u32, credentials.uid.effective, credentials.gid.effective].map(u32::to_ne_bytes).concat();
    let given = usize::try_from(size).map_err(|_| Errno::INVAL)?.min(fields.len());
    caller.write(value, &fields[..given])?;
    caller.write(length, &(given as u32).to_ne_bytes())?;
    Ok(Answer::Value(0))
}
