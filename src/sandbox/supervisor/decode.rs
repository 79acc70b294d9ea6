//! From the number and the arguments of a system call to a [`Call`].

use super::call::{Call, IOPRIO_WHO_PROCESS, IdentityCall, PRIO_PROCESS, PathArgument, ProcessCall, Times, XattrCall};
use super::numbers as nr;

impl Call {
    /// The call of number `number`; `None` for one that no feature traps.
    pub fn decode(number: i64, a: [u64; 6]) -> Option<Call> {
        decode_path(number, a)
            .or_else(|| decode_modern(number, a))
            .or_else(|| decode_descriptor(number, a))
            .or_else(|| decode_identity(number, a).map(Call::Identity))
            .or_else(|| decode_process(number, a).map(Call::Process))
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
        nr::FSTATFS => Call::Statfs { path: PathArgument::descriptor(a[0]), buffer: a[1] },
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
