//! `dockless build --check` and `--call` through the binary, and lints in a build.

use serde_json::Value;
use std::process::{Command, Output, Stdio};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new(dockerfile: &str) -> Dir {
        Dir(tempfile::tempdir().expect("a directory")).file("Dockerfile", dockerfile)
    }

    fn file(self, name: &str, text: &str) -> Dir {
        std::fs::write(self.0.path().join(name), text).expect("a file");
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
        command.arg("build").args(arguments).arg(".").current_dir(self.0.path());
        command.env_clear().env("HOME", self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Exit code and standard output; standard error must be empty.
    #[track_caller]
    fn quiet(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("text"))
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.quiet(arguments).1).expect("JSON")
    }
}

#[test]
fn nothing_to_say() {
    let dir = Dir::new("FROM scratch\n");
    assert_eq!(dir.quiet(&["--check"]), (0, "Check complete, no warnings found.\n".into()));
    assert_eq!(dir.quiet(&["--call=check"]), (0, "Check complete, no warnings found.\n".into()));
}

/// Worded as buildx does, which fails where there is a warning; the words underlined.
#[test]
fn a_warning_shows_its_lines() {
    let dir = Dir::new("FROM scratch\nUSER 1\n\tENV DB_PASSWORD=hush \\\n    A=b\n");
    let expected = "\
Check complete, 1 warning has been found!

WARNING: SecretsUsedInArgOrEnv - https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/
Do not use ARG or ENV instructions for sensitive data (ENV \"DB_PASSWORD\")
Dockerfile:3
--------------------
   1 |     FROM scratch
   2 |     USER 1
   3 | >>> \tENV DB_PASSWORD=hush \\
     |     \t^^^^^^^^^^^^^^^^^^^^^^
   4 | >>>     A=b
     |         ^^^
--------------------
";
    assert_eq!(dir.quiet(&["--check"]), (1, expected.into()));
    assert_eq!(dir.quiet(&["--call=check,ignorestatus=true"]), (0, expected.into()));
    assert!(!dir.0.path().join(".local").exists(), "a check of scratch needs no store");
}

#[test]
fn warnings_are_found_by_the_file_the_caller_and_comments() {
    let warned = |dockerfile: &str, arguments: &[&str]| -> Vec<String> {
        let document = Dir::new(dockerfile).file(".dockerignore", "gone\n").json(arguments);
        let rules = document["warnings"].as_array().expect("warnings").iter();
        rules.map(|warning| warning["ruleName"].as_str().expect("a rule").to_string()).collect()
    };
    let json = "--call=check,format=json";
    let text = "FROM scratch as a\nCOPY gone /\nCMD x\n";
    assert_eq!(warned(text, &[json]), ["FromAsCasing", "CopyIgnoredFile", "JSONArgsRecommended"]);
    assert_eq!(warned(text, &["--check", "--format=json"]), ["FromAsCasing", "CopyIgnoredFile", "JSONArgsRecommended"]);
    let skip = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=FromAsCasing,CopyIgnoredFile";
    assert_eq!(warned(text, &[json, skip]), ["JSONArgsRecommended"]);
    assert_eq!(warned(&format!("# check=skip=all\n{text}"), &[json]), [""; 0]);
    assert_eq!(warned(&format!("# check=skip=all\n{text}"), &[json, skip]), ["JSONArgsRecommended"]);
    let commented = "FROM scratch\n# check=skip=CopyIgnoredFile\nCOPY gone /\nSHELL [\"sh\"]\nCMD x\n";
    assert_eq!(warned(commented, &[json]), [""; 0]);
    let described = "# nothing of that name\nFROM scratch AS a\n";
    assert_eq!(warned(described, &[json]), [""; 0]);
    let experimental = "# check=experimental=all\n";
    assert_eq!(warned(&format!("{experimental}{described}"), &[json]), ["InvalidDefinitionDescription"]);
    // A check looks at every stage; with a target at what it needs.
    let stages = "FROM scratch AS a\nCMD x\nFROM scratch AS b\n";
    assert_eq!(warned(stages, &[json]), ["JSONArgsRecommended"]);
    assert_eq!(warned(stages, &[json, "--target=b"]), [""; 0]);
}

#[test]
fn warnings_can_count_as_errors() {
    let dir = Dir::new("# check=error=true\nFROM scratch as a\nMAINTAINER me\n");
    let output = dir.run(&["--check"]);
    assert!(output.stdout.starts_with(b"Check complete, 2 warnings have been found!\n"));
    let expected = "error: lint violation found for rules: FromAsCasing, MaintainerDeprecated\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(output.status.code(), Some(1));

    // A build stops before its first step, and shows them too.
    let output = dir.run(&["--progress=plain"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.ends_with(&format!(
            "2 warnings:\n  FromAsCasing: 'as' and 'FROM' keywords' casing do not match (Dockerfile:2)\n  \
         MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (Dockerfile:3)\n{expected}"
        )),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
    let output = dir.run(&["--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Rules about instructions hold for what is built; the name of a rule that is none is said.
#[test]
fn a_build_ends_with_its_warnings() {
    let text = "# check=skip=MaintainerDepricated\nFROM scratch AS unused\nWORKDIR x\nFROM scratch\nWORKDIR y\n";
    let output = Dir::new(text).run(&["--progress=plain"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(
        "2 warnings:\n  there is no check named MaintainerDepricated (did you mean MaintainerDeprecated?)\n  \
         WorkdirRelativePath: Relative workdir \"y\" can have unexpected results if the base image changes (Dockerfile:5)\n"
    ), "{text}");
}

#[test]
fn an_error_is_in_the_document_too() {
    let dir = Dir::new("FROM scratch\nRUM x\n");
    let output = dir.run(&["--check", "--format=json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["buildError"]["message"], "unknown instruction: RUM (did you mean RUN?)");
    assert_eq!(document["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
    assert!(output.stderr.starts_with(b"error: unknown instruction"));
    assert_eq!(output.status.code(), Some(1));
    let output = dir.run(&["--check", "--format=sarif"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["version"], "2.1.0");
    let result = &document["runs"][0]["results"][0];
    assert_eq!(result["level"], "error");
    assert_eq!(result["locations"][0]["physicalLocation"]["region"]["endColumn"], 4);
}

#[test]
fn stages_are_listed() {
    let dir =
        Dir::new("FROM nowhere.invalid/x AS base\nFROM base\n# release is what is shipped\nFROM base AS release\n");
    let expected = "TARGET              DESCRIPTION\nbase\n\nrelease (default)   is what is shipped\n";
    assert_eq!(dir.quiet(&["--call=targets"]), (0, expected.into()), "no base is asked for");
    let document = dir.json(&["--call=targets", "--format=json"]);
    let targets = document["targets"].as_array().expect("targets");
    assert_eq!((&targets[1]["base"], &targets[1]["name"]), (&"base".into(), &Value::Null));
    assert_eq!(
        (&targets[2]["default"], &targets[2]["location"]["ranges"][0]["start"]["line"]),
        (&true.into(), &4.into())
    );
}

#[test]
fn what_a_build_takes_is_listed() {
    let text = "# TAG is the base's\nARG TAG=1\nARG OTHER\nFROM scratch AS x$TAG\n".replace("AS x$TAG", "AS x");
    let text = format!(
        "{text}ARG TAG\nARG B=${{TAG}}b\nRUN --mount=type=secret,id=token,required \\\n  --mount=type=ssh --mount=type=cache,id=c,target=/c x\n\
         FROM scratch AS y\nARG NOT_USED\n# z is all\nFROM x AS z\nRUN --mount=type=secret,id=token y\n"
    );
    let dir = Dir::new(&text);
    let expected = "\
TARGET:        z
DESCRIPTION:   is all

BUILD ARG   VALUE   DESCRIPTION
TAG         2       is the base's
B           2b

SECRET   REQUIRED
token    true

SSH       REQUIRED
default

CACHE
c
";
    assert_eq!(dir.quiet(&["--call=outline", "--build-arg=TAG=2"]), (0, expected.into()));
    let document = dir.json(&["--call=outline,format=json"]);
    assert_eq!(document["args"][0]["value"], "1");
    assert_eq!(document["secrets"][0]["required"], true);
    assert_eq!(document["secrets"][0]["location"]["ranges"][0]["end"]["line"], 8);
}

#[test]
fn a_call_that_is_none() {
    let dir = Dir::new("FROM scratch\n");
    for (arguments, message) in [
        (&["--call=chek"][..], "error: --call=chek: expected build, check, outline or targets\n"),
        (&["--call=targets,format=sarif"], "error: sarif is a form of warnings: expected format=text or format=json\n"),
        (&["--format=json"], "error: --format=text, json and sarif are forms of --check: an image is oci or docker\n"),
    ] {
        let output = dir.run(arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), message);
        assert_eq!(output.status.code(), Some(2));
    }
}
