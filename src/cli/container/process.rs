//! The verbs about the processes of a container that runs, and about what it writes.

use super::Surroundings;
use super::work::failed;
use crate::cli::foreign::{Foreign, OfAttach, OfExec, OfLogs};
use crate::cli::run::{lines, variable};
use crate::cli::{Outcome, usage};
use crate::progress::Stream;
use crate::run::{self as containers, Containers, ExecOptions, LogOptions, RunError};
use crate::sandbox::TerminalSize;
use crate::ui::{self, Diagnostic};
use clap::Args;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Print what a container has written
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// At most so many lines from the end; all for all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Only what was written since: a time, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was written before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    pub(super) foreign: Foreign<OfLogs>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl LogsArgs {
    /// Prints it.
    pub fn run(&self, state: &Path) -> Outcome<ExitCode> {
        let all = Containers::of(state);
        let container = all.find(&self.container).map_err(failed)?;
        let tail = match self.tail.as_str() {
            "all" | "-1" => None,
            text => Some(text.parse().map_err(|_| usage(format!("--tail={text}: expected a number or all")))?),
        };
        let time = |flag: &str, text: &Option<String>| match text.as_deref().map(moment) {
            Some(None) => Err(usage(format!("--{flag}: expected a time such as 2026-01-02T03:04:05Z, or 10m"))),
            other => Ok(other.flatten()),
        };
        let options = LogOptions {
            follow: self.follow,
            tail,
            timestamps: self.timestamps,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
        };
        let mut out = |stream, bytes: &[u8]| ui::write_to(stream == Stream::Stderr, bytes);
        let path = all.dir(&container.id).join("log");
        containers::show_logs(&path, &options, &|| all.is_running(&container.id), &mut out).map_err(failed)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A time: RFC 3339, seconds since 1970, or how long ago.
fn moment(text: &str) -> Option<SystemTime> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Some(time);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
    }
    SystemTime::now().checked_sub(humantime::parse_duration(text).ok()?)
}

/// Run a further command in a container that runs
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct ExecArgs {
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Hand standard input to it
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable; without a value, from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Read environment variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// The user to start as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    #[command(flatten)]
    pub(super) foreign: Foreign<OfExec>,
    /// The container and the command
    #[arg(value_name = "CONTAINER COMMAND", required = true, num_args = 2.., trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl ExecArgs {
    /// Runs it, and ends as it does.
    pub fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let mut words = self.command.into_iter().map(OsString::into_vec);
        let name = String::from_utf8_lossy(&words.next().unwrap_or_default()).into_owned();
        let container = here.find(&name)?;
        let mut env = Vec::new();
        for file in &self.env_file {
            let lines = lines(&here.environment.absolute(file))?;
            env.extend(lines.into_iter().map(|text| variable(text, here.environment)));
        }
        env.extend(self.env.into_iter().map(|text| variable(text, here.environment)));
        let size = ui::stdout_size();
        let options = ExecOptions {
            args: words.collect(),
            env,
            workdir: self.workdir.map(OsString::into_vec),
            user: self.user,
            terminal: self.tty.then_some(size.unwrap_or(TerminalSize { rows: 24, columns: 80 })),
        };
        if self.tty && self.interactive && !rustix::termios::isatty(rustix::stdio::stdin()) {
            ui::notice(here.look, "standard input is no terminal: the command has one of its own all the same (--tty)");
        }
        let stdio = ui::streams(self.interactive && !self.detach).map_err(RunError::from)?;
        let exit = containers::exec(&Containers::of(here.state), &container, &options, stdio, self.detach);
        match exit {
            Ok(exit) => Ok(ExitCode::from(exit.code())),
            // 126 and 127 as for a container's own command.
            Err(error @ RunError::Exec { .. }) => Err(Box::new(Diagnostic::from(&error))),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Join the caller's input and output to a container that runs
#[derive(Args, Debug)]
pub struct AttachArgs {
    /// Not its standard input
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    pub(super) foreign: Foreign<OfAttach>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl AttachArgs {
    /// Joins them until the container ends, and ends as it does.
    pub fn run(&self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let container = here.find(&self.container)?;
        let stdio = ui::streams(!self.no_stdin).map_err(RunError::from)?;
        let code = containers::attach(&Containers::of(here.state), &container, stdio).map_err(failed)?;
        Ok(ExitCode::from(code))
    }
}

/// List the processes of a container
#[derive(Args, Debug)]
pub struct TopArgs {
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What to hand to ps
    #[arg(value_name = "PS-OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

impl TopArgs {
    /// By the container's own ps, which shows what the container sees.
    pub fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let container = here.find(&self.container)?;
        let mut args = vec![b"ps".to_vec()];
        args.extend(self.options.into_iter().map(OsString::into_vec));
        let options = ExecOptions { args, user: Some(String::new()), ..ExecOptions::default() };
        let stdio = ui::streams(false).map_err(RunError::from)?;
        let exit = containers::exec(&Containers::of(here.state), &container, &options, stdio, false);
        exit.map(|exit| ExitCode::from(exit.code())).map_err(|error| {
            Box::new(failed(error).hint("the container's own ps lists its processes: the image needs one"))
        })
    }
}
