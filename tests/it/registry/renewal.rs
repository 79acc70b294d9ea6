//! What a cloud or a helper gave ends in the middle of a push: it is asked again, and the push goes on.

use super::{Quiet, impatient, store, told};
use crate::support::standin::{Call, Reply, StandIn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dockless::http::{Http, Settings, TlsSettings};
use dockless::oci::manifest::{OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use dockless::oci::{Descriptor, Reference, manifest};
use dockless::registry::{Environment, Keychain, RegistryClient, RegistryError};
use dockless::store::Store;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Requests that one credential is good for; a push here takes about twenty.
const USES: usize = 8;

/// A registry, its token server and the cloud behind them. What the cloud gives carries a number, and only the newest opens.
struct Cloud {
    kind: Kind,
    /// Requests let in.
    let_in: AtomicUsize,
    /// The credential's number is told in this file, for the helper.
    file: PathBuf,
    /// The newest is refused, too.
    never: bool,
    /// One request at a time: what ends is told before anything is refused for it.
    turn: Mutex<()>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A password with each request.
    Ecr,
    /// A password for the token server.
    Gar,
    /// A refresh token for the token server.
    Acr,
    /// A helper's password with each request.
    Helper,
}

impl Cloud {
    fn number(&self) -> usize {
        self.let_in.load(Ordering::SeqCst) / USES
    }

    fn answer(&self, call: &Call) -> Reply {
        let _turn = self.turn.lock().unwrap();
        let now = self.number();
        let form = call.form();
        let shown = |user: &str| format!("Basic {}", STANDARD.encode(format!("{user}:hunter2-{now}")));
        let given = |text: String| (200, Vec::new(), text);
        match call.target.split('?').next().unwrap() {
            "/" => {
                let token = STANDARD.encode(format!("AWS:hunter2-{now}"));
                given(format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}"}}]}}"#))
            }
            path if path.starts_with("/computeMetadata/") => {
                given(format!(r#"{{"access_token":"hunter2-{now}","expires_in":3599}}"#))
            }
            "/tenant/oauth2/v2.0/token" => given(r#"{"access_token":"hunter2-entra","expires_in":3599}"#.into()),
            "/oauth2/exchange" => given(format!(r#"{{"refresh_token":"hunter2-{now}"}}"#)),
            "/token" => {
                let right = match self.kind {
                    Kind::Acr => form.get("refresh_token") == Some(&format!("hunter2-{now}")),
                    _ => call.header("authorization") == shown("oauth2accesstoken"),
                };
                match right && !self.never {
                    true => given(format!(r#"{{"token":"token-{now}","expires_in":3600}}"#)),
                    // Azure's token server says 400 to a refresh token that has ended.
                    false => (if self.kind == Kind::Acr { 400 } else { 401 }, Vec::new(), "{}".into()),
                }
            }
            "/v2/" => self.refusal(call),
            path => {
                let wanted = match self.kind {
                    Kind::Ecr => shown("AWS"),
                    Kind::Helper => shown("me"),
                    Kind::Gar | Kind::Acr => format!("Bearer token-{now}"),
                };
                if self.never || call.header("authorization") != wanted {
                    return self.refusal(call);
                }
                self.let_in.fetch_add(1, Ordering::SeqCst);
                self.tell();
                registry(call, path)
            }
        }
    }

    fn refusal(&self, call: &Call) -> Reply {
        let demand = match self.kind {
            Kind::Ecr | Kind::Helper => "Basic realm=\"here\"".to_string(),
            Kind::Gar | Kind::Acr => format!("Bearer realm=\"http://{}/token\",service=\"here\"", call.header("host")),
        };
        (401, vec![format!("WWW-Authenticate: {demand}")], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.into())
    }

    fn tell(&self) {
        let answer = format!(r#"{{"Username":"me","Secret":"hunter2-{}"}}"#, self.number());
        // The helper may be reading it.
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, answer).unwrap();
        std::fs::rename(fresh, &self.file).unwrap();
    }
}

/// An empty registry that takes everything.
fn registry(call: &Call, path: &str) -> Reply {
    let place = vec!["Location: /v2/team/app/blobs/uploads/1".to_string()];
    match (call.method.as_str(), path) {
        ("HEAD", _) => (404, Vec::new(), String::new()),
        ("POST", _) => (202, place, String::new()),
        _ => (201, Vec::new(), String::new()),
    }
}

/// An image of five small layers.
fn image(store: &Store) -> Descriptor {
    let put =
        |bytes: &[u8], kind: &str| manifest::descriptor(kind, &store.put_blob(bytes).unwrap(), bytes.len() as u64);
    let layers: Vec<_> = (0..5u8).map(|byte| put(&[byte; 100], OCI_LAYER_GZIP)).collect();
    let config = put(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#, OCI_CONFIG);
    let document =
        serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers });
    put(document.to_string().as_bytes(), OCI_MANIFEST)
}

/// Pushes to a registry of this kind. How that went, what was asked of the cloud how often, and how often credentials ended.
fn push(kind: Kind, never: bool) -> (Result<Descriptor, RegistryError>, usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let (let_in, turn) = (AtomicUsize::new(0), Mutex::default());
    let cloud = Arc::new(Cloud { kind, let_in, file: dir.path().join("answer"), never, turn });
    cloud.tell();
    let server = StandIn::start({
        let cloud = cloud.clone();
        move |call| cloud.answer(call)
    });
    let base = format!("http://{}", server.address());
    let program = dir.path().join("docker-credential-test");
    let log = dir.path().join("log");
    let script = format!("#!/bin/sh\necho x >> {}\ncat > /dev/null; cat {}\n", log.display(), cloud.file.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let (host, asks, variables): (&str, &str, Vec<(&str, &str)>) = match kind {
        Kind::Ecr => (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "/",
            vec![("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_ENDPOINT_URL", &base)],
        ),
        Kind::Gar => ("europe-docker.pkg.dev", "/computeMetadata/", vec![("GCE_METADATA_HOST", server.address())]),
        Kind::Acr => (
            "team.azurecr.io",
            "/oauth2/exchange",
            vec![
                ("AZURE_CLIENT_ID", "client"),
                ("AZURE_TENANT_ID", "tenant"),
                ("AZURE_CLIENT_SECRET", "hunter2"),
                ("AZURE_AUTHORITY_HOST", &base),
            ],
        ),
        Kind::Helper => ("r.test", "", vec![("PATH", &path), ("DOCKER_AUTH_CONFIG", r#"{"credsStore":"test"}"#)]),
    };
    let environment = Environment::new(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    let tls = TlsSettings { insecure: [host.to_string()].into(), ..TlsSettings::default() };
    let hosts = vec![(host.to_string(), Ipv4Addr::LOCALHOST.into())];
    let http = Http::new(Settings { tls, hosts, ..impatient() });
    // No more at once: what was renewed is not to end again before it is used.
    let two = dockless::registry::Settings { parallel: 2, ..Default::default() };
    let client = RegistryClient::new(Arc::new(http), Keychain::new(environment), two);
    let (_dir, store) = store();
    let to: Reference = format!("{host}:{}/team/app:1", server.port()).parse().unwrap();
    let pushed = client.push_image(&store, &image(&store), &to, &Quiet);
    let asked = match kind {
        Kind::Helper => std::fs::read_to_string(log).unwrap().lines().count(),
        Kind::Ecr => server.calls().iter().filter(|call| call.target == asks).count(),
        _ => server.calls().iter().filter(|call| call.target.starts_with(asks)).count(),
    };
    (pushed, asked, cloud.number())
}

#[test]
fn a_credential_that_ends_in_the_middle_of_a_push_is_renewed() {
    for kind in [Kind::Ecr, Kind::Gar, Kind::Acr, Kind::Helper] {
        let (pushed, asked, ended) = push(kind, false);
        pushed.unwrap_or_else(|error| panic!("{kind:?}: {}", told(&error)));
        assert!(ended >= 2, "{kind:?}: a push of so few requests ({ended}) shows nothing");
        // Each time once, however many transfers were refused; the first was not refused. The last may end with the push.
        assert!((ended..=ended + 1).contains(&asked), "{kind:?}: asked {asked} times, {ended} ended");
    }
}

/// A credential that is refused from the start is asked for once more, and no more.
#[test]
fn a_credential_that_never_was_good_is_no_loop() {
    for kind in [Kind::Ecr, Kind::Gar, Kind::Acr, Kind::Helper] {
        let (pushed, asked, _) = push(kind, true);
        let error = told(&pushed.unwrap_err());
        assert!(error.contains("denied") && !error.contains("hunter2"), "{kind:?}: {error}");
        // HEAD, which may hide the reason, and the GET after it.
        assert!(asked <= 3, "{kind:?}: asked {asked} times");
    }
}
