//! Lint warnings, with BuildKit's rule names.

use super::span::Span;

/// A warning; never stops a build unless `# check=error=true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// BuildKit's rule name, such as `StageNameCasing`.
    pub rule: &'static str,
    /// What the rule is about, one sentence.
    pub description: &'static str,
    /// What is wrong here.
    pub detail: String,
    /// Where.
    pub span: Span,
}
