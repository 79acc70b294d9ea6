//! Tests of `registry`: against Debian's docker-registry, and against one that misbehaves on purpose.

mod clouds;
mod faults;
mod logs;
mod prompts;
mod renewal;
mod settings;
mod tokens;
mod verbs;

use crate::support::faulty::{Faulty, Habits};
use crate::support::registry::{Options, Registry};
use dockless::http::{Http, Method, Proxies, Request, RetryPolicy, Secret, Settings, TlsSettings};
use dockless::oci::manifest::digest_of;
use dockless::oci::{Platform, Reference};
use dockless::progress::{Event, Outcome, Progress};
use dockless::registry::{Environment, Keychain, Mirror, RegistryClient, RegistryError, Route};
use dockless::store::Store;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Keeps what it is told.
#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    /// How the transfers whose name begins with `prefix` ended.
    fn outcomes(&self, prefix: &str) -> Vec<Outcome> {
        let events = self.0.lock().unwrap();
        let named = |id| {
            events
                .iter()
                .any(|e| matches!(e, Event::Started { id: i, name, .. } if *i == id && name.starts_with(prefix)))
        };
        let ended = |e: &Event| match e {
            Event::Finished { id, outcome, .. } if named(*id) => Some(outcome.clone()),
            _ => None,
        };
        events.iter().filter_map(ended).collect()
    }
}

struct Quiet;

impl Progress for Quiet {
    fn emit(&self, _: Event) {}
}

fn impatient() -> Settings {
    let retry = RetryPolicy { tries: 5, first: Duration::ZERO, longest: Duration::ZERO };
    Settings { retry, ..Settings::default() }
}

fn client(settings: Settings, keychain: Keychain) -> RegistryClient {
    RegistryClient::new(Arc::new(Http::new(settings)), keychain, Default::default())
}

/// An empty store, in memory where the machine has such a place: what is written is synced, a thousand times here.
fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn linux() -> Platform {
    Platform::host()
}

/// Message and causes.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// Pulls `from` whole and pushes it to `to`.
fn copy(client: &RegistryClient, store: &Store, from: &str, to: &str) -> Result<String, RegistryError> {
    let (from, to): (Reference, Reference) = (from.parse().unwrap(), to.parse().unwrap());
    let (resolved, config) = client.pull_image(store, &from, &linux(), &Quiet)?;
    assert_eq!(config.rootfs.diff_ids.len(), resolved.manifest.layers().len());
    client.ensure_blobs(store, &resolved.origin, resolved.manifest.layers(), &Quiet)?;
    client.push_image(store, &resolved.descriptor, &to, &Quiet).map(|pushed| pushed.digest().to_string())
}

#[test]
fn what_is_pulled_and_pushed_is_what_skopeo_reads() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let other = Registry::start();
    let (_dir, store) = store();
    let client = client(impatient(), Keychain::anonymous());
    let digest = copy(&client, &store, &base, &format!("{}/team/app:1", other.host())).unwrap();

    let manifest = other.manifest("team/app:1");
    assert_eq!(manifest, registry.manifest("library/busybox:latest"));
    assert_eq!(dockless::oci::Digest::sha256(&manifest).to_string(), digest);
    let out = tempfile::tempdir().unwrap();
    other.get("team/app:1", out.path());
}

/// What is sent is verified by the registry; when that refuses it, the store is looked at, and loses what is damaged.
#[test]
fn a_damaged_layer_is_named_and_dropped_when_the_registry_refuses_it() {
    let (registry, other) = (Registry::start(), Registry::start());
    let base: Reference = registry.put_base("busybox").parse().unwrap();
    let (_dir, store) = store();
    let client = client(impatient(), Keychain::anonymous());
    let (resolved, _) = client.pull_image(&store, &base, &linux(), &Quiet).unwrap();
    client.ensure_blobs(&store, &resolved.origin, resolved.manifest.layers(), &Quiet).unwrap();
    let layer = dockless::oci::manifest::digest_of(&resolved.manifest.layers()[0]).unwrap();
    let path = store.root().join("blobs/sha256").join(layer.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let to: Reference = format!("{}/team/app:1", other.host()).parse().unwrap();
    let error = told(&client.push_image(&store, &resolved.descriptor, &to, &Quiet).unwrap_err());
    assert!(error.contains("digest mismatch") && error.contains(layer.hex()), "{error}");
    assert_eq!(store.has_blob(&layer).unwrap(), None);
    // Fetched anew from where it came from, it goes.
    client.push_image(&store, &resolved.descriptor, &to, &Quiet).unwrap();
    other.get("team/app:1", tempfile::tempdir().unwrap().path());
}

#[test]
fn a_push_across_repositories_mounts_and_an_unchanged_one_sends_nothing() {
    let registry = Registry::start();
    let base: Reference = registry.put_base("busybox").parse().unwrap();
    let (_dir, store) = store();
    let client = client(impatient(), Keychain::anonymous());
    // Manifest and config only: the layer stays where it is.
    let (resolved, _) = client.pull_image(&store, &base, &linux(), &Quiet).unwrap();
    let layer = dockless::oci::manifest::digest_of(&resolved.manifest.layers()[0]).unwrap();
    let to: Reference = format!("{}/team/app:1", registry.host()).parse().unwrap();

    let seen = Recorder::default();
    client.push_image(&store, &resolved.descriptor, &to, &seen).unwrap();
    let mounted = Outcome::Cached("mounted from library/busybox".into());
    assert_eq!(seen.outcomes("push"), [mounted.clone(), mounted]);
    assert_eq!(store.has_blob(&layer).unwrap(), None);

    let seen = Recorder::default();
    client.push_image(&store, &resolved.descriptor, &to, &seen).unwrap();
    assert!(seen.0.lock().unwrap().is_empty());

    // To another registry the layer must travel: it is fetched from where it was found.
    let other = Registry::start();
    let to: Reference = format!("{}/team/app:1", other.host()).parse().unwrap();
    client.push_image(&store, &resolved.descriptor, &to, &Quiet).unwrap();
    assert!(store.has_blob(&layer).unwrap().is_some());
    other.get("team/app:1", tempfile::tempdir().unwrap().path());
}

fn with_login(registry: &Registry, user: &str, password: &str) -> Keychain {
    Keychain::anonymous().with(registry.host(), user, Secret::new(password), "--creds")
}

#[test]
fn a_login_is_used_and_a_refusal_names_its_source() {
    let login = Some(("me".to_string(), "hunter2".to_string()));
    let registry = Registry::start_with(Options { login, ..Options::default() });
    let base = registry.put_base("busybox");
    let to = format!("{}/team/app:1", registry.host());
    let (_dir, store) = store();
    let right = client(impatient(), with_login(&registry, "me", "hunter2"));
    copy(&right, &store, &base, &to).unwrap();

    let wrong = client(impatient(), with_login(&registry, "me", "hunter3"));
    let error = told(&copy(&wrong, &store, &base, &to).unwrap_err());
    assert!(error.contains("user 'me' from --creds") && error.contains("401"), "{error}");
    assert!(!error.contains("hunter"), "{error}");

    let home = tempfile::tempdir().unwrap();
    let environment = Environment::new([("HOME".to_string(), home.path().display().to_string())]);
    let nobody = client(impatient(), Keychain::new(environment));
    let error = told(&copy(&nobody, &store, &base, &to).unwrap_err());
    assert!(error.contains("no credentials found (looked at") && error.contains(".docker/config.json"), "{error}");
}

#[test]
fn a_private_authority_must_be_named() {
    let registry = Registry::start_with(Options { tls: true, ..Options::default() });
    registry.put_base("busybox");
    let host = format!("registry.test:{}", registry.port());
    let (from, to) = (format!("{host}/library/busybox:latest"), format!("{host}/team/app:1"));
    let here = || Settings { hosts: vec![("registry.test".into(), Ipv4Addr::LOCALHOST.into())], ..impatient() };
    let (_dir, store) = store();

    let stranger = client(here(), Keychain::anonymous());
    let error = copy(&stranger, &store, &from, &to).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("--registry-ca")), "{error:?}");
    assert!(told(&error).contains("certificate is not trusted"), "{}", told(&error));

    let tls = TlsSettings { extra: vec![registry.ca().into()], ..TlsSettings::default() };
    copy(&client(Settings { tls, ..here() }, Keychain::anonymous()), &store, &from, &to).unwrap();

    let certs = tempfile::tempdir().unwrap();
    std::fs::create_dir(certs.path().join(&host)).unwrap();
    std::fs::copy(registry.ca(), certs.path().join(&host).join("ca.crt")).unwrap();
    let tls = TlsSettings { host_directories: vec![certs.path().into()], ..TlsSettings::default() };
    copy(&client(Settings { tls, ..here() }, Keychain::anonymous()), &store, &from, &to).unwrap();

    let tls = TlsSettings { insecure: [host.clone()].into(), ..TlsSettings::default() };
    copy(&client(Settings { tls, ..here() }, Keychain::anonymous()), &store, &from, &to).unwrap();

    // On this machine TLS is found out by itself.
    let local = format!("127.0.0.1:{}/library/busybox:latest", registry.port());
    copy(&client(impatient(), Keychain::anonymous()), &store, &local, &to.replace("registry.test", "127.0.0.1"))
        .unwrap();
}

#[test]
fn plain_http_is_for_this_machine_and_for_the_insecure() {
    let registry = Registry::start();
    registry.put_base("busybox");
    let host = format!("registry.test:{}", registry.port());
    let (from, to) = (format!("{host}/library/busybox:latest"), format!("{host}/team/app:1"));
    let here = || Settings { hosts: vec![("registry.test".into(), Ipv4Addr::LOCALHOST.into())], ..impatient() };
    let (_dir, store) = store();
    let error = copy(&client(here(), Keychain::anonymous()), &store, &from, &to).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("--insecure-registry")), "{error:?}");

    let tls = TlsSettings { insecure: [host].into(), ..TlsSettings::default() };
    copy(&client(Settings { tls, ..here() }, Keychain::anonymous()), &store, &from, &to).unwrap();
}

/// What is asked first, several questions at once, finds out that https is spoken here.
#[test]
fn a_registry_on_this_machine_may_speak_https() {
    let registry = Registry::start_with(Options { tls: true, ..Options::default() });
    registry.put_base("busybox");
    let name = |name: &str| format!("127.0.0.1:{}/{name}", registry.port()).parse::<Reference>().unwrap();
    let client = client(impatient(), Keychain::anonymous());
    let copied = client.copy_image(&name("library/busybox:latest"), &name("team/app:1"), None, &Quiet).unwrap();
    assert_eq!(client.digest_at(&name("team/app:1")).unwrap(), Some(digest_of(&copied).unwrap()));
}

#[test]
fn what_is_not_there_is_named() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let client = client(impatient(), Keychain::anonymous());
    let reference: Reference = format!("{}/no/such:1", registry.host()).parse().unwrap();
    let error = client.pull_image(&store, &reference, &linux(), &Quiet).unwrap_err();
    let text = told(&error);
    assert!(matches!(error, RegistryError::NotFound { .. }), "{text}");
    for part in [registry.host(), "no/such:1", "404", "MANIFEST_UNKNOWN"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let gone = registry.host().to_string();
    drop(registry);
    let reference: Reference = format!("{gone}/no/other:1").parse().unwrap();
    let fresh = self::client(impatient(), Keychain::anonymous());
    let error = fresh.pull_image(&store, &reference, &linux(), &Quiet).unwrap_err();
    let text = told(&error);
    assert!(matches!(error, RegistryError::Unreachable { .. }) && text.contains("refused"), "{text}");
}

#[test]
fn mirrors_are_asked_first_and_then_the_registry() {
    let mirror = Registry::start();
    mirror.put_base("busybox");
    let registry = Registry::start();
    registry.put(&crate::support::bases::layout("busybox"), "library/only-here:1");
    let route = Route { mirrors: vec![Mirror::new(mirror.host())], ..Route::new(registry.host()) };
    let settings = dockless::registry::Settings { routes: vec![route], ..Default::default() };
    let client = RegistryClient::new(Arc::new(Http::new(impatient())), Keychain::anonymous(), settings);
    let resolve = |name: &str| {
        let seen = Recorder::default();
        let reference = format!("{}/{name}", registry.host()).parse().unwrap();
        let origin = client.resolve(&reference, &linux(), &seen).unwrap().origin;
        let warned = seen.0.lock().unwrap().iter().any(|e| matches!(e, Event::Warning { .. }));
        (origin.registry().to_string(), warned)
    };
    assert_eq!(resolve("library/busybox:latest"), (mirror.host().to_string(), false));
    assert_eq!(resolve("library/only-here:1"), (registry.host().to_string(), true));
}

#[test]
fn a_proxy_is_used_except_for_this_machine_and_no_proxy() {
    let proxy = Faulty::start_with(Habits { open: true, ..Habits::default() }, |_, _| None);
    let proxies = Proxies { http: Some(proxy.url()), no_proxy: "direct.test,10.0.0.0/8".into(), ..Proxies::default() };
    let registry = Faulty::start_with(Habits { open: true, ..Habits::default() }, |_, _| None);
    let hosts = vec![("direct.test".into(), Ipv4Addr::LOCALHOST.into())];
    let http = Http::new(Settings { proxies, hosts, ..impatient() });
    let port = registry.url().rsplit_once(':').unwrap().1.to_string();
    let get = |url: &str| http.send(&Request::new(Method::GET, url.parse().unwrap())).unwrap();
    for host in ["127.0.0.1", "localhost", "direct.test"] {
        get(&format!("http://{host}:{port}/v2/"));
        assert_eq!(proxy.seen(), [], "{host}");
    }
    get("http://registry.test/v2/");
    assert_eq!(proxy.seen()[0].target, "http://registry.test/v2/");
    assert_eq!(registry.seen().len(), 3);
}
