//! The binary: one executable, several roles.

use std::process::ExitCode;

use dockless::cli;
use dockless::sandbox::{self, Role};
use mimalloc::MiMalloc;

/// musl's allocator has one lock for all threads and gives memory back to the kernel all the time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).and_then(|argument| Role::from_argument(&argument)) {
        Some(Role::Build) => cli::inside(),
        Some(Role::Keep) => cli::keep(),
        Some(Role::Init) => sandbox::init(),
        Some(Role::Chroot) => sandbox::chroot_role(),
        Some(Role::Emulated) => sandbox::emulated_role(),
        Some(Role::Probe) => sandbox::probe_role(),
        Some(Role::Trial) => sandbox::trial_role(),
        None => cli::main(),
    }
}
