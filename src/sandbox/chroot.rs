//! The chroot tier: a command as real root in a directory of its own, supervised.

use std::process::ExitCode;

use super::error::{During, Failure, Step};
use crate::sys;

/// In the process that a build lives in: checks that this tier can work, and keeps commands from looking into it.
pub(super) fn prepare_build() -> Result<(), Failure> {
    // To where the root is anyway: only whether it is allowed is asked.
    rustix::process::chroot("/").during(Step::Chroot)?;
    sys::forbid_inspection().during(Step::Start)
}

/// The role: to be called in a process that `Sandbox::run` started, before any thread.
pub fn chroot_role() -> ExitCode {
    ExitCode::from(125)
}
