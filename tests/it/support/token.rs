//! A token server as GitLab has one: it knows users and what each may do in which project, and gives tokens that live for
//! seconds. Spec: distribution, docs/spec/auth/{token,jwt,oauth}.md.

use super::server::{Received, listen, receive};
use super::standin::{Call, Reply};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dockless::http::Url;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub const SERVICE: &str = "dockless-test";
pub const ISSUER: &str = "dockless-test-issuer";
/// A refresh token that stands for the user `ci`.
pub const REFRESH: &str = "hunter2-refresh";

/// What a user may do: repositories, and actions in each.
pub type Rights = Vec<(&'static str, Vec<&'static str>)>;

/// The server; it ends with the process.
pub struct TokenServer {
    /// Where tokens are asked for.
    pub realm: String,
    /// The certificate that the registry checks signatures with.
    pub certificate: PathBuf,
    given: Arc<AtomicUsize>,
    scopes: Arc<Mutex<Vec<String>>>,
}

struct State {
    key: RsaKeyPair,
    certificate: String,
    lifetime: u64,
    rights: Rights,
}

impl TokenServer {
    /// For user `ci` with password `hunter2`, who has `rights`. With `tls` (certificate and key) it speaks https, as
    /// `registry.test`.
    pub fn start(dir: &Path, lifetime: u64, rights: Rights, tls: Option<(&Path, &Path)>) -> TokenServer {
        let (certificate, key) = (dir.join("token.crt"), dir.join("token.key"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=token", "-keyout"]);
        let made = openssl.arg(&key).arg("-out").arg(&certificate).output().expect("openssl");
        assert!(made.status.success(), "{made:?}");
        let der = PrivateKeyDer::from_pem_file(&key).expect("a key");
        let PrivateKeyDer::Pkcs8(der) = &der else { panic!("openssl writes PKCS #8") };
        let state = State {
            key: RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key"),
            certificate: STANDARD.encode(CertificateDer::from_pem_file(&certificate).expect("a certificate")),
            lifetime,
            rights,
        };
        let config = tls.map(|(certificate, key)| Arc::new(server_config(certificate, key)));
        let (given, scopes) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (count, log) = (given.clone(), scopes.clone());
        let port = listen(move |stream| {
            _ = match config.clone() {
                Some(config) => {
                    let connection = rustls::ServerConnection::new(config).expect("a configuration");
                    serve(rustls::StreamOwned::new(connection, stream), &state, &count, &log)
                }
                None => serve(stream, &state, &count, &log),
            }
        })
        .port();
        let realm = match tls {
            Some(_) => format!("https://registry.test:{port}/jwt/auth"),
            None => format!("http://127.0.0.1:{port}/jwt/auth"),
        };
        TokenServer { realm, certificate, given, scopes }
    }

    /// Tokens given so far.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }

    /// The scopes that were asked for.
    pub fn scopes(&self) -> Vec<String> {
        self.scopes.lock().expect("no panic").clone()
    }
}

fn server_config(certificate: &Path, key: &Path) -> rustls::ServerConfig {
    let chain =
        CertificateDer::pem_file_iter(certificate).expect("a file").map(|c| c.expect("a certificate")).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).expect("a key")).expect("they fit")
}

fn serve(stream: impl Read + Write, state: &State, given: &AtomicUsize, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let Received { method, target, headers, body } = receive(&mut reader)?;
        let call = Call { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() };
        let (status, _, body) = answer(state, &call, log);
        if status == 200 {
            given.fetch_add(1, Ordering::SeqCst);
        }
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
        reader.get_mut().write_all(format!("{head}{body}").as_bytes()).ok()?;
        reader.get_mut().flush().ok()?;
    }
}

fn answer(state: &State, call: &Call, log: &Mutex<Vec<String>>) -> Reply {
    let refresh = call.method == "POST" && call.form().get("refresh_token").is_some_and(|token| token == REFRESH);
    let password = format!("Basic {}", STANDARD.encode("ci:hunter2"));
    let known = refresh || call.header("authorization") == password;
    let denied = r#"{"errors":[{"code":"UNAUTHORIZED","message":"HTTP Basic: Access denied"}]}"#;
    if !known && !call.header("authorization").is_empty() {
        return (401, vec![], denied.into());
    }
    let text = if call.body.is_empty() { call.target.split_once('?').map_or("", |(_, q)| q) } else { &call.body };
    let url = Url::parse(&format!("http://x/?{text}")).expect("a form");
    let asked: Vec<String> = url
        .query_pairs()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, scopes)| scopes.split(' ').map(String::from).collect::<Vec<_>>())
        .collect();
    log.lock().expect("no panic").extend(asked.iter().cloned());
    let rights = if known { &state.rights[..] } else { &[] };
    let access: Vec<Value> = asked.iter().filter_map(|scope| grant(rights, scope)).collect();
    let token = token(state, &access);
    (200, vec![], json!({ "token": token, "access_token": token, "expires_in": state.lifetime }).to_string())
}

/// The part of `repository:NAME:ACTIONS` that is allowed.
fn grant(rights: &[(&'static str, Vec<&'static str>)], scope: &str) -> Option<Value> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let (_, allowed) = rights.iter().find(|(repository, _)| *repository == name)?;
    let actions: Vec<&str> = actions.split(',').filter(|action| allowed.contains(action)).collect();
    Some(json!({ "type": "repository", "name": name, "actions": actions }))
}

fn token(state: &State, access: &[Value]) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [state.certificate] });
    let claims = json!({
        "iss": ISSUER, "sub": "ci", "aud": SERVICE, "exp": now + state.lifetime, "nbf": now.saturating_sub(1), "iat": now,
        "jti": format!("{now}"), "access": access,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&head), part(&claims));
    let mut signature = vec![0; state.key.public().modulus_len()];
    state.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("it signs");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
