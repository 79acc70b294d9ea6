//! What a build asks of the planner.

use crate::dockerfile::span::Span;
use crate::oci::{Digest, ImageConfig, Platform};
use std::collections::BTreeMap;

use super::model::ImageSource;

/// What the caller decides; the environment's part is done already.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// `--target`; `None` is the last stage.
    pub target: Option<String>,
    /// `--build-arg`, in order; a value of `None` (not set in the caller's environment either) counts as not given.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--label`, set on the target's config after everything else.
    pub labels: Vec<(String, String)>,
    /// The platform the image is for.
    pub platform: Platform,
    /// The user asked for `platform`; otherwise a base image that has another one keeps it.
    pub platform_is_explicit: bool,
    /// The platform the build runs on.
    pub build_platform: Platform,
    /// The time that a `SOURCE_DATE_EPOCH` which is no number stands for ([`super::source_date_epoch`]), in seconds since
    /// 1970.
    pub source_date_epoch: Option<i64>,
    /// `--build-context`: name, as given, to what it is.
    pub named_contexts: BTreeMap<String, NamedContext>,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A tree of files: a directory, a git repository, a tarball.
    Tree,
    /// `docker-image://REFERENCE`, the reference as written.
    Image(String),
    /// `oci-layout://…`: an image that the caller finds by the context's name.
    Layout,
}

/// An image whose digest and config the planner has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// The text in the Dockerfile, after expansion.
    pub text: String,
    /// Where to ask.
    pub source: ImageSource,
    /// For which platform.
    pub platform: Platform,
    /// The instruction that names it.
    pub span: Span,
}

/// The answer to an [`ImageRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct BaseImage {
    /// Digest of the manifest (not of an index) for the platform.
    pub digest: Digest,
    /// The image's config.
    pub config: ImageConfig,
}
