//! Tests of `layer`.
