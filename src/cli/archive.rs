//! `dockless save`, `load` and `rmi`: images out of the store and back, and away.

use super::environment::Environment;
use super::foreign::{Foreign, OfLoad, OfRmi};
use super::isolation::isolation;
use super::job::{self, Job, Task};
use super::network::Network;
use super::state::Places;
use super::transfer::screen;
use super::{Outcome, go, platform, print, usage};
use crate::images::{self, ImagesError, Removed, Saved, Target};
use crate::oci::Platform;
use crate::store::{Image, Store};
use crate::ui::{self, Diagnostic, Kind, Look, Mode};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write images to an archive that `docker load` takes
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct SaveArgs {
    /// The file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The images of this platform [default: the host's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The images: names, or IDs or their beginnings
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Read images from an archive of `docker save`, or an OCI layout in a tar
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct LoadArgs {
    /// The file [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    #[command(flatten)]
    foreign: Foreign<OfLoad>,
    /// Print only what was loaded, which is always so
    #[arg(short, long)]
    quiet: bool,
}

/// Take images' names away, and with the last one what neither others nor the cache need of the image
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct RmiArgs {
    /// Take all names of an ID away, and pass over images that are not there
    #[arg(short, long)]
    force: bool,
    /// Accepted: what other images are made of stays anyway
    #[arg(long, hide = true)]
    no_prune: bool,
    #[command(flatten)]
    foreign: Foreign<OfRmi>,
    /// The images: names, or IDs or their beginnings
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

fn open(state: &Path, image: &str) -> Outcome<Store> {
    if !state.exists() {
        return Err(ImagesError::NotFound(image.to_string()).into());
    }
    Ok(Store::open(state)?)
}

impl SaveArgs {
    /// Writes the archive. Layers that were not needed so far are fetched.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        if self.output.is_none() && ui::stdout_is_terminal() {
            return Err(usage("an archive is not written to a terminal: name a file with --output, or redirect"));
        }
        let wanted = platform(self.platform.as_deref(), environment)?.unwrap_or_else(Platform::host);
        let store = open(state, &self.images[0])?;
        let registry = Network::plain(environment, state).client()?;
        go(&screen(look, true), |screen| {
            let mut saved: Vec<Saved> = Vec::new();
            for text in &self.images {
                let found = images::find(&store, text)?;
                for layer in &Image::load(&store, &found.target, &wanted)?.layers {
                    registry.ensure_known(&store, &layer.digest, screen)?;
                }
                let names = found.reference.into_iter();
                match saved.iter_mut().find(|known| known.target.digest() == found.target.digest()) {
                    Some(known) => known.names.extend(names),
                    None => saved.push(Saved { target: found.target, names: names.collect() }),
                }
            }
            match &self.output {
                Some(path) => images::save_docker(&store, &saved, &wanted, Target::File(&environment.absolute(path)))?,
                None => ui::with_stdout(|out| images::save_docker(&store, &saved, &wanted, Target::Stream(out)))?,
            }
            Ok(())
        })
    }
}

impl LoadArgs {
    /// Reads the archive.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        self.foreign.judge().map_err(usage)?.iter().for_each(|text| ui::notice(look, text));
        let store = Store::open(state)?;
        let loaded = match &self.input {
            Some(path) => {
                let file = fs_err::File::open(environment.absolute(path));
                let failed = |error| Box::new(Diagnostic::from_error(Kind::Usage, &error).exit(1));
                images::load(&store, &mut file.map_err(failed)?)?
            }
            None if std::io::stdin().is_terminal() => {
                return Err(usage("no archive: name it with --input, or redirect standard input"));
            }
            None => images::load(&store, &mut std::io::stdin().lock())?,
        };
        let mut text = String::new();
        for one in loaded {
            text += &one.names.iter().map(|name| format!("Loaded image: {}\n", name.familiar())).collect::<String>();
            if one.names.is_empty() {
                text += &format!("Loaded image ID: {}\n", one.id);
            }
        }
        print(&text)
    }
}

impl RmiArgs {
    /// Takes the names away.
    pub fn run(self, environment: &Environment, places: Places, look: Look) -> Outcome<ExitCode> {
        self.foreign.judge().map_err(usage)?.iter().for_each(|text| ui::notice(look, text));
        let task = RemoveImages { images: self.images, force: self.force };
        if !places.state.exists() {
            return task.perform(None, look).map(|_| ExitCode::SUCCESS);
        }
        let network = Network::plain(environment, &places.state);
        let isolation = isolation(None, environment)?;
        let look = Look { mode: Mode::Quiet, ..look };
        job::enter(Job::new(look, places, network, isolation, Task::RemoveImages(task)))
    }
}

/// Images whose names are to be taken away.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveImages {
    /// As they were named.
    images: Vec<String>,
    force: bool,
}

impl RemoveImages {
    /// Does it; the first that cannot be is told after the others, as with Docker.
    pub fn perform(&self, store: Option<&Store>, look: Look) -> Outcome<u8> {
        let mut failed: Option<ImagesError> = None;
        for text in &self.images {
            let removed = match store {
                Some(store) => images::remove(store, text, self.force),
                None => Err(ImagesError::NotFound(text.clone())),
            };
            match removed {
                Ok(Removed { names, image, layers }) => {
                    let lines = names.iter().map(|name| format!("Untagged: {}\n", name.familiar()));
                    let gone = image.map(|id| format!("Deleted: {id}\n"));
                    let layers = layers.iter().map(|chain| format!("Deleted: {chain}\n"));
                    print(&lines.chain(gone).chain(layers).collect::<String>())?;
                }
                Err(error @ ImagesError::NotFound(_)) if self.force => ui::notice(look, &error.to_string()),
                Err(error) => _ = failed.get_or_insert(error),
            }
        }
        failed.map_or(Ok(0), |error| Err(error.into()))
    }
}
