//! Tests of `sandbox`, with the real binary and a busybox root.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dockless::sandbox::{
    Exit, IdMapKind, Isolation, Mount, MountSource, Network, OverlayProbe, Root, RunSpec, TrialResult, probe, trial,
};
use rustix::process::{Pid, Signal, kill_process};

const EXE: &str = env!("CARGO_BIN_EXE_dockless");

/// A busybox root as a lower layer, and room for upper and work directories.
pub(super) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        fs_err::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let tree = Tree { dir };
        for name in ["base/bin", "base/etc", "base/tmp", "base/root", "base/proc", "base/sys", "base/dev"] {
            fs_err::create_dir_all(tree.path(name)).unwrap();
        }
        fs_err::copy("/usr/bin/busybox", tree.path("base/bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "id", "true", "sleep", "kill", "mkdir", "rm", "env", "ps", "readlink", "chown", "stat",
            "hostname",
        ] {
            symlink("busybox", tree.path("base/bin").join(applet)).unwrap();
        }
        fs_err::write(tree.path("base/etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
            .unwrap();
        fs_err::write(tree.path("base/etc/group"), "root:x:0:\napp:x:1001:\nweb:x:33:app\n").unwrap();
        tree
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An overlay over the base with a new upper directory of this name.
    pub(super) fn overlay(&self, upper: &str) -> Root {
        let (upper, work) = (self.path(upper), self.path(&format!("{upper}.work")));
        fs_err::create_dir(&upper).unwrap();
        fs_err::create_dir(&work).unwrap();
        Root::Overlay { lowers: vec![self.path("base")], upper, work }
    }

    /// What is in an upper directory, but for directories that are the same below (copied up by an entry that came and
    /// went; the diff leaves them out).
    fn upper(&self, upper: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(at) = todo.pop() {
            for entry in fs_err::read_dir(self.path(upper).join(&at)).unwrap() {
                let path = at.join(entry.unwrap().file_name());
                let above = fs_err::symlink_metadata(self.path(upper).join(&path)).unwrap();
                if above.is_dir() {
                    todo.push(path.clone());
                    let same = fs_err::symlink_metadata(self.path("base").join(&path)).is_ok_and(|below| {
                        (below.mode(), below.uid(), below.mtime(), below.mtime_nsec())
                            == (above.mode(), above.uid(), above.mtime(), above.mtime_nsec())
                    });
                    if same {
                        continue;
                    }
                }
                out.push(path.to_str().unwrap().to_string());
            }
        }
        out.sort();
        out
    }

    /// `script` run by sh in a new overlay.
    fn sh(&self, upper: &str, script: &str) -> RunSpec {
        RunSpec::new(self.overlay(upper), ["/bin/sh", "-c", script])
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        dockless::sys::remove_tree(self.dir.path()).unwrap();
        fs_err::create_dir(self.dir.path()).unwrap();
    }
}

fn run(spec: RunSpec) -> TrialResult {
    trial(Path::new(EXE), &[spec]).unwrap().remove(0)
}

/// Standard output of a command that succeeds.
fn stdout(spec: RunSpec) -> String {
    let result = run(spec);
    assert_eq!((result.exit, result.stderr.as_str()), (Ok(Exit::Code(0)), ""), "{}", result.stdout);
    result.stdout
}

/// Whether a process with this command line runs anywhere.
fn running(command: &str) -> bool {
    let line = format!("{}\0", command.replace(' ', "\0")).into_bytes();
    let processes = fs_err::read_dir("/proc").unwrap();
    processes
        .into_iter()
        .any(|entry| fs_err::read(entry.unwrap().path().join("cmdline")).is_ok_and(|text| text == line))
}

/// An ordinary user that no machine has.
const USER: u32 = 61234;

/// How to become [`USER`], a shell prefix.
const AS_USER: &str = "setpriv --reuid 61234 --regid 61234 --clear-groups";

/// Starts this test binary again to run `specs`, by the shell command `prefix`, after `setup`, in a mount namespace of its
/// own where [`USER`] exists and has the subordinate ids `ranges`.
pub(super) fn start_elsewhere(tree: &Tree, specs: &[RunSpec], ranges: &str, setup: &str, prefix: &str) -> Child {
    let passwd = fs_err::read_to_string("/etc/passwd").unwrap() + &format!("dltest:x:{USER}:{USER}::/:/bin/sh\n");
    fs_err::write(tree.path("passwd"), passwd).unwrap();
    fs_err::write(tree.path("subid"), ranges).unwrap();
    fs_err::write(tree.path("specs"), serde_json::to_vec(specs).unwrap()).unwrap();
    fs_err::write(tree.path("results"), "").unwrap();
    // The checkout may be where an ordinary user may not go.
    fs_err::copy(std::env::current_exe().unwrap(), tree.path("it")).unwrap();
    fs_err::copy(EXE, tree.path("dockless")).unwrap();
    let script = format!(
        "mount --bind $1/passwd /etc/passwd && mount --bind $1/subid /etc/subuid && mount --bind $1/subid /etc/subgid &&
         {setup} exec {prefix} $1/it --exact sandbox::acts_elsewhere --ignored --nocapture"
    );
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(tree.dir.path())
        .env("DOCKLESS_TEST_TREE", tree.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(super) fn results_of(tree: &Tree, child: Child) -> Result<Vec<TrialResult>, String> {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&fs_err::read(tree.path("results")).unwrap()).unwrap()
}

pub(super) fn run_as_user(tree: &Tree, specs: &[RunSpec], ranges: &str) -> Result<Vec<TrialResult>, String> {
    let owned = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(tree.dir.path()).status().unwrap();
    assert!(owned.success());
    let setup = "chown 61234:61234 $1/results &&";
    results_of(tree, start_elsewhere(tree, specs, ranges, setup, AS_USER))
}

/// Not a test by itself: the process that `start_elsewhere` starts.
#[test]
#[ignore = "started by other tests"]
fn acts_elsewhere() {
    let tree = PathBuf::from(std::env::var_os("DOCKLESS_TEST_TREE").expect("started by another test"));
    let specs: Vec<RunSpec> = serde_json::from_slice(&fs_err::read(tree.join("specs")).unwrap()).unwrap();
    let results = trial(&tree.join("dockless"), &specs).map_err(|error| error.to_string());
    fs_err::write(tree.join("results"), serde_json::to_vec(&results).unwrap()).unwrap();
}

#[test]
fn runs_a_command_in_an_overlay() {
    let tree = Tree::new();
    let result = run(tree.sh("one", "echo out; echo err >&2; echo new > /new; exit 7"));
    assert_eq!(result, TrialResult { exit: Ok(Exit::Code(7)), stdout: "out\n".into(), stderr: "err\n".into() });
    assert_eq!(tree.upper("one"), ["new"]);
}

#[test]
fn runs_in_a_directory_in_place() {
    let tree = Tree::new();
    let spec = RunSpec::new(Root::Dir(tree.path("base")), ["/bin/sh", "-c", "echo x > /new; cat /etc/hosts > /hosts"]);
    assert_eq!(stdout(spec), "");
    assert_eq!(fs_err::read(tree.path("base/hosts")).unwrap(), fs_err::read("/etc/hosts").unwrap());
    for made in ["etc/hosts", "etc/resolv.conf"] {
        assert!(!tree.path("base").join(made).exists(), "{made} is left");
    }
}

#[test]
fn tells_exits_apart() {
    let tree = Tree::new();
    let exit = |name: &str, script: &str| run(tree.sh(name, script)).exit;
    assert_eq!(exit("a", "exit 0"), Ok(Exit::Code(0)));
    assert_eq!(exit("b", "exit 255"), Ok(Exit::Code(255)));
    assert_eq!(exit("c", "kill -TERM $$"), Ok(Exit::Signal(15)));
    assert_eq!(exit("d", "kill -KILL $$"), Ok(Exit::Signal(9)));
    let failed = |name: &str, args: &[&str]| run(RunSpec::new(tree.overlay(name), args)).exit.unwrap_err();
    assert_eq!(failed("e", &["nope"]), ("exec: \"nope\": executable file not found in $PATH".into(), 127));
    assert_eq!(failed("f", &["/nope"]).1, 127);
    assert_eq!(failed("g", &["/etc/passwd"]), ("exec: \"/etc/passwd\": Permission denied (os error 13)".into(), 126));
    assert_eq!(failed("h", &["/etc"]).1, 126);
    assert_eq!(failed("i", &[]), ("no command to run".into(), 125));
}

#[test]
fn gives_exactly_the_environment() {
    let tree = Tree::new();
    let mut spec = RunSpec::new(tree.overlay("a"), ["env"]);
    spec.env = vec![("A".into(), "1 2".into()), ("EMPTY".into(), "".into())];
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
    assert_eq!(stdout(spec), format!("{path}A=1 2\nEMPTY=\nHOME=/root\n"));
    let mut spec = RunSpec::new(tree.overlay("b"), ["env"]);
    spec.env = vec![("HOME".into(), "/h".into()), ("PATH".into(), "/bin".into())];
    assert_eq!(stdout(spec), "HOME=/h\nPATH=/bin\n");
}

#[test]
fn shows_nothing_of_the_host() {
    let tree = Tree::new();
    let secret = tree.path("secret");
    fs_err::write(&secret, "x").unwrap();
    // Descriptors (3 is ls's own), processes, environments, files by .. and by /proc.
    let script = format!(
        "ls /proc/self/fd; echo $$; ls -d /proc/[0-9]*; cat /proc/1/environ 2>/dev/null; cat {0} /../..{0} /proc/1/root{0} 2>/dev/null; \
         ls / ; cat /proc/mounts | while read a b c; do case $b in /tmp*) echo mount $b;; esac; done",
        secret.display()
    );
    let out = stdout(tree.sh("a", &format!("{script}; true")));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..5], ["0", "1", "2", "3", "2"], "{out}");
    assert_eq!(lines[5..7], ["/proc/1", "/proc/2"], "{out}");
    assert_eq!(lines[7..], ["bin", "dev", "etc", "proc", "root", "sys", "tmp"], "{out}");
}

#[test]
fn shows_proc_dev_and_sys() {
    let tree = Tree::new();
    let script = "cat /proc/self/stat >/dev/null && echo proc; echo x > /dev/null && echo null; ls /sys/class >/dev/null && echo sys
        for d in zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done
        [ -c /dev/ptmx ] && readlink /dev/fd && readlink /dev/stdin; echo x > /dev/shm/x && echo shm
        echo x 2>/dev/null > /sys/kernel/x; echo x 2>/dev/null > /proc/sys/kernel/hostname || echo ro; for f in kcore keys; do [ ! -e /proc/$f ] || cat /proc/$f; done
        cat /proc/self/status | while read a b; do case $a in CapBnd:|CapEff:|CapInh:|CapAmb:|NoNewPrivs:) echo $a $b;; esac; done
        umask; hostname";
    let mut spec = tree.sh("a", script);
    spec.hostname = Some("builder".into());
    let expected = "proc\nnull\nsys\n/proc/self/fd\n/proc/self/fd/0\nshm\nro\nCapInh: 0000000000000000\n\
        CapEff: 00000000a80425fb\nCapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\nNoNewPrivs: 0\n0022\nbuilder\n";
    assert_eq!(stdout(spec), expected);
}

/// The nodes in /dev are the machine's own: a step can use them and not change them.
#[test]
fn leaves_the_devices_of_the_machine_alone() {
    let tree = Tree::new();
    let before = fs_err::metadata("/dev/null").unwrap();
    let script = "echo x > /dev/null; echo x >> /dev/null; chmod 600 /dev/null 2> /dev/null || echo no mode; \
        chown 5:5 /dev/null 2> /dev/null || echo no owner; head -c 3 /dev/zero | wc -c";
    assert_eq!(stdout(tree.sh("a", script)), "no mode\nno owner\n3\n");
    let after = fs_err::metadata("/dev/null").unwrap();
    assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
}

#[test]
fn ends_what_the_command_leaves_running() {
    let tree = Tree::new();
    let started = "sleep 54321 & (sleep 54321 &) ; echo started";
    assert_eq!(stdout(tree.sh("a", started)), "started\n");
    assert!(!running("sleep 54321"));
    // Orphans go to pid 1, which reaps them: no zombie is left when the command looks.
    let reaped = "(sleep 0 & exec true); sleep 1; for s in /proc/[0-9]*/stat; do read a b c d < $s; [ $c = Z ] && echo zombie $b; done; true";
    assert_eq!(stdout(tree.sh("b", reaped)), "");
}

#[test]
fn resolves_the_user_in_the_tree() {
    let tree = Tree::new();
    let as_user = |name: &str, user: &str| {
        let mut spec = tree.sh(name, "echo $(id -u) $(id -G) $HOME");
        spec.user = user.into();
        run(spec)
    };
    assert_eq!(as_user("a", "").stdout, "0 0 /root\n");
    assert_eq!(as_user("b", "app").stdout, "1000 1001 33 /home/app\n");
    assert_eq!(as_user("c", "app:web").stdout, "1000 33 /home/app\n");
    assert_eq!(as_user("d", "4242:4343").stdout, "4242 4343 /\n");
    let (message, code) = as_user("e", "nobody").exit.unwrap_err();
    assert_eq!((message.contains("unable to find user nobody"), code), (true, 125), "{message}");
}

#[test]
fn starts_in_the_working_directory_and_makes_it() {
    let tree = Tree::new();
    let mut spec = tree.sh("a", "pwd");
    spec.cwd = "/made/here".into();
    assert_eq!(stdout(spec), "/made/here\n");
    assert_eq!(tree.upper("a"), ["made", "made/here"]);
}

#[test]
fn mounts_more_and_leaves_no_mount_point() {
    let tree = Tree::new();
    fs_err::create_dir(tree.path("data")).unwrap();
    fs_err::write(tree.path("data/file"), "data\n").unwrap();
    let mount = |source, target: &str, readonly| Mount { source, target: target.into(), readonly };
    let mut spec = tree.sh(
        "a",
        "cat /opt/in/file /run/secret; echo x 2>/dev/null > /opt/in/file || echo ro; echo x > /rw/new; echo x > /t/x; echo x > /dev/shm/t/x",
    );
    spec.mounts = vec![
        mount(MountSource::Bind(tree.path("data")), "/opt/in", true),
        mount(MountSource::Bind(tree.path("data/file")), "/run/secret", false),
        mount(MountSource::Bind(tree.path("data")), "/rw", false),
        mount(MountSource::Tmpfs(Some(1 << 20)), "/t", false),
        mount(MountSource::Tmpfs(None), "/dev/shm/t", false),
    ];
    assert_eq!(stdout(spec), "data\ndata\nro\n");
    assert_eq!(fs_err::read_to_string(tree.path("data/new")).unwrap(), "x\n");
    assert_eq!(tree.upper("a"), [""; 0]);
}

#[test]
fn keeps_what_the_command_put_beside_mount_points() {
    let tree = Tree::new();
    assert_eq!(stdout(tree.sh("a", "echo x > /etc/resolv.conf; echo y > /etc/mine; mkdir /new")), "");
    assert_eq!(tree.upper("a"), ["etc", "etc/mine", "new"]);
}

#[test]
fn adds_hosts() {
    let tree = Tree::new();
    let mut spec = tree.sh("a", "cat /etc/hosts; echo z >> /etc/hosts");
    spec.hosts = vec![("db".into(), "10.0.0.7".into())];
    spec.hostname = Some("box".into());
    assert!(stdout(spec).ends_with("127.0.0.1\tbox\n10.0.0.7\tdb\n"));
    assert!(!fs_err::read_to_string("/etc/hosts").unwrap().contains("10.0.0.7"));
}

#[test]
fn has_no_network_when_told_so() {
    let tree = Tree::new();
    let mut spec = tree.sh("a", "while read a b; do echo $a; done < /proc/net/dev; cat /proc/net/fib_trie | while read a b c; do [ \"$b\" = 127.0.0.1 ] && echo up; done; true");
    spec.network = Network::None;
    let out = stdout(spec);
    assert!(out.contains("lo:") && out.contains("up") && !out.contains("eth") && !out.contains("ens"), "{out}");
    let mut spec = tree.sh("b", "ls /sys/class/net; ls -d /sys/kernel; echo x > /sys/kernel/mm/x || echo ro");
    spec.network = Network::None;
    let result = run(spec);
    assert_eq!(result.stdout, "lo\n/sys/kernel\nro\n", "{result:?}");
}

#[test]
fn mounts_many_layers() {
    let tree = Tree::new();
    let mut lowers = Vec::new();
    for n in 0..150 {
        let layer = tree.path(&format!("layer-with-a-long-name-so-that-a-page-would-not-hold-them-all-{n:04}"));
        fs_err::create_dir(&layer).unwrap();
        fs_err::write(layer.join(format!("f{n}")), "").unwrap();
        fs_err::write(layer.join("top"), format!("{n}\n")).unwrap();
        lowers.push(layer);
    }
    lowers.push(tree.path("base"));
    let Root::Overlay { upper, work, .. } = tree.overlay("a") else { unreachable!() };
    let root = Root::Overlay { lowers, upper, work };
    assert_eq!(
        stdout(RunSpec::new(root, ["/bin/sh", "-c", "cat /top; ls -d /f* | while read f; do echo; done"]))
            .lines()
            .count(),
        151
    );
}

#[test]
fn starts_from_nothing() {
    let tree = Tree::new();
    let Root::Overlay { upper, work, .. } = tree.overlay("a") else { unreachable!() };
    fs_err::copy("/usr/bin/busybox", upper.join("busybox")).unwrap();
    let spec = RunSpec::new(Root::Overlay { lowers: Vec::new(), upper, work }, ["/busybox", "echo", "hello"]);
    assert_eq!(stdout(spec), "hello\n");
    // The directories that every runtime wants stay; the other mount points do not.
    assert_eq!(tree.upper("a"), ["busybox", "dev", "proc", "sys"]);
}

#[test]
fn follows_hostile_links_inside_the_root_only() {
    let tree = Tree::new();
    let outside = tree.path("outside");
    fs_err::create_dir(&outside).unwrap();
    fs_err::write(outside.join("resolv.conf"), "outside").unwrap();
    let base = tree.path("base");
    symlink(outside.join("resolv.conf"), base.join("etc/resolv.conf")).unwrap();
    symlink("../../../../../../etc/hosts2", base.join("etc/hosts")).unwrap();
    fs_err::remove_dir(base.join("dev")).unwrap();
    symlink(&outside, base.join("dev")).unwrap();
    assert_eq!(
        stdout(tree.sh(
            "a",
            "echo mine > /etc/resolv.conf; echo x > /dev/null; echo y > /dev/planted; cat /etc/hosts2 > /dev/null"
        )),
        ""
    );
    assert_eq!(fs_err::read_to_string(outside.join("resolv.conf")).unwrap(), "outside");
    assert!(!outside.join("null").exists() && !outside.join("planted").exists());
    assert_eq!(tree.upper("a"), [""; 0]);
    // What leads into the new /proc cannot be had, and leaves nothing either.
    fs_err::remove_dir(base.join("sys")).unwrap();
    symlink("/proc/self/root/../../x", base.join("sys")).unwrap();
    let (message, _) = run(tree.sh("c", "true")).exit.unwrap_err();
    assert!(message.contains("prepare the mount point proc/x"), "{message}");
    assert_eq!(tree.upper("c"), [""; 0]);
    fs_err::remove_file(base.join("sys")).unwrap();
    // A loop is an error that names itself.
    fs_err::remove_file(base.join("dev")).unwrap();
    symlink("dev", base.join("dev")).unwrap();
    let (message, _) = run(tree.sh("b", "true")).exit.unwrap_err();
    assert!(message.contains("prepare the mount point /dev: Too many levels"), "{message}");
}

#[test]
fn reads_no_fifo_and_no_file_outside_as_passwd() {
    let tree = Tree::new();
    let passwd = tree.path("base/etc/passwd");
    fs_err::remove_file(&passwd).unwrap();
    assert!(Command::new("mkfifo").arg(&passwd).status().unwrap().success());
    let mut spec = tree.sh("a", "echo ran");
    spec.user = "1000".into();
    assert_eq!(stdout(spec), "ran\n");
    fs_err::remove_file(&passwd).unwrap();
    fs_err::write(tree.path("outside"), "evil:x:5:5::/:\n").unwrap();
    symlink(tree.path("outside"), &passwd).unwrap();
    let mut spec = tree.sh("b", "true");
    spec.user = "evil".into();
    assert!(run(spec).exit.unwrap_err().0.contains("unable to find user evil"));
}

#[test]
fn leaves_no_mount_and_no_process() {
    let tree = Tree::new();
    let before = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    run(tree.sh("a", "true"));
    run(tree.sh("b", "kill -KILL $$"));
    assert_eq!(fs_err::read_to_string("/proc/self/mountinfo").unwrap(), before);
    run(tree.sh("c", "sleep 54322 & sleep 54322 & kill -KILL $$"));
    assert!(!running("sleep 54322"));
}

#[test]
fn runs_for_an_ordinary_user_with_ranges() {
    let tree = Tree::new();
    let mut as_app = tree.sh("b", "id -u; id -G; echo > /tmp/x || echo no");
    as_app.user = "app".into();
    let specs = [
        tree.sh("a", "id -u; echo x > /new; chown 1000:33 /new; stat -c %u:%g /new; rm -r /root; mkdir /root"),
        as_app,
    ];
    let results = run_as_user(&tree, &specs, "61234:700000:65536\n").unwrap();
    assert_eq!((results[0].stdout.as_str(), results[0].stderr.as_str()), ("0\n1000:33\n", ""), "{results:?}");
    assert_eq!(results[1].stdout.lines().take(2).collect::<Vec<_>>(), ["1000", "1001 33"], "{results:?}");
    let new = fs_err::metadata(tree.path("a/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (700999, 700032));
}

#[test]
fn runs_for_an_ordinary_user_with_one_id() {
    let tree = Tree::new();
    let mut as_app = tree.sh("b", "id -u; id -G; echo > /tmp/x || echo no; chown 0:0 /tmp 2> /dev/null || echo no");
    as_app.user = "app".into();
    let script = "id -u; echo x > /new; chown 1000:33 /new; stat -c %u:%g /new; rm -r /root; mkdir /root";
    let results = run_as_user(&tree, &[tree.sh("a", script), as_app], "").unwrap();
    assert_eq!((results[0].stdout.as_str(), results[0].stderr.as_str()), ("0\n1000:33\n", ""), "{results:?}");
    assert_eq!(results[1].stdout, "1000\n1001 33\nno\nno\n", "{results:?}");
    let new = tree.path("a/new");
    assert_eq!(fs_err::metadata(&new).unwrap().uid(), USER);
    let mut record = [0; 64];
    let length = rustix::fs::getxattr(&new, dockless::overrides::OVERRIDE, &mut record).unwrap();
    assert_eq!(std::str::from_utf8(&record[..length]), Ok("1000:33:644:f"));
}

/// Every supervised call with garbage, by root and by a user: the supervisor answers, and the command ends.
#[test]
fn with_one_id_survives_garbage() {
    let tree = Tree::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/supervisor/fuzz.c");
    let mut cc = Command::new("cc");
    let compiled =
        cc.args(["-O1", "-static", "-pthread", "-w", "-o"]).arg(tree.path("base/bin/fuzz")).arg(source).status();
    assert!(compiled.unwrap().success(), "this test needs a C compiler");
    let specs = ["", "app"].map(|user| {
        let mut spec = RunSpec::new(tree.overlay(&format!("as{user}")), ["/bin/fuzz", "2", "1"]);
        spec.user = user.into();
        spec
    });
    for result in run_as_user(&tree, &specs, "").unwrap() {
        assert_eq!((&result.exit, result.stdout.as_str()), (&Ok(Exit::Code(0)), "alive\n"), "{result:?}");
    }
}

#[test]
fn probes_what_the_machine_allows() {
    let tree = Tree::new();
    let found = probe(Path::new(EXE), Some(tree.dir.path()), Isolation::Namespaces).unwrap();
    assert_eq!((found.id_map.kind, found.overlay), (IdMapKind::Ranges, Some(OverlayProbe::Works)));
    assert_eq!(probe(Path::new(EXE), None, Isolation::Namespaces).unwrap().overlay, None);
    // An overlay on /proc fails, and says so.
    let Some(OverlayProbe::Fails(failure)) =
        probe(Path::new(EXE), Some(Path::new("/proc")), Isolation::Namespaces).unwrap().overlay
    else {
        panic!("an overlay on /proc")
    };
    assert!(failure.to_string().contains("/proc"), "{failure}");
    assert_eq!(fs_err::read_dir(tree.dir.path()).unwrap().count(), 1);
}

#[test]
fn runs_where_proc_is_masked() {
    let tree = Tree::new();
    let specs = [
        tree.sh("a", "echo $$ > /tmp/x; read pid rest < /proc/self/stat; [ -d /proc/$pid ] && echo proc; sleep 54324 & (sleep 54324 &)"),
        tree.sh("b", "cat /proc/version; kill -TERM $$"),
    ];
    // As container engines do: what lies on top of a part of /proc is locked for user namespaces.
    let setup = "mount --bind /dev/null /proc/version && mount --make-rprivate / &&";
    let results = results_of(&tree, start_elsewhere(&tree, &specs, "", setup, "")).unwrap();
    assert_eq!((results[0].stdout.as_str(), results[0].exit.clone()), ("proc\n", Ok(Exit::Code(0))), "{results:?}");
    assert_eq!((results[1].stdout.as_str(), results[1].exit.clone()), ("", Ok(Exit::Signal(15))), "{results:?}");
    assert!(!running("sleep 54324"));
    assert_eq!(tree.upper("a"), ["tmp", "tmp/x"]);
}

/// Blocks the signal in every thread of the test harness, so that it meets the thread that waits for it.
const BLOCKED: &str = "env --block-signal=TERM";

/// A command that tells through a fifo that it runs, and holds it open as long as anything of it does.
fn long_running(tree: &Tree, script: &str) -> RunSpec {
    fs_err::create_dir(tree.path("fifo")).unwrap();
    assert!(Command::new("mkfifo").arg(tree.path("fifo/f")).status().unwrap().success());
    let mut spec = tree.sh("a", &format!("{script}; exec 9> /fifo/f; echo up >&9; sleep 54325 & wait; exit 1"));
    spec.mounts = vec![Mount { source: MountSource::Bind(tree.path("fifo")), target: "/fifo".into(), readonly: false }];
    spec
}

/// Sends `signal` to the process that waits for the command once that runs; returns when nothing of it runs any more.
fn signal_when_up(tree: &Tree, child: &Child, signal: Signal) {
    let mut fifo = BufReader::new(fs_err::File::open(tree.path("fifo/f")).unwrap());
    let mut line = String::new();
    fifo.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    kill_process(Pid::from_child(child), signal).unwrap();
    fifo.read_to_string(&mut line).unwrap();
}

#[test]
fn dies_with_the_process_that_waits() {
    for signal in [Signal::KILL, Signal::TERM] {
        let tree = Tree::new();
        let mut child = start_elsewhere(&tree, &[long_running(&tree, "true")], "", "", BLOCKED);
        signal_when_up(&tree, &child, signal);
        if signal == Signal::KILL {
            assert!(!child.wait().unwrap().success());
        } else {
            let error = results_of(&tree, child).unwrap_err();
            assert_eq!(error, "the sandbox's trial process ended early: killed by signal 15");
        }
    }
}

#[test]
fn runs_twice_in_one_upper_directory() {
    let tree = Tree::new();
    let spec = tree.sh("a", "[ -e /x ] && echo again; echo > /x");
    let results = trial(Path::new(EXE), &[spec.clone(), spec]).unwrap();
    assert_eq!((results[0].stdout.as_str(), results[1].stdout.as_str()), ("", "again\n"), "{results:?}");
    assert_eq!(fs_err::read_dir(tree.path("a.work")).unwrap().count(), 0);
}
