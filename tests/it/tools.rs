//! The binary called by other tools' names: what it says, what it makes, how it ends.

use crate::support::registry::Registry;
use crate::support::standin::StandIn;
use crate::support::web::{Page, Web};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const NAMES: [&str; 5] = ["docker", "docker-compose", "executor", "buildctl-daemonless.sh", "buildah"];

/// A directory with a context, and links to the binary.
struct Machine {
    dir: tempfile::TempDir,
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        for name in NAMES {
            symlink(env!("CARGO_BIN_EXE_dockless"), dir.path().join(name)).expect("a link");
        }
        let machine = Machine { dir };
        machine.file("context/Dockerfile", "FROM scratch\nARG A=1\nCOPY a /a\nLABEL l=$A\nENV E=e\nCMD [\"/a\"]\n");
        machine.file("context/a", "hello");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(self.path(words.next().expect("a program")));
        command.args(words).current_dir(self.path("context")).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("HOME", self.dir.path()).env("DOCKLESS_HOME", self.path("state")).stdin(Stdio::null());
        command
    }

    fn ran(mut command: Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    fn run(&self, line: &str) -> Ran {
        Machine::ran(self.command(line))
    }

    /// Runs what must succeed; its standard output.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "{line}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// What skopeo finds at `from`.
    #[track_caller]
    fn skopeo(&self, from: &str, format: &str) -> String {
        let mut command = Command::new("skopeo");
        command.args(["inspect", "--format", format]);
        if from.starts_with("docker://") {
            command.arg("--tls-verify=false");
        }
        let output = command.arg(from).output().expect("skopeo");
        assert!(output.status.success(), "{from}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    /// Packs the directory `of` as `name`.
    fn tar(&self, name: &str, flags: &str, of: &str) -> PathBuf {
        let path = self.path(name);
        let mut command = Command::new("tar");
        command.arg(flags).arg(&path).arg("-C").arg(self.path(of)).arg(".");
        assert!(command.status().expect("tar").success());
        path
    }
}

#[test]
fn what_docker_says_and_dockless_does_not_do() {
    let machine = Machine::new();
    for (line, code, first) in [
        ("docker swarm init", 1, "error: docker: 'swarm' is not something dockless does"),
        ("docker plugin ls", 1, "error: docker: 'plugin' is not something dockless does"),
        ("docker compose up -d", 1, "error: docker: 'compose up' is not something dockless does"),
        ("docker image frobnicate", 1, "error: docker: 'image frobnicate' is not something dockless does"),
        ("docker frobnicate", 1, "error: docker: 'frobnicate' is not a docker command"),
        ("docker build", 1, "error: the following required arguments were not provided:"),
        ("docker build --frobnicate .", 125, "error: unexpected argument '--frobnicate' found"),
        ("docker run --frobnicate x", 125, "error: unknown flag: --frobnicate"),
        (
            "docker rmi --platform linux/arm64 x",
            125,
            "error: flag --platform is not supported yet: a name stands for all",
        ),
        ("docker rm --link x", 125, "error: flag --link is not supported yet: containers share the network"),
        ("docker network create --frobnicate", 125, "error: unknown flag: --frobnicate"),
        ("docker build -t UPPER .", 125, "error: -t UPPER:"),
        ("docker inspect nothing", 1, ""),
        ("docker-compose up", 1, "error: docker: 'compose up' is not something dockless does"),
        ("executor --frobnicate", 1, "error: unknown flag: --frobnicate"),
        ("executor", 1, "error: you must provide --destination, or use --no-push"),
        ("buildctl-daemonless.sh build", 1, "error: --frontend=dockerfile.v0 is missing"),
        ("buildah unshare", 125, "error: buildah: 'unshare' is not something dockless does"),
        ("buildah mount", 125, "error: name the working containers whose trees are wanted"),
    ] {
        let ran = machine.run(line);
        assert_eq!(ran.code, Some(code), "{line}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(first), "{line}: {}", ran.stderr);
    }
}

/// What scripts do to set up a daemon or a builder succeeds, prints what scripts read, and says that it does nothing.
#[test]
fn setting_up_a_daemon_succeeds() {
    let machine = Machine::new();
    for (line, stdout) in [
        ("docker context create builder", "builder\n"),
        ("docker context use builder", "builder\n"),
        ("docker buildx create --use --driver docker-container --name X builder", "X\n"),
        ("docker buildx use X", ""),
        ("docker buildx rm X", "X removed\n"),
        ("docker version --format {{.Server.Os}}", "linux\n"),
    ] {
        assert_eq!(machine.ok(line), stdout, "{line}");
    }
    assert_eq!(machine.ok("docker network create --driver bridge net").trim().len(), 64);
    assert_eq!(machine.ok("docker network ls --filter name=net -q").lines().count(), 1);
    assert_eq!(machine.ok("docker network rm net"), "net\n");
    assert_eq!(machine.run("docker network inspect net").code, Some(1));
    let volume = machine.ok("docker volume create data");
    assert_eq!((volume.as_str(), machine.ok("docker volume ls -q").as_str()), ("data\n", "data\n"));
    assert!(Path::new(machine.ok("docker volume inspect -f {{.Mountpoint}} data").trim()).is_dir());
    assert_eq!(machine.ok("docker volume rm data"), "data\n");
    let mut command = machine.command("docker version");
    command
        .env("DOCKER_HOST", "tcp://docker:2375")
        .env("DOCKER_TLS_CERTDIR", "/certs")
        .env("DOCKER_DRIVER", "overlay2");
    let ran = Machine::ran(command);
    let expected = "warning: DOCKER_HOST, DOCKER_TLS_CERTDIR, DOCKER_DRIVER are ignored: dockless needs no daemon\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), expected));
    assert!(ran.stdout.contains("Server:"), "{}", ran.stdout);
    assert!(machine.ok("docker info").contains("\n Server Version: "));
}

#[test]
fn docker_from_build_to_load() {
    let machine = Machine::new();
    let id = machine.ok("docker image build -q --label x=y .");
    let id = id.trim();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert!(machine.ok(&format!("docker inspect --format {{{{json.Config.Env}}}} {id}")).contains("E=e"));
    machine.ok("docker buildx build --load --build-arg A=2 -t app:1 -t r.io/app:1 .");
    assert_eq!(machine.ok("docker images --format {{.Repository}}:{{.Tag}}"), "app:1\nr.io/app:1\n");
    assert_eq!(machine.ok("docker image ls -q app").trim().len(), 12);
    assert_eq!(machine.ok("docker image inspect app:1 -f {{.Config.Labels.l}}"), "2\n");
    let whole = machine.ok("docker inspect -f {{.Id}} app:1");
    assert_eq!(machine.ok("docker history app:1 -q --no-trunc").lines().next(), Some(whole.trim()));
    machine.ok("docker tag app:1 app:2");
    machine.ok("docker save -o app.tar app:1 app:2");
    let removed = machine.ok("docker rmi app:1 app:2 r.io/app:1");
    let untagged = "Untagged: app:1\nUntagged: app:2\nUntagged: r.io/app:1\nDeleted: sha256:";
    assert!(removed.starts_with(untagged), "{removed}");
    assert_eq!(machine.run("docker rmi app:1").code, Some(1));
    assert_eq!(machine.ok("docker rmi -f app:1"), "");
    assert_eq!(machine.ok("docker load -i app.tar"), "Loaded image: app:1\nLoaded image: app:2\n");
    assert!(machine.ok("docker system df").starts_with("TYPE"));
    let pruned = machine.ok("docker builder prune -af --filter until=0s");
    assert!(pruned.contains("Total reclaimed space: "), "{pruned}");
    machine.ok("docker system prune -af --volumes");
    assert_eq!(machine.ok("docker images -q"), "");
    let from = format!("docker-archive:{}:app:2", machine.path("context/app.tar").display());
    assert_eq!(machine.skopeo(&from, "{{.Labels.l}}"), "2");
    let log = machine.run("docker build --progress=plain --label x=y -t x -t r.io/x:2 .").stderr;
    let lines: Vec<&str> = log.lines().filter_map(|line| line.split_once(' ')).map(|(_, line)| line).collect();
    let from = lines.iter().position(|line| *line == "exporting to image").expect(&log);
    let id = machine.ok("docker inspect -f {{.Id}} x");
    let written = format!("writing image {} done", id.trim());
    let named = ["naming to docker.io/library/x:latest done", "naming to r.io/x:2 done"];
    assert_eq!(lines[from + 1..][..3], [&written[..], named[0], named[1]], "{log}");
}

#[test]
fn compose_builds_and_pushes() {
    let machine = Machine::new();
    let registry = Registry::start();
    let text = r#"
services:
  web:
    image: ${REGISTRY}/web:${TAG:-1}
    build:
      context: .
      args: {A: 7}
      tags: ["${REGISTRY}/web:more"]
  tool:
    build: {context: ., dockerfile: Dockerfile, labels: [x=y]}
    depends_on: [web]
  db:
    image: postgres
"#;
    machine.file("context/compose.yaml", text);
    machine.file("context/.env", &format!("REGISTRY={}\n", registry.host()));
    machine.ok("docker compose build");
    let listed = machine.ok("docker images --format {{.Repository}}:{{.Tag}}");
    assert!(listed.contains("context-tool:latest\n"), "{listed}");
    machine.ok("docker-compose push web db");
    let from = format!("docker://{}/web", registry.host());
    assert_eq!(machine.skopeo(&format!("{from}:1"), "{{.Labels.l}}"), "7");
    machine.ok("docker compose build --push --build-arg A=8 web");
    assert_eq!(machine.skopeo(&format!("{from}:more"), "{{.Labels.l}}"), "8");
    assert!(machine.run("docker compose build nobody").stderr.contains("no such service: nobody"));
    machine.file("context/compose.yaml", "services: {a: {build: {context: ., bogus: 1}}}");
    let ran = machine.run("docker compose build");
    assert!(ran.stderr.contains("services.a.build.bogus: dockless does not know this key"), "{}", ran.stderr);
}

#[test]
fn kaniko_builds_from_every_kind_of_context() {
    let machine = Machine::new();
    let registry = Registry::start();
    let archive = machine.tar("context.tar.gz", "-czf", "context");
    let bytes = fs::read(&archive).expect("the archive");
    let web = Web::pages([("/c/context.tar.gz", Page { body: bytes, ..Page::default() })]);
    let to = format!("{}/team/app", registry.host());
    let dir = machine.path("context").display().to_string();
    let http = format!("http://{}/c/context.tar.gz", web.address());
    let contexts = [format!("dir://{dir}"), dir.clone(), format!("tar://{}", archive.display()), http];
    for (number, context) in contexts.iter().enumerate() {
        machine.ok(&format!("executor --context {context} --destination {to}:{number} --insecure --force"));
        assert_eq!(machine.skopeo(&format!("docker://{to}:{number}"), "{{.Labels.l}}"), "1", "{context}");
    }
    let line =
        format!("executor -c tar://stdin -d {to}:stdin --digest-file=d/digest --tar-path=t.tar --oci-layout-path=l");
    let mut command = machine.command(&line);
    command.arg(format!("--image-name-with-digest-file={}", machine.path("name").display()));
    command.arg(format!("--image-name-tag-with-digest-file={}", machine.path("tagged").display()));
    command.env("BUILDER_OUTPUT", machine.path("out")).stdin(fs::File::open(&archive).expect("the archive"));
    let ran = Machine::ran(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let digest = machine.skopeo(&format!("docker://{to}:stdin"), "{{.Digest}}");
    assert_eq!(machine.text("context/d/digest"), digest);
    assert_eq!(machine.text("name"), format!("{to}@{digest}\n"));
    assert_eq!(machine.text("tagged"), format!("{to}:stdin@{digest}\n"));
    assert!(machine.text("out/images").contains(&digest));
    let layout = format!("oci:{}:stdin", machine.path("context/l").display());
    assert_eq!(machine.skopeo(&layout, "{{.Os}}"), "linux");
    let saved = format!("docker-archive:{}:{to}:stdin", machine.path("context/t.tar").display());
    assert_eq!(machine.skopeo(&saved, "{{.Os}}"), "linux");
}

#[test]
fn kaniko_takes_a_part_of_a_context() {
    let machine = Machine::new();
    let above = machine.path("").display().to_string();
    machine.ok(&format!("executor -c dir://{above} --context-sub-path context --no-push -d x"));
    machine.file("above/sub/Dockerfile", "FROM scratch\nLABEL l=sub\n");
    let whole = machine.tar("whole.tar", "-cf", "above").display().to_string();
    machine.ok(&format!("executor -c tar://{whole} --context-sub-path=sub --no-push -d y"));
    assert_eq!(machine.ok("docker inspect -f {{.Config.Labels.l}} y"), "sub\n");
    for (part, message) in [("../x", "leads out of it"), ("nowhere", "the context has no directory 'nowhere'")] {
        let ran = machine.run(&format!("executor -c tar://{whole} --context-sub-path={part} --no-push"));
        assert!(ran.code == Some(1) && ran.stderr.contains(message), "{}", ran.stderr);
    }
}

/// One request to each cloud, signed or with a token, at the address that their own tools' variables give.
#[test]
fn kaniko_fetches_contexts_from_buckets() {
    let machine = Machine::new();
    // The stand-in answers with text, which an uncompressed tar of text files is.
    let archive = machine.tar("context.tar", "-cf", "context");
    let text = fs::read_to_string(&archive).expect("text");
    let server = StandIn::start(move |call| match call.target.as_str() {
        "/bucket/a%20b/c.tar" | "/bucket/context.tar.gz" => (200, vec![], text.clone()),
        _ => (404, vec![], String::new()),
    });
    let mut command = machine.command("executor --no-push -d x -c");
    command.arg("s3://bucket/a b/c.tar").env("S3_ENDPOINT", format!("http://{}", server.address()));
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "hush").env("AWS_REGION", "eu-west-1");
    let ran = Machine::ran(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let calls = server.calls();
    let scope = "/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=";
    assert!(calls[0].header("authorization").contains(scope), "{calls:?}");
    let mut command = machine.command("executor --no-push -d x --bucket bucket");
    command.env("STORAGE_EMULATOR_HOST", server.address());
    let ran = Machine::ran(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut command = machine.command("executor --no-push -c s3://bucket/none");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let ran = Machine::ran(command);
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot fetch s3://bucket/none: no keys"), "{}", ran.stderr);
}

#[test]
fn the_exit_code_of_run_is_handed_on() {
    let machine = Machine::new();
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    machine.file("context/Dockerfile", &format!("FROM {base}\nRUN exit 42\n"));
    let ran = machine.run("executor -c . --no-push");
    assert_eq!(ran.code, Some(42), "{}", ran.stderr);
    assert_eq!(machine.run("docker build .").code, Some(1));
    assert_eq!(machine.run("buildah bud").code, Some(42));
}

#[test]
fn buildctl_and_buildah_push() {
    let machine = Machine::new();
    let registry = Registry::start();
    let to = format!("{}/team/app", registry.host());
    machine.ok(&format!(
        "buildctl-daemonless.sh build --frontend dockerfile.v0 --local context=. --local dockerfile=. \
         --opt build-arg:A=3 --output type=image,name={to}:ctl,push=true"
    ));
    assert_eq!(machine.skopeo(&format!("docker://{to}:ctl"), "{{.Labels.l}}"), "3");
    machine.ok(&format!("buildah build --build-arg A=4 --layers -t {to}:bah ."));
    machine.ok(&format!("buildah push --tls-verify=false --digestfile digest {to}:bah"));
    let from = format!("docker://{to}:bah");
    assert_eq!(machine.skopeo(&from, "{{.Labels.l}}"), "4");
    assert_eq!(machine.text("context/digest"), machine.skopeo(&from, "{{.Digest}}"));
    machine.ok(&format!("buildah push {to}:bah docker://{to}:other"));
    assert_eq!(machine.skopeo(&format!("docker://{to}:other"), "{{.Labels.l}}"), "4");
    machine.ok(&format!("buildah push {to}:bah oci:layout:1"));
    assert_eq!(machine.skopeo(&format!("oci:{}:1", machine.path("context/layout").display()), "{{.Os}}"), "linux");
    machine.ok(&format!("buildah tag {to}:bah one two"));
    assert_eq!(machine.ok("buildah images -q one").trim().len(), 12);
    machine.ok("buildah rmi -a");
    assert_eq!(machine.ok("buildah images -q"), "");
    machine.ok(&format!("buildah pull --tls-verify=false {to}:ctl"));
}

/// GitLab's other way of building with buildah: step by step, in a working container.
#[test]
fn buildah_builds_step_by_step() {
    let machine = Machine::new();
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let container = machine.ok(&format!("buildah from --name work {base}"));
    assert!(!container.trim().is_empty());
    machine.ok("buildah copy work . /data");
    assert_eq!(machine.ok("buildah run work -- cat /data/a"), "hello");
    assert_eq!(machine.run("buildah run work -- false").code, Some(1));
    machine.ok("buildah run -e X=y work -- sh -c true");
    machine.ok("buildah config --cmd [\"cat\",\"/data/a\"] --env E=f --label l=m --port 80 --workingdir /data work");
    let to = format!("{}/team/steps:1", registry.host());
    machine.ok(&format!("buildah commit --rm work docker://{to}"));
    let from = format!("docker://{to}");
    assert_eq!(machine.skopeo(&from, "{{.Labels.l}}"), "m");
    let config = machine.ok(&format!("buildah inspect --format {{{{json.Config}}}} {to}"));
    for part in [r#""Cmd":["cat","/data/a"]"#, r#""E=f""#, r#""80/tcp""#, r#""WorkingDir":"/data""#] {
        assert!(config.contains(part), "{part}: {config}");
    }
    assert!(!config.contains("X=y"), "{config}");
    assert_eq!(machine.ok("buildah containers -q"), "");
}

#[test]
fn imagetools_make_indexes_in_the_registry() {
    let machine = Machine::new();
    let registry = Registry::start();
    let to = format!("{}/team/app", registry.host());
    for platform in ["amd64", "arm64"] {
        machine.ok(&format!("docker buildx build --platform linux/{platform} --push -t {to}:{platform} ."));
    }
    machine.ok(&format!("docker buildx imagetools create -t {to}:1 -t {to}:2 {to}:amd64 {to}:arm64"));
    for tag in ["1", "2"] {
        let bytes = registry.manifest(&format!("team/app:{tag}"));
        let index: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
    }
    let dry = machine.ok(&format!("docker buildx imagetools create --dry-run --append -t {to}:1 {to}:arm64"));
    assert_eq!(dry.matches("\"digest\"").count(), 2, "{dry}");
    let shown = machine.ok(&format!("docker buildx imagetools inspect {to}:1"));
    assert!(shown.contains("Platform:  linux/arm64"), "{shown}");
    let digest = machine.ok(&format!("docker buildx imagetools inspect {to}:1 --format {{{{.Manifest.Digest}}}}"));
    assert!(digest.starts_with("sha256:"), "{digest}");
}
