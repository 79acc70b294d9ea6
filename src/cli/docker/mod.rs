//! `docker …`: the forms of Docker's command line. Most verbs are dockless's own; what only a daemon could do is said by name.

mod buildx;
mod context;
mod daemon;
mod imagetools;
mod networks;
mod prune;
mod verbs;

pub use verbs::Meaning;
#[cfg(test)]
pub use verbs::VERBS;

use super::environment::Environment;
use super::tool::Tool;
use super::words::{self, Does, Flag, Given, switch, value};
use super::{Outcome, print, usage};
use crate::ui::{self, Diagnostic, Kind, Look};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The release of Docker whose command line this is, with our own version as its build, for scripts that compare versions.
pub const RELEASE: &str = concat!("28.0.0+dockless.", env!("CARGO_PKG_VERSION"));

const NO_DAEMON: Does = Does::Ignored("there is no daemon to be reached");

/// Flags before the verb.
pub const GLOBAL: &[Flag] = &[
    value("config", Does::Own("the directory of config.json, as DOCKER_CONFIG")),
    value("context", NO_DAEMON).short('c'),
    switch("debug", Does::Ignored("it has no meaning here")).short('D'),
    switch("help", Does::Own("what there is")).short('h'),
    value("host", NO_DAEMON).short('H'),
    value("log-level", Does::Ignored("it has no meaning here")).short('l'),
    switch("tls", NO_DAEMON),
    value("tlscacert", NO_DAEMON),
    value("tlscert", NO_DAEMON),
    value("tlskey", NO_DAEMON),
    switch("tlsverify", NO_DAEMON),
    switch("version", Does::Own("the version, in Docker's words")).short('v'),
];

/// Variables that say where a daemon is.
const OF_THE_DAEMON: [&str; 7] = [
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_TLS_CERTDIR",
    "DOCKER_CERT_PATH",
    "DOCKER_DRIVER",
];

/// A verb that is called.
pub struct Call<'a> {
    /// Its flags and arguments.
    pub given: Given,
    /// The surroundings.
    pub environment: &'a Environment,
    /// The state directory.
    pub state: PathBuf,
    /// How failures are drawn.
    pub look: Look,
}

impl Call<'_> {
    /// The only argument, or an error that names the verb.
    fn one(&self, what: &str) -> Outcome<&str> {
        match &self.given.arguments[..] {
            [only] => Ok(only),
            _ => Err(Box::new(Diagnostic::new(Kind::Usage, format!("expected one {what}")).exit(1))),
        }
    }

    /// Carries out a verb of dockless.
    fn native(&self, line: &[String]) -> Outcome<ExitCode> {
        let line = std::iter::once(Tool::Docker.name().to_string()).chain(line.iter().cloned()).map(OsString::from);
        super::perform(line.collect(), Tool::Docker, self.environment, &mut self.look.clone())
    }

    fn notice(&self, text: &str) {
        ui::notice(self.look, text);
    }
}

/// Carries out a command line of Docker's.
pub fn perform(arguments: Vec<OsString>, environment: Environment, look: &mut Look) -> Outcome<ExitCode> {
    let (given, rest) = globals(&arguments)?;
    let environment = match given.last("config") {
        Some(dir) => environment.with("DOCKER_CONFIG", dir),
        None => environment,
    };
    if given.is("version") {
        return print(&format!("Docker version {RELEASE}, build dockless\n"));
    }
    let words: Vec<&str> = rest.iter().map_while(|word| word.to_str()).collect();
    if words.is_empty() || given.is("help") || words[0] == "help" {
        return print(&verbs::help());
    }
    given.warnings.iter().for_each(|text| ui::notice(*look, text));
    let set: Vec<&str> = OF_THE_DAEMON.into_iter().filter(|name| environment.get(name).is_some()).collect();
    if !set.is_empty() {
        let are = if set.len() > 1 { "are" } else { "is" };
        ui::notice(*look, &format!("{} {are} ignored: dockless needs no daemon", set.join(", ")));
    }
    let (verb, taken) = verbs::find(&words)?;
    let rest = &rest[taken..];
    match verb.meaning {
        Meaning::Native(native) => {
            let program = OsString::from(Tool::Docker.name());
            let native = native.split(' ').map(OsString::from);
            let line = std::iter::once(program).chain(native).chain(rest.iter().cloned()).collect();
            super::perform(line, Tool::Docker, &environment, look)
        }
        Meaning::Own { flags, run, .. } => {
            let words = text(rest)?;
            if words.iter().any(|word| word == "--help") {
                return print(&verbs::help_of(verb));
            }
            let given = words::read(&[flags], &words, false)?;
            given.warnings.iter().for_each(|text| ui::notice(*look, text));
            let state = super::state::Places::find(&environment).state;
            run(&Call { given, environment: &environment, state, look: *look })
        }
        Meaning::Compose => super::compose::perform(text(rest)?, &environment, look),
        Meaning::Unsupported(instead) => Err(unsupported(verb.words, instead)),
    }
}

/// What is said of a verb that dockless does not have.
pub fn unsupported(words: &str, instead: &str) -> Box<Diagnostic> {
    let message = format!("docker: '{words}' is not something dockless does");
    Box::new(Diagnostic::new(Kind::Usage, message).hint(instead).exit(1))
}

/// The flags before the verb, and what follows them.
fn globals(arguments: &[OsString]) -> Outcome<(Given, &[OsString])> {
    let all = arguments.get(1..).unwrap_or_default();
    let mut taken = 0;
    while let Some(word) = all.get(taken).and_then(|word| word.to_str()).filter(|word| word.starts_with('-')) {
        let long = word.strip_prefix("--");
        let flag = GLOBAL.iter().find(|flag| match long {
            Some(name) => flag.name == name,
            None => word.len() == 2 && word[1..].starts_with(flag.short),
        });
        // The value of `-H tcp://…` is a word of its own.
        taken += if flag.is_some_and(|flag| flag.value) { 2 } else { 1 };
    }
    let (flags, rest) = all.split_at(taken.min(all.len()));
    Ok((words::read(&[GLOBAL], &text(flags)?, false)?, rest))
}

/// Arguments as text.
pub fn text(arguments: &[OsString]) -> Outcome<Vec<String>> {
    let one = |word: &OsString| word.to_str().map(str::to_string);
    let wrong = |word: &OsString| usage(format!("the argument '{}' is not UTF-8", word.to_string_lossy()));
    arguments.iter().map(|word| one(word).ok_or_else(|| wrong(word))).collect()
}
