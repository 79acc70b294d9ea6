//! Any bytes are a Dockerfile or an error whose span lies in the file.
#![no_main]

use dockless::dockerfile::span::Span;
use dockless::dockerfile::{parse_bytes, parse_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|byte| *byte == b'\n').count() as u32;
    if let Err(error) = parse_bytes(bytes) {
        assert!(error.span.line <= error.span.end_line && error.span.end_line <= lines, "{error:?}");
        let _ = error.to_string();
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_trigger(text, '`', Span::lines(1, 1));
    }
});
