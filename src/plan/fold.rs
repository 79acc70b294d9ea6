//! A stage's instructions, one after the other, folded into steps and a config.

use super::env::Env;
use super::error::{PlanError, PlanErrorKind};
use super::lint;
use super::model::{
    Base, ImageSource, PlannedImage, PlannedStage, StageIndex, Step, StepKind, TreeSource, WorkdirStep,
};
use super::planner::{Command, Found, Node, NodeBase, Planner, Source};
use super::ports;
use super::signal::is_signal;
use super::text::{absolute, duration, quoted_list};
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::instruction::{ArgInstruction, CommandLine, Healthcheck, Instruction, KeyValue};
use crate::dockerfile::lint::Warning;
use crate::dockerfile::span::Span;
use crate::dockerfile::suggest::nearest;
use crate::oci::{Empty, HealthConfig, History, ImageConfig, Platform};

/// What BuildKit writes into every history entry.
const COMMENT: &str = "buildkit.dockerfile.v0";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Arguments that steer the build and never reach the environment.
const NOT_ENVIRONMENT: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What a stage hands on to one that is built FROM it.
#[derive(Clone)]
pub(super) struct State {
    /// Everything but ENV, which is in `config_env`.
    pub(super) config: ImageConfig,
    config_env: Env,
    /// ENV and ARG as RUN sees them.
    pub(super) env: Env,
    /// Declared arguments, each once.
    pub(super) args: Vec<(String, Option<String>)>,
    pub(super) platform: Platform,
}

/// One stage at work.
pub(super) struct Fold<'p, 'a> {
    pub(super) planner: &'p Planner<'a>,
    at: usize,
    places: &'p [Option<StageIndex>],
    pub(super) state: State,
    steps: Vec<Step>,
    numbered: usize,
    cmd_set: bool,
    warnings: Vec<Warning>,
}

/// Folds every needed stage, in the file's order, which is one of dependency.
pub(super) fn stages(planner: &mut Planner<'_>) -> Result<(Vec<PlannedStage>, StageIndex), PlanError> {
    let needed = planner.needed();
    let mut places: Vec<Option<StageIndex>> = vec![None; needed.len()];
    let mut states: Vec<Option<State>> = vec![None; needed.len()];
    let mut out = Vec::new();
    for at in (0..needed.len()).filter(|at| needed[*at]) {
        let (stage, state, warnings) = fold(planner, at, &places, &states)?;
        planner.warnings.extend(warnings);
        places[at] = Some(StageIndex(out.len()));
        states[at] = Some(state);
        out.push(stage);
    }
    let target = places[planner.target].unwrap_or(StageIndex(0));
    finish_target(planner, &mut out[target.0].config);
    Ok((out, target))
}

/// `--label`, and the platform that was asked for.
fn finish_target(planner: &Planner<'_>, config: &mut ImageConfig) {
    let options = planner.options;
    if !options.labels.is_empty() {
        config.config.labels.get_or_insert_default().extend(options.labels.iter().cloned());
    }
    if options.platform_is_explicit {
        let (wanted, own) = (&options.platform, config.platform());
        let same = wanted.os == own.os && wanted.architecture == own.architecture;
        if wanted.variant.is_some() || !same {
            config.variant = wanted.variant.clone();
        }
        if wanted.os_version.is_some() || !same {
            config.os_version = wanted.os_version.clone();
        }
        config.os = wanted.os.clone();
        config.architecture = wanted.architecture.clone();
    }
    let platform = config.platform().normalised();
    (config.os, config.architecture, config.variant) = (platform.os, platform.architecture, platform.variant);
}

fn fold(
    planner: &Planner<'_>,
    at: usize,
    places: &[Option<StageIndex>],
    states: &[Option<State>],
) -> Result<(PlannedStage, State, Vec<Warning>), PlanError> {
    let node = &planner.stages[at];
    let mut warnings = Vec::new();
    let (base, state) =
        start(planner, node, places, states, &mut warnings).map_err(|kind| kind.at(node.stage.base_span))?;
    let numbered = usize::from(matches!(base, Base::Image(_)));
    let counted = |command: &&Command<'_>| {
        use Instruction::{Add, Copy, Run, Workdir};
        command.trigger || matches!(command.instruction.value, Add(_) | Copy(_) | Run(_) | Workdir(_))
    };
    let total =
        usize::from(matches!(base, Base::Image(_) | Base::Context(_))) + node.commands.iter().filter(counted).count();
    let mut fold = Fold { planner, at, places, state, steps: Vec::new(), numbered, cmd_set: false, warnings };
    for command in &node.commands {
        fold.instruction(command).map_err(|kind| kind.at(command.instruction.span))?;
    }
    let mut config = fold.state.config.clone();
    config.config.env = Some(fold.state.config_env.to_list());
    if config.os == "windows" {
        config.config.working_dir = config.config.working_dir.replace('/', "\\");
    }
    let stage = PlannedStage {
        name: node.stage.name.clone(),
        file_index: at,
        label: planner.label(at),
        span: node.stage.span,
        base,
        platform: fold.state.platform.clone(),
        steps: fold.steps,
        total,
        config,
    };
    Ok((stage, fold.state, fold.warnings))
}

/// What a stage begins with.
fn start(
    planner: &Planner<'_>,
    node: &Node<'_>,
    places: &[Option<StageIndex>],
    states: &[Option<State>],
    warnings: &mut Vec<Warning>,
) -> Result<(Base, State), PlanErrorKind> {
    if let NodeBase::Stage(parent) = node.base {
        // FROM names stages above it only, and whatever a needed stage is built on is needed.
        if let (Some(place), Some(state)) = (places[parent], &states[parent]) {
            let mut state = state.clone();
            state.config.config.on_build = None;
            for (name, value) in state.config_env.entries() {
                state.env.set(name, value);
            }
            return Ok((Base::Stage(place), state));
        }
    }
    let platform = match node.base {
        NodeBase::Named(_) => planner.base_platform(node),
        _ => planner.options.platform.clone(),
    };
    let (base, config, platform) = match &node.base {
        NodeBase::Named(name) => match planner.find(name, &platform)? {
            Found::Scratch => (Base::Scratch, empty_config(&platform), platform),
            Found::Tree(context) => (Base::Context(context), empty_config(&platform), platform),
            Found::Image(source) => {
                let image = planner.image(&source, &platform).ok_or_else(|| PlanErrorKind::Unresolved(name.clone()))?;
                let (wanted, actual) = (&platform, image.config.platform());
                let own = own_platform(planner, node, wanted, &actual);
                if own.os != actual.os || own.architecture != actual.architecture {
                    warnings.push(lint::invalid_base_platform(name, &own, &actual.normalised(), node.stage.span));
                }
                let mut config = image.config.clone();
                config.created = None;
                config.config.on_build = None;
                let digest = image.digest.clone();
                (Base::Image(Box::new(PlannedImage { source, digest, platform: own.clone() })), config, own)
            }
        },
        NodeBase::Scratch | NodeBase::Stage(_) => (Base::Scratch, empty_config(&platform), platform),
    };
    Ok((base, State::new(config, platform)))
}

/// The platform of a stage: a base image for the builder's own platform keeps it where none was asked for.
fn own_platform(planner: &Planner<'_>, node: &Node<'_>, wanted: &Platform, actual: &Platform) -> Platform {
    let build = &planner.options.build_platform;
    let implicit = node.platform.is_none() && !planner.options.platform_is_explicit;
    let is = |platform: &Platform| platform.os == actual.os && platform.architecture == actual.architecture;
    if implicit && !is(wanted) && is(build) { build.clone() } else { wanted.clone() }
}

fn empty_config(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        ..ImageConfig::default()
    };
    config.config.working_dir = "/".to_string();
    config
}

impl State {
    fn new(mut config: ImageConfig, platform: Platform) -> Self {
        let mut config_env = Env::from_list(&config.config.env.take().unwrap_or_default());
        if config_env.get("PATH").is_none() && platform.os != "windows" {
            config_env.set("PATH", DEFAULT_PATH);
        }
        let directory = &config.config.working_dir;
        if !directory.is_empty() && !directory.starts_with('/') {
            config.config.working_dir = absolute("/", directory);
        }
        State { config, env: config_env.clone(), config_env, args: Vec::new(), platform }
    }

    /// Working directory, absolute and clean.
    pub(super) fn cwd(&self) -> String {
        absolute("/", &self.config.config.working_dir)
    }

    /// A command line after SHELL was put before a shell form.
    pub(super) fn with_shell(&self, command: &CommandLine) -> Vec<String> {
        let text = match command {
            CommandLine::Exec(args) => return args.clone(),
            CommandLine::Shell(text) => text.clone(),
        };
        let mut args = match (&self.config.config.shell, self.config.os.as_str()) {
            (Some(shell), _) if !shell.is_empty() => shell.clone(),
            (_, "windows") => vec!["cmd".into(), "/S".into(), "/C".into()],
            _ => vec!["/bin/sh".into(), "-c".into()],
        };
        args.push(text);
        args
    }
}

impl Fold<'_, '_> {
    fn instruction(&mut self, command: &Command<'_>) -> Result<(), PlanErrorKind> {
        match &command.instruction.value {
            Instruction::Add(add) => self.add(command, add),
            Instruction::Arg(arg) => self.arg(command, arg),
            Instruction::Cmd(line) => {
                let args = self.state.with_shell(line);
                self.metadata(command, format!("CMD {}", quoted_list(&args)));
                self.state.config.config.cmd = Some(args).filter(|args| !args.is_empty());
                self.state.config.config.args_escaped = Some(true);
                self.cmd_set = true;
                Ok(())
            }
            Instruction::Copy(copy) => self.copy(command, copy),
            Instruction::Entrypoint(line) => {
                let args = self.state.with_shell(line);
                self.metadata(command, format!("ENTRYPOINT {}", quoted_list(&args)));
                self.state.config.config.entrypoint = Some(args).filter(|args| !args.is_empty());
                if !self.cmd_set {
                    self.state.config.config.cmd = None;
                }
                Ok(())
            }
            Instruction::Env(pairs) => self.env(command, pairs),
            Instruction::Expose(words) => self.expose(command, words),
            Instruction::Healthcheck(check) => {
                let health = health_config(check);
                self.metadata(command, format!("HEALTHCHECK {}", health_text(&health)));
                self.state.config.config.healthcheck = Some(health);
                Ok(())
            }
            Instruction::Label(pairs) => self.label(command, pairs),
            Instruction::Maintainer(name) => {
                self.state.config.author = Some(name.clone());
                self.metadata(command, format!("MAINTAINER {name}"));
                Ok(())
            }
            Instruction::Onbuild(trigger) => {
                self.state.config.config.on_build.get_or_insert_default().push(trigger.clone());
                Ok(())
            }
            Instruction::Run(run) => self.run(command, run),
            Instruction::Shell(shell) => {
                self.metadata(command, format!("SHELL [{}]", shell.join(" ")));
                self.state.config.config.shell = Some(shell.clone());
                Ok(())
            }
            Instruction::Stopsignal(signal) => {
                let signal = self.expand(command, signal)?;
                if !is_signal(&signal) {
                    return Err(PlanErrorKind::Signal(signal));
                }
                self.metadata(command, format!("STOPSIGNAL {signal}"));
                self.state.config.config.stop_signal = Some(signal);
                Ok(())
            }
            Instruction::User(user) => {
                self.state.config.config.user = self.expand(command, user)?;
                self.metadata(command, format!("USER {}", self.state.config.config.user));
                Ok(())
            }
            Instruction::Volume(paths) => self.volume(command, paths),
            Instruction::Workdir(path) => self.workdir(command, path),
        }
    }

    /// Expands a word of an instruction, warning of variables that are not there.
    pub(super) fn expand(&mut self, command: &Command<'_>, word: &str) -> Result<String, ExpandError> {
        let word = self.planner.words.expand(word, &self.state.env)?;
        self.warn_unmatched(command.instruction.span, &word.unmatched);
        Ok(word.word)
    }

    pub(super) fn warn_unmatched(&mut self, span: Span, unmatched: &[String]) {
        for name in unmatched {
            let declared = self.state.args.iter().any(|(known, _)| known == name);
            if !declared && !NOT_ENVIRONMENT.contains(&name.as_str()) {
                let suggestion = nearest(name, self.state.env.names());
                self.warnings.push(lint::undefined_var(name, suggestion, span));
            }
        }
    }

    /// Records an instruction that changes the config alone.
    fn metadata(&mut self, command: &Command<'_>, created_by: String) {
        self.push(command, None, created_by, StepKind::Metadata);
    }

    /// Records a step. `text` is what people see; without one it is the instruction.
    pub(super) fn push(&mut self, command: &Command<'_>, text: Option<String>, created_by: String, kind: StepKind) {
        let empty_layer = matches!(kind, StepKind::Metadata);
        let number = (!empty_layer).then(|| {
            self.numbered += 1;
            self.numbered
        });
        let text = text.unwrap_or_else(|| {
            let original = &command.instruction.original;
            let text = self.planner.words.display(original, &self.state.env, false);
            let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
            format!("{}{} {rest}", if command.trigger { "ONBUILD " } else { "" }, word.to_uppercase()).trim_end().into()
        });
        let history = History {
            created_by: Some(created_by),
            comment: Some(COMMENT.to_string()),
            empty_layer,
            ..History::default()
        };
        self.state.config.history.push(history.clone());
        self.steps.push(Step { span: command.instruction.span, number, text, history, kind });
    }

    /// The tree that a command's `index`-th `--from` names.
    pub(super) fn tree(&self, command: &Command<'_>, index: usize) -> Result<Option<TreeSource>, PlanErrorKind> {
        let Some(source) = command.sources.get(index).and_then(Option::as_ref) else { return Ok(None) };
        let name = match source {
            Source::Stage(stage) => {
                let later = || PlanErrorKind::LaterStage {
                    from: self.planner.label(*stage),
                    stage: self.planner.label(self.at),
                };
                return self.places[*stage].map(TreeSource::Stage).ok_or_else(later).map(Some);
            }
            Source::Named(name) => name,
        };
        let platform = &self.planner.options.platform;
        Ok(Some(match self.planner.find(name, platform)? {
            Found::Scratch => TreeSource::Scratch,
            Found::Tree(context) => TreeSource::NamedContext(context),
            Found::Image(source) => TreeSource::Image(self.image(name, source, platform)?),
        }))
    }

    fn image(&self, name: &str, source: ImageSource, platform: &Platform) -> Result<Box<PlannedImage>, PlanErrorKind> {
        let image = self.planner.image(&source, platform);
        let digest = image.ok_or_else(|| PlanErrorKind::Unresolved(name.to_string()))?.digest.clone();
        Ok(Box::new(PlannedImage { source, digest, platform: platform.clone() }))
    }

    fn arg(&mut self, command: &Command<'_>, arg: &ArgInstruction) -> Result<(), PlanErrorKind> {
        let mut text = "ARG".to_string();
        for definition in &arg.args {
            let name = definition.name.as_str();
            let globals = &self.planner.globals;
            let value = match (globals.build_args.get(name), &definition.default) {
                (Some(given), _) => Some(given.to_string()),
                (None, Some(default)) => Some(self.expand(command, default)?),
                (None, None) => globals.env.get(name).map(str::to_string),
            };
            text.push(' ');
            text.push_str(name);
            if let Some(value) = &value {
                text.push('=');
                text.push_str(value);
                if !NOT_ENVIRONMENT.contains(&name) {
                    self.state.env.set(name, value);
                }
            }
            match self.state.args.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1 = value,
                None => self.state.args.push((name.to_string(), value)),
            }
        }
        self.metadata(command, text);
        Ok(())
    }

    /// Expands names and values, all of them before the first is set.
    fn pairs(&mut self, command: &Command<'_>, pairs: &[KeyValue]) -> Result<Vec<(String, String)>, ExpandError> {
        pairs.iter().map(|pair| Ok((self.expand(command, &pair.key)?, self.expand(command, &pair.value)?))).collect()
    }

    fn env(&mut self, command: &Command<'_>, pairs: &[KeyValue]) -> Result<(), PlanErrorKind> {
        let pairs = self.pairs(command, pairs)?;
        let mut text = "ENV".to_string();
        for (name, value) in &pairs {
            text.push_str(&format!(" {name}={value}"));
            self.state.env.set(name, value);
            self.state.config_env.set(name, value);
        }
        self.metadata(command, text);
        Ok(())
    }

    fn label(&mut self, command: &Command<'_>, pairs: &[KeyValue]) -> Result<(), PlanErrorKind> {
        let pairs = self.pairs(command, pairs)?;
        let text = pairs.iter().fold("LABEL".to_string(), |text, (name, value)| format!("{text} {name}={value}"));
        self.metadata(command, text);
        self.state.config.config.labels.get_or_insert_default().extend(pairs);
        Ok(())
    }

    fn expose(&mut self, command: &Command<'_>, words: &[String]) -> Result<(), PlanErrorKind> {
        let mut expanded = Vec::new();
        for word in words {
            expanded.extend(self.planner.words.split(word, &self.state.env)?);
        }
        expanded.sort();
        let mut exposed = Vec::new();
        for word in &expanded {
            exposed.extend(ports::parse(word)?);
        }
        self.metadata(command, format!("EXPOSE [{}]", exposed.join(" ")));
        let set = self.state.config.config.exposed_ports.get_or_insert_default();
        set.extend(exposed.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }

    fn volume(&mut self, command: &Command<'_>, paths: &[String]) -> Result<(), PlanErrorKind> {
        let paths = paths.iter().map(|path| self.expand(command, path)).collect::<Result<Vec<_>, _>>()?;
        if paths.iter().any(String::is_empty) {
            return Err(PlanErrorKind::EmptyVolume);
        }
        self.metadata(command, format!("VOLUME [{}]", paths.join(" ")));
        let set = self.state.config.config.volumes.get_or_insert_default();
        set.extend(paths.into_iter().map(|path| (path, Empty {})));
        Ok(())
    }

    /// An absolute path stays as written in the config; a relative one is joined and cleaned.
    fn workdir(&mut self, command: &Command<'_>, path: &str) -> Result<(), PlanErrorKind> {
        let path = self.expand(command, path)?;
        let path = if path.starts_with('/') { path } else { absolute(&self.state.cwd(), &path) };
        self.state.config.config.working_dir = path.clone();
        let kind = match path.as_str() {
            "/" => StepKind::Metadata,
            _ => StepKind::Workdir(WorkdirStep { path: self.state.cwd(), user: self.state.config.config.user.clone() }),
        };
        self.push(command, None, format!("WORKDIR {path}"), kind);
        Ok(())
    }
}

fn health_config(check: &Healthcheck) -> HealthConfig {
    match check {
        Healthcheck::None => HealthConfig { test: vec!["NONE".to_string()], ..HealthConfig::default() },
        Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } => HealthConfig {
            test: match command {
                CommandLine::Shell(text) => vec!["CMD-SHELL".to_string(), text.clone()],
                CommandLine::Exec(args) => std::iter::once("CMD".to_string()).chain(args.iter().cloned()).collect(),
            },
            interval: *interval,
            timeout: *timeout,
            start_period: *start_period,
            start_interval: *start_interval,
            retries: *retries,
        },
    }
}

/// Go's `%+v` of the structure.
fn health_text(health: &HealthConfig) -> String {
    format!(
        "{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        health.test.join(" "),
        duration(health.interval),
        duration(health.timeout),
        duration(health.start_period),
        duration(health.start_interval),
        health.retries
    )
}
