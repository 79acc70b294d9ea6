//! What can go wrong with a container.

use crate::dockerfile::ParseError;
use crate::oci::Reference;
use crate::oci::digest::DigestError;
use crate::plan::PlanError;
use crate::registry::RegistryError;
use crate::rootfs::layer::LayerError;
use crate::rootfs::{SnapshotError, TreeError, UnpackError};
use crate::sandbox::SandboxError;
use crate::sandbox::users::UserError;
use crate::store::{ImageError, StoreError};
use std::io;
use std::path::PathBuf;

/// Why something could not be done with a container.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It has neither ENTRYPOINT nor CMD and no command was given.
    #[error("no command specified: {image} has neither ENTRYPOINT nor CMD")]
    NoCommand {
        /// The image.
        image: String,
    },
    /// Its image could not be pulled.
    #[error("cannot pull {image}")]
    Pull {
        /// The image.
        image: Reference,
        /// Why.
        source: RegistryError,
    },
    /// No name or ID.
    #[error("No such container: {0}")]
    NoContainer(String),
    /// The beginning of several IDs.
    #[error("'{0}' is the beginning of several containers' IDs")]
    Ambiguous(String),
    /// It runs, and must not.
    #[error("container {id} is running: stop it first")]
    Running {
        /// The container.
        id: String,
    },
    /// It does not run, and must.
    #[error("container {id} is not running")]
    NotRunning {
        /// The container.
        id: String,
    },
    /// A name that another container has.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// No name for a container.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    /// No name for a volume.
    #[error("\"{0}\" includes invalid characters for a volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    VolumeName(String),
    /// No volume of that name.
    #[error("no such volume: {0}")]
    NoVolume(String),
    /// A container has it.
    #[error("volume {name} is in use by container {id}")]
    VolumeUsed {
        /// The volume.
        name: String,
        /// The container.
        id: String,
    },
    /// What is to be mounted is not there.
    #[error("bind source path does not exist: {}", .0.display())]
    NoSource(PathBuf),
    /// A name or number of a signal.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// A further command could not be started.
    #[error("{message}")]
    Exec {
        /// Why.
        message: String,
        /// The exit code that stands for it.
        code: u8,
    },
    /// A path of `cp`.
    #[error("{path}: {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An instruction that a commit cannot apply.
    #[error(
        "--change {0}: only CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR can be changed"
    )]
    Change(String),
    /// An instruction of a commit that cannot be read.
    #[error("--change: {0}")]
    ChangeText(#[from] ParseError),
    /// An instruction of a commit that makes no sense.
    #[error("--change: {0}")]
    ChangePlan(#[from] PlanError),
    /// A file of a container that does not hold what it should.
    #[error("{path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A container's first process ended before its command ran.
    #[error("the container ended before its command ran")]
    Lost,
    /// Its image's documents.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Its tree.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file of its tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A tar that is to be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A tar or a layer that is to be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The sandbox could not be set up, or the command not be started.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A user that cannot be found.
    #[error(transparent)]
    User(#[from] UserError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A descriptor with a digest that cannot be read.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A file; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RunError {
    /// The exit code of `docker run` for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Sandbox(error) => error.exit_code(),
            RunError::Exec { code, .. } => *code,
            _ => 125,
        }
    }
}
