//! Tests of the chroot tier and its supervisor, with the real binary and a busybox root. They need root, as CI has it.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dockless::sandbox::{Exit, Isolation, Network, Root, RunSpec, Tier, TrialResult, trial_in};

const EXE: &str = env!("CARGO_BIN_EXE_dockless");

/// A busybox tree to run in.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Tree {
        let tree = Tree { dir: tempfile::tempdir().unwrap() };
        for name in ["tree/bin", "tree/etc", "tree/tmp", "tree/root", "tree/dev"] {
            fs_err::create_dir_all(tree.path(name)).unwrap();
        }
        fs_err::set_permissions(tree.path("tree/tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs_err::write(tree.path("tree/dev/kept"), "of the image").unwrap();
        fs_err::copy("/usr/bin/busybox", tree.path("tree/bin/busybox")).unwrap();
        let applets = std::process::Command::new("/usr/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            symlink("busybox", tree.path("tree/bin").join(applet)).unwrap();
        }
        fs_err::write(tree.path("tree/etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/tmp:/bin/sh\n")
            .unwrap();
        fs_err::write(tree.path("tree/etc/group"), "root:x:0:\napp:x:1001:\nweb:x:33:app\n").unwrap();
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self) -> Root {
        Root::Dir(self.path("tree"))
    }

    fn sh(&self, script: &str) -> RunSpec {
        RunSpec::new(self.root(), ["/bin/sh", "-c", script])
    }

    /// Every path of the tree with mode and modification time.
    fn listing(&self) -> Vec<(PathBuf, u32, i64, i64)> {
        let (mut out, mut todo) = (Vec::new(), vec![self.path("tree")]);
        while let Some(path) = todo.pop() {
            let metadata = fs_err::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                todo.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            out.push((path, metadata.mode(), metadata.mtime(), metadata.mtime_nsec()));
        }
        out.sort();
        out
    }
}

fn run(tier: Tier, spec: RunSpec) -> TrialResult {
    crate::support::trial_of(tier, spec)
}

fn stdout(tier: Tier, spec: RunSpec) -> String {
    let result = run(tier, spec);
    assert_eq!((&result.exit, result.stderr.as_str()), (&Ok(Exit::Code(0)), ""), "{}", result.stdout);
    result.stdout
}

in_each_tier!(
    runs_a_command_and_leaves_the_tree_as_it_was,
    tells_exits_apart,
    ends_what_a_command_leaves_running,
    keeps_off_processes_outside,
    has_no_network_where_none_is_wanted,
    emulates_ids,
    survives_thousands_of_processes,
    survives_garbage_and_sudden_death,
    keeps_paths_inside_that_begin_elsewhere_meanwhile,
    finds_places_behind_links_that_come_later,
    sees_links_that_take_the_place_of_directories,
    tells_of_owners_that_change,
    outlives_threads_that_take_over,
);

fn runs_a_command_and_leaves_the_tree_as_it_was(tier: Tier) {
    let tree = Tree::new();
    stdout(tier, tree.sh("mkdir /proc-made")); // /proc and /sys are made by the first run
    let before = tree.listing();
    assert_eq!(
        stdout(tier, tree.sh("echo hello; cat /etc/hosts > /dev/null; ls /dev")),
        "hello\ncore\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
    );
    assert_eq!(tree.listing(), before);
    let left: Vec<_> = fs_err::read_dir(tree.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tree"]);
}

fn tells_exits_apart(tier: Tier) {
    let tree = Tree::new();
    let exit = |script: &str| run(tier, tree.sh(script)).exit;
    assert_eq!(exit("exit 7"), Ok(Exit::Code(7)));
    assert_eq!(exit("kill -TERM $$"), Ok(Exit::Signal(15)));
    let failed = |args: &[&str]| run(tier, RunSpec::new(tree.root(), args)).exit.unwrap_err();
    assert_eq!(failed(&["nope"]), ("exec: \"nope\": executable file not found in $PATH".into(), 127));
    assert_eq!(failed(&["/etc/passwd"]).1, 126);
}

fn ends_what_a_command_leaves_running(tier: Tier) {
    let tree = Tree::new();
    let out = stdout(
        tier,
        tree.sh("(setsid sh -c 'setsid sleep 1234 & sleep 1234' > /dev/null 2>&1 &) ; sleep 0.2; echo done"),
    );
    assert_eq!(out, "done\n");
    let running = fs_err::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .any(|entry| fs_err::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x001234\0"));
    assert!(!running);
}

fn keeps_off_processes_outside(tier: Tier) {
    let tree = Tree::new();
    let own = std::process::id();
    let mut outsider = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = outsider.id();
    let script =
        format!("kill -9 {pid} || echo no; kill -9 {own} || echo no; kill -0 1 || echo no; kill -TERM -1; echo end");
    let result = run(tier, tree.sh(&script));
    assert_eq!(result.exit, Ok(Exit::Code(0)), "{result:?}");
    assert_eq!(result.stdout, "no\nno\nno\nend\n");
    assert!(outsider.try_wait().unwrap().is_none());
    outsider.kill().unwrap();
    outsider.wait().unwrap();
}

fn has_no_network_where_none_is_wanted(tier: Tier) {
    let tree = Tree::new();
    let mut spec = tree.sh("nc -w 1 127.0.0.1 9 || echo refused; hostname");
    spec.network = Network::None;
    spec.hostname = Some("step".into());
    let result = run(tier, spec);
    assert!(result.stdout.ends_with("refused\nstep\n") && result.stderr.contains("Permission denied"), "{result:?}");
}

fn emulates_ids(tier: Tier) {
    let tree = Tree::new();
    let mut spec = tree.sh("id; grep -c . /etc/passwd; (id -u); sh -c 'id -g; kill -0 $PPID && echo may'; true");
    spec.user = "app".into();
    assert_eq!(stdout(tier, spec), "uid=1000(app) gid=1001(app) groups=33(web),1001(app)\n2\n1000\n1001\nmay\n");
    let script = "setpriv --reuid=5 --regid=6 --clear-groups true 2> /dev/null; su app -s /bin/sh -c id; id -u";
    assert_eq!(stdout(tier, tree.sh(script)), "uid=1000(app) gid=1001(app) groups=33(web),1001(app)\n0\n");
}

fn survives_thousands_of_processes(tier: Tier) {
    let tree = Tree::new();
    let script = "i=0; while [ $i -lt 5000 ]; do (exit 3) || i=$((i+1)); done; echo $i";
    assert_eq!(stdout(tier, tree.sh(script)), "5000\n");
}

/// Compiles a program of `testdata/supervisor` into the tree.
fn compile(tree: &Tree, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/supervisor").join(name).with_extension("c");
    let mut cc = std::process::Command::new("cc");
    let output = cc.args(["-O1", "-static", "-pthread", "-w", "-o"]).arg(tree.path("tree/bin").join(name)).arg(source);
    assert!(output.status().unwrap().success(), "these tests need a C compiler");
}

fn survives_garbage_and_sudden_death(tier: Tier) {
    let own = ["/", "/proc", "/sys", "/sys/kernel", "/dev", "/dev/null"];
    let attributes = || own.map(|path| fs_err::metadata(path).map(|of| (of.mode(), of.uid(), of.gid())).unwrap());
    let before = attributes();
    for user in ["", "app"] {
        // It spoils its tree.
        let tree = Tree::new();
        compile(&tree, "fuzz");
        let mut spec = RunSpec::new(tree.root(), ["/bin/fuzz", "2", "1"]);
        spec.user = user.into();
        let result = run(tier, spec);
        assert_eq!((&result.exit, result.stdout.as_str()), (&Ok(Exit::Code(0)), "alive\n"), "{user} {result:?}");
    }
    assert_eq!(attributes(), before, "the machine's own");
}

/// What a relative path begins at may be another directory by the time that the kernel looks.
fn keeps_paths_inside_that_begin_elsewhere_meanwhile(tier: Tier) {
    for user in ["", "app"] {
        let tree = Tree::new();
        compile(&tree, "borders");
        let mut spec = RunSpec::new(tree.root(), ["/bin/borders", "2"]);
        spec.user = user.into();
        assert_eq!(stdout(tier, spec), "outside: 0 0 0 0 0 0 0 0 0 0 0 0\n", "{user}, by the order of the calls");
    }
}

/// A path that led nowhere, or through the tree alone, leads to /proc once a link is there.
fn finds_places_behind_links_that_come_later(tier: Tier) {
    let tree = Tree::new();
    let script =
        "at() { [ -e $1/self/stat ] && echo $1 there || echo $1 not; }; mkdir /a /b /tmp/c; ln -s /proc /b/link
        for path in /a/link /moved/link /link /hard /c/link; do at $path; at $path; done
        ln -s /proc /a/link; mv /b /moved; ln -s /proc /tmp/link; mv /tmp/link /link; ln /link /hard
        cd /tmp; ln -s ../proc c/link; mv c ..
        for path in /a/link /moved/link /link /hard /c/link; do at $path; done
        mkdir -p /d/self; echo > /d/self/stat; at /d; at /d; mv /d /e; ln -s /proc /d; at /d";
    let paths = ["/a/link", "/moved/link", "/link", "/hard", "/c/link"];
    let before = paths.map(|path| format!("{path} not\n{path} not\n")).concat();
    let after = paths.map(|path| format!("{path} there\n")).concat() + &"/d there\n".repeat(3);
    assert_eq!(stdout(tier, tree.sh(script)), before + &after);
}

/// What realpath(3) was told of a directory holds until something else is there, whoever put that there.
fn sees_links_that_take_the_place_of_directories(tier: Tier) {
    let script = "cd /tmp; mkdir -p a/b/c x/y; ln -s x o; chown -h 5 o 2> /dev/null; at() { realpath /tmp/a/b/c; realpath /tmp/a/b/c; }; at
        mv a/b a/moved; ln -s moved a/b; at
        rm a/b; mv a/moved a/b; at; realpath /tmp/a/moved/c 2> /dev/null
        ln -s ../../x/y /tmp/l; rmdir a/b/c; mv l a/b/c; at
        rm a/b/c; ln x/y/none a/b/c 2> /dev/null; mkdir a/b/c; at";
    let places = ["/tmp/a/b/c", "/tmp/a/moved/c", "/tmp/a/b/c", "/tmp/x/y", "/tmp/a/b/c"];
    let expected: String = places.map(|path| format!("{path}\n{path}\n")).concat();
    for user in ["", "app"] {
        let tree = Tree::new();
        let mut spec = tree.sh(script);
        spec.user = user.into();
        assert_eq!(stdout(tier, spec), expected, "{user}");
    }
}

/// Owners and modes are the right ones at once, by a path, by a name in a directory and by a descriptor, of a file that
/// takes another one's inode too.
fn tells_of_owners_that_change(tier: Tier) {
    let tree = Tree::new();
    let script = "cd /tmp; one='stat -L -c %u:%g:%a'; at() { $one /tmp/f; $one f; $one f; $one /dev/stdin < f; }
        echo > f; at; chown 5:6 f; at; chmod 4711 f; at; chown 0:0 f; chmod 644 f; at
        for i in 1 2 3; do rm f; (umask 77; echo > f); at; chown 7:$i f; at; done; rm f; echo > f; at";
    let states = [
        "0:0:644", "5:6:644", "5:6:4711", "0:0:644", "0:0:600", "7:1:600", "0:0:600", "7:2:600", "0:0:600", "7:3:600",
        "0:0:644",
    ];
    let expected: String = states.map(|state| format!("{state}\n").repeat(4)).concat();
    assert_eq!(stdout(tier, tree.sh(script)), expected);
}

/// A thread that runs a program takes the first one's number, which may be traced for a call of its own then.
fn outlives_threads_that_take_over(tier: Tier) {
    let tree = Tree::new();
    compile(&tree, "takeover");
    let mut spec = RunSpec::new(tree.root(), ["/bin/takeover", "300"]);
    spec.user = "app".into();
    assert_eq!(stdout(tier, spec), "done\n");
}

/// Processor time of the children that have ended, in seconds: unlike the time of day it tells something on a busy machine.
fn used() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap();
    let after: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = after[13..15].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// Tells how the supervised step compares with a plain chroot; `cargo test -- --ignored --nocapture measures`.
#[test]
#[allow(clippy::print_stdout)] // figures are what it is for
#[ignore = "a measurement: needs DOCKLESS_TEST_DEBIAN, the directory of a Debian tree that may be changed"]
fn measures() {
    let tree = PathBuf::from(std::env::var_os("DOCKLESS_TEST_DEBIAN").expect("a tree"));
    // Another build of the program, an optimised one.
    let exe = std::env::var_os("DOCKLESS_TEST_EXE").map_or(PathBuf::from(EXE), PathBuf::from);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/supervisor/calls.c");
    let mut cc = std::process::Command::new("cc");
    assert!(cc.args(["-O1", "-static", "-w", "-o"]).arg(tree.join("calls")).arg(source).status().unwrap().success());
    let commands = [
        "tar -cf /dev/null /usr",
        "/calls fork 1000",
        "/calls absolute 20000",
        "/calls relative 20000",
        "/calls proc 20000",
    ];
    for command in commands {
        let before = used();
        let mut plain = std::process::Command::new("chroot");
        plain.arg(&tree).args(["/bin/sh", "-c", command]).output().unwrap();
        let plain = used() - before;
        let spec = RunSpec::new(Root::Dir(tree.clone()), ["/bin/sh", "-c", command]);
        let result = trial_in(&exe, &[spec], Isolation::Chroot).unwrap().remove(0);
        assert_eq!(result.exit, Ok(Exit::Code(0)), "{result:?}");
        let supervised = used() - before - plain;
        writeln!(std::io::stdout(), "{command}: plain {plain:.2} s, supervised {supervised:.2} s").unwrap();
    }
}
