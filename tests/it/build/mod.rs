//! Whole builds from outside: the real binary, a real registry, real bases, other people's tools.

mod bad_input;
mod explain;
mod instructions;
mod interrupted;
mod lazy;
mod outputs;
mod owners;
pub mod place;
mod platforms;
mod push;
mod surroundings;
mod tree;
mod volume;
