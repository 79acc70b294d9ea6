//! Files in a cloud's object store: S3 and Google Cloud Storage, read with the credentials that registries of these clouds
//! are shown. One GET each, over the client that everything else goes through: its proxies, certificates and retries hold
//! here too, and no cloud's own software is needed for it.
//!
//! Spec: docs.aws.amazon.com, S3 API "GetObject" and "Authenticating Requests (AWS Signature Version 4)";
//! cloud.google.com, "XML API: GET Object".

use super::aws::{self, Home};
use super::signature::Signed;
use super::{CloudError, Inquiry, nearby, set, told, url};
use crate::http::{Http, HttpError, Method, Request, authority};
use crate::oci::Digest;
use crate::registry::{Environment, Identity};
use std::io::{self, Seek, Write};

/// What kaniko looks for where only a bucket is named.
const USUAL_NAME: &str = "context.tar.gz";

/// Why an object could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// An address that is none.
    #[error("'{0}' names no object: expected s3://BUCKET/KEY or gs://BUCKET/KEY")]
    Address(String),
    /// There are no credentials, and without any the object is not shown.
    #[error("cannot fetch {object}: {why}")]
    Credentials {
        /// The object.
        object: String,
        /// What was looked at.
        why: String,
    },
    /// The request failed.
    #[error("cannot fetch {object}")]
    Http {
        /// The object.
        object: String,
        /// Why.
        #[source]
        cause: HttpError,
    },
    /// The bytes could not be kept.
    #[error("cannot keep {object}")]
    Write {
        /// The object.
        object: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Fetches the object at `address`, `s3://…` or `gs://…`, into the file `to`.
pub fn fetch_object<W: Write + Seek>(
    http: &Http,
    environment: &Environment,
    address: &str,
    to: &mut W,
) -> Result<(), ObjectError> {
    let wrong = || ObjectError::Address(address.to_string());
    let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(wrong());
    }
    let key = if key.is_empty() { USUAL_NAME } else { key };
    let inquiry = Inquiry { http, nearby: nearby(http), environment, registry: "storage" };
    let request = match scheme {
        "s3" => inquiry.s3(bucket, key),
        "gs" => inquiry.google_storage(bucket, key),
        _ => return Err(wrong()),
    };
    let object = || address.to_string();
    let request = request.map_err(|error| ObjectError::Credentials { object: object(), why: told(&error) })?;
    let failed = |cause| ObjectError::Http { object: object(), cause };
    let kept = |cause| ObjectError::Write { object: object(), cause };
    // A download that breaks off begins again; a write that fails is final.
    let mut unkept = None;
    let once = || {
        let mut body = http.send_ok(&request, &[])?.into_reader();
        unkept = to.rewind().err();
        while let Some(chunk) = body.read_chunk()? {
            if unkept.is_none() {
                unkept = to.write_all(&chunk).err();
            }
        }
        Ok(())
    };
    http.settings().retry.run(once).map_err(failed)?;
    unkept.map_or(Ok(()), |cause| Err(kept(cause)))?;
    to.rewind().map_err(kept)
}

impl Inquiry<'_> {
    fn s3(&self, bucket: &str, key: &str) -> Result<Request<'static>, CloudError> {
        let env = self.environment;
        let region = env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION")).unwrap_or("us-east-1").to_string();
        let endpoint = ["S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| env.get(name));
        let by_path = env.get("S3_FORCE_PATH_STYLE").is_some_and(|value| value == "true");
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let key = encoded(key);
        let place = match endpoint {
            Some(endpoint) => format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/')),
            // A dot in the name does not fit the certificate of `*.s3.…`.
            None if by_path || bucket.contains('.') => format!("https://s3.{region}.{suffix}/{bucket}/{key}"),
            None => format!("https://{bucket}.s3.{region}.{suffix}/{key}"),
        };
        let url = url(&place)?;
        let home = Home::elsewhere(&region);
        let (keys, _) = self.keys(&home)?;
        let (host, date, empty) = (authority(&url), aws::date(), Digest::sha256(""));
        let mut headers = vec![("host", host.as_str()), ("x-amz-content-sha256", empty.hex()), ("x-amz-date", &date)];
        headers.extend(keys.session.as_ref().map(|token| ("x-amz-security-token", token.expose())));
        let path = url.path().to_string();
        let signed = Signed {
            method: "GET",
            path: &path,
            region: &region,
            service: "s3",
            date: &date,
            headers: &headers,
            body: b"",
        };
        let authorization = signed.authorization(&keys);
        let mut request = Request::new(Method::GET, url);
        // The host is the connection's own.
        headers.retain(|(name, _)| *name != "host");
        headers.push(("authorization", &authorization));
        set(&mut request, &headers)?;
        Ok(request)
    }

    fn google_storage(&self, bucket: &str, key: &str) -> Result<Request<'static>, CloudError> {
        let emulator = self.environment.get("STORAGE_EMULATOR_HOST");
        let base = match emulator {
            Some(host) if host.contains("://") => host.to_string(),
            Some(host) => format!("http://{host}"),
            None => "https://storage.googleapis.com".to_string(),
        };
        let place = format!("{}/{bucket}/{}", base.trim_end_matches('/'), encoded(key));
        let mut request = Request::new(Method::GET, url(&place)?);
        match self.google() {
            Ok(grant) => {
                if let Identity::Password { password, .. } = grant.identity {
                    set(&mut request, &[("authorization", &format!("Bearer {}", password.expose()))])?;
                }
            }
            // An emulator asks nobody who they are.
            Err(_) if emulator.is_some() => {}
            Err(error) => return Err(error),
        }
        Ok(request)
    }
}

/// A key as a path: everything but unreserved characters and `/` in percents (RFC 3986), as S3's signatures want it.
fn encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    key.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn keys_are_paths() {
        assert_eq!(encoded("a b/c+d~e.tar"), "a%20b/c%2Bd~e.tar");
        assert_eq!(encoded("é"), "%C3%A9");
    }
}
