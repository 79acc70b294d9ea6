//! Containers: starting an image, and what can be done with it then.
//!
//! There is no daemon. A container is a directory of the state directory ([`Containers`]); [`create`] makes it from an image,
//! [`start`] runs its command and keeps it until that ends, and as long as it does, the keeper answers at a socket in that
//! directory: further commands ([`exec`]), signals ([`kill`], [`stop`]), its output ([`attach`]). A container in the background
//! is one whose keeper is a process of its own. A container has the sandbox that a RUN step has, in the same tiers.
//!
//! The image's ENTRYPOINT, CMD, ENV, USER, WORKDIR, VOLUME and STOPSIGNAL apply as `docker run` applies them.
//!
//! [`create`], [`start`], [`remove`], [`commit`], [`changes`], [`export`], [`copy_in`], [`copy_out`], [`sizes`], [`changed_bytes`] and
//! [`volume_bytes`] touch files of any owner: they are to be called inside what [`crate::sandbox::enter`] makes. The rest can be called anywhere.

mod client;
mod commit;
mod container;
mod copy;
mod create;
mod error;
mod inspect;
mod keep;
mod logs;
mod names;
mod signals;
mod size;
mod terminal;
mod volumes;

pub use client::{ExecOptions, attach, exec, kill, stop};
pub use commit::{Change, ChangeKind, CommitOptions, changes, commit};
pub use container::{Container, Containers, Settings, State, Status};
pub use copy::{CopyOptions, Local, copy_in, copy_out, export};
pub use create::{CreateOptions, create};
pub use error::RunError;
pub use inspect::inspect;
pub use keep::{Attachment, Interrupts, start};
pub use logs::{LogOptions, show as show_logs};
pub use names::id as new_id;
pub use signals::signal;
pub use size::{Sizes, changed_bytes, sizes, volume_bytes};
pub use terminal::{RawMode, size_of};
pub use volumes::{Volume, VolumeMount, VolumeSource, Volumes, uses as uses_volume};

use crate::progress::Progress;
use crate::registry::RegistryClient;
use crate::sandbox::Sandbox;
use crate::store::Store;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

/// What the operations work with.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Images, containers, volumes.
    pub store: &'a Store,
    /// Where layers come from that are not here.
    pub registry: &'a RegistryClient,
    /// Runs commands.
    pub sandbox: &'a Sandbox,
    /// Is told what happens.
    pub progress: &'a dyn Progress,
}

/// The caller's standard input, output and error.
#[derive(Debug)]
pub struct Stdio {
    /// `None` where it is not handed on.
    pub input: Option<OwnedFd>,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub error: OwnedFd,
}

/// Removes a container that does not run, and, with `volumes`, those that were made for it alone.
pub fn remove(store: &Store, container: &Container, volumes: bool) -> Result<(), RunError> {
    Containers::of(store.root()).remove(store, container)?;
    if volumes { remove_volumes(store, container) } else { Ok(()) }
}

/// The same by the keeper, whose lock is held; its tree may serve the next container of the image.
fn remove_kept(services: &Services<'_>, container: &Container) -> Result<(), RunError> {
    let store = services.store;
    Containers::of(store.root()).discard(store, container, |files| {
        match keep::tree_in(files, container, services) {
            Ok(tree) => match tree.pass_on() {
                Ok(kept) => tracing::debug!(kept, "the container's tree"),
                Err(error) => tracing::debug!(%error, "the container's tree is not passed on"),
            },
            Err(error) => tracing::debug!(%error, "the container's tree is not looked at"),
        }
    })?;
    remove_volumes(store, container)
}

fn remove_volumes(store: &Store, container: &Container) -> Result<(), RunError> {
    let others = Containers::of(store.root()).list()?;
    for mount in &container.settings.mounts {
        if let VolumeSource::Volume { name, anonymous: true, .. } = &mount.source {
            match Volumes::of(store.root()).remove(store, name, &others) {
                // It was never started, or another one has the volume too.
                Ok(()) | Err(RunError::NoVolume(_) | RunError::VolumeUsed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// `NAME=VALUE` texts as variables, a later value replacing an earlier one in its place. A text without `=` takes the variable
/// away, as `docker run` has it.
fn environment<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    for text in texts {
        let Some(at) = text.iter().position(|b| *b == b'=') else {
            env.retain(|(name, _)| name.as_encoded_bytes() != text);
            continue;
        };
        let (name, value) = (OsString::from_vec(text[..at].to_vec()), OsString::from_vec(text[at + 1..].to_vec()));
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

    #[test]
    fn environment_keeps_order_and_replaces() {
        let env = environment([&b"A=1"[..], b"B=x=y", b"Z=1", b"A=2", b"C=3", b"Z"].into_iter());
        let expected = [("A", "2"), ("B", "x=y"), ("C", "3")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(env, expected);
    }
}
