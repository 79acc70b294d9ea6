//! Bodies in both directions, bridged between blocking readers and the runtime.

use super::network::Network;
use super::{Address, HttpError};
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use reqwest::Method;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// Gives a fresh reader over what is to be sent, from its beginning: a redirect or a new token makes it go out again.
pub type Open<'a> = dyn Fn() -> io::Result<Box<dyn Read + 'a>> + Sync + 'a;

/// What a request carries.
#[derive(Clone)]
pub enum Body<'a> {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// What a reader gives: exactly `length` bytes, or chunked until its end.
    Stream {
        /// Its length, if known.
        length: Option<u64>,
        /// Opens the reader.
        open: &'a Open<'a>,
    },
}

/// Bytes read from the source at once.
const CHUNK: usize = 128 * 1024;
/// Bytes of an answer that come in no time: a manifest, a token.
const SMALL: u64 = 64 * 1024;
/// Chunks that wait to be sent.
pub(super) const QUEUE: usize = 4;

/// Buffers that go from the source to the connection and back: a fresh one for each chunk costs as much as sending it.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// The next [`CHUNK`] of `source`; empty at its end.
    pub(super) fn fill(&self, source: &mut dyn Read) -> io::Result<Bytes> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut lent = Lent { bytes: free.unwrap_or_else(|| vec![0; CHUNK]), home: self.clone() };
        let mut filled = 0;
        while filled < lent.bytes.len() {
            match source.read(&mut lent.bytes[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Bytes::from_owner(lent).slice(..filled))
    }
}

/// A buffer on its way.
struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// The runtime's end of a body that a blocking thread feeds.
pub(super) struct Feed {
    pub(super) chunks: Receiver<io::Result<Bytes>>,
    /// Bytes that are still to come, where the length is known.
    pub(super) left: Option<u64>,
}

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let chunk = match self.chunks.poll_recv(context) {
            Poll::Ready(Some(Ok(chunk))) => chunk,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        if let Some(left) = &mut self.left {
            match left.checked_sub(chunk.len() as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Some(Err(io::Error::other("the source is longer than announced")))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The body of an answer, read as it comes. An error of the connection comes out as an [`io::Error`] that wraps the
/// [`HttpError`]; [`BodyReader::read_chunk`] gives it unwrapped.
pub struct BodyReader {
    network: Arc<Network>,
    response: reqwest::Response,
    method: Method,
    address: Address,
    rest: Bytes,
    window: Window,
}

impl BodyReader {
    pub(super) fn new(network: Arc<Network>, response: reqwest::Response, method: Method, idle: Duration) -> Self {
        let address = Address::of(response.url());
        if response.content_length().is_none_or(|length| length > SMALL) {
            network.drive();
        }
        BodyReader { network, response, method, address, rest: Bytes::new(), window: Window::new(idle) }
    }

    /// The next piece; `None` at the end.
    pub fn read_chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let timeout = || HttpError::timeout(&self.method, self.address.clone());
        let next = async { tokio::time::timeout(self.window.idle, self.response.chunk()).await };
        let chunk = self.network.block_on(next).map_err(|_| timeout())?;
        let chunk = chunk.map_err(|e| HttpError::transport(&self.method, self.address.clone(), e))?;
        match &chunk {
            Some(bytes) if !self.window.moved(bytes.len()) => Err(timeout()),
            _ => Ok(chunk),
        }
    }

    /// The rest as bytes; an error if there are more than `limit` of them.
    pub fn read_all(mut self, limit: u64) -> Result<Vec<u8>, HttpError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.read_chunk()? {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(HttpError::TooLarge { address: self.address, limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.read_chunk().map_err(io::Error::other)?.unwrap_or_default();
        }
        let n = self.rest.len().min(buf.len());
        self.rest.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

/// Sees to it that a body which trickles ends: in every window of `idle` it must bring [`Window::LEAST`] bytes.
struct Window {
    idle: Duration,
    began: Instant,
    bytes: usize,
}

impl Window {
    const LEAST: usize = 1024;

    fn new(idle: Duration) -> Self {
        Window { idle, began: Instant::now(), bytes: 0 }
    }

    fn moved(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        if self.began.elapsed() < self.idle {
            return true;
        }
        let enough = self.bytes >= Self::LEAST;
        *self = Window::new(self.idle);
        enough
    }
}
