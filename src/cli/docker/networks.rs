//! `docker network …` and `docker volume …`, as far as scripts need them. Containers share the machine's network, so a network
//! is a name that is kept in mind; a volume is a directory in the state directory.

use super::Call;
use crate::cli::container;
use crate::cli::format::{formatted, list as listed};
use crate::cli::words::{Does, Flag, switch, value};
use crate::cli::{Outcome, print};
use crate::oci::Digest;
use crate::store::Store;
use crate::ui::{Diagnostic, Kind};
use fs_err as fs;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

const ONE_NETWORK: Does = Does::Ignored("containers share the network of the machine");
const A_DIRECTORY: Does = Does::Ignored("a volume is a directory of this machine");
/// Bucket of the store with the names of networks.
const BUCKET: &str = "networks";
/// Networks that are always there.
const USUAL: [&str; 3] = ["bridge", "host", "none"];

pub const NETWORK_CREATE: &[Flag] = &[
    switch("attachable", ONE_NETWORK),
    value("aux-address", ONE_NETWORK),
    value("config-from", ONE_NETWORK),
    switch("config-only", ONE_NETWORK),
    value("driver", ONE_NETWORK).short('d'),
    value("gateway", ONE_NETWORK),
    switch("ingress", ONE_NETWORK),
    switch("internal", Does::Refused("containers share the network of the machine; --network none closes it")),
    value("ip-range", ONE_NETWORK),
    value("ipam-driver", ONE_NETWORK),
    value("ipam-opt", ONE_NETWORK),
    switch("ipv4", ONE_NETWORK),
    switch("ipv6", ONE_NETWORK),
    value("label", ONE_NETWORK),
    value("opt", ONE_NETWORK).short('o'),
    value("scope", ONE_NETWORK),
    value("subnet", ONE_NETWORK),
];
pub const VOLUME_CREATE: &[Flag] = &[
    value("availability", A_DIRECTORY),
    value("driver", A_DIRECTORY).short('d'),
    value("group", A_DIRECTORY),
    value("label", A_DIRECTORY),
    value("limit-bytes", A_DIRECTORY),
    value("name", Does::Own("its name")),
    value("opt", Does::Refused("a volume is a directory of this machine")).short('o'),
    value("required-bytes", A_DIRECTORY),
    value("scope", A_DIRECTORY),
    value("secret", A_DIRECTORY),
    value("sharing", A_DIRECTORY),
    value("topology-preferred", A_DIRECTORY),
    value("topology-required", A_DIRECTORY),
    value("type", A_DIRECTORY),
];
pub const LIST: &[Flag] = &[
    switch("cluster", Does::Refused("there is no swarm")),
    value("filter", Does::Own("`name=PART`; others are refused")).short('f'),
    value("format", Does::Own("a Go template, `json` or `table …`")),
    switch("no-trunc", Does::Own("whole IDs")),
    switch("quiet", Does::Own("IDs or names only")).short('q'),
];
pub const INSPECT: &[Flag] = &[
    switch("cluster", Does::Refused("there is no swarm")),
    value("format", Does::Own("a Go template or `json`")).short('f'),
    switch("verbose", Does::Ignored("there is no more to tell")).short('v'),
];
pub const REMOVE: &[Flag] = &[switch("force", Does::Own("what is not there is no failure")).short('f')];
pub const VOLUME_PRUNE: &[Flag] = &[
    switch("all", Does::Own("those with a name, too")).short('a'),
    value("filter", Does::Refused("everything that is unused goes")),
    switch("force", Does::Own("nothing is asked anyway")).short('f'),
];
pub const CONNECT: &[Flag] = &[
    value("alias", ONE_NETWORK),
    value("driver-opt", ONE_NETWORK),
    value("gw-priority", ONE_NETWORK),
    value("ip", ONE_NETWORK),
    value("ip6", ONE_NETWORK),
    value("link", ONE_NETWORK),
    value("link-local-ip", ONE_NETWORK),
];
pub const PRUNE: &[Flag] = &[
    switch("all", Does::Own("the same: no volume is anonymous")).short('a'),
    value("filter", Does::Refused("everything that is unused goes")),
    switch("force", Does::Own("nothing is asked anyway")).short('f'),
];

fn failure(message: String) -> Box<Diagnostic> {
    Box::new(Diagnostic::new(Kind::Usage, message).exit(1))
}

/// `name=…` filters: every name must hold one of them, if there are any.
fn filtered(call: &Call<'_>, names: Vec<String>) -> Outcome<Vec<String>> {
    let mut parts = Vec::new();
    for filter in call.given.all("filter") {
        match filter.split_once('=') {
            Some(("name", part)) => parts.push(part.trim_matches(['^', '$'])),
            // Nothing is dangling, and there is one driver and one scope.
            Some(("driver" | "scope" | "type" | "label" | "dangling", _)) => {}
            _ => return Err(failure(format!("--filter {filter}: expected name=PART"))),
        }
    }
    let fits = |name: &String| parts.is_empty() || parts.iter().any(|part| name.contains(part));
    Ok(names.into_iter().filter(fits).collect())
}

/// The names of networks that scripts made.
fn networks(store: &Store) -> Outcome<BTreeSet<String>> {
    let found = store.record(BUCKET, &Digest::sha256(BUCKET))?;
    Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

fn keep(store: &Store, names: &BTreeSet<String>) -> Outcome<()> {
    // Texts: always JSON.
    Ok(store.put_record(BUCKET, &Digest::sha256(BUCKET), &serde_json::to_vec(names).unwrap_or_default())?)
}

/// Docker's IDs are 64 digits.
fn id(name: &str) -> String {
    Digest::sha256(format!("network {name}")).hex().to_string()
}

/// The network of a name, or of the beginning of an ID.
fn find(names: &BTreeSet<String>, text: &str) -> Option<String> {
    let all = || USUAL.iter().map(ToString::to_string).chain(names.iter().cloned());
    all().find(|name| name == text).or_else(|| all().find(|name| text.len() >= 4 && id(name).starts_with(text)))
}

pub fn create_network(call: &Call<'_>) -> Outcome<ExitCode> {
    let name = call.one("name")?;
    let store = Store::open(&call.state)?;
    let mut names = networks(&store)?;
    if find(&names, name).is_some() {
        return Err(failure(format!("network with name {name} already exists")));
    }
    call.notice("containers share the network of the machine: the network is a name only");
    names.insert(name.to_string());
    keep(&store, &names)?;
    print(&format!("{}\n", id(name)))
}

fn describe_network(name: &str) -> Value {
    json!({
        "Name": name, "Id": id(name), "ID": id(name), "Driver": if name == "none" { "null" } else { "host" },
        "Scope": "local", "IPv6": false, "Internal": name == "none", "Labels": {}, "CreatedAt": "",
        "Containers": {}, "Options": {}, "IPAM": { "Driver": "default", "Config": [] },
    })
}

pub fn list_networks(call: &Call<'_>) -> Outcome<ExitCode> {
    let known = if call.state.exists() { networks(&Store::open(&call.state)?)? } else { BTreeSet::new() };
    let names = filtered(call, USUAL.iter().map(ToString::to_string).chain(known).collect())?;
    let shown = |id: String| if call.given.is("no-trunc") { id } else { id[..12].to_string() };
    if call.given.is("quiet") {
        return print(&names.iter().map(|name| shown(id(name)) + "\n").collect::<String>());
    }
    let rows: Vec<Value> = names
        .iter()
        .map(|name| {
            let mut row = describe_network(name);
            row["ID"] = shown(id(name)).into();
            row
        })
        .collect();
    let heads = json!({ "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "CreatedAt": "CREATED AT",
        "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS" });
    let plain = r"table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    print(&listed(call.given.last("format"), plain, &heads, &rows)?)
}

pub fn inspect_networks(call: &Call<'_>) -> Outcome<ExitCode> {
    let known = if call.state.exists() { networks(&Store::open(&call.state)?)? } else { BTreeSet::new() };
    inspect(call, "network", |text| find(&known, text).map(|name| describe_network(&name)))
}

/// Prints what was found; what was not is an error after it, as with Docker.
fn inspect(call: &Call<'_>, what: &str, find: impl Fn(&str) -> Option<Value>) -> Outcome<ExitCode> {
    let (mut found, mut missing) = (Vec::new(), None);
    for text in &call.given.arguments {
        match find(text) {
            Some(value) => found.push(value),
            None => _ = missing.get_or_insert(text),
        }
    }
    let printed = print(&formatted(call.given.last("format"), &found)?)?;
    missing.map_or(Ok(printed), |text| Err(failure(format!("no such {what}: {text}"))))
}

pub fn remove_networks(call: &Call<'_>) -> Outcome<ExitCode> {
    let store = Store::open(&call.state)?;
    let mut names = networks(&store)?;
    for text in &call.given.arguments {
        match find(&names, text) {
            Some(name) if names.remove(&name) => {
                keep(&store, &names)?;
                print(&format!("{text}\n"))?;
            }
            Some(name) => return Err(failure(format!("{name} is a pre-defined network and cannot be removed"))),
            None if call.given.is("force") => {}
            None => return Err(failure(format!("no such network: {text}"))),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Connecting and disconnecting: containers are always in the one network.
pub fn connect(call: &Call<'_>) -> Outcome<ExitCode> {
    call.notice("containers share the network of the machine: nothing was changed");
    Ok(ExitCode::SUCCESS)
}

pub fn prune_networks(call: &Call<'_>) -> Outcome<ExitCode> {
    let store = Store::open(&call.state)?;
    let names = networks(&store)?;
    keep(&store, &BTreeSet::new())?;
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    print(&if lines.is_empty() { lines } else { format!("Deleted Networks:\n{lines}\n") })
}

fn volume(call: &Call<'_>, name: &str) -> Outcome<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || !name.chars().all(plain) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(failure(format!(
            "'{name}' cannot be the name of a volume: only letters, digits, '_', '.' and '-'"
        )));
    }
    Ok(call.state.join("volumes").join(name))
}

fn io(error: std::io::Error) -> Box<Diagnostic> {
    Box::new(Diagnostic::from_error(Kind::Environment, &error))
}

pub fn create_volume(call: &Call<'_>) -> Outcome<ExitCode> {
    let given = call.given.arguments.first().map(String::as_str).or(call.given.last("name"));
    let name = match given {
        Some(name) => name.to_string(),
        None => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| io(std::io::Error::other(error.to_string())))?;
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    };
    // The state directory is made as the store wants it.
    Store::open(&call.state)?;
    fs::create_dir_all(volume(call, &name)?.join("_data")).map_err(io)?;
    print(&format!("{name}\n"))
}

fn volumes(call: &Call<'_>) -> Vec<String> {
    let entries = fs::read_dir(call.state.join("volumes")).into_iter().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn describe_volume(call: &Call<'_>, name: &str) -> Value {
    let place = call.state.join("volumes").join(name).join("_data");
    json!({
        "Name": name, "Driver": "local", "Mountpoint": place.to_string_lossy(), "Scope": "local", "Labels": {},
        "Options": {}, "CreatedAt": "",
    })
}

pub fn list_volumes(call: &Call<'_>) -> Outcome<ExitCode> {
    let names = filtered(call, volumes(call))?;
    if call.given.is("quiet") {
        return print(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
    }
    let rows: Vec<Value> = names.iter().map(|name| describe_volume(call, name)).collect();
    let heads = json!({ "Driver": "DRIVER", "Name": "VOLUME NAME", "Mountpoint": "MOUNTPOINT", "Scope": "SCOPE",
        "Labels": "LABELS" });
    print(&listed(call.given.last("format"), r"table {{.Driver}}\t{{.Name}}", &heads, &rows)?)
}

pub fn inspect_volumes(call: &Call<'_>) -> Outcome<ExitCode> {
    let known = volumes(call);
    inspect(call, "volume", |text| known.iter().find(|name| *name == text).map(|name| describe_volume(call, name)))
}

pub fn remove_volumes(call: &Call<'_>) -> Outcome<ExitCode> {
    // Their files may be anybody's.
    container::remove_volumes(call.environment, &call.state, call.given.arguments.clone(), call.given.is("force"))
}

pub fn prune_volumes(call: &Call<'_>) -> Outcome<ExitCode> {
    container::prune_volumes(call.environment, &call.state, call.given.is("all"))
}
