//! docker-registry with a token server: the set-up that GitLab has.

use super::{Quiet, client, impatient, linux, store, told};
use crate::support::registry::{Options, Registry};
use crate::support::throttle::slow_line;
use crate::support::token::REFRESH;
use dockless::http::{Http, Secret, Settings, TlsSettings};
use dockless::oci::manifest::{OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use dockless::oci::{Descriptor, Digest, Reference, manifest};
use dockless::registry::{Environment, Keychain, RegistryClient};
use dockless::store::Store;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The project's own repository, and one that it may only read.
fn project() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![("group/app", vec!["pull", "push"]), ("group/base", vec!["pull"]), ("group/other", vec!["pull", "push"])]
}

fn start(lifetime: u64, tls: bool) -> Registry {
    Registry::start_with(Options { tokens: Some((lifetime, project())), tls, ..Options::default() })
}

/// An image of layers of noise, in the store.
fn image(store: &Store, layers: usize, size: usize) -> Descriptor {
    let noise = |seed: u32| -> Vec<u8> {
        (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
    };
    let put =
        |bytes: &[u8], kind: &str| manifest::descriptor(kind, &store.put_blob(bytes).unwrap(), bytes.len() as u64);
    let layers: Vec<_> = (0..layers as u32).map(|seed| put(&noise(seed), OCI_LAYER_GZIP)).collect();
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", layer.digest())).collect();
    let platform = linux();
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        platform.architecture,
        ids.join(",")
    );
    let config = put(config.as_bytes(), OCI_CONFIG);
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
    });
    put(document.to_string().as_bytes(), OCI_MANIFEST)
}

fn ci(host: &str) -> Keychain {
    Keychain::anonymous().with(host, "ci", Secret::new("hunter2"), "CI_REGISTRY_USER and CI_REGISTRY_PASSWORD")
}

/// Token auth, TLS under a private authority, tokens of five seconds for one project: a push of twelve seconds and more.
#[test]
fn a_long_push_outlives_its_tokens() {
    let registry = start(5, true);
    let port = slow_line(registry.port(), 200_000);
    let host = format!("registry.test:{port}");
    let tls = TlsSettings { extra: vec![registry.ca().into()], ..TlsSettings::default() };
    let hosts = vec![("registry.test".into(), Ipv4Addr::LOCALHOST.into())];
    let settings = Settings { tls, hosts, ..Settings::default() };
    // One transfer at a time, so that it takes several tokens.
    let one = dockless::registry::Settings { parallel: 1, ..Default::default() };
    let client = RegistryClient::new(Arc::new(Http::new(settings)), ci(&host), one);
    let (_dir, store) = store();
    // One layer alone takes longer than a token lives.
    let what = image(&store, 2, 1_200_000);
    let to: Reference = format!("{host}/group/app:1").parse().unwrap();
    let began = Instant::now();
    client.push_image(&store, &what, &to, &Quiet).unwrap_or_else(|error| panic!("{}", told(&error)));
    let took = began.elapsed();
    assert!(took > Duration::from_secs(11), "{took:?} shows nothing");
    assert!(registry.tokens().given() >= 3, "{} tokens", registry.tokens().given());

    let (_dir, fresh) = self::store();
    let (resolved, _) = client.pull_image(&fresh, &to, &linux(), &Quiet).unwrap();
    client.ensure_blobs(&fresh, &resolved.origin, resolved.manifest.layers(), &Quiet).unwrap();
    assert_eq!(resolved.descriptor.digest(), what.digest());
}

#[test]
fn a_project_pushes_where_it_may_and_nowhere_else() {
    let registry = start(300, false);
    let host = registry.host().to_string();
    let (_dir, store) = store();
    let what = image(&store, 2, 1000);
    let client = client(impatient(), ci(&host));
    let at = |name: &str| -> Reference { format!("{host}/{name}:1").parse().unwrap() };
    client.push_image(&store, &what, &at("group/app"), &Quiet).unwrap();
    let error = client.push_image(&store, &what, &at("group/base"), &Quiet).unwrap_err();
    let text = told(&error);
    assert!(text.contains("access to") && text.contains("group/base") && text.contains("user 'ci'"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    // A mount asks for both projects, and moves nothing.
    client.push_image(&store, &what, &at("group/other"), &Quiet).unwrap();
    let scopes = registry.tokens().scopes();
    assert!(scopes.contains(&"repository:group/app:pull".to_string()), "{scopes:?}");

    let refused = client.preflight(&[at("group/app"), at("group/base")]).unwrap_err();
    assert_eq!(refused.0.repository(), "group/base");
    client.preflight(&[at("group/app"), at("group/other")]).unwrap();
}

/// GitLab's job token is the usual reason, and CI_REGISTRY_USER the usual cure.
#[test]
fn a_job_token_that_may_not_push_is_explained() {
    let registry = start(300, false);
    let host = registry.host().to_string();
    let variables = [("CI_REGISTRY", host.as_str()), ("CI_JOB_TOKEN", "hunter2")];
    let variables = variables.map(|(name, value)| (name.to_string(), value.to_string()));
    let client = client(impatient(), Keychain::new(Environment::new(variables)));
    let error = client.preflight(&[format!("{host}/group/base:1").parse().unwrap()]).unwrap_err().1;
    let (text, hint) = (told(&error), error.hint().unwrap_or_default());
    assert!(text.contains("user 'gitlab-ci-token' from CI_JOB_TOKEN") && !text.contains("hunter2"), "{text}");
    assert!(hint.contains("CI_REGISTRY_USER"), "{hint}");
}

/// `identitytoken` of config.json: a refresh token, traded by POST.
#[test]
fn a_refresh_token_is_traded_by_post() {
    let registry = start(300, false);
    let host = registry.host().to_string();
    let (_dir, store) = store();
    let what = image(&store, 1, 1000);
    let with = |token: &str| {
        let auths = format!(r#"{{"auths":{{"{host}":{{"auth":"PHRva2VuPjo=","identitytoken":"{token}"}}}}}}"#);
        let variables = [("DOCKER_AUTH_CONFIG".to_string(), auths)];
        client(impatient(), Keychain::new(Environment::new(variables)))
    };
    let to: Reference = format!("{host}/group/app:1").parse().unwrap();
    with(REFRESH).push_image(&store, &what, &to, &Quiet).unwrap();
    with(REFRESH).verify_login(&host).unwrap();
    let text = told(&with("hunter2-wrong").push_image(&store, &what, &to, &Quiet).unwrap_err());
    assert!(text.contains("the token from DOCKER_AUTH_CONFIG") && !text.contains("hunter2"), "{text}");
}

/// A wrong password is refused by the token server, whose words are shown.
#[test]
fn a_wrong_password_is_told_by_the_token_server() {
    let registry = start(300, false);
    let keychain = Keychain::anonymous().with(registry.host(), "ci", Secret::new("hunter3"), "--creds");
    let text = told(&client(impatient(), keychain).verify_login(registry.host()).unwrap_err());
    assert!(text.contains("401") && text.contains("Access denied") && !text.contains("hunter3"), "{text}");
}

/// A client's certificate from /etc/docker/certs.d opens the door of a registry that wants one.
#[test]
fn a_clients_certificate_is_shown() {
    let registry = Registry::start_with(Options { tls: true, client_certificates: true, ..Options::default() });
    let host = format!("registry.test:{}", registry.port());
    let hosts = vec![("registry.test".into(), Ipv4Addr::LOCALHOST.into())];
    let certs = tempfile::tempdir().unwrap();
    let dir = certs.path().join(&host);
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(registry.ca(), dir.join("ca.crt")).unwrap();
    let with = || {
        let tls = TlsSettings { host_directories: vec![certs.path().into()], ..TlsSettings::default() };
        client(Settings { tls, hosts: hosts.clone(), ..impatient() }, Keychain::anonymous())
    };
    let (_dir, store) = store();
    let what = image(&store, 1, 1000);
    let to: Reference = format!("{host}/team/app:1").parse().unwrap();
    assert!(with().push_image(&store, &what, &to, &Quiet).is_err());
    std::fs::copy(registry.files().join("r.crt"), dir.join("client.cert")).unwrap();
    std::fs::copy(registry.files().join("r.key"), dir.join("client.key")).unwrap();
    let pushed = with().push_image(&store, &what, &to, &Quiet);
    pushed.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(
        Digest::sha256(store.read_blob(&manifest::digest_of(&what).unwrap(), 1 << 20).unwrap()).to_string(),
        what.digest().to_string()
    );
}
