//! A container as Docker's API tells of it: what `docker inspect` and the templates of `docker ps --format` read.

use super::RunError;
use super::container::{Container, Containers, Status};
use super::volumes::{VolumeSource, Volumes};
use serde_json::{Map, Value, json};
use std::path::Path;

/// No time at all, in Go's words.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The document of `docker inspect` for a container of the state directory `root`.
pub fn inspect(root: &Path, container: &Container) -> Result<Value, RunError> {
    let containers = Containers::of(root);
    let (status, state) = containers.status(&container.id)?;
    let settings = &container.settings;
    let dir = containers.dir(&container.id);
    let args = text(&settings.args());
    let running = status == Status::Running;
    let network = json!({ "Aliases": null, "IPAddress": "", "Gateway": "", "NetworkID": "", "MacAddress": "" });
    let network_name = settings.network.clone();
    Ok(json!({
        "Id": container.id,
        "Created": container.created,
        "Path": args.first().cloned().unwrap_or_default(),
        "Args": args.get(1..).unwrap_or_default(),
        "State": {
            "Status": status.word(),
            "Running": running,
            "Paused": false,
            "Restarting": false,
            "OOMKilled": false,
            "Dead": false,
            "Pid": if running { state.keeper.unwrap_or(0) } else { 0 },
            "ExitCode": if running { 0 } else { state.exit_code },
            "Error": state.error.clone().unwrap_or_default(),
            "StartedAt": state.started.as_deref().unwrap_or(NEVER),
            "FinishedAt": state.finished.as_deref().unwrap_or(NEVER),
        },
        "Image": container.image_id.to_string(),
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": dir.join("log"),
        "Name": format!("/{}", container.name),
        "RestartCount": 0,
        "Driver": "dockless",
        "Platform": container.platform.os,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": {
            "Binds": binds(container),
            "NetworkMode": network_name,
            "PortBindings": {},
            "AutoRemove": settings.auto_remove,
            "ReadonlyRootfs": settings.readonly,
            "Privileged": false,
            "ExtraHosts": settings.add_hosts.iter().map(|(name, to)| format!("{name}:{to}")).collect::<Vec<_>>(),
            "ShmSize": settings.shm_size.unwrap_or(64 << 20),
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        },
        "Mounts": mounts(root, container),
        "Config": config(container),
        "NetworkSettings": {
            "Ports": {},
            "IPAddress": "",
            "Gateway": "",
            "Networks": { settings.network.clone(): network },
        },
    }))
}

fn text(words: &[Vec<u8>]) -> Vec<String> {
    words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn config(container: &Container) -> Value {
    let settings = &container.settings;
    let list = |words: &[Vec<u8>]| if words.is_empty() { Value::Null } else { json!(text(words)) };
    let set = |names: &[String]| names.iter().map(|name| (name.clone(), json!({}))).collect::<Map<String, Value>>();
    json!({
        "Hostname": settings.hostname.clone().unwrap_or_default(),
        "Domainname": "",
        "User": settings.user,
        "AttachStdin": settings.interactive,
        "AttachStdout": true,
        "AttachStderr": true,
        "ExposedPorts": set(&settings.exposed),
        "Tty": settings.tty,
        "OpenStdin": settings.interactive,
        "StdinOnce": false,
        "Env": text(&settings.env),
        "Cmd": list(&settings.cmd),
        "Image": container.image,
        "Volumes": null,
        "WorkingDir": String::from_utf8_lossy(&settings.workdir),
        "Entrypoint": list(&settings.entrypoint),
        "OnBuild": null,
        "Labels": settings.labels,
        "StopSignal": settings.stop_signal.to_string(),
        "StopTimeout": settings.stop_timeout,
    })
}

fn binds(container: &Container) -> Vec<String> {
    let mounts = container.settings.mounts.iter();
    let bind = |mount: &super::VolumeMount| {
        let source = match &mount.source {
            VolumeSource::Path(path) => path.display().to_string(),
            VolumeSource::Volume { name, anonymous: false, .. } => name.clone(),
            VolumeSource::Volume { .. } | VolumeSource::Tmpfs(_) => return None,
        };
        let mode = if mount.readonly { ":ro" } else { "" };
        Some(format!("{source}:{}{mode}", mount.target.display()))
    };
    mounts.filter_map(bind).collect()
}

fn mounts(root: &Path, container: &Container) -> Vec<Value> {
    let volumes = Volumes::of(root);
    let describe = |mount: &super::VolumeMount| {
        let (kind, name, source) = match &mount.source {
            VolumeSource::Path(path) => ("bind", None, path.clone()),
            VolumeSource::Volume { name, .. } => ("volume", Some(name.clone()), volumes.data(name)),
            VolumeSource::Tmpfs(_) => ("tmpfs", None, "".into()),
        };
        let mut value = json!({
            "Type": kind,
            "Source": source,
            "Destination": mount.target,
            "Mode": if mount.readonly { "ro" } else { "" },
            "RW": !mount.readonly,
            "Propagation": if kind == "bind" { "rprivate" } else { "" },
        });
        if let Some(name) = name {
            value["Name"] = json!(name);
            value["Driver"] = json!("local");
        }
        value
    };
    container.settings.mounts.iter().map(describe).collect()
}
