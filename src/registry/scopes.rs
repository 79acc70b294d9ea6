//! Token scopes: what a request may do. Spec: distribution, docs/spec/auth/scope.md.

use std::collections::{BTreeMap, BTreeSet};

/// Actions by resource, such as `repository:library/alpine` and `pull`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Reading `repository`.
    pub(super) fn pull(repository: &str) -> Self {
        Scopes::of(repository, &["pull"])
    }

    /// Reading and writing `repository`.
    pub(super) fn push(repository: &str) -> Self {
        Scopes::of(repository, &["pull", "push"])
    }

    /// Removing from `repository`.
    pub(super) fn delete(repository: &str) -> Self {
        Scopes::of(repository, &["delete"])
    }

    fn of(repository: &str, actions: &[&str]) -> Self {
        let actions = actions.iter().map(ToString::to_string).collect();
        Scopes([(format!("repository:{repository}"), actions)].into())
    }

    /// The scopes in a challenge, separated by spaces.
    pub(super) fn parse(text: &str) -> Self {
        let mut scopes = Scopes::default();
        for scope in text.split_whitespace() {
            if let Some((resource, actions)) = scope.rsplit_once(':') {
                let actions = actions.split(',').filter(|a| !a.is_empty()).map(String::from);
                scopes.0.entry(resource.to_string()).or_default().extend(actions);
            }
        }
        scopes
    }

    /// These and those of `other`.
    pub(super) fn union(mut self, other: &Scopes) -> Self {
        for (resource, actions) in &other.0 {
            self.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
        self
    }

    /// Whether everything in `other` is allowed here.
    pub(super) fn cover(&self, other: &Scopes) -> bool {
        other.0.iter().all(|(resource, actions)| self.0.get(resource).is_some_and(|own| own.is_superset(actions)))
    }

    /// Each as a token server wants it: `repository:name:pull,push`.
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |actions: &BTreeSet<String>| actions.iter().cloned().collect::<Vec<_>>().join(",");
        self.0.iter().map(|(resource, actions)| format!("{resource}:{}", text(actions))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Scopes;

    #[test]
    fn union_and_cover() {
        let push = Scopes::push("a/b");
        assert_eq!(push.texts(), ["repository:a/b:pull,push"]);
        assert!(push.cover(&Scopes::pull("a/b")) && !Scopes::pull("a/b").cover(&push));
        let both = push.clone().union(&Scopes::parse("repository:c:pull registry:catalog:*"));
        assert_eq!(both.texts(), ["registry:catalog:*", "repository:a/b:pull,push", "repository:c:pull"]);
        assert!(both.cover(&push) && !push.cover(&both));
    }
}
