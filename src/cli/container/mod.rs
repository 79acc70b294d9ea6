//! The verbs about containers: Docker's, under their short names and below `container`.

mod background;
mod list;
mod work;

pub use background::{background, keep, tell_failed};
pub use work::{ContainerTask, CreateJob, Pull, perform};

use super::environment::Environment;
use super::isolation::isolation;
use super::job::{self, Job, Task};
use super::network::Network;
use super::run::{CreateArgs, RunArgs, variable};
use super::state::Places;
use super::{Outcome, print, reference, usage};
use crate::progress::Stream;
use crate::run::{self as containers, CommitOptions, Container, Containers, CopyOptions, ExecOptions, Local};
use crate::run::{LogOptions, RunError, Stdio};
use crate::sandbox::{Isolation, TerminalSize};
use crate::ui::{self, Diagnostic, Kind, Look, Mode};
use clap::{Args, Subcommand};
use list::PsArgs;
use serde_json::Value;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use work::{each, failed};

/// Manage containers
#[derive(Args, Debug)]
pub struct ContainerArgs {
    #[command(subcommand)]
    verb: Managed,
}

/// What can be said below `container`.
#[derive(Subcommand, Debug)]
enum Managed {
    Run(Box<RunArgs>),
    Create(Box<CreateArgs>),
    #[command(visible_alias = "list")]
    Ls(PsArgs),
    Inspect(InspectArgs),
    Prune(PruneArgs),
    #[command(flatten)]
    Verb(ContainerVerb),
}

/// Verbs that need no `container` before them.
#[derive(Subcommand, Debug)]
pub enum ContainerVerb {
    Start(StartArgs),
    Restart(StopArgs),
    Stop(StopArgs),
    Kill(KillArgs),
    Wait(NamesArgs),
    Ps(PsArgs),
    Logs(LogsArgs),
    Exec(ExecArgs),
    Attach(AttachArgs),
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    Rename(RenameArgs),
    Cp(CpArgs),
    Export(ExportArgs),
    Commit(CommitArgs),
    Diff(DiffArgs),
    Top(TopArgs),
}

/// Start containers that do not run
#[derive(Args, Debug)]
pub struct StartArgs {
    /// Join the caller's output to it, and wait for its end
    #[arg(short, long)]
    attach: bool,
    /// Join the caller's standard input to it, too
    #[arg(short, long)]
    interactive: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Stop containers: by their signal, then by force
#[derive(Args, Debug)]
pub struct StopArgs {
    /// Seconds before force is used; -1 for never [default: the container's, else 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Another signal than the container's
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Send a signal to containers
#[derive(Args, Debug)]
pub struct KillArgs {
    /// Which
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Wait until containers end, and print their exit codes
#[derive(Args, Debug)]
pub struct NamesArgs {
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

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
    /// Accepted: containers have no details
    #[arg(long, hide = true)]
    details: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
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
    /// Accepted: it has the container's rights
    #[arg(long, hide = true)]
    privileged: bool,
    /// Accepted: it cannot be left
    #[arg(long, hide = true, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The container and the command
    #[arg(value_name = "CONTAINER COMMAND", required = true, num_args = 2.., trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Join the caller's input and output to a container that runs
#[derive(Args, Debug)]
pub struct AttachArgs {
    /// Not its standard input
    #[arg(long)]
    no_stdin: bool,
    /// Accepted: signals are not passed on
    #[arg(long, hide = true, value_name = "BOOL")]
    sig_proxy: Option<String>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Remove containers
#[derive(Args, Debug)]
pub struct RmArgs {
    /// Kill those that run; those that are not there are no failure
    #[arg(short, long)]
    force: bool,
    /// Remove their volumes without a name, too
    #[arg(short, long)]
    volumes: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Give a container another name
#[derive(Args, Debug)]
pub struct RenameArgs {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "NAME")]
    name: String,
}

/// Copy files into or out of a container; - is a tar on standard input or output
#[derive(Args, Debug)]
pub struct CpArgs {
    /// Keep owners; else files belong to root in a container, and to the caller outside
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Accepted: nothing is told of the copying
    #[arg(short, long, hide = true)]
    quiet: bool,
    #[arg(value_name = "CONTAINER:PATH|PATH|-", allow_hyphen_values = true)]
    source: OsString,
    #[arg(value_name = "CONTAINER:PATH|PATH|-", allow_hyphen_values = true)]
    target: OsString,
}

/// Write a container's tree as a tar
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// To this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Make an image of a container
#[derive(Args, Debug)]
pub struct CommitArgs {
    /// Who made it
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,
    /// A comment in its history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Apply an instruction of a Dockerfile to its config
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Accepted: a container that runs goes on
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: Option<String>,
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its name
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

/// List what a container has changed: added, changed, deleted
#[derive(Args, Debug)]
pub struct DiffArgs {
    #[arg(value_name = "CONTAINER")]
    container: String,
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

/// Print what is known of containers, as Docker's API has it
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Print each by this Go template, or as one line of json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Accepted: sizes are told by ps -s
    #[arg(short, long, hide = true)]
    size: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Remove all containers that do not run
#[derive(Args, Debug)]
pub struct PruneArgs {
    /// Accepted: nothing is asked
    #[arg(short, long)]
    force: bool,
    /// Only those with label=NAME[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// What a verb works with.
struct Surroundings<'a> {
    environment: &'a Environment,
    state: &'a Path,
    look: Look,
}

impl ContainerArgs {
    /// Carries it out.
    pub fn run(self, environment: &Environment, state: &Path, look: &mut Look) -> Outcome<ExitCode> {
        match self.verb {
            Managed::Run(args) => args.run(environment, state, look),
            Managed::Create(args) => args.run(environment, state, look),
            Managed::Ls(args) => args.run(state),
            Managed::Verb(verb) => verb.run(environment, state, look),
            Managed::Inspect(args) => args.run(state),
            Managed::Prune(args) => {
                let label = |filter: &String| match filter.split_once('=') {
                    Some(("label", label)) => Ok(label.to_string()),
                    _ => Err(usage(format!("--filter {filter}: expected label=NAME[=VALUE]"))),
                };
                let labels = args.filter.iter().map(label).collect::<Outcome<Vec<String>>>()?;
                Surroundings { environment, state, look: *look }.inside(ContainerTask::Prune { labels })
            }
        }
    }
}

impl ContainerVerb {
    /// Carries it out.
    pub fn run(self, environment: &Environment, state: &Path, look: &mut Look) -> Outcome<ExitCode> {
        let here = Surroundings { environment, state, look: *look };
        let all = Containers::of(state);
        match self {
            ContainerVerb::Start(args) => args.run(&here),
            ContainerVerb::Restart(args) => args.restart(&here),
            ContainerVerb::Stop(args) => args.run(state),
            ContainerVerb::Kill(args) => {
                let signal = containers::signal(&args.signal).map_err(failed)?;
                let code = each(&args.containers, |name| containers::kill(&all, &all.find(name)?, signal));
                code.map(ExitCode::from)
            }
            ContainerVerb::Wait(args) => {
                for name in &args.containers {
                    let state = all.find(name).and_then(|container| all.wait(&container.id)).map_err(failed)?;
                    print(&format!("{}\n", state.exit_code))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            ContainerVerb::Ps(args) => args.run(state),
            ContainerVerb::Logs(args) => args.run(state),
            ContainerVerb::Exec(args) => args.run(&here),
            ContainerVerb::Attach(args) => {
                let container = all.find(&args.container).map_err(failed)?;
                let stdio = Stdio::own(!args.no_stdin).map_err(RunError::from)?;
                Ok(ExitCode::from(containers::attach(&all, &container, stdio).map_err(failed)?))
            }
            ContainerVerb::Rm(RmArgs { force, volumes, containers }) => {
                here.inside(ContainerTask::Remove { containers, force, volumes })
            }
            ContainerVerb::Rename(args) => {
                let container = all.find(&args.container).map_err(failed)?;
                all.rename(&container, &args.name).map_err(failed)?;
                Ok(ExitCode::SUCCESS)
            }
            ContainerVerb::Cp(args) => args.run(&here),
            ContainerVerb::Export(args) => {
                let to = args.output.map(|path| environment.absolute(path));
                if to.is_none() && rustix::termios::isatty(rustix::stdio::stdout()) {
                    return Err(usage("an archive is not written to a terminal: use -o, or send it elsewhere"));
                }
                here.inside(ContainerTask::Export { container: args.container, to })
            }
            ContainerVerb::Commit(args) => {
                let CommitArgs { author, message, change: changes, container, image, .. } = args;
                let name = image.as_deref().map(reference).transpose()?;
                let options = CommitOptions { author, message, changes, name };
                here.inside(ContainerTask::Commit { container, options })
            }
            ContainerVerb::Diff(args) => here.inside(ContainerTask::Diff { container: args.container }),
            ContainerVerb::Top(args) => args.run(&here),
        }
    }
}

impl Surroundings<'_> {
    fn network(&self) -> Network {
        Network::plain(self.environment, self.state)
    }

    /// Does it inside the namespaces.
    fn inside(&self, task: ContainerTask) -> Outcome<ExitCode> {
        self.inside_as(task, isolation(None, self.environment)?)
    }

    fn inside_as(&self, task: ContainerTask, isolation: Isolation) -> Outcome<ExitCode> {
        let look = Look { mode: Mode::Quiet, ..self.look };
        let job = Task::Container(Box::new(task));
        job::enter(Job::new(look, Places::only(self.state), self.network(), isolation, job))
    }

    /// Starts a container in the background; the exit code where that failed, which has been told of.
    fn start(&self, container: &Container) -> Outcome<Option<u8>> {
        let task = Task::Container(Box::new(ContainerTask::Keep { container: container.id.clone() }));
        let look = Look { mode: Mode::Quiet, ..self.look };
        background::start(Job::new(look, Places::only(self.state), self.network(), container.isolation, task))
    }

    fn find(&self, text: &str) -> Outcome<Container> {
        Containers::of(self.state).find(text).map_err(failed)
    }
}

impl StartArgs {
    fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        if self.attach || self.interactive {
            let [name] = &self.containers[..] else {
                return Err(usage("one container alone can be started with --attach or --interactive"));
            };
            let container = here.find(name)?;
            let task = ContainerTask::Start { container: container.id.clone(), interactive: self.interactive };
            return here.inside_as(task, container.isolation);
        }
        let mut code = ExitCode::SUCCESS;
        for name in &self.containers {
            // One that runs is no failure, as Docker has it.
            let container = here.find(name)?;
            let runs = Containers::of(here.state).is_running(&container.id).map_err(failed)?;
            match if runs { None } else { here.start(&container)? } {
                None => drop(print(&format!("{name}\n"))?),
                Some(_) => code = ExitCode::from(1),
            }
        }
        Ok(code)
    }
}

impl StopArgs {
    fn run(&self, state: &Path) -> Outcome<ExitCode> {
        each(&self.containers, |name| self.stop(state, name).map(drop)).map(ExitCode::from)
    }

    fn stop(&self, state: &Path, name: &str) -> Result<Container, RunError> {
        let all = Containers::of(state);
        let container = all.find(name)?;
        let signal = self.signal.as_deref().map(containers::signal).transpose()?;
        let seconds = match self.time {
            Some(seconds) => u64::try_from(seconds).ok(),
            None => Some(container.settings.stop_timeout.unwrap_or(10)),
        };
        containers::stop(&all, &container, signal, seconds)?;
        Ok(container)
    }

    fn restart(&self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for name in &self.containers {
            let container = self.stop(here.state, name).map_err(failed)?;
            match here.start(&container)? {
                None => drop(print(&format!("{name}\n"))?),
                Some(_) => code = ExitCode::from(1),
            }
        }
        Ok(code)
    }
}

impl LogsArgs {
    fn run(&self, state: &Path) -> Outcome<ExitCode> {
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

impl ExecArgs {
    fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let mut words = self.command.into_iter().map(OsString::into_vec);
        let name = String::from_utf8_lossy(&words.next().unwrap_or_default()).into_owned();
        let container = here.find(&name)?;
        let mut env = Vec::new();
        for file in &self.env_file {
            let lines = super::run::lines(&here.environment.absolute(file))?;
            env.extend(lines.into_iter().map(|text| variable(text, here.environment)));
        }
        env.extend(self.env.into_iter().map(|text| variable(text, here.environment)));
        let size = containers::size_of(rustix::stdio::stdout().as_fd());
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
        let stdio = Stdio::own(self.interactive && !self.detach).map_err(RunError::from)?;
        let exit = containers::exec(&Containers::of(here.state), &container, &options, stdio, self.detach);
        match exit {
            Ok(exit) => Ok(ExitCode::from(exit.code())),
            // 126 and 127 as for a container's own command.
            Err(error @ RunError::Exec { .. }) => Err(Box::new(Diagnostic::from(&error))),
            Err(error) => Err(failed(error)),
        }
    }
}

impl CpArgs {
    fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let options = CopyOptions { keep_owners: self.archive, follow: self.follow_link };
        let local = |text: &OsString| match text.as_encoded_bytes() {
            b"-" => Local::Tar,
            bytes => {
                // What the end of a path says is lost otherwise.
                let mut path = here.environment.absolute(text).into_os_string();
                if bytes.ends_with(b"/") {
                    path.push("/");
                } else if bytes == b"." || bytes.ends_with(b"/.") {
                    path.push("/.");
                }
                Local::Path(path.into())
            }
        };
        let task = match (side(&self.source), side(&self.target)) {
            (Some(_), Some(_)) => return Err(usage("copying between containers is not supported")),
            (None, None) => return Err(usage("one of the two paths must be in a container: CONTAINER:PATH")),
            (Some((container, from)), None) => {
                ContainerTask::CopyOut { container, from, to: local(&self.target), options }
            }
            (None, Some((container, to))) => {
                ContainerTask::CopyIn { from: local(&self.source), container, to, options }
            }
        };
        here.inside(task)
    }
}

/// `CONTAINER:PATH` taken apart; a path that begins with a slash or a dot is none.
fn side(text: &OsString) -> Option<(String, Vec<u8>)> {
    let bytes = text.as_encoded_bytes();
    if bytes.starts_with(b"/") || bytes.starts_with(b".") {
        return None;
    }
    let colon = bytes.iter().position(|b| *b == b':').filter(|at| *at > 0)?;
    let name = std::str::from_utf8(&bytes[..colon]).ok().filter(|name| !name.contains('/'))?;
    Some((name.to_string(), bytes[colon + 1..].to_vec()))
}

impl TopArgs {
    /// By the container's own ps, which shows what the container sees.
    fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let container = here.find(&self.container)?;
        let mut args = vec![b"ps".to_vec()];
        args.extend(self.options.into_iter().map(OsString::into_vec));
        let options = ExecOptions { args, user: Some(String::new()), ..ExecOptions::default() };
        let stdio = Stdio::own(false).map_err(RunError::from)?;
        let exit = containers::exec(&Containers::of(here.state), &container, &options, stdio, false);
        exit.map(|exit| ExitCode::from(exit.code())).map_err(|error| {
            Box::new(failed(error).hint("the container's own ps lists its processes: the image needs one"))
        })
    }
}

impl InspectArgs {
    fn run(&self, state: &Path) -> Outcome<ExitCode> {
        let found = inspect(state, &self.containers)?;
        match self.format.as_deref() {
            None => {
                let text = serde_json::to_string_pretty(&found)
                    .map_err(|error| Diagnostic::from_error(Kind::Environment, &error))?;
                print(&format!("{text}\n"))
            }
            Some(format) => {
                let text = ui::template::list(format, &Value::Null, &found);
                print(&text.map_err(|error| usage(format!("--format {format}: {error}")).exit(1))?)
            }
        }
    }
}

/// What Docker's API tells of the container that `text` means; `None` where there is none, which is an error where there
/// `must` be one.
pub fn inspect_one(state: &Path, text: &str, must: bool) -> Outcome<Option<Value>> {
    let all = Containers::of(state);
    match all.find(text) {
        Err(RunError::NoContainer(_)) if !must => Ok(None),
        other => other.and_then(|one| containers::inspect(state, &one)).map(Some).map_err(failed),
    }
}

/// Removes volumes; their files may be anybody's.
pub fn remove_volumes(environment: &Environment, state: &Path, names: Vec<String>, force: bool) -> Outcome<ExitCode> {
    let look = Look::choose(ui::Choice::Quiet, &environment.terminal());
    Surroundings { environment, state, look }.inside(ContainerTask::RemoveVolumes { volumes: names, force })
}

/// Removes the volumes that no container has: those without a name, or all.
pub fn prune_volumes(environment: &Environment, state: &Path, all: bool) -> Outcome<ExitCode> {
    let look = Look::choose(ui::Choice::Quiet, &environment.terminal());
    Surroundings { environment, state, look }.inside(ContainerTask::PruneVolumes { all })
}

/// What Docker's API tells of these containers.
pub fn inspect(state: &Path, names: &[String]) -> Outcome<Vec<Value>> {
    let all = Containers::of(state);
    let each = |name: &String| containers::inspect(state, &all.find(name)?);
    names.iter().map(each).collect::<Result<_, _>>().map_err(failed)
}
