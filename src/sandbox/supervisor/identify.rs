//! What a step is told about the machine.

use rustix::io::Errno;

use super::call::Address;
use super::{Answer, Caller};

/// Length of one field of `struct utsname`, with its nul.
const FIELD: usize = 65;

/// `uname`, with the machine's name that the step is to see.
pub(super) fn uname(caller: &Caller<'_>, buffer: Address, hostname: Option<&str>) -> Result<Answer, Errno> {
    let Some(hostname) = hostname else { return Ok(Answer::Continue) };
    let uname = rustix::system::uname();
    let mut out = [0; 6 * FIELD];
    let domain = uname.domainname().to_bytes();
    let fields = [
        uname.sysname().to_bytes(),
        hostname.as_bytes(),
        uname.release().to_bytes(),
        uname.version().to_bytes(),
        uname.machine().to_bytes(),
        domain,
    ];
    for (into, field) in out.chunks_mut(FIELD).zip(fields) {
        let length = field.len().min(FIELD - 1);
        into[..length].copy_from_slice(&field[..length]);
    }
    caller.write(buffer, &out)?;
    Ok(Answer::Value(0))
}
