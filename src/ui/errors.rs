//! From the operations' errors to diagnostics: the kind, the hints, the exit code.

use super::diagnostic::{Diagnostic, Kind};
use crate::images::ImageError;
use crate::registry::RegistryError;
use crate::sandbox::{Failure, SandboxError};
use crate::store::StoreError;

impl From<&StoreError> for Diagnostic {
    fn from(error: &StoreError) -> Diagnostic {
        let diagnostic = Diagnostic::from_error(Kind::Environment, error);
        match error {
            StoreError::DiskFull(_) => {
                diagnostic.hint("make room, or set DOCKLESS_HOME to a directory on another disk")
            }
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
        let diagnostic = Diagnostic::from_error(Kind::Registry, error);
        match error {
            RegistryError::Store(error) => error.into(),
            RegistryError::Denied(_) => diagnostic
                .hint("credentials are read from DOCKER_AUTH_CONFIG and from Docker's config.json, among others")
                .hint("'dockless info REGISTRY' says which are found"),
            _ => diagnostic,
        }
    }
}

impl From<&SandboxError> for Diagnostic {
    fn from(error: &SandboxError) -> Diagnostic {
        match error {
            SandboxError::NoNamespaces { .. } => Diagnostic::from_error(Kind::Environment, error)
                .hint("a Dockerfile with RUN needs user namespaces: see docs/environments.md for what allows them"),
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
boxed!(StoreError, ImageError, RegistryError, SandboxError);
