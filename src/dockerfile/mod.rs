//! The Dockerfile language: text in, typed instructions with spans out. Pure: no I/O.

pub mod instruction;
pub mod lint;
pub mod span;
