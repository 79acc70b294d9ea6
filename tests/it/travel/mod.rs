//! The cache that leaves the machine: jobs with nothing in common but a registry, or a directory.

mod broken;
mod directory;
mod inline;
mod mounts;
mod registry;

use crate::build::place::{Caller, Place, Ran};
use crate::support::registry::{Asked, Registry};
use std::collections::BTreeSet;

/// A project in some state: files of its context by name, the Dockerfile among them.
#[derive(Clone, Default)]
pub struct Project(Vec<(String, String)>);

impl Project {
    /// This project with a file written anew.
    pub fn with(&self, name: &str, content: impl Into<String>) -> Project {
        let mut files = self.0.clone();
        files.retain(|(known, _)| known != name);
        files.push((name.to_string(), content.into()));
        Project(files)
    }

    /// What a file holds.
    pub fn text(&self, name: &str) -> String {
        self.0.iter().find(|(known, _)| known == name).map(|(_, content)| content.clone()).expect("a file")
    }
}

/// A job on a machine of its own: nothing is there but the project.
pub struct Job {
    pub place: Place,
}

impl Job {
    pub fn new(project: &Project) -> Job {
        let place = Place::new(Caller::Own);
        for (name, content) in &project.0 {
            place.file(name, content);
        }
        Job { place }
    }

    /// Builds with these flags; the build must succeed.
    #[track_caller]
    pub fn build(&self, flags: &str) -> Log {
        Log(self.place.dockless(&format!("build --progress=plain {flags} context")).succeeded())
    }
}

/// What a build said.
pub struct Log(pub Ran);

impl Log {
    /// The steps that were not in a cache, by the instruction's first words.
    pub fn missed(&self) -> Vec<String> {
        let lines: Vec<&str> = self.0.stderr.lines().collect();
        let number = |line: &str| line.split(' ').next().unwrap_or_default().to_string();
        let missed = lines.iter().filter(|line| line.split(' ').nth(1) == Some("MISS")).map(|line| number(line));
        let name = |step: String| {
            let first = lines.iter().find(|line| number(line) == step).expect("a step has a name");
            first.split_once("] ").map_or(*first, |(_, text)| text).to_string()
        };
        missed.map(name).collect()
    }

    /// Where the steps were found that were in a cache.
    pub fn found(&self) -> BTreeSet<String> {
        let cached = self.0.stderr.lines().filter_map(|line| line.split_once(" CACHED "));
        cached.filter_map(|(_, rest)| Some(rest.split_once(' ')?.1.to_string())).collect()
    }

    /// The pushed digest.
    pub fn digest(&self) -> String {
        self.0.text().trim().to_string()
    }

    #[track_caller]
    pub fn says(&self, words: &str) -> &Log {
        assert!(self.0.stderr.contains(words), "no '{words}' in:\n{}", self.0.stderr);
        self
    }
}

/// What a registry was asked since then.
pub struct Count<'a> {
    registry: &'a Registry,
    before: usize,
}

impl<'a> Count<'a> {
    pub fn of(registry: &'a Registry) -> Count<'a> {
        Count { registry, before: registry.requests().len() }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.registry.requests().split_off(self.before)
    }

    /// Bytes of blobs that came from `repository`, those of at least `least` bytes: no config.
    pub fn blob_bytes(&self, repository: &str, least: u64) -> u64 {
        let blobs = format!("/v2/{repository}/blobs/");
        let gets = self.asked().into_iter().filter(|asked| asked.method == "GET" && asked.target.starts_with(&blobs));
        gets.map(|asked| asked.bytes).filter(|bytes| *bytes >= least).sum()
    }
}
