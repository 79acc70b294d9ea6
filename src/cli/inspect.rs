//! `dockless inspect` and `dockless registry`: what an image is, what a registry has.

use super::container::{self, ContainerTask, Surroundings};
use super::environment::Environment;
use super::format::formatted;
use super::network::ReachArgs;
use super::{Outcome, go, platform, print, reference, transfer::screen};
use crate::images::{self, ImagesError};
use crate::oci::Platform;
use crate::run::{Containers, Services};
use crate::store::Store;
use crate::ui::{self, Look};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

/// Describe images or containers as JSON
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Ask the registry instead of the local store
    #[arg(long)]
    remote: bool,
    /// How each is printed: a Go template, or 'json'
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The image of this platform [default: the host's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Only images, or only containers: image or container [default: a container, else an image]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["image", "container"])]
    kind: Option<String>,
    /// Tell the sizes of containers, too; an image's is always told
    #[arg(short, long)]
    size: bool,
    #[command(flatten)]
    reach: ReachArgs,
    /// The images or containers: names, or IDs or their beginnings
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// What of this machine is to be described.
#[derive(Debug, Serialize, Deserialize)]
pub struct LocalInspect {
    /// As they were named.
    names: Vec<String>,
    /// Only images, or only containers.
    kind: Option<String>,
    format: Option<String>,
    platform: Platform,
    /// With the sizes of containers.
    size: bool,
}

impl LocalInspect {
    /// Containers alone.
    pub fn of_containers(names: Vec<String>, format: Option<String>, size: bool) -> LocalInspect {
        LocalInspect { names, kind: Some("container".into()), format, platform: Platform::host(), size }
    }

    /// Describes them, inside the namespaces where that needs to look at files of any owner.
    pub fn perform(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let containers = Containers::of(state);
        match self.size && self.names.iter().any(|name| containers.find(name).is_ok()) {
            true => Surroundings::new(environment, state, look).inside(ContainerTask::Inspect(self)),
            false => self.run(state, None),
        }
    }

    /// Prints an array of what was found; what was not is an error after it, as with Docker.
    pub fn run(&self, state: &Path, services: Option<&Services<'_>>) -> Outcome<ExitCode> {
        let store = state.exists().then(|| Store::open(state)).transpose()?;
        let (mut found, mut failed) = (Vec::new(), None);
        for text in &self.names {
            let kind = self.kind.as_deref();
            let container = match kind {
                Some("image") => Ok(None),
                _ => container::inspect_one(state, text, kind.is_some(), services),
            };
            let one = match (container, &store) {
                (Ok(Some(container)), _) => Ok(container),
                (Err(error), _) => Err(error),
                (Ok(None), Some(store)) => images::inspect(store, text, &self.platform).map_err(Into::into),
                (Ok(None), None) => Err(ImagesError::NotFound(text.clone()).into()),
            };
            match one {
                Ok(value) => found.push(value),
                Err(error) => _ = failed.get_or_insert(error),
            }
        }
        let printed = print(&formatted(self.format.as_deref(), &found)?)?;
        failed.map_or(Ok(printed), Err)
    }
}

impl InspectArgs {
    /// Describes them.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let platform = platform(self.platform.as_deref(), environment)?.unwrap_or_else(Platform::host);
        if !self.remote {
            let InspectArgs { images: names, kind, format, size, .. } = self;
            return LocalInspect { names, kind, format, platform, size }.perform(environment, state, look);
        }
        let names = self.images.iter().map(|text| reference(text)).collect::<Outcome<Vec<_>>>()?;
        let client = self.reach.network(environment, state, &names.iter().collect::<Vec<_>>())?.client()?;
        let screen = screen(look, true);
        let one = |name| images::inspect_remote(&client, name, &platform, &screen);
        let found = names.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        print(&formatted(self.format.as_deref(), &found)?)
    }
}

/// JSON for people, with the end of the line.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Look at a registry, or remove from it
#[derive(Args, Debug)]
pub struct RegistryArgs {
    #[command(subcommand)]
    verb: RegistryVerb,
}

#[derive(Subcommand, Debug)]
enum RegistryVerb {
    /// List the tags of a repository
    Tags {
        #[command(flatten)]
        reach: ReachArgs,
        /// The repository
        #[arg(value_name = "REPOSITORY")]
        repository: String,
    },
    /// List what refers to an image: signatures, attestations and the like
    Referrers {
        /// Only those of this type
        #[arg(long, value_name = "TYPE")]
        artifact_type: Option<String>,
        #[command(flatten)]
        reach: ReachArgs,
        /// The image
        #[arg(value_name = "IMAGE")]
        image: String,
    },
    /// Remove an image from its registry, with all tags that stand for it
    Delete {
        #[command(flatten)]
        reach: ReachArgs,
        /// The image
        #[arg(value_name = "IMAGE")]
        image: String,
    },
}

impl RegistryArgs {
    /// Does what the verb says.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let (name, reach) = match &self.verb {
            RegistryVerb::Tags { reach, repository } => (repository, reach),
            RegistryVerb::Referrers { reach, image, .. } | RegistryVerb::Delete { reach, image } => (image, reach),
        };
        let name = reference(name)?;
        let client = reach.network(environment, state, &[&name])?.client()?;
        go(&screen(look, true), |_| {
            let text = match &self.verb {
                RegistryVerb::Tags { .. } => client.tags(&name)?.iter().map(|tag| format!("{tag}\n")).collect(),
                RegistryVerb::Referrers { artifact_type, .. } => {
                    let found = client.referrers(&name, artifact_type.as_deref())?;
                    let row = |d: &crate::oci::Descriptor| {
                        let kind = d.artifact_type().as_ref().map(ToString::to_string).unwrap_or_default();
                        vec![d.digest().to_string(), kind, ui::bytes(d.size())]
                    };
                    let head = ["DIGEST", "TYPE", "SIZE"].map(String::from).to_vec();
                    ui::table(&[vec![head], found.iter().map(row).collect()].concat())
                }
                RegistryVerb::Delete { .. } => format!("{}\n", client.delete(&name)?),
            };
            print(&text).map(drop)
        })
    }
}
