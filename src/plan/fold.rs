//! A stage's instructions, one after the other, folded into steps and a config.

use super::error::{PlanError, PlanErrorKind};
use super::model::{
    Base, ImageSource, PlannedImage, PlannedStage, StageIndex, Step, StepKind, TreeSource, WorkdirStep,
};
use super::planner::{Command, Found, Planner, Source};
use super::signal::{self, is_signal};
use super::state::{State, start};
use super::text::{absolute, duration, quoted_list};
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::expose;
use crate::dockerfile::instruction::{ArgInstruction, CommandLine, Healthcheck, Instruction, KeyValue};
use crate::dockerfile::lint::{self, Rule, Warning, detail};
use crate::dockerfile::redact::redact;
use crate::dockerfile::span::Span;
use crate::dockerfile::suggest::nearest;
use crate::oci::{Empty, HealthConfig, History, ImageConfig, Platform};

/// What BuildKit writes into every history entry.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// Arguments that steer the build and never reach the environment.
const NOT_ENVIRONMENT: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

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
        let (mut stage, state, warnings) = fold(planner, at, &places, &states)?;
        stage.config.history = history(planner, &out, &stage);
        planner.warnings.extend(warnings);
        places[at] = Some(StageIndex(out.len()));
        states[at] = Some(state);
        out.push(stage);
    }
    let target = places[planner.target].unwrap_or(StageIndex(0));
    finish_target(planner, &mut out[target.0].config);
    Ok((out, target))
}

/// A stage's history: that of its base, then one entry a step.
fn history(planner: &Planner<'_>, done: &[PlannedStage], stage: &PlannedStage) -> Vec<History> {
    let base = match &stage.base {
        Base::Stage(parent) => Some(&done[parent.0].config),
        Base::Image(image) => planner.image(&image.source, &image.platform).map(|image| &image.config),
        Base::Scratch | Base::Context(_) => None,
    };
    let base = base.into_iter().flat_map(|config| &config.history);
    base.chain(stage.steps.iter().map(|step| &step.history)).cloned().collect()
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
        args: fold.state.args.entries().to_vec(),
        total,
        config,
    };
    Ok((stage, fold.state, fold.warnings))
}

impl Fold<'_, '_> {
    fn instruction(&mut self, command: &Command<'_>) -> Result<(), PlanErrorKind> {
        match &command.instruction.value {
            Instruction::Add(add) => self.add(command, add),
            Instruction::Arg(arg) => self.arg(command, arg),
            Instruction::Cmd(line) => {
                self.recommend_json(command, line);
                let args = self.state.with_shell(line);
                self.metadata(command, format!("CMD {}", quoted_list(&args)));
                self.state.config.config.cmd = Some(args).filter(|args| !args.is_empty());
                self.state.config.config.args_escaped = Some(true);
                self.cmd_set = true;
                Ok(())
            }
            Instruction::Copy(copy) => self.copy(command, copy),
            Instruction::Entrypoint(line) => {
                self.recommend_json(command, line);
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
                    return Err(PlanErrorKind::Signal { suggestion: signal::nearest_to(&signal), name: signal });
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

    /// Warns of CMD and ENTRYPOINT in shell form, unless a SHELL was chosen, here or by the base.
    fn recommend_json(&mut self, command: &Command<'_>, line: &CommandLine) {
        let chosen = self.state.config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        if chosen || command.trigger || !matches!(line, CommandLine::Shell(_)) {
            return;
        }
        let located = &command.instruction;
        let word = located.original.split_whitespace().next().unwrap_or_default();
        self.warn(&lint::JSON_ARGS_RECOMMENDED, detail::json_args_recommended(word), located.span);
    }

    /// Expands a word of an instruction, warning of variables that are not there.
    pub(super) fn expand(&mut self, command: &Command<'_>, word: &str) -> Result<String, ExpandError> {
        let word = self.planner.words.expand(word, &self.state.env)?;
        self.warn_unmatched(command.instruction.span, &word.unmatched);
        Ok(word.word)
    }

    fn warn(&mut self, rule: &Rule, detail: String, span: Span) {
        self.warnings.push(Warning::new(rule, detail, span));
    }

    pub(super) fn warn_unmatched(&mut self, span: Span, unmatched: &[String]) {
        for name in unmatched {
            if self.state.args.get(name).is_none() && !NOT_ENVIRONMENT.contains(&name.as_str()) {
                // Nobody reads hundreds of them, and looking for each name among all is not free.
                let few = self.warnings.len() < 100;
                let suggestion = few.then(|| nearest(name, self.state.env.names())).flatten();
                self.warn(&lint::UNDEFINED_VAR, detail::undefined_var(name, suggestion), span);
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
            let text = redact(&self.planner.words.display(original, &self.state.env, false));
            let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
            format!("{}{} {rest}", if command.trigger { "ONBUILD " } else { "" }, word.to_uppercase()).trim_end().into()
        });
        let history = History {
            created_by: Some(created_by),
            comment: Some(COMMENT.to_string()),
            empty_layer,
            ..History::default()
        };
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
            let value = match (globals.build_args.value(name), &definition.default) {
                (Some(given), _) => Some(given.to_string()),
                (None, Some(default)) => Some(self.expand(command, default)?),
                (None, None) => globals.env.get(name).cloned(),
            };
            text.push(' ');
            text.push_str(name);
            if let Some(value) = &value {
                text.push('=');
                text.push_str(value);
                if !NOT_ENVIRONMENT.contains(&name) {
                    self.state.env.set(name, value.clone());
                }
            }
            self.state.args.set(name, value);
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
            self.state.env.set(name, value.clone());
            self.state.config_env.set(name, value.clone());
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
            // Of words without a variable the text's own check warns.
            let variable = word.contains('$');
            expanded.extend(self.planner.words.split(word, &self.state.env)?.into_iter().map(|word| (word, variable)));
        }
        expanded.sort();
        let mut exposed = Vec::new();
        for (word, variable) in &expanded {
            let port = expose::parse(word)?;
            if *variable && port.protocol_cased {
                self.warn(&lint::EXPOSE_PROTO_CASING, detail::expose_proto_casing(word), command.instruction.span);
            }
            if *variable && port.host_side {
                self.warn(&lint::EXPOSE_INVALID_FORMAT, detail::expose_invalid_format(word), command.instruction.span);
            }
            exposed.extend(port.ports);
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
        let variable = path.contains('$');
        let path = self.expand(command, path)?;
        if variable && !self.state.workdir_set && !path.starts_with('/') {
            let detail = detail::workdir_relative_path(&path);
            self.warn(&lint::WORKDIR_RELATIVE_PATH, detail, command.instruction.span);
        }
        self.state.workdir_set = true;
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
