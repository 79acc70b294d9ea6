//! Why a build failed. Whatever has a place in the Dockerfile carries its span to the end.

use super::copy::CopyError;
use super::mounts::MountError;
use super::remote::RemoteError;
use crate::context::ignore::IgnoreError;
use crate::dockerfile::ParseError;
use crate::dockerfile::lint::Warning;
use crate::dockerfile::span::Span;
use crate::oci::{Platform, Reference};
use crate::plan::PlanError;
use crate::registry::RegistryError;
use crate::rootfs::{LayerError, SnapshotError};
use crate::sandbox::SandboxError;
use crate::store::{ImageError, StoreError};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no Dockerfile where one was looked for.
    #[error("there is no Dockerfile at {}", path.display())]
    NoDockerfile {
        /// Where.
        path: PathBuf,
    },
    /// The Dockerfile cannot be opened.
    #[error("cannot read the Dockerfile")]
    ReadDockerfile(#[source] std::io::Error),
    /// The context cannot be opened.
    #[error("cannot open the build context")]
    Context(#[source] std::io::Error),
    /// A context from elsewhere cannot be had.
    #[error("cannot load the build context{}", if name == "context" { String::new() } else { format!(" '{name}'") })]
    Fetch {
        /// Its name; `context` is the main one.
        name: String,
        /// Why.
        #[source]
        source: Box<RemoteError>,
    },
    /// What `SOURCE_DATE_EPOCH` names cannot be had.
    #[error("cannot find the time of SOURCE_DATE_EPOCH")]
    Epoch {
        /// Why.
        #[source]
        source: Box<RemoteError>,
    },
    /// A Dockerfile in place of a context, and another one named.
    #[error("the Dockerfile is given twice: the context is a Dockerfile, and -f names another")]
    TwoDockerfiles,
    /// The context's ignore file cannot be used.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// The Dockerfile does not parse.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The Dockerfile makes no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There are warnings, and `# check=error=true` makes them errors.
    #[error("lint violation found for rules: {rules}")]
    Lint {
        /// Their rules, each once.
        rules: String,
        /// The warnings.
        warnings: Vec<Warning>,
    },
    /// A base image cannot be had.
    #[error("cannot resolve {text}")]
    Base {
        /// As written.
        text: String,
        /// The instruction that names it.
        span: Span,
        /// Why.
        #[source]
        source: BaseError,
    },
    /// A RUN step, and no sandbox to run it in.
    #[error("this machine gives RUN steps no namespaces")]
    NoSandbox {
        /// The first one's lines.
        span: Span,
    },
    /// A step failed.
    #[error("{text}")]
    Step {
        /// The instruction, as progress shows it.
        text: String,
        /// Its lines.
        span: Span,
        /// Why.
        #[source]
        source: StepError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BuildError {
    /// The exit code of the command that failed, where one did.
    pub fn run_exit(&self) -> Option<u8> {
        match self {
            BuildError::Step { source: StepError::Exit { code, .. }, .. } => u8::try_from(*code).ok(),
            BuildError::Step { source: StepError::Signal { signal, .. }, .. } => u8::try_from(128 + signal).ok(),
            _ => None,
        }
    }

    /// Warnings that count as errors.
    pub fn lint(warnings: Vec<Warning>) -> Self {
        let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule).collect();
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        BuildError::Lint { rules, warnings }
    }

    /// The lines or the words of the Dockerfile, whose text is `text`, that the failure is about.
    pub fn place(&self, text: &str) -> Option<Span> {
        match self {
            BuildError::Parse(error) => Some(error.span),
            BuildError::Plan(error) => error.place(text),
            // It is not about the step that would have come next.
            BuildError::Step { source: StepError::Preflight { .. }, .. } => None,
            BuildError::Base { span, .. } | BuildError::NoSandbox { span } | BuildError::Step { span, .. } => {
                Some(*span)
            }
            BuildError::NoDockerfile { .. }
            | BuildError::ReadDockerfile(_)
            | BuildError::Context(_)
            | BuildError::Ignore(_)
            | BuildError::Fetch { .. }
            | BuildError::Epoch { .. }
            | BuildError::TwoDockerfiles
            | BuildError::Lint { .. }
            | BuildError::Store(_) => None,
        }
    }
}

/// Why a base image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its documents.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A named context that the build was not given.
    #[error("there is no build context '{name}'")]
    NamedContext {
        /// Its name.
        name: String,
    },
    /// A named context that is an OCI layout.
    #[error(transparent)]
    Layout(Box<RemoteError>),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command ended with a code that is not 0.
    #[error("the command ended with exit code {code}: {command}")]
    Exit {
        /// The code.
        code: i32,
        /// The command, for people.
        command: String,
    },
    /// The command was ended by a signal.
    #[error("the command was killed by signal {signal}: {command}")]
    Signal {
        /// The signal's number.
        signal: i32,
        /// The command, for people.
        command: String,
    },
    /// Something that a build may do only when it was asked to.
    #[error("{what} is not allowed: allow it with --allow {what}")]
    NotAllowed {
        /// The entitlement.
        what: &'static str,
    },
    /// `--security=insecure`.
    #[error(
        "--security=insecure is not possible: steps run in a user namespace, where nobody has the privileges of the machine"
    )]
    Insecure,
    /// `--device=`.
    #[error("--device={device} is not supported: steps see no devices of the machine")]
    Device {
        /// As written.
        device: String,
    },
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A named context that the build was not given.
    #[error("there is no build context '{name}'")]
    NamedContext {
        /// Its name.
        name: String,
    },
    /// The image could not be pushed, so it is not built.
    #[error("cannot push {to}")]
    Preflight {
        /// Where it should go.
        to: Box<Reference>,
        /// Why not.
        source: Box<RegistryError>,
    },
    /// A command, and no sandbox to run it in: `build` looks for that before the first step.
    #[error("this machine gives RUN steps no namespaces")]
    NoSandbox,
    /// Where a layer of a cache is cannot be remembered.
    #[error(transparent)]
    CacheSource(Box<RegistryError>),
    /// The stage that the step reads failed.
    #[error("stage {name} failed")]
    StageFailed {
        /// The stage.
        name: String,
    },
    /// COPY or ADD.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// What ADD names elsewhere.
    #[error(transparent)]
    Remote(Box<RemoteError>),
    /// A step is for a platform that this machine cannot run.
    #[error("this machine ({host}) cannot run a command for {wanted}")]
    Platform {
        /// The machine's.
        host: Platform,
        /// The stage's.
        wanted: Platform,
    },
    /// The same, of another architecture.
    #[error("this machine ({host}) has no emulator for {wanted}")]
    Emulator {
        /// The machine's.
        host: Platform,
        /// The stage's.
        wanted: Platform,
        /// What happened to the command.
        #[source]
        source: SandboxError,
    },
    /// A tree.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A layer could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The sandbox could not be set up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<RemoteError> for StepError {
    fn from(error: RemoteError) -> Self {
        StepError::Remote(Box::new(error))
    }
}
