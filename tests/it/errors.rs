//! Errors of the front end, whole, through the binary: which words are marked, what is said. Nothing is built and nothing
//! left behind.

use std::process::{Command, Stdio};

/// A Dockerfile that is wrong, further arguments, and the whole of standard error.
struct Bad {
    what: &'static str,
    dockerfile: &'static str,
    arguments: &'static [&'static str],
    stderr: &'static str,
}

const fn bad(
    what: &'static str,
    dockerfile: &'static str,
    arguments: &'static [&'static str],
    stderr: &'static str,
) -> Bad {
    Bad { what, dockerfile, arguments, stderr }
}

#[rustfmt::skip]
const TABLE: &[Bad] = &[
    bad("an unknown instruction", "FROM scratch\nRUM echo hi\n", &[],
r##"error: unknown instruction: RUM (did you mean RUN?)
 --> Dockerfile:2:1
  |
2 | RUM echo hi
  | ^^^
"##),
    bad("an unknown instruction in lower case", "from scratch\ncoppy a b\n", &[],
r##"error: unknown instruction: coppy (did you mean copy?)
 --> Dockerfile:2:1
  |
2 | coppy a b
  | ^^^^^
"##),
    bad("an instruction that nothing is like", "FROM scratch\nINCLUDE x\n", &[],
r##"error: unknown instruction: INCLUDE
 --> Dockerfile:2:1
  |
2 | INCLUDE x
  | ^^^^^^^
"##),
    bad("an instruction before FROM", "ARG A=1\nRUN true\nFROM scratch\n", &[],
r##"error: no build stage in current context: only ARG may stand before the first FROM
 --> Dockerfile:2:1
  |
2 | RUN true
  | ^^^^^^^^
"##),
    bad("an empty file", "# nothing\n\n", &[],
r##"error: file with no instructions
 --> Dockerfile:2:1
  |
2 |
  | ^
"##),
    bad("an unknown flag", "FROM scratch\nCOPY --form=a \\\n  /x /y\n", &[],
r##"error: unknown flag: --form: COPY has none of that name (did you mean --from?)
 --> Dockerfile:2:6
  |
2 | COPY --form=a \
  |      ^^^^^^^^
"##),
    bad("a flag of another instruction", "FROM scratch\nRUN --chown=1 true\n", &[],
r##"error: unknown flag: --chown: RUN has none of that name
 --> Dockerfile:2:5
  |
2 | RUN --chown=1 true
  |     ^^^^^^^^^
"##),
    bad("a flag twice", "FROM scratch\nCOPY --from=a --from=b x y\n", &[],
r##"error: duplicate flag specified: --from
 --> Dockerfile:2:15
  |
2 | COPY --from=a --from=b x y
  |               ^^^^^^^^
"##),
    bad("a switch with a value", "FROM scratch\nCOPY --link=maybe x y\n", &[],
r##"error: expecting boolean value for flag --link, not: maybe
 --> Dockerfile:2:6
  |
2 | COPY --link=maybe x y
  |      ^^^^^^^^^^^^
"##),
    bad("one argument", "FROM scratch\nCOPY onlyone\n", &[],
r##"error: COPY requires at least two arguments, sources and then the destination
 --> Dockerfile:2:1
  |
2 | COPY onlyone
  | ^^^^^^^^^^^^
"##),
    bad("a FROM with two words", "FROM scratch base\nRUN true\n", &[],
r##"error: FROM requires either one or three arguments: FROM base [AS name]
 --> Dockerfile:1:1
  |
1 | FROM scratch base
  | ^^^^^^^^^^^^^^^^^
"##),
    bad("a name that is none", "FROM scratch AS 1st\n", &[],
r##"error: invalid name for build stage: "1st", name can't start with a number or contain symbols
 --> Dockerfile:1:17
  |
1 | FROM scratch AS 1st
  |                 ^^^
"##),
    bad("ENV without a value", "FROM scratch\nENV A=1 B\n", &[],
r##"error: can't find = in "B": it must be of the form name=value (quote a value that has blanks)
 --> Dockerfile:2:9
  |
2 | ENV A=1 B
  |         ^
"##),
    bad("an open here-document", "FROM scratch\nRUN <<EOF\necho\n", &[],
r##"error: unterminated heredoc: no line is exactly "EOF"
 --> Dockerfile:2:5
  |
2 | RUN <<EOF
  |     ^^^^^
"##),
    bad("mixed JSON", "FROM scratch\nCMD [\"a\", 1]\n", &[],
r##"error: when using JSON array syntax, arrays must be comprised of strings only
 --> Dockerfile:2:5
  |
2 | CMD ["a", 1]
  |     ^^^^^^^^
"##),
    bad("SHELL in shell form", "FROM scratch\nSHELL /bin/bash -c\n", &[],
r##"error: SHELL requires the arguments to be in JSON form, such as ["/bin/bash", "-c"]
 --> Dockerfile:2:7
  |
2 | SHELL /bin/bash -c
  |       ^^^^^^^^^^^^
"##),
    bad("a health check of no kind", "FROM scratch\nHEALTHCHECK --interval=5s CURL localhost\n", &[],
r##"error: unknown type "CURL" in HEALTHCHECK (try CMD)
 --> Dockerfile:2:27
  |
2 | HEALTHCHECK --interval=5s CURL localhost
  |                           ^^^^
"##),
    bad("a duration without a unit", "FROM scratch\nHEALTHCHECK --interval=5 CMD x\n", &[],
r##"error: time: missing unit in duration "5": write 5s, 1m30s, 500ms
 --> Dockerfile:2:13
  |
2 | HEALTHCHECK --interval=5 CMD x
  |             ^^^^^^^^^^^^
"##),
    bad("a mount type", "FROM scratch\nRUN --mount=type=cash,target=/c true\n", &[],
r##"error: unsupported mount type "cash" (did you mean cache?)
 --> Dockerfile:2:13
  |
2 | RUN --mount=type=cash,target=/c true
  |             ^^^^^^^^^
"##),
    bad("a network mode", "FROM scratch\nRUN --network=hots true\n", &[],
r##"error: invalid network mode "hots": expected default, none or host
 --> Dockerfile:2:5
  |
2 | RUN --network=hots true
  |     ^^^^^^^^^^^^^^
"##),
    bad("a directive twice", "# escape=\\\n# escape=`\nFROM scratch\n", &[],
r##"error: only one escape parser directive can be used
 --> Dockerfile:2:1
  |
2 | # escape=`
  | ^^^^^^^^^^
"##),
    bad("an escape that is none", "# escape=!\nFROM scratch\n", &[],
r##"error: invalid escape token '!' does not match ` or \
 --> Dockerfile:1:10
  |
1 | # escape=!
  |          ^
"##),
    bad("ONBUILD FROM", "FROM scratch\nONBUILD FROM alpine\n", &[],
r##"error: FROM isn't allowed as an ONBUILD trigger
 --> Dockerfile:2:9
  |
2 | ONBUILD FROM alpine
  |         ^^^^
"##),
    bad("a target that is not there", "FROM scratch AS build\nFROM scratch AS release\n", &["--target", "relaese"],
r##"error: target stage "relaese" could not be found (did you mean release?)
"##),
    bad("a stage number that is too high", "FROM scratch\nCOPY --from=3 /a /b\n", &[],
r##"error: invalid stage index 3 (the Dockerfile has 1 stage, counted from 0)
 --> Dockerfile:2:6
  |
2 | COPY --from=3 /a /b
  |      ^^^^^^^^
"##),
    bad("a variable in --from", "ARG S=a\nFROM scratch AS a\nFROM scratch\nCOPY --from=$S /a /b\n", &[],
r##"error: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround
 --> Dockerfile:4:6
  |
4 | COPY --from=$S /a /b
  |      ^^^^^^^^^
"##),
    bad("stages in a circle", "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n", &[],
r##"error: circular dependency detected on stage: a
 --> Dockerfile:4:6
  |
4 | COPY --from=a /x /
  |      ^^^^^^^^
"##),
    bad("a base in capitals", "FROM scratch AS base\nFROM Base\n", &[],
r##"error: failed to parse stage name "Base": 'Base' is not an image reference: a repository name is lower-case (did you mean base?)
 --> Dockerfile:2:6
  |
2 | FROM Base
  |      ^^^^
"##),
    bad("a base without a value", "ARG BASE\nFROM ${BASE}\n", &[],
r##"error: base name (${BASE}) should not be blank
 --> Dockerfile:2:6
  |
2 | FROM ${BASE}
  |      ^^^^^^^
"##),
    bad("an unclosed variable", "FROM scratch\nENV A=1\nLABEL a=b \\\n  c=${A\n", &[],
r##"error: failed to process "${A": unsupported modifier (�) in substitution
 --> Dockerfile:4:5
  |
4 |   c=${A
  |     ^^^
"##),
    bad("a required variable", "FROM scratch\nCOPY ${V:?must be given} /x\n", &[],
r##"error: failed to process "${V:?must": syntax error: missing '}'
 --> Dockerfile:2:6
  |
2 | COPY ${V:?must be given} /x
  |      ^^^^^^^^^
"##),
    bad("an operator that is none", "FROM scratch\nUSER ${A^}\n", &[],
r##"error: failed to process "${A^}": unsupported modifier (^) in substitution
 --> Dockerfile:2:6
  |
2 | USER ${A^}
  |      ^^^^^
"##),
    bad("a signal", "FROM scratch\nSTOPSIGNAL SIGTREM\n", &[],
r##"error: invalid signal: SIGTREM (did you mean SIGTERM?)
 --> Dockerfile:2:12
  |
2 | STOPSIGNAL SIGTREM
  |            ^^^^^^^
"##),
    bad("a port", "FROM scratch\nEXPOSE 80 443/tpc\n", &[],
r##"error: invalid port: "443/tpc": invalid proto: tpc (expected tcp, udp or sctp)
 --> Dockerfile:2:11
  |
2 | EXPOSE 80 443/tpc
  |           ^^^^^^^
"##),
    bad("a mode", "FROM scratch\nCOPY --chmod=99 a b\n", &[],
r##"error: invalid chmod parameter: '99'. it should be octal string and between 0 and 07777, or symbolic
 --> Dockerfile:2:6
  |
2 | COPY --chmod=99 a b
  |      ^^^^^^^^^^
"##),
    bad("a URL in COPY", "FROM scratch\nCOPY https://x.invalid/a.tgz /\n", &[],
r##"error: source can't be a URL for COPY: https://x.invalid/a.tgz
 --> Dockerfile:2:6
  |
2 | COPY https://x.invalid/a.tgz /
  |      ^^^^^^^^^^^^^^^^^^^^^^^
"##),
    bad("a checksum of a file", "FROM scratch\nADD --checksum=sha256:00 a b\n", &[],
r##"error: checksum requires HTTP(S) or Git sources
 --> Dockerfile:2:5
  |
2 | ADD --checksum=sha256:00 a b
  |     ^^^^^^^^^^^^^^^^^^^^
"##),
    bad("a platform", "FROM --platform=linux/amd46/v1/x scratch\n", &[],
r##"error: failed to parse platform linux/amd46/v1/x: 'linux/amd46/v1/x' is not a platform (expected os/architecture[/variant], such as linux/amd64)
 --> Dockerfile:1:6
  |
1 | FROM --platform=linux/amd46/v1/x scratch
  |      ^^^^^^^^^^^^^^^^^^^^^^^^^^^
"##),
    bad("a platform without a value", "FROM --platform=$BUILDPLATFROM scratch\n", &[],
r##"error: empty platform value from expression $BUILDPLATFROM (did you mean BUILDPLATFORM?)
 --> Dockerfile:1:6
  |
1 | FROM --platform=$BUILDPLATFROM scratch
  |      ^^^^^^^^^^^^^^^^^^^^^^^^^
"##),
    bad("check options", "# check=skp=all\nFROM scratch\n", &[],
r##"error: invalid check option "skp": expected skip=, experimental= or error= (did you mean skip?)
 --> Dockerfile:1:9
  |
1 | # check=skp=all
  |         ^^^^^^^
"##),
    bad("check options of the caller", "FROM scratch\n", &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=maybe"],
r##"error: build argument BUILDKIT_DOCKERFILE_CHECK: failed to parse check option "error=maybe": expected true or false
"##),
    bad("another front end", "# syntax=example.com/front:1\nFROM scratch\n", &[],
r##"error: the front end example.com/front:1 cannot be run: docker/dockerfile is built in, others are programs in images
 --> Dockerfile:1:10
  |
1 | # syntax=example.com/front:1
  |          ^^^^^^^^^^^^^^^^^^^
"##),
];

#[test]
fn every_error_marks_its_words() {
    for Bad { what, dockerfile, arguments, stderr } in TABLE {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("Dockerfile"), dockerfile).expect("a file");
        for verb in [&["build", "--check"][..], &["build", "--call=outline"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
            command.args(verb).args(*arguments).arg(".").current_dir(dir.path());
            command.env_clear().env("HOME", dir.path()).stdin(Stdio::null());
            let output = command.output().expect("the binary starts");
            // Check options are read by a check alone.
            if verb[1] != "--check" && what.starts_with("check options") {
                continue;
            }
            assert_eq!(String::from_utf8_lossy(&output.stderr), *stderr, "{what}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{what}");
            assert_eq!(output.status.code(), Some(1), "{what}");
        }
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["Dockerfile"], "{what}");
    }
}

/// A build says the same as a check, and has built nothing: the first and the last errors that can be met before a step.
#[test]
fn a_build_fails_as_its_check_does() {
    for what in ["an unknown instruction", "a signal", "another front end"] {
        let case = TABLE.iter().find(|case| case.what == what).expect("a case");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("Dockerfile"), case.dockerfile).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockless"));
        command.args(["build", "."]).current_dir(dir.path()).env_clear().stdin(Stdio::null());
        let output = command.env("HOME", dir.path()).env("DOCKLESS_HOME", dir.path().join("state")).output();
        let output = output.expect("the binary starts");
        assert_eq!(String::from_utf8_lossy(&output.stderr), case.stderr, "{what}");
        assert_eq!(output.status.code(), Some(1), "{what}");
    }
}
