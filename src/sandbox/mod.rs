//! Running a process in a root file system of its own.

pub mod users;
