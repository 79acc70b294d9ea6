//! From the operations' errors to diagnostics: the kind, the hints, the exit code.

use super::diagnostic::{Diagnostic, Kind, Snippet};
use crate::build::copy::CopyError;
use crate::build::{BaseError, BuildError, MountError, Source, StepError};
use crate::dockerfile::redact::mask;
use crate::images::{ImagesError, SaveError};
use crate::oci::Reference;
use crate::registry::{KeychainError, RegistryError};
use crate::rootfs::SnapshotError;
use crate::run::RunError;
use crate::sandbox::{Failure, SandboxError};
use crate::store::{ImageError, StoreError};
use std::error::Error;
use std::io;

const MAKE_ROOM: &str = "make room, or set DOCKLESS_HOME to a directory on another disk";

/// Whether `error` comes of a full disk or a quota.
fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// A failure of the machine.
fn environment(error: &(dyn Error + 'static)) -> Diagnostic {
    let diagnostic = Diagnostic::from_error(Kind::Environment, error);
    if is_disk_full(error) { diagnostic.hint(MAKE_ROOM) } else { diagnostic }
}

impl From<&StoreError> for Diagnostic {
    fn from(error: &StoreError) -> Diagnostic {
        let diagnostic = Diagnostic::from_error(Kind::Environment, error);
        match error {
            StoreError::DiskFull(_) => diagnostic.hint(MAKE_ROOM),
            StoreError::Owner { .. } | StoreError::NotAStore { .. } => {
                diagnostic.hint("set DOCKLESS_HOME to a directory of your own")
            }
            StoreError::Newer { .. } => {
                diagnostic.hint("use the newer dockless, or set DOCKLESS_HOME to another directory")
            }
            _ => diagnostic,
        }
    }
}

impl From<&SaveError> for Diagnostic {
    fn from(error: &SaveError) -> Diagnostic {
        match error {
            SaveError::Image(error) => error.into(),
            SaveError::Store(error) => error.into(),
            _ => Diagnostic::from_error(Kind::Environment, error),
        }
    }
}

impl From<&ImagesError> for Diagnostic {
    fn from(error: &ImagesError) -> Diagnostic {
        match error {
            ImagesError::Document(error) => error.into(),
            ImagesError::Image(error) => error.into(),
            ImagesError::Store(error) => error.into(),
            ImagesError::Registry(error) => error.into(),
            ImagesError::NotFound(_) => Diagnostic::from_error(Kind::Usage, error)
                .hint("'dockless images' lists what there is; 'dockless pull' fetches an image")
                .exit(1),
            _ => Diagnostic::from_error(Kind::Usage, error).exit(1),
        }
    }
}

impl From<&ImageError> for Diagnostic {
    fn from(error: &ImageError) -> Diagnostic {
        match error {
            ImageError::Store(error) => error.into(),
            _ => Diagnostic::from_error(Kind::Environment, error),
        }
    }
}

impl From<&RegistryError> for Diagnostic {
    fn from(error: &RegistryError) -> Diagnostic {
        match error {
            RegistryError::Store(error) => error.into(),
            _ => {
                let mut diagnostic = Diagnostic::from_error(Kind::Registry, error);
                diagnostic.hints.extend(error.hint().map(str::to_string));
                if matches!(error, RegistryError::Denied(_)) {
                    diagnostic.hints.push("'dockless info REGISTRY' says which credentials are found".into());
                }
                diagnostic
            }
        }
    }
}

impl From<&KeychainError> for Diagnostic {
    fn from(error: &KeychainError) -> Diagnostic {
        Diagnostic::from_error(Kind::Registry, error)
    }
}

impl From<&SnapshotError> for Diagnostic {
    fn from(error: &SnapshotError) -> Diagnostic {
        match error {
            SnapshotError::Store(error) => error.into(),
            SnapshotError::Fetch(cause) => match cause.downcast_ref::<RegistryError>() {
                Some(error) => error.into(),
                None => environment(error),
            },
            _ => environment(error),
        }
    }
}

impl From<&RunError> for Diagnostic {
    fn from(error: &RunError) -> Diagnostic {
        let diagnostic = match error {
            RunError::Image(error) => error.into(),
            RunError::Snapshot(error) => error.into(),
            RunError::Store(error) => error.into(),
            RunError::Sandbox(error) => error.into(),
            RunError::Pull { source, .. } => Diagnostic::from(source).wrap(error),
            RunError::Damaged { .. }
            | RunError::Lost
            | RunError::Tree(_)
            | RunError::Unpack(_)
            | RunError::Layer(_)
            | RunError::Digest(_)
            | RunError::Io(_) => environment(error),
            _ => Diagnostic::from_error(Kind::Usage, error),
        };
        // 125 to 127 as `docker run` has them.
        diagnostic.exit(error.exit_code())
    }
}

/// A failed build, with the lines of the Dockerfile that it is about.
pub fn build_failure(error: &BuildError, source: &Source) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::from(error);
    diagnostic.source =
        error.place(&source.text).map(|span| Snippet { file: source.name.clone(), text: mask(&source.text), span });
    Box::new(diagnostic)
}

/// A build that has RUN steps where nothing can run them, as `why` says.
pub fn no_sandbox(error: &BuildError, why: &SandboxError, source: &Source) -> Box<Diagnostic> {
    let shown = build_failure(error, source);
    Box::new(Diagnostic { source: shown.source, ..Diagnostic::from(why).wrap(error) })
}

/// A push that failed.
pub fn push_failure(error: &RegistryError, to: &Reference) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::from(error);
    diagnostic.causes.insert(0, diagnostic.message);
    diagnostic.message = format!("cannot push {to}");
    Box::new(diagnostic)
}

/// A push from the store that failed.
pub fn images_push_failure(error: &ImagesError, to: &Reference) -> Box<Diagnostic> {
    match error {
        ImagesError::Registry(error) => push_failure(error, to),
        _ => Box::new(error.into()),
    }
}

/// A login that was refused, or could not be proved.
pub fn login_failure(error: &RegistryError, registry: &str) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::from(error);
    diagnostic.causes.insert(0, diagnostic.message);
    diagnostic.message = format!("cannot log in to {registry}");
    Box::new(diagnostic)
}

impl From<&BuildError> for Diagnostic {
    fn from(error: &BuildError) -> Diagnostic {
        match error {
            BuildError::NoDockerfile { .. } => {
                Diagnostic::from_error(Kind::Context, error).hint("name it with -f FILE")
            }
            BuildError::ReadDockerfile(_)
            | BuildError::Context(_)
            | BuildError::Ignore(_)
            | BuildError::TwoDockerfiles
            | BuildError::Epoch { .. }
            | BuildError::Fetch { .. } => Diagnostic::from_error(Kind::Context, error),
            BuildError::Parse(_) | BuildError::Plan(_) | BuildError::Lint { .. } => {
                Diagnostic::from_error(Kind::Dockerfile, error)
            }
            BuildError::Base { source: BaseError::Registry(source), .. } => Diagnostic::from(source).wrap(error),
            BuildError::Base { source: BaseError::Image(source), .. } => Diagnostic::from(source).wrap(error),
            BuildError::Base { source: BaseError::Layout(_) | BaseError::NamedContext { .. }, .. } => {
                Diagnostic::from_error(Kind::Context, error)
            }
            BuildError::NoSandbox { .. } => Diagnostic::from_error(Kind::Environment, error),
            BuildError::Step { source: source @ StepError::Preflight { .. }, .. } => source.into(),
            BuildError::Step { source, .. } => Diagnostic::from(source).wrap(error),
            BuildError::Store(error) => error.into(),
        }
    }
}

impl From<&StepError> for Diagnostic {
    fn from(error: &StepError) -> Diagnostic {
        match error {
            StepError::Exit { .. } | StepError::Signal { .. } => Diagnostic::from_error(Kind::Run, error),
            StepError::Remote(_) | StepError::Copy(CopyError::Excluded { .. } | CopyError::NotFound { .. }) => {
                Diagnostic::from_error(Kind::Context, error)
            }
            StepError::Copy(_)
            | StepError::NotAllowed { .. }
            | StepError::Insecure
            | StepError::Device { .. }
            | StepError::NamedContext { .. }
            | StepError::StageFailed { .. } => Diagnostic::from_error(Kind::Dockerfile, error),
            StepError::Preflight { source, .. } => Diagnostic::from(&**source)
                .wrap(error)
                .hint("nothing was run yet; --no-preflight builds without this proof"),
            StepError::Mount(MountError::Secret { .. } | MountError::Ssh { .. }) => {
                Diagnostic::from_error(Kind::Usage, error).exit(1)
            }
            StepError::Emulator { .. } => Diagnostic::from_error(Kind::Environment, error).hint(
                "register one for every container of the machine (binfmt_misc, with the flag F), as \
                 'docker run --privileged tonistiigi/binfmt --install all' does; or compile for the other platform in a \
                 stage FROM --platform=$BUILDPLATFORM",
            ),
            StepError::Snapshot(error) => error.into(),
            StepError::Sandbox(error) => error.into(),
            StepError::CacheSource(error) => (&**error).into(),
            StepError::Store(error) => error.into(),
            StepError::Mount(_)
            | StepError::NoSandbox
            | StepError::Platform { .. }
            | StepError::Layer(_)
            | StepError::Io(_) => environment(error),
        }
    }
}

impl From<&SandboxError> for Diagnostic {
    fn from(error: &SandboxError) -> Diagnostic {
        match error {
            SandboxError::NoIsolation { .. } => Diagnostic::from_error(Kind::Environment, error)
                .hint("docs/environments.md says what each environment allows"),
            SandboxError::Setup(Failure::ProgramNotFound { .. } | Failure::Exec { .. } | Failure::User(_)) => {
                Diagnostic::from_error(Kind::Run, error)
            }
            _ => Diagnostic::from_error(Kind::Environment, error),
        }
    }
}

/// Lets `?` turn an operation's error into what the command line gives.
macro_rules! boxed {
    ($($error:ty),*) => {$(
        impl From<$error> for Box<Diagnostic> {
            fn from(error: $error) -> Box<Diagnostic> {
                Box::new(Diagnostic::from(&error))
            }
        }
    )*};
}
boxed!(
    StoreError,
    SaveError,
    ImagesError,
    ImageError,
    SandboxError,
    RegistryError,
    KeychainError,
    SnapshotError,
    RunError,
    BuildError
);
