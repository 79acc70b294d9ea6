//! A registry in this process that misbehaves as told.
//!
//! It keeps blobs, manifests and uploads in memory, wants a bearer token (user `me`, password `hunter2`) and speaks plain
//! HTTP/1.1 on a free port of this machine. Each request has a number, from 0; a script says what goes wrong with which.

use dockless::oci::Digest;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The password, and the beginning of every token: neither may come out anywhere.
pub const SECRET: &str = "hunter2";

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status instead of an answer; 401 with the usual demand. The request's body is read.
    Status(u16),
    /// A status with a registry's error code.
    Code(u16, &'static str),
    /// 503 with this `Retry-After`.
    Later(String),
    /// The connection ends before an answer, the request's body unread.
    Reset,
    /// The request is carried out, and the connection ends before the answer.
    LostAnswer,
    /// The connection ends in the middle of the answer's body.
    ResetInBody,
    /// Half of the body, announced as if it were all.
    Short,
    /// One bit of the body differs.
    Corrupt,
    /// More than there should be.
    Long,
    /// Nothing comes, for as long as the other end waits.
    Hang,
    /// What comes is no HTTP.
    Garbage,
    /// The body comes, byte by byte and ever so slowly.
    Trickle,
    /// A body larger than anything sensible.
    Huge,
    /// A redirect to this URL with the request's path.
    Redirect(String),
    /// A redirect to itself.
    Loop,
}

/// A request, as far as a script needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub authorized: bool,
    pub range: Option<String>,
}

impl Seen {
    /// Method and what kind of thing it asks for.
    pub fn kind(&self) -> String {
        let path = self.target.split('?').next().unwrap();
        let kinds = ["blobs/uploads/", "blobs", "manifests", "referrers", "tags", "token"];
        let what = kinds.into_iter().find(|w| path.contains(w));
        format!("{} {}", self.method, what.unwrap_or("ping"))
    }
}

/// Habits, as hosted registries have them.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// `Location` without scheme and host.
    pub relative: bool,
    /// A PUT with a body is refused with 405.
    pub no_monolithic: bool,
    /// A PATCH is answered with 201.
    pub patch_created: bool,
    /// A mount always becomes an upload (202).
    pub no_mount: bool,
    /// HEAD is refused with 405.
    pub no_head: bool,
    /// A token is good for so many requests.
    pub token_uses: Option<usize>,
    /// Uploads go on at this base URL.
    pub upload_at: Option<String>,
    /// Blobs are read at this base URL.
    pub blobs_at: Option<String>,
    /// No token is asked for: the storage behind a registry.
    pub open: bool,
    /// Ranges are not known: the whole blob comes.
    pub no_ranges: bool,
    /// A password with every request instead of a token (ECR).
    pub basic: bool,
    /// Uploads to this repository are answered with 404: it must be made first (ECR).
    pub unknown_repository: bool,
    /// An upload cannot be given up (GHCR).
    pub no_delete: bool,
    /// There is no list of referrers: a tag holds it.
    pub no_referrers: bool,
    /// So many tags on a page.
    pub page: Option<usize>,
    /// The answer to a PATCH always says that nothing came (ECR).
    pub stuck_range: bool,
}

type Script = Box<dyn Fn(usize, &Seen) -> Option<Fault> + Send + Sync>;

struct State {
    blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    manifests: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    uploads: Mutex<HashMap<String, Vec<u8>>>,
    tokens: Mutex<HashMap<String, usize>>,
    seen: Mutex<Vec<Seen>>,
    habits: Habits,
    script: Script,
    base: String,
}

/// The registry; ends when dropped.
pub struct Faulty {
    state: Arc<State>,
    address: std::net::SocketAddr,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Faulty {
    /// Behaves well.
    pub fn start() -> Self {
        Faulty::start_with(Habits::default(), |_, _| None)
    }

    /// Has `habits` and fails as `script` says, given the request's number.
    pub fn start_with(habits: Habits, script: impl Fn(usize, &Seen) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            blobs: Mutex::default(),
            manifests: Mutex::default(),
            uploads: Mutex::default(),
            tokens: Mutex::default(),
            seen: Mutex::default(),
            habits,
            script: Box::new(script),
            base: format!("http://{address}"),
        });
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (shared, stopped) = (state.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || serve(&state, stream));
            }
        });
        Faulty { state, address, stop }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        self.state.base.clone()
    }

    /// Puts a blob in.
    pub fn put_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.state.blobs.lock().unwrap().insert(digest.to_string(), bytes.to_vec());
        digest
    }

    /// Puts a manifest in, under its digest and as `tag` if there is one.
    pub fn put_manifest(&self, media_type: &str, bytes: &[u8], tag: Option<&str>) -> Digest {
        let digest = Digest::sha256(bytes);
        let mut manifests = self.state.manifests.lock().unwrap();
        for name in [Some(digest.to_string().as_str()), tag].into_iter().flatten() {
            manifests.insert(name.to_string(), (media_type.to_string(), bytes.to_vec()));
        }
        digest
    }

    /// Loses all blobs.
    pub fn forget_blobs(&self) {
        self.state.blobs.lock().unwrap().clear();
    }

    /// Loses everything.
    pub fn forget_all(&self) {
        self.forget_blobs();
        self.state.manifests.lock().unwrap().clear();
    }

    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.state.blobs.lock().unwrap().get(&digest.to_string()).cloned()
    }

    pub fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        self.state.manifests.lock().unwrap().get(name).map(|(_, bytes)| bytes.clone())
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn answer(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new() }
}

impl Answer {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"as scripted"}}]}}"#).into_bytes();
        Answer { body, ..answer(status) }
    }
}

fn serve(state: &State, stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    // Head and body go out in two writes: without this each answer waits for the other end's delayed acknowledgement.
    stream.set_nodelay(true).unwrap();
    while let Some((seen, headers)) = head(&mut reader) {
        let number = {
            let mut all = state.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let fault = (state.script)(number, &seen);
        match &fault {
            Some(Fault::Reset) => return end(&stream),
            Some(Fault::Hang) => {
                // Until the other end has had enough.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                return;
            }
            _ => {}
        }
        let Some(body) = body(&mut reader, &headers) else { return };
        let reply = match &fault {
            Some(Fault::Status(401)) => challenge(state, &seen),
            Some(Fault::Status(status)) => answer(*status),
            Some(Fault::Later(when)) => answer(503).with("Retry-After", when.clone()),
            Some(Fault::Code(status, code)) => Answer::error(*status, code),
            Some(Fault::Redirect(base)) => answer(307).with("Location", format!("{base}{}", seen.target)),
            Some(Fault::Loop) => answer(307).with("Location", seen.target.clone()),
            _ => handle(state, &seen, &headers, body),
        };
        if !send(&mut stream, &seen, reply, fault.as_ref()) {
            return end(&stream);
        }
    }
}

/// Ends both directions at once, so that the client sees it at once too.
fn end(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// Sends an answer; false if the connection is over.
fn send(stream: &mut TcpStream, seen: &Seen, mut reply: Answer, fault: Option<&Fault>) -> bool {
    let whole = reply.body.len();
    match fault {
        Some(Fault::LostAnswer) => return false,
        Some(Fault::Garbage) => {
            let _ = stream.write_all(b"\x00\x01\x02 this is no HTTP\r\n\r\n");
            return false;
        }
        Some(Fault::Short) => reply.body.truncate(whole / 2),
        Some(Fault::Corrupt) if whole > 0 => reply.body[whole / 2] ^= 1,
        Some(Fault::Huge) => reply.body = vec![b' '; 5 << 20],
        Some(Fault::Long) => reply.body.extend_from_slice(b"and more"),
        _ => {}
    }
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    if stream.write_all(head.as_bytes()).is_err() || seen.method == "HEAD" {
        return seen.method == "HEAD";
    }
    if fault == Some(&Fault::ResetInBody) {
        let _ = stream.write_all(&reply.body[..whole / 2]);
        return false;
    }
    if fault == Some(&Fault::Trickle) {
        let slowly = |byte: &u8| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            stream.write_all(&[*byte]).is_ok()
        };
        return reply.body.iter().all(slowly);
    }
    stream.write_all(&reply.body).is_ok()
}

type Headers = HashMap<String, String>;

fn head(reader: &mut impl BufRead) -> Option<(Seen, Headers)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace().map(String::from);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Headers::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => _ = headers.insert(name.to_ascii_lowercase(), value.trim().to_string()),
            None => break,
        }
    }
    let (authorized, range) = (headers.contains_key("authorization"), headers.get("range").cloned());
    Some((Seen { method, target, authorized, range }, headers))
}

fn body(reader: &mut impl BufRead, headers: &Headers) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if headers.get("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk).ok()?;
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
    Some(body)
}

fn challenge(state: &State, seen: &Seen) -> Answer {
    let repository =
        seen.target.strip_prefix("/v2/").and_then(|t| t.split_once("/manifests/").or(t.split_once("/blobs/")));
    let scope = repository.map(|(name, _)| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
    if state.habits.basic {
        let mut refusal = Answer::error(401, "UNAUTHORIZED");
        refusal.headers.push(("WWW-Authenticate", "Basic realm=\"https://faulty/\",service=\"ecr\"".to_string()));
        return refusal;
    }
    let demand = format!("Bearer realm=\"{}/token\",service=\"faulty\"{scope}", state.base);
    let mut refusal = Answer::error(401, "UNAUTHORIZED");
    refusal.headers.push(("WWW-Authenticate", demand));
    refusal
}

fn allowed(state: &State, headers: &Headers) -> bool {
    if state.habits.basic {
        return headers.get("authorization").is_some_and(|value| value == "Basic bWU6aHVudGVyMg==");
    }
    let token = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let mut tokens = state.tokens.lock().unwrap();
    match token.and_then(|token| tokens.get_mut(token)) {
        Some(0) | None => false,
        Some(left) => {
            *left -= 1;
            true
        }
    }
}

fn handle(state: &State, seen: &Seen, headers: &Headers, body: Vec<u8>) -> Answer {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    if path == "/token" {
        // base64 of me:hunter2
        if headers.get("authorization").map(String::as_str) != Some("Basic bWU6aHVudGVyMg==") {
            return Answer::error(401, "UNAUTHORIZED");
        }
        let mut tokens = state.tokens.lock().unwrap();
        let token = format!("{SECRET}-{}", tokens.len());
        tokens.insert(token.clone(), state.habits.token_uses.unwrap_or(usize::MAX));
        return Answer { body: format!(r#"{{"token":"{token}","expires_in":300}}"#).into_bytes(), ..answer(200) };
    }
    if !state.habits.open && !allowed(state, headers) {
        return challenge(state, seen);
    }
    if state.habits.unknown_repository && path.contains("/blobs/uploads/") && seen.method == "POST" {
        return Answer::error(404, "NAME_UNKNOWN");
    }
    if seen.method == "HEAD" && state.habits.no_head {
        return answer(405);
    }
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    if rest.is_empty() {
        return answer(200);
    }
    if rest.contains("/tags/list") {
        return tags(state, seen, query);
    }
    if let Some((_, digest)) = rest.split_once("/referrers/") {
        return referrers(state, digest);
    }
    if let Some((_, name)) = rest.split_once("/manifests/") {
        return manifest(state, seen, headers, name, body);
    }
    match rest.split_once("/blobs/") {
        Some((repository, upload)) if upload.starts_with("uploads/") => {
            self::upload(state, seen, (repository, &upload["uploads/".len()..], query), body)
        }
        Some((_, digest)) => blob(state, seen, digest),
        None => Answer::error(404, "NOT_FOUND"),
    }
}

/// The tags, in pages.
fn tags(state: &State, seen: &Seen, query: &str) -> Answer {
    let manifests = state.manifests.lock().unwrap();
    let after = query.split('&').find_map(|pair| pair.strip_prefix("last=")).unwrap_or_default();
    let all = manifests.keys().filter(|name| !name.starts_with("sha256:") && name.as_str() > after);
    let page: Vec<&String> = all.take(state.habits.page.unwrap_or(usize::MAX)).collect();
    let path = seen.target.split('?').next().unwrap();
    let next = page.last().filter(|_| state.habits.page == Some(page.len()));
    let link = next.map(|last| format!("<{path}?last={last}&n={}>; rel=\"next\"", page.len()));
    let names = page.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
    let answer = Answer { body: format!(r#"{{"name":"x","tags":[{names}]}}"#).into_bytes(), ..answer(200) };
    match link {
        Some(link) => answer.with("Link", link),
        None => answer,
    }
}

/// What names `digest` as its subject.
fn referrers(state: &State, digest: &str) -> Answer {
    if state.habits.no_referrers {
        return Answer::error(404, "NOT_FOUND");
    }
    let manifests = state.manifests.lock().unwrap();
    let refers = |bytes: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        (value["subject"]["digest"] == digest).then(|| value["artifactType"].as_str().unwrap_or_default().to_string())
    };
    let entries: Vec<String> = manifests
        .iter()
        .filter(|(name, _)| name.starts_with("sha256:"))
        .filter_map(|(name, (kind, bytes))| {
            let artifact = refers(bytes)?;
            let size = bytes.len();
            Some(format!(r#"{{"mediaType":"{kind}","digest":"{name}","size":{size},"artifactType":"{artifact}"}}"#))
        })
        .collect();
    let body = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).into_bytes();
    Answer { body, ..answer(200) }.with("Content-Type", dockless::oci::manifest::OCI_INDEX)
}

fn manifest(state: &State, seen: &Seen, headers: &Headers, name: &str, body: Vec<u8>) -> Answer {
    let mut manifests = state.manifests.lock().unwrap();
    if seen.method == "PUT" {
        let text = String::from_utf8_lossy(&body).into_owned();
        let blobs = state.blobs.lock().unwrap();
        let mut named = text.split('"').filter(|word| word.starts_with("sha256:"));
        if !named.all(|digest| blobs.contains_key(digest) || manifests.contains_key(digest)) {
            return Answer::error(400, "MANIFEST_BLOB_UNKNOWN");
        }
        let kind = headers.get("content-type").cloned().unwrap_or_default();
        manifests.insert(Digest::sha256(&body).to_string(), (kind.clone(), body.clone()));
        manifests.insert(name.to_string(), (kind, body));
        let subject = text.contains("\"subject\"") && !state.habits.no_referrers;
        return if subject { answer(201).with("OCI-Subject", "yes") } else { answer(201) };
    }
    if seen.method == "DELETE" {
        let Some((_, gone)) = manifests.remove(name) else { return Answer::error(404, "MANIFEST_UNKNOWN") };
        manifests.retain(|_, (_, bytes)| *bytes != gone);
        return answer(202);
    }
    match manifests.get(name) {
        None => Answer::error(404, "MANIFEST_UNKNOWN"),
        Some((kind, bytes)) => Answer { body: bytes.clone(), ..answer(200) }
            .with("Content-Type", kind.clone())
            .with("Docker-Content-Digest", Digest::sha256(bytes).to_string()),
    }
}

fn blob(state: &State, seen: &Seen, digest: &str) -> Answer {
    let blobs = state.blobs.lock().unwrap();
    if let Some(base) = state.habits.blobs_at.as_ref().filter(|_| seen.method == "GET") {
        return answer(307).with("Location", format!("{base}{}?signature={SECRET}", seen.target));
    }
    let Some(bytes) = blobs.get(digest) else { return Answer::error(404, "BLOB_UNKNOWN") };
    let from = seen.range.as_ref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from.filter(|_| !state.habits.no_ranges) {
        Some(from) if from >= bytes.len() => answer(416),
        Some(from) => Answer { body: bytes[from..].to_vec(), ..answer(206) }
            .with("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
        None => Answer { body: bytes.clone(), ..answer(200) },
    }
}

fn upload(state: &State, seen: &Seen, (repository, id, query): (&str, &str, &str), body: Vec<u8>) -> Answer {
    let habits = &state.habits;
    let mut uploads = state.uploads.lock().unwrap();
    let place = |id: &str| {
        let path = format!("/v2/{repository}/blobs/uploads/{id}?_state={SECRET}%3D");
        match &habits.upload_at {
            _ if habits.relative => path,
            Some(base) => format!("{base}{path}"),
            None => format!("{}{path}", state.base),
        }
    };
    match seen.method.as_str() {
        "POST" => {
            let mounted = query.split('&').find_map(|pair| pair.strip_prefix("mount=")).map(|d| d.replace("%3A", ":"));
            if mounted.is_some_and(|d| !habits.no_mount && state.blobs.lock().unwrap().contains_key(&d)) {
                return answer(201);
            }
            let id = format!("u{}", uploads.len());
            uploads.insert(id.clone(), Vec::new());
            answer(202).with("Location", place(&id))
        }
        "DELETE" if habits.no_delete => Answer::error(405, "UNSUPPORTED"),
        "DELETE" => match uploads.remove(id) {
            Some(_) => answer(204),
            None => Answer::error(404, "BLOB_UPLOAD_UNKNOWN"),
        },
        // The storage behind a registry takes what comes.
        "PATCH" | "PUT" if !habits.open && !uploads.contains_key(id) => Answer::error(404, "BLOB_UPLOAD_UNKNOWN"),
        "PATCH" => {
            uploads.entry(id.to_string()).or_default().extend(body);
            let answer = answer(if habits.patch_created { 201 } else { 202 }).with("Location", place(id));
            if habits.stuck_range { answer.with("Range", "0-0") } else { answer }
        }
        "PUT" if habits.no_monolithic && !body.is_empty() => Answer::error(405, "UNSUPPORTED"),
        "PUT" => {
            let mut bytes = uploads.remove(id).unwrap_or_default();
            bytes.extend(body);
            let digest = Digest::sha256(&bytes).to_string();
            if !query.ends_with(&format!("&digest={digest}")) {
                return Answer::error(400, "DIGEST_INVALID");
            }
            state.blobs.lock().unwrap().insert(digest, bytes);
            answer(201)
        }
        _ => answer(405),
    }
}
