//! Trust, names, mirrors and proxies, as flags and variables of the binary.

use super::verbs::{Told, User};
use crate::support::faulty::{Faulty, Habits};
use crate::support::registry::{Options, Registry};

/// A registry that speaks TLS under a private authority, by a name that only `--add-host` knows.
#[test]
fn a_private_authority_is_named_by_flag_variable_or_exception() {
    let registry = Registry::start_with(Options { tls: true, ..Options::default() });
    registry.put_base("busybox");
    let image = format!("registry.test:{}/library/busybox", registry.port());
    let user = User::new();
    let pull = |flags: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&["pull", "-q", "--add-host", "registry.test:127.0.0.1"], flags, &[&image]].concat();
        user.run_with(&arguments, variables)
    };
    let told = pull(&[], &[]);
    assert!(told.code == 1 && told.stderr.contains("--registry-ca"), "{}", told.stderr);
    let ca = registry.ca().to_str().unwrap();
    for (flags, variables) in [
        (&["--registry-ca", ca][..], &[][..]),
        (&["--insecure-registry", "registry.test"], &[]),
        (&[], &[("SSL_CERT_FILE", ca)]),
        (&[], &[("CI_SERVER_TLS_CA_FILE", ca)]),
    ] {
        let told = pull(flags, variables);
        assert_eq!((told.code, told.stdout), (0, format!("{image}:latest\n")), "{flags:?}: {}", told.stderr);
    }
    let told = pull(&["--registry-ca", "/nowhere/ca.crt"], &[]);
    assert!(told.code == 1 && told.stderr.contains("/nowhere/ca.crt"), "{}", told.stderr);
}

/// Certificates are read for https alone: what cannot be read is no matter where nothing needs it.
#[test]
fn plain_http_reads_no_certificates() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let told = User::new().run(&["pull", "-q", "--registry-ca", "/nowhere/ca.crt", &base]);
    assert_eq!(told.code, 0, "{}", told.stderr);
}

#[test]
fn docker_hubs_mirror_and_any_others() {
    let mirror = Registry::start();
    let base = mirror.put_base("busybox");
    let user = User::new();
    let ok = |flags: &[&str], variables: &[(&str, &str)], image: &str, name: &str| {
        let told = user.run_with(&[&["pull", "-q"], flags, &[image]].concat(), variables);
        assert_eq!((told.code, told.stdout), (0, format!("{name}:latest\n")), "{}", told.stderr);
        assert!(!told.stderr.contains("warning"), "{}", told.stderr);
    };
    let hub = "docker.io/library/busybox";
    ok(&["--registry-mirror", mirror.host()], &[], "busybox", hub);
    ok(&[], &[("KANIKO_REGISTRY_MIRROR", mirror.host())], "busybox", hub);
    let map = format!("quay.test={}", mirror.host());
    ok(&["--registry-map", &map], &[], "quay.test/library/busybox", "quay.test/library/busybox");
    ok(&[], &[("KANIKO_REGISTRY_MAP", &map)], "quay.test/library/busybox", "quay.test/library/busybox");
    let conf = user.path("registries.conf");
    let text = format!("[[registry]]\nprefix = \"corp.test/base\"\nlocation = \"{}/library\"\n", mirror.host());
    std::fs::write(&conf, text).unwrap();
    let variables = [("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap())];
    ok(&[], &variables, "corp.test/base/busybox", "corp.test/base/busybox");
    // One set of settings: a base of a build comes by the same way.
    std::fs::create_dir(user.path("context")).unwrap();
    std::fs::write(user.path("context/Dockerfile"), "FROM corp.test/base/busybox\nENV A=1\n").unwrap();
    let told = user.run_with(&["build", "-q", "--pull", "context"], &variables);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(user.run(&["build", "-q", "--pull", "context"]).code, 1);
    assert!(base.contains("busybox"));
}

#[test]
fn a_proxy_is_taken_from_the_environment() {
    let proxy = Faulty::start_with(Habits { open: true, ..Habits::default() }, |_, _| None);
    let variables = [("HTTP_PROXY", proxy.url())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let user = User::new();
    user.run_with(&["pull", "--insecure-registry", "far.test", "far.test/a"], &variables);
    assert!(proxy.seen().iter().any(|seen| seen.target.starts_with("http://far.test/v2/")), "{:?}", proxy.seen());
    let before = proxy.seen().len();
    let variables = [variables[0], ("NO_PROXY", "far.test")];
    user.run_with(
        &["pull", "--insecure-registry", "far.test", "--add-host", "far.test:127.0.0.2", "far.test/a"],
        &variables,
    );
    assert_eq!(proxy.seen().len(), before);
}

/// The binary in a mount namespace whose `/etc` holds the files of `etc` alone, which the machine's own must not change.
fn with_etc(user: &User, etc: &std::path::Path, arguments: &[&str]) -> Told {
    let script = r#"mount -t tmpfs etc /etc && cp -r "$0"/. /etc && exec "$@""#;
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(etc).arg(env!("CARGO_BIN_EXE_dockless")).args(arguments);
    command.env_clear().env("HOME", user.path("")).env("PATH", std::env::var_os("PATH").unwrap());
    Told::of(&command.current_dir(user.path("")).output().unwrap())
}

/// What Docker's daemon would read, which runners mount into their jobs, serves pulls and builds without a flag.
#[test]
fn dockers_own_files_are_obeyed() {
    let (plain, tls) = (Registry::start(), Registry::start_with(Options { tls: true, ..Options::default() }));
    let mirror = Registry::start();
    for registry in [&plain, &tls, &mirror] {
        registry.put_base("busybox");
    }
    let user = User::new();
    let etc = user.path("etc");
    std::fs::create_dir_all(etc.join("docker")).unwrap();
    let name = |registry: &Registry| format!("registry.test:{}", registry.port());
    let pull = |image: &str| with_etc(&user, &etc, &["pull", "-q", "--add-host", "registry.test:127.0.0.1", image]);
    let (from_plain, from_tls) =
        (format!("{}/library/busybox", name(&plain)), format!("{}/library/busybox", name(&tls)));
    for (image, hint) in [(&from_plain, "--insecure-registry"), (&from_tls, "--registry-ca")] {
        let told = pull(image);
        assert!(told.code == 1 && told.stderr.contains(hint), "{}", told.stderr);
    }

    let daemon = serde_json::json!({
        "insecure-registries": [name(&plain)],
        "registry-mirrors": [format!("http://{}", mirror.host())],
        "log-driver": "json-file",
    });
    std::fs::write(etc.join("docker/daemon.json"), daemon.to_string()).unwrap();
    let certificates = etc.join("docker/certs.d").join(name(&tls));
    std::fs::create_dir_all(&certificates).unwrap();
    std::fs::copy(tls.ca(), certificates.join("ca.crt")).unwrap();
    for image in [&from_plain, &from_tls, "busybox"] {
        let told = pull(image);
        assert_eq!(told.code, 0, "{image}: {}", told.stderr);
    }
    std::fs::create_dir(user.path("context")).unwrap();
    std::fs::write(user.path("context/Dockerfile"), format!("FROM busybox\nCOPY --from={from_plain} /bin/sh /sh\n"))
        .unwrap();
    let build = ["build", "-q", "--pull", "--add-host", "registry.test:127.0.0.1", "context"];
    let told = with_etc(&user, &etc, &build);
    assert_eq!(told.code, 0, "{}", told.stderr);

    std::fs::write(etc.join("docker/daemon.json"), "{").unwrap();
    let told = pull(&from_plain);
    assert!(told.code == 1 && told.stderr.contains("/etc/docker/daemon.json"), "{}", told.stderr);
}
