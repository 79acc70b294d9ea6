//! Warnings that need scopes or images.

use super::model::{BuildPlan, CopySource, StepKind, TreeSource};
use super::text::{absolute, did_you_mean};
use crate::dockerfile::lint::Warning;
use crate::dockerfile::span::Span;
use crate::oci::Platform;

/// `FROM x:$UNDEFINED`
pub(super) fn undefined_arg_in_from(name: &str, suggestion: Option<&str>, span: Span) -> Warning {
    Warning {
        rule: "UndefinedArgInFrom",
        description: "FROM command must use declared ARGs",
        detail: format!("FROM argument '{name}' is not declared{}", did_you_mean(suggestion)),
        span,
    }
}

/// `COPY $UNDEFINED .`
pub(super) fn undefined_var(name: &str, suggestion: Option<&str>, span: Span) -> Warning {
    let suggestion = suggestion.map(|name| format!("${name}"));
    Warning {
        rule: "UndefinedVar",
        description: "Variables should be defined before their use",
        detail: format!("Usage of undefined variable '${name}'{}", did_you_mean(suggestion.as_deref())),
        span,
    }
}

/// `ARG X` / `FROM $X`
pub(super) fn invalid_default_in_from(base: &str, span: Span) -> Warning {
    Warning {
        rule: "InvalidDefaultArgInFrom",
        description: "Default value for global ARG results in an empty or invalid base image name",
        detail: format!("Default value for ARG {base} results in empty or invalid base image name"),
        span,
    }
}

/// `FROM --platform=$TARGETPLATFORM`
pub(super) fn redundant_target_platform(text: &str, span: Span) -> Warning {
    Warning {
        rule: "RedundantTargetPlatform",
        description: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        detail: format!("Setting platform to predefined {text} in FROM is redundant as this is the default behavior"),
        span,
    }
}

/// `FROM --platform=linux/amd64`
pub(super) fn constant_platform(platform: &str, span: Span) -> Warning {
    Warning {
        rule: "FromPlatformFlagConstDisallowed",
        description: "FROM --platform flag should not use a constant value",
        detail: format!("FROM --platform flag should not use constant value \"{platform}\""),
        span,
    }
}

/// A base image for another platform.
pub(super) fn invalid_base_platform(name: &str, wanted: &Platform, actual: &Platform, span: Span) -> Warning {
    Warning {
        rule: "InvalidBaseImagePlatform",
        description: "Base image platform does not match expected target platform",
        detail: format!(
            "Base image {name} was pulled with platform \"{actual}\", expected \"{wanted}\" for current build"
        ),
        span,
    }
}

impl BuildPlan {
    /// Warnings of COPY and ADD of what the ignore file leaves out; `is_ignored` is asked with clean paths below the
    /// context, wildcards and all.
    pub fn warn_ignored(&self, is_ignored: impl Fn(&str) -> bool) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for step in self.stages.iter().flat_map(|stage| &stage.steps) {
            let StepKind::Copy(copy) = &step.kind else { continue };
            if copy.from != TreeSource::Context {
                continue;
            }
            let word = if copy.add.is_some() { "Add" } else { "Copy" };
            for source in &copy.sources {
                let CopySource::Path(path) = source else { continue };
                let path = absolute("/", path);
                let path = path.strip_prefix('/').filter(|path| !path.is_empty()).unwrap_or(".");
                if is_ignored(path) {
                    warnings.push(Warning {
                        rule: "CopyIgnoredFile",
                        description: "Attempting to Copy file that is excluded by .dockerignore",
                        detail: format!("Attempting to {word} file \"{path}\" that is excluded by .dockerignore"),
                        span: step.span,
                    });
                }
            }
        }
        warnings
    }
}
