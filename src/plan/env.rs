//! Variables in order.

use std::collections::HashMap;

/// Names and values; setting a name again keeps its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ordered<V> {
    entries: Vec<(String, V)>,
    places: HashMap<String, usize>,
}

/// Variables that have a value.
pub(super) type Env = Ordered<String>;

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Ordered { entries: Vec::new(), places: HashMap::new() }
    }
}

impl<V> Ordered<V> {
    /// Value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.places.get(name).map(|at| &self.entries[*at].1)
    }

    /// Sets `name`.
    pub(super) fn set(&mut self, name: &str, value: V) {
        match self.places.get(name) {
            Some(at) => self.entries[*at].1 = value,
            None => {
                self.places.insert(name.to_string(), self.entries.len());
                self.entries.push((name.to_string(), value));
            }
        }
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Names and values.
    pub(super) fn entries(&self) -> &[(String, V)] {
        &self.entries
    }
}

impl Env {
    /// The variables of a config's `name=value` list.
    pub(super) fn from_list(list: &[String]) -> Self {
        let mut env = Env::default();
        for entry in list {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            env.set(name, value.to_string());
        }
        env
    }

    /// The `name=value` list of a config.
    pub(super) fn to_list(&self) -> Vec<String> {
        self.entries.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Value of `name`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}
