//! Tests of the binary from outside: what it prints, where to, and its exit code.

use dockless::oci::manifest::descriptor;
use dockless::oci::{Digest, ImageFormat};
use dockless::store::Store;
use std::path::Path;
use std::process::{Command, Stdio};

/// One run of the binary in a directory of its own, with nothing of the caller's environment.
struct Run {
    dir: tempfile::TempDir,
    command: Command,
}

impl Run {
    fn new(arguments: &str) -> Run {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
        command.env_clear().env("HOME", dir.path()).current_dir(dir.path()).stdin(Stdio::null());
        command.args(arguments.split_whitespace());
        Run { dir, command }
    }

    fn file(self, name: &str, text: &str) -> Run {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, text).expect("a file");
        self
    }

    /// One more argument, which may hold spaces.
    fn arg(mut self, argument: &str) -> Run {
        self.command.arg(argument);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    /// Runs; what comes out of a run that must do its work.
    #[track_caller]
    fn stdout(mut self) -> String {
        let output = self.command.output().expect("the binary starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs, and compares everything that comes out.
    #[track_caller]
    fn gives(mut self, code: i32, stdout: &str, stderr: &str) {
        let output = self.command.output().expect("the binary starts");
        assert_eq!(String::from_utf8_lossy(&output.stderr), stderr, "stderr");
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "stdout");
        assert_eq!(output.status.code(), Some(code), "exit code");
        let state = self.dir.path().join(".local");
        assert!(!Path::new(&state).exists(), "a command that did nothing left {} behind", state.display());
    }
}

#[test]
fn version_is_one_line() {
    let line = concat!("dockless ", env!("CARGO_PKG_VERSION"), "\n");
    Run::new("version").gives(0, line, "");
    Run::new("--version").gives(0, line, "");
}

#[test]
fn info_names_the_state_directory() {
    let run = Run::new("info");
    let state = run.dir.path().join(".local/share/dockless").display().to_string();
    let version = env!("CARGO_PKG_VERSION");
    let text = run.stdout();
    assert!(
        text.starts_with(&format!("Version:         {version}\nState directory: {state}\nIsolation:       ")),
        "{text}"
    );
    let run = Run::new("info").env("DOCKLESS_HOME", "state").file("state/x", "");
    let text = run.stdout();
    assert!(!text.contains("not tried"), "{text}");
}

#[test]
fn info_names_the_source_of_credentials_and_never_the_secret() {
    let auths = r#"{"auths":{"r.example.com":{"auth":"dXNlcjpodXNoLWh1c2g="}}}"#;
    let text = Run::new("info r.example.com/team/app").env("DOCKER_AUTH_CONFIG", auths).stdout();
    let last = text.lines().last().unwrap_or_default();
    assert_eq!(last, "Credentials:     with the credentials of user 'user' from DOCKER_AUTH_CONFIG");
    let text = Run::new("info other.example.com").env("DOCKER_AUTH_CONFIG", auths).stdout();
    assert!(text.lines().last().unwrap_or_default().starts_with("Credentials:     no credentials found"), "{text}");
}

#[test]
fn without_a_verb_it_names_the_verbs() {
    let output = Run::new("").command.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("[subcommands: build, run,"), "{text}");
}

#[test]
fn an_unknown_verb_suggests_the_nearest() {
    let expected = "\
error: unrecognized subcommand 'biuld'

  tip: a similar subcommand exists: 'build'

Usage: dockless <COMMAND>

For more information, try '--help'.
";
    Run::new("biuld").gives(2, "", expected);
}

#[test]
fn an_unknown_flag_suggests_the_nearest() {
    let expected = "\
error: unexpected argument '--tagg' found

  tip: a similar argument exists: '--tag'

Usage: dockless build --tag <REF> <CONTEXT>

For more information, try '--help'.
";
    Run::new("build --tagg x .").gives(2, "", expected);
}

#[test]
fn a_missing_context_is_a_usage_error() {
    let expected = "\
error: the following required arguments were not provided:
  <CONTEXT>

Usage: dockless build --tag <REF> <CONTEXT>

For more information, try '--help'.
";
    Run::new("build -t x").gives(2, "", expected);
}

#[test]
fn a_flag_that_is_not_there_yet_names_itself() {
    let expected = "error: flag --squash is not supported yet: every step is a layer of its own\n";
    Run::new("build --squash .").file("Dockerfile", "FROM scratch\n").gives(2, "", expected);
}

#[test]
fn a_context_that_does_not_exist() {
    Run::new("build nowhere").gives(1, "", "error: the context 'nowhere' does not exist\n");
}

#[test]
fn a_context_without_a_dockerfile() {
    let run = Run::new("build .");
    let dir = run.dir.path().display().to_string();
    let expected = format!("error: there is no Dockerfile in {dir}\n |\n = hint: name it with -f FILE\n");
    run.gives(1, "", &expected);
}

#[test]
fn a_dockerfile_given_as_the_context() {
    let expected = "error: the context 'Dockerfile' is not a directory\n |\n \
                    = hint: the last argument is the context; a Dockerfile is named with -f\n";
    Run::new("build Dockerfile").file("Dockerfile", "FROM scratch\n").gives(1, "", expected);
}

#[test]
fn pushing_needs_a_name() {
    let expected = "error: --push needs a name to push to: -t REGISTRY/REPOSITORY:TAG\n";
    Run::new("build --push=true .").file("Dockerfile", "FROM scratch\n").gives(2, "", expected);
}

#[test]
fn an_invalid_name_is_refused() {
    let output = Run::new("build -t UPPER .").file("Dockerfile", "FROM scratch\n").command.output().expect("starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("error: -t UPPER: "), "{text}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn failures_are_json_where_json_was_asked_for() {
    let expected = concat!(
        r#"{"causes":[],"event":"error","exit":1,"hints":[],"kind":"context","#,
        r#""message":"the context 'nowhere' does not exist","source":null,"time":0.0}"#,
        "\n"
    );
    Run::new("build --progress=rawjson nowhere").gives(1, "", expected);
    Run::new("build nowhere").env("BUILDKIT_PROGRESS", "rawjson").gives(1, "", expected);
}

#[test]
fn an_unknown_progress_is_refused_wherever_it_comes_from() {
    let expected = "error: --progress=fancy: expected auto, plain, tty, rawjson or quiet\n";
    Run::new("build --progress fancy .").gives(2, "", expected);
    let expected = "error: BUILDKIT_PROGRESS=fancy: expected auto, plain, tty, rawjson or quiet\n";
    Run::new("build .").env("BUILDKIT_PROGRESS", "fancy").gives(2, "", expected);
}

#[test]
fn colours_follow_the_environment() {
    let output = Run::new("build nowhere").env("CLICOLOR_FORCE", "1").command.output().expect("starts");
    assert!(output.stderr.contains(&0x1b), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = "error: the context 'nowhere' does not exist\n";
    Run::new("build nowhere").env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").gives(1, "", expected);
}

#[test]
fn run_keeps_low_exit_codes_for_the_container() {
    let expected = "error: flag --device is not supported yet: devices are those of the sandbox\n";
    Run::new("run --device /dev/kvm image").gives(125, "", expected);
    let output = Run::new("run --bogus image").command.output().expect("starts");
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn help_is_a_result() {
    for (arguments, first) in [
        ("--help", "Builds container images from Dockerfiles with no daemon and no privilege\n"),
        ("build --help", "Build an image from a Dockerfile\n"),
        ("run --help", "Start an image in a container\n"),
    ] {
        let output = Run::new(arguments).command.output().expect("starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(first), "{text}");
        assert!(!text.contains("=<BOOL>]") && output.stderr.is_empty(), "{text}");
        assert_eq!(output.status.code(), Some(0));
    }
}

/// Puts an image with one layer of 1.5 kB into a store and gives the ID.
fn image(root: &Path, names: &[&str]) -> String {
    let store = Store::open(root).expect("a store");
    let config = r#"{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09Z","rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let config_digest = store.put_blob(config.as_bytes()).expect("a config");
    let format = ImageFormat::Oci;
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": format.manifest(),
        "config": descriptor(format.config(), &config_digest, config.len() as u64),
        "layers": [descriptor(format.layer_gzip(), &Digest::sha256("layer"), 1500)],
    });
    let manifest = manifest.to_string();
    let digest = store.put_blob(manifest.as_bytes()).expect("a manifest");
    for name in names {
        let name = name.parse().expect("a name");
        store.tag(&name, &descriptor(format.manifest(), &digest, manifest.len() as u64)).expect("a name kept");
    }
    config_digest.to_string()
}

#[test]
fn images_lists_the_store() {
    let head = "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n";
    Run::new("images").gives(0, head, "");

    let run = Run::new("images").env("DOCKLESS_HOME", "state");
    let run = run.arg(r"--format=table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedAt}}\t{{.Size}}");
    let id = image(&run.dir.path().join("state"), &["app:1", "127.0.0.1:5000/app:2"]);
    let id = &id["sha256:".len()..][..12];
    let expected = format!(
        "REPOSITORY           TAG       IMAGE ID       CREATED AT             SIZE\n\
         127.0.0.1:5000/app   2         {id}   2024-05-06T07:08:09Z   2.09kB\n\
         app                  1         {id}   2024-05-06T07:08:09Z   2.09kB\n"
    );
    run.gives(0, &expected, "");

    let run = Run::new("images -q --no-trunc").env("DOCKLESS_HOME", "state");
    let id = image(&run.dir.path().join("state"), &["app:1", "app:2"]);
    run.gives(0, &format!("{id}\n"), "");
}

#[test]
fn a_state_directory_that_holds_other_things() {
    let run = Run::new("images").env("DOCKLESS_HOME", "mine").file("mine/precious", "");
    let path = run.dir.path().join("mine").display().to_string();
    let expected = format!(
        "error: {path} is no content store, and not empty either (it holds 'precious')\n |\n \
         = hint: set DOCKLESS_HOME to a directory of your own\n"
    );
    run.gives(1, "", &expected);
}

/// Each flag of the help stands in the documentation of its verb.
#[test]
fn the_documentation_lists_the_flags() {
    let documented = std::fs::read_to_string("docs/cli.md").expect("docs/cli.md");
    for verb in ["build", "run", "images", "pull", "push", "copy", "login", "inspect", "history", "save", "load", "rmi"]
    {
        let output = Run::new(&format!("{verb} --help")).command.output().expect("starts");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let section = documented.split(&format!("\n## dockless {verb}\n")).nth(1).expect("a section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let flags = lines.filter_map(|line| line.split([' ', ',', '[', ']']).find(|word| word.starts_with("--")));
        let missing: Vec<&str> = flags.filter(|flag| !section.contains(&format!("`{flag}"))).collect();
        assert_eq!(missing, ["--help"], "docs/cli.md, {verb}");
    }
}
