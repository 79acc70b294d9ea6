//! A system call that the filter handed over, as a typed value: which one, and what its arguments mean. Nothing is read
//! from the caller's memory here, so decoding cannot fail for a number that the filter traps.

use rustix::io::Errno;

use super::numbers as nr;

/// An address in the caller's memory.
pub(crate) type Address = u64;

/// `AT_FDCWD`: relative to the working directory.
pub(crate) const CWD: i32 = libc::AT_FDCWD;

/// Largest number of bytes of a path with its nul.
pub(crate) const PATH_MAX: usize = libc::PATH_MAX as usize;

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
    fn at_cwd(address: Address, follow: bool) -> PathArgument {
        PathArgument { dirfd: CWD, address, follow, empty_path: false }
    }

    /// A path relative to `dirfd`; `flags` are `AT_` flags of a call that follows links unless told not to.
    fn at(dirfd: u64, address: Address, flags: u64) -> PathArgument {
        let flags = flags as i32;
        let (follow, empty_path) = (flags & libc::AT_SYMLINK_NOFOLLOW == 0, flags & libc::AT_EMPTY_PATH != 0);
        PathArgument { dirfd: dirfd as i32, address, follow, empty_path }
    }

    /// A descriptor that the call is about.
    fn descriptor(fd: u64) -> PathArgument {
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
    /// The call of number `number`; `None` for one that no feature traps.
    pub fn decode(number: i64, a: [u64; 6]) -> Option<Call> {
        decode_path(number, a)
            .or_else(|| decode_modern(number, a))
            .or_else(|| decode_descriptor(number, a))
            .or_else(|| decode_identity(number, a).map(Call::Identity))
            .or_else(|| decode_process(number, a).map(Call::Process))
    }

    /// The paths of the call; of two the first is where from.
    pub fn paths(&self) -> (Option<PathArgument>, Option<PathArgument>) {
        match *self {
            Call::Open { path, .. }
            | Call::OpenHow { path, .. }
            | Call::OpenTree { path, .. }
            | Call::Stat { path, .. }
            | Call::Statx { path, .. }
            | Call::Statfs { path, .. }
            | Call::Access { path, .. }
            | Call::Readlink { path, .. }
            | Call::Xattr { path, .. }
            | Call::Chmod { path, .. }
            | Call::Chown { path, .. }
            | Call::Utimes { path, .. }
            | Call::Truncate { path, .. }
            | Call::Mkdir { path, .. }
            | Call::Mknod { path, .. }
            | Call::Unlink { path, .. }
            | Call::Symlink { path, .. }
            | Call::FileAttributes { path, .. }
            | Call::WatchPath { path, .. }
            | Call::NameToHandle { path, .. }
            | Call::Chdir { path }
            | Call::Chroot { path }
            | Call::Exec { path, .. } => (Some(path), None),
            Call::Rename { from, to, .. } | Call::Link { from, to } => (Some(from), Some(to)),
            Call::GetCwd { .. }
            | Call::ReadDirectory { .. }
            | Call::Bind { .. }
            | Call::Connect { .. }
            | Call::SendTo { .. }
            | Call::PeerCredentials { .. }
            | Call::Terminal { .. }
            | Call::Uname { .. }
            | Call::Identity(_)
            | Call::Process(_)
            | Call::Exit { .. } => (None, None),
        }
    }
}

/// `path.follow` of an open call with `flags`.
fn follows(flags: i32) -> bool {
    let exclusive = libc::O_CREAT | libc::O_EXCL;
    flags & libc::O_NOFOLLOW == 0 && flags & exclusive != exclusive
}

/// Calls that only older architectures have, each about a path relative to the working directory.
fn decode_path(number: i64, a: [u64; 6]) -> Option<Call> {
    let follow = PathArgument::at_cwd(a[0], true);
    let link = PathArgument::at_cwd(a[0], false);
    let creat = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    Some(match number {
        nr::OPEN => {
            let flags = a[1] as i32;
            Call::Open { path: PathArgument::at_cwd(a[0], follows(flags)), flags, mode: a[2] as u32 }
        }
        nr::CREAT => Call::Open { path: follow, flags: creat, mode: a[1] as u32 },
        nr::STAT => Call::Stat { path: follow, flags: 0, buffer: a[1] },
        nr::LSTAT => Call::Stat { path: link, flags: libc::AT_SYMLINK_NOFOLLOW, buffer: a[1] },
        nr::ACCESS => Call::Access { path: follow, mode: a[1] as i32, flags: 0 },
        nr::READLINK => Call::Readlink { path: link, buffer: a[1], size: a[2] },
        nr::CHMOD => Call::Chmod { path: follow, mode: a[1] as u32 },
        nr::CHOWN => Call::Chown { path: follow, uid: a[1] as u32, gid: a[2] as u32 },
        nr::LCHOWN => Call::Chown { path: link, uid: a[1] as u32, gid: a[2] as u32 },
        nr::UTIME => Call::Utimes { path: follow, times: Times::Seconds(a[1]) },
        nr::UTIMES => Call::Utimes { path: follow, times: Times::Microseconds(a[1]) },
        nr::FUTIMESAT if a[1] == 0 => {
            Call::Utimes { path: PathArgument::descriptor(a[0]), times: Times::Microseconds(a[2]) }
        }
        nr::FUTIMESAT => Call::Utimes { path: PathArgument::at(a[0], a[1], 0), times: Times::Microseconds(a[2]) },
        nr::MKDIR => Call::Mkdir { path: link, mode: a[1] as u32 },
        nr::MKNOD => Call::Mknod { path: link, mode: a[1] as u32, device: a[2] },
        nr::UNLINK => Call::Unlink { path: link, directory: false },
        nr::RMDIR => Call::Unlink { path: link, directory: true },
        nr::RENAME => Call::Rename { from: link, to: PathArgument::at_cwd(a[1], false), flags: 0 },
        nr::LINK => Call::Link { from: link, to: PathArgument::at_cwd(a[1], false) },
        nr::SYMLINK => Call::Symlink { target: a[0], path: PathArgument::at_cwd(a[1], false) },
        _ => return None,
    })
}

/// Calls about paths that every architecture has.
fn decode_modern(number: i64, a: [u64; 6]) -> Option<Call> {
    let cwd = PathArgument::at_cwd(a[0], true);
    let link = PathArgument { follow: false, ..PathArgument::at(a[0], a[1], 0) };
    let no_follow = libc::AT_SYMLINK_NOFOLLOW as u64;
    Some(match number {
        nr::OPENAT => {
            let flags = a[2] as i32;
            let path = PathArgument { follow: follows(flags), ..PathArgument::at(a[0], a[1], 0) };
            Call::Open { path, flags, mode: a[3] as u32 }
        }
        nr::OPENAT2 => Call::OpenHow { path: PathArgument::at(a[0], a[1], 0), how: a[2], size: a[3] },
        nr::OPEN_TREE => Call::OpenTree { path: PathArgument::at(a[0], a[1], a[2]), flags: a[2] as u32 },
        nr::NEWFSTATAT => Call::Stat { path: PathArgument::at(a[0], a[1], a[3]), flags: a[3] as i32, buffer: a[2] },
        nr::STATX => Call::Statx {
            path: PathArgument::at(a[0], a[1], a[2]),
            flags: a[2] as i32,
            mask: a[3] as u32,
            buffer: a[4],
        },
        nr::STATFS => Call::Statfs { path: cwd, buffer: a[1] },
        nr::FACCESSAT => Call::Access { path: PathArgument::at(a[0], a[1], 0), mode: a[2] as i32, flags: 0 },
        nr::FACCESSAT2 => {
            Call::Access { path: PathArgument::at(a[0], a[1], a[3]), mode: a[2] as i32, flags: a[3] as i32 }
        }
        // An empty path means the descriptor, which must be a link's: readlink(2).
        nr::READLINKAT => {
            Call::Readlink { path: PathArgument { empty_path: a[1] != 0, ..link }, buffer: a[2], size: a[3] }
        }
        nr::FCHMODAT => Call::Chmod { path: PathArgument::at(a[0], a[1], 0), mode: a[2] as u32 },
        nr::FCHMODAT2 => Call::Chmod { path: PathArgument::at(a[0], a[1], a[3]), mode: a[2] as u32 },
        nr::FCHOWNAT => Call::Chown { path: PathArgument::at(a[0], a[1], a[4]), uid: a[2] as u32, gid: a[3] as u32 },
        nr::UTIMENSAT if a[1] == 0 => {
            Call::Utimes { path: PathArgument::descriptor(a[0]), times: Times::Nanoseconds(a[2]) }
        }
        nr::UTIMENSAT => Call::Utimes { path: PathArgument::at(a[0], a[1], a[3]), times: Times::Nanoseconds(a[2]) },
        nr::TRUNCATE => Call::Truncate { path: cwd, length: a[1] as i64 },
        nr::MKDIRAT => Call::Mkdir { path: link, mode: a[2] as u32 },
        nr::MKNODAT => Call::Mknod { path: link, mode: a[2] as u32, device: a[3] },
        nr::UNLINKAT => Call::Unlink { path: link, directory: a[2] as i32 & libc::AT_REMOVEDIR != 0 },
        nr::RENAMEAT => Call::Rename { from: link, to: PathArgument::at(a[2], a[3], no_follow), flags: 0 },
        nr::RENAMEAT2 => Call::Rename { from: link, to: PathArgument::at(a[2], a[3], no_follow), flags: a[4] as u32 },
        nr::LINKAT => {
            let follow = a[4] as i32 & libc::AT_SYMLINK_FOLLOW != 0;
            let from = PathArgument { follow, ..PathArgument::at(a[0], a[1], a[4]) };
            Call::Link { from, to: PathArgument::at(a[2], a[3], no_follow) }
        }
        nr::SYMLINKAT => Call::Symlink { target: a[0], path: PathArgument::at(a[1], a[2], no_follow) },
        nr::FILE_GETATTR | nr::FILE_SETATTR => Call::FileAttributes {
            path: PathArgument::at(a[0], a[1], a[4]),
            attributes: a[2],
            size: a[3],
            set: number == nr::FILE_SETATTR,
        },
        nr::INOTIFY_ADD_WATCH => {
            let path = PathArgument::at_cwd(a[1], a[2] as u32 & libc::IN_DONT_FOLLOW == 0);
            Call::WatchPath { path, inotify: a[0] as i32, mask: a[2] as u32 }
        }
        nr::NAME_TO_HANDLE_AT => {
            let follow = a[4] as i32 & libc::AT_SYMLINK_FOLLOW != 0;
            let path = PathArgument { follow, ..PathArgument::at(a[0], a[1], a[4]) };
            Call::NameToHandle { path, handle: a[2], mount_id: a[3], flags: a[4] as i32 }
        }
        nr::CHDIR => Call::Chdir { path: cwd },
        nr::CHROOT => Call::Chroot { path: cwd },
        nr::EXECVE => Call::Exec { path: cwd, arguments: a[1], environment: a[2], flags: 0 },
        nr::EXECVEAT => Call::Exec {
            path: PathArgument::at(a[0], a[1], a[4]),
            arguments: a[2],
            environment: a[3],
            flags: a[4] as i32,
        },
        nr::GETXATTR | nr::SETXATTR | nr::LISTXATTR | nr::REMOVEXATTR => {
            Call::Xattr { path: cwd, what: xattr(number, a) }
        }
        nr::LGETXATTR | nr::LSETXATTR | nr::LLISTXATTR | nr::LREMOVEXATTR => {
            Call::Xattr { path: PathArgument::at_cwd(a[0], false), what: xattr(number, a) }
        }
        _ => return None,
    })
}

/// What the extended attribute call of that number does.
fn xattr(number: i64, a: [u64; 6]) -> XattrCall {
    match number {
        nr::GETXATTR | nr::LGETXATTR | nr::FGETXATTR => XattrCall::Get { name: a[1], value: a[2], size: a[3] },
        nr::SETXATTR | nr::LSETXATTR | nr::FSETXATTR => {
            XattrCall::Set { name: a[1], value: a[2], size: a[3], flags: a[4] as i32 }
        }
        nr::LISTXATTR | nr::LLISTXATTR | nr::FLISTXATTR => XattrCall::List { list: a[1], size: a[2] },
        _ => XattrCall::Remove { name: a[1] },
    }
}

/// Calls about descriptors, sockets and the rest.
fn decode_descriptor(number: i64, a: [u64; 6]) -> Option<Call> {
    let path = PathArgument::descriptor(a[0]);
    let (socket, address) = (a[0] as i32, a[1]);
    Some(match number {
        nr::FSTAT => Call::Stat { path, flags: libc::AT_EMPTY_PATH, buffer: a[1] },
        nr::FCHMOD => Call::Chmod { path, mode: a[1] as u32 },
        nr::FCHOWN => Call::Chown { path, uid: a[1] as u32, gid: a[2] as u32 },
        nr::FGETXATTR | nr::FSETXATTR | nr::FLISTXATTR | nr::FREMOVEXATTR => {
            Call::Xattr { path, what: xattr(number, a) }
        }
        nr::GETCWD => Call::GetCwd { buffer: a[0], size: a[1] },
        nr::GETDENTS64 => Call::ReadDirectory { directory: a[0] as i32, buffer: a[1] },
        nr::BIND => Call::Bind { socket, address, length: a[2] as u32 },
        nr::CONNECT => Call::Connect { socket, address, length: a[2] as u32 },
        nr::SENDTO => Call::SendTo {
            socket,
            data: a[1],
            length: a[2],
            flags: a[3] as i32,
            address: a[4],
            address_length: a[5] as u32,
        },
        nr::GETSOCKOPT => Call::PeerCredentials { socket, value: a[3], length: a[4] },
        nr::IOCTL => Call::Terminal { fd: a[0] as i32, request: a[1], argument: a[2] },
        nr::UNAME => Call::Uname { buffer: a[0] },
        nr::EXIT | nr::EXIT_GROUP => Call::Exit { group: number == nr::EXIT_GROUP },
        _ => return None,
    })
}

fn decode_identity(number: i64, a: [u64; 6]) -> Option<IdentityCall> {
    let (first, second, third) = (a[0] as u32, a[1] as u32, a[2] as u32);
    Some(match number {
        nr::GETUID => IdentityCall::GetUid,
        nr::GETEUID => IdentityCall::GetEuid,
        nr::GETGID => IdentityCall::GetGid,
        nr::GETEGID => IdentityCall::GetEgid,
        nr::GETRESUID => IdentityCall::GetResUid { real: a[0], effective: a[1], saved: a[2] },
        nr::GETRESGID => IdentityCall::GetResGid { real: a[0], effective: a[1], saved: a[2] },
        nr::GETGROUPS => IdentityCall::GetGroups { size: a[0] as i32, list: a[1] },
        nr::SETUID => IdentityCall::SetUid(first),
        nr::SETGID => IdentityCall::SetGid(first),
        nr::SETREUID => IdentityCall::SetReUid { real: first, effective: second },
        nr::SETREGID => IdentityCall::SetReGid { real: first, effective: second },
        nr::SETRESUID => IdentityCall::SetResUid { real: first, effective: second, saved: third },
        nr::SETRESGID => IdentityCall::SetResGid { real: first, effective: second, saved: third },
        nr::SETFSUID => IdentityCall::SetFsUid(first),
        nr::SETFSGID => IdentityCall::SetFsGid(first),
        nr::SETGROUPS => IdentityCall::SetGroups { size: a[0] as i32, list: a[1] },
        nr::CAPGET => IdentityCall::CapGet { header: a[0], data: a[1] },
        nr::CAPSET => IdentityCall::CapSet { header: a[0], data: a[1] },
        nr::PRCTL => IdentityCall::Prctl { option: a[0] as i32, arguments: [a[1], a[2], a[3], a[4]] },
        _ => return None,
    })
}

fn decode_process(number: i64, a: [u64; 6]) -> Option<ProcessCall> {
    let (first, second, third) = (a[0] as i32, a[1] as i32, a[2] as i32);
    Some(match number {
        nr::KILL => ProcessCall::Kill { pid: first, signal: second },
        nr::TKILL => ProcessCall::ThreadKill { group: None, thread: first, signal: second },
        nr::TGKILL => ProcessCall::ThreadKill { group: Some(first), thread: second, signal: third },
        nr::RT_SIGQUEUEINFO => ProcessCall::Queue { group: None, target: first, signal: second, info: a[2] },
        nr::RT_TGSIGQUEUEINFO => ProcessCall::Queue { group: Some(first), target: second, signal: third, info: a[3] },
        nr::PIDFD_OPEN => ProcessCall::PidfdOpen { pid: first, flags: a[1] as u32 },
        nr::PTRACE => ProcessCall::Trace { pid: second },
        nr::PROCESS_VM_READV
        | nr::PROCESS_VM_WRITEV
        | nr::PRLIMIT64
        | nr::SCHED_SETPARAM
        | nr::SCHED_SETSCHEDULER
        | nr::SCHED_SETAFFINITY
        | nr::SCHED_SETATTR
        | nr::MIGRATE_PAGES
        | nr::MOVE_PAGES => ProcessCall::Reach { pid: first },
        nr::KCMP => ProcessCall::Compare { first, second },
        nr::SETPRIORITY => ProcessCall::Priority { which: first, who: second, process: PRIO_PROCESS },
        nr::IOPRIO_SET => ProcessCall::Priority { which: first, who: second, process: IOPRIO_WHO_PROCESS },
        _ => return None,
    })
}

/// What a caller gets for a number that decodes to nothing; the filter traps none such.
pub(crate) const UNKNOWN: Errno = Errno::NOSYS;
