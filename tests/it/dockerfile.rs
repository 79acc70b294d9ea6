//! Tests of `dockerfile`.
