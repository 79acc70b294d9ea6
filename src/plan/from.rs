//! FROM: what a stage starts from.

use super::error::{PlanError, PlanErrorKind};
use super::globals::Globals;
use super::options::{NamedContext, PlanOptions};
use super::planner::{Node, NodeBase, Planner};
use crate::dockerfile::instruction::Stage;
use crate::dockerfile::lint::{self, Warning, detail};
use crate::dockerfile::span::Span;
use crate::dockerfile::suggest::nearest;
use crate::oci::{Platform, Reference};

/// Expands a FROM.
pub(super) fn node<'a>(planner: &mut Planner<'a>, stage: &'a Stage) -> Result<Node<'a>, PlanError> {
    let at = |kind: PlanErrorKind| kind.at(stage.span);
    let base = planner.words.expand(&stage.base, &planner.globals.env).map_err(|error| at(error.into()))?;
    warn_undefined(planner, &base.unmatched, stage.span);
    if base.word.is_empty() {
        return Err(PlanErrorKind::EmptyBase(stage.base.clone()).at(stage.base_span));
    }
    let platform = stage.platform.as_deref().map(|text| platform(planner, stage, text)).transpose()?;
    let wanted = platform.as_ref().unwrap_or(&planner.options.platform);
    let replaced = stage.name.as_deref().filter(|name| context_for(planner.options, name, wanted).is_some());
    let known = planner.names.get(&base.word).copied();
    let base = match (replaced, known) {
        (Some(name), _) => NodeBase::Named(name.to_string()),
        (None, Some(stage)) => NodeBase::Stage(stage),
        (None, None) if base.word == "scratch" => NodeBase::Scratch,
        (None, None) => NodeBase::Named(base.word),
    };
    Ok(Node::new(stage, base, platform, replaced.is_some()))
}

/// Expands `--platform`.
fn platform(planner: &mut Planner<'_>, stage: &Stage, text: &str) -> Result<Platform, PlanError> {
    let at = |kind: PlanErrorKind| kind.at(stage.span);
    let word = planner.words.expand(text, &planner.globals.env).map_err(|error| at(error.into()))?;
    warn_undefined(planner, &word.unmatched, stage.span);
    let env = &planner.globals.env;
    let automatic = env.value("TARGETPLATFORM") == Some(word.word.as_str());
    if word.matched == ["TARGETPLATFORM"] && word.unmatched.is_empty() && automatic {
        let detail = detail::redundant_target_platform(text);
        planner.warnings.push(Warning::new(&lint::REDUNDANT_TARGET_PLATFORM, detail, stage.span));
    }
    let env = &planner.globals.env;
    let suggestion = || word.unmatched.iter().find_map(|name| nearest(name, env.names())).map(str::to_string);
    if word.word.is_empty() {
        return Err(at(PlanErrorKind::EmptyPlatform { expression: text.to_string(), suggestion: suggestion() }));
    }
    word.word.parse().map_err(|reason| {
        at(PlanErrorKind::BadPlatform { expression: text.to_string(), reason, suggestion: suggestion() })
    })
}

fn warn_undefined(planner: &mut Planner<'_>, unmatched: &[String], span: Span) {
    for name in unmatched {
        if !planner.globals.names().any(|known| known == name) {
            let detail = detail::undefined_arg_in_from(name, nearest(name, planner.globals.names()));
            planner.warnings.push(Warning::new(&lint::UNDEFINED_ARG_IN_FROM, detail, span));
        }
    }
}

/// Warns of bases that are no reference unless a build argument is given.
pub(super) fn warn_about_defaults(planner: &mut Planner<'_>) {
    // An error here is met again, and reported, where the real values are.
    let Ok(globals) = Globals::defaults(planner.dockerfile, planner.options, &planner.words) else { return };
    for stage in &planner.dockerfile.stages {
        let Ok(base) = planner.words.expand(&stage.base, &globals.env) else { return };
        if base.word.parse::<Reference>().is_err() {
            let detail = detail::invalid_default_arg_in_from(&stage.base);
            planner.warnings.push(Warning::new(&lint::INVALID_DEFAULT_ARG_IN_FROM, detail, stage.span));
        }
    }
}

/// The named context that stands in the place of `name`: one for the platform (`name::linux/amd64`) before a general one.
/// Names are compared as references are, so `docker.io/library/alpine` and `alpine` are one.
pub(super) fn context_for<'o>(
    options: &'o PlanOptions,
    name: &str,
    platform: &Platform,
) -> Option<(&'o str, &'o NamedContext)> {
    if options.named_contexts.is_empty() || ["scratch", "context"].iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return None;
    }
    let canonical = |name: &str| match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").map(str::to_string).unwrap_or(familiar)
        }
        Err(_) => name.to_string(),
    };
    let wanted = canonical(name);
    let mut general = None;
    let is_for = |text: &str| text.parse::<Platform>().is_ok_and(|own| own == platform.clone().normalised());
    for (key, context) in &options.named_contexts {
        match key.split_once("::") {
            Some((name, own)) if canonical(name) == wanted && is_for(own) => return Some((key, context)),
            None if canonical(key) == wanted => general = Some((key.as_str(), context)),
            _ => {}
        }
    }
    general
}
