//! Tests of what the supervisor serves to a step of the chroot tier: /proc, /sys, terminals, and mounts where nothing can
//! be mounted. They need root, as CI has it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use dockless::sandbox::{Exit, Mount, MountSource, Root, RunSpec, Tier, TrialResult};

/// A busybox tree to run in, and directories beside it.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Tree {
        let tree = Tree { dir: tempfile::tempdir().unwrap() };
        // Who a step's user is outside may pass.
        fs_err::set_permissions(tree.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["tree/bin", "tree/etc", "tree/tmp", "tree/root", "tree/proc", "tree/sys", "tree/dev", "source/sub"]
        {
            fs_err::create_dir_all(tree.path(name)).unwrap();
        }
        fs_err::set_permissions(tree.path("tree/tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs_err::copy("/usr/bin/busybox", tree.path("tree/bin/busybox")).unwrap();
        let applets = std::process::Command::new("/usr/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            symlink("busybox", tree.path("tree/bin").join(applet)).unwrap();
        }
        fs_err::write(tree.path("tree/etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/tmp:/bin/sh\n")
            .unwrap();
        fs_err::write(tree.path("tree/etc/group"), "root:x:0:\napp:x:1001:\n").unwrap();
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sh(&self, script: &str) -> RunSpec {
        RunSpec::new(Root::Dir(self.path("tree")), ["/bin/sh", "-c", script])
    }

    /// `script` with the directory `source` at /src.
    fn bound(&self, readonly: bool, script: &str) -> RunSpec {
        let mut spec = self.sh(script);
        spec.mounts.push(Mount { source: MountSource::Bind(self.path("source")), target: "/src".into(), readonly });
        spec
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

/// Runs a script that prints what is wrong, and nothing else.
fn silent(tier: Tier, spec: RunSpec) {
    assert_eq!(stdout(tier, spec), "");
}

/// Lines `name: command` whose output is to be as told.
fn expect(tier: Tier, spec: impl Fn(&str) -> RunSpec, cases: &[(&str, &str)]) {
    for (script, wanted) in cases {
        let result = run(tier, spec(script));
        let got = result.stdout.trim_end();
        assert_eq!((got, result.stderr.as_str()), (*wanted, ""), "{script}: {:?}", result.exit);
    }
}

in_each_tier!(
    shows_a_process_itself,
    hides_what_is_not_the_steps,
    acts_on_descriptors_by_their_paths,
    lets_a_step_live_in_proc,
    tells_of_its_mounts,
    tells_of_the_size_of_a_tmpfs,
    keeps_mounts_where_they_are,
    binds_directories,
    keeps_what_is_read_only,
    runs_programs_of_a_bind,
    serves_other_users_by_their_own_rights,
    gives_terminals,
    has_another_root_after_chroot,
);

fn shows_a_process_itself(tier: Tier) {
    let tree = Tree::new();
    let exe = "/bin/busybox";
    expect(
        tier,
        |script| tree.sh(script),
        &[
            ("readlink /proc/self/exe", exe),
            ("readlink /proc/self/root", "/"),
            ("cd /tmp; readlink /proc/self/cwd", "/tmp"),
            (
                "cd /etc; ls /proc/self/cwd/passwd /proc/self/root/etc/passwd",
                "/proc/self/cwd/passwd\n/proc/self/root/etc/passwd",
            ),
            ("grep -c ' /bin/busybox$' /proc/self/maps | grep -vx 0 | wc -l", "1"),
            ("cat /proc/self/cmdline | tr '\\0' ' '", "cat /proc/self/cmdline"),
            ("A=b env -i C=d cat /proc/self/environ | tr '\\0' '\\n'", "C=d"),
            ("[ $(readlink /proc/self) = $(sh -c 'echo $PPID') ] || echo differs", "differs"),
            ("exec readlink /proc/self | grep -c '^[0-9]*$'", "1"),
            ("readlink /proc/thread-self | sed 's/[0-9][0-9]*/N/g'", "N/task/N"),
            ("cmp /proc/$$/comm /proc/$$/task/$$/comm && echo same", "same"),
            ("ls -ld /proc | cut -c1", "d"),
            ("[ -d /proc ] && [ ! -L /proc ] && [ -d /sys ] && [ ! -L /sys ] && [ -d /dev/pts ] && echo yes", "yes"),
            ("ls -l /proc/self/ | grep -c ' exe -> /bin/busybox$'", "1"),
            ("ls -l /proc | grep -c ' self -> '", "1"),
            ("sleep 1 & ps -o pid,args | grep -c 'sleep [1]$'; ps | grep -c '[k]thread'", "1\n0"),
            ("ls / | tr '\\n' ' '; find / -maxdepth 1 -type l; ls /dev/pts", "bin dev etc proc root sys tmp ptmx"),
            ("exec -a busybox /proc/self/exe echo x", "x"),
        ],
    );
}

fn hides_what_is_not_the_steps(tier: Tier) {
    let tree = Tree::new();
    let parent = std::process::id();
    for path in ["1", "2", &parent.to_string()] {
        for file in ["", "/environ", "/cmdline", "/root/etc", "/cwd", "/fd/0", "/mem", "/status", "/task", "/exe"] {
            let result = run(tier, tree.sh(&format!("ls -d /proc/{path}{file} || cat /proc/{path}{file}")));
            assert_eq!(result.stdout, "", "/proc/{path}{file}");
            assert!(!result.stderr.contains("denied"), "/proc/{path}{file}: {}", result.stderr);
        }
    }
    expect(
        tier,
        |script| tree.sh(script),
        &[
            // The supervisor, which is the parent of the first process.
            ("ls /proc/$PPID 2>/dev/null; cat /proc/$PPID/environ 2>/dev/null; echo $?", "1"),
            ("cd /proc; ls 1 2>/dev/null; cat 1/environ ./1/environ self/../1/environ 2>/dev/null; echo $?", "1"),
            ("cat /proc/self/task/1/environ 2>/dev/null; echo $?", "1"),
            ("wc -c < /proc/keys; wc -c < /proc/timer_list; ls /proc/scsi /proc/acpi 2>/dev/null | grep -v :", "0\n0"),
            ("ls -l /proc/keys | cut -c1", "c"),
            ("ls /sys/firmware", ""),
            ("echo 1 2>/dev/null > /proc/sys/vm/drop_caches || echo no", "no"),
            ("(echo x > /proc/sys/kernel/hostname) 2>&1 | grep -o Read-only.*", "Read-only file system"),
            (
                "(mkdir /sys/x; mkdir /proc/x; rmdir /proc; mv /sys /x) 2>&1 | sed 's/.*: //'",
                "Read-only file system\nNo such file or directory\nDevice or resource busy\nDevice or resource busy",
            ),
            ("mkdir -p /proc /sys /dev/pts && echo there", "there"),
        ],
    );
}

fn acts_on_descriptors_by_their_paths(tier: Tier) {
    let tree = Tree::new();
    expect(
        tier,
        |script| tree.sh(script),
        &[
            ("echo in | cat /dev/stdin", "in"),
            ("echo in | cat /proc/self/fd/0", "in"),
            ("echo out > /dev/stdout", "out"),
            ("echo out | tee /dev/fd/1 | sort", "out\nout"),
            ("ls /dev/fd | head -2", "0\n1"),
            ("ls -l /dev/fd/ < /etc/passwd 2>/dev/null | grep -o '0 -> .*'", "0 -> /etc/passwd"),
            ("exec 3> /tmp/f; chmod 600 /proc/self/fd/3; stat -c %a /tmp/f", "600"),
            // What belongs to the machine stays as it is, by name and by descriptor.
            (
                "for d in /proc /proc/uptime /dev/pts /proc/self; do chmod 700 $d 2> /dev/null && echo $d; done; echo no",
                "no",
            ),
            (
                "exec 3< /proc; chown 5 /proc/self/fd/3 2> /dev/null || echo no; touch /proc 2> /dev/null || echo no",
                "no\nno",
            ),
            ("exec 3> /tmp/f; chown 5:6 /dev/fd/3; stat -c %u:%g /tmp/f", "5:6"),
            ("exec 3> /tmp/f; touch -d '2001-02-03 04:05:06' /proc/self/fd/3; stat -c %Y /tmp/f", "981173106"),
            ("exec 3> /tmp/f; echo long >&3; truncate -s 2 /proc/self/fd/3; cat /tmp/f", "lo"),
            (
                "exec 3< /etc; ls /proc/self/fd/3/passwd; cat /dev/fd/3/../etc/passwd | head -c 4",
                "/proc/self/fd/3/passwd\nroot",
            ),
            ("exec 3< /etc/passwd; [ -r /dev/fd/3 ] && [ -f /dev/fd/3 ] && [ -L /dev/fd/3 ] && echo yes", "yes"),
            ("exec 3< /bin/busybox; exec -a busybox /proc/self/fd/3 echo run", "run"),
            ("stat -f -c %T /proc; stat -f -c %T /proc/self/exe | grep -c proc", "proc\n0"),
            ("cat /dev/fd/9 2>/dev/null; echo $?", "1"),
        ],
    );
}

fn lets_a_step_live_in_proc(tier: Tier) {
    let tree = Tree::new();
    expect(
        tier,
        |script| tree.sh(script),
        &[
            ("cd /proc/self && pwd -P | sed 's/[0-9][0-9]*/N/'", "/proc/N"),
            (
                "cd /proc && pwd && cat uptime > /dev/null && cat self/limits > /dev/null && cat sys/kernel/ostype",
                "/proc
Linux",
            ),
            (
                "cd /proc/sys/kernel && cat ../../../etc/passwd | head -c 4 && ls ../.. > /dev/null && cat ./ostype",
                "rootLinux",
            ),
            (
                "cd /proc/self/fd && cat ../../../../../../../../etc/group | head -c 4; ls ../../../.. | grep -c bin",
                "root1",
            ),
            ("cd /proc/self/cwd && pwd -P", "/"),
            ("cd /sys/kernel && /bin/pwd && cd .. && /bin/pwd && cd .. && /bin/pwd", "/sys/kernel\n/sys\n/"),
            ("cd /proc/1 2>/dev/null; echo $?", "2"),
            ("cd /proc/self/fd; sh -c 'cd ..; grep -c ^Pid: status'", "1"),
        ],
    );
}

fn tells_of_its_mounts(tier: Tier) {
    let tree = Tree::new();
    let table = stdout(
        tier,
        tree.bound(
            true,
            "cut -d' ' -f2,3 /proc/mounts; cut -d' ' -f4,5 /proc/self/mountinfo; cat /etc/mtab 2>/dev/null; true",
        ),
    );
    for line in ["/proc proc", "/sys sysfs", "/dev/pts devpts", "/ /proc", "/ /sys"] {
        assert!(table.lines().any(|got| got == line), "{line} is not in\n{table}");
    }
    assert!(table.lines().any(|line| line.starts_with("/src ")), "{table}");
    assert!(!table.contains("cgroup"), "{table}");
    let root = table.lines().next().unwrap();
    assert!(root.starts_with("/ "), "{table}");
    let options = stdout(tier, tree.bound(true, "grep ' /src ' /proc/mounts | cut -d' ' -f4"));
    assert!(options.starts_with("ro,"), "{options}");
    silent(tier, tree.sh("cmp /proc/mounts /proc/self/mounts; cmp /proc/mounts /proc/$$/task/$$/mounts"));
    assert_eq!(stdout(tier, tree.sh("cat /proc/self/mountstats | grep -c 'mounted on /proc with fstype proc'")), "1\n");
}

fn tells_of_the_size_of_a_tmpfs(tier: Tier) {
    let tree = Tree::new();
    let with_tmpfs = |user: &str, script: &str| {
        let mut spec = tree.sh(script);
        let target = PathBuf::from("/var/cache/t");
        spec.mounts.push(Mount { source: MountSource::Tmpfs(Some(1 << 20)), target, readonly: false });
        spec.user = user.to_string();
        spec
    };
    let script = "grep ' /var/cache/t ' /proc/mounts
        grep -c ' / /dev/shm rw,nosuid,relatime - tmpfs tmpfs rw,size=65536k$' /proc/self/mountinfo
        mkdir /var/cache/t/sub; dd if=/dev/zero of=/var/cache/t/sub/x bs=1024 count=100 2> /dev/null
        ln /var/cache/t/sub/x /var/cache/t/y; cd /var/cache/t/sub
        stat -fc '%t %s %b %f %a' . x /dev/shm; stat -fc %t /etc | grep -vc 1021994";
    let wanted = "tmpfs /var/cache/t tmpfs rw,nosuid,relatime,size=1024k 0 0\n1\n\
        1021994 4096 256 231 231\n1021994 4096 256 231 231\n1021994 4096 16384 16384 16384\n1\n";
    assert_eq!(stdout(tier, with_tmpfs("", script)), wanted);
    let script = "stat -fc '%t %b' /var/cache/t /dev/shm";
    assert_eq!(stdout(tier, with_tmpfs("app", script)), "1021994 256\n1021994 16384\n");
    let mut spec = tree.sh("stat -fc %b /dev/shm");
    spec.shm_size = Some(128 << 20);
    assert_eq!(stdout(tier, spec), "32768\n");
}

fn keeps_mounts_where_they_are(tier: Tier) {
    let tree = Tree::new();
    fs_err::create_dir_all(tree.path("tree/srv/a/b")).unwrap();
    let run = |script: &str| {
        let mut spec = tree.bound(false, script);
        let target = PathBuf::from("/srv/a/b");
        spec.mounts.push(Mount { source: MountSource::Tmpfs(None), target, readonly: false });
        run(tier, spec)
    };
    for script in [
        "mv /etc /gone",
        "cd /etc; mv . ../gone",
        "mv /srv /gone",
        "cd /srv; mv a/ c",
        "mv /srv/a/b /gone",
        "rmdir /srv/a/b",
        "rm /etc/hosts",
        "cd /etc; echo x > new; mv -f new hosts",
        "mv /src /gone",
        "cd /tmp; mv ../dev gone",
    ] {
        let result = run(script);
        assert!(result.stderr.contains("busy"), "{script}: {result:?}");
        assert_eq!(result.exit, Ok(Exit::Code(1)), "{script}");
    }
    let script = "mkdir -p /x/etc /x/srv/a; mv /x/etc /x/dev; mv /x/srv /x/y; rm -r /x; rmdir /none/etc; rm /tmp/hosts";
    assert_eq!(run(script).stderr.matches("No such file").count(), 2);
    let mut names: Vec<_> =
        fs_err::read_dir(tree.path("tree")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "dev", "etc", "proc", "root", "srv", "sys", "tmp"]);
}

fn binds_directories(tier: Tier) {
    let tree = Tree::new();
    fs_err::write(tree.path("source/file"), "text").unwrap();
    fs_err::write(tree.path("secret"), "secret").unwrap();
    symlink("../secret", tree.path("source/up")).unwrap();
    symlink("/etc/passwd", tree.path("source/absolute")).unwrap();
    symlink("sub", tree.path("source/link")).unwrap();
    let script = r#"
        set -e
        cd /src
        [ "$(pwd -P)" = /src ]
        [ "$(cat file)" = text ]
        [ "$(head -c4 absolute)" = root ]
        ! cat up 2>/dev/null
        ! cat ../secret ../../secret 2>/dev/null
        ! cat /src/../secret 2>/dev/null
        [ "$(ls .. | grep -c bin)" = 1 ]
        echo new > link/new; [ "$(cat sub/new)" = new ]
        mkdir -p made/deep; cd made/deep; [ "$(/bin/pwd)" = /src/made/deep ]; cd ../..
        mv sub/new made/moved; ln made/moved made/hard; ln -s moved made/soft
        [ "$(cat made/soft)" = new ]; [ "$(stat -c %h made/hard)" = 2 ]
        chmod 640 made/hard; chown 7:8 made/hard; touch -d '2001-02-03 04:05:06' made/hard
        [ "$(stat -c '%a %u %g %Y' made/moved)" = '640 7 8 981173106' ]
        ! mv made/hard /tmp/across 2>/dev/null || [ "$(cat /tmp/across)" = new ]
        ! ln file /tmp/hard 2>/dev/null
        umask 077; echo x > made/private; mkdir made/closed; [ "$(stat -c %a made/private made/closed | tr '\n' ' ')" = '600 700 ' ]
        mkfifo made/fifo; (echo through > made/fifo &); [ "$(cat made/fifo)" = through ]
        (cat made/fifo > made/got &); sleep 0.1; echo back > made/fifo; sleep 0.2; [ "$(cat made/got)" = back ]
        mknod made/null c 1 3; echo x > made/null
        ! rmdir made 2>/dev/null; rm -r made; [ ! -e made ]
        ! rmdir /src 2>/dev/null; ! mv /src /other 2>/dev/null
        exec 3< sub; cd /; [ "$(ls /proc/self/fd/3/..)" != "" ]; [ "$(readlink /proc/self/fd/3)" = /src/sub ]
        ! cat /proc/self/fd/3/../../secret 2>/dev/null
        [ "$(find /src -name file)" = /src/file ]
    "#;
    silent(tier, tree.bound(false, script));
    let names: Vec<_> =
        fs_err::read_dir(tree.path("source")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(!tree.path("tree/src").exists(), "the layer shows no mount");
}

fn keeps_what_is_read_only(tier: Tier) {
    let tree = Tree::new();
    fs_err::write(tree.path("source/file"), "text").unwrap();
    let changes = [
        "echo x > file",
        "echo x >> file",
        "echo x > new",
        "mkdir new",
        "rm file",
        "mv file new",
        "ln file new",
        "ln -s x new",
        "mkfifo new",
        "chmod 600 file",
        "chown 1 file",
        "touch file",
        "touch new",
        "truncate -s 0 file",
        "rmdir sub",
        "mknod new c 1 3",
        "sh -c 'exec 3<file; chmod 600 /proc/self/fd/3'",
        "sh -c 'exec 3<file; echo x > /dev/fd/3'",
        "sh -c 'exec 3<>file'",
        "sh -c 'cd sub && echo x > ../file'",
    ];
    for change in changes {
        let result = run(tier, tree.bound(true, &format!("cd /src; {change}")));
        assert_ne!(result.exit, Ok(Exit::Code(0)), "{change}");
        assert!(result.stderr.contains("Read-only file system"), "{change}: {}", result.stderr);
    }
    let script = "cd /src; cat file; echo; [ -r file ] && mkdir sub 2>&1 | grep -o exists";
    assert_eq!(stdout(tier, tree.bound(true, script)), "text\nexists\n");
    let metadata = fs_err::metadata(tree.path("source/file")).unwrap();
    let owner = if tier == Tier::Emulated { 61234 } else { 0 };
    assert_eq!((metadata.mode() & 0o777, metadata.uid(), metadata.len()), (0o644, owner, 4));
}

fn runs_programs_of_a_bind(tier: Tier) {
    let tree = Tree::new();
    let script = |name: &str, text: &str| {
        fs_err::write(tree.path(name), text).unwrap();
        fs_err::set_permissions(tree.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("source/tell", "#!/bin/sh\necho \"$0 $# $1 $2\"\n");
    script("source/by-bind", "#!/src/busybox sh\necho \"$0 $1\"\n");
    script("source/twice", "#!/src/tell flag\n");
    script("tree/bin/by-bind", "#!/src/busybox sh\necho \"$0 $1\"\n");
    script("source/no-format", "echo fell back\n");
    fs_err::copy("/usr/bin/busybox", tree.path("source/busybox")).unwrap();
    fs_err::write(tree.path("source/not"), "#!/bin/sh\n").unwrap();
    expect(
        tier,
        |script| tree.bound(true, script),
        &[
            ("/src/tell a 'b c'", "/src/tell 2 a b c"),
            ("cd /src && ./tell x", "./tell 1 x"),
            ("cd /src/sub && ../tell", "../tell 0"),
            ("PATH=/src:$PATH tell y z", "/src/tell 2 y z"),
            ("/src/by-bind arg", "/src/by-bind arg"),
            ("by-bind arg", "/bin/by-bind arg"),
            ("/src/twice more", "/src/tell 3 flag /src/twice"),
            ("/src/busybox echo native; /src/busybox readlink /proc/self/exe", "native\n/src/busybox"),
            ("/src/no-format", "fell back"),
            (
                "/src/not 2>/dev/null; echo $?; /src/none 2>/dev/null; echo $?; /src/sub 2>/dev/null; echo $?",
                "126\n127\n126",
            ),
            ("env -i A=b /src/busybox env", "A=b"),
            ("/proc/meminfo 2>/dev/null; echo $?", "126"),
        ],
    );
}

fn serves_other_users_by_their_own_rights(tier: Tier) {
    let tree = Tree::new();
    fs_err::write(tree.path("source/private"), "x").unwrap();
    fs_err::set_permissions(tree.path("source/private"), PermissionsExt::from_mode(0o600)).unwrap();
    fs_err::write(tree.path("source/public"), "y").unwrap();
    let script = r#"
        cat /src/private 2>/dev/null && echo read it
        [ "$(cat /src/public)" = y ] || echo cannot read
        touch /src/new 2>/dev/null && echo made it
        [ -r /src/private ] && echo says readable
        cat /proc/self/environ > /dev/null || echo own environ
        ls /proc/self/fd > /dev/null || echo own descriptors
        readlink /proc/self/exe > /dev/null || echo own program
        [ "$(stat -c %u:%g /proc/self/)" = 1000:1001 ] || stat -c %u:%g /proc/self/
        grep '^Uid:' /proc/self/status | tr '\t' ' ' | grep -qx 'Uid: 1000 1000 1000 1000' || echo wrong status
        echo in | cat /dev/stdin | grep -qx in || echo stdin
        echo $$ > /proc/self/oom_score_adj 2>/dev/null; echo 500 > /proc/self/oom_score_adj || echo own file
        cd /proc/self/fd && cd .. && cat comm > /dev/null || echo chdir
        cat /proc/kmsg 2>/dev/null && echo kernel log
        echo x > /dev/fd/2 || echo no stderr
        true
    "#;
    let mut spec = tree.bound(false, script);
    spec.user = "app".to_string();
    let result = run(tier, spec);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("", "x\n"));
    // Root's process, to the same user.
    let script = "sleep 5 & su app -s /bin/sh -c \"cat /proc/$!/environ; ls /proc/$!/fd; readlink /proc/$!/exe; \
        ls -d /proc/$!\" 2>&1 | sed 's/[0-9][0-9]*/N/'; kill $!";
    assert_eq!(
        stdout(tier, tree.sh(script)),
        "cat: can't open '/proc/N/environ': Permission denied\nls: can't open '/proc/N/fd': Permission denied\n/proc/N\n"
    );
}

/// The kernel's root stays the tree, so nothing leads out of it.
fn has_another_root_after_chroot(tier: Tier) {
    let tree = Tree::new();
    fs_err::write(tree.path("tree/etc/outer"), "outer").unwrap();
    let prepare = "rm -rf /r; mkdir -p /r/bin /r/etc /r/tmp /r/sub; cp /bin/busybox /r/bin; for a in sh cat ls pwd id stat readlink mkdir chroot su env true sleep; \
        do ln -s busybox /r/bin/$a; done; printf 'root:x:0:0::/:/bin/sh\\napp:x:1000:1001::/:/bin/sh\\n' > /r/etc/passwd; \
        printf '#!/bin/sh\\necho \"$0 $1\"\\n' > /r/bin/tell; chmod 755 /r/bin/tell; ln -s /etc/passwd /r/link; ln -s ../../../etc/outer /r/up; \
        chmod 700 /r/sub; mkdir /r/proc /r/dev; mknod -m 666 /r/dev/null c 1 3; ";
    expect(
        tier,
        |script| tree.sh(&format!("{prepare}{script}")),
        &[
            (
                "chroot /r /bin/sh -c 'pwd; ls /; echo x > /new; cat /new'; cat /r/new",
                "/\nbin\ndev\netc\nlink\nproc\nsub\ntmp\nup\nx\nx",
            ),
            (
                "chroot /r tell a; chroot /r /bin/sh -c 'cd /tmp; /bin/pwd; ../bin/tell b; PATH=/bin tell c'",
                "/bin/tell a\n/tmp\n../bin/tell b\n/bin/tell c",
            ),
            (
                "chroot /r cat /link | head -c 9; chroot /r cat /up /etc/outer /../etc/outer ../../etc/outer 2> /dev/null; echo $?",
                "root:x:0:1",
            ),
            (
                "chroot /r sh -c 'mkdir -p /a/b; cd /a/b; (cd ../..; pwd; cd ../..; pwd); chroot /a /bin/sh 2>&- || echo none'; ls -d /r/a/b",
                "/\n/\nnone\n/r/a/b",
            ),
            // The caller's own root is as it was, and that of a process that is left behind is not.
            (
                "chroot /r true; ls -d /etc/outer; chroot /r sh -c '(sleep 0.3; ls /etc > /new; sleep 1) & '; while [ ! -s /r/new ]; do sleep 0.1; done; cat /r/new",
                "/etc/outer\npasswd",
            ),
            (
                "chroot / ls -d /etc/outer; chroot /r chroot / ls /etc; chroot /none true 2>/dev/null; echo $?; chroot /etc/outer true 2>/dev/null; echo $?",
                "/etc/outer\npasswd\n1\n1",
            ),
            (
                "chroot /r su app -s /bin/sh -c 'id -u; ls /sub 2>&- || echo closed; readlink /link; chroot /tmp 2>&- || echo no'",
                "1000\nclosed\n/etc/passwd\nno",
            ),
            ("chroot /r cat /proc/self/environ 2> /dev/null; echo $?; chroot /r env -i A=b env", "1\nA=b"),
            ("cd /etc; chroot /r /bin/sh -c 'echo in' < outer; chroot /r cat < outer; echo", "in\nouter"),
        ],
    );
}

fn gives_terminals(tier: Tier) {
    let tree = Tree::new();
    expect(
        tier,
        |script| tree.sh(script),
        &[
            (
                "ls /dev/pts/ptmx; for n in $(ls /dev/pts); do [ -e /dev/pts/$n ] && echo $n; done",
                "/dev/pts/ptmx\nptmx",
            ),
            ("exec 3<>/dev/ptmx; for n in $(ls /dev/pts); do [ -c /dev/pts/$n ] && echo x; done | wc -l", "2"),
            ("ls -l /dev/ptmx | grep -o 'ptmx -> .*'", "ptmx -> pts/ptmx"),
        ],
    );
}
