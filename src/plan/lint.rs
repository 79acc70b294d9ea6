//! The warnings of a whole build: what the text shows, what the plan shows, and what the ignore file leaves out, which
//! only the caller can read.

use super::model::{BuildPlan, CopySource, StepKind, TreeSource};
use super::text::absolute;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::directive::is_built_in;
use crate::dockerfile::lint::{self, Options, Warning, detail};

impl BuildPlan {
    /// Every warning that `options` want, by line. Rules about the instructions of a stage hold for stages of the plan
    /// alone. `is_ignored` is asked with clean paths below the context, wildcards and all, the context itself being empty.
    pub fn lints(&self, file: &Dockerfile, options: &Options, is_ignored: impl Fn(&str) -> bool) -> Vec<Warning> {
        let planned = |line: u32| {
            let after = file.stages.partition_point(|stage| stage.span.line <= line);
            after == 0 || self.stages.iter().any(|stage| stage.file_index + 1 == after)
        };
        let concerns = |warning: &&Warning| {
            let rule = lint::rule(warning.rule);
            !rule.is_some_and(|rule| rule.built_stages_only) || planned(warning.span.line)
        };
        let mut warnings: Vec<Warning> = file.warnings.iter().filter(concerns).cloned().collect();
        warnings.extend(self.warnings.iter().cloned());
        let ignored = self.warn_ignored(is_ignored).into_iter();
        warnings.extend(ignored.filter(|warning| !file.skips(warning.span.line, warning.rule)));
        warnings.retain(|warning| options.wants(warning.rule));
        warnings.sort_by_key(|warning| (warning.span.line, warning.span.column));
        // What holds for every platform is said once.
        if self.targets.len() > 1 {
            let mut said: Vec<Warning> = Vec::new();
            warnings.retain(|warning| {
                !said.contains(warning) && {
                    said.push(warning.clone());
                    true
                }
            });
        }
        warnings
    }

    /// Warnings of COPY and ADD of what the ignore file leaves out.
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
                let clean = absolute("/", path);
                let below = clean.trim_start_matches('/');
                if is_ignored(below) {
                    let shown = match below {
                        _ if path.starts_with('/') => &clean,
                        "" => ".",
                        below => below,
                    };
                    let detail = detail::copy_ignored_file(word, shown);
                    warnings.push(Warning::new(&lint::COPY_IGNORED_FILE, detail, step.span));
                }
            }
        }
        warnings
    }
}

/// Holds that the file is for the built-in front end: the build argument `BUILDKIT_SYNTAX` stands in the place of
/// `# syntax=`.
///
/// # Errors
/// [`super::PlanErrorKind::FrontEnd`]
pub fn check_front_end(file: &Dockerfile, build_args: &[(String, Option<String>)]) -> Result<(), super::PlanError> {
    let given = build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_SYNTAX");
    let given = given.and_then(|(_, value)| value.as_deref()).filter(|value| !value.is_empty());
    let (image, span) = match (given, &file.directives.syntax) {
        (Some(image), _) => (image, None),
        (None, Some((image, span))) => (image.as_str(), Some(*span)),
        (None, None) => return Ok(()),
    };
    let image = image.split_whitespace().next().unwrap_or_default();
    if is_built_in(image) {
        return Ok(());
    }
    Err(super::PlanError { span, kind: Box::new(super::PlanErrorKind::FrontEnd(image.to_string())) })
}

/// What the caller and the file say about rules: the build argument `BUILDKIT_DOCKERFILE_CHECK` stands in the place of
/// `# check=`.
///
/// # Errors
/// [`lint::OptionsError`], with the place of the directive where that is wrong.
pub fn lint_options(file: &Dockerfile, build_args: &[(String, Option<String>)]) -> Result<Options, super::PlanError> {
    let given = build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_DOCKERFILE_CHECK");
    let (text, span) = match (given.and_then(|(_, value)| value.as_deref()), &file.directives.check) {
        (Some(text), _) => (text, None),
        (None, Some((text, span))) => (text.as_str(), Some(*span)),
        (None, None) => return Ok(Options::default()),
    };
    Options::parse(text).map_err(|reason| {
        let kind = match span {
            Some(_) => super::PlanErrorKind::Check(reason),
            None => super::PlanErrorKind::CheckArgument(reason),
        };
        super::PlanError { span, kind: Box::new(kind) }
    })
}
