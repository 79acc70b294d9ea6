//! A system call that the filter handed over, as a typed value: which one, and what its arguments mean. Nothing is read
//! from the caller's memory here, so decoding cannot fail for a number that the filter traps.

use rustix::io::Errno;

/// An address in the caller's memory.
pub(crate) type Address = u64;

/// `AT_FDCWD`: relative to the working directory.
pub(crate) const CWD: i32 = libc::AT_FDCWD;

/// Largest number of bytes of a path with its nul.
pub(crate) const PATH_MAX: usize = libc::PATH_MAX as usize;

/// The request of an ioctl that opens the other side of a terminal.
pub(crate) const TIOCGPTPEER: u64 = 0x5441;

/// What "a process" is to `setpriority` and to `ioprio_set`.
pub(crate) const PRIO_PROCESS: i32 = 0;
pub(crate) const IOPRIO_WHO_PROCESS: i32 = 1;

/// A path of a call, or the descriptor that stands for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathArgument {
    /// What a relative path begins at: a descriptor or [`CWD`].
    pub dirfd: i32,
    /// Where the path's bytes are; 0 with `empty_path` for none: then the call is about `dirfd` itself.
    pub address: Address,
    /// Whether a symbolic link at the end is followed.
    pub follow: bool,
    /// Whether an empty path means `dirfd` itself (`AT_EMPTY_PATH`).
    pub empty_path: bool,
}

impl PathArgument {
    /// A path relative to the working directory.
    pub(super) fn at_cwd(address: Address, follow: bool) -> PathArgument {
        PathArgument { dirfd: CWD, address, follow, empty_path: false }
    }

    /// A path relative to `dirfd`; `flags` are `AT_` flags of a call that follows links unless told not to.
    pub(super) fn at(dirfd: u64, address: Address, flags: u64) -> PathArgument {
        let flags = flags as i32;
        let (follow, empty_path) = (flags & libc::AT_SYMLINK_NOFOLLOW == 0, flags & libc::AT_EMPTY_PATH != 0);
        PathArgument { dirfd: dirfd as i32, address, follow, empty_path }
    }

    /// A descriptor that the call is about.
    pub(super) fn descriptor(fd: u64) -> PathArgument {
        PathArgument { dirfd: fd as i32, address: 0, follow: true, empty_path: true }
    }

    /// The descriptor that the call is about, where it names no path at all.
    pub fn as_descriptor(&self) -> Option<i32> {
        (self.address == 0 && self.empty_path).then_some(self.dirfd)
    }
}

/// How the times of a `utime` call are laid out in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// `struct utimbuf`; null for now.
    Seconds(Address),
    /// `struct timeval[2]`; null for now.
    Microseconds(Address),
    /// `struct timespec[2]`, with `UTIME_NOW` and `UTIME_OMIT`; null for now.
    Nanoseconds(Address),
}

/// A call about the caller's ids, groups or capabilities. Ids are as the caller gave them: -1 (`u32::MAX`) is "leave".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the manual pages of the calls say it
pub(crate) enum IdentityCall {
    GetUid,
    GetEuid,
    GetGid,
    GetEgid,
    GetResUid { real: Address, effective: Address, saved: Address },
    GetResGid { real: Address, effective: Address, saved: Address },
    GetGroups { size: i32, list: Address },
    SetUid(u32),
    SetGid(u32),
    SetReUid { real: u32, effective: u32 },
    SetReGid { real: u32, effective: u32 },
    SetResUid { real: u32, effective: u32, saved: u32 },
    SetResGid { real: u32, effective: u32, saved: u32 },
    SetFsUid(u32),
    SetFsGid(u32),
    SetGroups { size: i32, list: Address },
    CapGet { header: Address, data: Address },
    CapSet { header: Address, data: Address },
    Prctl { option: i32, arguments: [u64; 4] },
}

/// What an extended attribute call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum XattrCall {
    Get { name: Address, value: Address, size: u64 },
    Set { name: Address, value: Address, size: u64, flags: i32 },
    List { list: Address, size: u64 },
    Remove { name: Address },
}

/// A call that acts on another process. Ids are as the caller gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum ProcessCall {
    Kill {
        pid: i32,
        signal: i32,
    },
    /// `tkill` where `group` is `None`.
    ThreadKill {
        group: Option<i32>,
        thread: i32,
        signal: i32,
    },
    /// `rt_sigqueueinfo`, `rt_tgsigqueueinfo`.
    Queue {
        group: Option<i32>,
        target: i32,
        signal: i32,
        info: Address,
    },
    PidfdOpen {
        pid: i32,
        flags: u32,
    },
    /// `ptrace` with `PTRACE_ATTACH` or `PTRACE_SEIZE`.
    Trace {
        pid: i32,
    },
    /// `process_vm_readv`, `process_vm_writev`, `kcmp` (the first), `sched_set*`, `prlimit64`, `move_pages` and others: 0
    /// is the caller.
    Reach {
        pid: i32,
    },
    /// `kcmp`.
    Compare {
        first: i32,
        second: i32,
    },
    /// `setpriority`, `ioprio_set`: `which` tells what `who` is; `process` is that call's value for a process.
    Priority {
        which: i32,
        who: i32,
        process: i32,
    },
}

/// A system call. Paths come before everything else; further arguments are as the caller gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Call {
    /// `open`, `openat`, `creat`. `path.follow` is what `O_NOFOLLOW` (and `O_CREAT|O_EXCL`) leave of it.
    Open {
        path: PathArgument,
        flags: i32,
        mode: u32,
    },
    /// `openat2`: a `struct open_how` of `size` bytes at `how`. `path.follow` is true: see its flags.
    OpenHow {
        path: PathArgument,
        how: Address,
        size: u64,
    },
    /// `open_tree`: without `OPEN_TREE_CLONE` this is an `O_PATH` open.
    OpenTree {
        path: PathArgument,
        flags: u32,
    },
    /// `stat`, `lstat`, `newfstatat`, `fstat`: a `struct stat` to be written to `buffer`.
    Stat {
        path: PathArgument,
        flags: i32,
        buffer: Address,
    },
    /// `mmap` of a file's code.
    MapCode {
        descriptor: i32,
    },
    Statx {
        path: PathArgument,
        flags: i32,
        mask: u32,
        buffer: Address,
    },
    Statfs {
        path: PathArgument,
        buffer: Address,
    },
    /// `access`, `faccessat`, `faccessat2` (whose flags may hold `AT_EACCESS`).
    Access {
        path: PathArgument,
        mode: i32,
        flags: i32,
    },
    Readlink {
        path: PathArgument,
        buffer: Address,
        size: u64,
    },
    Xattr {
        path: PathArgument,
        what: XattrCall,
    },
    Chmod {
        path: PathArgument,
        mode: u32,
    },
    /// -1 (`u32::MAX`) leaves an id.
    Chown {
        path: PathArgument,
        uid: u32,
        gid: u32,
    },
    Utimes {
        path: PathArgument,
        times: Times,
    },
    Truncate {
        path: PathArgument,
        length: i64,
    },
    Mkdir {
        path: PathArgument,
        mode: u32,
    },
    Mknod {
        path: PathArgument,
        mode: u32,
        device: u64,
    },
    /// `unlink`, `rmdir`, `unlinkat`.
    Unlink {
        path: PathArgument,
        directory: bool,
    },
    Rename {
        from: PathArgument,
        to: PathArgument,
        flags: u32,
    },
    Link {
        from: PathArgument,
        to: PathArgument,
    },
    Symlink {
        target: Address,
        path: PathArgument,
    },
    /// `file_getattr`, `file_setattr`: a `struct file_attr` of `size` bytes.
    FileAttributes {
        path: PathArgument,
        attributes: Address,
        size: u64,
        set: bool,
    },
    WatchPath {
        path: PathArgument,
        inotify: i32,
        mask: u32,
    },
    NameToHandle {
        path: PathArgument,
        handle: Address,
        mount_id: Address,
        flags: i32,
    },
    Chdir {
        path: PathArgument,
    },
    /// `chroot`.
    Chroot {
        path: PathArgument,
    },
    Exec {
        path: PathArgument,
        arguments: Address,
        environment: Address,
        flags: i32,
    },
    /// `getdents64`.
    ReadDirectory {
        directory: i32,
        buffer: Address,
    },
    GetCwd {
        buffer: Address,
        size: u64,
    },
    /// `bind`, `connect`: an address that may be a path's.
    Bind {
        socket: i32,
        address: Address,
        length: u32,
    },
    Connect {
        socket: i32,
        address: Address,
        length: u32,
    },
    /// `sendto` with an address.
    SendTo {
        socket: i32,
        data: Address,
        length: u64,
        flags: i32,
        address: Address,
        address_length: u32,
    },
    /// `getsockopt` of `SO_PEERCRED`.
    PeerCredentials {
        socket: i32,
        value: Address,
        length: Address,
    },
    /// `ioctl` of `TIOCGPTN` and others that ptys need.
    Terminal {
        fd: i32,
        request: u64,
        argument: Address,
    },
    Uname {
        buffer: Address,
    },
    Identity(IdentityCall),
    Process(ProcessCall),
    /// `exit_group`, or `exit` of one thread.
    Exit {
        group: bool,
    },
}

impl Call {
    /// Whether it may change files, as far as those who look at others of them notice.
    pub(super) fn changes_files(&self) -> bool {
        match self {
            Call::Open { flags, .. } => {
                flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE) != 0
            }
            Call::Xattr { what, .. } => matches!(what, XattrCall::Set { .. } | XattrCall::Remove { .. }),
            Call::Stat { .. }
            | Call::Statx { .. }
            | Call::Statfs { .. }
            | Call::Access { .. }
            | Call::Readlink { .. }
            | Call::ReadDirectory { .. }
            | Call::GetCwd { .. }
            | Call::Chdir { .. }
            | Call::MapCode { .. }
            | Call::Exec { .. }
            | Call::Exit { .. }
            | Call::Uname { .. }
            | Call::Identity(_)
            | Call::Process(_) => false,
            _ => true,
        }
    }
}

/// What a caller gets for a number that decodes to nothing; the filter traps none such.
pub(crate) const UNKNOWN: Errno = Errno::NOSYS;
