//! System calls that no safe crate wraps: the only module with `unsafe`.
#![allow(unsafe_code)]
