//! x
#![allow(dead_code)]
pub(in crate::sandbox) mod path;
