use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn env(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

/// `user:password@source` of what is found.
fn found(keychain: &Keychain, registry: &str, repository: &str) -> String {
    let lookup = keychain.lookup(registry, repository).unwrap();
    match lookup.credential {
        None => "nobody".into(),
        Some(Credential { identity: Identity::Password { user, password }, source }) => {
            format!("{user}:{}@{source}", password.expose())
        }
        Some(Credential { identity: Identity::RefreshToken(token), .. }) => format!("refresh {}", token.expose()),
        Some(Credential { identity: Identity::RegistryToken(token), .. }) => format!("bearer {}", token.expose()),
    }
}

fn auth(user: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:p:w"))
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_longest_key_counts() {
    let text = format!(
        r#"{{"auths":{{"r.io":{{"auth":"{}"}},"https://r.io/group":{{"auth":"{}"}},"r.io/group/app/":{{"auth":"{}"}},
            "https://index.docker.io/v1/":{{"auth":"{}"}},"https://old.io/v2/":{{"username":"u","password":"w"}},
            "id.io":{{"auth":"","identitytoken":"it"}},"reg.io":{{"registrytoken":"rt"}},"none.io":{{}}}}}}"#,
        auth("a"),
        auth("b"),
        auth("c"),
        auth("hub")
    );
    let keychain = Keychain::new(env(&[("DOCKER_AUTH_CONFIG", &text)]));
    for (registry, repository, expected) in [
        ("r.io", "x", "a:p:w@DOCKER_AUTH_CONFIG"),
        ("r.io", "group/x", "b:p:w@DOCKER_AUTH_CONFIG"),
        ("r.io", "group/app", "c:p:w@DOCKER_AUTH_CONFIG"),
        ("r.io", "groupie/app", "a:p:w@DOCKER_AUTH_CONFIG"),
        ("r.io:5000", "x", "nobody"),
        ("docker.io", "library/alpine", "hub:p:w@DOCKER_AUTH_CONFIG"),
        ("old.io", "x", "u:w@DOCKER_AUTH_CONFIG"),
        ("id.io", "x", "refresh it"),
        ("reg.io", "x", "bearer rt"),
        ("none.io", "x", "nobody"),
    ] {
        assert_eq!(found(&keychain, registry, repository), expected, "{registry}/{repository}");
    }
}

#[test]
fn sources_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let one = |user: &str| format!(r#"{{"auths":{{"r.io":{{"auth":"{}"}}}}}}"#, auth(user));
    let variable = one("variable");
    let mut variables = vec![
        ("DOCKER_AUTH_CONFIG", variable),
        ("DOCKER_CONFIG", at("docker")),
        ("REGISTRY_AUTH_FILE", at("auth.json")),
        ("XDG_RUNTIME_DIR", at("run")),
        ("XDG_CONFIG_HOME", at("xdg")),
        ("HOME", at("home")),
        ("CI_REGISTRY", "r.io".to_string()),
        ("CI_REGISTRY_USER", "ci".to_string()),
        ("CI_REGISTRY_PASSWORD", "w".to_string()),
    ];
    let files = ["docker/config.json", "auth.json", "run/containers/auth.json", "xdg/containers/auth.json"];
    let files: Vec<_> = files.into_iter().chain(["home/.docker/config.json"]).map(|f| dir.path().join(f)).collect();
    for file in &files {
        write(file, &one(file.to_str().unwrap()));
    }
    let look = |variables: &[(&str, String)]| {
        let list: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
        found(&Keychain::new(env(&list)), "r.io", "app")
    };
    assert_eq!(look(&variables), "variable:p:w@DOCKER_AUTH_CONFIG");
    variables.remove(0);
    for file in &files {
        let path = file.display();
        assert_eq!(look(&variables), format!("{path}:p:w@{path}"));
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(look(&variables), "ci:w@CI_REGISTRY_USER and CI_REGISTRY_PASSWORD");
    let list: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let keychain = Keychain::new(env(&list)).with("r.io", "flag", Secret::new("w"), "--creds");
    assert_eq!(found(&keychain, "r.io", "app"), "flag:w@--creds");
    variables.retain(|(name, _)| !name.starts_with("CI_"));
    let list: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let told = Keychain::new(env(&list)).lookup("r.io", "app").unwrap().describe();
    assert!(files.iter().all(|file| told.contains(file.to_str().unwrap())), "{told}");
}

#[test]
fn what_ci_systems_give() {
    for (variables, registry, expected) in [
        (vec![("CI_REGISTRY", "r.io"), ("CI_JOB_TOKEN", "t")], "r.io", "gitlab-ci-token:t@CI_JOB_TOKEN"),
        (vec![("CI_REGISTRY", "r.io"), ("CI_JOB_TOKEN", "t")], "other.io", "nobody"),
        (
            vec![
                ("CI_DEPENDENCY_PROXY_SERVER", "gitlab.io:443"),
                ("CI_DEPENDENCY_PROXY_USER", "u"),
                ("CI_DEPENDENCY_PROXY_PASSWORD", "w"),
            ],
            "gitlab.io",
            "u:w@CI_DEPENDENCY_PROXY_USER and CI_DEPENDENCY_PROXY_PASSWORD",
        ),
        (vec![("GITHUB_TOKEN", "t"), ("GITHUB_ACTOR", "me")], "ghcr.io", "me:t@GITHUB_TOKEN"),
        (vec![("GITHUB_TOKEN", "t")], "docker.io", "nobody"),
        (
            vec![("KANIKO_R_IO_5000_USER", "u"), ("KANIKO_R_IO_5000_PASSWORD", "w")],
            "r.io:5000",
            "u:w@KANIKO_R_IO_5000_USER and KANIKO_R_IO_5000_PASSWORD",
        ),
        (vec![("CI_REGISTRY", "")], "", "nobody"),
    ] {
        assert_eq!(found(&Keychain::new(env(&variables)), registry, "app"), expected, "{variables:?}");
    }
}

#[test]
fn wrong_files_are_named_and_not_quoted() {
    let secret = "hunter2hunter2";
    for text in [
        format!(r#"{{"auths":{{"r.io":{{"auth":"{secret}"#),
        format!(r#"{{"auths":{{"r.io":{{"auth":"!{secret}"}}}}}}"#),
        format!(r#"{{"auths":"{secret}"}}"#),
    ] {
        let keychain = Keychain::new(env(&[("DOCKER_AUTH_CONFIG", &text)]));
        let error = keychain.lookup("r.io", "x").unwrap_err();
        let shown = format!("{error} {error:?} {keychain:?}");
        assert!(shown.contains("DOCKER_AUTH_CONFIG") && !shown.contains(secret), "{shown}");
    }
    let empty = Keychain::new(env(&[("DOCKER_AUTH_CONFIG", " ")]));
    assert_eq!(found(&empty, "r.io", "x"), "nobody");
}

/// A directory with `docker-credential-NAME` for each script.
fn helpers(scripts: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in scripts {
        let path = dir.path().join(format!("docker-credential-{name}"));
        write(&path, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

#[test]
fn helpers_are_asked() {
    let dir = helpers(&[
        ("good", r#"read -r s; echo "{\"ServerURL\":\"$s\",\"Username\":\"$s\",\"Secret\":\"w\"}""#),
        ("token", r#"echo '{"Username":"<token>","Secret":"rt"}'"#),
        ("none", "echo 'credentials not found in native keychain'; exit 1"),
        ("bad", "echo 'no keyring here' >&2; exit 1"),
    ]);
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let text = format!(
        r#"{{"credsStore":"good","credHelpers":{{"t.io":"token","n.io":"none","b.io":"bad","m.io":"missing","s.io":"../x"}},
            "auths":{{"n.io":{{"auth":"{}"}}}}}}"#,
        auth("fallback")
    );
    let keychain = Keychain::new(env(&[("DOCKER_AUTH_CONFIG", &text), ("PATH", &path)]));
    let good = "docker-credential-good (named in DOCKER_AUTH_CONFIG)";
    assert_eq!(found(&keychain, "r.io", "x"), format!("r.io:w@{good}"));
    assert_eq!(found(&keychain, "docker.io", "library/x"), format!("https://index.docker.io/v1/:w@{good}"));
    assert_eq!(found(&keychain, "t.io", "x"), "refresh rt");
    assert_eq!(found(&keychain, "n.io", "x"), "fallback:p:w@DOCKER_AUTH_CONFIG");
    for (registry, words) in [("b.io", "no keyring here"), ("m.io", "cannot be run"), ("s.io", "cannot be run")] {
        let error = keychain.lookup(registry, "x").unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("DOCKER_AUTH_CONFIG"), "{error}");
    }
}

#[test]
fn a_helper_that_hangs_is_ended() {
    let dir = helpers(&[("hang", "exec sleep 1000")]);
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let environment = BTreeMap::from([("PATH".to_string(), path)]);
    let result = helper::get("hang", "r.io", "config.json", &environment, Duration::from_millis(50));
    assert!(matches!(result, Err(KeychainError::HelperTimeout { .. })), "{result:?}");
}
