//! Checking: everything that a build knows before its first step, and nothing built. Bases are asked for their digest and
//! config alone; what needs no base needs neither store nor network.

use super::planning::{self, Images, plan_options};
use super::{BuildError, BuildOptions, Inputs, Lookup, Source};
use crate::dockerfile::instruction::{ArgDefinition, Instruction};
use crate::dockerfile::lint::Warning;
use crate::dockerfile::span::Span;
use crate::dockerfile::{self, Dockerfile};
use crate::plan::{BuildPlan, MountKind, Planner, StepKind, check_front_end, lint_options, source_date_epoch};
use crate::store::StoreError;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The warnings that are wanted, by line.
    pub warnings: Vec<Warning>,
    /// Warnings count as errors (`error=true`).
    pub error: bool,
    /// What is wrong with the options of the check themselves.
    pub notes: Vec<String>,
}

/// Plans every stage, or the target and what it needs, and gathers the warnings; `lookup` is called where an image must
/// be known.
///
/// # Errors
/// What would make a build fail before its first step, but for warnings that count as errors.
pub fn check<'s>(
    options: &BuildOptions,
    inputs: &Inputs,
    lookup: impl FnOnce() -> Result<Lookup<'s>, StoreError>,
) -> Result<Checked, BuildError> {
    let file = dockerfile::parse(&inputs.dockerfile.text)?;
    check_front_end(&file, &options.build_args)?;
    let wanted = lint_options(&file, &options.build_args)?;
    let plan_options = plan_options(options, options.platforms.first(), None);
    source_date_epoch(&file, &plan_options)?;
    let plan = finish(options, Planner::for_check(&file, &plan_options)?, lookup)?;
    let warnings = plan.lints(&file, &wanted, |path| inputs.context.leaves_out(path));
    Ok(Checked { warnings, error: wanted.error, notes: wanted.unknown_rules() })
}

fn finish<'s>(
    options: &BuildOptions,
    planner: Planner<'_>,
    lookup: impl FnOnce() -> Result<Lookup<'s>, StoreError>,
) -> Result<BuildPlan, BuildError> {
    if planner.wanted().is_empty() {
        return Ok(planner.finish()?);
    }
    planning::make(options, planner, &mut Images::new(), &lookup()?)
}

/// What a build takes from its caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Its arguments, by line.
    pub args: Vec<OutlineArg>,
    /// Its secrets, by line.
    pub secrets: Vec<OutlineInput>,
    /// Its SSH agents, by line.
    pub ssh: Vec<OutlineInput>,
    /// IDs of its cache directories, by line.
    pub caches: Vec<(String, Span)>,
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above it says.
    pub description: Option<String>,
    /// The value it has in this build.
    pub value: Option<String>,
    /// Where it is declared.
    pub span: Span,
}

/// A secret or an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineInput {
    /// Its ID.
    pub id: String,
    /// The step fails without it.
    pub required: bool,
    /// The step.
    pub span: Span,
}

/// Lists what the target takes from its caller.
///
/// # Errors
/// As [`check`].
pub fn outline<'s>(
    options: &BuildOptions,
    source: &Source,
    lookup: impl FnOnce() -> Result<Lookup<'s>, StoreError>,
) -> Result<Outline, BuildError> {
    let file = dockerfile::parse(&source.text)?;
    check_front_end(&file, &options.build_args)?;
    let plan_options = plan_options(options, options.platforms.first(), None);
    let plan = finish(options, Planner::new(&file, &plan_options)?, lookup)?;
    let target = &file.stages[plan.target_stage().file_index];
    let mut outline =
        Outline { name: target.name.clone(), description: target.doc_comment.clone(), ..Outline::default() };
    outline.args = args(&file, &plan);
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let StepKind::Run(run) = &step.kind else { continue };
        let input = |id: &String, required: bool| OutlineInput { id: id.clone(), required, span: step.span };
        for mount in &run.mounts {
            match &mount.kind {
                MountKind::Secret { id, required, .. } => add(&mut outline.secrets, input(id, *required)),
                MountKind::Ssh { id, required, .. } => add(&mut outline.ssh, input(id, *required)),
                MountKind::Cache { id, .. } if !outline.caches.iter().any(|(known, _)| known == id) => {
                    outline.caches.push((id.clone(), step.span));
                }
                MountKind::Cache { .. } | MountKind::Bind { .. } | MountKind::Tmpfs { .. } => {}
            }
        }
    }
    Ok(outline)
}

/// One of each ID, required if a step requires it.
fn add(inputs: &mut Vec<OutlineInput>, input: OutlineInput) {
    match inputs.iter_mut().find(|known| known.id == input.id) {
        Some(known) => known.required |= input.required,
        None => inputs.push(input),
    }
}

/// The arguments of the stages that are built, and the global ones that these stages or FROM use.
fn args(file: &Dockerfile, plan: &BuildPlan) -> Vec<OutlineArg> {
    let mut args: Vec<OutlineArg> = Vec::new();
    let global = |name: &str| {
        let mut all =
            file.global_args.iter().flat_map(|located| located.value.args.iter().map(|arg| (arg, located.span)));
        all.find(|(arg, _)| arg.name == name)
    };
    let mut push = |arg: &ArgDefinition, value: Option<String>, span: Span| {
        if !args.iter().any(|known| known.name == arg.name) {
            args.push(OutlineArg { name: arg.name.clone(), description: arg.doc_comment.clone(), value, span });
        }
    };
    for stage in &plan.stages {
        let value_of =
            |name: &str| stage.args.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.clone());
        for located in &file.stages[stage.file_index].instructions {
            let Instruction::Arg(declared) = &located.value else { continue };
            for arg in &declared.args {
                // An ARG without a default of its own is the global one, if there is one.
                let taken = global(&arg.name).filter(|_| arg.default.is_none() && arg.doc_comment.is_none());
                let (shown, span) = taken.unwrap_or((arg, located.span));
                push(shown, value_of(&arg.name), span);
            }
        }
    }
    // Those that FROM uses, and those that their defaults use.
    let froms = plan.stages.iter().map(|stage| &file.stages[stage.file_index]);
    let mut texts: Vec<&str> =
        froms.flat_map(|stage| [Some(stage.base.as_str()), stage.platform.as_deref()]).flatten().collect();
    for located in file.global_args.iter().rev() {
        for arg in located.value.args.iter().rev() {
            if texts.iter().any(|text| uses(text, &arg.name)) {
                texts.extend(arg.default.as_deref());
                let value = plan.global_args.iter().find(|(name, _)| *name == arg.name);
                push(arg, value.and_then(|(_, value)| value.clone()), located.span);
            }
        }
    }
    args.sort_by_key(|arg| arg.span.line);
    args
}

/// Whether a word has `$name` or `${name…` in it.
fn uses(word: &str, name: &str) -> bool {
    word.split('$').skip(1).any(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest).strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

/// The stages of a file, which `--target` can name.
///
/// # Errors
/// [`BuildError::Parse`]
pub fn targets(source: &Source) -> Result<Dockerfile, BuildError> {
    Ok(dockerfile::parse(&source.text)?)
}
