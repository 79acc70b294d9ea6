//! What a step sees of the machine, and what the machine keeps of it.

use super::place::{Caller, Place, callers};
use crate::support::registry::Registry;

#[test]
fn a_step_sees_nothing_of_the_callers_environment() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    for caller in callers("the environment of a step") {
        let place = Place::new(caller);
        let script =
            "env | sort; for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; tr '\\0' '\\n' < $p/cmdline; done";
        place.file(
            "Dockerfile",
            format!("FROM {base}\nENV OWN=1\nRUN {script}; cat /proc/1/environ /proc/self/mountinfo\n"),
        );
        let mut command = place.command("build --progress=plain --add-host there:10.0.0.1 context", [""; 0]);
        command
            .env("CANARY", "leaked-value")
            .env("DOCKER_AUTH_CONFIG", r#"{"auths":{"x.test":{"auth":"bGVha2VkLXZhbHVl"}}}"#);
        let ran = place.finish(command.output().unwrap());
        // The masked environment of pid 1 cannot be read.
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("OWN=1"), "{}", ran.stderr);
        let output: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("#3 ")).collect();
        for leak in ["CANARY", "leaked-value", "bGVha2VkLXZhbHVl", "DOCKLESS_HOME", "DOCKER_AUTH", "TMPDIR"] {
            assert!(!ran.stderr.contains(leak), "{caller:?}: {leak} in {}", output.join("\n"));
        }
    }
}

#[test]
fn a_step_sees_the_authorities_only_where_it_is_shown_them() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    let script = "cat $SSL_CERT_FILE; echo $CURL_CA_BUNDLE $GIT_SSL_CAINFO";
    place.file(
        "Dockerfile",
        format!("FROM {base}\nENV GIT_SSL_CAINFO=/own\nRUN {script}\nRUN ! test -e /run/dockless\n"),
    );
    let build = |words: &str| {
        let mut command = place.command(words, [""; 0]);
        place.finish(command.env("SSL_CERT_FILE", place.path("ca")).output().unwrap())
    };
    std::fs::write(place.path("ca"), "THE-AUTHORITY").unwrap();
    let failed = build("build --progress=plain --inject-ca --no-cache context");
    // The second step sees them too, and says so by failing.
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("THE-AUTHORITY"), "{}", failed.stderr);
    assert!(failed.stderr.contains("/run/dockless/ca-certificates.crt /own"), "{}", failed.stderr);
    // They are no part of the layer or of the key.
    let second = build("build --progress=plain context").succeeded();
    assert!(second.stderr.contains("CACHED"), "{}", second.stderr);
    assert!(!build("build --progress=plain --no-cache context").succeeded().stderr.contains("THE-AUTHORITY"));
}

#[test]
fn a_step_has_the_hosts_names_and_network_and_is_process_1_s_child() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for caller in callers("the surroundings of a step") {
        let place = Place::new(caller);
        place.file("hosts", &hosts).file("resolv.conf", &resolv);
        place.file(
            "Dockerfile",
            format!(
                "FROM {base}\nCOPY hosts resolv.conf /want/\n\
                 RUN grep -v buildkitsandbox /etc/hosts | cmp - /want/hosts && cmp /etc/resolv.conf /want/resolv.conf\n\
                 RUN wget -q -O - http://{}/v2/ | grep -q '{{}}'\n\
                 RUN test $PPID = 1 && test $(id -u) = 0 && test $(ls -d /proc/[0-9]* | wc -l) -lt 8\n\
                 RUN test -c /dev/null && test -d /sys/class/net && test -w /dev/shm && test -e /dev/pts/ptmx\n\
                 RUN --network=none ! wget -q -O - http://{}/v2/\n",
                registry.host(),
                registry.host()
            ),
        );
        place.dockless("build context").succeeded();
    }
}

/// Only what the caller's account lets a process do anyway.
#[test]
fn needs_no_home_and_no_environment() {
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let mut command = place.command("build -q context", [""; 0]);
    command.env_clear().env("TMPDIR", place.path("state"));
    std::fs::create_dir(place.state()).unwrap();
    let ran = place.finish(command.output().unwrap()).succeeded();
    assert!(ran.text().starts_with("sha256:"), "{}", ran.text());
}

/// A machine without user namespaces: a build without RUN works all the same, one with RUN says why it cannot, and pulls
/// no layer first.
#[test]
fn only_commands_need_namespaces() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let without = |place: &Place, words: &str| {
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec ./dockless $0";
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script, words]).current_dir(place.path(""));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DOCKLESS_HOME", place.state());
        place.finish(command.output().unwrap())
    };
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", format!("FROM {base}\nWORKDIR /made\nCOPY --chown=7:8 Dockerfile file\nCMD [\"cat\"]\n"));
    without(&place, "build -t app --output type=oci,dest=out/app.tar context").succeeded();
    assert!(place.path("out/app.tar").exists());
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", format!("FROM {base}\nCOPY Dockerfile /\nRUN true\n"));
    let words = ["--> Dockerfile:3:1", "no namespaces", "max_user_namespaces"];
    without(&place, "build --isolation=namespaces -t app context").failed(1, &words);
    let layers = place.kept().iter().filter(|path| path.starts_with(place.state().join("layers"))).count();
    assert_eq!(layers, 0, "a layer was unpacked");
    // A supervisor alone does it, too.
    without(&place, "build -t app context").succeeded();
}

/// The limit is 1024 in many a container. What a tree is copied with does not grow with its directories.
#[test]
fn regression_few_descriptors_do_for_many_directories() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    let dirs = "for i in $(seq 300); do mkdir -p /d/$i/e && echo x > /d/$i/e/f || exit 1; done";
    place.file("Dockerfile", format!("FROM {base} AS made\nRUN {dirs}\nFROM made\nRUN test -e /d/300/e/f\n"));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec ./dockless build --isolation=emulated -t app context"]);
    command.current_dir(place.path("")).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DOCKLESS_HOME", place.state());
    place.finish(command.output().unwrap()).succeeded();
}
