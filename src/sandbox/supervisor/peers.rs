//! `SO_PEERCRED`: the kernel tells the real ids of a socket's peer, which are not those that it has for the step.

use super::Caller;
use super::call::Address;
use super::process::Table;
use super::restart::{self, After};

/// Size of `struct ucred`: pid, uid, gid.
const SIZE: usize = 12;

/// Corrects the answer to `getsockopt` of `SO_PEERCRED`; false where the kernel's is the right one. The socket cannot be
/// had where pidfd_getfd(2) is denied, as in Docker's profile, so the caller makes the call itself and the result is
/// corrected before it sees that.
pub(super) fn answer(caller: &Caller<'_>, table: &Table, value: Address) -> bool {
    // As long as all are root there is nothing to correct. A caller that a debugger traces gets the real ids.
    table.has_changed()
        && restart::look_after(caller, |result| {
            let mut bytes = [0; SIZE];
            if result != 0 || caller.read(value, &mut bytes).is_err() {
                return After::Result(result);
            }
            let pid = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if let Some(peer) = table.peer(pid) {
                let own = peer.credentials();
                bytes[4..8].copy_from_slice(&own.uid.effective.to_ne_bytes());
                bytes[8..12].copy_from_slice(&own.gid.effective.to_ne_bytes());
                let _ = caller.write(value, &bytes); // the caller's memory, which it may have taken away
            }
            After::Result(result)
        })
        .is_ok()
}
