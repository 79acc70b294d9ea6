//! The seccomp filter of a step: which calls are handed over, refused or let through. Pure.

use super::call::TIOCGPTPEER;
use super::numbers as nr;
use super::shortcuts;
use crate::sys::Instruction;

/// Who files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// To the ids that the kernel keeps.
    Real,
    /// To recorded ids: the kernel has only one.
    Recorded,
}

/// What the supervisor does for a step. The filter hands over what that takes and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features {
    /// The ids of processes are emulated.
    pub credentials: bool,
    /// Who files belong to.
    pub ownership: Ownership,
    /// There are virtual places.
    pub places: bool,
    /// The step has the machine's root: every call about a path is made for it.
    pub emulated: bool,
    /// Calls that its threads are made to make (`restart`) have this number in their last argument, which they do not use.
    pub pass: Option<u64>,
    /// Calls that look at files have this number in their last argument where they need no supervisor: see `shortcuts`.
    pub shortcuts: Option<u64>,
    /// The machine has another name for the step.
    pub hostname: bool,
    /// No network but what local sockets give.
    pub no_network: bool,
    /// There is no pid namespace: processes outside the step are to be left alone.
    pub outsiders: bool,
    /// Nothing that the step writes has to be on disk before the step is over.
    pub volatile: bool,
}

/// What the filter does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    HandOver,
    Refuse(i32),
    Kill,
    Allow,
}

/// A condition on one argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// The argument's low 32 bits are one of these.
    OneOf(u8, &'static [u32]),
    /// The argument is this.
    Is(u8, u64),
    /// The last argument is this, and none of these bits is set in another one.
    Token(u64, u8, u32),
    /// A dynamic linker maps code: mmap(2) with `PROT_EXEC` and `MAP_DENYWRITE`, which means nothing and which only they give.
    MapsCode,
    /// None of the argument's 64 bits is set: not so.
    NotZero(u8),
    /// The call names a path: not so where its flags (this argument) have `AT_EMPTY_PATH` and its first argument is a
    /// descriptor. Whoever gives a path all the same gets what the kernel finds there, which is nothing in a place.
    Named(u8),
}

struct Rule {
    number: i64,
    when: When,
    verdict: Verdict,
}

/// Calls about a path.
const PATHS: &[i64] = &[
    nr::OPEN,
    nr::CREAT,
    nr::STAT,
    nr::LSTAT,
    nr::ACCESS,
    nr::READLINK,
    nr::CHMOD,
    nr::CHOWN,
    nr::LCHOWN,
    nr::UTIME,
    nr::UTIMES,
    nr::FUTIMESAT,
    nr::MKDIR,
    nr::MKNOD,
    nr::UNLINK,
    nr::RMDIR,
    nr::RENAME,
    nr::LINK,
    nr::SYMLINK,
    nr::RENAMEAT,
    nr::OPENAT,
    nr::OPENAT2,
    nr::OPEN_TREE,
    nr::STATFS,
    nr::FACCESSAT,
    nr::FACCESSAT2,
    nr::READLINKAT,
    nr::FCHMODAT,
    nr::FCHMODAT2,
    nr::FCHOWNAT,
    nr::UTIMENSAT,
    nr::TRUNCATE,
    nr::MKDIRAT,
    nr::MKNODAT,
    nr::UNLINKAT,
    nr::RENAMEAT2,
    nr::LINKAT,
    nr::SYMLINKAT,
    nr::FILE_GETATTR,
    nr::FILE_SETATTR,
    nr::INOTIFY_ADD_WATCH,
    nr::NAME_TO_HANDLE_AT,
    nr::CHDIR,
    nr::EXECVE,
    nr::EXECVEAT,
    nr::GETXATTR,
    nr::SETXATTR,
    nr::LISTXATTR,
    nr::REMOVEXATTR,
    nr::LGETXATTR,
    nr::LSETXATTR,
    nr::LLISTXATTR,
    nr::LREMOVEXATTR,
    nr::BIND,
    nr::CONNECT,
];

/// Calls that threads are made to make. None uses its last argument.
const RESTARTED: &[i64] = &[nr::EXECVEAT, nr::OPENAT, nr::BIND, nr::CONNECT, nr::INOTIFY_ADD_WATCH];

/// Calls that look at files, which programs make past the supervisor: none uses its last argument.
const SHORTCUTS: &[i64] = &[
    nr::STAT,
    nr::LSTAT,
    nr::NEWFSTATAT,
    nr::STATX,
    nr::ACCESS,
    nr::FACCESSAT,
    nr::FACCESSAT2,
    nr::READLINK,
    nr::READLINKAT,
];

/// Those that ask whether a file has a record, and fstat(2), which then is handed over, too.
const RECORD_SHORTCUTS: &[i64] = &[nr::FSTAT, nr::GETXATTR, nr::LGETXATTR, nr::FGETXATTR];

/// What may not be asked of openat(2) besides to read: all but `O_NOCTTY`, `O_NONBLOCK`, `O_LARGEFILE` (as the kernel has it),
/// `O_DIRECTORY`, `O_NOFOLLOW`, `O_CLOEXEC`.
const MORE_THAN_READING: u32 =
    !(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u32 & !0o100000;

/// Calls that change a file by its descriptor: natively a process with emulated ids could do too much.
const DESCRIPTOR_CHANGES: &[i64] = &[nr::FCHMOD, nr::FCHOWN, nr::FSETXATTR, nr::FREMOVEXATTR];

/// Calls that tell of a file by its descriptor: with recorded ownership the kernel's answer is not the right one.
const DESCRIPTOR_READS: &[i64] = &[nr::FSTAT, nr::FGETXATTR, nr::FLISTXATTR];

/// Calls about the caller's ids.
const IDENTITY: &[i64] = &[
    nr::GETUID,
    nr::GETEUID,
    nr::GETGID,
    nr::GETEGID,
    nr::GETRESUID,
    nr::GETRESGID,
    nr::GETGROUPS,
    nr::SETUID,
    nr::SETGID,
    nr::SETREUID,
    nr::SETREGID,
    nr::SETRESUID,
    nr::SETRESGID,
    nr::SETFSUID,
    nr::SETFSGID,
    nr::SETGROUPS,
    nr::CAPGET,
    nr::CAPSET,
    nr::EXIT,
    nr::EXIT_GROUP,
];

/// prctl(2) options about credentials: PR_{GET,SET}_DUMPABLE, _KEEPCAPS, _SECUREBITS, _NO_NEW_PRIVS, PR_CAPBSET_*,
/// PR_CAP_AMBIENT. A process that is not dumpable could not be supervised, so that is emulated, too.
const PRCTL_OPTIONS: &[u32] = &[3, 4, 7, 8, 23, 24, 27, 28, 38, 39, 47];

/// Calls that act on another process.
const PROCESSES: &[i64] = &[
    nr::KILL,
    nr::TKILL,
    nr::TGKILL,
    nr::RT_SIGQUEUEINFO,
    nr::RT_TGSIGQUEUEINFO,
    nr::PIDFD_OPEN,
    nr::PROCESS_VM_READV,
    nr::PROCESS_VM_WRITEV,
    nr::KCMP,
    nr::SETPRIORITY,
    nr::IOPRIO_SET,
];

/// Calls about a process that is their first argument, where 0 is the caller: those need no look.
const REACHING: &[i64] = &[
    nr::PRLIMIT64,
    nr::SCHED_SETPARAM,
    nr::SCHED_SETSCHEDULER,
    nr::SCHED_SETAFFINITY,
    nr::SCHED_SETATTR,
    nr::MIGRATE_PAGES,
    nr::MOVE_PAGES,
];

/// Calls that wait until a file, or all of a file system, is on disk.
const SYNCS: &[i64] = &[nr::FSYNC, nr::FDATASYNC, nr::SYNCFS, nr::SYNC_FILE_RANGE];

/// The error number of a call that is not made and succeeds.
const DONE: i32 = 0;

/// Refused with EPERM as Docker's profile does: they reach what belongs to the whole user (keyrings) or machine.
const DENIED: &[i64] =
    &[nr::KEYCTL, nr::ADD_KEY, nr::REQUEST_KEY, nr::PERF_EVENT_OPEN, nr::BPF, nr::OPEN_BY_HANDLE_AT, nr::CHROOT];

/// `TIOCGPTN`, `TIOCGPTPEER`: which terminal a pty is.
const TERMINAL_REQUESTS: &[u32] = &[0x8004_5430, TIOCGPTPEER as u32];

impl Features {
    /// The rules, in the order in which they are tried for a number.
    fn rules(self) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut add = |numbers: &[i64], when: When, verdict: Verdict| {
            rules.extend(numbers.iter().filter(|number| **number >= 0).map(|number| Rule {
                number: *number,
                when,
                verdict,
            }));
        };
        let recorded = self.ownership == Ownership::Recorded;
        if let Some(pass) = self.pass {
            add(RESTARTED, When::Is(5, pass), Verdict::Allow);
        }
        if let Some(token) = self.shortcuts {
            let past = |more| When::Token(token, 2, more);
            match (self.emulated, recorded) {
                (true, _) => add(&[nr::NEWFSTATAT, nr::FGETXATTR], past(0), Verdict::Allow),
                (false, true) => {
                    add(SHORTCUTS, past(0), Verdict::Allow);
                    add(RECORD_SHORTCUTS, past(0), Verdict::Allow);
                    add(&[nr::OPENAT], past(MORE_THAN_READING), Verdict::Allow);
                }
                (false, false) => {
                    add(SHORTCUTS, past(0), Verdict::Allow);
                    add(&[nr::OPENAT], past(MORE_THAN_READING), Verdict::Allow);
                    add(&[nr::GETDENTS64], past(0), Verdict::Allow);
                }
            }
            if recorded {
                add(&[nr::GETXATTRAT], When::Is(5, shortcuts::ARGUMENTS_LENGTH.into()), Verdict::Allow);
            }
            if !self.emulated {
                add(&[nr::MMAP], When::MapsCode, Verdict::HandOver); // what it opens is given to it there
            }
        }
        if self.emulated {
            // Its threads are traced whenever they run a program or change their directory.
            add(&[nr::PTRACE], When::Always, Verdict::Refuse(libc::EPERM));
        }
        // io_uring makes calls that no filter sees.
        let ring = [nr::IO_URING_SETUP, nr::IO_URING_ENTER, nr::IO_URING_REGISTER];
        add(&ring, When::Always, Verdict::Refuse(libc::ENOSYS));
        if self.places || self.credentials {
            add(PATHS, When::Always, Verdict::HandOver);
            // With real owners the kernel knows all about an open file.
            let named = |flags| if recorded { When::Always } else { When::Named(flags) };
            add(&[nr::NEWFSTATAT], named(3), Verdict::HandOver);
            add(&[nr::STATX], named(2), Verdict::HandOver);
            add(&[nr::SENDTO], When::NotZero(4), Verdict::HandOver);
            // Programs fall back to the older calls.
            add(&nr::XATTRS_AT, When::Always, Verdict::Refuse(libc::ENOSYS));
        }
        if self.places {
            add(&[nr::GETCWD, nr::GETDENTS64, nr::CHROOT, nr::FSTATFS], When::Always, Verdict::HandOver);
            add(&[nr::IOCTL], When::OneOf(1, TERMINAL_REQUESTS), Verdict::HandOver);
            // They tell of the mounts outside; mountinfo is the way that everybody has.
            add(&[nr::STATMOUNT, nr::LISTMOUNT], When::Always, Verdict::Refuse(libc::ENOSYS));
        }
        if self.credentials {
            add(IDENTITY, When::Always, Verdict::HandOver);
            add(&[nr::PRCTL], When::OneOf(0, PRCTL_OPTIONS), Verdict::HandOver);
            add(DESCRIPTOR_CHANGES, When::Always, Verdict::HandOver);
            add(&[nr::GETSOCKOPT], When::OneOf(2, &[libc::SO_PEERCRED as u32]), Verdict::HandOver);
        }
        if recorded {
            add(DESCRIPTOR_READS, When::Always, Verdict::HandOver);
            add(&[nr::CHROOT], When::Always, Verdict::HandOver);
        }
        if self.credentials || self.outsiders {
            add(PROCESSES, When::Always, Verdict::HandOver);
        }
        if self.outsiders {
            add(REACHING, When::NotZero(0), Verdict::HandOver);
            add(&[nr::PTRACE], When::OneOf(0, &[libc::PTRACE_ATTACH as _, libc::PTRACE_SEIZE as _]), Verdict::HandOver);
            add(DENIED, When::Always, Verdict::Refuse(libc::EPERM));
        }
        if self.hostname {
            add(&[nr::UNAME], When::Always, Verdict::HandOver);
        }
        if self.volatile {
            add(SYNCS, When::Always, Verdict::Refuse(DONE));
        }
        if self.no_network {
            let families =
                &[libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_PACKET as u32, libc::AF_NETLINK as u32];
            add(&[nr::SOCKET], When::OneOf(0, families), Verdict::Refuse(libc::EACCES));
        }
        rules
    }

    /// The filter. Calls of another architecture, and of x32, are killed: their numbers mean other calls.
    pub(crate) fn program(self) -> Vec<Instruction> {
        let mut out = vec![load(ARCHITECTURE), jump(EQUAL, AUDIT_ARCH, 1, 0), verdict(Verdict::Kill), load(NUMBER)];
        if cfg!(target_arch = "x86_64") {
            out.extend([jump(AT_LEAST, X32_BIT, 0, 1), verdict(Verdict::Kill)]);
        }
        for rule in self.rules() {
            let body = rule.body();
            out.push(jump(EQUAL, rule.number as u32, 0, body.len() as u8));
            out.extend(body);
        }
        out.push(give(libc::SECCOMP_RET_ALLOW));
        out
    }
}

impl Rule {
    /// What follows the comparison of the number.
    fn body(&self) -> Vec<Instruction> {
        let end = verdict(self.verdict);
        match self.when {
            When::Always => vec![end],
            When::NotZero(argument) => vec![
                load(low(argument)),
                jump(EQUAL, 0, 0, 2),
                load(high(argument)),
                jump(EQUAL, 0, 1, 0),
                end,
                load(NUMBER),
            ],
            When::Is(argument, value) => vec![
                load(low(argument)),
                jump(EQUAL, value as u32, 0, 3),
                load(high(argument)),
                jump(EQUAL, (value >> 32) as u32, 0, 1),
                end,
                load(NUMBER),
            ],
            When::Token(value, argument, unwanted) => vec![
                load(low(5)),
                jump(EQUAL, value as u32, 0, 5),
                load(high(5)),
                jump(EQUAL, (value >> 32) as u32, 0, 3),
                load(low(argument)),
                jump(ANY_BIT, unwanted, 1, 0),
                end,
                load(NUMBER),
            ],
            When::MapsCode => vec![
                load(low(2)),
                jump(ANY_BIT, libc::PROT_EXEC as u32, 0, 3),
                load(low(3)),
                jump(ANY_BIT, libc::MAP_DENYWRITE as u32, 0, 1),
                end,
                load(NUMBER),
            ],
            When::Named(flags) => vec![
                load(low(flags)),
                jump(ANY_BIT, libc::AT_EMPTY_PATH as u32, 0, 2),
                load(low(0)),
                jump(AT_LEAST, 1 << 31, 0, 1), // AT_FDCWD is negative
                end,
                give(libc::SECCOMP_RET_ALLOW),
            ],
            When::OneOf(argument, values) => {
                let mut out = vec![load(low(argument))];
                for (at, value) in values.iter().enumerate() {
                    let left = (values.len() - at - 1) as u8;
                    // Where true: to the verdict. Where false: on, from the last one past the verdict.
                    out.push(jump(EQUAL, *value, left, u8::from(left == 0)));
                }
                out.extend([end, load(NUMBER)]);
                out
            }
        }
    }
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

fn low(argument: u8) -> u32 {
    16 + 8 * u32::from(argument) + if cfg!(target_endian = "big") { 4 } else { 0 }
}

fn high(argument: u8) -> u32 {
    16 + 8 * u32::from(argument) + if cfg!(target_endian = "big") { 0 } else { 4 }
}

/// Numbers of x32 have this bit; others are below.
const X32_BIT: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

const EQUAL: u32 = libc::BPF_JEQ;
const AT_LEAST: u32 = libc::BPF_JGE;
const ANY_BIT: u32 = libc::BPF_JSET;

/// A filter that hands over mknod(2) of devices and, with `outsiders`, what acts on other processes; nothing else. Other
/// architectures' calls stay what they are.
pub(crate) fn device_nodes(outsiders: bool) -> Vec<Instruction> {
    let mut out = vec![load(ARCHITECTURE), jump(EQUAL, AUDIT_ARCH, 1, 0), give(libc::SECCOMP_RET_ALLOW), load(NUMBER)];
    for (number, mode) in [(nr::MKNOD, 1), (nr::MKNODAT, 2)] {
        out.extend([
            jump(EQUAL, number as u32, 0, 6),
            load(low(mode)),
            Instruction { code: (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, jt: 0, jf: 0, k: libc::S_IFMT },
            jump(EQUAL, libc::S_IFCHR, 1, 0),
            jump(EQUAL, libc::S_IFBLK, 0, 1),
            verdict(Verdict::HandOver),
            give(libc::SECCOMP_RET_ALLOW),
        ]);
    }
    let others = [(PROCESSES, When::Always), (REACHING, When::NotZero(0))];
    for (numbers, when) in others.into_iter().filter(|_| outsiders) {
        for number in numbers.iter().copied().filter(|number| *number >= 0) {
            let body = Rule { number, when, verdict: Verdict::HandOver }.body();
            out.push(jump(EQUAL, number as u32, 0, body.len() as u8));
            out.extend(body);
        }
    }
    out.push(give(libc::SECCOMP_RET_ALLOW));
    out
}

/// Whether `number` is mknodat, or mknod; `None` for another call.
pub(crate) fn is_mknodat(number: i64) -> Option<bool> {
    match number {
        nr::MKNODAT => Some(true),
        nr::MKNOD => Some(false),
        _ => None,
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(test: u32, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code: (libc::BPF_JMP | libc::BPF_K | test) as u16, jt: yes, jf: no, k: value }
}

fn give(action: u32) -> Instruction {
    Instruction { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

fn verdict(verdict: Verdict) -> Instruction {
    give(match verdict {
        Verdict::HandOver => libc::SECCOMP_RET_USER_NOTIF,
        Verdict::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
    })
}

#[cfg(test)]
mod tests {
    use super::super::call::Call;
    use super::*;

    const ALL: Features = Features {
        credentials: true,
        ownership: Ownership::Recorded,
        places: true,
        emulated: false,
        pass: None,
        shortcuts: None,
        hostname: true,
        no_network: true,
        outsiders: true,
        volatile: true,
    };

    /// Runs the filter as the kernel does.
    fn run(program: &[Instruction], number: i64, arguments: [u64; 6], architecture: u32) -> u32 {
        let mut data = Vec::new();
        data.extend((number as u32).to_ne_bytes());
        data.extend(architecture.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = program[at];
            at += 1;
            let (class, test) = (u32::from(step.code) & 7, u32::from(step.code) & 0xf0);
            if class == libc::BPF_RET {
                return step.k;
            } else if class == libc::BPF_LD {
                let bytes = &data[step.k as usize..][..4];
                accumulator = u32::from_ne_bytes(bytes.try_into().unwrap());
            } else {
                let holds = match test {
                    EQUAL => accumulator == step.k,
                    ANY_BIT => accumulator & step.k != 0,
                    _ => accumulator >= step.k,
                };
                at += usize::from(if holds { step.jt } else { step.jf });
            }
        }
    }

    fn all(number: i64, arguments: [u64; 6]) -> u32 {
        run(&ALL.program(), number, arguments, AUDIT_ARCH)
    }

    #[test]
    fn gives_each_call_its_verdict() {
        let (notify, allow) = (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW);
        let refused = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
        let table = [
            (nr::OPENAT, [0; 6], notify),
            (libc::SYS_read, [0; 6], allow),
            (libc::SYS_mmap, [0; 6], allow),
            (nr::FSYNC, [0; 6], refused(0)),
            (nr::IO_URING_SETUP, [0; 6], refused(libc::ENOSYS)),
            (nr::PRCTL, [4, 0, 0, 0, 0, 0], notify),
            (nr::PRCTL, [3, 0, 0, 0, 0, 0], notify),
            (nr::PRCTL, [47, 0, 0, 0, 0, 0], notify),
            (nr::PRCTL, [15, 0, 0, 0, 0, 0], allow),
            (nr::SENDTO, [0; 6], allow),
            (nr::SENDTO, [0, 0, 0, 0, 7, 0], notify),
            (nr::SENDTO, [0, 0, 0, 0, 7 << 32, 0], notify),
            (nr::SOCKET, [libc::AF_UNIX as u64, 0, 0, 0, 0, 0], allow),
            (nr::SOCKET, [libc::AF_INET as u64, 0, 0, 0, 0, 0], refused(libc::EACCES)),
            (nr::SOCKET, [libc::AF_NETLINK as u64, 0, 0, 0, 0, 0], refused(libc::EACCES)),
            (nr::PTRACE, [0, 1, 0, 0, 0, 0], allow),
            (nr::PTRACE, [libc::PTRACE_SEIZE as u64, 1, 0, 0, 0, 0], notify),
            (nr::PRLIMIT64, [0; 6], allow),
            (nr::PRLIMIT64, [5, 0, 0, 0, 0, 0], notify),
            (nr::IOCTL, [0, 0x8004_5430, 0, 0, 0, 0], notify),
            (nr::IOCTL, [0, 0x5401, 0, 0, 0, 0], allow),
            (nr::KEYCTL, [0; 6], refused(libc::EPERM)),
        ];
        for (number, arguments, expected) in table {
            assert_eq!(all(number, arguments), expected, "call {number} {arguments:?}");
        }
        assert_eq!(run(&ALL.program(), 5, [0; 6], 0x4000_0003), libc::SECCOMP_RET_KILL_PROCESS, "i386");
        #[cfg(target_arch = "x86_64")]
        assert_eq!(all(nr::OPENAT | 0x4000_0000, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS, "x32");
    }

    #[test]
    fn lets_restarted_calls_pass() {
        let pass = 0x1234_5678_9abc_def1;
        let program = Features { emulated: true, pass: Some(pass), ..ALL }.program();
        let verdict = |number, last| run(&program, number, [7, 7, 7, 7, 7, last], AUDIT_ARCH);
        for number in RESTARTED {
            assert_eq!(verdict(*number, pass), libc::SECCOMP_RET_ALLOW, "call {number}");
            for other in [0, pass ^ 1, pass ^ (1 << 63)] {
                assert_eq!(verdict(*number, other), libc::SECCOMP_RET_USER_NOTIF, "call {number}");
            }
        }
        assert_eq!(verdict(nr::NEWFSTATAT, pass), libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(verdict(nr::PTRACE, pass), libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    }

    #[test]
    fn lets_shortcuts_pass() {
        let token = 0x1234_5678_9abc_def1;
        let program = Features { shortcuts: Some(token), ownership: Ownership::Real, ..ALL }.program();
        let verdict = |number, arguments| run(&program, number, arguments, AUDIT_ARCH);
        let (notify, allow) = (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW);
        for number in SHORTCUTS.iter().copied().filter(|number| *number >= 0) {
            assert_eq!(verdict(number, [7, 7, 7, 0x100, 7, token]), allow, "call {number}");
            for other in [0, token ^ 1, token ^ (1 << 63)] {
                assert_eq!(verdict(number, [7, 7, 7, 0x100, 7, other]), notify, "call {number}");
            }
        }
        let open = |flags: i32| verdict(nr::OPENAT, [7, 7, flags as u64, 0, 0, token]);
        for flags in [0, libc::O_CLOEXEC, libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0o100000] {
            assert_eq!(open(flags), allow, "{flags:o}");
        }
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_PATH, libc::O_TMPFILE] {
            assert_eq!(open(flags | libc::O_CLOEXEC), notify, "{flags:o}");
        }
        for number in [nr::UNLINKAT, nr::FCHMODAT, nr::EXECVEAT, nr::LINKAT, nr::OPENAT2, nr::GETXATTR] {
            assert_eq!(verdict(number, [7, 7, 0, 0, 0, token]), notify, "call {number}");
        }
        let map = |protection: i32, flags: i32| verdict(nr::MMAP, [0, 1, protection as u64, flags as u64, 3, 0]);
        let (code, data) = (libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE);
        assert_eq!(map(code, libc::MAP_PRIVATE | libc::MAP_DENYWRITE), notify);
        assert_eq!(map(code, libc::MAP_PRIVATE), allow);
        assert_eq!(map(code, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), allow);
        assert_eq!(map(data, libc::MAP_PRIVATE | libc::MAP_DENYWRITE), allow);
    }

    #[test]
    fn hands_over_little_where_ids_are_real() {
        let verdict = |outsiders, number, arguments| {
            run(&device_nodes(outsiders), number, arguments, AUDIT_ARCH) == libc::SECCOMP_RET_USER_NOTIF
        };
        for (number, arguments, always, with_outsiders) in [
            (nr::MKNOD, [0, u64::from(libc::S_IFCHR), 0, 0, 0, 0], true, true),
            (nr::MKNODAT, [0, 0, u64::from(libc::S_IFBLK), 0, 0, 0], true, true),
            (nr::MKNOD, [0, u64::from(libc::S_IFIFO), 0, 0, 0, 0], false, false),
            (nr::KILL, [1, 9, 0, 0, 0, 0], false, true),
            (nr::PRLIMIT64, [7, 0, 0, 0, 0, 0], false, true),
            (nr::PRLIMIT64, [0; 6], false, false),
            (nr::OPENAT, [0; 6], false, false),
        ] {
            assert_eq!(verdict(false, number, arguments), always, "call {number}");
            assert_eq!(verdict(true, number, arguments), with_outsiders, "call {number}");
        }
        assert_eq!(run(&device_nodes(true), nr::KILL, [0; 6], 0x4000_0003), libc::SECCOMP_RET_ALLOW, "i386");
    }

    #[test]
    fn leaves_open_files_to_the_kernel_where_owners_are_real() {
        let real = Features { ownership: Ownership::Real, ..ALL };
        let verdict = |features: Features, arguments| run(&features.program(), nr::NEWFSTATAT, arguments, AUDIT_ARCH);
        let (by_descriptor, handed) = ([5, 1, 1, 0x1000, 0, 0], libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(verdict(real, by_descriptor), libc::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(ALL, by_descriptor), handed);
        assert_eq!(verdict(real, [5, 1, 1, 0x100, 0, 0]), handed);
        assert_eq!(verdict(real, [-100i64 as u64, 1, 1, 0x1000, 0, 0]), handed);
    }

    #[test]
    fn every_call_that_is_handed_over_decodes() {
        for rule in ALL.rules().iter().filter(|rule| rule.verdict == Verdict::HandOver) {
            assert!(Call::decode(rule.number, [0; 6]).is_some(), "call {}", rule.number);
        }
    }

    #[test]
    fn traps_nothing_that_no_feature_asks_for() {
        let none = Features {
            credentials: false,
            ownership: Ownership::Real,
            places: false,
            emulated: false,
            pass: None,
            shortcuts: None,
            hostname: false,
            no_network: false,
            outsiders: false,
            volatile: false,
        };
        for number in [nr::OPENAT, nr::SETUID, nr::KILL, nr::SOCKET, nr::FSTAT, nr::FSYNC] {
            assert_eq!(run(&none.program(), number, [9; 6], AUDIT_ARCH), libc::SECCOMP_RET_ALLOW, "call {number}");
        }
    }
}
