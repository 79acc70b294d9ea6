//! One binary for all integration tests.

#[macro_use]
mod support;

mod architecture;
mod build;
mod cache;
mod check;
mod cli;
mod conformance;
mod copy;
mod dockerfile;
mod errors;
mod guards;
mod images;
mod layer;
mod listing;
mod mounts;
mod places;
mod plan;
mod registry;
mod remote;
mod run;
mod sandbox;
mod shortcuts;
mod snapshots;
mod store;
mod supervisor;
mod tools;
mod travel;
mod unpack;
