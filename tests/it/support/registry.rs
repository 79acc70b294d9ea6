//! Debian's `docker-registry` on a free port of this machine.

use super::token::{ISSUER, Rights, SERVICE, TokenServer};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A registry with a root of its own. Dropping it, by a panic too, ends the process.
pub struct Registry {
    child: Child,
    host: String,
    tls_ca: Option<PathBuf>,
    login: Option<(String, String)>,
    tokens: Option<TokenServer>,
    root: TempDir,
}

/// A request, as the registry's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// GET and so on.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The answer's status.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

impl Asked {
    /// A line of the combined log format.
    fn parse(line: &str) -> Option<Asked> {
        let mut quoted = line.split('"');
        let mut request = quoted.nth(1)?.split(' ');
        let mut answer = quoted.next()?.split_whitespace();
        Some(Asked {
            method: request.next()?.to_string(),
            target: request.next()?.to_string(),
            status: answer.next()?.parse().ok()?,
            bytes: answer.next()?.parse().ok()?,
        })
    }
}

/// What a registry is started with.
#[derive(Default)]
pub struct Options {
    /// Wants this user and password.
    pub login: Option<(String, String)>,
    /// Speaks TLS, with a certificate of a private authority for 127.0.0.1 and `registry.test`.
    pub tls: bool,
    /// Wants tokens of a server that speaks TLS where the registry does: how long they live, in seconds, and what user
    /// `ci` may do.
    pub tokens: Option<(u64, Rights)>,
    /// Asks for a certificate of its authority's.
    pub client_certificates: bool,
}

impl Registry {
    /// Plain http, no login.
    pub fn start() -> Self {
        Registry::start_with(Options::default())
    }

    /// With `options`.
    pub fn start_with(options: Options) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            root.path().join("data").display()
        );
        let certificates = options.tls.then(|| certificates(root.path()));
        if let Some((ca, certificate, key)) = &certificates {
            config += &format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
            if options.client_certificates {
                config += &format!("    clientcas:\n      - {}\n", ca.display());
            }
        }
        let tokens = options.tokens.map(|(lifetime, rights)| {
            let tls = certificates.as_ref().map(|(_, certificate, key)| (certificate.as_path(), key.as_path()));
            let server = TokenServer::start(root.path(), lifetime, rights, tls);
            config += &format!(
                "auth:\n  token:\n    realm: {}\n    service: {SERVICE}\n    issuer: {ISSUER}\n    rootcertbundle: {}\n",
                server.realm,
                server.certificate.display()
            );
            server
        });
        let tls_ca = certificates.map(|(ca, ..)| ca);
        if let Some((user, password)) = &options.login {
            let file = root.path().join("htpasswd");
            // bcrypt is the only form it takes, and perl the only program that always has it.
            let script = "print crypt($ARGV[0], q($2y$04$dockless.test.salt...u))";
            let hash = run(Command::new("perl").args(["-e", script, password]));
            fs::write(&file, format!("{user}:{}\n", String::from_utf8_lossy(&hash))).expect("writable");
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
        }
        let file = root.path().join("config.yml");
        fs::write(&file, config).expect("writable");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stderr(Stdio::piped());
        command.stdout(fs::File::create(root.path().join("access.log")).expect("writable"));
        let mut child = command.spawn().expect("docker-registry is installed (apt-get install docker-registry)");
        let port = port(&mut child);
        Registry { child, host: format!("127.0.0.1:{port}"), tls_ca, login: options.login, tokens, root }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.host.rsplit_once(':').expect("host:port").1.parse().expect("a port")
    }

    /// Where it keeps `docker/registry/v2/{blobs,repositories}`.
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The requests so far, in the order in which they ended.
    pub fn requests(&self) -> Vec<Asked> {
        static MARKS: AtomicU64 = AtomicU64::new(0);
        // A request's line is written after its answer: one more, whose line comes after theirs.
        let mark = format!("/v2/mark-{}", MARKS.fetch_add(1, Ordering::SeqCst));
        let mut line = std::net::TcpStream::connect(&self.host).expect("it listens");
        write!(line, "GET {mark} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host).expect("it reads");
        let _ = line.read_to_end(&mut Vec::new());
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let text = fs::read_to_string(self.root.path().join("access.log")).expect("its log");
            if text.contains(&mark) {
                return text
                    .lines()
                    .filter_map(Asked::parse)
                    .filter(|asked| !asked.target.contains("/mark-"))
                    .collect();
            }
            assert!(Instant::now() < until, "no line of {mark} in its log");
            std::thread::yield_now();
        }
    }

    /// Who gives its tokens.
    pub fn tokens(&self) -> &TokenServer {
        self.tokens.as_ref().expect("started with tokens")
    }

    /// The directory with the certificates.
    pub fn files(&self) -> &Path {
        self.root.path()
    }

    /// The private authority's certificate, of a registry that speaks TLS.
    pub fn ca(&self) -> &Path {
        self.tls_ca.as_deref().expect("started with TLS")
    }

    /// Puts the image `latest` of an OCI layout at `name` (`library/busybox:1`), and gives the reference.
    pub fn put(&self, layout: &Path, name: &str) -> String {
        let reference = format!("{}/{name}", self.host);
        let from = format!("oci:{}:latest", layout.display());
        self.skopeo("copy", &["--dest-tls-verify=false"], "--dest-creds", &[&from, &format!("docker://{reference}")]);
        reference
    }

    /// Puts a base (see [`super::bases::layout`]) at `library/NAME:latest`, and gives the reference.
    pub fn put_base(&self, name: &str) -> String {
        self.put(&super::bases::layout(name), &format!("library/{name}:latest"))
    }

    /// Copies `name` out into an OCI layout, tag `latest`: every blob is read and verified by skopeo.
    pub fn get(&self, name: &str, layout: &Path) {
        let to = format!("oci:{}:latest", layout.display());
        let from = format!("docker://{}/{name}", self.host);
        self.skopeo("copy", &["--src-tls-verify=false"], "--src-creds", &[&from, &to]);
    }

    /// What `skopeo inspect --raw` says of `name`: the manifest's bytes.
    pub fn manifest(&self, name: &str) -> Vec<u8> {
        let from = format!("docker://{}/{name}", self.host);
        self.skopeo("inspect", &["--raw", "--tls-verify=false"], "--creds", &[&from])
    }

    fn skopeo(&self, verb: &str, flags: &[&str], creds: &str, rest: &[&str]) -> Vec<u8> {
        let mut command = Command::new("skopeo");
        command.arg("--insecure-policy").arg(verb).args(flags);
        if let Some((user, password)) = &self.login {
            command.arg(format!("{creds}={user}:{password}"));
        }
        run(command.args(rest))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port it says it listens on. The rest of what it says is read and dropped, so that it never waits for us.
fn port(child: &mut Child) -> u16 {
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // Nobody listens any more once the port is known.
            let _ = sender.send(line);
        }
    });
    let mut said = String::new();
    while let Ok(line) = receiver.recv_timeout(Duration::from_secs(30)) {
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            return rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a port");
        }
        said += &line;
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("docker-registry did not start: {said}");
}

/// A private authority, and a certificate of its for 127.0.0.1 and `registry.test`, with its key.
fn certificates(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let at = |name: &str| dir.join(name);
    let (ca, ca_key, request, certificate, key) = (at("ca.crt"), at("ca.key"), at("r.csr"), at("r.crt"), at("r.key"));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let openssl = || Command::new("openssl");
    let subject = ["-subj", "/CN=dockless test authority", "-days", "2"];
    run(openssl().args(["req", "-x509"]).args(new_key).args(subject).arg("-keyout").arg(&ca_key).arg("-out").arg(&ca));
    let subject = ["-subj", "/CN=registry.test"];
    run(openssl().arg("req").args(new_key).args(subject).arg("-keyout").arg(&key).arg("-out").arg(&request));
    let names = at("names");
    fs::write(&names, "subjectAltName=DNS:registry.test,IP:127.0.0.1\n").expect("writable");
    let mut sign = openssl();
    sign.args(["x509", "-req", "-CAcreateserial", "-days", "2", "-in"]).arg(&request).arg("-CA").arg(&ca);
    run(sign.arg("-CAkey").arg(&ca_key).arg("-extfile").arg(&names).arg("-out").arg(&certificate));
    (ca, certificate, key)
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
