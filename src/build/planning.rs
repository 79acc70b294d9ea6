//! From the Dockerfile to the plan, taking turns with whoever knows the images: the store and the registries.

use super::error::{BaseError, BuildError};
use super::options::{BuildOptions, NamedSource};
use super::{Lookup, remote};
use crate::dockerfile::Dockerfile;
use crate::oci::Platform;
use crate::plan::{BaseImage, BuildPlan, ImageRequest, ImageSource, NamedContext, PlanOptions, Planner};
use crate::store::{Image, Store};
use std::collections::HashMap;

/// Images of a plan, by where they were asked for.
pub(super) type Images = HashMap<(ImageSource, Platform), Image>;

/// One plan for all platforms that the build is for.
pub(super) fn for_all_platforms(
    options: &BuildOptions,
    file: &Dockerfile,
    epoch: Option<i64>,
    lookup: &Lookup<'_>,
) -> Result<(BuildPlan, Images), BuildError> {
    let mut images = Images::new();
    let (first, more) = match options.platforms.split_first() {
        Some((first, more)) => (Some(first), more),
        None => (None, &[][..]),
    };
    let mut plan_for = |platform: Option<&Platform>| {
        let plan_options = plan_options(options, platform, epoch);
        make(options, Planner::new(file, &plan_options)?, &mut images, lookup)
    };
    let plan = plan_for(first)?;
    let others = more.iter().map(|platform| plan_for(Some(platform))).collect::<Result<Vec<_>, _>>()?;
    Ok((plan.join(others), images))
}

/// Plans, resolving images as the planner asks for them.
pub(super) fn make(
    options: &BuildOptions,
    mut planner: Planner<'_>,
    images: &mut Images,
    lookup: &Lookup<'_>,
) -> Result<BuildPlan, BuildError> {
    loop {
        let wanted = planner.wanted();
        if wanted.is_empty() {
            return Ok(planner.finish()?);
        }
        for request in wanted {
            let key = (request.source.clone(), request.platform.clone());
            let image = match images.get(&key) {
                Some(known) => known.clone(),
                None => resolve(options, &request, lookup).map_err(|source| BuildError::Base {
                    text: request.text.clone(),
                    span: request.span,
                    source,
                })?,
            };
            planner.supply(&request, BaseImage { digest: image.digest.clone(), config: image.config.clone() })?;
            images.insert(key, image);
        }
    }
}

/// What the planner is told; `platform` is the host's where nobody asked for one.
pub(super) fn plan_options(options: &BuildOptions, platform: Option<&Platform>, epoch: Option<i64>) -> PlanOptions {
    PlanOptions {
        target: options.target.clone(),
        build_args: options.build_args.clone(),
        labels: options.labels.clone(),
        platform: platform.cloned().unwrap_or_else(Platform::host),
        platform_is_explicit: platform.is_some(),
        build_platform: Platform::host(),
        source_date_epoch: epoch,
        named_contexts: options.build_contexts.iter().map(|(name, source)| (name.clone(), named(source))).collect(),
    }
}

fn named(source: &NamedSource) -> NamedContext {
    match source {
        NamedSource::Tree(_) => NamedContext::Tree,
        NamedSource::Image(reference) => NamedContext::Image(reference.clone()),
        NamedSource::Layout { .. } => NamedContext::Layout,
    }
}

/// The image of a named context that is an OCI layout.
fn resolve_layout(options: &BuildOptions, name: &str, platform: &Platform, store: &Store) -> Result<Image, BaseError> {
    // The last one wins, as it does for the planner.
    let layout = options.build_contexts.iter().rev().find_map(|(own, source)| match source {
        NamedSource::Layout { path, image } if own == name => Some((path, image)),
        _ => None,
    });
    let Some((path, image)) = layout else { return Err(BaseError::NamedContext { name: name.to_string() }) };
    let imported = remote::import_layout(store, path, image.as_deref(), platform);
    imported.map_err(|error| BaseError::Layout(Box::new(error)))
}

/// An image from the store where it has a name there, else from its registry.
fn resolve(options: &BuildOptions, request: &ImageRequest, lookup: &Lookup<'_>) -> Result<Image, BaseError> {
    let reference = match &request.source {
        ImageSource::Registry(reference) => reference,
        ImageSource::Context(name) => return resolve_layout(options, name, &request.platform, lookup.store),
    };
    if !options.pull
        && let Some(image) = lookup.store.image(reference, &request.platform)?
    {
        return Ok(image);
    }
    let (resolved, _) = lookup.registry.pull_image(lookup.store, reference, &request.platform, lookup.progress)?;
    Ok(Image::load(lookup.store, &resolved.descriptor, &request.platform)?)
}
