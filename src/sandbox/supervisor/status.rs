//! `/proc/PID/status` as a process with emulated credentials is to see it.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::capability::Capabilities;
use super::credentials::Credentials;

/// The kernel's text with the lines that tell of credentials replaced.
pub(crate) fn with_credentials(text: &[u8], credentials: &Credentials) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        match std::str::from_utf8(name).ok().and_then(|name| value(name, credentials)) {
            Some(value) => {
                out.extend_from_slice(name);
                out.extend_from_slice(format!(":\t{value}\n").as_bytes());
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// A file in memory that holds `text`, to be read from its beginning.
pub(crate) fn as_file(text: &[u8]) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::memfd_create("status", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    let written = file.write_all(text).and_then(|()| file.rewind());
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(file.into())
}

fn value(name: &str, credentials: &Credentials) -> Option<String> {
    let ids = |ids: [u32; 4]| ids.map(|id| id.to_string()).join("\t");
    let set = |set: Capabilities| format!("{:016x}", set.bits());
    Some(match name {
        "Uid" => ids(credentials.uid.listed()),
        "Gid" => ids(credentials.gid.listed()),
        // With a blank behind the last, as the kernel has it.
        "Groups" => credentials.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") + " ",
        "CapInh" => set(credentials.inheritable),
        "CapPrm" => set(credentials.permitted),
        "CapEff" => set(credentials.effective),
        "CapBnd" => set(credentials.bounding),
        "CapAmb" => set(credentials.ambient),
        "NoNewPrivs" => u8::from(credentials.no_new_privs).to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::CapabilitySet;

    #[test]
    fn replaces_what_it_knows() {
        let mut app = Credentials::new(1000, 1001, &[50, 4], CapabilitySet::SETUID.into());
        app.no_new_privs = true;
        let text = b"Name:\tUid\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t \nCapInh:\t1\nCapPrm:\t2\n\
            CapEff:\t3\nCapBnd:\t4\nCapAmb:\t5\nNoNewPrivs:\t0\nodd\xff";
        let expected = b"Name:\tUid\nUid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\nFDSize:\t64\n\
            Groups:\t4 50 \nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
            CapBnd:\t0000000000000080\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nodd\xff";
        assert_eq!(with_credentials(text, &app).escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
