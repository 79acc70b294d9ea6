//! What a command may see and change of `/proc` and `/sys`. Pure.
//!
//! The rules are Docker's: some parts are hidden, some read-only. A command that is not in a pid namespace of its own sees
//! only its own step's processes all the same, and since a step's processes really run as one id while they believe in
//! others, who may look into which process is decided here, by proc(5) and `ptrace_may_access`.

use rustix::io::Errno;

/// Paths below `/proc` that Docker hides from containers.
pub(crate) const PROC_MASKED: [&str; 10] = [
    "asound",
    "acpi",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
];

/// Paths below `/proc` that Docker makes read-only.
pub(crate) const PROC_READONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Paths below `/sys` that Docker hides from containers.
pub(crate) const SYS_MASKED: [&str; 2] = ["firmware", "devices/virtual/powercap"];

/// What a path below `/proc` is. Paths are without links, and without the slash before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcPath<'a> {
    /// `/proc/self`: a link to the caller's own.
    OwnProcess,
    /// `/proc/thread-self`.
    OwnThread,
    /// `/proc/PID` or something below it.
    Process(ProcessPath<'a>),
    /// Something about the whole machine.
    Global,
}

/// A path below `/proc/PID`, or `/proc/PID/task/TID`, which is alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessPath<'a> {
    /// The process.
    pub id: u32,
    /// The thread, in a path below `task`.
    pub thread: Option<u32>,
    /// The rest; nothing for the directory of the process or thread itself.
    pub rest: &'a [u8],
}

/// A file of a process that is written by ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synthesised {
    /// `mounts`.
    Mounts,
    /// `mountinfo`.
    MountInfo,
    /// `mountstats`.
    MountStats,
    /// `maps`, `smaps`, `numa_maps`: with the step's paths, where the kernel has others.
    Maps,
    /// `status`: ids, groups and capabilities as the process believes them.
    Status,
}

/// What `path` below `/proc` is.
pub(crate) fn parse(path: &[u8]) -> ProcPath<'_> {
    match path {
        b"self" => return ProcPath::OwnProcess,
        b"thread-self" => return ProcPath::OwnThread,
        _ => {}
    }
    let (first, rest) = split(path);
    let Some(id) = number(first) else { return ProcPath::Global };
    let whole = ProcPath::Process(ProcessPath { id, thread: None, rest });
    let (task, below) = split(rest);
    let (thread, rest) = split(below);
    match number(thread) {
        Some(thread) if task == b"task" => ProcPath::Process(ProcessPath { id, thread: Some(thread), rest }),
        _ => whole,
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, &[]),
    }
}

/// A number as names in /proc have it: no sign, no zero in front.
fn number(name: &[u8]) -> Option<u32> {
    let plain = name.iter().all(u8::is_ascii_digit) && name.first() != Some(&b'0');
    std::str::from_utf8(name).ok().filter(|_| plain)?.parse().ok()
}

/// Whether `path` is one of `list`, or below one.
pub(crate) fn among(list: &[&str], path: &[u8]) -> bool {
    list.iter().any(|one| matches!(path.strip_prefix(one.as_bytes()), Some([] | [b'/', ..])))
}

impl ProcessPath<'_> {
    /// Whether it is a link that leads to an object by itself.
    pub(crate) fn is_magic(&self) -> bool {
        let (first, rest) = split(self.rest);
        match first {
            b"exe" | b"cwd" | b"root" => rest.is_empty(),
            b"fd" | b"map_files" | b"ns" => !rest.is_empty() && !rest.contains(&b'/'),
            _ => false,
        }
    }

    /// Whether the path goes on behind such a link: then it is of something else than the process.
    pub(crate) fn leads_elsewhere(&self) -> bool {
        let (first, rest) = split(self.rest);
        match first {
            b"exe" | b"cwd" | b"root" => !rest.is_empty(),
            b"fd" | b"map_files" | b"ns" => rest.contains(&b'/'),
            _ => false,
        }
    }

    /// Which file of ours stands there, if one does.
    pub(crate) fn synthesised(&self) -> Option<Synthesised> {
        Some(match self.rest {
            b"mounts" => Synthesised::Mounts,
            b"mountinfo" => Synthesised::MountInfo,
            b"mountstats" => Synthesised::MountStats,
            b"maps" | b"smaps" | b"numa_maps" => Synthesised::Maps,
            b"status" => Synthesised::Status,
            _ => return None,
        })
    }

    /// Whether the kernel asks `ptrace_may_access` of who opens, reads or follows it, on top of its mode.
    pub(crate) fn is_guarded(&self) -> bool {
        const GUARDED: [&[u8]; 22] = [
            b"auxv",
            b"cwd",
            b"environ",
            b"exe",
            b"fd",
            b"fdinfo",
            b"io",
            b"map_files",
            b"maps",
            b"mem",
            b"mountinfo",
            b"mounts",
            b"mountstats",
            b"ns",
            b"numa_maps",
            b"pagemap",
            b"personality",
            b"root",
            b"smaps",
            b"smaps_rollup",
            b"stack",
            b"syscall",
        ];
        GUARDED.contains(&split(self.rest).0)
    }
}

/// Who looks, or is looked at, as far as it counts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Person {
    /// The user id that counts for files: of one who looks the file system id, of one who is looked at the effective id.
    pub uid: u32,
    /// The group id, likewise.
    pub gid: u32,
    /// One who looks: whether permissions of files do not hold for it (`CAP_DAC_OVERRIDE`).
    pub overrides: bool,
    /// One who looks: whether it may look into every process (`CAP_SYS_PTRACE`, which no step has, or all that another has).
    pub traces: bool,
}

/// Whether `looker` may do `wanted` (bits as in access(2)) with a file of mode `mode` at `path` of a process of `owner`.
/// `own` tells that it is the looker's own process.
pub(crate) fn access(
    path: &ProcessPath<'_>,
    mode: u32,
    owner: Person,
    looker: Person,
    own: bool,
    wanted: u32,
) -> Result<(), Errno> {
    let class = match looker {
        _ if looker.uid == owner.uid => 6,
        _ if looker.gid == owner.gid => 3,
        _ => 0,
    };
    // A process always reaches its own descriptors (proc_fd_permission), whatever its ids are.
    let own_descriptors = own && matches!(path.rest, b"fd" | b"fdinfo");
    let granted = (mode >> class) & 7;
    if granted & wanted != wanted && !looker.overrides && !own_descriptors {
        return Err(Errno::ACCESS);
    }
    if path.is_guarded() && !own && !looker.traces && (looker.uid, looker.gid) != (owner.uid, owner.gid) {
        return Err(Errno::ACCESS);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(path: &str) -> ProcessPath<'_> {
        match parse(path.as_bytes()) {
            ProcPath::Process(process) => process,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn tells_processes_from_the_rest() {
        let path = |id, thread, rest: &'static str| ProcessPath { id, thread, rest: rest.as_bytes() };
        let cases = [
            ("1", path(1, None, "")),
            ("42/fd/3", path(42, None, "fd/3")),
            ("42/task", path(42, None, "task")),
            ("42/task/43", path(42, Some(43), "")),
            ("42/task/43/fd/1", path(42, Some(43), "fd/1")),
            ("42/task/x", path(42, None, "task/x")),
        ];
        for (text, wanted) in cases {
            assert_eq!(process(text), wanted, "{text}");
        }
        for text in ["", "sys/kernel", "042", "4x", "-1", "99999999999", "uptime", "self/fd"] {
            assert_eq!(parse(text.as_bytes()), ProcPath::Global, "{text}");
        }
        assert_eq!((parse(b"self"), parse(b"thread-self")), (ProcPath::OwnProcess, ProcPath::OwnThread));
    }

    #[test]
    fn knows_magic_links() {
        for (text, wanted) in [
            ("1/exe", true),
            ("1/task/2/cwd", true),
            ("1/fd/3", true),
            ("1/ns/mnt", true),
            ("1/fd", false),
            ("1/fdinfo/3", false),
            ("1/task/2", false),
            ("1/root/x", false),
        ] {
            assert_eq!(process(text).is_magic(), wanted, "{text}");
        }
        for text in ["1/cwd/x", "1/task/2/root/x", "1/fd/3/x", "1/fd/3/x/y"] {
            assert!(process(text).leads_elsewhere(), "{text}");
        }
        for text in ["1", "1/cwd", "1/fd", "1/fd/3", "1/fdinfo/3", "1/attr/current"] {
            assert!(!process(text).leads_elsewhere(), "{text}");
        }
    }

    #[test]
    fn covers_what_lies_below() {
        for (path, wanted) in [("kcore", true), ("acpi/x", true), ("kcores", false), ("", false), ("1/keys", false)] {
            assert_eq!(among(&PROC_MASKED, path.as_bytes()), wanted, "{path}");
        }
    }

    #[test]
    fn decides_who_may_look() {
        let person = |uid, gid| Person { uid, gid, overrides: false, traces: false };
        let root = Person { uid: 0, gid: 0, overrides: true, traces: true };
        let (app, other) = (person(1000, 1000), person(1001, 1001));
        let cases = [
            // path, mode, owner, looker, own, wanted, allowed
            ("1/environ", 0o400, app, app, true, 4, true),
            ("1/environ", 0o400, app, app, false, 4, true),
            ("1/environ", 0o400, app, other, false, 4, false),
            ("1/environ", 0o400, root, app, false, 4, false),
            ("1/environ", 0o400, app, root, false, 4, true),
            ("1/stat", 0o444, root, app, false, 4, true),
            ("1/stat", 0o444, root, app, false, 2, false),
            ("1/maps", 0o444, root, app, false, 4, false),
            ("1/fd", 0o500, root, app, true, 5, true),
            ("1/fd", 0o500, root, app, false, 5, false),
            ("1/exe", 0o777, root, app, false, 4, false),
            ("1/exe", 0o777, root, app, true, 4, true),
            ("1/oom_score_adj", 0o644, app, app, false, 2, true),
            ("1/task/2/comm", 0o644, root, app, false, 2, false),
        ];
        for (path, mode, owner, looker, own, wanted, allowed) in cases {
            let got = access(&process(path), mode, owner, looker, own, wanted);
            assert_eq!(got.is_ok(), allowed, "{path} {mode:o} {owner:?} {looker:?}");
        }
    }
}
