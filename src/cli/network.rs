//! From the environment's variables to the client that talks to registries: proxies, trust, credentials.

use crate::http::{Http, Proxies, Settings, TlsSettings};
use crate::registry::{self, Keychain, RegistryClient};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The variables of the process that the user started, for the one that works. Not `Debug`: they hold credentials.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// From names and values.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Variables {
        Variables(variables.into_iter().collect())
    }

    /// The first of `names` that is set and not empty.
    fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().filter_map(|name| self.0.get(*name)).map(String::as_str).find(|value| !value.is_empty())
    }

    /// A client with these settings.
    pub fn client(&self) -> RegistryClient {
        let http = Http::new(Settings { tls: self.tls(), proxies: self.proxies(), ..Settings::default() });
        let keychain = Keychain::new(registry::Environment::new(self.0.clone()));
        RegistryClient::new(Arc::new(http), keychain, registry::Settings::default())
    }

    /// The variables that curl and Go programs read, in either case.
    fn proxies(&self) -> Proxies {
        let own = |names: &[&str]| self.first(names).map(str::to_string);
        Proxies {
            http: own(&["HTTP_PROXY", "http_proxy"]),
            https: own(&["HTTPS_PROXY", "https_proxy"]),
            all: own(&["ALL_PROXY", "all_proxy"]),
            no_proxy: own(&["NO_PROXY", "no_proxy"]).unwrap_or_default(),
        }
    }

    fn tls(&self) -> TlsSettings {
        let mut tls = TlsSettings::default();
        if let Some(bundle) = self.first(&["SSL_CERT_FILE"]) {
            tls.bundles = vec![PathBuf::from(bundle)];
        }
        if let Some(directories) = self.first(&["SSL_CERT_DIR"]) {
            tls.directories = directories.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect();
        }
        // GitLab's own certificate; the variable is set in containers that do not have the file, too.
        let gitlab = self.first(&["CI_SERVER_TLS_CA_FILE"]).map(PathBuf::from);
        tls.extra.extend(gitlab.filter(|file| file.is_file()));
        tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(vars: &[(&str, &str)]) -> Variables {
        Variables::new(vars.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn proxies_come_in_either_case() {
        let vars =
            variables(&[("http_proxy", "http://a"), ("HTTPS_PROXY", ""), ("https_proxy", "b"), ("NO_PROXY", "c,d")]);
        let proxies = vars.proxies();
        assert_eq!((proxies.http.as_deref(), proxies.https.as_deref()), (Some("http://a"), Some("b")));
        assert_eq!((proxies.all, proxies.no_proxy.as_str()), (None, "c,d"));
    }

    #[test]
    fn trust_comes_from_the_usual_variables() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        let file = temp.path().to_str().unwrap();
        let vars = [("SSL_CERT_FILE", "/bundle"), ("SSL_CERT_DIR", "/a::/b"), ("CI_SERVER_TLS_CA_FILE", file)];
        let tls = variables(&vars).tls();
        assert_eq!(tls.bundles, [PathBuf::from("/bundle")]);
        assert_eq!(tls.directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(tls.extra, [PathBuf::from(file)]);
        let missing = variables(&[("CI_SERVER_TLS_CA_FILE", "/nowhere/ca.crt")]).tls();
        assert!(missing.extra.is_empty());
        assert_eq!(missing.bundles, TlsSettings::default().bundles);
    }
}
