//! Starting an image: the same sandbox as a RUN step, on a tree that is thrown away afterwards.
//!
//! The image's ENTRYPOINT, CMD, ENV, USER and WORKDIR apply as `docker run` applies them: arguments replace CMD,
//! `--entrypoint` replaces ENTRYPOINT and clears CMD, `-e` adds to ENV. The terminal, the signals and the exit code are the
//! command's.

use crate::oci::{ContainerConfig, Layer, Platform, Reference};
use crate::progress::Progress;
use crate::registry::{RegistryClient, RegistryError};
use crate::rootfs::{SnapshotError, Snapshotter};
use crate::sandbox::{Exit, RunSpec, Sandbox, SandboxError, Stdio};
use crate::store::{Image, ImageError, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Search path of an image that sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// The image.
    pub image: Reference,
    /// Arguments after the image's name; empty leaves CMD.
    pub command: Vec<String>,
    /// `--entrypoint`; the empty string clears the image's.
    pub entrypoint: Option<String>,
    /// `-e`, in order.
    pub env: Vec<(String, String)>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`
    pub user: Option<String>,
    /// `-i`: standard input is the caller's.
    pub interactive: bool,
    /// `--add-host name:ip`, in order.
    pub add_hosts: Vec<(String, String)>,
    /// `--platform`
    pub platform: Option<Platform>,
}

/// Why an image did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It has neither ENTRYPOINT nor CMD and no command was given.
    #[error("no command specified: {image} has neither ENTRYPOINT nor CMD")]
    NoCommand {
        /// The image.
        image: Reference,
    },
    /// It could not be pulled.
    #[error("cannot pull {image}")]
    Pull {
        /// The image.
        image: Reference,
        /// Why.
        source: RegistryError,
    },
    /// Its documents.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Its tree.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The sandbox could not be set up, or the command not be started.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts the image and waits for it.
pub fn run(
    options: &RunOptions,
    store: &Store,
    registry: &RegistryClient,
    sandbox: &Sandbox,
    progress: &dyn Progress,
) -> Result<Exit, RunError> {
    let image = find(options, store, registry, progress)?;
    let config = &image.config.config;
    let args = command_line(options, config)?;
    let fetch = |layer: &Layer| Ok(registry.ensure_known(store, &layer.digest, progress)?);
    let snapshot = Snapshotter::new(store.clone()).prepare(&image.layers, &fetch)?;
    let mut spec = RunSpec::new(snapshot.root(), args);
    spec.env = environment(options, config).into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    spec.cwd = PathBuf::from(options.workdir.as_deref().unwrap_or(&config.working_dir));
    spec.user = options.user.clone().unwrap_or_else(|| config.user.clone());
    spec.hosts.clone_from(&options.add_hosts);
    spec.stdio = Stdio::Inherit;
    Ok(sandbox.run(&spec, &mut |_, _| {})?)
}

/// The image of that name in the store; where there is none, it is pulled and keeps the name.
fn find(
    options: &RunOptions,
    store: &Store,
    registry: &RegistryClient,
    progress: &dyn Progress,
) -> Result<Image, RunError> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    if let Some(image) = store.image(&options.image, &platform)? {
        return Ok(image);
    }
    let pull = |source| RunError::Pull { image: options.image.clone(), source };
    let (resolved, _) = registry.pull_image(store, &options.image, &platform, progress).map_err(pull)?;
    store.tag(&options.image, &resolved.descriptor)?;
    Ok(Image::load(store, &resolved.descriptor, &platform)?)
}

/// ENTRYPOINT and CMD as `docker run` puts them together.
fn command_line(options: &RunOptions, config: &ContainerConfig) -> Result<Vec<String>, RunError> {
    let (entrypoint, cmd) = match &options.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => (Vec::new(), Vec::new()),
        Some(entrypoint) => (vec![entrypoint.clone()], Vec::new()),
        None => (config.entrypoint.clone().unwrap_or_default(), config.cmd.clone().unwrap_or_default()),
    };
    let rest = if options.command.is_empty() { cmd } else { options.command.clone() };
    let args = [entrypoint, rest].concat();
    if args.is_empty() { Err(RunError::NoCommand { image: options.image.clone() }) } else { Ok(args) }
}

/// The image's ENV, then `-e`, a later value replacing an earlier one in its place.
fn environment(options: &RunOptions, config: &ContainerConfig) -> Vec<(String, String)> {
    let own = |entry: &String| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_string(), value.to_string())
    };
    let mut env: Vec<(String, String)> = config.env.iter().flatten().map(own).collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.insert(0, ("PATH".into(), DEFAULT_PATH.into()));
    }
    for (name, value) in &options.env {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(command: &[&str], entrypoint: Option<&str>) -> RunOptions {
        RunOptions {
            image: "app".parse().unwrap(),
            command: command.iter().map(ToString::to_string).collect(),
            entrypoint: entrypoint.map(Into::into),
            env: vec![("A".into(), "2".into()), ("C".into(), "3".into())],
            workdir: None,
            user: None,
            interactive: false,
            add_hosts: Vec::new(),
            platform: None,
        }
    }

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn entrypoint_and_cmd() {
        let config = ContainerConfig { entrypoint: list(&["/e"]), cmd: list(&["c"]), ..Default::default() };
        for (command, entrypoint, expected) in [
            (&[][..], None, &["/e", "c"][..]),
            (&["x"], None, &["/e", "x"]),
            (&[], Some("/f"), &["/f"]),
            (&["x"], Some("/f"), &["/f", "x"]),
            (&["x"], Some(""), &["x"]),
        ] {
            assert_eq!(command_line(&options(command, entrypoint), &config).unwrap(), expected);
        }
        assert!(matches!(command_line(&options(&[], Some("")), &config), Err(RunError::NoCommand { .. })));
    }

    #[test]
    fn environment_keeps_order_and_replaces() {
        let config = ContainerConfig { env: list(&["A=1", "B=x=y"]), ..Default::default() };
        let env = environment(&options(&[], None), &config);
        let text: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, [&format!("PATH={DEFAULT_PATH}"), "A=2", "B=x=y", "C=3"]);
    }
}
