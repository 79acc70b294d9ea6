//! dockless builds container images from Dockerfiles with no daemon and no privilege, and pushes them to a registry.
//!
//! # The map
//!
//! Modules stand in levels; every arrow points down, which `tests/it/architecture.rs` holds.
//!
//! | level | modules | what they hold |
//! |---|---|---|
//! | 5 | [`cli`] (and `main`) | arguments; the only reader of the environment, the home and the current directory |
//! | 4 | [`ui`] | progress renderers, diagnostics, exit codes; the only printer |
//! | 3 | [`build`], [`run`], [`images`] | the operations, independent of one another |
//! | 2 | [`rootfs`], [`registry`] | trees, diffs, layers; resolve, pull, push, authenticate |
//! | 1 | [`store`], [`context`], [`plan`], [`sandbox`], [`git`] | content store; build context; AST to plan (pure); a process in a root; repositories |
//! | 0 | [`oci`], [`overrides`], [`dockerfile`], [`progress`], [`http`], [`secret`], [`sys`] | formats (pure); what a file system cannot hold; the language (pure); events; TLS and retries; hidden values; `unsafe` |
//!
//! # One build
//!
//! `cli` reads arguments into `build`'s options. `dockerfile` parses; `plan` drops the stages nobody needs and names the
//! bases; `registry` resolves those; `plan` folds ENV, ARG, SHELL, USER and WORKDIR into steps. `build` walks the stages in
//! parallel: for each step it derives a cache key and asks the store; on a miss `rootfs` prepares a tree, `sandbox` runs the
//! command or COPY writes straight into the layer, and the difference goes tar, hash, compress, hash, store in one pass.
//! Config and manifest follow; `images` pushes in parallel, the tag last.

pub mod build;
pub mod cli;
pub mod context;
pub mod dockerfile;
pub mod git;
pub mod http;
pub mod images;
pub mod oci;
pub mod overrides;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod rootfs;
pub mod run;
pub mod sandbox;
pub mod secret;
pub mod store;
pub mod sys;
pub mod ui;
