//! A small web server in this process: files by path, and git repositories by `git http-backend`.

use super::server::{Received, listen, receive};
use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// One answer.
#[derive(Clone, Default)]
pub struct Page {
    /// The body.
    pub body: Vec<u8>,
    /// Lines of the head beside `Content-Length`.
    pub headers: Vec<String>,
    /// The status, if not 200.
    pub status: Option<u16>,
}

/// The head of a request, names in lower case.
pub type Head = BTreeMap<String, String>;

/// The server; it ends with the process.
pub struct Web {
    address: String,
    seen: Arc<Mutex<Vec<Head>>>,
}

struct Content {
    pages: BTreeMap<String, Page>,
    repositories: Option<PathBuf>,
    /// Git's protocol version 0 only.
    old: bool,
}

impl Web {
    /// Serves `pages` by path.
    pub fn pages<'a>(pages: impl IntoIterator<Item = (&'a str, Page)>) -> Web {
        let pages = pages.into_iter().map(|(path, page)| (path.to_string(), page)).collect();
        Web::start(Content { pages, repositories: None, old: false })
    }

    /// Serves the bare repositories below `root`; an `old` server does not know version 2.
    pub fn git(root: &Path, old: bool) -> Web {
        Web::start(Content { pages: BTreeMap::new(), repositories: Some(root.to_path_buf()), old })
    }

    fn start(content: Content) -> Web {
        let seen = Arc::<Mutex<Vec<Head>>>::default();
        let log = seen.clone();
        let address = listen(move |stream| _ = answer(&stream, &content, &log)).to_string();
        Web { address, seen }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The heads of all requests so far.
    pub fn seen(&self) -> Vec<Head> {
        self.seen.lock().expect("no panic").clone()
    }
}

fn answer(mut stream: &TcpStream, content: &Content, log: &Mutex<Vec<Head>>) -> Option<()> {
    let Received { method, target, headers, body } = receive(&mut BufReader::new(stream))?;
    log.lock().ok()?.push(headers.clone());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let page = match &content.repositories {
        Some(root) => backend(root, content.old, &method, path, query, &headers, &body),
        None => content.pages.get(path).cloned().unwrap_or(Page { status: Some(404), ..Page::default() }),
    };
    let tag = page.headers.iter().find_map(|line| line.strip_prefix("ETag: "));
    let same = tag.is_some() && tag == headers.get("if-none-match").map(String::as_str);
    let page = if same { Page { body: Vec::new(), status: Some(304), ..page } } else { page };
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", page.status.unwrap_or(200));
    page.headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    head.push_str(&format!("Content-Length: {}\r\n\r\n", page.body.len()));
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&page.body).ok()?;
    stream.shutdown(Shutdown::Write).ok()
}

/// CGI, as far as `git http-backend` needs it.
fn backend(root: &Path, old: bool, method: &str, path: &str, query: &str, headers: &Head, body: &[u8]) -> Page {
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut command = Command::new("git");
    command.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
    command.env("CONTENT_TYPE", header("content-type")).env("CONTENT_LENGTH", body.len().to_string());
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    if !old {
        command.env("GIT_PROTOCOL", header("git-protocol"));
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git");
    child.stdin.take().expect("piped").write_all(body).expect("git reads");
    let output = child.wait_with_output().expect("git ends").stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let lines = String::from_utf8_lossy(&output[..end]).lines().map(str::to_string).collect::<Vec<_>>();
    let status = lines.iter().find_map(|line| line.strip_prefix("Status: ")?.split(' ').next()?.parse().ok());
    Page { body: output[end + 4..].to_vec(), headers: lines, status }
}
