//! The verbs that talk to registries, as a user types them, against Debian's docker-registry.

use crate::support::registry::{Options, Registry};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A user with a home of his own.
pub struct User {
    home: TempDir,
}

pub struct Told {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl User {
    pub fn new() -> User {
        User { home: tempfile::tempdir().unwrap() }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.current_dir(self.home.path()).stdin(Stdio::null()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Told {
        self.run_with(arguments, &[])
    }

    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
        Told::of(&self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let told = self.run(arguments);
        assert_eq!(told.code, 0, "{arguments:?}: {}{}", told.stdout, told.stderr);
        told.stdout
    }

    fn with_input(&self, arguments: &[&str], input: &str) -> Told {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Told::of(&child.wait_with_output().unwrap())
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(".docker/config.json")).unwrap()).unwrap()
    }
}

impl Told {
    pub fn of(output: &Output) -> Told {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Told { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

fn locked() -> Registry {
    Registry::start_with(Options { login: Some(("me".into(), "hunter2".into())), ..Options::default() })
}

#[test]
fn a_login_is_proved_kept_used_and_forgotten() {
    let registry = locked();
    let (host, user) = (registry.host(), User::new());
    let base = registry.put_base("busybox");
    let denied = user.run(&["pull", &base]);
    assert!(denied.code == 1 && denied.stderr.contains("no credentials found (looked at"), "{}", denied.stderr);

    let told = user.with_input(&["login", "-u", "me", "--password-stdin", host], "hunter3\n");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    assert!(told.stderr.contains("cannot log in to") && told.stderr.contains("401"), "{}", told.stderr);
    assert!(!user.path(".docker").exists() && !told.stderr.contains("hunter"), "{}", told.stderr);

    std::fs::create_dir(user.path(".docker")).unwrap();
    std::fs::write(user.path(".docker/config.json"), r#"{"proxies":{"default":{}},"auths":{"r.io":{}}}"#).unwrap();
    let told = user.with_input(&["login", "-u", "me", "--password-stdin", host], "hunter2\n");
    assert_eq!((told.code, told.stdout.as_str()), (0, "Login Succeeded\n"), "{}", told.stderr);
    assert!(told.stderr.contains("is kept as it is in") && !told.stderr.contains("command line"), "{}", told.stderr);
    let config = user.config();
    assert_eq!(config["auths"][host]["auth"], "bWU6aHVudGVyMg==");
    assert!(config["proxies"]["default"].is_object() && config["auths"]["r.io"].is_object(), "{config}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&user.path(".docker/config.json").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    user.ok(&["pull", &base]);
    let known = user.run(&["login", host]);
    assert!(known.stdout == "Login Succeeded\n" && known.stderr.contains("user 'me'"), "{}", known.stderr);

    assert_eq!(user.ok(&["logout", host]), format!("Removing login credentials for {host}\n"));
    assert!(user.config()["auths"][host].is_null() && user.config()["auths"]["r.io"].is_object());
    assert_eq!(user.run(&["pull", &base]).code, 1);

    let told = user.run(&["login", "-u", "me", "-p", "hunter2", host]);
    assert!(told.code == 0 && told.stderr.contains("use --password-stdin"), "{}", told.stderr);
    let told = user.run(&["login", "-u", "me", host]);
    assert!(told.code == 2 && told.stderr.contains("--password-stdin"), "{}", told.stderr);
}

#[test]
fn creds_are_enough_without_a_login() {
    let registry = locked();
    let (base, user) = (registry.put_base("busybox"), User::new());
    user.ok(&["pull", "-q", "--creds", "me:hunter2", &base]);
    let told = user.run(&["pull", "--creds", "me:hunter3", &base]);
    assert!(told.stderr.contains("user 'me' from --creds") && !told.stderr.contains("hunter3"), "{}", told.stderr);
}

/// GitLab mounts config.json read-only into some jobs. A directory in its place cannot be written by anybody, root included.
#[test]
fn a_login_that_no_config_takes_is_kept_privately() {
    let registry = locked();
    let (host, user) = (registry.host(), User::new());
    let base = registry.put_base("busybox");
    std::fs::write(user.path(".docker"), "not a directory").unwrap();
    let told = user.with_input(&["login", "-u", "me", "--password-stdin", host], "hunter2");
    assert_eq!((told.code, told.stdout.as_str()), (0, "Login Succeeded\n"), "{}", told.stderr);
    assert!(told.stderr.contains("login.json, which only dockless reads"), "{}", told.stderr);
    user.ok(&["pull", &base]);
    assert!(user.ok(&["info", host]).contains("login.json"));
    user.ok(&["logout", host]);
    assert_eq!(user.run(&["pull", &base]).code, 1);
}

#[test]
fn a_helper_keeps_the_login_where_one_is_configured() {
    let registry = locked();
    let (host, user) = (registry.host(), User::new());
    let bin = user.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\ncd \"$HOME\"\ncase $1 in\nstore) cat > kept ;;\nget) cat > /dev/null; [ -e kept ] && cat kept || { \
        echo credentials not found in native keychain; exit 1; } ;;\nerase) rm kept ;;\nesac\n";
    std::fs::write(bin.join("docker-credential-test"), script).unwrap();
    let executable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(bin.join("docker-credential-test"), executable).unwrap();
    std::fs::create_dir(user.path(".docker")).unwrap();
    std::fs::write(user.path(".docker/config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let run = |arguments: &[&str]| Told::of(&user.command(arguments).env("PATH", &path).output().unwrap());
    let told = run(&["login", "-u", "me", "-p", "hunter2", host]);
    assert_eq!((told.code, told.stdout.as_str()), (0, "Login Succeeded\n"), "{}", told.stderr);
    assert!(std::fs::read_to_string(user.path("kept")).unwrap().contains("hunter2"));
    assert_eq!(user.config()["auths"], Value::Null);
    assert_eq!(run(&["registry", "tags", &format!("{host}/library/busybox")]).code, 1, "404, but let in");
    run(&["logout", host]);
    assert!(!user.path("kept").exists());
}

#[test]
fn pull_tag_push_inspect_in_dockers_words() {
    let registry = Registry::start();
    let (host, user) = (registry.host(), User::new());
    registry.put_base("busybox");
    let base = format!("{host}/library/busybox");
    let digest = dockless::oci::Digest::sha256(registry.manifest("library/busybox:latest"));
    let pulled = user.ok(&["pull", &base]);
    let expected = |status: &str| {
        format!(
            "Using default tag: latest\nlatest: Pulling from library/busybox\nDigest: {digest}\n\
             Status: {status} {base}:latest\n{base}:latest\n"
        )
    };
    assert_eq!(pulled, expected("Downloaded newer image for"));
    assert_eq!(user.ok(&["pull", &base]), expected("Image is up to date for"));
    assert_eq!(user.ok(&["pull", "-q", &base]), format!("{base}:latest\n"));
    // Lazy: the layer is not there before something reads it.
    let blobs = || std::fs::read_dir(user.path(".local/share/dockless/blobs/sha256")).unwrap().count();
    let before = blobs();
    user.ok(&["pull", "--all-layers", &base]);
    assert_eq!(blobs(), before + 1);

    let described: Value = serde_json::from_str(&user.ok(&["inspect", &base])).unwrap();
    assert_eq!(described[0]["RepoTags"][0], format!("{base}:latest"));
    assert_eq!(described[0]["RepoDigests"][0], format!("{base}@{digest}"));
    assert_eq!(described[0]["RootFS"]["Type"], "layers");
    let remote: Value = serde_json::from_str(&User::new().ok(&["inspect", "--remote", &base])).unwrap();
    assert_eq!(described, remote);
    let id = described[0]["Id"].as_str().unwrap();

    let to = format!("{host}/team/app:1");
    user.ok(&["tag", &id["sha256:".len()..][..12], &to]);
    let size = registry.manifest("library/busybox:latest").len();
    let pushed = user.ok(&["push", &to]);
    assert_eq!(pushed, format!("The push refers to repository [{host}/team/app]\n1: digest: {digest} size: {size}\n"));
    assert_eq!(user.ok(&["push", "-q", &to]), format!("{to}\n"));
    user.ok(&["tag", &to, &format!("{host}/team/app:2")]);
    let all = user.ok(&["push", "-a", &format!("{host}/team/app")]);
    assert!(all.contains("\n1: digest: ") && all.contains("\n2: digest: "), "{all}");
    assert_eq!(user.ok(&["registry", "tags", &format!("{host}/team/app")]), "1\n2\n");
    registry.get("team/app:2", tempfile::tempdir().unwrap().path());

    let missing = user.run(&["push", &format!("{host}/no/such:1")]);
    assert!(missing.code == 1 && missing.stderr.contains("no such image"), "{}", missing.stderr);
    let missing = user.run(&["inspect", "nothing", &base]);
    assert!(
        missing.code == 1 && missing.stdout.contains("RepoTags") && missing.stderr.contains("no such image: nothing")
    );
    assert_eq!(user.run(&["tag", "nothing", &to]).code, 1);
    assert_eq!(user.run(&["push", "-a", &to]).code, 2);
}

#[test]
fn copies_travel_without_a_store() {
    let (one, other) = (Registry::start(), Registry::start());
    let (base, user) = (one.put_base("busybox"), User::new());
    let digest = dockless::oci::Digest::sha256(one.manifest("library/busybox:latest"));
    let near = format!("{}/team/app:1", one.host());
    assert_eq!(user.ok(&["copy", &base, &near]), format!("{digest}\n"));
    let far = format!("{}/team/app:1", other.host());
    assert_eq!(user.ok(&["copy", "-q", &near, &far]), format!("{digest}\n"));
    assert!(!user.path(".local").exists(), "nothing is kept");
    other.get("team/app:1", tempfile::tempdir().unwrap().path());
    assert_eq!(user.ok(&["registry", "delete", &far]), format!("{digest}\n"));
    assert_eq!(user.run(&["pull", &far]).code, 1);
}

/// Two images, one index: made of one from the store and one from the registry, changed, pushed, read by skopeo.
#[test]
fn an_index_is_made_annotated_pushed_and_inspected() {
    let registry = Registry::start();
    let (host, user) = (registry.host(), User::new());
    let base = registry.put_base("busybox");
    let other = registry.put(&other_platform(user.home.path()), "library/arm:1");
    user.ok(&["pull", "-q", &base]);
    let list = format!("{host}/team/multi:1");
    assert_eq!(user.ok(&["manifest", "create", &list, &base, &other]), format!("Created manifest list {list}\n"));
    let again = user.run(&["manifest", "create", &list, &base]);
    assert!(again.code == 1 && again.stderr.contains("--amend"), "{}", again.stderr);
    user.ok(&["index", "annotate", "--variant", "v8", "--annotation", "org.example=yes", &list, &other]);
    user.ok(&["index", "annotate", "--annotation", "org.example=all", &list]);
    let digest = user.ok(&["manifest", "push", &list]);
    let pushed: Value = serde_json::from_slice(&registry.manifest("team/multi:1")).unwrap();
    assert_eq!(dockless::oci::Digest::sha256(registry.manifest("team/multi:1")).to_string(), digest.trim());
    assert_eq!(pushed["annotations"]["org.example"], "all");
    let platforms: Vec<_> = pushed["manifests"].as_array().unwrap().iter().map(|m| m["platform"].clone()).collect();
    assert_eq!(platforms[0]["architecture"], dockless::oci::Platform::host().architecture);
    assert_eq!(platforms[1], serde_json::json!({"os": "linux", "architecture": "s390x", "variant": "v8"}));
    registry.get("team/multi:1", tempfile::tempdir().unwrap().path());
    let shown: Value = serde_json::from_str(&User::new().ok(&["manifest", "inspect", &list])).unwrap();
    assert_eq!(shown, pushed);
    user.ok(&["manifest", "rm", &list]);
    assert_eq!(user.run(&["manifest", "push", &list]).code, 1);

    // Another user retags the whole index across repositories: every platform goes along, and no layer is fetched.
    let stranger = User::new();
    stranger.ok(&["pull", "-q", &list]);
    let to = format!("{host}/prod/multi:1");
    stranger.ok(&["tag", &list, &to]);
    stranger.ok(&["push", "-q", &to]);
    assert_eq!(registry.manifest("prod/multi:1"), registry.manifest("team/multi:1"));
    let elsewhere = Registry::start();
    let far = format!("{}/prod/multi:1", elsewhere.host());
    stranger.ok(&["tag", &list, &far]);
    let told = stranger.run(&["push", "-q", &far]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    // To another registry only what was pulled travels; copy takes all.
    let single: Value = serde_json::from_slice(&elsewhere.manifest("prod/multi:1")).unwrap();
    assert!(single["layers"].is_array(), "{single}");
    stranger.ok(&["copy", "-q", &list, &far]);
    assert_eq!(elsewhere.manifest("prod/multi:1"), registry.manifest("team/multi:1"));
    stranger.ok(&["pull", "-q", "--platform", "linux/s390x/v8", &list]);
    let described: Value = serde_json::from_str(&stranger.ok(&["inspect", &list])).unwrap();
    assert_eq!(described[0]["Architecture"], "s390x");
}

/// An OCI layout of one empty-handed image for another platform.
fn other_platform(dir: &Path) -> std::path::PathBuf {
    use dockless::oci::Digest;
    let layout = dir.join("other");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        std::fs::write(blobs.join(Digest::sha256(bytes).hex()), bytes).unwrap();
        (Digest::sha256(bytes).to_string(), bytes.len())
    };
    let layer = vec![0u8; 1024];
    let (layer, layer_size) = put(&layer);
    let config = format!(
        r#"{{"architecture":"s390x","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let (config, config_size) = put(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{layer_size}}}]}}"#
    );
    let (manifest, size) = put(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{size},"annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#
    );
    std::fs::write(layout.join("index.json"), index).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}
