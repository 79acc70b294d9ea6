//! Every instruction, as every kind of caller: built, pushed, inspected, unpacked, run.

use super::place::{Place, callers, is_root, tool};
use crate::support::registry::Registry;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const DOCKERFILE: &str = r#"# syntax=docker/dockerfile:1
ARG BASE
FROM scratch AS files
COPY msg.txt /from-scratch

FROM $BASE AS triggers
ONBUILD ENV TRIGGERED=yes
ONBUILD RUN echo "onbuild $TRIGGERED" > /onbuild

FROM triggers AS build
ARG GREETING=hello
ARG VERSION
ENV A=1 B="two words"
ENV C=${A}${B:+-set}
WORKDIR /src
WORKDIR sub
RUN echo "$GREETING $VERSION $A $B $C $PWD" > out
RUN ["/bin/sh", "-c", "echo exec $A > exec"]
RUN <<SCRIPT
set -e
echo heredoc > heredoc
id -u > id
SCRIPT
RUN <<PROGRAM
#!/bin/sh
echo "a program: $(basename $0)" > program
PROGRAM
SHELL ["/bin/sh", "-e", "-c"]
RUN echo "shell $-" > shell

FROM $BASE AS unused
RUN false

FROM build
RUN echo "app:x:1000:1000::/home/app:/bin/sh" >> /etc/passwd && echo "app:x:1000:" >> /etc/group
COPY --chown=app:app dir /home/app
COPY --from=build /src/sub/ /data/
COPY --from=0 /from-scratch /data/zero
COPY --from=files --chown=1000:1000 --chmod=640 /from-scratch /data/owned
COPY globs/*.txt /globs/
COPY <<INLINE /data/inline
inline $A
INLINE
ADD msg.txt /added/
ADD --chown=1000:1000 pack.tar /unpacked/
LABEL one=1 two="2 words"
EXPOSE 80 53/udp
VOLUME /vol
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --retries=2 CMD test -e /data/out
ONBUILD RUN echo later
USER app
RUN echo "$(id -u) $HOME" > /tmp/me
USER app
WORKDIR /home/app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $(id -u) $(pwd) $A; exit 3"]
"#;

fn prepare(place: &Place) {
    place.file("Dockerfile", DOCKERFILE).file("msg.txt", "hello\n").file("dir/sub/two", "two\n");
    place.file("globs/a.txt", "a").file("globs/b.txt", "b").file("globs/c.md", "c").file(".dockerignore", "*.md\n");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o600);
    header.set_uid(7);
    header.set_gid(7);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, "deep/file", &b"t\n"[..]).expect("memory");
    place.file("pack.tar", tar.into_inner().expect("memory"));
}

#[test]
fn every_instruction_as_every_caller() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    for caller in callers("every instruction") {
        let place = Place::new(caller);
        prepare(&place);
        let name = format!("{}/app:{caller:?}", registry.host());
        let words = format!("build --build-arg BASE={base} --build-arg VERSION=9 -t {name} --push context");
        let first = place.dockless(&words).succeeded();
        let digest = first.text().trim().to_string();
        let pushed = format!("docker://{}/app@{digest}", registry.host());
        tool("skopeo", ["inspect", "--tls-verify=false", &pushed]);

        // Nothing is run, read or written again; the result is the same.
        let kept = place.kept();
        let again = place.dockless(&words).succeeded();
        assert_eq!(again.text().trim(), digest, "{caller:?}");
        assert_eq!(place.kept(), kept, "{caller:?}");
        check_config(&registry, &name);

        let ran = place.dockless("images --no-trunc");
        let id = config_digest(&registry, &name);
        assert!(ran.text().contains(&id) && ran.text().contains(&format!("{caller:?}")), "{}", ran.text());
        if is_root("umoci and crun") {
            check_tree(&registry, &name, &place);
        }
        check_run(&place, &name);
    }
}

fn manifest(registry: &Registry, name: &str) -> Value {
    let (_, name) = name.split_once('/').expect("host/name");
    serde_json::from_slice(&registry.manifest(name)).expect("a manifest")
}

fn config_digest(registry: &Registry, name: &str) -> String {
    manifest(registry, name)["config"]["digest"].as_str().expect("a digest").to_string()
}

/// The config as skopeo shows it.
fn check_config(registry: &Registry, name: &str) {
    let image = manifest(registry, name);
    assert_eq!(image["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let text = tool("skopeo", ["inspect", "--config", "--tls-verify=false", &format!("docker://{name}")]);
    let config: Value = serde_json::from_str(&text).expect("a config");
    let layers = image["layers"].as_array().expect("layers").len();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().expect("diff ids").len(), layers);
    let history = config["history"].as_array().expect("a history");
    assert_eq!(history.iter().filter(|entry| entry["empty_layer"] != true).count(), layers);
    let raw = tool("skopeo", ["inspect", "--config", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    let raw: Value = serde_json::from_str(&raw).expect("a config");
    let mut ours = raw["config"].clone();
    // A field of Docker's own, which says nothing on Linux.
    ours.as_object_mut().expect("an object").remove("ArgsEscaped");
    assert_eq!(
        ours,
        json!({
            "User": "app",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TRIGGERED=yes", "A=1",
                    "B=two words", "C=1-set"],
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["echo $(id -u) $(pwd) $A; exit 3"],
            "Volumes": {"/vol": {}},
            "WorkingDir": "/home/app",
            "Labels": {"one": "1", "two": "2 words"},
            "StopSignal": "SIGUSR1",
            "Shell": ["/bin/sh", "-e", "-c"],
            "Healthcheck": {"Test": ["CMD-SHELL", "test -e /data/out"], "Interval": 5_000_000_000u64, "Retries": 2},
            "OnBuild": ["RUN echo later"],
        })
    );
}

/// The tree as umoci unpacks it, and as crun runs it.
fn check_tree(registry: &Registry, name: &str, place: &Place) {
    let (layout, bundle) = (place.path("layout"), place.path("bundle"));
    registry.get(name.split_once('/').expect("host/name").1, &layout);
    let image = format!("{}:latest", layout.display());
    tool("umoci", ["unpack".as_ref(), "--image".as_ref(), image.as_ref(), bundle.as_os_str()]);
    let root = bundle.join("rootfs");
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    for (path, expected) in [
        ("onbuild", "onbuild yes\n"),
        ("data/out", "hello 9 1 two words 1-set /src/sub\n"),
        ("data/exec", "exec 1\n"),
        ("data/heredoc", "heredoc\n"),
        ("data/id", "0\n"),
        ("data/zero", "hello\n"),
        ("data/inline", "inline 1\n"),
        ("src/sub/out", "hello 9 1 two words 1-set /src/sub\n"),
        ("globs/a.txt", "a"),
        ("globs/b.txt", "b"),
        ("added/msg.txt", "hello\n"),
        ("unpacked/deep/file", "t\n"),
        ("home/app/sub/two", "two\n"),
        ("tmp/me", "1000 /home/app\n"),
    ] {
        assert_eq!(text(path), expected, "{path}");
    }
    assert!(text("data/program").starts_with("a program: "), "{}", text("data/program"));
    assert!(text("data/shell").contains('e'), "{}", text("data/shell"));
    let is = |path: &str| {
        let meta = fs::symlink_metadata(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        (meta.mode() & 0o7777, meta.uid(), meta.gid())
    };
    for (path, expected) in [
        ("data", (0o755, 0, 0)),
        ("data/owned", (0o640, 1000, 1000)),
        ("data/inline", (0o644, 0, 0)),
        ("home/app", (0o755, 1000, 1000)),
        ("home/app/sub/two", (0o644, 1000, 1000)),
        ("unpacked/deep/file", (0o600, 1000, 1000)),
        ("src/sub", (0o755, 0, 0)),
        ("tmp", (0o1777, 0, 0)),
    ] {
        assert_eq!(is(path), expected, "{path}");
    }
    for absent in ["globs/c.md", "etc/resolv.conf", "etc/hosts", "proc/self", "dev/null"] {
        assert!(fs::symlink_metadata(root.join(absent)).is_err(), "{absent} is in the image");
    }
    crun(&bundle);
}

/// Runs the bundle with crun: the image's own command, user and directory.
fn crun(bundle: &Path) {
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("umoci's")).expect("JSON");
    config["process"]["terminal"] = false.into();
    fs::write(&file, config.to_string()).expect("own directory");
    // crun refuses machines that have both versions of cgroups.
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun --cgroup-manager=disabled run -b \"$0\" \"$1\"";
    let id = format!("dockless-{}", std::process::id());
    let output = Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(bundle).arg(id).output();
    let output = output.expect("unshare and crun are installed");
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()),
        ("1000 /home/app 1\n", Some(3)),
        "{output:?}"
    );
}

/// The image started by dockless: its own command, and what the flags change.
fn check_run(place: &Place, name: &str) {
    let own = place.dockless(&format!("run {name}"));
    assert_eq!((own.text(), own.code), ("1000 /home/app 1\n", Some(3)), "{}", own.stderr);
    for (flags, command, expected, code) in [
        ("-u 0", "echo $(id -u) $HOME $B; exit 7", "0 /root two words\n", 7),
        (
            "-u 0 -e A=5 -w /data --add-host there:10.0.0.1",
            "echo $A $(pwd); grep -c there /etc/hosts",
            "5 /data\n1\n",
            0,
        ),
        ("-u 0:0 --network none", "id -g; tail -n +3 /proc/net/dev | grep -v lo:", "0\n", 1),
        ("-u 0", "kill -TERM $$", "", 143),
    ] {
        let ran = place.call(&format!("run {flags} {name}"), [command]);
        assert_eq!((ran.text(), ran.code), (expected, Some(code)), "{command}: {}", ran.stderr);
    }
    let ran = place.dockless(&format!("run -u 0 --entrypoint cat {name} /data/zero"));
    assert_eq!((ran.text(), ran.code), ("hello\n", Some(0)), "{}", ran.stderr);
    let ran = place.dockless(&format!("run -u 0 --entrypoint nowhere {name}"));
    assert_eq!(ran.code, Some(127), "{}", ran.stderr);
    // What a container writes is gone after it.
    place.call(&format!("run -u 0 {name}"), ["echo x > /written"]).succeeded();
    assert_eq!(place.call(&format!("run -u 0 {name}"), ["test -e /written"]).code, Some(1));
}
