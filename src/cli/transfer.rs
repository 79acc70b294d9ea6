//! `dockless pull`, `push`, `tag` and `copy`: images between the store and registries. No namespace is entered.

use super::environment::Environment;
use super::network::{Network, ReachArgs};
use super::{Outcome, go, platform, print, reference, usage};
use crate::images;
use crate::oci::{Platform, Reference};
use crate::registry::RegistryClient;
use crate::store::Store;
use crate::ui::{self, Diagnostic, Look, Mode, Screen};
use clap::Args;
use std::path::Path;
use std::process::ExitCode;

/// Pull an image: its manifest and config now, its layers when something reads them
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct PullArgs {
    /// Pull every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Fetch the layers now
    #[arg(long)]
    all_layers: bool,
    /// Pull the image of this platform alone [default: the host's, under the name of all]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[command(flatten)]
    common: Common,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// What `pull` and `push` have both.
#[derive(Args, Debug)]
struct Common {
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// Accepted: content trust is not checked
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

/// Push an image under its name
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct PushArgs {
    /// Push every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Push the image of this platform alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[command(flatten)]
    common: Common,
    /// The image, or with --all-tags the repository
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Give an image of the local store another name
#[derive(Args, Debug)]
pub struct TagArgs {
    /// The image: a name, or an ID or its beginning
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The new name
    #[arg(value_name = "TARGET")]
    target: String,
}

/// Copy an image from registry to registry, all platforms of it; inside one registry no layer moves
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct CopyArgs {
    /// Copy the image of this platform alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Show nothing but failures
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    reach: ReachArgs,
    /// The image to copy
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to
    #[arg(value_name = "TARGET")]
    target: String,
}

/// Progress as the verb wants it.
pub(super) fn screen(look: Look, quiet: bool) -> Screen {
    Screen::stderr(if quiet { Look { mode: Mode::Quiet, ..look } } else { look })
}

impl PullArgs {
    /// Pulls.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let image = reference(&self.image)?;
        if self.all_tags && (self.image.contains('@') || tagged(&self.image)) {
            return Err(usage("a tag cannot be given together with --all-tags"));
        }
        // As `docker pull`: the variable asks for one platform, as the flag does.
        let platform = platform(self.platform.as_deref(), environment)?;
        let registry = self.common.reach.network(environment, state, &[&image])?.client()?;
        let store = Store::open(state)?;
        go(&screen(look, self.common.quiet), |screen| {
            let images = match self.all_tags {
                true => registry.tags(&image)?.iter().map(|tag| image.with_tag(tag)).collect(),
                false => vec![image.clone()],
            };
            if !self.common.quiet && !self.all_tags && !tagged(&self.image) && image.digest().is_none() {
                print("Using default tag: latest\n")?;
            }
            images.iter().try_for_each(|image| self.one(&store, &registry, image, platform.as_ref(), screen))
        })
    }

    fn one(
        &self,
        store: &Store,
        registry: &RegistryClient,
        image: &Reference,
        platform: Option<&Platform>,
        screen: &Screen,
    ) -> Outcome<()> {
        if !self.common.quiet {
            print(&format!("{}: Pulling from {}\n", image.identifier(), image.repository()))?;
        }
        let pulled = images::pull(store, registry, image, platform, self.all_layers, screen)?;
        let status = match pulled.newer {
            true => "Downloaded newer image for",
            false => "Image is up to date for",
        };
        match self.common.quiet {
            true => print(&format!("{image}\n"))?,
            false => print(&format!("Digest: {}\nStatus: {status} {}\n{image}\n", pulled.digest, image.familiar()))?,
        };
        Ok(())
    }
}

/// Whether the user gave a tag.
fn tagged(text: &str) -> bool {
    text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

impl PushArgs {
    /// Pushes.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let image = reference(&self.image)?;
        if self.all_tags && tagged(&self.image) {
            return Err(usage("a tag cannot be given together with --all-tags"));
        }
        if image.digest().is_some() {
            return Err(usage("an image is pushed under a tag: its digest comes from its content"));
        }
        let platform = platform(self.platform.as_deref(), environment)?;
        let network = self.common.reach.network(environment, state, &[&image])?;
        let store = Store::open(state)?;
        let images = if self.all_tags { images::tags_of(&store, &image)? } else { vec![image.clone()] };
        let registry = network.client()?;
        go(&screen(look, self.common.quiet), |screen| {
            if !self.common.quiet {
                if !self.all_tags && !tagged(&self.image) {
                    print("Using default tag: latest\n")?;
                }
                print(&format!("The push refers to repository [{}/{}]\n", image.registry(), image.repository()))?;
            }
            for name in &images {
                let pushed = images::push(&store, &registry, name, platform.as_ref(), screen)
                    .map_err(|error| ui::images_push_failure(&error, name))?;
                match self.common.quiet {
                    true => print(&format!("{name}\n"))?,
                    false => {
                        let (digest, size) = (pushed.digest(), pushed.size());
                        print(&format!("{}: digest: {digest} size: {size}\n", name.identifier()))?
                    }
                };
            }
            Ok(())
        })
    }
}

impl TagArgs {
    /// Tags.
    pub fn run(self, state: &Path) -> Outcome<ExitCode> {
        let target = reference(&self.target)?;
        if target.digest().is_some() {
            return Err(usage(format!("{}: a digest comes from the content, it cannot be chosen", self.target)));
        }
        images::tag(&Store::open(state)?, &self.source, &target)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl CopyArgs {
    /// Copies.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let (source, target) = (reference(&self.source)?, reference(&self.target)?);
        if target.digest().is_some() {
            return Err(usage(format!("{}: a digest comes from the content, it cannot be chosen", self.target)));
        }
        let platform = match &self.platform {
            Some(text) => platform(Some(text), environment)?,
            None => None,
        };
        let network: Network = self.reach.network(environment, state, &[&source, &target])?;
        let registry = network.client()?;
        go(&screen(look, self.quiet), |screen| {
            let copied = registry.copy_image(&source, &target, platform.as_ref(), screen).map_err(|error| {
                let mut diagnostic = Diagnostic::from(&error);
                diagnostic.causes.insert(0, diagnostic.message);
                diagnostic.message = format!("cannot copy {source} to {target}");
                Box::new(diagnostic)
            })?;
            print(&format!("{}\n", copied.digest())).map(drop)
        })
    }
}
