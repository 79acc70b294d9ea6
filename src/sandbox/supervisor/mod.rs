//! The supervisor: answers system calls of a step's processes that its seccomp filter hands over.
//!
//! A call arrives at a worker of `serve`, is decoded (`call`), and is answered in one of the ways of [`Answer`]. What is
//! answered otherwise than by "go on" is what the tier cannot give natively: /proc, /sys, ptys and mounts where nothing
//! can be mounted (`places`, `perform`), ids other than the real one (`credentials`, `owners`), and protection of the
//! processes outside the step where there is no pid namespace (`outsiders`).
//!
//! A caller's memory, descriptors and threads may change while its call is looked at. So what is let through by
//! [`Answer::Continue`] is never trusted to be what was looked at: it may only ever reach what the step's root, real ids
//! and capabilities allow. Nothing that a worker does may wait for the caller or for another process of the step.
//!
//! What a trapped call costs is mostly the kernel's: two switches between processes. Measured on a virtual machine of two
//! processors, where readlink(2) takes 0.8 µs: 4.5 µs where it is answered, 6.1 µs where the kernel then makes it, each
//! system call of the worker besides (1.2 µs to read the path, 0.8 µs to look it up, 2 to 3 µs for what leads through
//! /proc/PID). So a call that fails, or tells of nothing but that it does not, is answered (`at_once`), what was looked up
//! is remembered (`trodden`, and which files have no record, `unrecorded`), and who calls the most, tar of small files, still
//! takes several times as long where all of it is handed over: no answer comes for less than five times the call. So programs
//! make most calls that look at files themselves where they can (`shortcuts`). With the kernel's hint (`wake_synchronously`)
//! caller and worker take turns on one
//! processor; in one of four runs without it they did so on two, and a call took 76 µs. To bind both to a processor gains
//! nothing beside the hint.
//!
//! In the chroot tier the supervisor's own process has the step's root, so a path means to a worker what it means to the
//! step, links and `..` included. What lies outside is reached by the descriptors of `outside`.

pub(crate) mod access;
mod at_once;
pub(crate) mod call;
pub(crate) mod capability;
pub(crate) mod credentials;
mod decode;
mod devices;
mod directories;
pub(crate) mod emulated;
mod entries;
mod exec;
mod execute;
pub(crate) mod filter;
mod findings;
mod identify;
mod identities;
mod load;
pub(crate) mod memory;
mod mounttable;
mod numbers;
mod open;
pub(crate) mod outside;
pub(super) mod outsiders;
pub(crate) mod owners;
mod path;
mod peers;
mod perform;
pub(crate) mod places;
pub(crate) mod process;
pub(super) mod procfs;
mod programs;
mod protected;
pub(crate) mod recorded;
mod restart;
mod roots;
pub(crate) mod serve;
pub(crate) mod shortcuts;
mod sockets;
pub(crate) mod stands;
pub(crate) mod stat;
pub(crate) mod status;
mod trodden;
mod unrecorded;
mod view;
mod workers;
mod xattrs;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::sys::{self, Listener, Notification};
use call::Address;
use credentials::Credentials;
use memory::Memory;
use outside::Outside;
use process::{Process, Table};
use shortcuts::Shortcuts;

/// What becomes of a trapped call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The kernel makes it as it is.
    Continue,
    /// It returns this.
    Value(i64),
    /// It fails.
    Error(Errno),
    /// It returns a new descriptor of the caller's, for this file.
    Descriptor {
        /// The file.
        fd: OwnedFd,
        /// Whether it is closed by an exec.
        close_on_exec: bool,
    },
    /// The kernel makes another call in its place.
    Restart(Restart),
    /// It has been answered already.
    Given,
}

/// A call that the caller is made to make in place of its own, about a file that it has no path to.
#[derive(Debug)]
pub(crate) enum Restart {
    /// `fchdir`.
    ChangeDirectory(OwnedFd),
    /// `execve`, or `execveat`.
    Execute {
        /// What is run.
        program: Program,
        /// Its arguments.
        arguments: Arguments,
        /// Where the caller has its environment.
        environment: Address,
    },
    /// `openat` with `O_PATH`, whose descriptors cannot be given: SECCOMP_IOCTL_NOTIF_ADDFD takes none.
    Name {
        /// A directory.
        directory: OwnedFd,
        /// A name in it.
        name: Vec<u8>,
        /// Flags of the call.
        flags: OFlags,
    },
    /// `execveat` of a program whose interpreter the kernel would not find.
    Load {
        /// What is run.
        image: Box<load::Image>,
        /// Where the caller has an empty string.
        empty: Address,
        /// Its arguments.
        arguments: Arguments,
        /// Where the caller has its environment.
        environment: Address,
    },
    /// The same call, with another path that the kernel can follow.
    Path {
        /// The number of the call.
        number: i64,
        /// Its arguments.
        arguments: [u64; 6],
        /// Which of them is the path's address.
        position: usize,
        /// The path.
        path: Vec<u8>,
    },
    /// The same call of a socket, with the address of a name in a directory.
    SocketName {
        /// The directory.
        directory: OwnedFd,
        /// The name.
        name: Vec<u8>,
        /// Which argument of the call is the address; its length is the next one.
        position: usize,
    },
    /// None: the descriptor is given, and its terminal becomes the caller's controlling one.
    ControllingTerminal {
        /// The terminal.
        terminal: OwnedFd,
        /// Whether it is closed by an exec.
        close_on_exec: bool,
    },
}

/// What a [`Restart::Execute`] runs.
#[derive(Debug)]
pub(crate) enum Program {
    /// A file that the caller has no path to, and where the caller has an empty string.
    File(OwnedFd, Address),
    /// A file at a path that the kernel can follow.
    Path(Vec<u8>),
}

/// The arguments of a [`Restart::Execute`].
#[derive(Debug)]
pub(crate) enum Arguments {
    /// Those that the caller has at this address.
    Same(Address),
    /// These, and after them what the caller has at this address but for the first.
    Script(Vec<Vec<u8>>, Address),
}

impl From<Result<Answer, Errno>> for Answer {
    fn from(result: Result<Answer, Errno>) -> Answer {
        result.unwrap_or_else(Answer::Error)
    }
}

/// Who made a call, and the way to its memory and descriptors.
pub(crate) struct Caller<'a> {
    /// The thread.
    pub thread: i32,
    /// Its process.
    pub process: Arc<Process>,
    /// The call as it came.
    pub notification: Notification,
    /// What lies outside the step's root.
    pub outside: &'a Outside,
    pub(super) listener: &'a Listener,
    pub(super) memory: &'a Memory,
    pub(super) table: &'a Table,
    /// What a call has in its last argument, unused by it, that the filter lets through; see `filter`.
    pub(super) pass: u64,
    /// The step's shortcuts, where it has any.
    pub(super) shortcuts: Option<&'a Shortcuts>,
    /// The path that was read last, and its address: what is said once is not asked again.
    pub(super) said: RefCell<Option<(Address, Vec<u8>)>>,
}

impl Caller<'_> {
    /// Whether the call still waits. To be asked after reading anything by the thread's id (memory, /proc) and before
    /// acting on it: the id may be another process's by now.
    pub(crate) fn is_waiting(&self) -> bool {
        self.listener.is_waiting(self.notification.id)
    }

    /// The path at `address`, without its nul.
    pub(crate) fn read_path(&self, address: Address) -> Result<Vec<u8>, Errno> {
        if let Some((at, path)) = &*self.said.borrow()
            && *at == address
        {
            return Ok(path.clone());
        }
        let path = self.memory.read_path(self.thread, Some(&self.process.memory), address)?;
        self.said.replace(Some((address, path.clone())));
        Ok(path)
    }

    /// The string at `address`, of at most `limit` bytes with its nul (else `E2BIG`).
    pub(crate) fn read_string(&self, address: Address, limit: usize) -> Result<Vec<u8>, Errno> {
        self.memory.read_string(self.thread, Some(&self.process.memory), address, limit)
    }

    /// Fills `into` from `address`.
    pub(crate) fn read(&self, address: Address, into: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(self.thread, Some(&self.process.memory), address, into)
    }

    /// Writes `from` to `address`.
    pub(crate) fn write(&self, address: Address, from: &[u8]) -> Result<(), Errno> {
        self.memory.write(self.thread, address, from)
    }

    /// The file behind a descriptor of the caller's, or behind its working directory where `fd` is [`call::CWD`]: opened
    /// anew with `flags`, which must not wait for anything (`O_PATH`, but for regular files and directories). To be called
    /// as who the worker began as, see [`Worker::become_identity`]: others may not look into /proc/PID.
    pub(crate) fn open_descriptor(&self, fd: i32, flags: OFlags) -> Result<OwnedFd, Errno> {
        let thread = self.thread;
        let path = if fd == call::CWD { format!("{thread}/cwd") } else { format!("{thread}/fd/{fd}") };
        self.outside.open_proc(path, flags).map_err(|error| if error == Errno::NOENT { Errno::BADF } else { error })
    }

    /// Whether glibc's dynamic linker makes the call.
    pub(super) fn is_linker(&self) -> bool {
        let linker = self.process.state().linker;
        linker.is_some_and(|(first, end)| (first..end).contains(&self.notification.instruction))
    }

    /// Ends the shortcuts of the caller's process: see [`Shortcuts::turn_off`].
    pub(super) fn turn_off_shortcuts(&self) -> Result<(), Errno> {
        self.shortcuts.map_or(Ok(()), |shortcuts| shortcuts.turn_off(self))
    }

    /// Gives the caller a copy of `fd` in the place of its descriptor `number`, besides the answer.
    pub(crate) fn replace_descriptor(&self, fd: &OwnedFd, number: i32, close_on_exec: bool) -> Result<(), Errno> {
        let replaced = self.listener.replace_descriptor(self.notification.id, fd.as_fd(), number, close_on_exec);
        replaced.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::SRCH))
    }
}

/// Who a worker makes a call as: the ids and groups that the kernel checks access by and gives to new files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Arc<[u32]>,
}

impl Identity {
    /// Who a process of these credentials is to the kernel where files have real owners; `None` for root.
    pub(crate) fn of(credentials: &Credentials) -> Option<Identity> {
        let (uid, gid) = (credentials.uid.fs, credentials.gid.fs);
        (uid != 0 || gid != 0).then(|| Identity { uid, gid, groups: credentials.groups.clone() })
    }
}

/// What one worker thread keeps for itself.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Who this thread is now, where it is not who it began as.
    current: Option<Identity>,
    /// It may not become anybody: there is one id, and what others may do is checked by records.
    only: bool,
}

impl Worker {
    /// The calling thread, which becomes who the supervisor is: a new thread has the ids of the one that started it, and
    /// that may be a worker in the midst of a call.
    pub(crate) fn begin() -> Worker {
        sys::set_file_uid(0);
        let _ = sys::set_thread_groups(&[]); // denied where no other groups can have been set either
        sys::set_file_gid(0);
        Worker { current: None, only: false }
    }

    /// The calling thread, where there is no right to be anybody else.
    pub(crate) fn only() -> Worker {
        Worker { current: None, only: true }
    }

    /// Makes this thread `identity`; `None` for who it began as, which may do everything.
    pub(crate) fn become_identity(&mut self, identity: Option<&Identity>) -> Result<(), Errno> {
        if self.only || self.current.as_ref() == identity {
            return Ok(());
        }
        // Only with file system user id 0 has the thread the rights to set the others.
        sys::set_file_uid(0);
        self.current = None;
        let groups: &[u32] = identity.map_or(&[], |identity| &identity.groups);
        sys::set_thread_groups(groups).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::PERM))?;
        sys::set_file_gid(identity.map_or(0, |identity| identity.gid));
        if let Some(identity) = identity {
            sys::set_file_uid(identity.uid);
            self.current = Some(identity.clone());
        }
        Ok(())
    }
}
