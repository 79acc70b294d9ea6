//! The cache beyond the local store: records of steps that travel with images, and caches in registries and directories.

pub mod document;
