//! Device nodes where ids are mapped in ranges. All else is native there; only mknod(2) of a device is denied in every user
//! namespace. A filter hands over those calls alone, and in place of the device a regular file is made that carries its type
//! and numbers ([`crate::overrides`]): the layer has the device. Until then it looks like an empty file to the command.
//!
//! Where there is no pid namespace either, calls that act on other processes are handed over, too: root of the command is
//! root of the container, and could end what runs beside it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::{During, Failure, Step};
use super::supervisor::Answer;
use super::supervisor::filter;
use super::supervisor::memory::Memory;
use super::supervisor::outside::Outside;
use super::supervisor::outsiders::Neighbours;
use super::wire::Control;
use crate::overrides::{OVERRIDE, Override, Type};
use crate::sys::{self, Listener, Notification};

/// Bit of `CAP_MKNOD` in the sets of /proc/PID/status.
const CAP_MKNOD: u64 = 1 << 27;

/// In the command's first process, which still has all rights of the namespace: installs the filter and sends its listener.
/// Where that is refused (the container has a listener of its own) mknod stays what it is.
pub(super) fn hand_over(supervisor: &Control, own_pids: bool) -> Result<(), Failure> {
    match sys::install_filter(&filter::device_nodes(!own_pids)) {
        Ok(listener) => supervisor.send(&(), &[listener.as_fd()]).during(Step::Supervise),
        Err(_) => supervisor.send(&(), &[]).during(Step::Supervise),
    }
}

/// In the process that waits for the command: answers the calls, in a thread that ends with this process or with the
/// last process of the command.
pub(super) fn serve(child: &Control) -> Result<(), Failure> {
    let received = child.receive::<()>().during(Step::Supervise)?;
    let Some(listener) = received.and_then(|((), fds)| fds.into_iter().next()) else { return Ok(()) };
    let outside = Arc::new(Outside::open().during_at(Step::OpenDirectory, Path::new("/proc"))?);
    let root = rustix::process::getpid().as_raw_nonzero().get();
    let neighbours = Neighbours::new(outside.clone(), root);
    let nodes = Nodes { listener: Listener::new(listener), memory: Memory::new(outside.clone()), neighbours, outside };
    std::thread::Builder::new().spawn(move || nodes.work()).during(Step::Supervise)?;
    Ok(())
}

struct Nodes {
    listener: Listener,
    memory: Memory,
    neighbours: Neighbours,
    outside: Arc<Outside>,
}

impl Nodes {
    fn work(&self) {
        // An error means that nobody is left to make a call.
        while let Ok(received) = self.listener.receive() {
            let Some(call) = received else { continue };
            // Giving the answer fails where the caller died meanwhile, which is nothing to anybody.
            let _ = match self.answer(&call) {
                Answer::Continue => self.listener.proceed(call.id),
                Answer::Value(value) => self.listener.give(call.id, value),
                Answer::Error(errno) => self.listener.refuse(call.id, errno.raw_os_error()),
                Answer::Descriptor { .. } | Answer::Restart(_) | Answer::Given => Ok(()), // of no such call
            };
        }
    }

    fn answer(&self, call: &Notification) -> Answer {
        match filter::is_mknodat(call.number) {
            Some(at) => self.make(call, at).map_or_else(Answer::Error, |()| Answer::Value(0)),
            None => self.neighbours.answer(&self.listener, call),
        }
    }

    fn make(&self, call: &Notification, at: bool) -> Result<(), Errno> {
        let [first, second, third, fourth, ..] = call.arguments;
        let (dir, path, mode, device) =
            if at { (first as i32, second, third, fourth) } else { (libc::AT_FDCWD, first, second, third) };
        let path = self.memory.read_path(call.thread, None, path)?;
        let caller = Status::read(&self.outside, call.thread)?;
        let kind = match mode as u32 & 0o170000 {
            0o020000 => Type::Char(rustix::fs::major(device), rustix::fs::minor(device)),
            _ => Type::Block(rustix::fs::major(device), rustix::fs::minor(device)),
        };
        // As natively: no right, no device; and on an overlay nobody makes what means a deletion there.
        if caller.capabilities & CAP_MKNOD == 0 || caller.uid != 0 || kind == Type::Char(0, 0) {
            return Err(Errno::PERM);
        }
        let (parent, name) = self.parent(call.thread, dir, &path)?;
        if !self.listener.is_waiting(call.id) {
            return Err(Errno::SRCH);
        }
        let mode = mode as u32 & 0o7777 & !caller.umask;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(caller.uid)), Some(Gid::from_raw(caller.gid)))?;
        let told = Override { uid: caller.uid, gid: caller.gid, mode, kind };
        rustix::fs::fsetxattr(&file, OVERRIDE, told.to_string().as_bytes(), XattrFlags::empty())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
    }

    /// The directory that `path` means to the caller, and the last name.
    fn parent<'a>(&self, thread: i32, dir: i32, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = &path[start..end];
        if name.is_empty() || end < path.len() {
            return Err(if path.is_empty() { Errno::NOENT } else { Errno::EXIST });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let open = |what: String| self.outside.open_proc(what, flags);
        let (base, resolve) = if path[0] == b'/' {
            (open(format!("{thread}/root"))?, ResolveFlags::IN_ROOT)
        } else if dir == libc::AT_FDCWD {
            (open(format!("{thread}/cwd"))?, ResolveFlags::empty())
        } else {
            let found = open(format!("{thread}/fd/{dir}"));
            (found.map_err(|errno| if errno == Errno::NOENT { Errno::BADF } else { errno })?, ResolveFlags::empty())
        };
        if start == 0 {
            return Ok((base, name));
        }
        let dir = rustix::fs::openat2(&base, &path[..start], flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        Ok((dir, name))
    }
}

/// What counts of a caller.
struct Status {
    uid: u32,
    gid: u32,
    umask: u32,
    capabilities: u64,
}

impl Status {
    fn read(outside: &Outside, thread: i32) -> Result<Status, Errno> {
        let text = outside.read_proc(format!("{thread}/status"))?;
        Status::parse(&String::from_utf8_lossy(&text)).ok_or(Errno::SRCH)
    }

    /// proc_pid_status(5): of four ids the last is the file system's.
    fn parse(text: &str) -> Option<Status> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let id = |name: &str| field(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
        Some(Status {
            uid: id("Uid:")?,
            gid: id("Gid:")?,
            umask: u32::from_str_radix(field("Umask:")?, 8).ok()?,
            capabilities: u64::from_str_radix(field("CapEff:")?, 16).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_counts() {
        let text = "Name:\tUid: 7\nUmask:\t0027\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nCapEff:\t0000000008000000\n";
        let status = Status::parse(text).unwrap();
        assert_eq!((status.uid, status.gid, status.umask, status.capabilities), (4, 8, 0o27, CAP_MKNOD));
        assert!(Status::parse("Name:\tx\n").is_none());
    }
}
