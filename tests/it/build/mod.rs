//! Whole builds from outside: the real binary, a real registry, real bases, other people's tools.

mod bad_input;
mod instructions;
mod interrupted;
mod outputs;
mod owners;
mod place;
mod platforms;
mod push;
mod surroundings;
mod tree;
