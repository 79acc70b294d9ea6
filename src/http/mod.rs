//! TLS, proxies, retries and the async runtime, behind blocking calls.
