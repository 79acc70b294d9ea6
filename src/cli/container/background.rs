//! Containers in the background: a process of their own keeps them. It is this program in the role `keep`, in a session of its
//! own, and tells by its standard output, in one line, whether the container's command runs; then it has none.

use crate::cli::job::{Job, SELF};
use crate::cli::{Outcome, print};
use crate::sandbox::{self, Role};
use crate::ui::{self, Diagnostic, Kind};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// What the keeper tells.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// The command runs.
    Started,
    /// It does not: the message as it is to be shown, and the exit code.
    Failed(String, u8),
}

/// Starts the keeper that does `job`, waits until the container's command runs, and prints `shown`.
pub fn background(job: Job, shown: &str) -> Outcome<ExitCode> {
    start(job).and_then(|code| match code {
        None => print(&format!("{shown}\n")),
        Some(code) => Ok(ExitCode::from(code)),
    })
}

/// The same without printing; the exit code where it failed, which has been told of.
pub fn start(job: Job) -> Outcome<Option<u8>> {
    let lost = |error: std::io::Error| Box::new(Diagnostic::from_error(Kind::Environment, &error).exit(125));
    let payload = serde_json::to_vec(&job).map_err(|error| lost(error.into()))?;
    let mut command = Command::new(SELF);
    command.arg(Role::Keep.argument()).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(lost)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&payload).map_err(lost)?;
    }
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(lost)?;
    }
    match serde_json::from_str(&line) {
        Ok(Word::Started) => Ok(None),
        Ok(Word::Failed(message, code)) => {
            // It writes down how it went first.
            child.wait().map_err(lost)?;
            ui::complain(&message);
            Ok(Some(code))
        }
        Err(_) => {
            let status = child.wait().map_err(lost)?;
            let message = format!("the process that was to keep the container ended early: {status}");
            Err(Box::new(Diagnostic::new(Kind::Environment, message).exit(125)))
        }
    }
}

/// The role `keep`, from its start.
pub fn keep() -> ExitCode {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        tell_failed(&Diagnostic::from_error(Kind::Environment, error).exit(125));
        ExitCode::from(125)
    };
    // It was started as no leader of a process group, so this cannot fail.
    let _ = rustix::process::setsid();
    let mut payload = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut payload) {
        return failed(&error);
    }
    let job: Job = match serde_json::from_slice(&payload) {
        Ok(job) => job,
        Err(error) => return failed(&error),
    };
    let null = fs_err::File::open("/dev/null").and_then(|null| Ok(rustix::stdio::dup2_stdin(null.file())?));
    if let Err(error) = null {
        return failed(&error);
    }
    match sandbox::enter(Path::new(SELF), Role::Build, &payload, job.isolation) {
        Ok(ended) => ExitCode::from(ended.exit.code()),
        Err(error) => {
            let diagnostic: Box<Diagnostic> = error.into();
            tell_failed(&diagnostic.exit(125));
            ExitCode::from(125)
        }
    }
}

/// In the process that works: tells that the command runs.
pub fn tell_started() {
    tell(&Word::Started);
    // Nobody reads any more.
    if let Ok(null) = fs_err::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null.file()); // where that fails, writes do: to nobody
    }
}

/// In the process that works, or in the role: tells why there is no command.
pub fn tell_failed(diagnostic: &Diagnostic) {
    tell(&Word::Failed(diagnostic.draw(false), diagnostic.exit));
}

fn tell(word: &Word) {
    // Two strings and a number are always JSON.
    let line = serde_json::to_string(word).unwrap_or_default();
    let _ = ui::print(&format!("{line}\n")); // whoever waited has gone
}
