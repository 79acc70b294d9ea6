//! From typed instructions to a plan of steps. Pure: no I/O.
//!
//! Planning takes turns with whoever resolves images: [`Planner::new`] expands every FROM and drops the stages that the
//! target does not need; [`Planner::wanted`] names the images whose digest and config it must know; [`Planner::supply`]
//! takes them, and their ONBUILD triggers may ask for more; [`Planner::finish`] folds ENV, ARG, SHELL, USER and WORKDIR
//! into the steps of a [`BuildPlan`].
//!
//! What a Dockerfile means is what BuildKit's front end makes of it, the wording of the history included.

mod copy;
mod env;
mod epoch;
mod error;
mod fold;
mod from;
mod globals;
mod join;
mod lint;
mod model;
mod mount;
mod options;
mod place;
mod planner;
mod run;
mod signal;
mod state;
mod text;
mod words;

pub use crate::dockerfile::mount::Sharing;
pub use epoch::{SourceDateEpoch, source_date_epoch};
pub use error::{PlanError, PlanErrorKind};
pub use lint::{check_front_end, lint_options};
pub use model::*;
pub use mount::{Mount, MountKind};
pub use options::{BaseImage, ImageRequest, NamedContext, PlanOptions};
pub use planner::Planner;
