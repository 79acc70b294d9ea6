//! What CI systems put into a job's environment.

use super::{Credential, Environment, Identity};
use crate::http::Secret;

/// The credential of the job itself for `registry`, if the CI gives one.
pub(super) fn lookup(environment: &Environment, registry: &str) -> Option<Credential> {
    let password = |user: &str, password: &str, source: String| Credential {
        identity: Identity::Password { user: user.into(), password: Secret::new(password) },
        source,
    };
    let pair = |user: &str, secret: &str| {
        let (name, word) = (environment.get(user)?, environment.get(secret)?);
        Some(password(name, word, format!("{user} and {secret}")))
    };
    if environment.get("CI_REGISTRY") == Some(registry) {
        let job = || environment.get("CI_JOB_TOKEN").map(|t| password("gitlab-ci-token", t, "CI_JOB_TOKEN".into()));
        if let Some(found) = pair("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD").or_else(job) {
            return Some(found);
        }
    }
    if environment.get("CI_DEPENDENCY_PROXY_SERVER").map(|server| with_port(server, registry)) == Some(true) {
        return pair("CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD");
    }
    if registry == "ghcr.io"
        && let Some(token) = environment.get("GITHUB_TOKEN")
    {
        let user = environment.get("GITHUB_ACTOR").unwrap_or("x-access-token");
        return Some(password(user, token, "GITHUB_TOKEN".into()));
    }
    let host: String = registry.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let host = host.to_ascii_uppercase();
    pair(&format!("KANIKO_{host}_USER"), &format!("KANIKO_{host}_PASSWORD"))
}

/// GitLab writes `host:443` where a reference says `host`.
fn with_port(server: &str, registry: &str) -> bool {
    server == registry || server.strip_suffix(":443") == Some(registry) || registry.strip_suffix(":443") == Some(server)
}
