//! The cache beyond the local store: records of steps that travel with images, and caches in registries and directories.
//!
//! # What an image carries
//!
//! Every image that dockless builds can be named in `--cache-from`, without a flag at the time it is built. Its config
//! holds a [`document`]: for each step of the final stage (and of those it is built on) the digest of its key and which layer
//! came of it, and for each selection in another stage what was selected. So an unchanged build finds all layers of the
//! image, and does not look at stages of which the image holds nothing but what was copied from them. A stage of which
//! something was edited starts over, unless a cache with `mode=max` has its layers.
//!
//! Beside that there are [`details`] of each step: what it was made of ([`makings`]), so that a miss on a machine that built
//! nothing before can be explained, and what it saw of the tree below it ([`crate::rootfs::glimpse`]), so that a COPY of other
//! files to the same place can be made although nothing of that tree is there. Both are a pure function of the step's input
//! and the tree that it was made on.
//!
//! The config and not a tag, an annotation or a referrer: the config is the one thing that every way of moving an image keeps
//! (`docker pull` and `push`, `save` and `load`, `skopeo copy`, registries that know no referrers), and it costs no request
//! of its own. It is part of the image's ID; so that the same input still gives the same bytes, only what follows from
//! input and image goes into it: steps whose keys hold the whole tree of a stage, which may come out otherwise each time
//! (`RUN --mount=from=STAGE` of its root), stay out.
//!
//! # What a cache is
//!
//! An image with such a document and the layers of many steps, in a registry ([`CacheSource::Registry`]) or in a directory
//! ([`CacheSource::Directory`]). Beside layers of steps it has [`envelope`]s: the lists of files of all layers of the image,
//! the base's too, so that a COPY to a place where none went before can be made on top of layers that nobody fetched.

pub mod details;
pub mod directory;
pub mod document;
pub mod envelope;
pub mod export;
pub mod import;
pub mod inline;
pub mod makings;
pub mod merge;
pub mod mounts;
pub mod options;
pub mod pieces;
pub mod portable;
pub mod selections;
pub mod uploads;

pub use export::{Gift, give};
pub use options::{CacheSource, CacheTarget, Caching};
