//! How often and how long: the waiting between tries.

use super::HttpError;
use reqwest::header::HeaderValue;
use std::time::{Duration, SystemTime};

/// When to try again. The default is five tries, half a second doubling with jitter, never more than thirty seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub tries: u32,
    /// Wait before the second try; doubles from there.
    pub first: Duration,
    /// No wait is longer, whatever `Retry-After` asks for. Zero makes every retry immediate.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { tries: 5, first: Duration::from_millis(500), longest: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// Starts counting the tries of one operation.
    pub fn start(&self) -> Backoff<'_> {
        Backoff { policy: self, failed: 0 }
    }

    /// Runs `once` until it succeeds, fails for good, or the tries are used up.
    pub fn run<T, E: AsHttp>(&self, mut once: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let mut backoff = self.start();
        loop {
            match once() {
                Err(error) if error.as_http().is_some_and(|e| backoff.again(e)) => {}
                result => return result,
            }
        }
    }

    fn wait(&self, failed: u32, retry_after: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
        let wait = doubled.min(self.longest).mul_f64(jitter());
        retry_after.unwrap_or_default().max(wait).min(self.longest)
    }
}

/// An error that may come from a request.
pub trait AsHttp {
    /// The request's failure, if that is what went wrong.
    fn as_http(&self) -> Option<&HttpError>;
}

impl AsHttp for HttpError {
    fn as_http(&self) -> Option<&HttpError> {
        Some(self)
    }
}

/// The tries of one operation.
#[derive(Debug)]
pub struct Backoff<'a> {
    policy: &'a RetryPolicy,
    failed: u32,
}

impl Backoff<'_> {
    /// After a failure: waits and says yes, or says no because `error` is final or the tries are used up.
    pub fn again(&mut self, error: &HttpError) -> bool {
        error.is_transient() && self.again_after(error.retry_after())
    }

    /// As [`Backoff::again`] for a failure that is known to be worth another try.
    pub fn again_after(&mut self, retry_after: Option<Duration>) -> bool {
        self.failed += 1;
        if self.failed >= self.policy.tries {
            return false;
        }
        std::thread::sleep(self.policy.wait(self.failed, retry_after));
        true
    }
}

/// How long `Retry-After` asks to wait: seconds, or a date (RFC 9110, section 10.2.3), which is taken by this machine's
/// clock. One that has passed asks for nothing.
pub(super) fn asked(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// Between 0.75 and 1.25, so that the jobs of one pipeline do not come back at the same moment. Without randomness: 1.
fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |n| 0.75 + f64::from(n) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let policy = RetryPolicy::default();
        for (failed, low, high) in [(1, 375, 625), (2, 750, 1250), (4, 3000, 5000), (40, 22500, 30000)] {
            let wait = policy.wait(failed, None).as_millis();
            assert!((low..=high).contains(&wait), "{failed}: {wait} ms");
        }
        assert_eq!(policy.wait(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(policy.wait(1, Some(Duration::from_secs(7000))), Duration::from_secs(30));
        let instant = RetryPolicy { tries: 5, first: Duration::ZERO, longest: Duration::ZERO };
        assert_eq!(instant.wait(1, Some(Duration::from_secs(7))), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // 1994-11-06 08:49:00, in the three forms that RFC 9110 names.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_740);
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let value = HeaderValue::from_str(text).unwrap();
            assert_eq!(asked(&value, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
