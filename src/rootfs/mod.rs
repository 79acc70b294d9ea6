//! Trees, differences between them, and layers.
