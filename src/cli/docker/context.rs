//! `docker context …`: there is one place that commands go to, this machine. What scripts do to set others up succeeds.

use super::Call;
use crate::cli::format::formatted;
use crate::cli::words::{Does, Flag, switch, value};
use crate::cli::{Outcome, print};
use serde_json::json;
use std::process::ExitCode;

const NO_PLACE: Does = Does::Ignored("there is one context: this machine");
const ONE_PLACE: &str = "there is one context, this machine: nothing was set up";

pub const CREATE: &[Flag] = &[
    value("default-stack-orchestrator", NO_PLACE),
    value("description", NO_PLACE),
    value("docker", NO_PLACE),
    value("from", NO_PLACE),
];
pub const LIST: &[Flag] = &[
    value("format", Does::Own("a Go template, `json` or `table …`")),
    switch("quiet", Does::Own("names only")).short('q'),
];
pub const INSPECT: &[Flag] = &[value("format", Does::Own("a Go template or `json`")).short('f')];
pub const REMOVE: &[Flag] = &[switch("force", NO_PLACE).short('f')];

pub fn create(call: &Call<'_>) -> Outcome<ExitCode> {
    let name = call.one("name")?;
    call.notice(ONE_PLACE);
    print(&format!("{name}\n"))
}

pub fn choose(call: &Call<'_>) -> Outcome<ExitCode> {
    let name = call.one("name")?;
    if name != "default" {
        call.notice(ONE_PLACE);
    }
    print(&format!("{name}\n"))
}

pub fn remove(call: &Call<'_>) -> Outcome<ExitCode> {
    call.notice(ONE_PLACE);
    print(&call.given.arguments.iter().map(|name| format!("{name}\n")).collect::<String>())
}

pub fn show(_: &Call<'_>) -> Outcome<ExitCode> {
    print("default\n")
}

pub fn list(call: &Call<'_>) -> Outcome<ExitCode> {
    if call.given.is("quiet") {
        return print("default\n");
    }
    let heads = json!({
        "Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR",
        "Current": "CURRENT",
    });
    let row = json!({
        "Name": "default", "Description": "This machine, without a daemon", "DockerEndpoint": "", "Error": "",
        "Current": true,
    });
    let plain = r"table {{.Name}}{{if eq .Current true}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
    print(&crate::cli::format::list(call.given.last("format"), plain, &heads, &[row])?)
}

pub fn inspect(call: &Call<'_>) -> Outcome<ExitCode> {
    let named = &call.given.arguments;
    let names: Vec<String> = if named.is_empty() { vec!["default".into()] } else { named.clone() };
    let found =
        names.iter().map(|name| json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": { "Host": "" } } }));
    print(&formatted(call.given.last("format"), &found.collect::<Vec<_>>())?)
}
