//! `RUN --mount`: what a step's mounts mean for its cache key, and what the sandbox is given for them.
//!
//! | mount | what is shown | writes | in the key |
//! |---|---|---|---|
//! | bind of a stage or image | its layers, by an overlay or as a copy | thrown away | the tree's id, or what is selected below it |
//! | bind of a context | a copy of what the ignore file leaves, owned by 0:0 | thrown away | what is selected |
//! | cache | a directory of the store | kept | owner, mode and seed; no id, no content |
//! | tmpfs | memory | thrown away | its size |
//! | secret | memory, or a variable | none | id, owner, mode, variable; no value |
//! | ssh | a socket that leads to the user's agent ([`agent`]) | – | id, owner, mode |
//!
//! Mounts are made in the order of their targets, so one may lie inside another.

mod agent;
mod bind;
mod tree;

use super::Build;
use super::cache::selections::{Naming, Selected};
use super::copy::{self, CopyError, CopyRequest};
use super::error::StepError;
use super::key::Encoder;
use super::schedule::Results;
use super::stage::{StageResult, StageState};
use crate::context::{Exclusion, SourceTree};
use crate::oci::Digest;
use crate::oci::layer::{Kind, Metadata};
use crate::plan::{Mount, MountKind, RunStep, Sharing, TreeSource};
use crate::progress::{Event, StepId};
use crate::sandbox::{self, MountSource};
use crate::secret::SecretBytes;
use crate::store::{CacheDir, CacheUse, TempDir};
use agent::Agent;
use bind::Lent;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a mount cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A secret that the step requires was not given.
    #[error("secret {id}: not found: give it with --secret id={id},src=FILE")]
    Secret {
        /// Its id.
        id: String,
    },
    /// An agent that the step requires was not given.
    #[error("no SSH key \"{id}\" forwarded from the client: give its agent with --ssh {id}")]
    Ssh {
        /// Its id.
        id: String,
    },
    /// An owner that the id map does not hold.
    #[error(
        "cannot give {path} to {uid}:{gid}: these ids are not in the id map. \
         Grant this user a range in /etc/subuid and /etc/subgid and install newuidmap (package uidmap), or run dockless as root"
    )]
    Owner {
        /// What was to be given.
        path: PathBuf,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A file of a tree that is to be copied for a mount.
    #[error("cannot copy {path} for a mount: {source}", path = path.display())]
    Copy {
        /// Its path in the tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket of an agent.
    #[error("cannot forward the SSH agent {id}: {source}")]
    Agent {
        /// Its id.
        id: String,
        /// Why.
        source: io::Error,
    },
}

/// Mounts ready for the sandbox; what is temporary about them goes when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// In the order of their targets.
    pub mounts: Vec<sandbox::Mount>,
    /// Variables that mounts bring along.
    pub env: Vec<(String, String)>,
    /// Secrets as variables.
    pub secret_env: Vec<(String, SecretBytes)>,
    held: Vec<Held>,
}

/// What has to stay until the command has ended.
#[derive(Debug)]
#[allow(dead_code)] // held for their Drop
enum Held {
    Directory(TempDir),
    Copy(Arc<TempDir>),
    Cache(Arc<CacheDir>),
    Agent(Agent),
    Tree(Box<Lent>),
}

/// A part of a context: the context's name, empty for the main one, and a path.
type Part = (String, Vec<u8>);

/// What is known of parts of contexts, once a build: contexts do not change meanwhile.
#[derive(Debug, Default)]
pub(super) struct ContextParts {
    digests: Mutex<HashMap<Part, String>>,
    copies: Mutex<HashMap<Part, Arc<TempDir>>>,
}

/// The name under which [`ContextParts`] has a context; `None` for a tree of layers.
fn context_name(from: &TreeSource) -> Option<String> {
    match from {
        TreeSource::Context => Some(String::new()),
        TreeSource::NamedContext(name) => Some(name.clone()),
        TreeSource::Stage(_) | TreeSource::Image(_) | TreeSource::Scratch => None,
    }
}

fn by_target(step: &RunStep) -> Vec<&Mount> {
    let mut mounts: Vec<&Mount> = step.mounts.iter().collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts
}

/// Where the socket of the ssh mount `mount` of `step` goes.
fn ssh_target(step: &RunStep, mount: &Mount) -> String {
    let of_ssh = |mount: &&Mount| matches!(mount.kind, MountKind::Ssh { .. });
    let number = step.mounts.iter().filter(of_ssh).position(|other| std::ptr::eq(other, mount)).unwrap_or_default();
    mount.target.clone().unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}"))
}

impl Build<'_> {
    /// Puts the mounts of `step` into its key.
    pub(super) fn encode_mounts(&self, key: &mut Encoder, step: &RunStep, naming: Naming<'_>) -> Result<(), StepError> {
        for mount in by_target(step) {
            key.list("mount", &mount.target);
            match &mount.kind {
                MountKind::Bind { from, source, writable } => {
                    key.field("bind", [u8::from(*writable)]);
                    key.field("source", source);
                    key.field("selected", self.shown(from, source, naming)?);
                }
                MountKind::Cache { seed, source, uid, gid, mode, read_only, .. } => {
                    key.field("cache", format!("{uid} {gid} {mode:o} {read_only}"));
                    key.field("source", source);
                    key.list("seed", self.seed_id(seed, source, naming)?);
                }
                MountKind::Tmpfs { size } => key.field("tmpfs", format!("{size:?}")),
                MountKind::Secret { id, env, required, uid, gid, mode } => {
                    key.field("secret", format!("{uid} {gid} {mode:o} {required}"));
                    key.field("id", id);
                    key.list("env", env);
                }
                MountKind::Ssh { id, required, uid, gid, mode } => {
                    key.field("ssh", format!("{uid} {gid} {mode:o} {required}"));
                    key.field("id", id);
                }
            }
        }
        Ok(())
    }

    /// What a mount of `source` in `from` shows.
    fn shown(&self, from: &TreeSource, source: &str, naming: Naming<'_>) -> Result<String, StepError> {
        match (context_name(from), naming) {
            (Some(name), _) => self.part_digest(name, from, source),
            (None, Naming::Definition) => self.tree_definition(from),
            (None, Naming::Content(results)) => {
                Ok(self.selected(from, &Selected::Mount(source.to_string()), results)?.0)
            }
        }
    }

    /// Digest of what a mount shows of a context.
    fn part_digest(&self, name: String, from: &TreeSource, source: &str) -> Result<String, StepError> {
        let tree = self.tree(from, None)?;
        let (path, meta) = select(&*tree, source)?;
        let part = (name, path);
        let mut known = self.parts.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known.get(&part) {
            return Ok(digest.clone());
        }
        let digest = files_digest(&*tree, &part.1, &meta)?;
        known.insert(part, digest.clone());
        Ok(digest)
    }

    /// Digest of what is at `source` in `tree`.
    pub(super) fn mount_digest(&self, tree: &dyn SourceTree, source: &str) -> Result<String, StepError> {
        let (path, meta) = select(tree, source)?;
        files_digest(tree, &path, &meta)
    }

    fn seed_id(
        &self,
        seed: &Option<TreeSource>,
        source: &str,
        naming: Naming<'_>,
    ) -> Result<Option<String>, StepError> {
        seed.as_ref().map(|from| self.shown(from, source, naming)).transpose()
    }

    /// Makes the mounts of `step` ready.
    pub(super) fn prepare_mounts(
        &self,
        state: &StageState,
        step: &RunStep,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<Prepared, StepError> {
        let mut out = Prepared::default();
        let caches = self.caches(state, step, results, id)?;
        for mount in by_target(step) {
            match &mount.kind {
                MountKind::Bind { from, source, writable } => {
                    let source = self.bind(from, source, *writable, results, &mut out.held)?;
                    out.push(mount, source, !writable);
                }
                MountKind::Cache { seed, source, read_only, .. } => {
                    let key = self.cache_key(mount, results)?;
                    if let Some(cache) = caches.get(&key) {
                        out.held.push(Held::Cache(cache.clone()));
                        // The seed was taken from below `source` already.
                        let path = if seed.is_some() { "/" } else { source };
                        let source = MountSource::Below { dir: cache.path().into(), path: path.into() };
                        out.push(mount, source, *read_only);
                    }
                }
                MountKind::Tmpfs { size } => out.push(mount, MountSource::Tmpfs(*size), false),
                MountKind::Secret { .. } => self.secret(mount, &mut out)?,
                MountKind::Ssh { .. } => self.ssh(step, mount, &mut out)?,
            }
        }
        Ok(out)
    }

    /// The step's cache directories, each held once and taken in the order of their keys: so two steps that lock the same
    /// ones do not wait for each other.
    fn caches(
        &self,
        state: &StageState,
        step: &RunStep,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<BTreeMap<Digest, Arc<CacheDir>>, StepError> {
        let mut wanted: BTreeMap<Digest, (&Mount, CacheUse)> = BTreeMap::new();
        for mount in &step.mounts {
            let MountKind::Cache { sharing, .. } = &mount.kind else { continue };
            let usage = match sharing {
                Sharing::Shared => CacheUse::Shared,
                Sharing::Private => CacheUse::Private,
                Sharing::Locked => CacheUse::Locked,
            };
            let entry = wanted.entry(self.cache_key(mount, results)?).or_insert((mount, usage));
            if entry.1 == CacheUse::Shared {
                entry.1 = usage;
            }
        }
        let mut out = BTreeMap::new();
        for (key, (mount, usage)) in wanted {
            let name = mount.target.as_deref().unwrap_or_default();
            let wait = || {
                let text = format!("{}: waiting for the cache of {name}, which another step holds", state.stage.label);
                self.services.progress.emit(Event::Note { id: Some(id), text });
            };
            let fill = |dir: &Path| self.fill_cache(mount, &key, results, id, dir);
            let cache = self.services.store.cache_dir(&key, usage, &wait, &fill)?;
            out.insert(key, Arc::new(cache));
        }
        Ok(out)
    }

    /// What makes a cache another one.
    fn cache_key(&self, mount: &Mount, results: &Results<StageResult>) -> Result<Digest, StepError> {
        let MountKind::Cache { id, seed, source, uid, gid, mode, .. } = &mount.kind else {
            return Ok(Digest::sha256(""));
        };
        let text = format!("{uid} {gid} {mode:o}\n{:?}\n{id}", self.seed_id(seed, source, Naming::Content(results))?);
        Ok(Digest::sha256(text))
    }

    /// The cache directories of a step.
    pub(super) fn cache_keys(&self, step: &RunStep, results: &Results<StageResult>) -> Result<Vec<Digest>, StepError> {
        let caches = step.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Cache { .. }));
        caches.map(|mount| self.cache_key(mount, results)).collect()
    }

    fn fill_cache(
        &self,
        mount: &Mount,
        key: &Digest,
        results: &Results<StageResult>,
        id: StepId,
        dir: &Path,
    ) -> Result<(), StepError> {
        let MountKind::Cache { seed, source, uid, gid, mode, .. } = &mount.kind else { return Ok(()) };
        let restored = self.restore_mount(key, dir, id)?;
        if let Some(from) = seed.as_ref().filter(|_| !restored) {
            let tree = self.tree(from, Some(results))?;
            let (path, _) = select(&*tree, source)?;
            tree::copy_below(&*tree, &path, dir)?;
        }
        tree::give(dir, *uid, *gid, Some(*mode))
    }

    fn secret(&self, mount: &Mount, out: &mut Prepared) -> Result<(), StepError> {
        let MountKind::Secret { id, env, required, uid, gid, mode } = &mount.kind else { return Ok(()) };
        let Some(content) = self.options.steps.secrets.get(id) else {
            return if *required { Err(MountError::Secret { id: id.clone() }.into()) } else { Ok(()) };
        };
        if let Some(name) = env {
            out.secret_env.push((name.clone(), content.clone()));
        }
        let source = MountSource::Secret { content: content.clone(), uid: *uid, gid: *gid, mode: *mode };
        out.push(mount, source, true);
        Ok(())
    }

    fn ssh(&self, step: &RunStep, mount: &Mount, out: &mut Prepared) -> Result<(), StepError> {
        let MountKind::Ssh { id, required, uid, gid, mode } = &mount.kind else { return Ok(()) };
        let target = ssh_target(step, mount);
        let first = step.mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh { .. }));
        let is_first = first.is_some_and(|first| std::ptr::eq(first, mount));
        if is_first && step.env.iter().all(|(name, _)| name != "SSH_AUTH_SOCK") {
            // Also where no agent is forwarded, as BuildKit has it.
            out.env.push(("SSH_AUTH_SOCK".into(), target.clone()));
        }
        let Some(socket) = self.options.steps.ssh.get(id) else {
            return if *required { Err(MountError::Ssh { id: id.clone() }.into()) } else { Ok(()) };
        };
        let temp = self.services.store.temp_dir()?;
        let failed = |source| MountError::Agent { id: id.clone(), source };
        let agent = Agent::start(socket, temp.path()).map_err(failed)?;
        tree::give(agent.path(), *uid, *gid, Some(*mode))?;
        let source = MountSource::Bind(agent.path().to_path_buf());
        out.mounts.push(sandbox::Mount { source, target: target.into(), readonly: true });
        out.held.push(Held::Agent(agent));
        out.held.push(Held::Directory(temp));
        Ok(())
    }
}

impl Prepared {
    /// Adds a mount that has a target.
    fn push(&mut self, mount: &Mount, source: MountSource, readonly: bool) {
        if let Some(target) = &mount.target {
            self.mounts.push(sandbox::Mount { source, target: target.into(), readonly });
        }
    }
}

/// The path that `source` leads to in `tree`, links followed inside it, and what is there.
fn select(tree: &dyn SourceTree, source: &str) -> Result<(Vec<u8>, Metadata), StepError> {
    let path = copy::source::resolve(&|path: &[u8]| tree.metadata(path), source.as_bytes())?;
    if let Some(meta) = tree.metadata(&path)? {
        return Ok((path, meta));
    }
    let shown = source.trim_start_matches('/').to_string();
    Err(StepError::Copy(match tree.excluded(&path)? {
        Some(Exclusion { pattern, file }) => CopyError::Excluded { path: shown, pattern, file },
        None => CopyError::NotFound { path: shown },
    }))
}

/// Digest of everything at `path`, which is no link.
fn files_digest(tree: &dyn SourceTree, path: &[u8], meta: &Metadata) -> Result<String, StepError> {
    // A copy of a directory takes what it holds, so its own mode is put before; a path that is not UTF-8 cannot be named
    // in a Dockerfile, but a link can lead there.
    let kind = if meta.kind == Kind::Dir { "dir" } else { "file" };
    let source = format!("/{}", literal(&String::from_utf8_lossy(path)));
    let request = CopyRequest { sources: &[source], link: true, ..CopyRequest::PLAIN };
    let digest = copy::selection_digest(&request, tree)?;
    Ok(format!("{kind} {:o} {}:{} {digest}", meta.mode, meta.uid, meta.gid))
}

/// `path` as a source of COPY that names it alone. A backslash alone makes no pattern, so classes stand for wildcards.
fn literal(path: &str) -> String {
    if !path.contains(['*', '?', '[']) {
        return path.to_string();
    }
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' => out.extend(['[', c, ']']),
            '\\' => out.push_str("[\\\\]"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ContextDir;

    #[test]
    fn any_name_can_be_selected() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["plain", "a[1]", "b*", "c?d", "e\\f", "g\\*[", "h]", "a1", "bx", "cxd"];
        for name in names {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let context = ContextDir::open(dir.path(), None).unwrap();
        let mut digests: Vec<String> = Vec::new();
        for name in names {
            let (path, meta) = select(&context, &format!("/{name}")).unwrap();
            digests.push(files_digest(&context, &path, &meta).unwrap_or_else(|error| panic!("{name}: {error}")));
        }
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), names.len(), "each selects one file");
    }
}
