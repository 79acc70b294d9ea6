//! `SOURCE_DATE_EPOCH`: which time stands for now. It may name where the time is to be had, which the caller finds out before
//! it plans.

use super::copy::classify;
use super::env::Env;
use super::error::{PlanError, PlanErrorKind};
use super::globals::{EPOCH, Globals};
use super::model::{AddOptions, CopySource};
use super::options::PlanOptions;
use super::words::Words;
use crate::dockerfile::instruction::{AddInstruction, ArgInstruction, Dockerfile, Instruction, Stage};

/// Which time stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceDateEpoch {
    /// Seconds since 1970.
    Seconds(i64),
    /// `context`: the time of the build context's commit or archive; a directory has none, which leaves it unset.
    Context,
    /// The same, of a named context.
    NamedContext(String),
    /// A stage that is nothing but one download: the time of that.
    Source(CopySource, AddOptions),
}

/// `SOURCE_DATE_EPOCH`, from a build argument or else a global ARG; empty is unset.
///
/// # Errors
/// A value that is no number and names nothing, and a stage that is more than a source.
pub fn source_date_epoch(file: &Dockerfile, options: &PlanOptions) -> Result<Option<SourceDateEpoch>, PlanError> {
    let words = Words::new(file.directives.escape);
    let globals = Globals::new(file, options, &words)?;
    let given = globals.build_args.value(EPOCH).or(globals.env.value(EPOCH));
    let Some(value) = given.filter(|value| !value.is_empty()) else { return Ok(None) };
    if let Ok(seconds) = value.parse() {
        return Ok(Some(SourceDateEpoch::Seconds(seconds)));
    }
    if value == "context" {
        return Ok(Some(SourceDateEpoch::Context));
    }
    if options.named_contexts.contains_key(value) {
        return Ok(Some(SourceDateEpoch::NamedContext(value.to_string())));
    }
    let named = |stage: &&Stage| stage.name.as_deref() == Some(&value.to_lowercase());
    let no_span = |kind| PlanError { span: None, kind: Box::new(kind) };
    let stage = file.stages.iter().find(named);
    let stage = stage.ok_or_else(|| no_span(PlanErrorKind::SourceDateEpoch(value.to_string())))?;
    let (source, add) = source(stage, value, &globals, &words).map_err(|kind| kind.at(stage.span))?;
    Ok(Some(SourceDateEpoch::Source(source, add)))
}

/// The one download that `stage` is.
fn source(
    stage: &Stage,
    name: &str,
    globals: &Globals,
    words: &Words,
) -> Result<(CopySource, AddOptions), PlanErrorKind> {
    let must = |must| PlanErrorKind::SourceDateEpochStage { stage: name.to_string(), must };
    let one = || must("contain exactly one remote ADD, of one source");
    let mut env = Env::default();
    for (name, value) in globals.env.entries().iter().filter(|(name, _)| name != EPOCH) {
        env.set(name, value.clone());
    }
    if words.expand(&stage.base, &env)?.word != "scratch" {
        return Err(must("use FROM scratch"));
    }
    let mut found = None;
    for located in &stage.instructions {
        match &located.value {
            Instruction::Arg(arg) => declare(arg, &mut env, globals, words)?,
            Instruction::Add(add) if found.is_none() => found = Some(remote(add, &env, words)?.ok_or_else(one)?),
            Instruction::Add(_) => return Err(one()),
            _ => {
                let instruction = located.original.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
                return Err(PlanErrorKind::SourceDateEpochInstruction { stage: name.to_string(), instruction });
            }
        }
    }
    found.ok_or_else(one)
}

fn declare(arg: &ArgInstruction, env: &mut Env, globals: &Globals, words: &Words) -> Result<(), PlanErrorKind> {
    for definition in &arg.args {
        match (globals.build_args.value(&definition.name), &definition.default) {
            (Some(given), _) => env.set(&definition.name, given.to_string()),
            (None, Some(default)) => {
                let value = words.expand(default, env)?.word;
                env.set(&definition.name, value);
            }
            (None, None) => {}
        }
    }
    Ok(())
}

/// What an ADD downloads; `None` where it is no single download.
fn remote(add: &AddInstruction, env: &Env, words: &Words) -> Result<Option<(CopySource, AddOptions)>, PlanErrorKind> {
    let ([source], []) = (add.paths.sources.as_slice(), add.paths.heredocs.as_slice()) else { return Ok(None) };
    let checksum = add.checksum.as_deref().map(|word| words.expand(word, env)).transpose()?;
    let checksum = checksum.map(|expanded| expanded.word).filter(|word| !word.is_empty());
    let options = AddOptions { unpack: add.unpack, checksum, keep_git_dir: add.keep_git_dir };
    Ok(match classify(words.expand(source, env)?.word, Some(&options))? {
        CopySource::Path(_) => None,
        source => Some((source, options)),
    })
}
