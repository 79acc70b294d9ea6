//! The command line: arguments and environment in, operations called.
//!
//! `cli` is the only reader of the environment, the home and the current directory. It turns arguments into plain jobs
//! ([`build::BuildJob`], [`crate::run::RunOptions`]) whose paths are absolute, so that what runs below depends on nothing of the
//! process. One file per family of verbs.

mod archive;
mod build;
mod buildah;
mod buildctl;
mod cache;
mod check;
mod compose;
mod container;
mod disk;
mod docker;
mod environment;
mod foreign;
mod format;
mod history;
mod images;
mod info;
mod inspect;
mod isolation;
mod job;
mod kaniko;
mod login;
mod manifest;
mod mount_flags;
mod network;
mod output;
#[cfg(test)]
mod reference;
mod run;
mod state;
mod tool;
mod transfer;
mod words;
mod work;

pub use container::keep;
pub use job::inside;

use crate::oci::{Platform, Reference};
use crate::ui::{self, Diagnostic, Kind, Look, Screen};
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use environment::Environment;
use job::{Job, Task};
use network::Network;
use std::ffi::OsString;
use std::process::ExitCode;
use tool::Tool;

/// What a verb gives: a failure is a [`Diagnostic`], boxed because it is large and rare.
type Outcome<T> = Result<T, Box<Diagnostic>>;

fn usage(message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::new(Kind::Usage, message))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds container images from Dockerfiles with no daemon and no privilege
#[derive(Parser, Debug)]
#[command(name = "dockless", version, term_width = 100, max_term_width = 100, subcommand_required = true)]
#[command(disable_help_subcommand = true, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Build(Box<build::BuildArgs>),
    Run(Box<run::RunArgs>),
    Create(Box<run::CreateArgs>),
    #[command(flatten)]
    Containers(container::ContainerVerb),
    /// Manage containers
    Container(container::ContainerArgs),
    Pull(transfer::PullArgs),
    Push(transfer::PushArgs),
    Tag(transfer::TagArgs),
    Copy(transfer::CopyArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Images(images::ImagesArgs),
    Inspect(inspect::InspectArgs),
    History(history::HistoryArgs),
    Rmi(archive::RmiArgs),
    Save(archive::SaveArgs),
    Load(archive::LoadArgs),
    #[command(visible_alias = "index")]
    Manifest(manifest::ManifestArgs),
    Registry(inspect::RegistryArgs),
    Cache(cache::CacheArgs),
    Info(info::InfoArgs),
    Doctor(info::DoctorArgs),
    /// Print the version
    Version,
}

/// Carries out the arguments of this process.
pub fn main() -> ExitCode {
    let environment = Environment::read();
    let mut look = Look::choose(ui::Choice::Auto, &environment.terminal());
    let (tool, arguments) = Tool::called(std::env::args_os().collect());
    let runs = arguments.get(1).is_some_and(|verb| verb == "run");
    let done = match tool {
        Tool::Dockless => perform(arguments, tool, &environment, &mut look),
        Tool::Docker => docker::perform(arguments, environment, &mut look),
        Tool::Kaniko => kaniko::perform(arguments, environment, &mut look),
        Tool::Buildctl => buildctl::perform(arguments, &environment, &mut look),
        Tool::Buildah => buildah::perform(arguments, environment, &mut look),
    };
    match done {
        Ok(code) => code,
        Err(diagnostic) => {
            let exit = tool.exit(&diagnostic, runs);
            ui::report(look, &Diagnostic { exit, ..*diagnostic });
            ExitCode::from(exit)
        }
    }
}

/// Carries out `arguments`, which are dockless's own, whatever `tool` they were made for; `look` becomes the one that the
/// flags ask for.
fn perform(arguments: Vec<OsString>, tool: Tool, environment: &Environment, look: &mut Look) -> Outcome<ExitCode> {
    let runs = arguments.get(1).is_some_and(|verb| verb == "run");
    let cli = match parse(arguments, tool) {
        Ok(cli) => cli,
        Err(error) => return complain(&error, *look, tool.misread(error.kind(), runs)),
    };
    let places = state::Places::find(environment);
    let state = places.state.clone();
    let warn = |look: Look, warnings: Vec<String>| warnings.iter().for_each(|text| ui::notice(look, text));
    match cli.verb {
        Verb::Version => print(&format!("dockless {VERSION}\n")),
        Verb::Info(args) => print(&args.text(VERSION, &places, environment)?),
        Verb::Doctor(args) => print(&args.text(VERSION, &places)),
        Verb::Images(args) => {
            let (text, warnings) = args.text(&state, environment)?;
            warn(*look, warnings);
            print(&text)
        }
        Verb::Pull(args) => args.run(environment, &state, *look),
        Verb::Push(args) => args.run(environment, &state, *look),
        Verb::Tag(args) => args.run(&state),
        Verb::Copy(args) => args.run(environment, &state, *look),
        Verb::Login(args) => args.run(environment, &state, *look),
        Verb::Logout(args) => args.run(environment, &state, *look),
        Verb::Inspect(args) => args.run(environment, &state, *look),
        Verb::History(args) => args.run(environment, &state),
        Verb::Rmi(args) => args.run(environment, places, *look),
        Verb::Save(args) => args.run(environment, &state, *look),
        Verb::Load(args) => args.run(environment, &state, *look),
        Verb::Manifest(args) => args.run(environment, &state, *look),
        Verb::Registry(args) => args.run(environment, &state, *look),
        Verb::Cache(args) => {
            let task = Task::Cache(args.task(environment)?);
            let network = Network::plain(environment, &state);
            job::enter(Job::new(*look, places, network, isolation::isolation(None, environment)?, task))
        }
        Verb::Build(args) => {
            *look = Look::choose(args.progress(environment)?, &environment.terminal());
            look.explain = args.explain;
            let (question, flags) = (args.question()?, args.network_args.clone());
            let isolation = args.isolation(environment)?;
            let (job, warnings) = args.job(environment)?;
            let named: Vec<_> = job.options.tags.iter().collect();
            let network = Network::new(environment, &state, &flags, &named, &job.options.add_hosts)?;
            let network = network.insecure_if(job.tools.insecure, &named);
            warn(*look, warnings);
            match question {
                Some(question) => check::answer(question, &job.options, &state, &network, *look),
                None => job::enter(Job::new(*look, places, network, isolation, Task::Build(Box::new(job)))),
            }
        }
        Verb::Run(args) => args.run(environment, &state, look),
        Verb::Create(args) => args.run(environment, &state, look),
        Verb::Containers(verb) => verb.run(environment, &state, look),
        Verb::Container(args) => args.run(environment, &state, look),
    }
}

/// Does `work` with a screen, and closes that over what came of it.
fn go(screen: &Screen, work: impl FnOnce(&Screen) -> Outcome<()>) -> Outcome<ExitCode> {
    let result = work(screen);
    Ok(job::draw(screen, result.map(|()| 0)))
}

/// An image's name.
fn reference(text: &str) -> Outcome<Reference> {
    text.parse().map_err(|error: crate::oci::reference::ReferenceError| usage(error.to_string()))
}

/// The platform of a flag, else of `$DOCKER_DEFAULT_PLATFORM`.
fn platform(text: Option<&str>, environment: &Environment) -> Outcome<Option<Platform>> {
    let texts: Vec<String> = text.map(str::to_string).into_iter().collect();
    let mut platforms = build::platforms(&texts, environment)?;
    match platforms.len() {
        0 | 1 => Ok(platforms.pop()),
        _ => Err(usage("one platform is expected here, not several")),
    }
}

fn parse(arguments: Vec<OsString>, tool: Tool) -> Result<Cli, clap::Error> {
    let command = || command_for(arguments.get(1)).name(tool.name()).bin_name(tool.name());
    let read = |command: clap::Command| {
        command.try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches))
    };
    match read(go_booleans(command())) {
        // Help shows the flags without their `[=<BOOL>]`.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => read(command()),
        result => result,
    }
}

/// Makes the flags of a verb.
type Flags = fn(clap::Command) -> clap::Command;

/// The verbs of most jobs.
const USUAL: &[(&str, Flags)] = &[
    ("build", <build::BuildArgs as clap::Args>::augment_args),
    ("run", <run::RunArgs as clap::Args>::augment_args),
    ("pull", <transfer::PullArgs as clap::Args>::augment_args),
    ("push", <transfer::PushArgs as clap::Args>::augment_args),
    ("tag", <transfer::TagArgs as clap::Args>::augment_args),
    ("copy", <transfer::CopyArgs as clap::Args>::augment_args),
    ("login", <login::LoginArgs as clap::Args>::augment_args),
    ("images", <images::ImagesArgs as clap::Args>::augment_args),
    ("inspect", <inspect::InspectArgs as clap::Args>::augment_args),
];

/// What `verb` is read by. To make the flags of all verbs takes longer than many a verb, so a usual one stands alone.
fn command_for(verb: Option<&OsString>) -> clap::Command {
    let usual = USUAL.iter().find(|(name, _)| verb.is_some_and(|verb| *verb == *name));
    let Some((name, flags)) = usual else { return Cli::command() };
    let root = clap::Command::new("dockless").version(VERSION).term_width(100).max_term_width(100);
    root.subcommand_required(true).disable_help_subcommand(true).subcommand(flags(clap::Command::new(*name)))
}

/// Lets every flag be written `--flag=true` or `--flag=false` too, as scripts written for Go's flags do.
fn go_booleans(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|verb| {
        go_booleans(verb).mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .value_parser(BoolishValueParser::new())
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false"),
            _ => arg,
        })
    })
}

/// Prints what clap has to say: help and version are results, anything else is a usage error.
fn complain(error: &clap::Error, look: Look, code: u8) -> Outcome<ExitCode> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return print(&error.render().to_string());
    }
    let text = if look.colour { error.render().ansi().to_string() } else { error.render().to_string() };
    ui::complain(&text);
    Ok(ExitCode::from(code))
}

fn print(text: &str) -> Outcome<ExitCode> {
    match ui::print(text) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let mut diagnostic = Diagnostic::new(Kind::Environment, "cannot write to standard output");
            diagnostic.causes.push(error.to_string());
            Err(Box::new(diagnostic))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_do_not_contradict_one_another() {
        Cli::command().debug_assert();
        go_booleans(Cli::command()).debug_assert();
    }

    #[test]
    fn a_usual_verb_is_read_alone_as_it_is_among_all() {
        for (verb, _) in USUAL {
            let told = |command: clap::Command| {
                ["--help", "--no-such-flag", "--quiet=perhaps"].map(|word| {
                    let read = go_booleans(command.clone()).try_get_matches_from(["dockless", verb, word]);
                    read.err().map(|error| error.to_string())
                })
            };
            assert_eq!(told(command_for(Some(&verb.into()))), told(Cli::command()), "{verb}");
        }
    }

    /// Every flag that `docker buildx build` has is known, so that none is refused as unknown.
    #[test]
    fn every_flag_of_docker_build_is_known() {
        let command = Cli::command();
        let build = command.find_subcommand("build").unwrap();
        let known: Vec<&str> = build.get_arguments().filter_map(clap::Arg::get_long).collect();
        let docker = "add-host allow annotation attest build-arg build-context builder cache-from cache-to call \
            cgroup-parent check debug file iidfile label load metadata-file network no-cache no-cache-filter output \
            platform policy progress provenance pull push quiet resource sbom secret shm-size ssh tag target ulimit \
            rm force-rm squash compress cpu-period cpu-quota cpu-shares cpuset-cpus cpuset-mems memory memory-swap \
            isolation security-opt disable-content-trust";
        let missing: Vec<&str> = docker.split_whitespace().filter(|flag| !known.contains(flag)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
