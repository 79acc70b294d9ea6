//! From the operations' errors to diagnostics: the kind, the hints, the exit code.

use super::diagnostic::{Diagnostic, Kind};
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

impl From<StoreError> for Box<Diagnostic> {
    fn from(error: StoreError) -> Box<Diagnostic> {
        Box::new(Diagnostic::from(&error))
    }
}
