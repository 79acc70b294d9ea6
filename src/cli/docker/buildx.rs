//! `docker buildx …` about builders: there is one, this process. What scripts do to set others up succeeds.

use super::Call;
use crate::cli::words::{Does, Flag, switch, value};
use crate::cli::{Outcome, print, usage};
use crate::oci::Platform;
use std::process::ExitCode;

const NO_BUILDER: Does = Does::Ignored("there is one builder: this process");
const ONE_BUILDER: &str = "there is one builder, this process: nothing was set up";
/// What the one builder is called.
const NAME: &str = "dockless";

pub const CREATE: &[Flag] = &[
    switch("append", NO_BUILDER),
    switch("bootstrap", NO_BUILDER),
    value(
        "buildkitd-config",
        Does::Ignored("registries.conf and daemon.json are read instead, see docs/registries.md"),
    ),
    value("buildkitd-flags", NO_BUILDER),
    value("config", Does::Ignored("registries.conf and daemon.json are read instead, see docs/registries.md")),
    value("driver", NO_BUILDER),
    value("driver-opt", NO_BUILDER),
    switch("leave", NO_BUILDER),
    value("name", Does::Own("printed, as buildx does")),
    value("node", NO_BUILDER),
    value("platform", NO_BUILDER),
    value("timeout", NO_BUILDER),
    switch("use", NO_BUILDER),
];
pub const USE: &[Flag] = &[switch("default", NO_BUILDER), switch("global", NO_BUILDER), value("builder", NO_BUILDER)];
pub const INSPECT: &[Flag] =
    &[switch("bootstrap", NO_BUILDER), value("builder", NO_BUILDER), value("timeout", NO_BUILDER)];
pub const REMOVE: &[Flag] = &[
    switch("all-inactive", NO_BUILDER),
    value("builder", NO_BUILDER),
    switch("force", NO_BUILDER).short('f'),
    switch("keep-daemon", NO_BUILDER),
    switch("keep-state", NO_BUILDER),
    value("timeout", NO_BUILDER),
];
pub const LIST: &[Flag] = &[
    value("format", Does::Own("a Go template, `json` or `table …`")),
    switch("no-trunc", Does::Ignored("nothing is cut")),
    value("timeout", NO_BUILDER),
];

pub fn create(call: &Call<'_>) -> Outcome<ExitCode> {
    if call.given.arguments.len() > 1 {
        return Err(usage("expected at most one endpoint"));
    }
    call.notice(ONE_BUILDER);
    print(&format!("{}\n", call.given.last("name").unwrap_or(NAME)))
}

pub fn choose(call: &Call<'_>) -> Outcome<ExitCode> {
    call.one("builder")?;
    call.notice(ONE_BUILDER);
    Ok(ExitCode::SUCCESS)
}

pub fn stop(call: &Call<'_>) -> Outcome<ExitCode> {
    call.notice("there is one builder, this process: it ends with the build");
    Ok(ExitCode::SUCCESS)
}

pub fn remove(call: &Call<'_>) -> Outcome<ExitCode> {
    call.notice("there is one builder, this process: nothing was removed");
    print(&call.given.arguments.iter().map(|name| format!("{name} removed\n")).collect::<String>())
}

pub fn version(_: &Call<'_>) -> Outcome<ExitCode> {
    print(concat!("github.com/docker/buildx v0.21.0+dockless.", env!("CARGO_PKG_VERSION"), " dockless\n"))
}

pub fn inspect(call: &Call<'_>) -> Outcome<ExitCode> {
    let name = call.given.arguments.first().map_or(NAME, String::as_str);
    let host = Platform::host();
    print(&format!(
        "Name:          {name}\nDriver:        dockless\n\nNodes:\nName:          {name}\nEndpoint:      this process\n\
         Status:        running\nPlatforms:     {host}\n"
    ))
}

pub fn list(call: &Call<'_>) -> Outcome<ExitCode> {
    let heads = serde_json::json!({
        "Name": "NAME/NODE", "DriverEndpoint": "DRIVER/ENDPOINT", "Status": "STATUS", "Buildkit": "BUILDKIT",
        "Platforms": "PLATFORMS",
    });
    let row = serde_json::json!({
        "Name": format!("{NAME}*"), "DriverEndpoint": "dockless", "Status": "running", "Buildkit": "none",
        "Platforms": Platform::host().to_string(),
    });
    let plain = r"table {{.Name}}\t{{.DriverEndpoint}}\t{{.Status}}\t{{.Buildkit}}\t{{.Platforms}}";
    print(&crate::cli::format::list(call.given.last("format"), plain, &heads, &[row])?)
}
