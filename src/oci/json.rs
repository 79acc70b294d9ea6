//! One canonical form for every JSON document that dockless writes and digests.
//!
//! Keys are sorted and there is no white space, so the same value always has the same bytes. `serde_json::Value` keeps
//! maps sorted as long as nobody turns its `preserve_order` feature on; a test below holds that.

use serde::Serialize;

/// Canonical bytes of `value`. Fails only where `value` cannot be JSON at all (a map with keys that are no strings).
pub fn to_canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&serde_json::to_value(value)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    #[test]
    fn keys_are_sorted_at_every_level() {
        let inner: HashMap<&str, i32> = [("z", 1), ("a", 2), ("m", 3)].into();
        let outer: HashMap<&str, _> = [("y", &inner), ("b", &inner)].into();
        let text = super::to_canonical(&outer).unwrap();
        assert_eq!(text, br#"{"b":{"a":2,"m":3,"z":1},"y":{"a":2,"m":3,"z":1}}"#);
    }
}
