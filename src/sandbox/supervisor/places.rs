//! Virtual places: paths of the step that the supervisor serves from elsewhere.

use std::path::PathBuf;

/// A path of the step that stands for something outside its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where the step sees it: absolute, without links.
    pub at: PathBuf,
    /// What it sees there.
    pub kind: PlaceKind,
}

/// What a [`Place`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlaceKind {
    /// /proc, of the step's processes alone.
    Proc,
    /// /sys, which cannot be written to.
    Sys,
    /// /dev/pts, with the step's own terminals.
    Pts,
    /// A file or directory outside.
    Bind {
        /// What is shown.
        source: PathBuf,
        /// Whether it can be written to.
        readonly: bool,
    },
}
