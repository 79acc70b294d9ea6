//! Standard input, output and error as descriptors: for containers that have them, and for archives.

use crate::run::{Stdio, size_of};
use crate::sandbox::TerminalSize;
use rustix::io::fcntl_dupfd_cloexec;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Those of this process, for a container; without the input where that is not to be handed on.
pub fn streams(with_input: bool) -> io::Result<Stdio> {
    let input = if with_input { Some(fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?) } else { None };
    let output = fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    Ok(Stdio { input, output, error: fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)? })
}

/// Standard output, for an archive.
pub fn stdout_file() -> io::Result<File> {
    Ok(fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?.into())
}

/// The size of the terminal that standard output is.
pub fn stdout_size() -> Option<TerminalSize> {
    size_of(rustix::stdio::stdout().as_fd())
}
