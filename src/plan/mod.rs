//! From typed instructions to a plan of steps. Pure: no I/O.
//!
//! Planning takes turns with whoever resolves images: `Planner::new` expands every FROM and drops the stages that the
//! target does not need; `Planner::wanted` names the images whose digest and config it must know; `Planner::supply`
//! takes them, and their ONBUILD triggers may ask for more; `Planner::finish` folds ENV, ARG, SHELL, USER and WORKDIR
//! into the steps of a [`BuildPlan`].

mod model;
mod mount;
mod options;

pub use model::*;
pub use mount::{Mount, MountKind, Sharing};
pub use options::{BaseImage, ImageRequest, NamedContext, PlanOptions};
