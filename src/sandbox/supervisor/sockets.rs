//! Local sockets whose path leads to a place. See [`super::perform`].
//!
//! The socket is the caller's and cannot be had (Docker's profile denies pidfd_getfd), and no path of the caller's leads to
//! where the address is. So another socket of the same kind is connected, or bound, and takes the number of the caller's.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::call::{Address, CWD, PathArgument};
use super::path::Last;
use super::path::ViewPath;
use super::perform::own;
use super::places::{kind_of, raw};
use super::restart::{self, After};
use super::view::{Entry, Eyes, Site};
use super::{Answer, Restart};
use crate::sys;

/// Bytes of a path in `struct sockaddr_un`, and where they begin.
const SUN_PATH: usize = 108;
const SUN_START: usize = 2;

/// How long a caller waits for a listener that has no room for it.
const PATIENCE: u32 = 30_000;

/// More than the kernel lets a datagram have by default (`net.core.wmem_max`).
const MAX_DATAGRAM: u64 = 1 << 20;

/// What is known of a caller's socket.
struct Socket {
    kind: SocketType,
    is_bound: bool,
    non_blocking: bool,
    close_on_exec: bool,
}

impl Eyes<'_> {
    /// `connect` to a path.
    pub(super) fn connect(&mut self, socket: i32, address: Address, length: u32) -> Result<Answer, Errno> {
        let Some(path) = self.socket_path(address, length)? else { return Ok(Answer::Continue) };
        let Some(site) = self.locate(&ANY, &path, Last::Follow)? else { return Ok(Answer::Continue) };
        let target = self.object(&site, Last::Follow)?;
        if kind_of(target.fd.as_fd())? != FileType::Socket {
            return Err(Errno::CONNREFUSED);
        }
        if self.places.is_emulated() && target.place.is_none() {
            let path = ViewPath::without_links(&self.host_path(&target.fd)?);
            let (above, name) = path.split().ok_or(Errno::CONNREFUSED)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(above.as_bytes(), flags, Mode::empty())?;
            return Ok(Answer::Restart(Restart::SocketName { directory, name: name.to_vec(), position: 1 }));
        }
        if let Site::Tree { .. } = site {
            // The kernel finds it, and the other side is told of the caller's own socket.
            return raw(sys::may_access(target.fd.as_fd(), libc::W_OK)).map(|()| Answer::Continue);
        }
        let known = self.socket(socket)?;
        self.as_caller()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let new = rustix::net::socket_with(rustix::net::AddressFamily::UNIX, known.kind, flags, None)?;
        let name = SocketAddrUnix::new(own(&target.fd))?;
        self.patiently(!known.non_blocking, || rustix::net::connect(&new, &name))?;
        self.replace(socket, new, &known)
    }

    /// `bind` to a path.
    pub(super) fn bind(&mut self, socket: i32, address: Address, length: u32) -> Result<Answer, Errno> {
        let Some(path) = self.socket_path(address, length)? else { return Ok(Answer::Continue) };
        let Some(site) = self.locate(&ANY, &path, Last::Entry)? else { return Ok(Answer::Continue) };
        let entry = self.entry(&site)?;
        self.check_makable(&entry).map_err(|error| if error == Errno::EXIST { Errno::ADDRINUSE } else { error })?;
        if self.places.is_emulated() && entry.place.is_none() {
            let directory = self.reopen(&entry.directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
            return Ok(Answer::Restart(Restart::SocketName { directory, name: entry.name, position: 1 }));
        }
        if let Site::Tree { .. } = site {
            return self.bind_in_tree(&entry);
        }
        let known = self.socket(socket)?;
        let mode = self.made_mode(&entry.directory, 0o777)?;
        let new = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            known.kind,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        // The node gets the mode of the socket's own inode, less this process's umask, which is 0.
        rustix::fs::fchmod(&new, Mode::from_raw_mode(mode))?;
        let name = [own(&entry.directory).as_bytes(), b"/", entry.name.as_slice()].concat();
        rustix::net::bind(&new, &SocketAddrUnix::new(name)?)?;
        self.replace(socket, new, &known)
    }

    /// Where the kernel finds its way the caller binds its own socket, and gets what it has made.
    fn bind_in_tree(&mut self, entry: &Entry) -> Result<Answer, Errno> {
        raw(sys::may_access(entry.directory.as_fd(), libc::W_OK | libc::X_OK))?;
        let Some(identity) = self.identity else { return Ok(Answer::Continue) };
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        self.as_self()?;
        restart::look_after(self.caller, |result| {
            if result == 0 {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                // It may have been removed again.
                let _ = chownat(&entry.directory, entry.name.as_slice(), Some(uid), Some(gid), flags);
            }
            After::Result(result)
        })?;
        Ok(Answer::Given)
    }

    /// `sendto` a path: a datagram, which comes from a socket without a name then.
    pub(super) fn send(
        &mut self,
        (socket, flags): (i32, i32),
        (data, length): (Address, u64),
        (address, address_length): (Address, u32),
    ) -> Result<Answer, Errno> {
        let Some(path) = self.socket_path(address, address_length)? else { return Ok(Answer::Continue) };
        let site = match self.locate(&ANY, &path, Last::Follow)? {
            Some(site) if self.places.is_emulated() || matches!(site, Site::At(_)) => site,
            _ => return Ok(Answer::Continue),
        };
        let target = self.object(&site, Last::Follow)?;
        let known = self.socket(socket)?;
        if known.kind != SocketType::DGRAM {
            return Ok(Answer::Continue); // the kernel says what is wrong
        }
        if length > MAX_DATAGRAM {
            return Err(Errno::MSGSIZE);
        }
        let mut bytes = vec![0; length as usize];
        self.caller.read(data, &mut bytes)?;
        self.as_caller()?;
        let kinds = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let new = rustix::net::socket_with(rustix::net::AddressFamily::UNIX, SocketType::DGRAM, kinds, None)?;
        let name = SocketAddrUnix::new(own(&target.fd))?;
        let patient = !known.non_blocking && flags & libc::MSG_DONTWAIT == 0;
        self.patiently(patient, || rustix::net::sendto(&new, &bytes, SendFlags::NOSIGNAL, &name))
            .map(|sent| Answer::Value(sent as i64))
    }

    /// Makes a call that does not wait until it is done, for as long as the caller would wait.
    fn patiently<T>(&self, patient: bool, call: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        let mut tries = 0;
        loop {
            match call() {
                Err(Errno::AGAIN) if patient && tries < PATIENCE && self.caller.is_waiting() => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return other,
            }
        }
    }

    /// The path in a socket's address; `None` for an address of another kind.
    fn socket_path(&self, address: Address, length: u32) -> Result<Option<Vec<u8>>, Errno> {
        let length = length as usize;
        if length <= SUN_START || length > SUN_START + SUN_PATH {
            return Ok(None);
        }
        let mut bytes = [0; SUN_START + SUN_PATH];
        self.caller.read(address, &mut bytes[..length])?;
        let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let path = bytes[SUN_START..length].split(|byte| *byte == 0).next().unwrap_or_default();
        Ok((family == libc::AF_UNIX as u16 && !path.is_empty()).then(|| path.to_vec()))
    }

    /// What the caller's socket is like.
    fn socket(&mut self, fd: i32) -> Result<Socket, Errno> {
        self.as_self()?;
        let (proc, thread) = (&self.places.outside, self.caller.thread);
        let link = rustix::fs::readlinkat(proc.proc(), format!("{thread}/fd/{fd}"), Vec::new());
        let link = link.map_err(|_| Errno::BADF)?.into_bytes();
        let inode = link.strip_prefix(b"socket:[").and_then(|rest| rest.strip_suffix(b"]")).ok_or(Errno::NOTSOCK)?;
        let table = proc.read_proc(format!("{thread}/net/unix"))?;
        let (kind, path) =
            table.split(|byte| *byte == b'\n').find_map(|line| unix_socket(line, inode)).ok_or(Errno::INVAL)?;
        let info = proc.read_proc(format!("{thread}/fdinfo/{fd}"))?;
        let flags = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"flags:"));
        let flags = flags.and_then(|text| std::str::from_utf8(text).ok()).map(str::trim);
        let flags = flags.and_then(|text| u32::from_str_radix(text, 8).ok()).ok_or(Errno::BADF)?;
        let flags = OFlags::from_bits_retain(flags);
        Ok(Socket {
            kind,
            is_bound: path,
            non_blocking: flags.contains(OFlags::NONBLOCK),
            close_on_exec: flags.contains(OFlags::CLOEXEC),
        })
    }

    /// Gives the caller `new` in the place of its own socket.
    fn replace(&mut self, socket: i32, new: OwnedFd, known: &Socket) -> Result<Answer, Errno> {
        // A name of its own would be lost.
        if known.is_bound {
            return Err(Errno::INVAL);
        }
        if !known.non_blocking {
            let flags = rustix::fs::fcntl_getfl(&new)?;
            rustix::fs::fcntl_setfl(&new, flags.difference(OFlags::NONBLOCK))?;
        }
        self.caller.replace_descriptor(&new, socket, known.close_on_exec)?;
        Ok(Answer::Value(0))
    }
}

/// A path from the working directory.
const ANY: PathArgument = PathArgument { dirfd: CWD, address: 0, follow: true, empty_path: false };

/// Type of the socket of a line of /proc/net/unix, and whether it has an address, where it is the one of this inode.
fn unix_socket(line: &[u8], inode: &[u8]) -> Option<(SocketType, bool)> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).skip(4);
    let (kind, _state, number, path) = (fields.next()?, fields.next()?, fields.next()?, fields.next());
    let kind = match kind {
        b"0001" => SocketType::STREAM,
        b"0002" => SocketType::DGRAM,
        b"0005" => SocketType::SEQPACKET,
        _ => return None,
    };
    (number == inode).then_some((kind, path.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let line = b"ffff8880: 00000002 00000000 00010000 0001 01 12345 /run/x";
        assert_eq!(unix_socket(line, b"12345"), Some((SocketType::STREAM, true)));
        assert_eq!(unix_socket(line, b"1234"), None);
        let line = b"0000000000000000: 00000002 00000000 00000000 0002 01   777";
        assert_eq!(unix_socket(line, b"777"), Some((SocketType::DGRAM, false)));
        assert_eq!(unix_socket(b"Num       RefCount Protocol Flags    Type St Inode Path", b"Inode"), None);
        let own = rustix::net::socket(rustix::net::AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        let inode = rustix::fs::fstat(&own).unwrap().st_ino.to_string();
        let table = fs_err::read("/proc/self/net/unix").unwrap();
        let found = table.split(|byte| *byte == b'\n').find_map(|line| unix_socket(line, inode.as_bytes()));
        assert_eq!(found, Some((SocketType::SEQPACKET, false)));
    }
}
