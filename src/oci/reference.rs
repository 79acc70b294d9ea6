//! References: `[registry/]repository[:tag][@digest]`, with Docker's defaults.
//!
//! `alpine` is `docker.io/library/alpine:latest`. The first part is a registry when it holds a `.` or a `:`, is
//! `localhost`, or has an upper-case letter, as in distribution's reference grammar.

use super::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The registry that a bare name means.
pub const DOCKER_HUB: &str = "docker.io";

/// A reference that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not a reference at all.
    #[error("'{0}' is not an image reference (expected [registry/]repository[:tag][@digest])")]
    Form(String),
    /// Upper-case letters in the repository.
    #[error("'{0}' is not an image reference: a repository name is lower-case")]
    UpperCase(String),
    /// 64 hexadecimal digits are an image's ID, not a name.
    #[error("'{0}' is an image's ID, which cannot stand for a repository name")]
    Id(String),
    /// A digest that cannot be read.
    #[error(transparent)]
    Digest(#[from] super::digest::DigestError),
}

/// A normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Registry host, with its port if one was given; Docker Hub is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Repository below the registry, such as `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; absent only where a digest is given without one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository at `digest`, the tag dropped.
    pub fn at_digest(&self, digest: Digest) -> Self {
        Reference { digest: Some(digest), tag: None, ..self.clone() }
    }

    /// The same repository under `tag`, the digest dropped.
    pub fn with_tag(&self, tag: &str) -> Self {
        Reference { tag: Some(tag.to_string()), digest: None, ..self.clone() }
    }

    /// What the manifest is asked for by: the digest, else the tag.
    pub fn identifier(&self) -> String {
        self.digest.as_ref().map_or_else(|| self.tag.clone().unwrap_or_default(), ToString::to_string)
    }

    /// As a person writes it: without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_string(),
            None => full,
        }
    }

    /// [`Reference::familiar`] without tag and digest: `docker images` prints it.
    pub fn familiar_repository(&self) -> String {
        Reference { tag: None, digest: None, ..self.clone() }.familiar()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let form = || ReferenceError::Form(text.to_string());
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Id(text.to_string()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(form());
        }
        let (registry, repository) = split_registry(name);
        if registry.is_empty() || !registry.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b)) {
            return Err(form());
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase(text.to_string()));
        }
        if !repository.split('/').all(is_component) || repository.len() > 255 {
            return Err(form());
        }
        let tag = tag.map(str::to_string).or_else(|| digest.is_none().then(|| "latest".to_string()));
        Ok(Reference { registry, repository, tag, digest })
    }
}

/// Splits off the registry and puts Docker Hub's defaults in.
fn split_registry(name: &str) -> (String, String) {
    let is_registry =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase());
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest.to_string()),
        _ => (DOCKER_HUB, name.to_string()),
    };
    match registry {
        DOCKER_HUB | "index.docker.io" if !repository.contains('/') => {
            (DOCKER_HUB.into(), format!("library/{repository}"))
        }
        "index.docker.io" => (DOCKER_HUB.into(), repository),
        _ => (registry.into(), repository),
    }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    tag.len() <= 128 && !tag.starts_with(['.', '-']) && !tag.is_empty() && tag.bytes().all(rest)
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = part.as_bytes();
    let separators = || part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    edge(bytes.first())
        && edge(bytes.last())
        && separators().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hubs_naming_rules() {
        let digest = Digest::sha256(b"x");
        for (text, expected) in [
            ("alpine", "docker.io/library/alpine:latest".to_string()),
            ("alpine:3", "docker.io/library/alpine:3".into()),
            ("me/app", "docker.io/me/app:latest".into()),
            ("docker.io/alpine", "docker.io/library/alpine:latest".into()),
            ("index.docker.io/me/app:1", "docker.io/me/app:1".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("127.0.0.1:5000/app:1", "127.0.0.1:5000/app:1".into()),
            ("host:5000/a/b/c", "host:5000/a/b/c:latest".into()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".into()),
            ("ghcr.io/a__b/c-d.e_f:V1", "ghcr.io/a__b/c-d.e_f:V1".into()),
            (&format!("alpine@{digest}"), format!("docker.io/library/alpine@{digest}")),
            (&format!("alpine:3@{digest}"), format!("docker.io/library/alpine:3@{digest}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_docker_refuses() {
        for text in
            ["", ":tag", "Alpine", "a//b", "-a", "a-", "a..b", "a___b", "a:", "a:-x", "a@sha256:1", "a b", "/a", "a/"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(matches!("a".repeat(64).parse::<Reference>(), Err(ReferenceError::Id(_))));
        assert!(matches!("me/App".parse::<Reference>(), Err(ReferenceError::UpperCase(_))));
    }

    #[test]
    fn familiar_form() {
        for (text, expected) in
            [("alpine", "alpine:latest"), ("me/app:1", "me/app:1"), ("ghcr.io/a/b", "ghcr.io/a/b:latest")]
        {
            assert_eq!(text.parse::<Reference>().unwrap().familiar(), expected);
        }
    }
}
