//! Making a container from an image.

use super::container::{Container, Containers, Settings, now};
use super::volumes::{VolumeMount, VolumeSource, Volumes};
use super::{RunError, Services, environment, signals};
use crate::oci::{ContainerConfig, Layer};
use crate::progress::Event;
use crate::rootfs::{KeptTree, Snapshotter, SnapshotterKind};
use crate::sandbox::{Isolation, Limit, Tier};
use crate::store::Image;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is to be made. Arguments and variables are bytes: they need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CreateOptions {
    /// Its ID, see [`super::new_id`].
    pub id: String,
    /// The image as it was asked for.
    pub image: String,
    /// Its name; one is made up where that is empty.
    pub name: String,
    /// Arguments after the image's name; empty leaves CMD.
    pub command: Vec<Vec<u8>>,
    /// `--entrypoint`; an empty list clears the image's.
    pub entrypoint: Option<Vec<Vec<u8>>>,
    /// `-e`, `NAME=VALUE` or a `NAME` to be taken away, in order.
    pub env: Vec<Vec<u8>>,
    /// `-w`
    pub workdir: Option<Vec<u8>>,
    /// `-u`
    pub user: Option<String>,
    /// `--hostname`
    pub hostname: Option<String>,
    /// `--network`: `none` is a loopback interface alone, all others are the machine's.
    pub network: Option<String>,
    /// `--add-host name:ip`, in order.
    pub add_hosts: Vec<(String, String)>,
    /// `-p`, kept to be told of.
    pub publish: Vec<String>,
    /// `--expose`
    pub expose: Vec<String>,
    /// `-v`, `--mount` and `--tmpfs`.
    pub mounts: Vec<VolumeMount>,
    /// `--read-only`
    pub readonly: bool,
    /// `--shm-size`
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub limits: Vec<Limit>,
    /// `-t`
    pub tty: bool,
    /// `-i`
    pub interactive: bool,
    /// `-l`
    pub labels: BTreeMap<String, String>,
    /// `--stop-signal`
    pub stop_signal: Option<String>,
    /// `--stop-timeout`
    pub stop_timeout: Option<u64>,
    /// `--rm`
    pub auto_remove: bool,
    /// It need have no command: it is given one when it is started.
    pub commandless: bool,
    /// Which tiers may be taken when it is started.
    pub isolation: Isolation,
}

/// Makes a container from `image`, whose tree is written to in the way of `kind`.
pub fn create(
    options: &CreateOptions,
    image: &Image,
    services: &Services<'_>,
    kind: SnapshotterKind,
) -> Result<Container, RunError> {
    let id = options.id.clone();
    let mut settings = settings(options, &image.config.config, &id)?;
    if settings.readonly && services.sandbox.tier() != Tier::Namespaces {
        let text = format!(
            "--read-only cannot be enforced in the {} tier: the tree can be written to",
            services.sandbox.tier()
        );
        services.progress.emit(Event::Warning { text });
    }
    name_volumes(&mut settings, &Volumes::of(services.store.root()))?;
    let made = services.store.temp_dir()?;
    let fetch = |layer: &Layer| Ok(services.registry.ensure_known(services.store, &layer.digest, services.progress)?);
    let snapshots = Snapshotter::new(services.store.clone(), kind);
    KeptTree::create(&snapshots, made.path(), &image.layers, &fetch)?;
    let container = Container {
        id,
        name: options.name.trim_start_matches('/').to_string(),
        created: now(),
        image: options.image.clone(),
        image_id: image.id.clone(),
        manifest: image.descriptor.clone(),
        platform: image.config.platform(),
        snapshots: kind,
        isolation: options.isolation,
        settings,
    };
    Containers::of(services.store.root()).add(container, made)
}

/// The image's config and the options put together.
fn settings(options: &CreateOptions, config: &ContainerConfig, id: &str) -> Result<Settings, RunError> {
    let (entrypoint, cmd) = command_line(options, config)?;
    let mut labels = config.labels.clone().unwrap_or_default();
    labels.extend(options.labels.clone());
    let network = options.network.clone().unwrap_or_else(|| "bridge".to_string());
    // With the machine's network goes its name; where a network of its own was expected, a name of its own.
    let own_name = || (network != "host").then(|| id[..super::container::SHORT].to_string());
    let stop = options.stop_signal.as_deref().or(config.stop_signal.as_deref());
    let exposed: BTreeSet<String> =
        config.exposed_ports.iter().flatten().map(|(port, _)| port.clone()).chain(options.expose.clone()).collect();
    let variables = config.env.iter().flatten().map(String::as_bytes).chain(options.env.iter().map(Vec::as_slice));
    let env =
        environment(variables).into_iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    Ok(Settings {
        entrypoint,
        cmd,
        env: env.collect(),
        workdir: match &options.workdir {
            Some(dir) => dir.clone(),
            None if config.working_dir.is_empty() => b"/".to_vec(),
            None => config.working_dir.clone().into_bytes(),
        },
        user: options.user.clone().unwrap_or_else(|| config.user.clone()),
        hostname: options.hostname.clone().or_else(own_name),
        add_hosts: options.add_hosts.clone(),
        mounts: mounts(options, config),
        network,
        publish: options.publish.clone(),
        readonly: options.readonly,
        shm_size: options.shm_size,
        limits: options.limits.clone(),
        tty: options.tty,
        interactive: options.interactive,
        labels,
        stop_signal: stop.map_or(Ok(libc::SIGTERM), signals::signal)?,
        stop_timeout: options.stop_timeout,
        auto_remove: options.auto_remove,
        exposed: exposed.into_iter().collect(),
    })
}

/// The mounts asked for, a later one replacing an earlier one at the same place, and a volume for each VOLUME of the image
/// that none of them is at.
fn mounts(options: &CreateOptions, config: &ContainerConfig) -> Vec<VolumeMount> {
    let mut mounts: Vec<VolumeMount> = Vec::new();
    for mount in &options.mounts {
        mounts.retain(|known| known.target != mount.target);
        mounts.push(mount.clone());
    }
    for (target, _) in config.volumes.iter().flatten() {
        let target = Path::new("/").join(target);
        if mounts.iter().all(|mount| mount.target != target) {
            let source = VolumeSource::Volume { name: String::new(), seed: true, anonymous: true };
            mounts.push(VolumeMount { source, target, readonly: false });
        }
    }
    mounts
}

/// Makes the volumes that are not there, and gives those a name that have none.
fn name_volumes(settings: &mut Settings, volumes: &Volumes) -> Result<(), RunError> {
    for mount in &mut settings.mounts {
        if let VolumeSource::Volume { name, anonymous, .. } = &mut mount.source {
            *name = volumes.ensure(name, &BTreeMap::new(), *anonymous)?.name;
        }
    }
    Ok(())
}

type Words = Vec<Vec<u8>>;

/// ENTRYPOINT and CMD as `docker run` puts them together.
fn command_line(options: &CreateOptions, config: &ContainerConfig) -> Result<(Words, Words), RunError> {
    let own = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| word.clone().into_bytes()).collect();
    let (entrypoint, cmd): (Words, Words) = match &options.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), Vec::new()),
        None => (own(&config.entrypoint), own(&config.cmd)),
    };
    let cmd = if options.command.is_empty() { cmd } else { options.command.clone() };
    if entrypoint.is_empty() && cmd.is_empty() && !options.commandless {
        return Err(RunError::NoCommand { image: options.image.clone() });
    }
    Ok((entrypoint, cmd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::config::Empty;

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn entrypoint_and_cmd() {
        let config = ContainerConfig { entrypoint: list(&["/e"]), cmd: list(&["c"]), ..Default::default() };
        let options = |command: &[&str], entrypoint: Option<&[&str]>| CreateOptions {
            command: words(command),
            entrypoint: entrypoint.map(words),
            ..Default::default()
        };
        for (command, entrypoint, expected) in [
            (&[][..], None, &["/e", "c"][..]),
            (&["x"], None, &["/e", "x"]),
            (&[], Some(&["/f"][..]), &["/f"]),
            (&["x"], Some(&["/f"]), &["/f", "x"]),
            (&["x"], Some(&[]), &["x"]),
        ] {
            let (first, rest) = command_line(&options(command, entrypoint), &config).unwrap();
            assert_eq!([first, rest].concat(), words(expected));
        }
        assert!(matches!(command_line(&options(&[], Some(&[])), &config), Err(RunError::NoCommand { .. })));
    }

    #[test]
    fn a_volume_of_the_image_gives_way_to_a_mount() {
        let volumes = [("/data".to_string(), Empty {}), ("/logs".to_string(), Empty {})];
        let config = ContainerConfig { volumes: Some(volumes.into()), ..Default::default() };
        let own = VolumeMount { source: VolumeSource::Path("/srv".into()), target: "/data".into(), readonly: true };
        let options = CreateOptions { mounts: vec![own.clone()], ..Default::default() };
        let got = mounts(&options, &config);
        assert_eq!(got[0], own);
        assert_eq!((got.len(), got[1].target.to_str()), (2, Some("/logs")));
    }
}
