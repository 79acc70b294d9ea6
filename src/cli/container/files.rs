//! The verbs about the files of a container.

use super::{ContainerTask, Surroundings};
use crate::cli::foreign::{Foreign, OfCommit};
use crate::cli::{Outcome, reference, usage};
use crate::run::{CommitOptions, CopyOptions, Local};
use crate::ui;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// What is copied into a container belongs to this user of it
    #[arg(long, value_name = "USER[:GROUP]", hide = true)]
    chown: Option<String>,
    /// Make directories that are missing in the container
    #[arg(long, hide = true)]
    parents: bool,
    #[arg(value_name = "CONTAINER:PATH|PATH|-", allow_hyphen_values = true)]
    source: OsString,
    #[arg(value_name = "CONTAINER:PATH|PATH|-", allow_hyphen_values = true)]
    target: OsString,
}

impl CpArgs {
    /// Copies them.
    pub fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let (owner, parents) = (self.chown.clone(), self.parents);
        let options = CopyOptions { keep_owners: self.archive, follow: self.follow_link, owner, parents };
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

/// Write a container's tree as a tar
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// To this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl ExportArgs {
    /// Writes it.
    pub fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let to = self.output.map(|path| here.environment.absolute(path));
        if to.is_none() && ui::stdout_is_terminal() {
            return Err(usage("an archive is not written to a terminal: use -o, or send it elsewhere"));
        }
        here.inside(ContainerTask::Export { container: self.container, to })
    }
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
    #[command(flatten)]
    pub(super) foreign: Foreign<OfCommit>,
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its name
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

impl CommitArgs {
    /// Makes it, and prints its ID.
    pub fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        let CommitArgs { author, message, change: changes, container, image, .. } = self;
        let name = image.as_deref().map(reference).transpose()?;
        here.inside(ContainerTask::Commit { container, options: CommitOptions { author, message, changes, name } })
    }
}

/// List what a container has changed: added, changed, deleted
#[derive(Args, Debug)]
pub struct DiffArgs {
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl DiffArgs {
    /// Prints it.
    pub fn run(self, here: &Surroundings<'_>) -> Outcome<ExitCode> {
        here.inside(ContainerTask::Diff { container: self.container })
    }
}
