//! Tests of RUN's mounts and options, by the real binary on a busybox base.

use super::support::bases;
use dockless::store::Store;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const EXE: &str = env!("CARGO_BIN_EXE_dockless");

/// A context, and a store that has busybox.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let name = "docker.io/library/busybox:latest".parse().unwrap();
        let layout = bases::layout("busybox");
        for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            store.put_blob(&fs::read(blob.unwrap().path()).unwrap()).unwrap();
        }
        let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        store.tag(&name, &serde_json::from_value(index["manifests"][0].clone()).unwrap()).unwrap();
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.path("c").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, dockerfile: &str, out: &str, flags: &[&str]) -> Command {
        self.file("Dockerfile", dockerfile);
        let mut command = Command::new(EXE);
        command.env_clear().env("HOME", self.dir.path()).env("DOCKLESS_HOME", self.path("store"));
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").current_dir(self.dir.path()).stdin(Stdio::null());
        command.args(["build", "--progress=plain", "-o", out]).args(flags).arg("c");
        command
    }

    fn build(&self, dockerfile: &str, flags: &[&str]) -> Output {
        let _ = fs::remove_dir_all(self.path("out")); // of the build before
        self.command(dockerfile, "out", flags).output().unwrap()
    }

    /// Builds; `/o` of the image.
    #[track_caller]
    fn o(&self, dockerfile: &str, flags: &[&str]) -> String {
        let output = self.build(dockerfile, flags);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(self.path("out/o")).unwrap()
    }

    /// What a build says that must fail.
    #[track_caller]
    fn fails(&self, dockerfile: &str, flags: &[&str]) -> String {
        let output = self.build(dockerfile, flags);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Files anywhere below the store that hold `text`.
    fn holding(&self, text: &str) -> Vec<PathBuf> {
        let (mut found, mut todo) = (Vec::new(), vec![self.path("store")]);
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let (entry, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
                if kind.is_dir() {
                    todo.push(entry);
                } else if kind.is_file()
                    && fs::read(&entry).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes())
                {
                    found.push(entry);
                }
            }
        }
        found
    }
}

#[test]
fn bind_of_the_context_is_filtered_owned_by_root_and_never_changed() {
    let bench = Bench::new();
    for name in ["a.txt", "dir/x", "dir/sub/z", "b.md", "glob[1]"] {
        bench.file(name, name);
    }
    bench.file(".dockerignore", "dir/sub\nb.md\n");
    symlink("dir", bench.path("c/link")).unwrap();
    std::os::unix::fs::chown(bench.path("c/a.txt"), Some(1001), Some(1002)).unwrap();
    let find = bench.o("FROM busybox\nRUN --mount=target=/m cd /m && find . | sort > /o", &[]);
    assert_eq!(find, ".\n./.dockerignore\n./Dockerfile\n./a.txt\n./dir\n./dir/x\n./glob[1]\n./link\n");
    let owner =
        "FROM busybox\nRUN --mount=target=/m stat -c '%u %g' /m/a.txt >/o; touch /m/w 2>/dev/null || echo ro >>/o";
    assert_eq!(bench.o(owner, &[]), "0 0\nro\n");
    let rw = "FROM busybox\nRUN --mount=target=/m,rw echo new >/m/new && rm /m/a.txt && ls /m >/o\n\
              RUN --mount=target=/m,rw ls /m >>/o";
    assert_eq!(bench.o(rw, &[]), "Dockerfile\ndir\nglob[1]\nlink\nnew\nDockerfile\na.txt\ndir\nglob[1]\nlink\n");
    assert!(bench.path("c/a.txt").exists() && !bench.path("c/new").exists(), "the context was changed");
    assert!(!bench.path("out/m").exists(), "the mount point stayed");
    let file =
        "FROM busybox\nWORKDIR /w\nRUN --mount=source=link/x,target=f --mount=source=glob[1],target=/g cat f /g >/o";
    assert_eq!(bench.o(file, &[]), "dir/xglob[1]");
    let missing = bench.fails("FROM busybox\nRUN --mount=source=nope,target=/m true", &[]);
    assert!(missing.contains("\"/nope\": not found"), "{missing}");
    let ignored = bench.fails("FROM busybox\nRUN --mount=source=b.md,target=/m true", &[]);
    assert!(ignored.contains("excluded by pattern 'b.md'"), "{ignored}");
}

#[test]
fn what_a_bind_selects_decides_whether_the_step_runs_again() {
    let bench = Bench::new();
    bench.file("in/x", "1");
    bench.file("other", "1");
    let dockerfile = "FROM busybox\nRUN --mount=source=in,target=/m head -c8 /dev/urandom | od -x | cat - /m/x >/o";
    let first = bench.o(dockerfile, &[]);
    assert_eq!(bench.o(dockerfile, &[]), first);
    bench.file("other", "2");
    assert_eq!(bench.o(dockerfile, &[]), first, "what is not mounted counts");
    bench.file("in/x", "2");
    let second = bench.o(dockerfile, &[]);
    assert!(second.ends_with('2') && second != first, "{second}");
    fs::set_permissions(bench.path("c/in/x"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(bench.o(dockerfile, &[]), second, "modes do not count");
}

#[test]
fn bind_of_stages_and_images() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox AS one\nRUN mkdir -p /d/e && echo one >/d/f && chown -R 5:6 /d && ln -s /d /l\n\
        FROM one AS two\nRUN rm /d/f && echo two >/d/g\n\
        FROM busybox\nRUN --mount=from=two,target=/t ls -n /t/d | awk '{print $3,$4,$9}' >/o; touch /t/x 2>/dev/null || echo ro >>/o\n\
        RUN --mount=from=one,source=l/f,target=/t cat /t >>/o\n\
        RUN --mount=from=two,source=d,target=/t,rw echo x >/t/new && ls /t >>/o\n\
        RUN --mount=from=two,source=d,target=/t,rw ls /t >>/o\n\
        RUN --mount=from=busybox,target=/t test -x /t/bin/sh && echo image >>/o\n\
        RUN --mount=from=scratch,target=/t ls -A /t >>/o";
    let expected = "  \n5 6 e\n0 0 g\nro\none\ne\ng\nnew\ne\ng\nimage\n";
    assert_eq!(bench.o(dockerfile, &[]), expected);
    let text = bench.fails("FROM busybox\nRUN --mount=from=busybox,source=/nope,target=/t true", &[]);
    assert!(text.contains("\"/nope\": not found"), "{text}");
}

#[test]
fn caches_outlive_builds_and_are_told_apart() {
    let bench = Bench::new();
    let run = |mount: &str, text: &str| format!("FROM busybox\nRUN --mount=type=cache,{mount} {text}");
    assert_eq!(bench.o(&run("target=/c", "echo 1 >>/c/f; cat /c/f >/o"), &[]), "1\n");
    assert_eq!(bench.o(&run("target=/c", "echo 2 >>/c/f; cat /c/f >/o"), &[]), "1\n2\n");
    assert_eq!(bench.o(&run("target=/x,id=/c,sharing=locked", "cat /x/f >/o"), &[]), "1\n2\n");
    assert_eq!(bench.o(&run("target=/x,id=/c,source=f", "cat /x >/o"), &[]), "1\n2\n");
    for other in ["target=/c,id=d", "target=/c,mode=0700", "target=/c,uid=3", "target=/c,gid=3"] {
        assert_eq!(bench.o(&run(other, "ls /c >/o"), &[]), "", "{other}");
    }
    assert_eq!(bench.o(&run("target=/d", "ls /d >/o"), &[]), "");
    let ns = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=n"];
    assert_eq!(bench.o(&run("target=/c", "ls /c >/o; true n"), &ns), "");
    let stat = "stat -c '%u %g %a' /c >/o";
    assert_eq!(bench.o(&run("target=/c,uid=5,gid=6,mode=0750", stat), &[]), "5 6 750\n");
    assert_eq!(bench.o(&run("target=/c,ro", "touch /c/f 2>/dev/null || echo ro >/o"), &[]), "ro\n");
    let seeded = "FROM busybox AS seed\nRUN mkdir /s && echo seed >/s/f && chown 7:8 /s/f\nFROM busybox\n\
        RUN --mount=type=cache,from=seed,source=/s,target=/c cat /c/f >/o; stat -c '%u %g' /c/f >>/o; rm /c/f";
    assert_eq!(bench.o(seeded, &[]), "seed\n7 8\n");
    let again = format!("{seeded}\nRUN --mount=type=cache,from=seed,source=/s,target=/c ls /c >/o");
    assert_eq!(bench.o(&again, &[]), "", "seeded once");
    let escape = "FROM busybox\nRUN --mount=type=cache,id=e,target=/c ln -s /etc /c/sel\n\
        RUN --mount=type=cache,id=e,source=sel,target=/v cat /v/hostname";
    let text = bench.fails(escape, &[]);
    assert!(text.contains("No such file or directory"), "{text}");
}

#[test]
fn the_content_of_a_cache_is_no_part_of_the_key() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c echo x >>/c/f; wc -l </c/f >/o";
    assert_eq!(bench.o(dockerfile, &[]).trim(), "1");
    assert_eq!(bench.o(dockerfile, &[]).trim(), "1", "ran again");
    assert_eq!(bench.o(dockerfile, &["--no-cache"]).trim(), "2");
}

#[test]
fn locked_caches_are_used_one_at_a_time_by_all_processes() {
    let bench = Bench::new();
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,target=/c,sharing=locked for i in 1 2 3 4 5 6 7 8; do \
                 mkdir /c/held || exit 9; rmdir /c/held; done; true {name}\n"
        )
    };
    let dockerfile = format!(
        "{}{}FROM busybox\nCOPY --from=a /etc/passwd /1\nCOPY --from=b /etc/passwd /2\n",
        stage("a"),
        stage("b")
    );
    let mut children: Vec<_> = (0..3)
        .map(|n| {
            let mut command = bench.command(&dockerfile, &format!("out{n}"), &["--no-cache"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children.drain(..) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn secrets_are_seen_by_their_step_alone() {
    const SECRET: &str = "hush-hush-5a7c";
    let bench = Bench::new();
    fs::write(bench.path("file"), SECRET).unwrap();
    let flags = ["--secret", "id=s,src=file"];
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=s wc -c </run/secrets/s >/o; stat -c '%a %u %g' /run/secrets/s >>/o; \
            touch /run/secrets/s 2>/dev/null; echo x 2>/dev/null >/run/secrets/s || echo ro >>/o\n\
        RUN --mount=type=secret,id=s,target=/w/k,uid=5,gid=6,mode=0444 stat -c '%a %u %g' /w/k >>/o\n\
        RUN --mount=type=secret,id=s,env=TOK echo ${#TOK} >>/o; ls /run/secrets >>/o 2>&1 || true\n\
        RUN --mount=type=secret,id=s,env=TOK,target=/t echo ${#TOK} >>/o; wc -c </t >>/o\n\
        RUN ls /run /w /t >>/o 2>&1; env | grep -c TOK >>/o; true";
    let output = bench.build(dockerfile, &flags);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    let o = fs::read_to_string(bench.path("out/o")).unwrap();
    let missing = |path: &str| format!("ls: {path}: No such file or directory\n");
    let expected = format!(
        "14\n400 0 0\nro\n444 5 6\n14\n{}14\n14\n{}{}{}0\n",
        missing("/run/secrets"),
        missing("/run"),
        missing("/w"),
        missing("/t")
    );
    assert_eq!(o, expected);
    assert!(!log.contains(SECRET), "{log}");
    assert_eq!(bench.holding(SECRET), Vec::<PathBuf>::new());
    // Neither its value nor whether it is there is in the key.
    fs::write(bench.path("file"), "another").unwrap();
    assert_eq!(bench.o(dockerfile, &flags), expected);
}

#[test]
fn secrets_that_are_missing() {
    let bench = Bench::new();
    let optional = "FROM busybox\nRUN --mount=type=secret,id=s ls /run/secrets >/o 2>&1 || true";
    assert_eq!(bench.o(optional, &[]), "ls: /run/secrets: No such file or directory\n");
    let text = bench.fails("FROM busybox\nRUN --mount=type=secret,id=s,required true", &[]);
    assert!(text.contains("secret s: not found"), "{text}");
    let output = bench.build("FROM busybox", &["--secret", "id=s,src=nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn an_agent_is_lent() {
    let bench = Bench::new();
    let _listener = UnixListener::bind(bench.path("agent")).unwrap();
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=ssh,uid=1000 --mount=type=ssh,id=b,target=/b.sock echo $SSH_AUTH_SOCK >/o; \
        stat -c '%F %a %u %g' $SSH_AUTH_SOCK >>/o; ls /b.sock >>/o 2>&1; true\n\
        RUN ls $SSH_AUTH_SOCK /run >>/o 2>&1; true";
    let socket = bench.path("agent");
    let flag = format!("default={}", socket.display());
    let o = bench.o(dockerfile, &["--ssh", &flag]);
    let expected = "/run/buildkit/ssh_agent.0\nsocket 600 1000 0\nls: /b.sock: No such file or directory\n\
        ls: /run: No such file or directory\n";
    assert_eq!(o, expected);
    let missing = "FROM busybox\nRUN --mount=type=ssh echo \"[$SSH_AUTH_SOCK]\" >/o";
    assert_eq!(bench.o(missing, &[]), "[/run/buildkit/ssh_agent.0]\n");
    let text = bench.fails("FROM busybox\nRUN --mount=type=ssh,required true", &[]);
    assert!(text.contains("no SSH key \"default\" forwarded"), "{text}");
}

#[test]
fn memory_limits_and_names() {
    let bench = Bench::new();
    let tmpfs = "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=2m echo x >/t/f && df -k /t | tail -1 | awk '{print $2}' >/o\n\
        RUN ls /t >>/o 2>&1; df -k /dev/shm | tail -1 | awk '{print $2}' >>/o; ulimit -n >>/o; hostname >>/o";
    let missing = "ls: /t: No such file or directory\n";
    let flags = ["--shm-size=128m", "--ulimit", "nofile=1062:1062", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=box"];
    assert_eq!(bench.o(tmpfs, &flags), format!("2048\n{missing}131072\n1062\nbox\n"));
    let plain = bench.o(tmpfs, &[]);
    assert!(plain.starts_with(&format!("2048\n{missing}65536\n")) && plain.ends_with("\nbuildkitsandbox\n"), "{plain}");
    let shm = "FROM busybox\nRUN --mount=type=tmpfs,target=/dev/shm,size=3m mount | grep -c /dev/shm >/o; df -k /dev/shm | tail -1 | awk '{print $2}' >>/o";
    assert_eq!(bench.o(shm, &[]), "1\n3072\n");
}

#[test]
fn networks_and_what_needs_to_be_allowed() {
    let bench = Bench::new();
    let none = "FROM busybox\nRUN --network=none ls /sys/class/net >/dev/null; cat /proc/net/dev | grep -c : >/o";
    assert_eq!(bench.o(none, &[]).trim(), "1");
    let host = "FROM busybox\nRUN --network=host cat /proc/net/dev | grep -c : >/o";
    let text = bench.fails(host, &[]);
    assert!(text.contains("network.host is not allowed"), "{text}");
    let own = fs::read_to_string("/proc/net/dev").unwrap().matches(':').count().to_string();
    assert_eq!(bench.o(host, &["--allow", "network.host"]).trim(), own);
    assert_eq!(bench.o(host, &["--network=host"]).trim(), own);
    let insecure = "FROM busybox\nRUN --security=insecure true";
    assert!(bench.fails(insecure, &[]).contains("security.insecure is not allowed"));
    assert!(bench.fails(insecure, &["--allow=security.insecure"]).contains("--security=insecure is not possible"));
    let device = bench.fails("FROM busybox\nRUN --device=vendor.com/gpu=0 true", &[]);
    assert!(device.contains("--device=vendor.com/gpu=0 is not supported"), "{device}");
}

#[test]
fn proxies_come_from_the_config_file_and_nothing_from_the_environment() {
    let bench = Bench::new();
    fs::create_dir(bench.path(".docker")).unwrap();
    let config = r#"{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "n"}}}"#;
    fs::write(bench.path(".docker/config.json"), config).unwrap();
    let dockerfile = "FROM busybox\nRUN env | grep -i -e proxy -e CALLER | sort >/o";
    let _ = fs::remove_dir_all(bench.path("out"));
    let mut command = bench.command(dockerfile, "out", &["--build-arg", "NO_PROXY=given"]);
    let output = command.env("CALLER", "x").env("FTP_PROXY", "x").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let env = fs::read_to_string(bench.path("out/o")).unwrap();
    let expected = "HTTP_PROXY=http://p:1\nNO_PROXY=given\nhttp_proxy=http://p:1\nno_proxy=given\n";
    assert_eq!(env, expected);
    assert_eq!(bench.holding("http://p:1").len(), 1, "it is in the layer that wrote it, and in no config");
}

#[test]
fn one_stage_without_the_cache() {
    let bench = Bench::new();
    let random = "RUN head -c8 /dev/urandom | od -x";
    let dockerfile = format!(
        "FROM busybox AS one\n{random} >/a\nFROM busybox AS two\n{random} >/b\n\
        FROM busybox\nCOPY --from=one /a /a\nCOPY --from=two /b /b\nRUN cat /a /b >/o"
    );
    let first = bench.o(&dockerfile, &[]);
    let second = bench.o(&dockerfile, &["--no-cache-filter", "TWO"]);
    let half = |text: &str| text.lines().next().unwrap().to_string();
    assert_eq!(half(&second), half(&first));
    assert_ne!(second, first);
}

#[test]
fn annotations_are_in_the_manifest() {
    let bench = Bench::new();
    let output = bench.build("FROM busybox", &["--annotation", "org.example=yes", "--metadata-file", "meta"]);
    assert!(output.status.success(), "{output:?}");
    let meta: serde_json::Value = serde_json::from_slice(&fs::read(bench.path("meta")).unwrap()).unwrap();
    let digest = meta["containerimage.digest"].as_str().unwrap().replace(':', "/");
    let manifest = fs::read(Path::new(&bench.path("store/blobs")).join(digest)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["annotations"], serde_json::json!({"org.example": "yes"}));
}
