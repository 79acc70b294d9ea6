//! The local cache: what it may never get wrong, what it keeps and what it drops.

mod cleaning;
mod keys;
mod model;
mod project;
mod workshop;
