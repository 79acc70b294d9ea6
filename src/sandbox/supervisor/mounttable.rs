//! The table of mounts that a command sees: `/proc/PID/mounts`, `mountinfo` and `mountstats`. Pure.
//!
//! Nothing is mounted for the command where [`super::places`] are served, so the kernel's own tables tell of the container
//! around it. The formats are those of proc_pid_mountinfo(5) and fstab(5).

use super::path::ViewPath;
use super::stands::Tmpfs;

/// A line of the kernel's `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelMount {
    id: u64,
    parent: u64,
    device: Vec<u8>,
    /// The directory of the file system that is mounted.
    root: ViewPath,
    /// Where it is mounted.
    at: ViewPath,
    options: Vec<u8>,
    kind: Vec<u8>,
    source: Vec<u8>,
    super_options: Vec<u8>,
}

/// The kernel's table, as it reads in `/proc/PID/mountinfo`; lines that are not as proc(5) has them are left out.
pub(crate) fn parse(text: &[u8]) -> Vec<KernelMount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<KernelMount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let device = fields.next()?.to_vec();
    let root = ViewPath::without_links(&unescape(fields.next()?));
    let at = ViewPath::without_links(&unescape(fields.next()?));
    let options = fields.next()?.to_vec();
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, source) = (rest.next()?.to_vec(), unescape(rest.next()?));
    let super_options = rest.next().unwrap_or_default().to_vec();
    Some(KernelMount { id, parent, device, root, at, options, kind, source, super_options })
}

impl KernelMount {
    /// The line of a tmpfs that lies here.
    fn as_tmpfs(&self, tmpfs: Tmpfs) -> KernelMount {
        let options = b"rw,nosuid,relatime".to_vec();
        let (kind, source) = (b"tmpfs".to_vec(), b"tmpfs".to_vec());
        KernelMount { options, kind, source, super_options: tmpfs.options(), ..self.clone() }
    }
}

/// A mount that the command is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Where the command sees it.
    pub at: ViewPath,
    /// The kernel's name of what is shown there.
    pub host: ViewPath,
    /// The id of the kernel's mount that it lies on, as statx(2) tells it.
    pub mount: u64,
    /// Whether it can be written to.
    pub readonly: bool,
    /// What it is a tmpfs with.
    pub tmpfs: Option<Tmpfs>,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    id: u64,
    parent: u64,
    at: ViewPath,
    root: ViewPath,
    readonly: bool,
    kernel: KernelMount,
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountTable {
    lines: Vec<Line>,
}

impl MountTable {
    /// The table of `shown`, the root first, out of what `kernel` knows of the mounts that they lie on. Ids are the kernel's
    /// where they can be: statx(2) gives those.
    pub(crate) fn new(shown: &[Shown], kernel: &[KernelMount]) -> MountTable {
        let mut lines: Vec<Line> = Vec::new();
        let mut unused = kernel.iter().map(|mount| mount.id).max().unwrap_or_default() + 1;
        for one in shown {
            let Some(mount) = kernel.iter().find(|mount| mount.id == one.mount) else { continue };
            let id = if lines.iter().any(|line| line.id == mount.id) {
                unused += 1;
                unused - 1
            } else {
                mount.id
            };
            let above = lines.iter().filter(|line| one.at.below(&line.at).is_some());
            let parent = above.max_by_key(|line| line.at.as_bytes().len()).map_or(mount.parent, |line| line.id);
            let root = mount.root.join(one.host.below(&mount.at).unwrap_or_default());
            let (root, kernel) = match one.tmpfs {
                Some(tmpfs) => (ViewPath::root(), mount.as_tmpfs(tmpfs)),
                None => (root, mount.clone()),
            };
            lines.push(Line { id, parent, at: one.at.clone(), root, readonly: one.readonly, kernel });
        }
        MountTable { lines }
    }

    /// The id of the mount at `at`, if there is one.
    pub(crate) fn id_at(&self, at: &ViewPath) -> Option<u64> {
        self.lines.iter().find(|line| line.at == *at).map(|line| line.id)
    }

    /// As `/proc/PID/mountinfo` has it.
    pub(crate) fn mountinfo(&self) -> Vec<u8> {
        self.text(|line, out| {
            out.extend(format!("{} {} ", line.id, line.parent).bytes());
            out.extend_from_slice(&line.kernel.device);
            fields(out, &[&escape(line.root.as_bytes()), &escape(line.at.as_bytes()), &line.options(), b"-"]);
            fields(out, &[&line.kernel.kind, &escape(&line.kernel.source), &line.kernel.super_options]);
        })
    }

    /// As `/proc/PID/mounts` has it.
    pub(crate) fn mounts(&self) -> Vec<u8> {
        self.text(|line, out| {
            out.extend(escape(&line.kernel.source));
            fields(out, &[&escape(line.at.as_bytes()), &line.kernel.kind, &line.all_options(), b"0", b"0"]);
        })
    }

    /// As `/proc/PID/mountstats` has it.
    pub(crate) fn mountstats(&self) -> Vec<u8> {
        self.text(|line, out| {
            out.extend_from_slice(b"device ");
            out.extend(escape(&line.kernel.source));
            fields(out, &[b"mounted on", &escape(line.at.as_bytes()), b"with fstype", &line.kernel.kind]);
        })
    }

    fn text(&self, one: impl Fn(&Line, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        for line in &self.lines {
            one(line, &mut out);
            out.push(b'\n');
        }
        out
    }
}

fn fields(out: &mut Vec<u8>, fields: &[&[u8]]) {
    for field in fields {
        out.push(b' ');
        out.extend_from_slice(field);
    }
}

impl Line {
    fn writable(&self) -> &'static [u8] {
        let readonly = self.readonly || self.kernel.options.split(|byte| *byte == b',').any(|option| option == b"ro");
        if readonly { b"ro" } else { b"rw" }
    }

    /// Options of the mount.
    fn options(&self) -> Vec<u8> {
        [&[self.writable()], further(&self.kernel.options).as_slice()].concat().join(&b',')
    }

    /// Options of the mount and of its file system.
    fn all_options(&self) -> Vec<u8> {
        let (own, all) = (further(&self.kernel.options), further(&self.kernel.super_options));
        [&[self.writable()], own.as_slice(), all.as_slice()].concat().join(&b',')
    }
}

/// Options but `rw` and `ro`.
fn further(options: &[u8]) -> Vec<&[u8]> {
    let all = options.split(|byte| *byte == b',');
    all.filter(|option| !option.is_empty() && *option != b"rw" && *option != b"ro").collect()
}

/// As the kernel writes names into its tables (`mangle_path`): octal for what would end a field or a line.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend(format!("\\{byte:03o}").bytes()),
            byte => out.push(*byte),
        }
    }
    out
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(field.len()), field);
    while let [first, after @ ..] = rest {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0u8, |all, digit| match digit {
                b'0'..=b'7' => all.checked_mul(8)?.checked_add(digit - b'0'),
                _ => None,
            })
        };
        match (first, after.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &[u8] = b"25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        27 25 0:23 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw\n\
        28 25 0:24 / /sys ro,nosuid - sysfs sysfs ro\n\
        30 25 0:30 /var /my\\040vol rw - btrfs /dev/vdb rw,subvol=/var\n\
        not a line\n";

    fn shown(at: &str, host: &str, mount: u64, readonly: bool) -> Shown {
        let path = |text: &str| ViewPath::without_links(text.as_bytes());
        Shown { at: path(at), host: path(host), mount, readonly, tmpfs: None }
    }

    fn table() -> MountTable {
        let all = [
            shown("/", "/state/tree", 25, false),
            shown("/proc", "/proc", 27, false),
            shown("/sys", "/sys", 28, true),
            shown("/src", "/home/job", 25, true),
            shown("/src/a b", "/my vol/cache", 30, false),
            shown("/gone", "/x", 99, false),
        ];
        MountTable::new(&all, &parse(KERNEL))
    }

    #[test]
    fn writes_mountinfo() {
        let wanted = "25 1 254:0 /state/tree / rw,relatime - ext4 /dev/vda rw,discard\n\
            27 25 0:23 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
            28 25 0:24 / /sys ro,nosuid - sysfs sysfs ro\n\
            31 25 254:0 /home/job /src ro,relatime - ext4 /dev/vda rw,discard\n\
            30 31 0:30 /var/cache /src/a\\040b rw - btrfs /dev/vdb rw,subvol=/var\n";
        assert_eq!(String::from_utf8(table().mountinfo()).unwrap(), wanted);
    }

    #[test]
    fn writes_tmpfs() {
        let tmpfs = Some(Tmpfs { size: Some(1 << 20) });
        let all = [shown("/", "/state/tree", 25, false), Shown { tmpfs, ..shown("/t", "/state/tree/t", 25, false) }];
        let table = MountTable::new(&all, &parse(KERNEL));
        let mounts = String::from_utf8(table.mounts()).unwrap();
        assert!(mounts.ends_with("\ntmpfs /t tmpfs rw,nosuid,relatime,size=1024k 0 0\n"), "{mounts}");
        let mountinfo = String::from_utf8(table.mountinfo()).unwrap();
        assert!(mountinfo.ends_with(" 254:0 / /t rw,nosuid,relatime - tmpfs tmpfs rw,size=1024k\n"), "{mountinfo}");
    }

    #[test]
    fn writes_mounts() {
        let wanted = "/dev/vda / ext4 rw,relatime,discard 0 0\n\
            proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n\
            sysfs /sys sysfs ro,nosuid 0 0\n\
            /dev/vda /src ext4 ro,relatime,discard 0 0\n\
            /dev/vdb /src/a\\040b btrfs rw,subvol=/var 0 0\n";
        assert_eq!(String::from_utf8(table().mounts()).unwrap(), wanted);
        let wanted = "device proc mounted on /proc with fstype proc\n";
        assert!(String::from_utf8(table().mountstats()).unwrap().contains(wanted));
    }

    #[test]
    fn tells_ids() {
        let at = |text: &str| table().id_at(&ViewPath::without_links(text.as_bytes()));
        assert_eq!([at("/"), at("/src"), at("/src/a b"), at("/src/x")], [Some(25), Some(31), Some(30), None]);
    }

    #[test]
    fn escapes_names() {
        let name = b"a b\\c\td#e\n\xff";
        assert_eq!(unescape(&escape(name)), name);
        assert_eq!(unescape(b"\\9\\04"), b"\\9\\04");
    }
}
