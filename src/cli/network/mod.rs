//! From flags, variables and configuration files to the client that talks to registries: one set of settings for pull,
//! push, bases, ADD and remote contexts.

mod files;

use super::environment::Environment;
use super::{Outcome, usage};
use crate::http::{Http, Proxies, Secret, Settings, TlsSettings};
use crate::oci::Reference;
use crate::registry::{self, Keychain, Mirror, RegistryClient, Route};
use crate::ui::{Diagnostic, Kind};
use clap::Args;
use files::Found;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a login is kept that no `config.json` takes, in the state directory.
const PRIVATE_LOGINS: &str = "login.json";

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

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.first(&[name]).map(PathBuf::from)
    }
}

/// The flags that every verb has that talks to a registry.
#[derive(Args, Clone, Default, Serialize, Deserialize)]
pub struct NetworkArgs {
    /// Trust the certificates in this file, too
    #[arg(long, value_name = "FILE")]
    registry_ca: Vec<PathBuf>,
    /// Allow plain http and unverified certificates for this registry: HOST, HOST:PORT, a network such as 10.0.0.0/8, or
    /// '*' for all
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// Ask this registry for Docker Hub's images first
    #[arg(long, value_name = "HOST[/PATH]")]
    registry_mirror: Vec<String>,
    /// Ask another registry for this one's images first
    #[arg(long, value_name = "HOST=HOST[/PATH]")]
    registry_map: Vec<String>,
    /// User and password for the registries that the command line names, or for HOST
    #[arg(long, value_name = "[HOST=]USER:PASSWORD")]
    creds: Vec<String>,
}

/// Shows no password.
impl std::fmt::Debug for NetworkArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkArgs").field("insecure_registry", &self.insecure_registry).finish_non_exhaustive()
    }
}

/// Everything that decides how registries are talked to. Not `Debug`: it holds credentials.
#[derive(Clone, Serialize, Deserialize)]
pub struct Network {
    variables: Variables,
    flags: NetworkArgs,
    hosts: Vec<(String, IpAddr)>,
    state: PathBuf,
    /// Registry, `user:password` and the flag that gave them.
    creds: Vec<(String, String, String)>,
}

/// [`NetworkArgs`], and addresses of names, for the verbs that do nothing but talk to registries.
#[derive(Args, Clone, Default, Debug)]
pub struct ReachArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Reach this host at this address
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
}

impl ReachArgs {
    /// The settings of a command that names these images.
    pub fn network(&self, environment: &Environment, state: &Path, named: &[&Reference]) -> Outcome<Network> {
        let hosts = self.add_host.iter().map(|host| super::build::add_host(host)).collect::<Outcome<Vec<_>>>()?;
        Network::new(environment, state, &self.network, named, &hosts)
    }
}

impl Network {
    /// The settings of a command whose flags are `flags`; `named` are the images that its command line names, `add_hosts`
    /// what `--add-host` says.
    pub fn new(
        environment: &Environment,
        state: &Path,
        flags: &NetworkArgs,
        named: &[&Reference],
        add_hosts: &[(String, String)],
    ) -> Outcome<Network> {
        let mut flags = flags.clone();
        flags.registry_ca.iter_mut().for_each(|path| *path = environment.absolute(&*path));
        let mut creds = Vec::new();
        for text in std::mem::take(&mut flags.creds) {
            creds
                .extend(credentials(&text, named)?.into_iter().map(|(host, pair)| (host, pair, "--creds".to_string())));
        }
        let hosts = add_hosts.iter().filter_map(|(name, ip)| Some((name.clone(), ip.parse().ok()?))).collect();
        Ok(Network { variables: environment.variables(), flags, hosts, state: state.to_path_buf(), creds })
    }

    /// What the environment and the configuration files say, without a flag.
    pub fn plain(environment: &Environment, state: &Path) -> Network {
        let (flags, hosts, creds) = (NetworkArgs::default(), Vec::new(), Vec::new());
        Network { variables: environment.variables(), flags, hosts, state: state.to_path_buf(), creds }
    }

    /// The file of logins that no `config.json` takes.
    pub fn private_logins(&self) -> PathBuf {
        self.state.join(PRIVATE_LOGINS)
    }

    /// The variables, for what looks for credentials.
    pub fn surroundings(&self) -> registry::Environment {
        registry::Environment::new(self.variables.0.clone())
    }

    /// Where credentials come from.
    pub fn keychain(&self) -> Keychain {
        let keychain = Keychain::new(self.surroundings()).with_file(self.private_logins());
        self.creds.iter().fold(keychain, |keychain, (registry, pair, source)| {
            let (user, password) = pair.split_once(':').unwrap_or((pair, ""));
            keychain.with(registry, user, Secret::new(password), source)
        })
    }

    /// With `insecure`, allows plain http and unverified certificates for the registries of `named`.
    pub fn insecure_if(mut self, insecure: bool, named: &[&Reference]) -> Network {
        if insecure {
            self.flags.insecure_registry.extend(named.iter().map(|name| name.registry().to_string()));
        }
        self
    }

    /// Uses this user and password before all others.
    pub fn log_in(&mut self, registry: &str, user: &str, password: &Secret) {
        let pair = format!("{user}:{}", password.expose());
        self.creds.push((registry.to_string(), pair, "the command line".to_string()));
    }

    /// A client with these settings.
    pub fn client(&self) -> Outcome<RegistryClient> {
        let Found { mut insecure, mut routes } = files::read(&self.variables).map_err(|error| {
            Box::new(Diagnostic::from_error(Kind::Environment, &error).hint("mend the file, or name another one"))
        })?;
        let map = self.flags.registry_map.iter().map(String::as_str).chain(self.variables.list("KANIKO_REGISTRY_MAP"));
        for text in map {
            let (from, to) = text.split_once('=').ok_or_else(|| {
                usage(format!("--registry-map '{text}': expected HOST=HOST[/PATH], as in docker.io=mirror.example.com"))
            })?;
            add_mirror(&mut routes, &registry::normalised(from), to);
        }
        let hub = crate::oci::reference::DOCKER_HUB;
        let flags = self.flags.registry_mirror.iter().map(String::as_str);
        for mirror in flags.chain(self.variables.list("KANIKO_REGISTRY_MIRROR")) {
            add_mirror(&mut routes, hub, mirror);
        }
        insecure.extend(self.flags.insecure_registry.iter().map(|host| bare(host).to_string()));
        // A mirror that is named with http:// is spoken to in http.
        let plain = routes.iter().flat_map(|route| &route.mirrors).filter_map(|m| m.location.strip_prefix("http://"));
        insecure.extend(plain.map(|rest| rest.split('/').next().unwrap_or(rest).to_string()));
        let mut tls = self.variables.tls();
        tls.extra.extend(self.flags.registry_ca.iter().cloned());
        tls.insecure.extend(insecure);
        let proxies = self.variables.proxies();
        let http = Http::new(Settings { tls, proxies, hosts: self.hosts.clone(), ..Settings::default() });
        let settings = registry::Settings { routes, ..registry::Settings::default() };
        Ok(RegistryClient::new(Arc::new(http), self.keychain(), settings))
    }
}

/// `--creds`: the registries that it is for, with `USER:PASSWORD`.
fn credentials(text: &str, named: &[&Reference]) -> Outcome<Vec<(String, String)>> {
    let wrong = || usage("--creds: expected USER:PASSWORD or HOST=USER:PASSWORD");
    // The first `=` before the first `:` that is no port's: a host name holds neither, a user may hold `=` nowhere.
    let (host, pair) = match text.split_once('=') {
        Some((host, pair)) if host.split_once(':').is_none_or(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())) => {
            (Some(host), pair)
        }
        _ => (None, text),
    };
    if !pair.contains(':') || pair.starts_with(':') {
        return Err(wrong());
    }
    match host {
        Some(host) => Ok(vec![(host.to_string(), pair.to_string())]),
        None if named.is_empty() => Err(usage("--creds: name the registry: HOST=USER:PASSWORD")),
        None => Ok(named.iter().map(|name| (name.registry().to_string(), pair.to_string())).collect()),
    }
}

/// Puts a mirror of everything under `prefix` before those that are there.
fn add_mirror(routes: &mut Vec<Route>, prefix: &str, location: &str) {
    let mirror = Mirror::new(location.trim());
    match routes.iter_mut().find(|route| route.prefix == prefix) {
        Some(route) => {
            let at = route.mirrors.iter().take_while(|mirror| mirror.given).count();
            route.mirrors.insert(at, Mirror { given: true, ..mirror });
        }
        None => {
            let mirrors = vec![Mirror { given: true, ..mirror }];
            routes.push(Route { mirrors, ..Route::new(prefix) });
        }
    }
}

/// A host as `insecure-registries` may write it, without scheme and path.
fn bare(host: &str) -> &str {
    let host = host.split_once("://").map_or(host, |(_, rest)| rest);
    // A network is `a.b.c.d/n`.
    match host.split_once('/') {
        Some((name, bits)) if !bits.bytes().all(|b| b.is_ascii_digit()) || bits.is_empty() => name,
        _ => host,
    }
}

impl Variables {
    /// The parts of a list, separated by `;` or `,`.
    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let text = self.first(&[name]).unwrap_or_default();
        text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty())
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

    /// The files of authorities that the client trusts, one after the other.
    pub fn authorities(&self) -> Outcome<Vec<u8>> {
        let tls = self.tls();
        let mut all = Vec::new();
        for file in tls.bundles.iter().find(|file| file.is_file()).into_iter().chain(&tls.extra) {
            let failed = |error| Box::new(Diagnostic::from_error(Kind::Environment, &error));
            all.extend(fs_err::read(file).map_err(failed)?);
            all.push(b'\n');
        }
        if all.is_empty() {
            return Err(usage("--inject-ca: this machine has no file of certificates; name one by SSL_CERT_FILE"));
        }
        Ok(all)
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
mod tests;
