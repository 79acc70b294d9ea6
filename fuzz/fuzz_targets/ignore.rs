//! Any text is an ignore file or an error, and any path is in or out. Up to the first NUL stands the path.
#![no_main]

use dockless::context::ignore::{Patterns, parse_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (path, file) = bytes.split_at(at);
    let Ok(patterns) = Patterns::new(parse_file(file)) else { return };
    let whole = patterns.matches(path);
    // The pattern that decides says the same.
    let decisive = patterns.decisive(path);
    assert_eq!(whole, decisive.is_some_and(|pattern| !pattern.starts_with('!')), "{path:?}");
    let _ = patterns.may_hold_exception(path);
});
