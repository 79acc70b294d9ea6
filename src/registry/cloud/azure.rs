//! ACR: a client's secret or a workload identity, traded for an Entra token, and that for the registry's refresh token.
//!
//! Spec: learn.microsoft.com, "Microsoft identity platform and the OAuth 2.0 client credentials flow", "Microsoft Entra
//! Workload ID"; github.com/Azure/acr, docs/AAD-OAuth.md.

use super::{CloudError, Grant, Inquiry, Token, form, url};
use crate::http::Secret;
use crate::registry::Identity;
use serde::Deserialize;

/// The audience that ACR always takes.
const SCOPE: &str = "https://containerregistry.azure.net/.default";
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// The kind of assertion that a federated token is (RFC 7523).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: Secret,
}

impl Inquiry<'_> {
    pub(super) fn azure(&self) -> Result<Grant, CloudError> {
        let env = self.environment;
        let nothing = CloudError::Nothing("AZURE_CLIENT_ID and AZURE_TENANT_ID are not set");
        let (Some(client), Some(tenant)) = (env.get("AZURE_CLIENT_ID"), env.get("AZURE_TENANT_ID")) else {
            return Err(nothing);
        };
        let mut pairs = vec![("grant_type", "client_credentials"), ("client_id", client), ("scope", SCOPE)];
        let federated;
        let source = if let Some(secret) = env.get("AZURE_CLIENT_SECRET") {
            pairs.push(("client_secret", secret));
            format!("Azure (AZURE_CLIENT_SECRET of client {client})")
        } else if let Some(file) = env.path("AZURE_FEDERATED_TOKEN_FILE") {
            federated = self.file(file, "the file of AZURE_FEDERATED_TOKEN_FILE")?;
            pairs.extend([("client_assertion_type", ASSERTION), ("client_assertion", federated.trim())]);
            format!("Azure (workload identity, client {client})")
        } else {
            return Err(CloudError::Nothing("neither AZURE_CLIENT_SECRET nor AZURE_FEDERATED_TOKEN_FILE is set"));
        };
        let authority = env.get("AZURE_AUTHORITY_HOST").unwrap_or(AUTHORITY).trim_end_matches('/');
        let place = url(&format!("{authority}/{tenant}/oauth2/v2.0/token"))?;
        let token: Token = self.json(self.http, &form(place, &pairs), "Entra's token server")?;

        let insecure = self.http.settings().tls.is_insecure(self.registry);
        let schemes: &[&str] = if insecure { &["https", "http"] } else { &["https"] };
        let pairs = [
            ("grant_type", "access_token"),
            ("service", self.registry),
            ("tenant", tenant),
            ("access_token", token.access_token.expose()),
        ];
        let mut failed = nothing;
        for scheme in schemes {
            let request = form(url(&format!("{scheme}://{}/oauth2/exchange", self.registry))?, &pairs);
            match self.json::<Exchanged>(self.http, &request, "the registry's token exchange") {
                Ok(Exchanged { refresh_token }) => {
                    let lives = token.lives();
                    return Ok(Grant { identity: Identity::RefreshToken(refresh_token), source, lives });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}
