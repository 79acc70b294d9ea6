//! The other side: its refs, and one commit of it as a pack.

use super::pkt::{self, Pkt};
use super::ssh::Session;
use super::{GitError, Oid, Reach};
use crate::http::{Body, HeaderValue, Http, HttpError, Method, Request, Url, header};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const AGENT: &str = concat!("agent=dockless/", env!("CARGO_PKG_VERSION"));
const GIT_PORT: u16 = 9418;

/// A ref of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// `HEAD`, `refs/heads/main`, …
    pub name: String,
    /// What it names.
    pub oid: Oid,
    /// For an annotated tag, what that names.
    pub peeled: Option<Oid>,
}

/// How the server is reached.
enum Link<'a> {
    Http { http: &'a Http, base: Url },
    Git(TcpStream),
    Ssh(Session),
}

/// A repository on a server.
pub struct Remote<'a> {
    link: Link<'a>,
    /// With version 0 the refs come unasked.
    refs: Option<Vec<Ref>>,
}

impl<'a> Remote<'a> {
    /// Connects to the repository at `remote`.
    pub fn connect(reach: Reach<'a>, remote: &str) -> Result<Remote<'a>, GitError> {
        let scheme = match remote.split_once("://") {
            Some((scheme, _)) => scheme.to_lowercase(),
            None => "ssh".to_string(),
        };
        let url = || Url::parse(remote).map_err(|_| GitError::Url { remote: remote.to_string() });
        match scheme.as_str() {
            "http" | "https" => Remote::over_http(reach.http, url()?),
            "git" => Remote::over_tcp(&url()?, remote),
            "ssh" => Remote::over_ssh(Session::start(reach.ssh, remote)?),
            _ => Err(GitError::Scheme { remote: remote.to_string(), scheme }),
        }
    }

    fn over_http(http: &'a Http, url: Url) -> Result<Remote<'a>, GitError> {
        let mut asked = url.clone();
        asked.set_path(&format!("{}/info/refs", url.path().trim_end_matches('/')));
        asked.set_query(Some("service=git-upload-pack"));
        asked.set_fragment(None);
        let mut request = Request::new(Method::GET, asked);
        request.headers.insert("git-protocol", HeaderValue::from_static("version=2"));
        let answer = http.settings().retry.run(|| http.send_ok(&request, &[]))?;
        if answer.header(header::CONTENT_TYPE.as_str()) != Some("application/x-git-upload-pack-advertisement") {
            return Err(GitError::Protocol("it is no git server that knows the smart protocol"));
        }
        // After a redirect of the question, the rest goes where the answer came from, with the same user.
        let mut base = answer.url().clone();
        let path = base.path().strip_suffix("/info/refs").map(str::to_string);
        base.set_path(&path.ok_or(GitError::Protocol("it redirects to somewhere else"))?);
        base.set_query(None);
        let mut reader = answer.into_reader();
        let refs = read_advertisement(&mut reader)?;
        Ok(Remote { link: Link::Http { http, base }, refs })
    }

    fn over_tcp(url: &Url, remote: &str) -> Result<Remote<'a>, GitError> {
        let no_url = || GitError::Url { remote: remote.to_string() };
        let (host, port) = (url.host_str().ok_or_else(no_url)?, url.port().unwrap_or(GIT_PORT));
        let mut stream = connect(host, port)?;
        let greeting = format!("git-upload-pack {}\0host={host}:{port}\0\0version=2\0", url.path());
        stream.write_all(format!("{:04x}{greeting}", greeting.len() + 4).as_bytes())?;
        let refs = read_advertisement(&mut stream)?;
        Ok(Remote { link: Link::Git(stream), refs })
    }

    fn over_ssh(mut session: Session) -> Result<Remote<'a>, GitError> {
        match read_advertisement(&mut session) {
            Ok(refs) => Ok(Remote { link: Link::Ssh(session), refs }),
            Err(error) => Err(session.explain(error)),
        }
    }

    /// The refs whose names begin with one of `prefixes`; a server may give others too.
    pub fn refs(&mut self, prefixes: &[String]) -> Result<Vec<Ref>, GitError> {
        if let Some(refs) = &self.refs {
            return Ok(refs.clone());
        }
        let mut question = Vec::new();
        for text in ["command=ls-refs", AGENT] {
            pkt::line(&mut question, text);
        }
        pkt::delimiter(&mut question);
        pkt::line(&mut question, "peel");
        for prefix in prefixes {
            pkt::line(&mut question, &format!("ref-prefix {prefix}"));
        }
        pkt::flush(&mut question);
        let mut reader = self.ask(question)?;
        let mut refs = Vec::new();
        while let Some(line) = pkt::read(&mut *reader)?.text() {
            refs.extend(parse_ref(&line)?);
        }
        Ok(refs)
    }

    /// Writes a pack with the commit `wanted` and all that its tree holds, but none of its history, to `to`.
    pub fn fetch(&mut self, wanted: Oid, to: &mut dyn Write) -> Result<(), GitError> {
        let mut question = Vec::new();
        let old = self.refs.is_some();
        if old {
            pkt::line(&mut question, &format!("want {wanted} side-band-64k ofs-delta shallow no-progress {AGENT}"));
            pkt::line(&mut question, "deepen 1");
            pkt::flush(&mut question);
            pkt::line(&mut question, "done");
        } else {
            for text in ["command=fetch", AGENT] {
                pkt::line(&mut question, text);
            }
            pkt::delimiter(&mut question);
            for text in ["no-progress", "ofs-delta", "deepen 1", &format!("want {wanted}"), "done"] {
                pkt::line(&mut question, text);
            }
            pkt::flush(&mut question);
        }
        let mut reader = self.ask(question)?;
        let begin = if old { "NAK" } else { "packfile" };
        loop {
            match pkt::read(&mut *reader)? {
                line if line.text().is_some_and(|line| line == begin) => break,
                Pkt::End => return Err(GitError::Protocol("there is no pack in it")),
                // Which commits are shallow is known: the one that was asked for.
                _ => {}
            }
        }
        loop {
            match pkt::read(&mut *reader)? {
                Pkt::Data(bytes) => match bytes.split_first() {
                    Some((1, data)) => to.write_all(data)?,
                    Some((2, _)) => {}
                    Some((3, message)) => {
                        return Err(GitError::Refused(String::from_utf8_lossy(message).trim_end().to_string()));
                    }
                    _ => return Err(GitError::Protocol("an unknown band")),
                },
                _ => return Ok(()),
            }
        }
    }

    fn ask(&mut self, question: Vec<u8>) -> Result<Box<dyn Read + '_>, GitError> {
        match &mut self.link {
            Link::Git(stream) => {
                stream.write_all(&question)?;
                Ok(Box::new(stream))
            }
            Link::Ssh(session) => {
                session.write_all(&question)?;
                Ok(Box::new(session))
            }
            Link::Http { http, base } => {
                let mut url = base.clone();
                url.set_path(&format!("{}/git-upload-pack", base.path()));
                let mut request = Request::new(Method::POST, url);
                let kind = HeaderValue::from_static("application/x-git-upload-pack-request");
                request.headers.insert(header::CONTENT_TYPE, kind);
                if self.refs.is_none() {
                    request.headers.insert("git-protocol", HeaderValue::from_static("version=2"));
                }
                request.body = Body::Bytes(question.into());
                let answer = http.settings().retry.run(|| http.send_ok(&request, &[]))?;
                Ok(Box::new(Unwrapped(answer.into_reader())))
            }
        }
    }
}

/// Gives errors of the connection without the wrapping that [`std::io::Error`] asks for.
struct Unwrapped(crate::http::BodyReader);

impl Read for Unwrapped {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.downcast::<HttpError>() {
            Ok(error) => std::io::Error::other(error.to_string()),
            Err(error) => error,
        })
    }
}

fn connect(host: &str, port: u16) -> Result<TcpStream, GitError> {
    let named = |error: std::io::Error| {
        GitError::Io(std::io::Error::new(error.kind(), format!("cannot connect to git://{host}:{port}: {error}")))
    };
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    for address in (bare, port).to_socket_addrs().map_err(named)? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(20)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(named)?;
                stream.set_write_timeout(Some(Duration::from_secs(60))).map_err(named)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(named(last))
}

/// What the server says first: capabilities (version 2), or its refs (version 0).
fn read_advertisement(from: &mut dyn Read) -> Result<Option<Vec<Ref>>, GitError> {
    let mut line = pkt::read(from)?;
    // Over http some servers say first what they offer.
    if line.text().is_some_and(|line| line.starts_with("# service=")) {
        pkt::read(from)?;
        line = pkt::read(from)?;
    }
    let first = line.text().unwrap_or_default();
    let version_2 = first == "version 2";
    let mut refs: Vec<Ref> = Vec::new();
    if first.starts_with("version ") {
        line = pkt::read(from)?;
    }
    while let Some(text) = line.text() {
        // In version 0 the capabilities follow the first ref.
        let (head, capabilities) = text.split_once('\0').unwrap_or((&text, if version_2 { &text } else { "" }));
        let formats = capabilities.split(' ').filter_map(|word| word.strip_prefix("object-format="));
        if let Some(other) = formats.into_iter().find(|format| *format != "sha1") {
            return Err(GitError::ObjectFormat(other.to_string()));
        }
        if !version_2 && !head.starts_with("shallow ") {
            match (parse_ref(head)?, head.strip_suffix("^{}"), refs.last_mut()) {
                (Some(peeled), Some(_), Some(tag)) => tag.peeled = Some(peeled.oid),
                (Some(found), ..) if found.name != "capabilities^{}" => refs.push(found),
                _ => {}
            }
        }
        line = pkt::read(from)?;
    }
    Ok((!version_2).then_some(refs))
}

/// `OID NAME`, and what version 2 may put behind. `None` for a branch without a commit yet.
fn parse_ref(line: &str) -> Result<Option<Ref>, GitError> {
    let mut words = line.split(' ');
    let (oid, name) = (words.next().unwrap_or_default(), words.next());
    if oid == "unborn" {
        return Ok(None);
    }
    let (Some(oid), Some(name)) = (Oid::parse(oid), name) else { return Err(GitError::Protocol("not a ref")) };
    let peeled = words.find_map(|word| Oid::parse(word.strip_prefix("peeled:")?));
    Ok(Some(Ref { name: name.to_string(), oid, peeled }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn advertised(lines: &[&str]) -> Result<Option<Vec<Ref>>, GitError> {
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| pkt::line(&mut bytes, line));
        pkt::flush(&mut bytes);
        read_advertisement(&mut &bytes[..])
    }

    #[test]
    fn advertisements_of_both_versions() {
        assert_eq!(advertised(&["version 2", "agent=git/2", "object-format=sha1"]).unwrap(), None);
        let old = [
            format!("{A} HEAD\0side-band-64k object-format=sha1"),
            format!("{A} refs/tags/v1"),
            format!("{B} refs/tags/v1^{{}}"),
        ];
        let refs = advertised(&old.each_ref().map(String::as_str)).unwrap().unwrap();
        assert_eq!((refs[0].name.as_str(), refs[1].name.as_str(), refs.len()), ("HEAD", "refs/tags/v1", 2));
        assert_eq!(refs[1].peeled, Oid::parse(B));
        assert!(matches!(advertised(&["version 2", "object-format=sha256"]), Err(GitError::ObjectFormat(_))));
        assert_eq!(advertised(&["# service=git-upload-pack", "", "version 2"]).unwrap(), None);
        assert!(matches!(advertised(&["hello"]), Err(GitError::Protocol(_))));
        let empty = format!("{} capabilities^{{}}\0x", "0".repeat(40));
        assert_eq!(advertised(&[&empty]).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn refs_of_version_2() {
        let found = parse_ref(&format!("{A} refs/tags/v1 peeled:{B}")).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.peeled), ("refs/tags/v1", Oid::parse(B)));
        assert_eq!(parse_ref("unborn HEAD symref-target:refs/heads/main").unwrap(), None);
        assert!(parse_ref("x y").is_err());
    }
}
