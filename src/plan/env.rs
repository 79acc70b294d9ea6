//! Variables in order.

use std::collections::HashMap;

/// Names and values; setting a name again keeps its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Env {
    entries: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Env {
    /// The variables of a config's `name=value` list.
    pub(super) fn from_list(list: &[String]) -> Self {
        let mut env = Env::default();
        for entry in list {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            env.set(name, value);
        }
        env
    }

    /// The `name=value` list of a config.
    pub(super) fn to_list(&self) -> Vec<String> {
        self.entries.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|at| self.entries[*at].1.as_str())
    }

    /// Sets `name`.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        match self.places.get(name) {
            Some(at) => self.entries[*at].1 = value.to_string(),
            None => {
                self.places.insert(name.to_string(), self.entries.len());
                self.entries.push((name.to_string(), value.to_string()));
            }
        }
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Names and values.
    pub(super) fn entries(&self) -> &[(String, String)] {
        &self.entries
    }
}
