//! x
#![allow(dead_code)]
pub(in crate::sandbox) mod mounttable;
pub(in crate::sandbox) mod path;
pub(in crate::sandbox) mod procfs;
