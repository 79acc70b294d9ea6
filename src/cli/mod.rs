//! The command line: arguments and environment in, operations called.
//!
//! `cli` is the only reader of the environment, the home and the current directory. It turns arguments into plain jobs
//! ([`build::BuildJob`], [`run::RunJob`]) whose paths are absolute, so that what runs below depends on nothing of the
//! process. One file per family of verbs.

mod build;
mod environment;
mod foreign;
mod output;
mod run;
mod state;

use crate::ui::{self, Diagnostic, Kind, Look};
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use environment::Environment;
use std::ffi::OsString;
use std::process::ExitCode;

/// What a verb gives: a failure is a [`Diagnostic`], boxed because it is large and rare.
type Outcome<T> = Result<T, Box<Diagnostic>>;

fn not_wired(verb: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::new(Kind::Bug, format!("this binary was made without the operation behind '{verb}'")))
}

fn usage(message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::new(Kind::Usage, message))
}

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
    Run(run::RunArgs),
    /// Print the version
    Version,
}

/// Carries out the arguments of this process.
pub fn main() -> ExitCode {
    let environment = Environment::read();
    let look = Look::choose(ui::Choice::Auto, &environment.terminal());
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let runs = arguments.get(1).is_some_and(|verb| verb == "run");
    match perform(arguments, &environment, look) {
        Ok(code) => code,
        Err(diagnostic) => {
            // `docker run` keeps 1 and 2 for the container's own codes.
            let diagnostic = if runs { diagnostic.exit(125) } else { *diagnostic };
            ui::report(look, &diagnostic);
            ExitCode::from(diagnostic.exit)
        }
    }
}

fn perform(arguments: Vec<OsString>, environment: &Environment, look: Look) -> Outcome<ExitCode> {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => return complain(&error, look),
    };
    match cli.verb {
        Verb::Version => print(&format!("dockless {}\n", env!("CARGO_PKG_VERSION"))),
        Verb::Build(args) => {
            let look = Look::choose(args.progress(environment)?, &environment.terminal());
            let (_job, warnings) = args.job(environment)?;
            warnings.iter().for_each(|text| ui::notice(look, text));
            Err(not_wired("build"))
        }
        Verb::Run(args) => {
            let (_job, warnings) = args.job(environment)?;
            warnings.iter().for_each(|text| ui::notice(look, text));
            Err(not_wired("run"))
        }
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let parsed = go_booleans(Cli::command()).try_get_matches_from(&arguments);
    match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        // Help shows the flags without their `[=<BOOL>]`.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Cli::try_parse_from(&arguments),
        result => result,
    }
}

/// Lets every flag be written `--flag=true` or `--flag=false` too, as scripts written for Go's flags do.
fn go_booleans(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|verb| {
        verb.mut_args(|arg| match arg.get_action() {
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
fn complain(error: &clap::Error, look: Look) -> Outcome<ExitCode> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return print(&error.render().to_string());
    }
    let text = if look.colour { error.render().ansi().to_string() } else { error.render().to_string() };
    ui::complain(&text);
    Ok(ExitCode::from(2))
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
