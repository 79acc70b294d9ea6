//! Names of sources: clamped beneath the root, links followed inside it, globs expanded.

use super::CopyError;
use crate::context::SourceTree;
use crate::context::ignore::{IgnoreError, clean};
use crate::context::pattern::{Machine, glob, has_wildcard};
use crate::oci::layer::{Kind, Metadata};
use std::collections::VecDeque;
use std::io;

/// The path relative to the root; `..` stops there.
pub fn beneath(path: &[u8]) -> Vec<u8> {
    clean(&[b"/", path].concat())[1..].to_vec()
}

/// A path and a name below it.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match (parent, name) {
        (b"", _) => name.to_vec(),
        (_, b"") => parent.to_vec(),
        _ => [parent, b"/", name].concat(),
    }
}

/// Parent and last name of a path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The source to walk, and with `--parents` the pattern of what to take there: what stands behind `/./`, else all of it.
pub fn split_parents(text: &str, parents: bool) -> (Vec<u8>, Option<Vec<u8>>) {
    if !parents {
        return (beneath(text.as_bytes()), None);
    }
    let (root, pattern) = text.split_once("/./").unwrap_or(("/", text));
    (beneath(root.as_bytes()), Some(beneath(pattern.as_bytes())))
}

/// Follows every symbolic link in `path`, inside the tree that `lookup` sees; what does not exist is taken as written.
pub fn resolve(lookup: &dyn Fn(&[u8]) -> io::Result<Option<Metadata>>, path: &[u8]) -> Result<Vec<u8>, CopyError> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> { path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect() };
    let mut rest = VecDeque::from(parts(path));
    let mut done: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                done.truncate(split(&done).0.len());
                continue;
            }
            _ => {}
        }
        let next = join(&done, &name);
        match lookup(&next)?.map(|meta| meta.kind) {
            Some(Kind::Symlink { target }) => {
                links += 1;
                // The kernel's limit is 40; BuildKit allows 255.
                if links > 255 {
                    return Err(CopyError::LinkLoop { path: super::shown(path) });
                }
                if target.starts_with(b"/") {
                    done.clear();
                }
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            _ => done = next,
        }
    }
    Ok(done)
}

/// The paths that a source names: itself, or all that its glob matches, sorted; links are not followed at the end.
pub fn expand(tree: &dyn SourceTree, path: &[u8]) -> Result<Vec<Vec<u8>>, CopyError> {
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let Some(first) = segments.iter().position(|segment| has_wildcard(segment)) else {
        return Ok(vec![path.to_vec()]);
    };
    let literal = resolve(&|path: &[u8]| tree.metadata(path), &segments[..first].join(&b'/'))?;
    let globs: Vec<Machine> =
        segments[first..].iter().map(|segment| glob(segment)).collect::<Result<_, _>>().map_err(IgnoreError::from)?;
    let mut found = Vec::new();
    if tree.metadata(&literal)?.is_some_and(|meta| meta.is_dir()) {
        matches(tree, &literal, &globs, &mut found)?;
    }
    Ok(found)
}

fn matches(tree: &dyn SourceTree, dir: &[u8], globs: &[Machine], found: &mut Vec<Vec<u8>>) -> Result<(), CopyError> {
    let [glob, deeper @ ..] = globs else { return Ok(()) };
    for name in tree.read_dir(dir)?.into_iter().filter(|name| glob.matches(name)) {
        let path = join(dir, &name);
        if deeper.is_empty() {
            found.push(path);
        } else if tree.metadata(&path)?.is_some_and(|meta| meta.is_dir()) {
            matches(tree, &path, deeper, found)?;
        }
    }
    Ok(())
}
