//! ECR: keys from the environment, a web identity (IRSA), the container's endpoint (ECS, EKS pod identity) or the
//! instance's role, in this order; then `GetAuthorizationToken`.
//!
//! Spec: docs.aws.amazon.com, AWS SDKs and Tools Reference Guide ("Standardized credential providers"); API references of
//! ECR, ECR Public and STS; EC2 User Guide, "Instance metadata" (IMDSv2).

use super::signature::{Keys, Signed};
use super::{CloudError, Grant, Inquiry, form, get, set, url};
use crate::http::{Body, Http, Method, Request, Secret, authority};
use crate::registry::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::time::{Duration, SystemTime};

/// Where the instance's metadata are.
const METADATA: &str = "http://169.254.169.254";
/// Where a task's credentials are, of which a variable gives the path only.
const TASK: &str = "http://169.254.170.2";
/// How long a session on the metadata server lasts, in seconds.
const SESSION: &str = "300";
/// ECR's tokens live twelve hours; half of that is enough for any build.
const LIVES: Duration = Duration::from_secs(6 * 3600);

/// Where an ECR registry is.
pub(super) struct Home {
    region: String,
    /// The API's address.
    endpoint: String,
    public: bool,
}

impl Home {
    /// A region that is no registry's.
    pub(super) fn elsewhere(region: &str) -> Home {
        Home { region: region.to_string(), endpoint: String::new(), public: false }
    }

    /// `ACCOUNT.dkr.ecr[-fips].REGION.amazonaws.com[.cn]`, `ACCOUNT.dkr-ecr[-fips].REGION.on.aws` or `public.ecr.aws`.
    pub(super) fn of(host: &str) -> Option<Home> {
        if host == "public.ecr.aws" {
            let endpoint = "https://api.ecr-public.us-east-1.amazonaws.com".to_string();
            return Some(Home { region: "us-east-1".into(), endpoint, public: true });
        }
        let (account, rest) = host.split_once('.')?;
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let parts: Vec<&str> = rest.split('.').collect();
        let (region, endpoint) = match parts[..] {
            ["dkr", "ecr", region, "amazonaws", "com"] => (region, format!("api.ecr.{region}.amazonaws.com")),
            ["dkr", "ecr", region, "amazonaws", "com", "cn"] => (region, format!("api.ecr.{region}.amazonaws.com.cn")),
            ["dkr", "ecr-fips", region, "amazonaws", "com"] => (region, format!("ecr-fips.{region}.amazonaws.com")),
            ["dkr-ecr", region, "on", "aws"] => (region, format!("ecr.{region}.api.aws")),
            ["dkr-ecr-fips", region, "on", "aws"] => (region, format!("ecr-fips.{region}.api.aws")),
            _ => return None,
        };
        Some(Home { region: region.to_string(), endpoint: format!("https://{endpoint}"), public: false })
    }
}

/// Keys as the container's endpoint and the metadata server give them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeysAnswer {
    access_key_id: String,
    secret_access_key: Secret,
    token: Option<Secret>,
}

impl From<KeysAnswer> for Keys {
    fn from(answer: KeysAnswer) -> Keys {
        Keys { id: answer.access_key_id, secret: answer.secret_access_key, session: answer.token }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenAnswer {
    authorization_data: OneOrMany,
}

/// ECR gives a list, ECR Public one.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Authorization>),
    One(Authorization),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: Secret,
}

impl Inquiry<'_> {
    pub(super) fn aws(&self, home: &Home) -> Result<Grant, CloudError> {
        let (keys, origin) = self.keys(home)?;
        let (service, target, variable) = match home.public {
            true => ("ecr-public", "SpencerFrontendService.GetAuthorizationToken", "AWS_ENDPOINT_URL_ECR_PUBLIC"),
            false => ("ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "AWS_ENDPOINT_URL_ECR"),
        };
        let url = url(self.endpoint(variable).unwrap_or(&home.endpoint))?;
        let host = authority(&url);
        let date = date();
        let body = b"{}";
        let mut headers = vec![("content-type", "application/x-amz-json-1.1"), ("host", &host), ("x-amz-date", &date)];
        headers.extend(keys.session.as_ref().map(|token| ("x-amz-security-token", token.expose())));
        headers.push(("x-amz-target", target));
        let path = url.path().to_string();
        let (method, region) = ("POST", home.region.as_str());
        let signed = Signed { method, path: &path, region, service, date: &date, headers: &headers, body };
        let authorization = signed.authorization(&keys);
        let mut request = Request::new(Method::POST, url);
        // The host is the connection's own.
        headers.retain(|(name, _)| *name != "host");
        headers.push(("authorization", &authorization));
        set(&mut request, &headers)?;
        request.body = Body::Bytes(body.as_slice().into());
        let answer: TokenAnswer = self.json(self.http, &request, "ECR's GetAuthorizationToken")?;
        let token = match answer.authorization_data {
            OneOrMany::One(one) => Some(one),
            OneOrMany::Many(many) => many.into_iter().next(),
        };
        let pair = token.and_then(|token| STANDARD.decode(token.authorization_token.expose()).ok());
        let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok());
        let wrong = || CloudError::Form("ECR's GetAuthorizationToken gave no token".into());
        let (user, password) = pair.as_ref().and_then(|pair| pair.split_once(':')).ok_or_else(wrong)?;
        let identity = Identity::Password { user: user.into(), password: Secret::new(password) };
        Ok(Grant { identity, source: format!("AWS ({origin})"), lives: LIVES })
    }

    /// An address that stands for AWS's own.
    fn endpoint(&self, variable: &str) -> Option<&str> {
        self.environment.get(variable).or_else(|| self.environment.get("AWS_ENDPOINT_URL"))
    }

    pub(super) fn keys(&self, home: &Home) -> Result<(Keys, String), CloudError> {
        let env = self.environment;
        if let (Some(id), Some(secret)) = (env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")) {
            let session = env.get("AWS_SESSION_TOKEN").map(Secret::new);
            return Ok((Keys { id: id.into(), secret: Secret::new(secret), session }, "AWS_ACCESS_KEY_ID".into()));
        }
        if let (Some(file), Some(role)) = (env.path("AWS_WEB_IDENTITY_TOKEN_FILE"), env.get("AWS_ROLE_ARN")) {
            let token = self.file(file, "the file of AWS_WEB_IDENTITY_TOKEN_FILE")?;
            return Ok((self.assume(home, role, token.trim())?, format!("web identity, role {role}")));
        }
        let relative = env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{TASK}{path}"));
        if let Some(place) = relative.or_else(|| env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(String::from)) {
            return Ok((self.container(&place)?, "the container's role".into()));
        }
        let disabled = env.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if disabled || home.public {
            return Err(CloudError::Nothing("no keys in the environment and no web identity"));
        }
        self.instance().map(|keys| (keys, "the instance's role".into()))
    }

    /// Trades a web identity for keys. The request is not signed: the token is what counts.
    fn assume(&self, home: &Home, role: &str, token: &str) -> Result<Keys, CloudError> {
        let env = self.environment;
        let region = env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION")).unwrap_or(&home.region);
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let own = format!("https://sts.{region}.{suffix}/");
        let pairs = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", env.get("AWS_ROLE_SESSION_NAME").unwrap_or("dockless")),
            ("WebIdentityToken", token),
        ];
        let request = form(url(self.endpoint("AWS_ENDPOINT_URL_STS").unwrap_or(&own))?, &pairs);
        let answer = self.send(self.http, &request, "STS's AssumeRoleWithWebIdentity")?;
        let answer = String::from_utf8_lossy(&answer);
        // The answer is XML; keys and tokens are base64, which needs no escapes.
        let field = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>")).map(|(value, _)| value.trim().to_string())
        };
        match (field("AccessKeyId"), field("SecretAccessKey"), field("SessionToken")) {
            (Some(id), Some(secret), session) => {
                Ok(Keys { id, secret: Secret::new(secret), session: session.map(Secret::new) })
            }
            _ => Err(CloudError::Form("STS's AssumeRoleWithWebIdentity gave no keys".into())),
        }
    }

    /// Keys of a task or pod.
    fn container(&self, place: &str) -> Result<Keys, CloudError> {
        let what = "the container's credentials";
        let token = match self.environment.path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(self.file(file, what)?),
            None => self.environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(String::from),
        };
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        let answer: KeysAnswer = self.json(&self.nearby, &get(url(place)?, &headers)?, what)?;
        Ok(answer.into())
    }

    /// Keys of the machine's role, by IMDSv2.
    fn instance(&self) -> Result<Keys, CloudError> {
        let base = self.environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(METADATA);
        let base = base.trim_end_matches('/');
        let what = "nothing in the environment, and the instance's metadata cannot be had";
        let ask = |http: &Http, request: &Request<'_>| {
            self.send(http, request, what).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string())
        };
        let mut session = Request::new(Method::PUT, url(&format!("{base}/latest/api/token"))?);
        set(&mut session, &[("x-aws-ec2-metadata-token-ttl-seconds", SESSION)])?;
        let token = ask(&self.nearby, &session)?;
        let shown = [("x-aws-ec2-metadata-token", token.as_str())];
        let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
        let role = ask(&self.nearby, &get(url(&roles)?, &shown)?)?;
        let role = role.lines().next().ok_or(CloudError::Nothing("the instance has no role"))?.trim();
        let answer: KeysAnswer = self.json(&self.nearby, &get(url(&format!("{roles}{role}"))?, &shown)?, what)?;
        Ok(answer.into())
    }
}

/// Now, as signatures want it.
pub(super) fn date() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::Home;

    #[test]
    fn which_hosts_are_ecr() {
        for (host, region, endpoint) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", "https://api.ecr.eu-west-1.amazonaws.com"),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
                "https://api.ecr.cn-north-1.amazonaws.com.cn",
            ),
            (
                "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com",
                "us-east-1",
                "https://ecr-fips.us-east-1.amazonaws.com",
            ),
            ("123456789012.dkr-ecr.us-east-1.on.aws", "us-east-1", "https://ecr.us-east-1.api.aws"),
            ("public.ecr.aws", "us-east-1", "https://api.ecr-public.us-east-1.amazonaws.com"),
        ] {
            let home = Home::of(host).unwrap();
            assert_eq!((home.region.as_str(), home.endpoint.as_str()), (region, endpoint), "{host}");
        }
        for host in ["dkr.ecr.eu-west-1.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.io", "r.io"]
        {
            assert!(Home::of(host).is_none(), "{host}");
        }
    }
}
