//! Where the cases are built: one store, in which a stand-in for every image that a case names is tagged, so that no name
//! leaves the machine.

use super::super::Case;
use super::http::Server;
use super::{Outcome, layers};
use base64::Engine;
use dockless::dockerfile;
use dockless::oci::manifest::{self, descriptor};
use dockless::oci::{Descriptor, Digest, Platform, Reference};
use dockless::plan::{BaseImage, ImageSource, NamedContext, PlanOptions, Planner};
use dockless::store::{Image, Store};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// What files have for a time unless a case gives one, seconds since 1970.
const MTIME: u64 = 1_600_000_000;
/// Platforms that the stand-in is there for.
const PLATFORMS: &[&str] = &[
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/s390x",
    "linux/riscv64",
    "windows/amd64",
    "darwin/ppc64le",
];

/// The store, and what is tagged in it.
pub struct Bench {
    home: TempDir,
    store: Store,
    base: Descriptor,
    tagged: Mutex<HashSet<String>>,
}

impl Bench {
    /// A store with the stand-in that `mkbase.sh` makes.
    pub fn new() -> Bench {
        started();
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let base = stand_in(&store);
        Bench { home, store, base, tagged: Mutex::default() }
    }

    /// Builds the case.
    pub fn build(&self, case: &Case) -> Result<Outcome, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let server = case.input.get("http").map(|routes| Server::start(routes.clone()));
        let http = server.as_ref().map_or_else(|| "@HTTP@".to_string(), |server| server.address().to_string());
        let trees = dir.path().join("trees");
        for (name, tree) in case.input["contexts"].as_object().expect("trees") {
            lay_out(&trees.join(name), tree, &http);
        }
        let tree = |local: &str| trees.join(text(&case.input["locals"][local]));
        let filename = case.input["opts"]["filename"].as_str().unwrap_or("Dockerfile");
        let dockerfile = tree("dockerfile").join(filename);
        self.tag_references(case, &dockerfile);
        let metadata = dir.path().join("metadata.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
        command.env_clear().env("DOCKLESS_HOME", self.home.path()).current_dir(dir.path());
        // So that the cases can be built in each tier.
        command.envs(std::env::var_os("DOCKLESS_ISOLATION").map(|tier| ("DOCKLESS_ISOLATION", tier)));
        // A name that is not in the store must not leave the machine.
        command.envs(["HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:9")));
        command.args(["build", "--progress=rawjson", "--no-cache"]).arg("--metadata-file").arg(&metadata);
        command.arg("-f").arg(&dockerfile).args(flags(case, dir.path(), &tree)).arg(tree("context"));
        let output = command.output().expect("the binary starts");
        let (error, warnings) = events(&output.stderr);
        let images = match output.status.success() {
            true => layers::read(&self.store, &fs::read(&metadata).expect("metadata"))?,
            false if error.is_none() => return Err(format!("ended without an error event: {output:?}")),
            false => Vec::new(),
        };
        Ok(Outcome { error, warnings, images, http })
    }

    /// Tags the stand-in with every name that the planner asks for, for each platform.
    fn tag_references(&self, case: &Case, dockerfile: &Path) {
        let Ok(content) = fs::read_to_string(dockerfile) else { return };
        // Where any of this fails the build says so.
        let Ok(parsed) = dockerfile::parse(&content) else { return };
        let platforms = text(&case.input["opts"]["platform"]);
        for platform in platforms.split(',') {
            let options = plan_options(case, platform.parse().ok());
            if let Ok(planner) = Planner::new(&parsed, &options) {
                self.tag_wanted(planner);
            }
        }
    }

    fn tag_wanted(&self, mut planner: Planner<'_>) {
        loop {
            let wanted = planner.wanted();
            if wanted.is_empty() {
                return;
            }
            for request in wanted {
                let ImageSource::Registry(reference) = &request.source else { return };
                self.tag(reference);
                let Ok(Some(image)) = self.store.image(reference, &request.platform) else { return };
                let answer = BaseImage { digest: image.digest, config: image.config };
                if planner.supply(&request, answer).is_err() {
                    return;
                }
            }
        }
    }

    fn tag(&self, reference: &Reference) {
        if self.tagged.lock().expect("not poisoned").insert(reference.to_string()) {
            self.store.tag(reference, &self.base).expect("a tag");
        }
    }
}

/// The recorded front-end options as the planner takes them.
fn plan_options(case: &Case, platform: Option<Platform>) -> PlanOptions {
    let opts = case.input["opts"].as_object().expect("options");
    let named = |prefix: &str| -> Vec<(String, String)> {
        opts.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_string(), text(value)))).collect()
    };
    PlanOptions {
        target: opts.get("target").map(text),
        build_args: named("build-arg:").into_iter().map(|(name, value)| (name, Some(value))).collect(),
        labels: named("label:"),
        platform_is_explicit: platform.is_some(),
        platform: platform.unwrap_or_else(Platform::host),
        build_platform: Platform::host(),
        source_date_epoch: None,
        named_contexts: named("context:").into_iter().map(|(name, place)| (name, named_context(&place))).collect(),
    }
}

fn named_context(place: &str) -> NamedContext {
    match place.strip_prefix("docker-image://") {
        Some(reference) => NamedContext::Image(reference.to_string()),
        None => NamedContext::Tree,
    }
}

/// The recorded front-end options as flags.
fn flags(case: &Case, dir: &Path, tree: &dyn Fn(&str) -> PathBuf) -> Vec<String> {
    let mut flags = Vec::new();
    for (key, value) in case.input["opts"].as_object().expect("options") {
        let value = text(value);
        match key.split_once(':') {
            Some(("build-arg", name)) => flags.push(format!("--build-arg={name}={value}")),
            Some(("label", name)) => flags.push(format!("--label={name}={value}")),
            Some(("context", name)) => {
                let place = match value.strip_prefix("local:") {
                    Some(local) => tree(local).display().to_string(),
                    None => value,
                };
                flags.push(format!("--build-context={name}={place}"));
            }
            None if key == "add-hosts" => {
                flags.extend(value.split(',').map(|host| format!("--add-host={}", host.replacen('=', ":", 1))));
            }
            None if key == "force-network-mode" => flags.push(format!("--network={value}")),
            None if key == "filename" => {}
            None if key == "hostname" => flags.push(format!("--build-arg=BUILDKIT_SANDBOX_HOSTNAME={value}")),
            // No case's expectation depends on what the cache held, and nothing is looked up.
            None if key == "no-cache" => {}
            None => flags.push(format!("--{key}={value}")),
            Some(_) => panic!("{}: option {key}", case.id),
        }
    }
    // Each case was recorded without the caches of the others.
    flags.push(format!("--build-arg=BUILDKIT_CACHE_MOUNT_NS={}", case.id));
    for (id, secret) in case.input["secrets"].as_object().into_iter().flatten() {
        let file = dir.join(format!("secret-{id}"));
        fs::write(&file, text(secret)).expect("a secret");
        flags.push(format!("--secret=id={id},src={}", file.display()));
    }
    for entitlement in case.input["allow"].as_array().into_iter().flatten() {
        flags.push(format!("--allow={}", text(entitlement)));
    }
    for (key, value) in case.input["export_opts"].as_object().into_iter().flatten() {
        flags.push(format!("--output=type=image,{key}={}", text(value)));
    }
    flags
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// The error and the warnings in a stream of JSON lines.
fn events(stderr: &[u8]) -> (Option<Value>, Vec<String>) {
    let (mut error, mut warnings) = (None, Vec::new());
    for line in String::from_utf8_lossy(stderr).lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            error.get_or_insert(json!({"message": line}));
            continue;
        };
        match event["event"].as_str() {
            Some("error") => error = Some(event),
            Some("warning") => warnings.push(text(&event["text"])),
            _ => {}
        }
    }
    (error, warnings)
}

/// Makes a tree of a case: owned by whoever runs the test (uid 0 inside), with the recorded modes and times.
fn lay_out(root: &Path, tree: &Value, http: &str) {
    fs::create_dir_all(root).expect("a directory");
    let mut directories = vec![(root.to_path_buf(), 0o755, MTIME)];
    for entry in tree.as_array().expect("entries") {
        let path = root.join(text(&entry["path"]));
        let mode = entry["mode"].as_str().map(|mode| u32::from_str_radix(mode, 8).expect("octal"));
        let mtime = entry["mtime"].as_u64().unwrap_or(MTIME);
        let mut above = path.parent().expect("below the root").to_path_buf();
        while !above.exists() {
            directories.push((above.clone(), 0o755, MTIME));
            assert!(above.pop());
        }
        fs::create_dir_all(path.parent().expect("below the root")).expect("directories");
        match entry["type"].as_str().expect("a type") {
            "dir" => {
                fs::create_dir_all(&path).expect("a directory");
                directories.retain(|(known, ..)| *known != path);
                directories.push((path, mode.unwrap_or(0o755), mtime));
                continue;
            }
            "symlink" => symlink(text(&entry["target"]), &path).expect("a link"),
            "hardlink" => fs::hard_link(root.join(text(&entry["target"])), &path).expect("a link"),
            "fifo" => {
                let mode = rustix::fs::Mode::from(mode.unwrap_or(0o644));
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a fifo");
            }
            "socket" => drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket")),
            "file" => {
                fs::write(&path, content(entry, http)).expect("a file");
                fs::set_permissions(&path, fs::Permissions::from_mode(mode.unwrap_or(0o644))).expect("a mode");
            }
            other => panic!("an entry of type {other}"),
        }
        for (name, value) in entry["xattrs"].as_object().into_iter().flatten() {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&path, name, text(value).as_bytes(), flags).expect("an attribute");
        }
        touch(&path, mtime);
    }
    // Deepest first, when nothing is made in them any more.
    directories.sort_by_key(|(path, ..)| std::cmp::Reverse(path.components().count()));
    for (path, mode, mtime) in directories {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        touch(&path, mtime);
    }
}

/// Sets the time of the file itself, also of a symbolic link.
fn touch(path: &Path, seconds: u64) {
    let time = rustix::fs::Timespec { tv_sec: seconds as i64, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("a time");
}

/// The bytes of a recorded file.
pub fn content(entry: &Value, http: &str) -> Vec<u8> {
    match entry["content_b64"].as_str() {
        Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64"),
        None => text(&entry["content"]).replace("@HTTP@", http).into_bytes(),
    }
}

/// Puts the image that stands for all others into the store: an index of one layer under several platforms. Its config is
/// what BuildKit writes for `FROM scratch`, a COPY, `ENV PATH=…` and `CMD ["sh"]`.
fn stand_in(store: &Store) -> Descriptor {
    let dir = tempfile::tempdir().expect("a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance/mkbase.sh");
    let ok = Command::new("sh").arg(script).arg(dir.path()).status().expect("sh").success();
    assert!(ok, "mkbase.sh failed: it needs busybox-static");
    let root = dir.path().join("rootfs");
    assert_eq!(fs::metadata(&root).expect("a tree").mode() & 0o777, 0o755);
    let tar = Command::new("tar")
        .args(["--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-C"])
        .arg(&root)
        .args(["-c", "."])
        .output()
        .expect("tar");
    assert!(tar.status.success(), "{tar:?}");
    let diff_id = Digest::sha256(&tar.stdout);
    let layer = descriptor(manifest::OCI_LAYER, &diff_id, tar.stdout.len() as u64);
    store.put_blob(&tar.stdout).expect("a layer");
    let put = |media_type: &str, document: &Value| {
        let bytes = serde_json::to_vec(document).expect("JSON");
        let digest = store.put_blob(&bytes).expect("a document");
        descriptor(media_type, &digest, bytes.len() as u64)
    };
    let created = "2023-11-14T22:13:20Z";
    let empty = |text: &str| json!({"created": created, "created_by": text, "empty_layer": true});
    let manifests: Vec<Value> = PLATFORMS
        .iter()
        .map(|name| {
            let platform: Platform = name.parse().expect("a platform");
            let mut config = json!({
                "created": created,
                "config": {
                    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                    "Cmd": ["sh"], "WorkingDir": "/", "ArgsEscaped": true,
                },
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                "history": [{"created": created, "created_by": "ADD rootfs /"}, empty("ENV PATH"), empty("CMD [\"sh\"]")],
            });
            let platform = serde_json::to_value(platform).expect("JSON");
            config.as_object_mut().expect("an object").extend(platform.as_object().expect("an object").clone());
            let config = put(manifest::OCI_CONFIG, &config);
            let document = json!({
                "schemaVersion": 2, "mediaType": manifest::OCI_MANIFEST, "config": config, "layers": [layer],
            });
            let mut entry = serde_json::to_value(put(manifest::OCI_MANIFEST, &document)).expect("JSON");
            entry["platform"] = platform;
            entry
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": manifests});
    let index = put(manifest::OCI_INDEX, &index);
    assert!(Image::load(store, &index, &Platform::host()).is_ok());
    index
}

/// When the first case was built, seconds since 1970: what is newer is "now".
pub fn started() -> u64 {
    static STARTED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    *STARTED.get_or_init(now)
}
