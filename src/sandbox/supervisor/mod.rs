//! Supervises a step by seccomp user notification.
#![allow(dead_code)]
mod access;
mod capability;
mod credentials;
mod status;
