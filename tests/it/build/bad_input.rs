//! What is wrong is one clear message, with the Dockerfile's line where there is one; nothing is pushed or left half-done.

use super::place::{Caller, Place, is_root, was_pushed};
use crate::support::registry::{Options, Registry};
use std::fs;
use std::net::TcpListener;
use std::process::Command;

/// Builds `dockerfile` to be pushed as `app`, which must fail; the message holds `words` and the line `line`.
#[track_caller]
fn refused(place: &Place, registry: &Registry, dockerfile: &str, line: &str, words: &[&str]) {
    place.file("Dockerfile", dockerfile);
    let before = place.kept();
    let ran = place.dockless(&format!("build -t {}/app --push context", registry.host())).failed(1, words);
    if !line.is_empty() {
        assert!(ran.stderr.contains(&format!("--> Dockerfile:{line}")), "{}", ran.stderr);
        let text = dockerfile.lines().nth(line.split(':').next().unwrap().parse::<usize>().unwrap() - 1).unwrap();
        assert!(ran.stderr.lines().any(|drawn| drawn.contains(" | ") && drawn.contains(text)), "{}", ran.stderr);
        assert!(ran.stderr.contains("^"), "nothing is drawn under the line:\n{}", ran.stderr);
    }
    assert!(!was_pushed(registry, "app"), "it was pushed");
    assert_eq!(place.kept(), before, "the store changed");
    assert_eq!(place.dockless("images -q").text(), "");
}

#[test]
fn wrong_dockerfiles_and_contexts() {
    let registry = Registry::start();
    let place = Place::new(Caller::Own);
    place.file("there", "x").file("hidden.md", "x").file(".dockerignore", "*.md\n");
    let case = |dockerfile: &str, line: &str, words: &[&str]| refused(&place, &registry, dockerfile, line, words);
    case("FROM scratch\nCOPY --chown\n", "2:", &["COPY"]);
    case("FROM scratch\nRUN [\"a\",\nCOPY a /\n", "", &[]);
    case("FROM scratch\nCOPPY there /\n", "2:", &["COPPY", "COPY"]);
    case("FROM scratch AS one\nFROM scratch\nCOPY --from=tow there /\n", "", &["tow"]);
    case("FROM scratch\nCOPY --from=7 there /\n", "2:", &["7"]);
    case("FROM scratch\nCOPY missing /\n", "2:", &["missing"]);
    case("FROM scratch\nCOPY hidden.md /\n", "2:", &["hidden.md", ".dockerignore"]);
    case("FROM scratch\nENV A\n", "2:", &["ENV"]);
    case("ENV A=1\n", "", &["FROM"]);
    case("FROM Not/Valid/\n", "1:", &["Not/Valid/"]);
    case("", "", &[]);
    let none = Place::new(Caller::Own);
    none.dockless("build context").failed(1, &["no Dockerfile"]);
    none.dockless("build nowhere").failed(1, &["nowhere", "does not exist"]);
    none.dockless("build -f other context").failed(1, &["other", "does not exist"]);
    for usage in ["build", "build --nope context", "build --push context", "build -t UPPER context", "frob"] {
        let ran = none.dockless(usage);
        assert_eq!((ran.code, ran.text()), (Some(2), ""), "{usage}: {}", ran.stderr);
    }
    assert!(!none.state().exists(), "a store was made for nothing");
}

#[test]
fn bases_that_cannot_be_had() {
    let registry = Registry::start();
    let place = Place::new(Caller::Own);
    let host = registry.host();
    let missing = format!("FROM {host}/library/nothing:9\nRUN x\n");
    let reference = format!("{host}/library/nothing:9");
    refused(&place, &registry, &missing, "1:", &[&reference, host, "404"]);
    // A port where nobody listens.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = format!("FROM {nobody}/library/busybox\n");
    refused(&place, &registry, &unreachable, "1:", &[&nobody.to_string(), "refused"]);
    // A push to nobody.
    place.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    place.dockless(&format!("build -t {nobody}/app --push context")).failed(1, &[&nobody.to_string(), "refused"]);
}

#[test]
fn registries_that_refuse_say_what_was_tried() {
    let login = ("user".to_string(), "right-password".to_string());
    let registry = Registry::start_with(Options { login: Some(login), ..Options::default() });
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    let host = registry.host();
    refused(&place, &registry, &format!("FROM {base}\n"), "1:", &["401", host, "no credentials"]);
    let with = |user_and_password: &str| {
        let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, user_and_password);
        let config = format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#);
        place.file("Dockerfile", format!("FROM {base}\nCOPY Dockerfile /\n"));
        let mut command = place.command(&format!("build -t {host}/app --push context"), [""; 0]);
        command.env("DOCKER_AUTH_CONFIG", config);
        place.finish(command.output().unwrap())
    };
    let wrong = with("user:wrong-password").failed(1, &["401", host, "DOCKER_AUTH_CONFIG"]);
    assert!(!wrong.stderr.contains("wrong-password"), "{}", wrong.stderr);
    assert!(!was_pushed(&registry, "app"));
    with("user:right-password").succeeded();
    assert!(was_pushed(&registry, "app"));
}

#[test]
fn a_blob_with_another_digest_is_refused() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let manifest: serde_json::Value = serde_json::from_slice(&registry.manifest("library/busybox:latest")).unwrap();
    let place = Place::new(Caller::Own);
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_string();
    let hex = digest.trim_start_matches("sha256:");
    let blob = registry.data().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();
    place.file("Dockerfile", format!("FROM {base}\nRUN true\n"));
    let words = format!("build -t {}/app --push context", registry.host());
    place.dockless(&words).failed(1, &["--> Dockerfile:2:1", &digest, "what came has"]);
    assert!(!was_pushed(&registry, "app"));
    assert!(!place.state().join("blobs/sha256").join(hex).exists(), "the damaged blob is in the store");
}

#[test]
fn a_command_that_fails_is_shown_with_its_output_and_code() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    // The base, and the steps before those that fail.
    place.file("Dockerfile", format!("FROM {base}\nRUN true\nFROM {base}\nUSER ghost\nCOPY --from=0 /etc/passwd /x\n"));
    place.dockless("build context").succeeded();
    let words = ["exit code 42", "the last line", "last output of"];
    let dockerfile = format!("FROM {base}\nRUN seq 3; echo the last line; exit 42\n");
    refused(&place, &registry, &dockerfile, "2:", &words);
    refused(&place, &registry, &format!("FROM {base}\nRUN kill -9 $$\n"), "2:", &["signal 9"]);
    refused(&place, &registry, &format!("FROM {base}\nRUN [\"/no/such\"]\n"), "2:", &["/no/such", "No such file"]);
    refused(&place, &registry, &format!("FROM {base}\nUSER ghost\nRUN true\n"), "3:", &["ghost", "/etc/passwd"]);
}

#[test]
fn a_full_disk_is_named() {
    if !is_root("a full disk") {
        return;
    }
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", format!("FROM {base}\nRUN head -c 40000000 /dev/urandom > /big\n"));
    fs::create_dir(place.state()).unwrap();
    // 40 MB as a file and 40 MB as a layer do not fit, in either order.
    let script = "mount -t tmpfs -o size=60m dockless-test state &&
        { ./dockless build -t \"$0\"/app --push context; code=$?; find state/tmp -type f ! -name lock; exit $code; }";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, registry.host()]).current_dir(place.path(""));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DOCKLESS_HOME", place.state());
    let ran = place
        .finish(command.output().unwrap())
        .failed(1, &["--> Dockerfile:2:1", "No space left", "set DOCKLESS_HOME"]);
    assert!(!was_pushed(&registry, "app"), "{}", ran.stderr);
}
