//! `dockless run`: the flags of `docker run` to a [`RunJob`].

use super::build::{add_host, network};
use super::environment::Environment;
use super::foreign::{Foreign, OfRun};
use super::{Outcome, usage};
use crate::oci::Reference;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Start an image that is in the local store
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct RunArgs {
    /// Set an environment variable; without a value, from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// The directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// The user to start as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Start this instead of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// Throw the container away at its end, which is always done
    #[arg(long)]
    rm: bool,
    /// Hand standard input to the container
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Network of the container: default, none or host
    #[arg(long, value_name = "MODE")]
    network: Option<String>,
    /// Add a line to /etc/hosts of the container
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    #[command(flatten)]
    foreign: Foreign<OfRun>,
    /// The image, and the command instead of the image's own
    #[arg(value_name = "IMAGE [COMMAND]", required = true, num_args = 1.., trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true)]
    image: Vec<OsString>,
}

/// A container to start.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunJob {
    /// The image.
    pub image: Reference,
    /// The command; empty for the image's own.
    pub command: Vec<Vec<u8>>,
    /// The entrypoint instead of the image's; `Some(vec![])` for none.
    pub entrypoint: Option<Vec<Vec<u8>>>,
    /// Variables over the image's, `NAME=VALUE`.
    pub env: Vec<Vec<u8>>,
    /// The directory to start in instead of the image's.
    pub workdir: Option<Vec<u8>>,
    /// The user instead of the image's.
    pub user: Option<String>,
    /// Standard input is handed on.
    pub interactive: bool,
    /// The container gets a terminal.
    pub tty: bool,
    /// `--network`
    pub network: Option<String>,
    /// `--add-host name:ip`, in order.
    pub add_hosts: Vec<(String, String)>,
}

impl RunArgs {
    /// The job, and warnings about flags that are ignored.
    pub fn job(self, environment: &Environment) -> Outcome<(RunJob, Vec<String>)> {
        let warnings = self.foreign.judge().map_err(usage)?;
        let mut words = self.image.into_iter().map(OsString::into_vec);
        let image = String::from_utf8_lossy(&words.next().unwrap_or_default()).into_owned();
        let image: Reference = image.parse().map_err(|error| usage(format!("{image}: {error}")))?;
        let entrypoint = self.entrypoint.map(|program| {
            let program = program.into_vec();
            if program.is_empty() { vec![] } else { vec![program] }
        });
        let job = RunJob {
            image,
            command: words.collect(),
            entrypoint,
            env: self.env.into_iter().filter_map(|text| variable(text, environment)).collect(),
            workdir: self.workdir.map(OsString::into_vec),
            user: self.user,
            interactive: self.interactive,
            tty: self.tty,
            network: network(self.network)?,
            add_hosts: self.add_host.iter().map(|host| add_host(host)).collect::<Outcome<Vec<_>>>()?,
        };
        Ok((job, warnings))
    }
}

/// `NAME=VALUE`, or `NAME` with its value from the environment; nothing where that does not have it, as `docker run`.
fn variable(text: OsString, environment: &Environment) -> Option<Vec<u8>> {
    let bytes = text.into_vec();
    if bytes.contains(&b'=') {
        return Some(bytes);
    }
    let value = environment.text(std::str::from_utf8(&bytes).ok()?)?;
    Some([&bytes[..], b"=", value.as_bytes()].concat())
}
