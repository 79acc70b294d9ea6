//! The flags about what RUN steps are given: secrets, agents, limits, entitlements, proxies.

use crate::build::{Entitlement, StepOptions};
use crate::cli::environment::Environment;
use crate::cli::{Outcome, usage};
use crate::sandbox::{Limit, Resource};
use crate::secret::SecretBytes;
use crate::ui::{Diagnostic, Kind};
use clap::Args;
use fs_err as fs;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

/// As much as BuildKit takes.
const MAX_SECRET: u64 = 500 << 10;

/// Largest `config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;

#[derive(Args, Debug)]
pub(super) struct StepArgs {
    /// A secret for RUN --mount=type=secret: id=ID with src=FILE or env=VARIABLE
    #[arg(long, value_name = "SPEC")]
    secret: Vec<String>,
    /// An SSH agent for RUN --mount=type=ssh: default, or ID=SOCKET
    #[arg(long, value_name = "ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Allow what RUN may not do by itself: network.host
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
    /// Show RUN steps the certificates of authorities that dockless itself trusts
    #[arg(long)]
    inject_ca: bool,
    /// Size of /dev/shm in RUN steps, such as 128m [default: 64m]
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// A limit for RUN steps, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
}

impl StepArgs {
    /// What RUN steps are given, and warnings. Reads the secrets.
    pub(super) fn options(
        &self,
        network: Option<&str>,
        environment: &Environment,
    ) -> Outcome<(StepOptions, Vec<String>)> {
        let (mut secrets, mut ssh, mut warnings) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for text in &self.secret {
            let (id, value, warning) = secret(text, environment)?;
            secrets.insert(id, value);
            warnings.extend(warning);
        }
        for text in &self.ssh {
            let (id, socket) = agent(text, environment)?;
            ssh.insert(id, socket);
        }
        let mut allowed = self.allow.iter().map(|text| entitlement(text)).collect::<Outcome<Vec<_>>>()?;
        if network == Some("host") {
            // Who gives the network of the machine to every step gives it to those that ask for it.
            allowed.push(Entitlement::NetworkHost);
        }
        let mut limits: Vec<Limit> = Vec::new();
        for text in &self.ulimit {
            let limit = ulimit(text)?;
            limits.retain(|known| known.resource != limit.resource);
            limits.push(limit);
        }
        let shm_size = self.shm_size.as_deref().map(shm_size).transpose()?.filter(|bytes| *bytes > 0);
        let authorities = if self.inject_ca { Some(environment.variables().authorities()?) } else { None };
        Ok((StepOptions { shm_size, limits, allowed, secrets, authorities, ssh }, warnings))
    }
}

/// One `--secret`: id, value, warning.
fn secret(text: &str, environment: &Environment) -> Outcome<(String, SecretBytes, Option<String>)> {
    let wrong = |why: &str| usage(format!("--secret '{text}': {why}"));
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').ok_or_else(|| wrong("expected id=ID with src=FILE or env=VARIABLE"))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value.to_string()),
            "src" | "source" => file = Some(value.to_string()),
            "env" => variable = Some(value.to_string()),
            "type" => kind = Some(value.to_string()),
            _ => return Err(wrong(&format!("unexpected key '{key}': expected id, src, env or type"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("it has no id"))?;
    match kind.as_deref() {
        None | Some("file") => {}
        // With `type=env` the source is a variable's name.
        Some("env") => variable = variable.or_else(|| file.take()),
        Some(_) => return Err(wrong("expected type=file or type=env")),
    }
    if variable.is_none() && file.is_none() {
        // By the id alone: the variable of that name, else the file, as with Docker.
        if environment.variable(&id).is_some() { variable = Some(id.clone()) } else { file = Some(id.clone()) }
    }
    match (variable, file) {
        (Some(name), _) => {
            let value = environment.variable(&name);
            let unset = format!("--secret id={id}: the variable {name} is not set: the secret is empty");
            let warning = value.is_none().then_some(unset);
            Ok((id, SecretBytes::new(value.map(OsStrExt::as_bytes).unwrap_or_default()), warning))
        }
        (None, file) => {
            let path = environment.absolute(file.unwrap_or_default());
            let mut content = Vec::new();
            let read = fs::File::open(&path).and_then(|file| file.take(MAX_SECRET + 1).read_to_end(&mut content));
            let failed = |error: std::io::Error| {
                let mut diagnostic = Diagnostic::new(Kind::Usage, format!("--secret id={id}: its file cannot be read"));
                diagnostic.causes.push(error.to_string());
                Box::new(diagnostic)
            };
            read.map_err(failed)?;
            if content.len() as u64 > MAX_SECRET {
                return Err(wrong("the file is larger than the 500 KiB that a secret may have"));
            }
            Ok((id, SecretBytes::new(content), None))
        }
    }
}

/// One `--ssh`: id and the agent's socket.
fn agent(text: &str, environment: &Environment) -> Outcome<(String, PathBuf)> {
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    let wrong = |why: &str| usage(format!("--ssh '{text}': {why}"));
    if id.is_empty() {
        return Err(wrong("expected ID or ID=SOCKET"));
    }
    let path = match path {
        "" => environment.get("SSH_AUTH_SOCK").map(PathBuf::from),
        path => Some(PathBuf::from(path)),
    };
    let path = path.ok_or_else(|| wrong("no agent: make sure that SSH_AUTH_SOCK is set"))?;
    let path = environment.absolute(path);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok((id.to_string(), path)),
        Ok(_) => Err(wrong("it is no socket: key files are not read, give them to an ssh-agent")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

fn entitlement(text: &str) -> Outcome<Entitlement> {
    match text {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        _ => Err(usage(format!("--allow {text}: unknown entitlement: expected network.host or security.insecure"))),
    }
}

/// `nofile=1024:2048`: soft and hard limit, the soft one for both; -1 is no limit.
pub(in crate::cli) fn ulimit(text: &str) -> Outcome<Limit> {
    let wrong = || usage(format!("--ulimit '{text}': expected NAME=SOFT[:HARD]"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let resource = Resource::from_name(name)
        .ok_or_else(|| usage(format!("--ulimit '{text}': there is no limit called '{name}'")))?;
    let number = |text: &str| match text {
        "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_| wrong()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard.is_some_and(|hard: u64| soft.is_none_or(|soft| soft > hard)) {
        return Err(usage(format!("--ulimit '{text}': the soft limit is above the hard one")));
    }
    Ok(Limit { resource, soft, hard })
}

pub(in crate::cli) fn shm_size(text: &str) -> Outcome<u64> {
    size(&format!("--shm-size={text}"), text)
}

/// `128m`, as Docker's units: bytes, or with b, k, m, g, t (also kb, kib), powers of 1024. `said` is what the user wrote.
pub fn size(said: &str, text: &str) -> Outcome<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = lower[digits.len()..].trim();
    let power = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => u32::MAX,
    };
    let number: Option<f64> = digits.parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite());
    match number {
        Some(number) if power < 5 => Ok((number * 1024f64.powi(power as i32)) as u64),
        _ => Err(usage(format!("{said}: expected a size such as 128m"))),
    }
}

/// The part of Docker's `config.json` about proxies. Not `Debug`: their addresses may hold credentials.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    proxies: BTreeMap<String, Proxies>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Proxies {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

/// Build arguments that `proxies` of Docker's `config.json` asks for, in either case, without those that `given` names.
/// A file that cannot be read is the credentials' to complain about.
pub(super) fn proxies(environment: &Environment, given: &[(String, Option<String>)]) -> Vec<(String, Option<String>)> {
    let dir = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let Some(dir) = dir.or_else(|| environment.get("HOME").map(|home| PathBuf::from(home).join(".docker"))) else {
        return Vec::new();
    };
    let mut text = Vec::new();
    let file = fs::File::open(environment.absolute(dir.join("config.json")));
    let read = file.and_then(|file| file.take(MAX_CONFIG).read_to_end(&mut text));
    let config = read.ok().and_then(|_| serde_json::from_slice::<Config>(&text).ok());
    let Some(proxies) = config.and_then(|mut config| config.proxies.remove("default")) else { return Vec::new() };
    let named = [
        ("HTTP_PROXY", proxies.http_proxy),
        ("HTTPS_PROXY", proxies.https_proxy),
        ("NO_PROXY", proxies.no_proxy),
        ("FTP_PROXY", proxies.ftp_proxy),
        ("ALL_PROXY", proxies.all_proxy),
    ];
    let mut out = Vec::new();
    for (name, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
        if !given.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            out.push((name.to_string(), Some(value.clone())));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn message<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
        outcome.unwrap_err().message
    }

    #[test]
    fn where_secrets_come_from() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "from file").unwrap();
        let environment = Environment::of(&[("VAR", "from env"), ("EMPTY", "")], temp.path());
        let table = [
            ("id=a,src=file", "a", "from file"),
            ("id=a,source=file,type=file", "a", "from file"),
            ("src=file,id=a", "a", "from file"),
            ("id=a,env=VAR", "a", "from env"),
            ("type=env,id=a,src=VAR", "a", "from env"),
            ("id=VAR", "VAR", "from env"),
            ("id=file", "file", "from file"),
            ("id=a,env=EMPTY", "a", ""),
        ];
        for (text, id, value) in table {
            let (found, secret, warning) = secret(text, &environment).unwrap();
            assert_eq!((found.as_str(), secret.expose(), warning), (id, value.as_bytes(), None), "{text}");
        }
        let (_, value, warning) = secret("id=a,env=NONE", &environment).unwrap();
        assert!(value.expose().is_empty());
        assert_eq!(warning.unwrap(), "--secret id=a: the variable NONE is not set: the secret is empty");
        let table = [
            ("file", "--secret 'file': expected id=ID with src=FILE or env=VARIABLE"),
            ("src=file", "--secret 'src=file': it has no id"),
            ("id=a,file=x", "--secret 'id=a,file=x': unexpected key 'file': expected id, src, env or type"),
            ("id=a,type=x", "--secret 'id=a,type=x': expected type=file or type=env"),
            ("id=nowhere", "--secret id=nowhere: its file cannot be read"),
        ];
        for (text, expected) in table {
            assert_eq!(message(secret(text, &environment)), expected);
        }
        std::fs::write(temp.path().join("big"), vec![b'x'; 512_001]).unwrap();
        let expected = "--secret 'id=big': the file is larger than the 500 KiB that a secret may have";
        assert_eq!(message(secret("id=big", &environment)), expected);
    }

    #[test]
    fn agents_are_sockets() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(temp.path().join("id_rsa"), "").unwrap();
        let with = Environment::of(&[("SSH_AUTH_SOCK", socket.to_str().unwrap())], temp.path());
        let without = Environment::of(&[], temp.path());
        assert_eq!(agent("default", &with).unwrap(), ("default".to_string(), socket.clone()));
        assert_eq!(agent("a=socket", &without).unwrap(), ("a".to_string(), socket));
        let expected = "--ssh 'default': no agent: make sure that SSH_AUTH_SOCK is set";
        assert_eq!(message(agent("default", &without)), expected);
        let expected = "--ssh 'a=id_rsa': it is no socket: key files are not read, give them to an ssh-agent";
        assert_eq!(message(agent("a=id_rsa", &with)), expected);
    }

    #[test]
    fn limits_and_sizes() {
        let limit = |soft, hard| Limit { resource: Resource::Nofile, soft, hard };
        assert_eq!(ulimit("nofile=1062").unwrap(), limit(Some(1062), Some(1062)));
        assert_eq!(ulimit("nofile=10:-1").unwrap(), limit(Some(10), None));
        assert_eq!(message(ulimit("nofile=-1:5")), "--ulimit 'nofile=-1:5': the soft limit is above the hard one");
        assert_eq!(message(ulimit("files=5")), "--ulimit 'files=5': there is no limit called 'files'");
        assert_eq!(message(ulimit("nofile")), "--ulimit 'nofile': expected NAME=SOFT[:HARD]");
        for (text, bytes) in
            [("134217728", 134_217_728), ("128m", 134_217_728), ("1.5 GB", 1_610_612_736), ("2KiB", 2048)]
        {
            assert_eq!(shm_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1", "1x", "nan"] {
            assert_eq!(message(shm_size(text)), format!("--shm-size={text}: expected a size such as 128m"));
        }
    }

    #[test]
    fn proxies_of_the_config_file() {
        let temp = tempfile::tempdir().unwrap();
        let text = r#"{"auths": {}, "proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a,b"},
            "tcp://other": {"ftpProxy": "x"}}}"#;
        std::fs::write(temp.path().join("config.json"), text).unwrap();
        let environment = Environment::of(&[("DOCKER_CONFIG", temp.path().to_str().unwrap())], Path::new("/"));
        let value = |name: &str, value: &str| (name.to_string(), Some(value.to_string()));
        let expected = [value("HTTP_PROXY", "http://p:1"), value("NO_PROXY", "a,b")];
        assert_eq!(proxies(&environment, &[]), expected);
        assert_eq!(proxies(&environment, &[("http_proxy".into(), None)]), expected[1..]);
        assert_eq!(proxies(&Environment::of(&[], Path::new("/")), &[]), []);
    }
}
