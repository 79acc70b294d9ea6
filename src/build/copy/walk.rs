//! Copying one source: a file, or what a directory holds.

use super::ahead::{self, Ahead};
use super::source::{join, split};
use super::{CopyError, Data, Job};
use crate::context::Found;
use crate::context::ignore::{Patterns, Verdict};
use crate::context::pattern::has_wildcard;
use crate::oci::layer::{Kind, Metadata};
use std::collections::HashMap;

/// What `--parents` takes of a tree.
pub struct Include {
    pattern: Vec<u8>,
    compiled: Patterns,
}

impl Include {
    /// Takes what `pattern` matches, and all below that.
    pub fn new(pattern: &[u8]) -> Result<Include, CopyError> {
        Ok(Include { pattern: pattern.to_vec(), compiled: Patterns::new([pattern])? })
    }

    /// The pattern, where it is a plain path: then it has to exist.
    pub fn literal(&self) -> Option<&[u8]> {
        (!has_wildcard(&self.pattern)).then_some(&self.pattern[..])
    }

    /// Whether something below the directory `path` may match.
    fn may_match_below(&self, path: &[u8]) -> bool {
        let mut segments = self.pattern.split(|b| *b == b'/').take_while(|segment| !has_wildcard(segment));
        // An escaped letter is not worth the trouble of comparing it.
        path.split(|b| *b == b'/').all(|name| segments.next().is_none_or(|s| s == name || s.contains(&b'\\')))
    }
}

/// A directory that is being copied.
struct Open {
    source: Vec<u8>,
    target: Vec<u8>,
    /// Whether the target has it; one that is not selected itself is made when something inside is.
    made: bool,
}

/// One file or directory on its way.
struct Item<'a> {
    source: &'a [u8],
    /// Its path below the source that was named; empty for that one itself.
    inner: &'a [u8],
    target: &'a [u8],
    include: Option<&'a Verdict>,
    exclude: Option<&'a Verdict>,
}

struct Walk<'j, 'a> {
    job: &'j mut Job<'a>,
    ahead: &'j Ahead<'a>,
    include: Option<&'j Include>,
    open: Vec<Open>,
    /// Files with several names, and where the first of them went.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Job<'_> {
    /// Copies the source at `path`, which was named as `name`.
    pub fn copy_one(&mut self, name: &[u8], path: &[u8], include: Option<&Include>) -> Result<(), CopyError> {
        let found = self.source.look(path)?;
        let target = self.target_of(name, found.as_ref().is_some_and(|found| found.meta.is_dir()))?;
        let found = found.ok_or_else(|| CopyError::not_found(path, None))?;
        let ahead = Ahead::new(self.source);
        let mut walk = Walk { job: self, ahead: &ahead, include, open: Vec::new(), links: HashMap::new() };
        walk.copy(&Item { source: path, inner: b"", target: &target, include: None, exclude: None }, found)
    }
}

impl Walk<'_, '_> {
    fn copy(&mut self, item: &Item<'_>, found: Found) -> Result<(), CopyError> {
        let named = item.inner.is_empty();
        let include = self.include.filter(|_| !named).map(|i| i.compiled.judge(item.inner, item.include));
        let exclude = self.job.exclude.as_ref().filter(|_| !named).map(|e| e.judge(item.inner, item.exclude));
        let selected = include.as_ref().is_none_or(|v| v.matched) && !exclude.as_ref().is_some_and(|v| v.matched);
        if selected {
            self.make_open_directories()?;
        }
        if found.meta.is_dir() {
            return self.directory(item, found.meta, selected, include.as_ref(), exclude.as_ref());
        }
        if !selected {
            return Ok(());
        }
        let outermost = !named && !item.source.contains(&b'/');
        if outermost && self.job.exclude.is_some() && matches!(found.meta.kind, Kind::Symlink { .. }) {
            // With --exclude BuildKit looks at what a link in the tree's root leads to, as if the link had been named.
            self.job.follow(item.source)?;
        }
        self.file(item, found)
    }

    fn file(&mut self, item: &Item<'_>, found: Found) -> Result<(), CopyError> {
        let data = match found.meta.kind {
            Kind::Socket => return Ok(()),
            Kind::File { .. } => Data::Source { path: item.source.to_vec(), digest: found.digest },
            _ => Data::None,
        };
        if let Some(first) = found.identity.and_then(|identity| self.links.get(&identity)) {
            return self.job.target.put_link(item.target, first);
        }
        if let Some(identity) = found.identity {
            self.links.insert(identity, item.target.to_vec());
        }
        let meta = self.job.ownership.applied(found.meta);
        self.job.target.put_file(item.target, meta, data)
    }

    fn directory(
        &mut self,
        item: &Item<'_>,
        meta: Metadata,
        selected: bool,
        include: Option<&Verdict>,
        exclude: Option<&Verdict>,
    ) -> Result<(), CopyError> {
        let named = item.inner.is_empty();
        if selected {
            self.make_directory(item.target, &meta, named)?;
        }
        let may_match = selected || self.include.is_none_or(|include| include.may_match_below(item.inner));
        if may_match {
            self.open.push(Open { source: item.source.to_vec(), target: item.target.to_vec(), made: selected });
            let entries = self.ahead.entries(item.source)?;
            // What is not copied need not be looked at.
            if named && self.include.is_none() && self.job.exclude.is_none() {
                let directories = ahead::directories(&entries);
                self.ahead.during(item.source, &directories, || self.inside(item, entries, include, exclude))?;
            } else {
                self.inside(item, entries, include, exclude)?;
            }
            self.open.pop();
        }
        if named {
            // The root of a tree has no time worth keeping.
            let time = if item.source.is_empty() { self.job.request.created_mtime } else { meta.mtime };
            self.job.target.set_time(item.target, time);
        } else if selected {
            self.finish_directory(item.target, meta)?;
        }
        Ok(())
    }

    /// Copies what is in a directory.
    fn inside(
        &mut self,
        item: &Item<'_>,
        entries: Vec<(Vec<u8>, Found)>,
        include: Option<&Verdict>,
        exclude: Option<&Verdict>,
    ) -> Result<(), CopyError> {
        for (name, found) in entries {
            let [source, inner, target] = [item.source, item.inner, item.target].map(|path| join(path, &name));
            self.copy(&Item { source: &source, inner: &inner, target: &target, include, exclude }, found)?;
        }
        Ok(())
    }

    /// Makes `target` unless it is a directory already; one that exists below the named source takes its mode.
    fn make_directory(&mut self, target: &[u8], meta: &Metadata, named: bool) -> Result<bool, CopyError> {
        match self.job.target.metadata(target)? {
            None => {
                self.job.target.add_directory(target, meta.clone());
                Ok(true)
            }
            Some(existing) if !existing.is_dir() => Err(CopyError::NotADirectory { path: super::shown(target) }),
            Some(existing) => {
                if !named && existing.mode != meta.mode {
                    self.job.target.set_directory(target, Metadata { mode: meta.mode, ..existing });
                }
                Ok(false)
            }
        }
    }

    fn finish_directory(&mut self, target: &[u8], meta: Metadata) -> Result<(), CopyError> {
        let mut meta = self.job.ownership.applied(meta);
        if let Some(existing) = self.job.target.metadata(target)? {
            let own = std::mem::take(&mut meta.xattrs);
            meta.xattrs = existing.xattrs;
            meta.xattrs.extend(own);
        }
        self.job.target.set_directory(target, meta);
        Ok(())
    }

    /// Makes the directories above a selected path that were not selected themselves.
    fn make_open_directories(&mut self) -> Result<(), CopyError> {
        for index in 0..self.open.len() {
            if std::mem::replace(&mut self.open[index].made, true) {
                continue;
            }
            let (source, target) = (self.open[index].source.clone(), self.open[index].target.clone());
            let Some(meta) = self.job.source.metadata(&source)? else { continue };
            if self.make_directory(&target, &meta, split(&target).1.is_empty())? {
                self.finish_directory(&target, meta)?;
            }
        }
        Ok(())
    }
}
