//! The verbs about containers: Docker's, under their short names and below `container`.

mod background;
mod files;
mod list;
mod process;
mod work;

pub use background::{background, keep, tell_failed};
pub use list::Row;
pub use work::{ContainerTask, CreateJob, Pull, perform};

use super::environment::Environment;
use super::foreign::{Foreign, OfRemove, OfStart};
use super::inspect::LocalInspect;
use super::isolation::isolation;
use super::job::{self, Job, Task};
use super::network::Network;
use super::run::{CreateArgs, RunArgs};
use super::state::Places;
use super::{Outcome, print, usage};
use crate::run::{self as containers, Container, Containers, RunError, Services};
use crate::sandbox::Isolation;
use crate::ui::{self, Look, Mode};
use clap::{Args, Subcommand};
use files::{CommitArgs, CpArgs, DiffArgs, ExportArgs};
use list::PsArgs;
use process::{AttachArgs, ExecArgs, LogsArgs, TopArgs};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;
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
    #[command(flatten)]
    foreign: Foreign<OfStart>,
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

/// Remove containers
#[derive(Args, Debug)]
pub struct RmArgs {
    /// Kill those that run; those that are not there are no failure
    #[arg(short, long)]
    force: bool,
    /// Remove their volumes without a name, too
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    foreign: Foreign<OfRemove>,
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

/// Print what is known of containers, as Docker's API has it
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Print each by this Go template, or all as one line of json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Tell their sizes, too
    #[arg(short, long)]
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
pub struct Surroundings<'a> {
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
            Managed::Ls(args) => Surroundings::new(environment, state, *look).list(args),
            Managed::Verb(verb) => verb.run(environment, state, look),
            Managed::Inspect(InspectArgs { format, size, containers }) => {
                LocalInspect::of_containers(containers, format, size).perform(environment, state, *look)
            }
            Managed::Prune(args) => {
                let label = |filter: &String| match filter.split_once('=') {
                    Some(("label", label)) => Ok(label.to_string()),
                    _ => Err(usage(format!("--filter {filter}: expected label=NAME[=VALUE]"))),
                };
                let labels = args.filter.iter().map(label).collect::<Outcome<Vec<String>>>()?;
                Surroundings::new(environment, state, *look).inside(ContainerTask::Prune { labels })
            }
        }
    }
}

impl ContainerVerb {
    /// What is said of flags that are not carried out.
    fn judge(&self) -> Outcome<Vec<String>> {
        let judged = match self {
            ContainerVerb::Start(args) => args.foreign.judge(),
            ContainerVerb::Attach(args) => args.foreign.judge(),
            ContainerVerb::Exec(args) => args.foreign.judge(),
            ContainerVerb::Logs(args) => args.foreign.judge(),
            ContainerVerb::Commit(args) => args.foreign.judge(),
            ContainerVerb::Rm(args) => args.foreign.judge(),
            _ => Ok(Vec::new()),
        };
        judged.map_err(usage)
    }

    /// Carries it out.
    pub fn run(self, environment: &Environment, state: &Path, look: &mut Look) -> Outcome<ExitCode> {
        self.judge()?.iter().for_each(|text| ui::notice(*look, text));
        let here = Surroundings::new(environment, state, *look);
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
            ContainerVerb::Ps(args) => here.list(args),
            ContainerVerb::Logs(args) => args.run(state),
            ContainerVerb::Exec(args) => args.run(&here),
            ContainerVerb::Attach(args) => args.run(&here),
            ContainerVerb::Rm(RmArgs { force, volumes, containers, .. }) => {
                here.inside(ContainerTask::Remove { containers, force, volumes })
            }
            ContainerVerb::Rename(args) => {
                let container = all.find(&args.container).map_err(failed)?;
                all.rename(&container, &args.name).map_err(failed)?;
                Ok(ExitCode::SUCCESS)
            }
            ContainerVerb::Cp(args) => args.run(&here),
            ContainerVerb::Export(args) => args.run(&here),
            ContainerVerb::Commit(args) => args.run(&here),
            ContainerVerb::Diff(args) => args.run(&here),
            ContainerVerb::Top(args) => args.run(&here),
        }
    }
}

impl<'a> Surroundings<'a> {
    /// These.
    pub fn new(environment: &'a Environment, state: &'a Path, look: Look) -> Self {
        Surroundings { environment, state, look }
    }
}

impl Surroundings<'_> {
    /// Prints the list of containers.
    fn list(&self, args: PsArgs) -> Outcome<ExitCode> {
        match args.looks_at_files() {
            true => self.inside(ContainerTask::List(args)),
            // What templates that do not ask for a size have in its place, as with Docker.
            false => args.run(self.state, &|_| Ok("0B".into())),
        }
    }

    fn network(&self) -> Network {
        Network::plain(self.environment, self.state)
    }

    /// Does it inside the namespaces.
    pub fn inside(&self, task: ContainerTask) -> Outcome<ExitCode> {
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

/// What Docker's API tells of the container that `text` means, its sizes too where `services` can look at them; `None`
/// where there is none, which is an error where there `must` be one.
pub fn inspect_one(state: &Path, text: &str, must: bool, services: Option<&Services<'_>>) -> Outcome<Option<Value>> {
    let container = match Containers::of(state).find(text) {
        Err(RunError::NoContainer(_)) if !must => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut value = containers::inspect(state, &container).map_err(failed)?;
    if let Some(services) = services {
        let sizes = containers::sizes(&container, services).map_err(failed)?;
        (value["SizeRw"], value["SizeRootFs"]) = (sizes.changed.into(), sizes.whole.into());
    }
    Ok(Some(value))
}

/// Removes volumes; their files may be anybody's.
pub fn remove_volumes(environment: &Environment, state: &Path, names: Vec<String>, force: bool) -> Outcome<ExitCode> {
    let look = Look::choose(ui::Choice::Quiet, &environment.terminal());
    Surroundings::new(environment, state, look).inside(ContainerTask::RemoveVolumes { volumes: names, force })
}

/// Removes the volumes that no container has: those without a name, or all.
pub fn prune_volumes(environment: &Environment, state: &Path, all: bool) -> Outcome<ExitCode> {
    let look = Look::choose(ui::Choice::Quiet, &environment.terminal());
    Surroundings::new(environment, state, look).inside(ContainerTask::PruneVolumes { all })
}
