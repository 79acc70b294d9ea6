//! Artifact Registry and gcr.io: an access token, shown as the password of `oauth2accesstoken`. It comes from the file that
//! `GOOGLE_APPLICATION_CREDENTIALS` names (a service account's key, a user's credentials, or a workload identity with a
//! token in a file), else from the metadata server.
//!
//! Spec: cloud.google.com, "Using OAuth 2.0 for Server to Server Applications", google.aip.dev/auth (4112, 4115, 4117),
//! "VM metadata"; artifact-registry docs, "Authentication methods".

use super::{CloudError, Grant, Inquiry, Token, form, get, set, url};
use crate::http::{Body, Method, Request, Secret};
use crate::registry::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, SystemTime};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The user name that says that the password is an access token.
const USER: &str = "oauth2accesstoken";
const METADATA: &str = "metadata.google.internal";

/// The file of `GOOGLE_APPLICATION_CREDENTIALS`.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KeyFile {
    ServiceAccount {
        client_email: String,
        private_key: Secret,
        token_uri: String,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: Secret,
        refresh_token: Secret,
        token_uri: Option<String>,
    },
    ExternalAccount {
        audience: String,
        subject_token_type: String,
        token_url: String,
        service_account_impersonation_url: Option<String>,
        credential_source: Source,
    },
}

/// Where the token of a workload identity is.
#[derive(Deserialize)]
struct Source {
    file: Option<std::path::PathBuf>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: Secret,
}

impl Inquiry<'_> {
    pub(super) fn google(&self) -> Result<Grant, CloudError> {
        let (token, source) = match self.environment.path("GOOGLE_APPLICATION_CREDENTIALS") {
            Some(path) => {
                let source = format!("GOOGLE_APPLICATION_CREDENTIALS ({})", path.display());
                let text = self.file(path, "the file of GOOGLE_APPLICATION_CREDENTIALS")?;
                let wrong =
                    |_| CloudError::Form("the file of GOOGLE_APPLICATION_CREDENTIALS is of an unknown form".into());
                (self.account_token(serde_json::from_str(&text).map_err(wrong)?)?, source)
            }
            None => (self.metadata_token()?, "Google's metadata server".to_string()),
        };
        let lives = token.lives();
        let identity = Identity::Password { user: USER.into(), password: token.access_token };
        Ok(Grant { identity, source, lives })
    }

    fn account_token(&self, account: KeyFile) -> Result<Token, CloudError> {
        let what = "Google's token server";
        match account {
            KeyFile::ServiceAccount { client_email, private_key, token_uri } => {
                let assertion = assertion(&client_email, &private_key, &token_uri)?;
                let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                let pairs = [("grant_type", kind), ("assertion", &assertion)];
                self.json(self.http, &form(url(&token_uri)?, &pairs), what)
            }
            KeyFile::AuthorizedUser { client_id, client_secret, refresh_token, token_uri } => {
                let place = token_uri.unwrap_or_else(|| "https://oauth2.googleapis.com/token".into());
                let pairs = [
                    ("grant_type", "refresh_token"),
                    ("client_id", &client_id),
                    ("client_secret", client_secret.expose()),
                    ("refresh_token", refresh_token.expose()),
                ];
                self.json(self.http, &form(url(&place)?, &pairs), what)
            }
            KeyFile::ExternalAccount {
                audience,
                subject_token_type,
                token_url,
                service_account_impersonation_url,
                credential_source,
            } => {
                let subject = self.subject(credential_source)?;
                let pairs = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("audience", &audience),
                    ("scope", SCOPE),
                    ("subject_token_type", &subject_token_type),
                    ("subject_token", subject.expose()),
                ];
                let token: Token = self.json(self.http, &form(url(&token_url)?, &pairs), what)?;
                match service_account_impersonation_url {
                    Some(place) => self.impersonate(&place, &token),
                    None => Ok(token),
                }
            }
        }
    }

    /// The token that a workload identity begins with.
    fn subject(&self, source: Source) -> Result<Secret, CloudError> {
        let file = source.file.ok_or(CloudError::Nothing("a workload identity is read from a file only"))?;
        let text = self.file(file, "the token of the workload identity")?;
        let field = match source.format {
            Some(Format { kind, subject_token_field_name }) if kind == "json" => subject_token_field_name,
            _ => return Ok(Secret::new(text.trim())),
        };
        let value: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let token = value.and_then(|value| value.get(field.unwrap_or_default())?.as_str().map(Secret::new));
        token.ok_or_else(|| CloudError::Form("the token of the workload identity is not in its file".into()))
    }

    /// Trades a workload's token for a service account's.
    fn impersonate(&self, place: &str, token: &Token) -> Result<Token, CloudError> {
        let mut request = Request::new(Method::POST, url(place)?);
        let shown = format!("Bearer {}", token.access_token.expose());
        set(&mut request, &[("authorization", &shown), ("content-type", "application/json")])?;
        request.body = Body::Bytes(json!({ "scope": [SCOPE] }).to_string().into());
        let answer: Impersonated = self.json(self.http, &request, "the service account to impersonate")?;
        Ok(Token { access_token: answer.access_token, expires_in: None })
    }

    fn metadata_token(&self) -> Result<Token, CloudError> {
        let named = self.environment.get("GCE_METADATA_HOST");
        // gcr.io is full of public images: outside of Google's machines nobody waits for a name that is not there.
        let host = self.registry.split(':').next().unwrap_or_default();
        if named.is_none() && host.ends_with("gcr.io") && !on_google() {
            return Err(CloudError::Nothing(
                "GOOGLE_APPLICATION_CREDENTIALS is not set, and this is no machine of Google's",
            ));
        }
        let host = named.unwrap_or(METADATA);
        let place = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        let request = get(url(&place)?, &[("metadata-flavor", "Google")])?;
        self.json(
            &self.nearby,
            &request,
            "GOOGLE_APPLICATION_CREDENTIALS is not set, and the metadata server gives no token",
        )
    }
}

/// As Google's own libraries find out.
fn on_google() -> bool {
    let name = fs_err::read_to_string(Path::new("/sys/class/dmi/id/product_name")).unwrap_or_default();
    name.trim_start().starts_with("Google")
}

/// A JWT of the service account, signed with RS256 (RFC 7519, RFC 7515).
fn assertion(email: &str, key: &Secret, audience: &str) -> Result<String, CloudError> {
    let wrong = || CloudError::Form("the private key of the service account cannot be used".into());
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| wrong())?;
    let key = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(wrong()),
    };
    let key = key.map_err(|_| wrong())?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let claims = json!({ "iss": email, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + 3600 });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).map_err(|_| wrong())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
