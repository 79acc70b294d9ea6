//! Values that must not be seen: [`Secret`] is text, [`SecretBytes`] anything that a file can hold.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A password or token. `Debug` shows nothing of it, and there is no `Display`: it can only be read by [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself, for the request or the file that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the value is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

/// The content of a secret file. `Debug` shows nothing of it; serialised it goes through pipes between processes of our own,
/// and nowhere else.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Hides `value`.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        SecretBytes(value.into())
    }

    /// The value itself, for the file or the variable that needs it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, SecretBytes};

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", SecretBytes::new("hunter2")), "SecretBytes(…)");
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
