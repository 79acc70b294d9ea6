//! Commands run by themselves, outside any build: what a diagnosis of the machine and the tests of this module need.

use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::enter::{enter, entered};
use super::error::SandboxError;
use super::run::Sandbox;
use super::spec::RunSpec;
use super::{Exit, Isolation, Role};
use crate::progress::Stream;

/// Output that is kept of one command, in bytes: the report of a role is small.
const KEPT: usize = 8 << 10;

/// How one command of a [`trial`] went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Its exit, or the message of the error and the exit code that stands for it.
    pub exit: Result<Exit, (String, u8)>,
    /// The start of its standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// The start of its standard error, likewise.
    pub stderr: String,
}

/// Enters namespaces as a build does and runs `specs` there one after another; they should capture. At most eight of
/// them if they write much. `exe` is this program, see [`Sandbox::new`].
pub fn trial(exe: &Path, specs: &[RunSpec]) -> Result<Vec<TrialResult>, SandboxError> {
    trial_in(exe, specs, Isolation::Namespaces)
}

/// The same in the best tier that `isolation` allows.
pub fn trial_in(exe: &Path, specs: &[RunSpec], isolation: Isolation) -> Result<Vec<TrialResult>, SandboxError> {
    let control = |error: serde_json::Error| SandboxError::Control { role: Role::Trial.name(), source: error.into() };
    let payload = serde_json::to_vec(&(exe, specs)).map_err(control)?;
    let ended = enter(exe, Role::Trial, &payload, isolation)?;
    let report = ended.report.ok_or(SandboxError::Lost { role: Role::Trial.name(), exit: ended.exit })?;
    serde_json::from_slice(&report).map_err(control)
}

/// The role: to be called in a process that [`trial`] started, before any thread.
pub fn trial_role() -> ExitCode {
    let Some(entered) = entered() else { return ExitCode::from(125) };
    let Ok((exe, specs)) = serde_json::from_slice::<(std::path::PathBuf, Vec<RunSpec>)>(&entered.payload) else {
        return ExitCode::from(125);
    };
    let Ok(sandbox) = Sandbox::new(exe, entered.tier) else { return ExitCode::from(125) };
    let results: Vec<TrialResult> = specs.iter().map(|spec| run_one(&sandbox, spec)).collect();
    let report = serde_json::to_vec(&results).map_err(std::io::Error::from);
    match report.and_then(|report| entered.report(&report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(125),
    }
}

fn run_one(sandbox: &Sandbox, spec: &RunSpec) -> TrialResult {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = sandbox.run(spec, &mut |stream, bytes| {
        let kept = if stream == Stream::Stdout { &mut stdout } else { &mut stderr };
        kept.extend_from_slice(&bytes[..bytes.len().min(KEPT - kept.len())]);
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    TrialResult {
        exit: exit.map_err(|error| (error.to_string(), error.exit_code())),
        stdout: text(&stdout),
        stderr: text(&stderr),
    }
}
