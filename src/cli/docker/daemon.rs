//! `docker version` and `docker info`: what a daemon would say of itself and of the machine.

use super::{Call, RELEASE};
use crate::cli::format::formatted;
use crate::cli::info::{Facts, facts};
use crate::cli::words::{Does, Flag, value};
use crate::cli::{Outcome, print};
use crate::images;
use crate::oci::Platform;
use crate::store::Store;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The version of Docker's API that this release of Docker has.
const API: &str = "1.48";

pub const FLAGS: &[Flag] = &[value("format", Does::Own("a Go template or `json`")).short('f')];

/// Fields as Docker has them; client and server are the same program.
pub fn version(call: &Call<'_>) -> Outcome<ExitCode> {
    let host = Platform::host();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let both = json!({
        "Version": RELEASE, "APIVersion": API, "ApiVersion": API, "DefaultAPIVersion": API, "MinAPIVersion": API,
        "GitCommit": "dockless", "GoVersion": "none", "Os": host.os, "Arch": host.architecture, "BuildTime": "",
        "Context": "default", "KernelVersion": kernel, "Experimental": false, "Platform": { "Name": "dockless" },
    });
    if let Some(format) = call.given.last("format") {
        return print(&formatted(Some(format), &[json!({ "Client": both, "Server": both })])?);
    }
    let part = |indent: &str| {
        let line = |name: &str, value: &str| format!("{indent}{name:<18}{value}\n");
        let platform = format!("{}/{}", host.os, host.architecture);
        line("Version:", RELEASE) + &line("API version:", API) + &line("OS/Arch:", &platform)
    };
    print(&format!(
        "Client: dockless\n{} Context:           default\n\nServer: dockless, without a daemon\n Engine:\n{}  Kernel:           {kernel}\n",
        part(" "),
        part("  ")
    ))
}

pub fn info(call: &Call<'_>) -> Outcome<ExitCode> {
    let facts = facts(&call.state, call.environment)?;
    let images = if call.state.exists() { images::list(&Store::open(&call.state)?)?.len() } else { 0 };
    let value = describe(&facts, call, images);
    if let Some(format) = call.given.last("format") {
        return print(&formatted(Some(format), &[value])?);
    }
    let text = |name: &str| match &value[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let gib = value["MemTotal"].as_f64().unwrap_or_default() / f64::from(1 << 30);
    let mut out =
        format!("Client: dockless\n Version:    {RELEASE}\n Context:    default\n Debug Mode: false\n\nServer:\n");
    for (name, shown) in [
        ("Images", images.to_string()),
        ("Server Version", text("ServerVersion")),
        ("Storage Driver", text("Driver")),
        ("Isolation", text("Isolation")),
        ("Kernel Version", text("KernelVersion")),
        ("Operating System", text("OperatingSystem")),
        ("OSType", text("OSType")),
        ("Architecture", text("Architecture")),
        ("CPUs", text("NCPU")),
        ("Total Memory", format!("{gib:.3}GiB")),
        ("Name", text("Name")),
        ("Docker Root Dir", text("DockerRootDir")),
        ("Debug Mode", "false".into()),
        ("Experimental", "false".into()),
        ("Live Restore Enabled", "false".into()),
    ] {
        out += &format!(" {name}: {shown}\n");
    }
    print(&out)
}

fn describe(facts: &Facts, call: &Call<'_>, images: usize) -> Value {
    let uname = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let name = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    json!({
        "ID": "dockless", "Name": name(uname.nodename()), "ServerVersion": RELEASE, "Driver": facts.snapshotter,
        "Isolation": facts.tier, "Images": images, "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0,
        "ContainersStopped": 0, "OSType": uname.sysname().to_string_lossy().to_lowercase(),
        "OperatingSystem": operating_system(), "KernelVersion": name(uname.release()),
        "Architecture": name(uname.machine()),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory.totalram.saturating_mul(memory.mem_unit.into()),
        "DockerRootDir": call.state.to_string_lossy(), "Debug": false, "ExperimentalBuild": false,
        "LiveRestoreEnabled": false, "DefaultRuntime": "dockless", "CgroupDriver": "none", "CgroupVersion": "",
        "SecurityOptions": [], "Warnings": [], "Labels": [], "Swarm": { "LocalNodeState": "inactive" },
        "IndexServerAddress": "https://index.docker.io/v1/", "ClientInfo": { "Version": RELEASE, "Context": "default" },
        "HttpProxy": call.environment.text("HTTP_PROXY").unwrap_or_default(),
        "HttpsProxy": call.environment.text("HTTPS_PROXY").unwrap_or_default(),
        "NoProxy": call.environment.text("NO_PROXY").unwrap_or_default(),
    })
}

/// The name that the system gives itself. Spec: os-release(5).
fn operating_system() -> String {
    let text = fs_err::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches('"')).to_string()
}
