//! Building: a plan in, an image out.

pub mod copy;
pub mod options;

pub use options::{BuildOptions, DockerfileSource};
