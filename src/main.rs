//! The binary: one executable, several roles.

use std::process::ExitCode;

use dockless::sandbox::{self, Role};

fn main() -> ExitCode {
    match std::env::args_os().nth(1).and_then(|argument| Role::from_argument(&argument)) {
        Some(Role::Init) => sandbox::init(),
        Some(Role::Probe) => sandbox::probe_role(),
        Some(Role::Trial) => sandbox::trial_role(),
        // The command line, outside and inside, comes with its own module.
        Some(Role::Build) | None => ExitCode::from(125),
    }
}
