//! `dockless run`: the flags of `docker run` to [`RunOptions`].

use super::build::{add_host, network};
use super::environment::Environment;
use super::foreign::{Foreign, OfRun};
use super::isolation::isolation;
use super::{Outcome, usage};
use crate::oci::Reference;
use crate::run::RunOptions;
use crate::sandbox::Isolation;
use clap::Args;
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
    /// Accepted: the container has the caller's terminal, where there is one
    #[arg(short, long)]
    tty: bool,
    /// Network of the container: default, none or host
    #[arg(long, value_name = "MODE")]
    network: Option<String>,
    /// Add a line to /etc/hosts of the container
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// How the container is isolated: auto, namespaces or chroot; also $DOCKLESS_ISOLATION
    #[arg(long, value_name = "TIER")]
    isolation: Option<String>,
    #[command(flatten)]
    foreign: Foreign<OfRun>,
    /// The image, and the command instead of the image's own
    #[arg(value_name = "IMAGE [COMMAND]", required = true, num_args = 1.., trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true)]
    image: Vec<OsString>,
}

impl RunArgs {
    /// Whether standard input is handed on; without `-i` the container has none.
    pub fn hands_input_on(&self) -> bool {
        self.interactive
    }

    /// Which tiers may be taken.
    pub fn isolation(&self, environment: &Environment) -> Outcome<Isolation> {
        isolation(self.isolation.as_deref(), environment)
    }

    /// The options, and warnings about flags that are ignored.
    pub fn options(self, environment: &Environment) -> Outcome<(RunOptions, Vec<String>)> {
        let mut warnings = self.foreign.judge().map_err(usage)?;
        if self.tty {
            warnings
                .push("--tty makes no terminal of its own: the container has the caller's, where there is one".into());
        }
        let mut words = self.image.into_iter().map(OsString::into_vec);
        let image = String::from_utf8_lossy(&words.next().unwrap_or_default()).into_owned();
        let image: Reference = image.parse().map_err(|error| usage(format!("{image}: {error}")))?;
        let entrypoint = self.entrypoint.map(|program| {
            let program = program.into_vec();
            if program.is_empty() { vec![] } else { vec![program] }
        });
        let options = RunOptions {
            image,
            command: words.collect(),
            entrypoint,
            env: self.env.into_iter().filter_map(|text| variable(text, environment)).collect(),
            workdir: self.workdir.map(OsString::into_vec),
            user: self.user,
            no_network: network(self.network)?.as_deref() == Some("none"),
            add_hosts: self.add_host.iter().map(|host| add_host(host)).collect::<Outcome<Vec<_>>>()?,
        };
        Ok((options, warnings))
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
