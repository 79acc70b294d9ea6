//! Stages, what they need of one another, and which images that takes.

use super::env::Env;
use super::error::{PlanError, PlanErrorKind};
use super::fold;
use super::from;
use super::globals::Globals;
use super::model::{BuildPlan, ImageSource};
use super::options::{BaseImage, ImageRequest, NamedContext, PlanOptions};
use super::words::Words;
use crate::dockerfile::instruction::{Dockerfile, Instruction, Located, Stage};
use crate::dockerfile::lint::Warning;
use crate::dockerfile::mount::{MountError, from_name};
use crate::dockerfile::parse_trigger;
use crate::dockerfile::span::Span;
use crate::dockerfile::suggest::nearest;
use crate::oci::{Platform, Reference};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Turns a Dockerfile into a plan, step by step as images become known.
pub struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a PlanOptions,
    pub(super) words: Words,
    pub(super) globals: Globals,
    pub(super) stages: Vec<Node<'a>>,
    pub(super) names: HashMap<String, usize>,
    pub(super) target: usize,
    keep_all: bool,
    pub(super) warnings: Vec<Warning>,
    images: Vec<Slot>,
    slots: HashMap<(ImageSource, Platform), usize>,
}

/// A stage before its commands are folded.
pub(super) struct Node<'a> {
    pub(super) stage: &'a Stage,
    pub(super) base: NodeBase,
    /// `--platform`, expanded.
    pub(super) platform: Option<Platform>,
    /// A named context stands in the stage's place.
    pub(super) replaced: bool,
    /// Triggers first, once they are known.
    pub(super) commands: Vec<Command<'a>>,
    /// Its images were asked for.
    requested: bool,
    /// ONBUILD triggers of the base were taken.
    fired: bool,
}

/// What FROM names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeBase {
    Scratch,
    Stage(usize),
    /// An image or a named context, as text.
    Named(String),
}

/// An instruction and the trees it reads, one a `--from` or `--mount`.
pub(super) struct Command<'a> {
    pub(super) instruction: Cow<'a, Located<Instruction>>,
    pub(super) sources: Vec<Option<Source>>,
    /// Fired by ONBUILD.
    pub(super) trigger: bool,
}

/// What `--from` or a mount's `from=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Stage(usize),
    /// An image or a named context, as text.
    Named(String),
}

impl Source {
    fn stage(&self) -> Option<usize> {
        match self {
            Source::Stage(stage) => Some(*stage),
            Source::Named(_) => None,
        }
    }
}

/// What a name that is no stage stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Scratch,
    Tree(String),
    Image(ImageSource),
}

/// A request and its answer.
struct Slot {
    request: ImageRequest,
    answer: Option<BaseImage>,
}

impl<'a> Node<'a> {
    /// A stage whose commands are still to be linked.
    pub(super) fn new(stage: &'a Stage, base: NodeBase, platform: Option<Platform>, replaced: bool) -> Self {
        Node { stage, base, platform, replaced, commands: Vec::new(), requested: false, fired: false }
    }
}

impl<'a> Planner<'a> {
    /// Expands every FROM, links the stages and drops those that the target does not need.
    pub fn new(dockerfile: &'a Dockerfile, options: &'a PlanOptions) -> Result<Self, PlanError> {
        Planner::with(dockerfile, options, false)
    }

    /// As [`Planner::new`], but without a target no stage is dropped: for a check, which warns of all of them.
    pub fn for_check(dockerfile: &'a Dockerfile, options: &'a PlanOptions) -> Result<Self, PlanError> {
        Planner::with(dockerfile, options, options.target.is_none())
    }

    fn with(dockerfile: &'a Dockerfile, options: &'a PlanOptions, keep_all: bool) -> Result<Self, PlanError> {
        let words = Words::new(dockerfile.directives.escape);
        let mut globals = Globals::new(dockerfile, options, &words)?;
        globals.settle_epoch(options.source_date_epoch);
        let no_span = |kind| PlanError { span: None, kind: Box::new(kind) };
        let mut planner = Planner {
            dockerfile,
            options,
            words,
            globals,
            stages: Vec::new(),
            names: HashMap::new(),
            target: 0,
            keep_all,
            warnings: Vec::new(),
            images: Vec::new(),
            slots: HashMap::new(),
        };
        from::warn_about_defaults(&mut planner);
        for stage in &dockerfile.stages {
            let node = from::node(&mut planner, stage)?;
            planner.stages.push(node);
            if let Some(name) = &stage.name {
                planner.names.insert(name.clone(), planner.stages.len() - 1);
            }
        }
        planner.target = planner.find_target().map_err(no_span)?;
        for at in 0..planner.stages.len() {
            if !planner.stages[at].replaced {
                let stage = planner.stages[at].stage;
                let commands = stage.instructions.iter().map(|i| planner.link(Cow::Borrowed(i), false));
                planner.stages[at].commands = commands.collect::<Result<_, _>>()?;
            }
        }
        planner.check_cycles()?;
        planner.advance()?;
        Ok(planner)
    }

    /// Images that [`Planner::supply`] has not been given yet, none twice.
    pub fn wanted(&self) -> Vec<ImageRequest> {
        self.images.iter().filter(|slot| slot.answer.is_none()).map(|slot| slot.request.clone()).collect()
    }

    /// Answers one request. Its ONBUILD triggers may ask for more images.
    pub fn supply(&mut self, request: &ImageRequest, image: BaseImage) -> Result<(), PlanError> {
        let has_triggers = image.config.config.on_build.as_ref().is_some_and(|triggers| !triggers.is_empty());
        if let Some(at) = self.slots.get(&(request.source.clone(), request.platform.clone())) {
            self.images[*at].answer = Some(image);
        }
        if has_triggers { self.advance() } else { Ok(()) }
    }

    /// Folds the stages that are left into steps. Fails on the first image that is still wanted.
    pub fn finish(mut self) -> Result<BuildPlan, PlanError> {
        if let Some(request) = self.wanted().into_iter().next() {
            return Err(PlanErrorKind::Unresolved(request.text).at(request.span));
        }
        let (stages, target) = fold::stages(&mut self)?;
        // A comment above an instruction may turn a rule off for it.
        self.warnings.retain(|warning| !self.dockerfile.skips(warning.span.line, warning.rule));
        let names = self.dockerfile.global_args.iter().flat_map(|located| &located.value.args);
        let global_args = names.map(|arg| (arg.name.clone(), self.globals.env.get(&arg.name).cloned())).collect();
        Ok(BuildPlan { stages, targets: vec![target], global_args, warnings: self.warnings })
    }

    fn find_target(&self) -> Result<usize, PlanErrorKind> {
        let Some(name) = self.options.target.as_deref().filter(|name| !name.is_empty()) else {
            return self.stages.len().checked_sub(1).ok_or(PlanErrorKind::NoStages);
        };
        self.names.get(&name.to_lowercase()).copied().ok_or_else(|| PlanErrorKind::TargetNotFound {
            name: name.to_string(),
            suggestion: nearest(&name.to_lowercase(), self.stage_names()).map(str::to_string),
        })
    }

    /// Names of the stages, in order.
    pub(super) fn stage_names(&self) -> impl Iterator<Item = &'a str> {
        self.dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref())
    }

    /// Finds the trees that an instruction reads.
    fn link(&self, instruction: Cow<'a, Located<Instruction>>, trigger: bool) -> Result<Command<'a>, PlanError> {
        let sources = match &instruction.value {
            Instruction::Copy(copy) => match copy.from.as_deref().filter(|from| !from.is_empty()) {
                Some(from) => vec![Some(self.copy_source(from).map_err(|kind| kind.at(instruction.span))?)],
                None => Vec::new(),
            },
            Instruction::Run(run) => {
                let source = |value: &String| Ok(from_name(value)?.map(|name| self.named_source(&name)));
                let sources: Result<_, MountError> = run.mounts.iter().map(source).collect();
                sources.map_err(|error| PlanErrorKind::from(error).at(instruction.span))?
            }
            _ => Vec::new(),
        };
        Ok(Command { instruction, sources, trigger })
    }

    /// A stage by number or name, else an image.
    fn copy_source(&self, from: &str) -> Result<Source, PlanErrorKind> {
        let plain = self.words.expand(from, &Env::default())?;
        if plain.word != from {
            return Err(PlanErrorKind::VariableInFrom);
        }
        let Ok(index) = from.parse::<i64>() else { return Ok(self.named_source(from)) };
        let bad = || PlanErrorKind::StageIndex { index: from.to_string(), stages: self.stages.len() };
        let index = usize::try_from(index).ok().filter(|index| *index < self.stages.len()).ok_or_else(bad)?;
        Ok(self.stage_source(index))
    }

    fn named_source(&self, name: &str) -> Source {
        match self.names.get(&name.to_lowercase()) {
            Some(index) => self.stage_source(*index),
            None => Source::Named(name.to_string()),
        }
    }

    /// A stage, or what stands in its place.
    fn stage_source(&self, index: usize) -> Source {
        match &self.stages[index].base {
            NodeBase::Named(name) if self.stages[index].replaced => Source::Named(name.clone()),
            _ => Source::Stage(index),
        }
    }

    /// Fails where stages read one another in a circle.
    fn check_cycles(&self) -> Result<(), PlanError> {
        let edges = |at: usize| {
            let command = |command: &'_ Command<'a>| {
                let span = command.instruction.span;
                let stages = command.sources.iter().flatten().filter_map(Source::stage);
                stages.map(|next| (next, span)).collect::<Vec<_>>()
            };
            self.stages[at].commands.iter().flat_map(command).collect::<Vec<_>>()
        };
        let (mut seen, mut open) = (vec![false; self.stages.len()], vec![false; self.stages.len()]);
        for start in 0..self.stages.len() {
            let mut path = Vec::new();
            if !std::mem::replace(&mut seen[start], true) {
                open[start] = true;
                path.push((start, edges(start).into_iter()));
            }
            while let Some((at, rest)) = path.last_mut() {
                let Some((next, span)) = rest.next() else {
                    open[*at] = false;
                    path.pop();
                    continue;
                };
                if open[next] {
                    return Err(PlanErrorKind::Circular(self.label(next)).at(span));
                }
                if !std::mem::replace(&mut seen[next], true) {
                    open[next] = true;
                    path.push((next, edges(next).into_iter()));
                }
            }
        }
        Ok(())
    }

    /// What people call a stage.
    pub(super) fn label(&self, at: usize) -> String {
        match &self.stages[at].stage.name {
            Some(name) => name.clone(),
            None if self.stages.len() == 1 => String::new(),
            None => format!("stage-{at}"),
        }
    }

    /// Which stages the target needs, itself included; all of them for a check.
    pub(super) fn needed(&self) -> Vec<bool> {
        let mut needed = vec![self.keep_all; self.stages.len()];
        let mut todo = vec![self.target];
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut needed[at], true) {
                continue;
            }
            if let NodeBase::Stage(base) = self.stages[at].base {
                todo.push(base);
            }
            let sources = self.stages[at].commands.iter().flat_map(|command| command.sources.iter().flatten());
            todo.extend(sources.filter_map(Source::stage));
        }
        needed
    }

    /// Asks for the images of needed stages and fires the triggers of those that are known, until nothing changes.
    fn advance(&mut self) -> Result<(), PlanError> {
        loop {
            let needed = self.needed();
            let mut changed = false;
            for at in (0..self.stages.len()).filter(|at| needed[*at]) {
                self.request_images(at)?;
                changed |= self.fire(at)?;
            }
            if !changed {
                return Ok(());
            }
            self.check_cycles()?;
        }
    }

    /// Makes a slot for every image that a stage names.
    fn request_images(&mut self, at: usize) -> Result<(), PlanError> {
        if std::mem::replace(&mut self.stages[at].requested, true) {
            return Ok(());
        }
        let node = &self.stages[at];
        let mut names: Vec<(String, Platform, Span)> = Vec::new();
        if let NodeBase::Named(name) = &node.base {
            names.push((name.clone(), self.base_platform(node), node.stage.base_span));
        }
        for command in &node.commands {
            for source in command.sources.iter().flatten() {
                if let Source::Named(name) = source {
                    names.push((name.clone(), self.options.platform.clone(), command.instruction.span));
                }
            }
        }
        for (text, platform, span) in names {
            let Found::Image(source) = self.find(&text, &platform).map_err(|kind| kind.at(span))? else { continue };
            if let Entry::Vacant(slot) = self.slots.entry((source.clone(), platform.clone())) {
                slot.insert(self.images.len());
                self.images.push(Slot { request: ImageRequest { text, source, platform, span }, answer: None });
            }
        }
        Ok(())
    }

    /// The platform a base image is asked for.
    pub(super) fn base_platform(&self, node: &Node<'_>) -> Platform {
        node.platform.clone().unwrap_or_else(|| self.options.platform.clone())
    }

    /// The answer for an image, if there is one yet.
    pub(super) fn image(&self, source: &ImageSource, platform: &Platform) -> Option<&BaseImage> {
        let at = self.slots.get(&(source.clone(), platform.clone()))?;
        self.images[*at].answer.as_ref()
    }

    /// What a name stands for that is no stage: a named context before anything else.
    pub(super) fn find(&self, text: &str, platform: &Platform) -> Result<Found, PlanErrorKind> {
        if text == "scratch" {
            return Ok(Found::Scratch);
        }
        let bad = |reason| PlanErrorKind::BadReference {
            name: text.to_string(),
            reason,
            suggestion: self
                .stage_names()
                .find(|name| name.eq_ignore_ascii_case(text))
                .or_else(|| nearest(text, self.stage_names()))
                .map(str::to_string),
        };
        match from::context_for(self.options, text, platform) {
            Some((name, NamedContext::Tree)) => Ok(Found::Tree(name.to_string())),
            Some((name, NamedContext::Layout)) => Ok(Found::Image(ImageSource::Context(name.to_string()))),
            Some((_, NamedContext::Image(reference))) => {
                Ok(Found::Image(ImageSource::Registry(reference.parse().map_err(bad)?)))
            }
            None => Ok(Found::Image(ImageSource::Registry(text.parse::<Reference>().map_err(bad)?))),
        }
    }

    /// Puts the ONBUILD triggers of a stage's base before its own instructions, once.
    fn fire(&mut self, at: usize) -> Result<bool, PlanError> {
        let node = &self.stages[at];
        if node.fired || node.replaced {
            return Ok(false);
        }
        let triggers: Vec<String> = match &node.base {
            NodeBase::Scratch => Vec::new(),
            NodeBase::Stage(base) => self.stages[*base].commands.iter().filter_map(Command::onbuild).collect(),
            NodeBase::Named(name) => {
                let platform = self.base_platform(node);
                match self.find(name, &platform).map_err(|kind| kind.at(node.stage.base_span))? {
                    Found::Image(source) => match self.image(&source, &platform) {
                        Some(image) => image.config.config.on_build.clone().unwrap_or_default(),
                        None => return Ok(false),
                    },
                    Found::Scratch | Found::Tree(_) => Vec::new(),
                }
            }
        };
        let span = node.stage.span;
        let mut commands = Vec::new();
        for trigger in &triggers {
            let bad = |error| PlanErrorKind::Trigger { trigger: trigger.clone(), reason: Box::new(error) }.at(span);
            let escape = self.dockerfile.directives.escape;
            let instruction = parse_trigger(trigger, escape, span).map_err(bad)?;
            commands.push(self.link(Cow::Owned(instruction), true)?);
        }
        let node = &mut self.stages[at];
        node.fired = true;
        node.requested = commands.is_empty();
        let changed = !commands.is_empty();
        commands.append(&mut node.commands);
        node.commands = commands;
        Ok(changed)
    }
}

impl Command<'_> {
    fn onbuild(&self) -> Option<String> {
        match &self.instruction.value {
            Instruction::Onbuild(trigger) => Some(trigger.clone()),
            _ => None,
        }
    }
}
