//! How many bytes containers and volumes have.

use super::container::{Container, Containers};
use super::volumes::Volumes;
use super::{RunError, Services, keep};
use crate::rootfs::{changed_size, tree_size};
use std::path::Path;

/// How many bytes a container's files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Those that it made or changed.
    pub changed: u64,
    /// Those, and the layers of its image.
    pub whole: u64,
}

/// Bytes of the files that a container of the state directory `root` made or changed.
pub fn changed_bytes(root: &Path, container: &Container) -> Result<u64, RunError> {
    Ok(changed_size(&Containers::of(root).dir(&container.id), container.snapshots)?)
}

/// Bytes of its files, those of its image too, which is unpacked if it is not.
pub fn sizes(container: &Container, services: &Services<'_>) -> Result<Sizes, RunError> {
    let changed = changed_bytes(services.store.root(), container)?;
    Ok(Sizes { changed, whole: changed + keep::tree(container, services)?.parent_size()? })
}

/// Bytes of the files of a volume.
pub fn volume_bytes(volumes: &Volumes, name: &str) -> Result<u64, RunError> {
    Ok(tree_size(&volumes.data(name))?)
}
