//! From the process that the user started into the one that works inside the namespaces.
//!
//! The outer process reads arguments and environment, hands the [`Job`] over and waits; the inner one has an empty
//! environment and makes its own screen. So nothing of the job's environment can be read from inside a RUN step.

use super::Outcome;
use super::archive::RemoveImages;
use super::build::BuildJob;
use super::cache::CacheTask;
use super::container::{self, ContainerTask};
use super::network::Network;
use super::state::Places;
use super::work;
use crate::sandbox::{self, Exit, Isolation, Role, SandboxError};
use crate::ui::{Diagnostic, Kind, Look, Screen};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// This program, to be started again.
pub const SELF: &str = "/proc/self/exe";

/// Everything that the inner process needs to know. Not `Debug`: the network's settings hold credentials.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// How to draw.
    pub look: Look,
    /// The state directory.
    pub state: PathBuf,
    /// Where trees may be made if that directory's file system cannot carry them.
    pub volume: Option<PathBuf>,
    /// How registries are talked to: nothing of it is seen by a command in a step.
    pub network: Network,
    /// Which tiers may be taken.
    pub isolation: Isolation,
    /// What to do.
    pub task: Task,
}

/// An operation that works inside the namespaces.
#[derive(Serialize, Deserialize)]
pub enum Task {
    /// `dockless build`
    Build(Box<BuildJob>),
    /// Something with a container.
    Container(Box<ContainerTask>),
    /// `dockless cache`
    Cache(CacheTask),
    /// `dockless rmi`
    RemoveImages(RemoveImages),
}

impl Job {
    /// A job.
    pub fn new(look: Look, places: Places, network: Network, isolation: Isolation, task: Task) -> Job {
        Job { look, state: places.state, volume: places.volume, network, isolation, task }
    }
}

/// Does `job` inside new namespaces; gives the exit code of the inner process, which has said what went wrong. Where there
/// are no namespaces, the job is done without, if it can be.
pub fn enter(job: Job) -> Outcome<ExitCode> {
    let payload = serde_json::to_vec(&job).map_err(|error| {
        let mut diagnostic = Diagnostic::new(Kind::Usage, "a path of the command line is not UTF-8");
        diagnostic.causes.push(error.to_string());
        diagnostic
    })?;
    let ended = match sandbox::enter(Path::new(SELF), Role::Build, &payload, job.isolation) {
        Err(why @ SandboxError::NoIsolation { .. }) => {
            let screen = Screen::stderr(job.look);
            return Ok(draw(&screen, work::perform_outside(job, why, &screen)));
        }
        other => other?,
    };
    match ended.exit {
        Exit::Code(_) => Ok(ExitCode::from(ended.exit.code())),
        Exit::Signal(signal) => {
            let message = format!("the process that did the work was killed by signal {signal}");
            Err(Box::new(Diagnostic::new(Kind::Environment, message).exit(ended.exit.code())))
        }
    }
}

/// The inner process, from its start: takes up the job and does it.
pub fn inside() -> ExitCode {
    // Where this fails, the outer process has been told and says why.
    let Some(entered) = sandbox::entered() else { return ExitCode::from(125) };
    let Ok(job) = serde_json::from_slice::<Job>(&entered.payload) else { return ExitCode::from(125) };
    let screen = Screen::stderr(job.look);
    // Whoever waits for a container in the background is told by other ways than the screen.
    let keeps = matches!(&job.task, Task::Container(task) if matches!(**task, ContainerTask::Keep { .. }));
    let result = work::perform(job, entered.tier, &screen);
    if let (Err(diagnostic), true) = (&result, keeps) {
        container::tell_failed(diagnostic);
    }
    draw(&screen, result)
}

/// Closes the screen over what came of the job.
pub fn draw(screen: &Screen, result: Outcome<u8>) -> ExitCode {
    match result {
        Ok(code) => {
            screen.succeed();
            ExitCode::from(code)
        }
        Err(diagnostic) => {
            screen.fail(&diagnostic);
            ExitCode::from(diagnostic.exit)
        }
    }
}
