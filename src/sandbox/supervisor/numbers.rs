//! Numbers of the system calls that the supervisor knows. Those that an architecture lacks are negative, each another one,
//! which no caller can make.
#![allow(missing_docs)] // the names are the calls'

macro_rules! common {
    ($($name:ident = $number:ident;)*) => { $(pub(crate) const $name: i64 = libc::$number as i64;)* };
}

common! {
    BRK = SYS_brk;
    OPENAT = SYS_openat;
    OPENAT2 = SYS_openat2;
    OPEN_TREE = SYS_open_tree;
    NEWFSTATAT = SYS_newfstatat;
    STATX = SYS_statx;
    STATFS = SYS_statfs;
    FSTATFS = SYS_fstatfs;
    FACCESSAT = SYS_faccessat;
    FACCESSAT2 = SYS_faccessat2;
    READLINKAT = SYS_readlinkat;
    FCHMODAT = SYS_fchmodat;
    FCHOWNAT = SYS_fchownat;
    UTIMENSAT = SYS_utimensat;
    TRUNCATE = SYS_truncate;
    MKDIRAT = SYS_mkdirat;
    MKNODAT = SYS_mknodat;
    UNLINKAT = SYS_unlinkat;
    RENAMEAT2 = SYS_renameat2;
    LINKAT = SYS_linkat;
    SYMLINKAT = SYS_symlinkat;
    INOTIFY_ADD_WATCH = SYS_inotify_add_watch;
    NAME_TO_HANDLE_AT = SYS_name_to_handle_at;
    CHDIR = SYS_chdir;
    CHROOT = SYS_chroot;
    EXECVE = SYS_execve;
    EXECVEAT = SYS_execveat;
    GETXATTR = SYS_getxattr;
    SETXATTR = SYS_setxattr;
    LISTXATTR = SYS_listxattr;
    REMOVEXATTR = SYS_removexattr;
    LGETXATTR = SYS_lgetxattr;
    LSETXATTR = SYS_lsetxattr;
    LLISTXATTR = SYS_llistxattr;
    LREMOVEXATTR = SYS_lremovexattr;
    FGETXATTR = SYS_fgetxattr;
    FSETXATTR = SYS_fsetxattr;
    FLISTXATTR = SYS_flistxattr;
    FREMOVEXATTR = SYS_fremovexattr;
    FSTAT = SYS_fstat;
    FSYNC = SYS_fsync;
    FDATASYNC = SYS_fdatasync;
    SYNCFS = SYS_syncfs;
    SYNC_FILE_RANGE = SYS_sync_file_range;
    FCHMOD = SYS_fchmod;
    FCHOWN = SYS_fchown;
    GETCWD = SYS_getcwd;
    GETDENTS64 = SYS_getdents64;
    SOCKET = SYS_socket;
    BIND = SYS_bind;
    CONNECT = SYS_connect;
    SENDTO = SYS_sendto;
    GETSOCKOPT = SYS_getsockopt;
    IOCTL = SYS_ioctl;
    UNAME = SYS_uname;
    EXIT = SYS_exit;
    EXIT_GROUP = SYS_exit_group;
    GETUID = SYS_getuid;
    GETEUID = SYS_geteuid;
    GETGID = SYS_getgid;
    GETEGID = SYS_getegid;
    GETRESUID = SYS_getresuid;
    GETRESGID = SYS_getresgid;
    GETGROUPS = SYS_getgroups;
    SETUID = SYS_setuid;
    SETGID = SYS_setgid;
    SETREUID = SYS_setreuid;
    SETREGID = SYS_setregid;
    SETRESUID = SYS_setresuid;
    SETRESGID = SYS_setresgid;
    SETFSUID = SYS_setfsuid;
    SETFSGID = SYS_setfsgid;
    SETGROUPS = SYS_setgroups;
    CAPGET = SYS_capget;
    CAPSET = SYS_capset;
    PRCTL = SYS_prctl;
    KILL = SYS_kill;
    TKILL = SYS_tkill;
    TGKILL = SYS_tgkill;
    RT_SIGQUEUEINFO = SYS_rt_sigqueueinfo;
    RT_TGSIGQUEUEINFO = SYS_rt_tgsigqueueinfo;
    PIDFD_OPEN = SYS_pidfd_open;
    PTRACE = SYS_ptrace;
    PROCESS_VM_READV = SYS_process_vm_readv;
    PROCESS_VM_WRITEV = SYS_process_vm_writev;
    PRLIMIT64 = SYS_prlimit64;
    SCHED_SETPARAM = SYS_sched_setparam;
    SCHED_SETSCHEDULER = SYS_sched_setscheduler;
    SCHED_SETAFFINITY = SYS_sched_setaffinity;
    SCHED_SETATTR = SYS_sched_setattr;
    MIGRATE_PAGES = SYS_migrate_pages;
    MOVE_PAGES = SYS_move_pages;
    KCMP = SYS_kcmp;
    SETPRIORITY = SYS_setpriority;
    IOPRIO_SET = SYS_ioprio_set;
    IO_URING_SETUP = SYS_io_uring_setup;
    IO_URING_ENTER = SYS_io_uring_enter;
    IO_URING_REGISTER = SYS_io_uring_register;
    KEYCTL = SYS_keyctl;
    ADD_KEY = SYS_add_key;
    REQUEST_KEY = SYS_request_key;
    PERF_EVENT_OPEN = SYS_perf_event_open;
    BPF = SYS_bpf;
    OPEN_BY_HANDLE_AT = SYS_open_by_handle_at;
}

/// Too new for the C library's list; the same number everywhere, see the kernel's scripts/syscall.tbl.
pub(crate) const FCHMODAT2: i64 = 452;
pub(crate) const FILE_GETATTR: i64 = 468;
pub(crate) const FILE_SETATTR: i64 = 469;
pub(crate) const STATMOUNT: i64 = 457;
pub(crate) const LISTMOUNT: i64 = 458;
/// `setxattrat`, `getxattrat`, `listxattrat`, `removexattrat`.
pub(crate) const XATTRS_AT: [i64; 4] = [463, GETXATTRAT, 465, 466];
pub(crate) const GETXATTRAT: i64 = 464;

#[cfg(target_arch = "x86_64")]
mod old {
    common! {
        OPEN = SYS_open;
        CREAT = SYS_creat;
        STAT = SYS_stat;
        LSTAT = SYS_lstat;
        ACCESS = SYS_access;
        READLINK = SYS_readlink;
        CHMOD = SYS_chmod;
        CHOWN = SYS_chown;
        LCHOWN = SYS_lchown;
        UTIME = SYS_utime;
        UTIMES = SYS_utimes;
        FUTIMESAT = SYS_futimesat;
        MKDIR = SYS_mkdir;
        MKNOD = SYS_mknod;
        UNLINK = SYS_unlink;
        RMDIR = SYS_rmdir;
        RENAME = SYS_rename;
        LINK = SYS_link;
        SYMLINK = SYS_symlink;
        RENAMEAT = SYS_renameat;
    }
}

#[cfg(target_arch = "aarch64")]
mod old {
    macro_rules! absent {
        ($($name:ident = $number:expr;)*) => { $(pub(crate) const $name: i64 = $number;)* };
    }

    absent! {
        OPEN = -1;
        CREAT = -2;
        STAT = -3;
        LSTAT = -4;
        ACCESS = -5;
        READLINK = -6;
        CHMOD = -7;
        CHOWN = -8;
        LCHOWN = -9;
        UTIME = -10;
        UTIMES = -11;
        FUTIMESAT = -12;
        MKDIR = -13;
        MKNOD = -14;
        UNLINK = -15;
        RMDIR = -16;
        RENAME = -17;
        LINK = -18;
        SYMLINK = -19;
    }
    common! {
        RENAMEAT = SYS_renameat;
    }
}

pub(crate) use old::*;
