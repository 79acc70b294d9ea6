//! Starting an image: the same sandbox as a RUN step, on a tree that is thrown away afterwards.
//!
//! The image's ENTRYPOINT, CMD, ENV, USER and WORKDIR apply as `docker run` applies them: arguments replace CMD,
//! `--entrypoint` replaces ENTRYPOINT and clears CMD, `-e` adds to ENV. The terminal, the signals and the exit code are the
//! command's.

use crate::oci::{ContainerConfig, Layer, Platform, Reference};
use crate::progress::Progress;
use crate::registry::{RegistryClient, RegistryError};
use crate::rootfs::{SnapshotError, Snapshotter, SnapshotterKind};
use crate::sandbox::{Exit, Network, RunSpec, Sandbox, SandboxError, Stdio};
use crate::store::{Image, ImageError, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What is to be started. Arguments and variables are bytes: they need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOptions {
    /// The image.
    pub image: Reference,
    /// Arguments after the image's name; empty leaves CMD.
    pub command: Vec<Vec<u8>>,
    /// `--entrypoint`; an empty list clears the image's.
    pub entrypoint: Option<Vec<Vec<u8>>>,
    /// `-e`, `NAME=VALUE`, in order.
    pub env: Vec<Vec<u8>>,
    /// `-w`
    pub workdir: Option<Vec<u8>>,
    /// `-u`
    pub user: Option<String>,
    /// `--network none`: a loopback interface alone.
    pub no_network: bool,
    /// `--add-host name:ip`, in order.
    pub add_hosts: Vec<(String, String)>,
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
    snapshots: SnapshotterKind,
    progress: &dyn Progress,
) -> Result<Exit, RunError> {
    let image = find(options, store, registry, progress)?;
    let config = &image.config.config;
    let args = command_line(options, config)?;
    let fetch = |layer: &Layer| Ok(registry.ensure_known(store, &layer.digest, progress)?);
    let snapshot = Snapshotter::new(store.clone(), snapshots).prepare(&image.layers, &fetch)?;
    let mut spec = RunSpec::new(snapshot.root(), args.into_iter().map(OsString::from_vec));
    spec.env = environment(options, config);
    spec.cwd = options.workdir.clone().map_or_else(|| PathBuf::from(&config.working_dir), path);
    spec.user = options.user.clone().unwrap_or_else(|| config.user.clone());
    spec.hosts.clone_from(&options.add_hosts);
    spec.network = if options.no_network { Network::None } else { Network::Host };
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
    let platform = Platform::host();
    if let Some(image) = store.image(&options.image, &platform)? {
        return Ok(image);
    }
    let pull = |source| RunError::Pull { image: options.image.clone(), source };
    let (resolved, _) = registry.pull_image(store, &options.image, &platform, progress).map_err(pull)?;
    store.tag(&options.image, &resolved.descriptor)?;
    Ok(Image::load(store, &resolved.descriptor, &platform)?)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// ENTRYPOINT and CMD as `docker run` puts them together.
fn command_line(options: &RunOptions, config: &ContainerConfig) -> Result<Vec<Vec<u8>>, RunError> {
    let own = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| word.clone().into_bytes()).collect();
    let (entrypoint, cmd) = match &options.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), Vec::new()),
        None => (own(&config.entrypoint), own(&config.cmd)),
    };
    let rest = if options.command.is_empty() { cmd } else { options.command.clone() };
    let args = [entrypoint, rest].concat();
    if args.is_empty() { Err(RunError::NoCommand { image: options.image.clone() }) } else { Ok(args) }
}

/// The image's ENV, then `-e`, a later value replacing an earlier one in its place.
fn environment(options: &RunOptions, config: &ContainerConfig) -> Vec<(OsString, OsString)> {
    let own = config.env.iter().flatten().map(String::as_bytes);
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    for entry in own.chain(options.env.iter().map(Vec::as_slice)) {
        let at = entry.iter().position(|b| *b == b'=').unwrap_or(entry.len());
        let (name, value) = (&entry[..at], entry.get(at + 1..).unwrap_or_default());
        let (name, value) = (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => env.push((name, value)),
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(ToString::to_string).collect())
    }

    fn options(command: &[&str], entrypoint: Option<&[&str]>) -> RunOptions {
        RunOptions {
            image: "app".parse().unwrap(),
            command: words(command),
            entrypoint: entrypoint.map(words),
            env: words(&["A=2", "C=3"]),
            workdir: None,
            user: None,
            no_network: false,
            add_hosts: Vec::new(),
        }
    }

    #[test]
    fn entrypoint_and_cmd() {
        let config = ContainerConfig { entrypoint: list(&["/e"]), cmd: list(&["c"]), ..Default::default() };
        for (command, entrypoint, expected) in [
            (&[][..], None, &["/e", "c"][..]),
            (&["x"], None, &["/e", "x"]),
            (&[], Some(&["/f"][..]), &["/f"]),
            (&["x"], Some(&["/f"]), &["/f", "x"]),
            (&["x"], Some(&[]), &["x"]),
        ] {
            assert_eq!(command_line(&options(command, entrypoint), &config).unwrap(), words(expected));
        }
        assert!(matches!(command_line(&options(&[], Some(&[])), &config), Err(RunError::NoCommand { .. })));
    }

    #[test]
    fn environment_keeps_order_and_replaces() {
        let config = ContainerConfig { env: list(&["A=1", "B=x=y"]), ..Default::default() };
        let env = environment(&options(&[], None), &config);
        let expected = [("A", "2"), ("B", "x=y"), ("C", "3")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(env, expected);
    }
}
