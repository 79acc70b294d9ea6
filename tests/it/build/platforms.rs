//! Several platforms in one build, and platforms that are not the machine's.

use super::place::{Caller, Place, tool};
use crate::support::registry::Registry;
use serde_json::Value;
use std::fs;
use std::process::Command;

const DOCKERFILE: &str = "FROM --platform=$BUILDPLATFORM scratch AS tools\nCOPY f /once\n\
    FROM scratch\nARG TARGETPLATFORM\nCOPY --from=tools /once /dir/\nENV P=$TARGETPLATFORM\n";

fn json(bytes: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(bytes.as_ref()).expect("JSON")
}

#[test]
fn several_make_an_index() {
    let place = Place::new(Caller::Own);
    let registry = Registry::start();
    place.file("Dockerfile", DOCKERFILE).file("f", "content\n");
    let at = |name: &str| place.path("out").join(name).display().to_string();
    let words = format!(
        "build --progress=plain --platform linux/amd64,linux/arm64 --platform linux/arm -t {host}/app:1 --push \
         --annotation index,manifest[linux/arm64]:a=b --annotation manifest-descriptor:c=d --iidfile {iid} \
         --metadata-file {meta} -o type=oci,dest={oci} -o type=local,dest={tree} -o type=tar,dest={tar} context",
        host = registry.host(),
        iid = at("iid"),
        meta = at("meta"),
        oci = at("oci.tar"),
        tree = at("tree"),
        tar = at("tree.tar"),
    );
    let ran = place.dockless(&words).succeeded();
    // What does not depend on the platform is made once.
    let reused = ran.stderr.lines().filter(|line| line.contains(" CACHED ") && line.ends_with(" this build"));
    assert_eq!(reused.count(), 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("[linux/arm/v7 stage-1 1/1] COPY"), "{}", ran.stderr);
    let index = registry.manifest("app:1");
    let digest = dockless::oci::Digest::sha256(&index).to_string();
    assert_eq!(ran.text().trim(), digest);
    assert_eq!(fs::read_to_string(at("iid")).unwrap(), digest);
    let meta = json(fs::read(at("meta")).unwrap());
    assert_eq!((&meta["containerimage.digest"], &meta["containerimage.config.digest"]), (&digest.into(), &Value::Null));
    let index = json(index);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["annotations"], serde_json::json!({"a": "b"}));
    let entries = index["manifests"].as_array().unwrap();
    let platforms: Vec<String> = entries.iter().map(|entry| entry["platform"]["architecture"].to_string()).collect();
    assert_eq!(platforms, ["\"amd64\"", "\"arm64\"", "\"arm\""]);
    assert_eq!(entries[2]["platform"]["variant"], "v7");
    assert!(entries.iter().all(|entry| entry["annotations"] == serde_json::json!({"c": "d"})));
    let annotated: Vec<bool> = entries
        .iter()
        .map(|entry| {
            json(registry.manifest(&format!("app@{}", entry["digest"].as_str().unwrap())))["annotations"]["a"] == "b"
        })
        .collect();
    assert_eq!(annotated, [false, true, false]);
    // Each platform's image is whole, in the registry and in the archive.
    let pushed = format!("docker://{}/app:1", registry.host());
    for (from, flags) in [(format!("oci-archive:{}", at("oci.tar")), None), (pushed, Some("--tls-verify=false"))] {
        let layout = format!("oci:{}:all", at("copied"));
        let copy = ["copy", "--quiet", "--insecure-policy", "--all"].into_iter();
        let flags = flags.map(|_| "--src-tls-verify=false");
        tool("skopeo", copy.chain(flags).chain([from.as_str(), layout.as_str()]));
        let inspect = ["--override-arch", "arm64", "inspect", "--config", layout.as_str()];
        assert!(json(tool("skopeo", inspect))["config"]["Env"].to_string().contains("P=linux/arm64"));
    }
    for name in ["linux_amd64", "linux_arm64", "linux_arm_v7"] {
        assert_eq!(fs::read_to_string(place.path("out/tree").join(name).join("dir/once")).unwrap(), "content\n");
    }
    let listing = tool("tar", ["-tf", &at("tree.tar")]);
    assert!(listing.lines().any(|line| line == "linux_arm_v7/dir/once"), "{listing}");
    // The same again makes nothing new.
    let before = place.kept();
    place.dockless(&words).succeeded();
    assert_eq!(place.kept(), before);
    place.dockless("images").succeeded();
}

#[test]
fn an_index_of_one_on_request() {
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", DOCKERFILE).file("f", "content\n");
    let meta = place.path("out/meta");
    let words = format!("build --build-arg BUILDKIT_MULTI_PLATFORM=1 --metadata-file {} context", meta.display());
    place.dockless(&words).succeeded();
    let meta = json(fs::read(meta).unwrap());
    assert_eq!(meta["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
}

#[test]
fn one_failure_ends_all_platforms() {
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY f-$TARGETARCH /f\n").file("f-amd64", "");
    place.dockless("build --platform linux/amd64,linux/arm64 -t app context").failed(1, &["\"/f-arm64\": not found"]);
    assert_eq!(place.dockless("images").succeeded().text().lines().count(), 1, "nothing was named");
}

/// A program of another architecture: the head of one, which is all that the kernel looks at.
fn foreign_program() -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    // Executable, AArch64 (elf.h: ET_EXEC, EM_AARCH64).
    head.extend([2, 0, 183, 0]);
    head.resize(64, 0);
    head
}

const FOREIGN: &str = "FROM scratch\nCOPY prog /prog\nRUN [\"/prog\", \"hello\"]\n";

#[test]
fn without_an_emulator_only_run_fails() {
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", FOREIGN).file("prog", foreign_program());
    executable(&place);
    let words = ["(linux/amd64) has no emulator for linux/arm64", "Exec format error", "binfmt_misc", "3 | RUN"];
    place.dockless("build --platform linux/arm64 context").failed(1, &words);
    place.dockless("build --platform windows/amd64 context").failed(1, &["cannot run a command for windows/amd64"]);
    place.file("Dockerfile", "FROM scratch\nCOPY prog /prog\n");
    place.dockless("build --platform linux/arm64 context").succeeded();
}

fn executable(place: &Place) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(place.path("context/prog"), mode).expect("own file");
}

/// Registers an emulator for a user namespace of its own (Linux 6.7): busybox as `echo`, which says what it was to run.
const REGISTER: &str = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&
    echo \":fake:M::\\\\x7fELF\\\\x02\\\\x01\\\\x01\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x02\\\\x00\\\\xb7\\\\x00::$0:F\" \
    > /proc/sys/fs/binfmt_misc/register && exec \"$@\"";

#[test]
fn an_emulator_is_used() {
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", FOREIGN).file("prog", foreign_program());
    executable(&place);
    fs::copy("/bin/busybox", place.path("echo")).expect("busybox-static");
    let build = place.command("build --progress=plain --platform linux/arm64 context", [""; 0]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", REGISTER]).arg(place.path("echo"));
    command.arg(build.get_program()).args(build.get_args());
    command.env_clear().envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.current_dir(place.path("")).output().expect("unshare");
    let ran = place.finish(output).succeeded();
    assert!(ran.stderr.contains("/prog hello"), "{}", ran.stderr);
}
