//! `SO_PEERCRED`: the kernel tells the real ids of a socket's peer, which are not those that it has for the step.

use super::call::Address;
use super::memory::Memory;
use super::process::Table;
use super::{Answer, restart};
use crate::sys::{Listener, Notification};

/// Size of `struct ucred`: pid, uid, gid.
const SIZE: usize = 12;

/// Answers `getsockopt` of `SO_PEERCRED`; `None` where it has been answered here. The socket cannot be had where
/// pidfd_getfd(2) is denied, as in Docker's profile, so the caller makes the call itself and the result is corrected
/// before it sees that.
pub(super) fn answer(
    listener: &Listener,
    notification: &Notification,
    memory: &Memory,
    table: &Table,
    value: Address,
) -> Option<Answer> {
    // As long as all are root the kernel is right.
    if !table.has_changed() {
        return Some(Answer::Continue);
    }
    let thread = notification.thread;
    let done = restart::look_after(listener, notification, |result| {
        let mut bytes = [0; SIZE];
        if result != 0 || memory.read(thread, value, &mut bytes).is_err() {
            return;
        }
        let pid = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if let Some(peer) = table.peer(pid) {
            let own = peer.credentials();
            bytes[4..8].copy_from_slice(&own.uid.effective.to_ne_bytes());
            bytes[8..12].copy_from_slice(&own.gid.effective.to_ne_bytes());
            let _ = memory.write(thread, value, &bytes); // the caller's memory, which it may have taken away
        }
    });
    match done {
        Ok(()) => None,
        // Traced by a debugger: better the real ids than none.
        Err(_) => Some(Answer::Continue),
    }
}
