//! `dockless manifest`, also called `index`: indexes (Docker's manifest lists) of images.

use super::environment::Environment;
use super::inspect::pretty;
use super::network::ReachArgs;
use super::transfer::screen;
use super::{Outcome, go, print, reference, usage};
use crate::images::index::{self, Changes};
use crate::images::{self, ImagesError};
use crate::oci::Reference;
use crate::oci::manifest::digest_of;
use crate::store::Store;
use crate::ui::{self, Look};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

/// Documents are no longer than this.
const LONGEST: u64 = 4 << 20;

/// Make, change, push and show indexes: one name for the images of several platforms
#[derive(Args, Debug)]
pub struct ManifestArgs {
    #[command(subcommand)]
    verb: ManifestVerb,
}

#[derive(Subcommand, Debug)]
enum ManifestVerb {
    /// Make an index of images that are in the local store or in a registry
    Create {
        /// Add to an index that is there
        #[arg(short, long)]
        amend: bool,
        /// Accepted: the same as --insecure-registry for the registries that are named
        #[arg(long)]
        insecure: bool,
        #[command(flatten)]
        reach: ReachArgs,
        /// The name of the index
        #[arg(value_name = "INDEX")]
        list: String,
        /// The images; an index among them is taken apart
        #[arg(value_name = "IMAGE", required = true)]
        members: Vec<String>,
    },
    /// Change what an index says of one of its images
    Annotate(AnnotateArgs),
    /// Push an index and its images; prints its digest
    Push {
        /// Forget the local name afterwards
        #[arg(short, long)]
        purge: bool,
        /// Accepted: the same as --insecure-registry for the registry that is named
        #[arg(long)]
        insecure: bool,
        #[command(flatten)]
        reach: ReachArgs,
        /// The index
        #[arg(value_name = "INDEX")]
        list: String,
    },
    /// Print the manifest or index behind a name, from the local store or a registry
    Inspect {
        /// Print the descriptor and the platform, too
        #[arg(short, long)]
        verbose: bool,
        /// Accepted: the same as --insecure-registry for the registry that is named
        #[arg(long)]
        insecure: bool,
        #[command(flatten)]
        reach: ReachArgs,
        /// The name; with two, the index and the image in it
        #[arg(value_name = "[INDEX] IMAGE", required = true, num_args = 1..=2)]
        names: Vec<String>,
    },
    /// Forget local indexes
    Rm {
        /// Their names
        #[arg(value_name = "INDEX", required = true)]
        lists: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct AnnotateArgs {
    /// The architecture
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// The operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// The variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// The version of the operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// Features of the operating system
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// An annotation of the image's entry; of the index itself where no image is named
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    reach: ReachArgs,
    /// The index
    #[arg(value_name = "INDEX")]
    list: String,
    /// The image in it
    #[arg(value_name = "IMAGE")]
    member: Option<String>,
}

impl ManifestArgs {
    /// Does what the verb says.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        match self.verb {
            ManifestVerb::Create { amend, insecure, reach, list, members } => {
                let list = reference(&list)?;
                let members = members.iter().map(|text| reference(text)).collect::<Outcome<Vec<_>>>()?;
                let named: Vec<&Reference> = members.iter().chain([&list]).collect();
                let client = reach.network(environment, state, &named)?.insecure_if(insecure, &named).client()?;
                let store = Store::open(state)?;
                go(&screen(look, true), |screen| {
                    index::create(&store, &client, &list, &members, amend, screen)?;
                    print(&format!("Created manifest list {list}\n")).map(drop)
                })
            }
            ManifestVerb::Annotate(args) => args.run(environment, state, look),
            ManifestVerb::Push { purge, insecure, reach, list } => {
                let list = reference(&list)?;
                let client = reach.network(environment, state, &[&list])?.insecure_if(insecure, &[&list]).client()?;
                let store = Store::open(state)?;
                go(&screen(look, false), |screen| {
                    let pushed = images::push(&store, &client, &list, None, screen)
                        .map_err(|error| ui::images_push_failure(&error, &list))?;
                    if purge {
                        store.untag(&list)?;
                    }
                    print(&format!("{}\n", pushed.digest())).map(drop)
                })
            }
            ManifestVerb::Inspect { verbose, insecure, reach, names } => {
                let names = names.iter().map(|text| reference(text)).collect::<Outcome<Vec<_>>>()?;
                let named: Vec<&Reference> = names.iter().collect();
                let client = reach.network(environment, state, &named)?.insecure_if(insecure, &named).client()?;
                let store = state.exists().then(|| Store::open(state)).transpose()?;
                go(&screen(look, true), |screen| {
                    // With two names the image's own manifest is meant, wherever it is.
                    let name = &names[names.len() - 1];
                    let (descriptor, bytes) = match local(store.as_ref(), name)? {
                        Some(found) => found,
                        None => {
                            let (_, descriptor, bytes) = client.locate(name, screen)?;
                            (descriptor, bytes)
                        }
                    };
                    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                    print(&match verbose {
                        true => pretty(&serde_json::json!({
                            "Ref": name.to_string(), "Descriptor": descriptor, "Document": document,
                        })),
                        false => pretty(&document),
                    })
                    .map(drop)
                })
            }
            ManifestVerb::Rm { lists } => {
                let store = Store::open(state)?;
                for text in lists {
                    let list = reference(&text)?;
                    let target = images::find(&store, &text)?.target;
                    index::index(&store, &target)?;
                    store.untag(&list)?;
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The document that a name stands for in the store.
fn local(store: Option<&Store>, name: &Reference) -> Outcome<Option<(crate::oci::Descriptor, Vec<u8>)>> {
    let Some(store) = store else { return Ok(None) };
    match images::find(store, &name.to_string()) {
        Ok(found) => {
            let digest = digest_of(&found.target).map_err(ImagesError::from)?;
            let bytes = store.read_blob(&digest, LONGEST)?;
            Ok(Some((found.target, bytes)))
        }
        Err(ImagesError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl AnnotateArgs {
    fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
            _ => Err(usage(format!("--annotation '{text}': expected NAME=VALUE"))),
        };
        let changes = Changes {
            os: self.os,
            architecture: self.arch,
            variant: self.variant,
            os_version: self.os_version,
            os_features: self.os_features,
            annotations: self.annotation.iter().map(pair).collect::<Outcome<Vec<_>>>()?,
        };
        let of_platform = changes.os.is_some() || changes.architecture.is_some() || changes.variant.is_some();
        if self.member.is_none() && of_platform {
            return Err(usage("a platform is an image's: name the image"));
        }
        let list = reference(&self.list)?;
        let member = self.member.as_deref().map(reference).transpose()?;
        let named: Vec<&Reference> = member.iter().chain([&list]).collect();
        let client = self.reach.network(environment, state, &named)?.client()?;
        let store = Store::open(state)?;
        go(&screen(look, true), |screen| {
            index::annotate(&store, &client, &list, member.as_ref(), &changes, screen)?;
            Ok(())
        })
    }
}
