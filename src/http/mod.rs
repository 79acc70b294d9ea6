//! TLS, proxies, retries and the async runtime, behind blocking calls.
//!
//! # Contract
//!
//! * [`Http`] owns a tokio runtime of two workers, made when the first request goes out, and one `reqwest` client for each
//!   way of doing TLS. There is nothing global: two `Http` values share nothing.
//! * [`Http::send`] sends one request, follows its redirects by hand and gives back whatever the server answered, 4xx and
//!   5xx included. It blocks the calling thread; call it from as many threads as there are transfers. Never call it from
//!   async code.
//! * Bodies stream in both directions through buffers of fixed size: memory does not grow with a blob.
//! * `Authorization` never leaves the origin (scheme, host, port) it was meant for; a redirect to a private address on
//!   another host is refused, as is one from https to http.
//! * Nothing waits without a bound: connecting, silence while a body moves, and the wait for an answer have timeouts.
//! * What to retry, and how long to wait, is [`RetryPolicy`]'s; [`HttpError::is_transient`] says what is worth it.
//! * Errors name method and URL with credentials and query removed ([`Address`]).
//!
//! HTTP/1.1 only: it costs no more CPU than HTTP/2 and gives each upload a connection of its own. Names are resolved by
//! `getaddrinfo`, so /etc/hosts and nsswitch work as everywhere else. TLS is rustls with ring as the provider, handed in
//! explicitly; certificates are read when the first https request goes out.

mod address;
mod body;
mod client;
mod error;
mod retry;
mod tls;

pub use crate::secret::Secret;
pub use address::{Address, authority, is_loopback};
pub use body::{Body, BodyReader, Open};
pub(crate) use client::follow;
pub use client::{Http, Pending, Proxies, Request, Response, Settings, Timeouts};
pub use error::{Fault, HttpError};
pub use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, StatusCode, Url};
pub use retry::{AsHttp, Backoff, RetryPolicy};
pub use tls::{SYSTEM_BUNDLES, TlsError, TlsSettings};
