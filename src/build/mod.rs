//! Building: a plan in, an image out.

pub mod copy;
