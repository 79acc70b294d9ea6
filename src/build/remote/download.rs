//! Downloads: ADD of a URL, and contexts that are URLs.

use super::file::Fetch;
use super::{FileTree, RemoteError};
use crate::http::{HeaderValue, Http, Method, Request, Response, StatusCode, Url};
use crate::oci::{Digest, digest};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Bucket of the store that remembers downloads, by the digest of their URL.
const BUCKET: &str = "downloads";

/// What came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// Bytes.
    pub size: u64,
    /// `Last-Modified` in seconds since 1970, where the server says it.
    pub modified: Option<i64>,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// `ETag` and `Last-Modified` as the server wrote them, to ask it whether anything changed.
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Download {
    /// The time that the file gets.
    pub fn mtime(&self) -> i64 {
        self.modified.unwrap_or(0)
    }
}

/// Downloads `url` into the new file `to`. Where `checksum` (`sha256:…`, `sha384:…`, `sha512:…`) is given, other bytes are
/// an error. Anything but 2xx is an error; what fails for a passing reason is tried again from the start.
pub fn download(http: &Http, url: &str, checksum: Option<&str>, to: &Path) -> Result<Download, RemoteError> {
    let parsed = parse(url)?;
    http.settings().retry.run(|| {
        let response = http.send_ok(&Request::new(Method::GET, parsed.clone()), &[])?;
        save(response, url, checksum, to)
    })
}

/// What ADD sees of `url`. A server that was asked before, and says that nothing changed since, sends nothing: the bytes come
/// when somebody reads them, which a step out of the cache never does.
pub fn file_tree(store: &Store, http: &Arc<Http>, url: &str, checksum: Option<&str>) -> Result<FileTree, RemoteError> {
    let temp = store.temp_dir()?;
    let (path, name, key) = (temp.path().join("download"), file_name(url), Digest::sha256(url));
    let known = store.record(BUCKET, &key)?.and_then(|bytes| serde_json::from_slice::<Download>(&bytes).ok());
    let (found, fetch): (Download, Option<Fetch>) = match known.map(|known| revalidate(http, url, known, checksum)) {
        Some(Ok(Some(known))) => {
            let (http, url, expected) = (Arc::clone(http), url.to_string(), known.digest.clone());
            let fetch: Fetch = Box::new(move |to| {
                // It said that these would come.
                let expected = expected.to_string();
                download(&http, &url, Some(&expected), to).map(drop).map_err(io::Error::other)
            });
            (known, Some(fetch))
        }
        Some(Err(error)) => return Err(error),
        None | Some(Ok(None)) => (download(http, url, checksum, &path)?, None),
    };
    // Numbers and strings: always JSON.
    store.put_record(BUCKET, &key, &serde_json::to_vec(&found).unwrap_or_default())?;
    let (size, mtime, digest) = (found.size, found.mtime(), Some(found.digest));
    Ok(FileTree { path, name, size, mtime, digest, fetch: Mutex::new(fetch), keep: Some(temp) })
}

/// `known`, if the server says that it still holds, and it is what `checksum` names.
fn revalidate(
    http: &Http,
    url: &str,
    known: Download,
    checksum: Option<&str>,
) -> Result<Option<Download>, RemoteError> {
    if checksum.is_some_and(|checksum| checksum != known.digest.to_string()) {
        return Ok(None);
    }
    let mut request = Request::new(Method::GET, parse(url)?);
    let value = |text: &Option<String>| text.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    match (value(&known.etag), value(&known.last_modified)) {
        (Some(etag), _) => request.headers.insert("if-none-match", etag),
        (None, Some(date)) => request.headers.insert("if-modified-since", date),
        (None, None) => return Ok(None),
    };
    let answer = http.settings().retry.run(|| http.send_ok(&request, &[StatusCode::NOT_MODIFIED]))?;
    Ok((answer.status() == StatusCode::NOT_MODIFIED).then_some(known))
}

fn parse(url: &str) -> Result<Url, RemoteError> {
    let refused = |reason: String| RemoteError::Url { url: url.to_string(), reason };
    let parsed = Url::parse(url).map_err(|error| refused(error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        other => Err(refused(format!("{other} is neither http nor https"))),
    }
}

fn save(response: Response, url: &str, checksum: Option<&str>, to: &Path) -> Result<Download, RemoteError> {
    let header = |name: &str| response.header(name).map(str::to_string);
    let (etag, last_modified) = (header("etag"), header("last-modified"));
    let mut file = fs_err::File::create(to)?;
    let mut body = response.into_reader();
    let (mut size, mut own, mut named) = (0, digest::Hasher::new(digest::Algorithm::Sha256), checksum.map(Hasher::of));
    while let Some(chunk) = body.read_chunk()? {
        file.write_all(&chunk)?;
        size += chunk.len() as u64;
        own.update(&chunk);
        if let Some(hasher) = &mut named {
            hasher.update(&chunk);
        }
    }
    if let (Some(expected), Some(hasher)) = (checksum, named) {
        let found = hasher.finish();
        if found != expected {
            return Err(RemoteError::Checksum { url: url.to_string(), expected: expected.to_string(), found });
        }
    }
    let modified = last_modified.as_deref().and_then(http_date);
    Ok(Download { size, modified, digest: own.finish(), etag, last_modified })
}

/// The digests that `--checksum` may name. Images are never named by SHA-384, so `oci` does not know it.
enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// The one for `checksum`, which the planner has checked.
    fn of(checksum: &str) -> Hasher {
        match checksum.split(':').next() {
            Some("sha384") => Hasher::Sha384(Sha384::new()),
            Some("sha512") => Hasher::Sha512(Sha512::new()),
            _ => Hasher::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha384(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Hasher::Sha256(hasher) => format!("sha256:{}", hex(&hasher.finalize())),
            Hasher::Sha384(hasher) => format!("sha384:{}", hex(&hasher.finalize())),
            Hasher::Sha512(hasher) => format!("sha512:{}", hex(&hasher.finalize())),
        }
    }
}

/// What ADD calls a download: the last name in the URL's path, decoded; `__unnamed__` where there is none.
pub fn file_name(url: &str) -> String {
    let path = Url::parse(url).map(|url| decode(url.path().as_bytes())).unwrap_or_default();
    let path = String::from_utf8_lossy(&path);
    match path.split('/').rfind(|name| !name.is_empty()).unwrap_or_default() {
        "" | "." | ".." => "__unnamed__".to_string(),
        name => name.to_string(),
    }
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
        let decoded = after.first().and_then(hex).zip(after.get(1).and_then(hex)).map(|(high, low)| high << 4 | low);
        // No name can hold a NUL.
        match decoded.filter(|decoded| byte == b'%' && *decoded != 0) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// `Wed, 02 Jan 2019 03:04:05 GMT` in seconds since 1970: the form that servers must send (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    let (_, date) = text.split_once(", ")?;
    let mut words = date.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let word = words.next()?;
    let month = names.iter().position(|name| *name == word)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok().filter(|year| (1..=9999).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970, with years that begin in March, so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_path() {
        for (url, name) in [
            ("http://h/f.txt", "f.txt"),
            ("http://h/f.txt?a=b/c#d", "f.txt"),
            ("http://h/a/b/", "b"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h/?a=b", "__unnamed__"),
            ("http://h/a%20b%2Fc%3F", "c?"),
            ("http://h/a%2F..", "__unnamed__"),
            ("http://h/a%2F%2e%2e%2F", "__unnamed__"),
            ("http://h/x%00y%zz", "x%00y%zz"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }

    #[test]
    fn dates() {
        for (text, expected) in [
            ("Wed, 02 Jan 2019 03:04:05 GMT", Some(1_546_398_245)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1)),
            ("yesterday", None),
            ("Wed, 02 Foo 2019 03:04:05 GMT", None),
            ("Wed, 02 Jan 2019 03:04", None),
        ] {
            assert_eq!(http_date(text), expected, "{text}");
        }
    }
}
