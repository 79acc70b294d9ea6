//! What a stage begins with, and what it hands on.

use super::env::{Env, Ordered};
use super::error::PlanErrorKind;
use super::model::{Base, PlannedImage, StageIndex};
use super::planner::{Found, Node, NodeBase, Planner};
use super::text::absolute;
use crate::dockerfile::instruction::CommandLine;
use crate::dockerfile::lint::{self, Warning, detail};
use crate::oci::{ImageConfig, Platform};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage hands on to one that is built FROM it.
#[derive(Clone)]
pub(super) struct State {
    /// Everything but ENV, which is in `config_env`, and the history, which is in the steps.
    pub(super) config: ImageConfig,
    pub(super) config_env: Env,
    /// ENV and ARG as RUN sees them.
    pub(super) env: Env,
    /// Declared arguments, each once.
    pub(super) args: Ordered<Option<String>>,
    pub(super) platform: Platform,
    /// A WORKDIR was there, in this stage or one that it is built from.
    pub(super) workdir_set: bool,
}

/// What a stage begins with.
pub(super) fn start(
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
                state.env.set(name, value.clone());
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
                    let (expected, actual) = (own.to_string(), actual.normalised().to_string());
                    let detail = detail::invalid_base_image_platform(name, &expected, &actual);
                    warnings.push(Warning::new(&lint::INVALID_BASE_IMAGE_PLATFORM, detail, node.stage.span));
                }
                let mut config = image.config.clone();
                config.created = None;
                config.history.clear();
                config.config.on_build = None;
                let digest = image.digest.clone();
                (Base::Image(Box::new(PlannedImage { source, digest, platform })), config, own)
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
            config_env.set("PATH", DEFAULT_PATH.to_string());
        }
        let directory = &config.config.working_dir;
        if !directory.is_empty() && !directory.starts_with('/') {
            config.config.working_dir = absolute("/", directory);
        }
        State { config, env: config_env.clone(), config_env, args: Ordered::default(), platform, workdir_set: false }
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
