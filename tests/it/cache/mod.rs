//! The local cache: what it may never get wrong, what it keeps and what it drops.

mod cleaning;
mod damage;
mod keys;
mod model;
mod portable;
mod project;
mod stats;
mod workshop;
