//! The client: settings, requests, redirects.

use super::address::may_go;
use super::body::{Buffers, Feed, QUEUE};
use super::retry::asked;
use super::tls::{TlsSettings, no_tls};
use super::{Address, Body, BodyReader, HttpError, RetryPolicy};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Redirects followed for one request.
const REDIRECTS: usize = 10;
/// Bytes of a failing answer's body that are kept.
const ERROR_BODY: usize = 16 * 1024;

/// Where to go through a proxy; URLs as in `HTTP_PROXY` and its kin. This machine is always reached directly.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For http URLs.
    pub http: Option<String>,
    /// For https URLs.
    pub https: Option<String>,
    /// For what the other two leave.
    pub all: Option<String>,
    /// Hosts, domains and networks that are reached directly, comma-separated (`NO_PROXY`).
    pub no_proxy: String,
}

/// Bounds on waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Silence while a body moves, and the wait for the answer to a request without one.
    pub idle: Duration,
    /// The wait for an answer after a body was sent: a registry moves and hashes a blob before it answers.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Timeouts { connect: seconds(20), idle: seconds(60), commit: seconds(600) }
    }
}

/// Everything the client can be told. One value serves pull, push, cache, ADD and remote contexts.
#[derive(Clone, Default)]
pub struct Settings {
    /// Trust.
    pub tls: TlsSettings,
    /// Proxies.
    pub proxies: Proxies,
    /// Addresses of names, before any resolver is asked (`--add-host`).
    pub hosts: Vec<(String, IpAddr)>,
    /// Bounds on waiting.
    pub timeouts: Timeouts,
    /// How often and how long.
    pub retry: RetryPolicy,
}

/// One request.
#[derive(Clone)]
pub struct Request<'a> {
    /// Method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers; `Content-Length` comes from the body.
    pub headers: HeaderMap,
    /// `Authorization`, sent to the origin of `url` and no other.
    pub authorization: Option<HeaderValue>,
    /// What it carries.
    pub body: Body<'a>,
}

impl Request<'_> {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Request { method, url, headers: HeaderMap::new(), authorization: None, body: Body::Empty }
    }
}

/// The runtime; kept alive by the bodies that are still being read.
pub(super) struct Network(Option<Runtime>);

impl Network {
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("taken only on drop")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A resolver that hangs must not hold up the end of the process.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A way of doing TLS; each has a client, made at its first use.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Profile {
    tls: bool,
    insecure: bool,
    host_directory: Option<PathBuf>,
}

/// The HTTP client. Share it by reference or `Arc`.
pub struct Http {
    settings: Settings,
    network: Mutex<Option<Arc<Network>>>,
    clients: Mutex<HashMap<Profile, Client>>,
}

impl Http {
    /// A client; nothing is read and no thread is started before the first request.
    pub fn new(settings: Settings) -> Self {
        Http { settings, network: Mutex::new(None), clients: Mutex::default() }
    }

    /// What it was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends `request`, follows redirects, and gives the answer whatever its status.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        self.follow(request, self.send_once(request)?)
    }

    /// Sends `request`, whose body is not a stream, without waiting for the answer: several go out from one thread.
    pub fn begin(&self, request: &Request<'static>) -> Result<Pending, HttpError> {
        let (network, exchange) = (self.network()?, self.exchange(request)?);
        let answer = network.runtime().spawn(exchange);
        Ok(Pending { network, answer })
    }

    /// Waits for the answer to what was begun with `request`, and gives it as [`Http::send`] does.
    pub fn end(&self, request: &Request<'_>, mut pending: Pending) -> Result<Response, HttpError> {
        let (method, address) = (&request.method, Address::of(&request.url));
        let answer = pending.network.clone().block_on(&mut pending.answer);
        let answer = answer.map_err(|join| HttpError::broken(method, address, join))??;
        self.follow(request, self.response(request, answer)?)
    }

    fn follow(&self, request: &Request<'_>, mut response: Response) -> Result<Response, HttpError> {
        let mut request = request.clone();
        for _ in 0..REDIRECTS {
            let Some(next) = redirect(&request, &response)? else { return Ok(response) };
            request = next;
            response = self.send_once(&request)?;
        }
        if redirect(&request, &response)?.is_none() {
            return Ok(response);
        }
        let (address, target) = (Address::of(&request.url), "…".to_string());
        Err(HttpError::Redirect { address, target, reason: "too many redirects" })
    }

    /// As [`Http::send`], but an answer that is neither 2xx nor in `accept` is an error.
    pub fn send_ok(&self, request: &Request<'_>, accept: &[StatusCode]) -> Result<Response, HttpError> {
        let response = self.send(request)?;
        let status = response.status();
        if status.is_success() || accept.contains(&status) { Ok(response) } else { Err(response.into_error()) }
    }

    fn send_once(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        let network = self.network()?;
        let answer = match &request.body {
            Body::Stream { length, open } => {
                let (method, address) = (&request.method, &Address::of(&request.url));
                let upload = Upload { network: &network, timeouts: &self.settings.timeouts, method, address };
                upload.run(self.builder(request)?, *length, open)?
            }
            _ => network.block_on(self.exchange(request)?)?,
        };
        self.response(request, answer)
    }

    fn response(&self, request: &Request<'_>, answer: reqwest::Response) -> Result<Response, HttpError> {
        let (method, idle) = (request.method.clone(), self.settings.timeouts.idle);
        Ok(Response { network: self.network()?, answer, method, idle })
    }

    fn builder(&self, request: &Request<'_>) -> Result<reqwest::RequestBuilder, HttpError> {
        let client = self.client(&request.url)?;
        let builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        Ok(match &request.authorization {
            Some(authorization) => builder.header(AUTHORIZATION, authorization.clone()),
            None => builder,
        })
    }

    /// A request whose body is not a stream, and its answer.
    fn exchange(
        &self,
        request: &Request<'_>,
    ) -> Result<impl Future<Output = Result<reqwest::Response, HttpError>> + use<>, HttpError> {
        let (builder, timeouts) = (self.builder(request)?, &self.settings.timeouts);
        let (method, address) = (request.method.clone(), Address::of(&request.url));
        let (builder, limit) = match &request.body {
            Body::Bytes(bytes) => (builder.body(bytes.clone()), timeouts.commit),
            // Some proxies answer 411 to a POST without Content-Length.
            _ if method == Method::POST => (builder.body(Bytes::new()), timeouts.idle),
            _ => (builder, timeouts.idle),
        };
        let limit = limit + timeouts.connect;
        Ok(async move {
            match tokio::time::timeout(limit, builder.send()).await {
                Ok(answer) => answer.map_err(|error| HttpError::transport(&method, address, error)),
                Err(_) => Err(HttpError::timeout(&method, address)),
            }
        })
    }

    fn network(&self) -> Result<Arc<Network>, HttpError> {
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        if network.is_none() {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(2).thread_name("network").enable_all().build();
            *network = Some(Arc::new(Network(Some(runtime.map_err(HttpError::Runtime)?))));
        }
        Ok(network.as_ref().expect("made above").clone())
    }

    fn client(&self, url: &Url) -> Result<Client, HttpError> {
        let tls = url.scheme() == "https";
        let profile = Profile {
            tls,
            insecure: tls && self.settings.tls.is_insecure(&super::authority(url)),
            host_directory: tls.then(|| self.settings.tls.host_directory(url)).flatten(),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&profile) {
            return Ok(client.clone());
        }
        let client = self.build(&profile)?;
        clients.insert(profile, client.clone());
        Ok(client)
    }

    fn build(&self, profile: &Profile) -> Result<Client, HttpError> {
        let tls = match profile.tls {
            true => self.settings.tls.config(profile.host_directory.as_deref(), profile.insecure)?,
            // Certificates are not read for plain http; a proxy that is reached by https is the exception.
            false if self.settings.proxies.over_tls() => self.settings.tls.config(None, false)?,
            false => no_tls()?,
        };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("dockless/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.settings.timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .no_proxy();
        for (name, ip) in &self.settings.hosts {
            builder = builder.resolve(name, SocketAddr::new(*ip, 0));
        }
        for proxy in self.settings.proxies.list()? {
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(HttpError::Setup)
    }
}

impl Proxies {
    fn list(&self) -> Result<Vec<reqwest::Proxy>, HttpError> {
        let direct = reqwest::NoProxy::from_string(&format!("localhost,127.0.0.0/8,::1,{}", self.no_proxy));
        let given = [
            self.http.as_ref().map(reqwest::Proxy::http),
            self.https.as_ref().map(reqwest::Proxy::https),
            self.all.as_ref().map(reqwest::Proxy::all),
        ];
        let made = given.into_iter().flatten().map(|p| p.map(|p| p.no_proxy(direct.clone())));
        made.collect::<Result<_, _>>().map_err(|e| HttpError::Setup(e.without_url()))
    }

    fn over_tls(&self) -> bool {
        [&self.http, &self.all].into_iter().flatten().any(|url| url.starts_with("https:"))
    }
}

/// The request that a redirect asks for; `None` where `response` is none.
fn redirect<'a>(request: &Request<'a>, response: &Response) -> Result<Option<Request<'a>>, HttpError> {
    let keeps_method = matches!(response.status().as_u16(), 307 | 308);
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    if !(keeps_method || reads && matches!(response.status().as_u16(), 301..=303)) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()) else { return Ok(None) };
    let target = follow(&request.url, location)?;
    let same = target.origin() == request.url.origin();
    // A document that is sent may hold a secret, as a form with a refresh token does.
    if !same && matches!(request.body, Body::Bytes(_)) {
        return Ok(None);
    }
    let authorization = request.authorization.clone().filter(|_| same);
    Ok(Some(Request { url: target, authorization, ..request.clone() }))
}

/// Where a `Location` given by `url` leads; an error where going there is refused.
pub(crate) fn follow(url: &Url, location: &str) -> Result<Url, HttpError> {
    let refuse = |reason, target: &Url| HttpError::Redirect {
        address: Address::of(url),
        target: Address::of(target).to_string(),
        reason,
    };
    let mut target = url.join(location).map_err(|_| refuse("it is not a URL", url))?;
    if !matches!(target.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https", &target));
    }
    // Registries behind a proxy that ends TLS often believe that they are plain http.
    let same_host = target.host_str() == url.host_str() && target.port() == url.port();
    if url.scheme() == "https" && target.scheme() == "http" && (!same_host || target.set_scheme("https").is_err()) {
        return Err(refuse("it leaves https", &target));
    }
    if !may_go(url, &target) {
        return Err(refuse("a private address on another host", &target));
    }
    Ok(target)
}

/// A request that is on its way; broken off when dropped.
pub struct Pending {
    network: Arc<Network>,
    answer: JoinHandle<Result<reqwest::Response, HttpError>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// An answer: status, headers, and a body that is still to be read.
pub struct Response {
    network: Arc<Network>,
    answer: reqwest::Response,
    method: Method,
    idle: Duration,
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// A header as text; `None` where it is absent or not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Where the answer came from, after redirects.
    pub fn url(&self) -> &Url {
        self.answer.url()
    }

    /// The URL that `Location` names, relative ones resolved; `None` without the header.
    pub fn location(&self) -> Result<Option<Url>, HttpError> {
        self.header(LOCATION.as_str()).map(|location| follow(self.url(), location)).transpose()
    }

    /// The body.
    pub fn into_reader(self) -> BodyReader {
        BodyReader::new(self.network, self.answer, self.method, self.idle)
    }

    /// The whole body, an error if it is larger than `limit`.
    pub fn into_bytes(self, limit: u64) -> Result<Vec<u8>, HttpError> {
        self.into_reader().read_all(limit)
    }

    /// The answer as an error: status and the beginning of the body.
    pub fn into_error(self) -> HttpError {
        let (method, address, status) = (self.method.clone(), Address::of(self.url()), self.status());
        let retry_after = self.headers().get(RETRY_AFTER).and_then(|value| asked(value, SystemTime::now()));
        let mut reader = self.into_reader();
        let mut body = Vec::new();
        // The status says enough if the rest of the body does not come.
        while let Ok(Some(chunk)) = reader.read_chunk() {
            body.extend_from_slice(&chunk);
            if body.len() >= ERROR_BODY {
                break;
            }
        }
        body.truncate(ERROR_BODY);
        HttpError::Status { method, address, status, body: String::from_utf8_lossy(&body).into_owned(), retry_after }
    }
}

/// A request whose body is fed by the calling thread.
struct Upload<'a> {
    network: &'a Network,
    timeouts: &'a Timeouts,
    method: &'a Method,
    address: &'a Address,
}

type Answer = JoinHandle<Result<reqwest::Response, reqwest::Error>>;

impl Upload<'_> {
    fn run(
        &self,
        builder: reqwest::RequestBuilder,
        length: Option<u64>,
        open: &super::body::Open<'_>,
    ) -> Result<reqwest::Response, HttpError> {
        let mut source = open().map_err(|source| self.source(source))?;
        let (sender, chunks) = mpsc::channel(QUEUE);
        let request = builder.body(reqwest::Body::wrap(Feed { chunks, left: length }));
        let mut answer: Answer = self.network.runtime().spawn(request.send());
        let fed = self.feed(&mut source, sender, &mut answer);
        let result = match fed {
            Ok(()) => self.wait(&mut answer),
            Err(error) => Err(error),
        };
        answer.abort();
        result
    }

    /// Passes the source on, until it ends or an answer comes early.
    fn feed(
        &self,
        source: &mut dyn Read,
        sender: mpsc::Sender<io::Result<Bytes>>,
        answer: &mut Answer,
    ) -> Result<(), HttpError> {
        let buffers = Buffers::default();
        while !answer.is_finished() {
            let next = match buffers.fill(source) {
                Ok(chunk) if chunk.is_empty() => return Ok(()),
                Ok(chunk) => Ok(chunk),
                Err(error) => {
                    // The body must not look complete to the server, so the request is broken off.
                    answer.abort();
                    return Err(self.source(error));
                }
            };
            let patience = self.timeouts.idle + self.timeouts.connect;
            let sent = self.network.block_on(async { tokio::time::timeout(patience, sender.send(next)).await });
            match sent {
                Ok(Ok(())) => {}
                // The request ended without reading on: its answer or its error says why.
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(HttpError::timeout(self.method, self.address.clone())),
            }
        }
        Ok(())
    }

    fn wait(&self, answer: &mut Answer) -> Result<reqwest::Response, HttpError> {
        let answer = self.network.block_on(async { tokio::time::timeout(self.timeouts.commit, answer).await });
        match answer {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(error))) => Err(HttpError::transport(self.method, self.address.clone(), error)),
            Ok(Err(join)) => Err(HttpError::broken(self.method, self.address.clone(), join)),
            Err(_) => Err(HttpError::timeout(self.method, self.address.clone())),
        }
    }

    fn source(&self, source: io::Error) -> HttpError {
        HttpError::Source { address: self.address.clone(), source }
    }
}
