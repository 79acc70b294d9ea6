//! Where an image is asked for: its own registry, or mirrors and stand-ins before it. Pulls only: a push goes where it is
//! sent.

use super::RegistryError;
use crate::oci::Reference;

/// What holds for all images whose names begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Registry, or registry and a part of the path; `*.example.com` is every host below example.com.
    pub prefix: String,
    /// Asked before the registry, in this order.
    pub mirrors: Vec<Mirror>,
    /// Stands for the registry itself.
    pub location: Option<String>,
    /// Nothing is pulled from there.
    pub blocked: bool,
}

/// A registry, or a part of one, that has copies: what follows the prefix follows its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `host[:port][/path]`; a scheme before it says only whether plain http may be spoken.
    pub location: String,
    /// Asked for tags.
    pub for_tags: bool,
    /// Asked for digests.
    pub for_digests: bool,
    /// By a flag or a variable, so that it comes before those of the files.
    pub given: bool,
}

impl Route {
    /// A route that leads straight there.
    pub fn new(prefix: &str) -> Self {
        Route { prefix: prefix.to_string(), mirrors: Vec::new(), location: None, blocked: false }
    }

    /// What follows the prefix in `name` (`host/path`), if it begins with it.
    fn rest<'n>(&self, name: &'n str) -> Option<&'n str> {
        let rest = match self.prefix.strip_prefix('*') {
            Some(domain) => {
                let host = name.split('/').next().unwrap_or_default();
                host.ends_with(domain).then(|| &name[host.len()..])
            }
            None => name.strip_prefix(self.prefix.as_str()),
        };
        rest.filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Mirror {
    /// A mirror of everything.
    pub fn new(location: &str) -> Self {
        let location = location.trim_end_matches('/').to_string();
        Mirror { location, for_tags: true, for_digests: true, given: false }
    }
}

impl super::Settings {
    /// Where `reference` is asked for, in this order; the last one is the registry itself.
    pub fn places(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let fitting = self.routes.iter().filter_map(|route| Some((route, route.rest(&name)?)));
        let Some((route, rest)) = fitting.max_by_key(|(route, _)| route.prefix.len()) else {
            return Ok(vec![reference.clone()]);
        };
        if route.blocked {
            return Err(RegistryError::Blocked(reference.to_string()));
        }
        let pinned = reference.digest().is_some();
        let wanted = |mirror: &&Mirror| if pinned { mirror.for_digests } else { mirror.for_tags };
        let mut places = Vec::new();
        for mirror in route.mirrors.iter().filter(wanted) {
            places.push(at(&mirror.location, rest, reference)?);
        }
        places.push(match &route.location {
            Some(location) => at(location, rest, reference)?,
            None => reference.clone(),
        });
        Ok(places)
    }
}

/// `reference` with its registry and the prefix replaced.
fn at(location: &str, rest: &str, reference: &Reference) -> Result<Reference, RegistryError> {
    let bare = location.split_once("://").map_or(location, |(_, bare)| bare);
    let host = bare.split('/').next().unwrap_or_default();
    let separator = if reference.digest().is_some() { '@' } else { ':' };
    let text = format!("{bare}{rest}{separator}{}", reference.identifier());
    let there = text.parse().ok().filter(|there: &Reference| there.registry() == host);
    there.ok_or_else(|| RegistryError::Name(location.to_string()))
}
