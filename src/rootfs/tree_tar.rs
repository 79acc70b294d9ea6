//! Trees as they are: walked in canonical order, and written as a plain tar.

use super::layer::{LayerError, TarWriter};
use super::view::join;
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata};
use std::collections::HashMap;
use std::io::{self, Write};

/// A file of a tree that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read '{}' of the tree", String::from_utf8_lossy(path))]
pub struct TreeError {
    /// Its path.
    pub path: Vec<u8>,
    /// What happened.
    pub source: io::Error,
}

/// What a walk over a tree comes to.
#[derive(Debug)]
pub enum TreeStep<'a> {
    /// A file.
    Entry(&'a Metadata),
    /// Another name of the first path of its file, and what that is.
    Link(&'a [u8], &'a Metadata),
    /// The end of a directory.
    Leave,
}

/// Walks `tree` in canonical order from `from`; without the root where that is empty. Sockets are none of an image's files.
pub fn walk<E: From<TreeError>>(
    tree: &dyn SourceTree,
    from: &[u8],
    mut visit: impl FnMut(&[u8], TreeStep<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let error = |path: &[u8]| {
        let path = path.to_vec();
        move |source| E::from(TreeError { path, source })
    };
    let mut first_names: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut path = from.to_vec();
    let names = |path: &[u8]| tree.read_dir(path).map(Vec::into_iter).map_err(error(path));
    let mut dirs = Vec::new();
    if from.is_empty() {
        dirs.push((0, names(&path)?));
    } else {
        let meta = tree.metadata(from).map_err(error(from))?;
        let meta = meta.ok_or_else(|| error(from)(io::ErrorKind::NotFound.into()))?;
        visit(from, TreeStep::Entry(&meta))?;
        if meta.is_dir() {
            dirs.push((from.len(), names(from)?));
        }
    }
    while let Some((len, entries)) = dirs.last_mut() {
        path.truncate(*len);
        let Some(name) = entries.next() else {
            dirs.pop();
            visit(&path, TreeStep::Leave)?;
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let Some(meta) = tree.metadata(&path).map_err(error(&path))? else { continue };
        if meta.is_dir() {
            visit(&path, TreeStep::Entry(&meta))?;
            dirs.push((path.len(), names(&path)?));
            continue;
        }
        let identity = tree.link_identity(&path).map_err(error(&path))?;
        match identity.and_then(|identity| first_names.get(&identity)) {
            _ if meta.kind == Kind::Socket => {}
            Some(first) => visit(&path, TreeStep::Link(first, &meta))?,
            None => {
                visit(&path, TreeStep::Entry(&meta))?;
                identity.map(|identity| first_names.insert(identity, path.clone()));
            }
        }
    }
    Ok(())
}

/// Adds `from` of `tree`, and what is below, to `tar` under the name `place`; an empty `from` is the whole tree without its
/// root, and an empty `place` leaves the names below `from` as they are.
pub fn append_tree<W: Write, E: From<TreeError> + From<LayerError>>(
    tar: &mut TarWriter<W>,
    tree: &dyn SourceTree,
    from: &[u8],
    place: &[u8],
) -> Result<(), E> {
    let named = |path: &[u8]| {
        let rest = path[from.len()..].strip_prefix(b"/").unwrap_or(&path[from.len()..]);
        if rest.is_empty() { place.to_vec() } else { join(place, rest) }
    };
    walk(tree, from, |path, step| {
        let name = named(path);
        match step {
            TreeStep::Leave => Ok(()),
            TreeStep::Link(first, meta) => Ok(tar.hardlink(&name, &named(first), meta)?),
            // The directory whose contents alone are asked for.
            TreeStep::Entry(_) if name.is_empty() => Ok(()),
            TreeStep::Entry(meta) if matches!(meta.kind, Kind::File { .. }) => {
                let data = tree.open(path);
                let mut data = data.map_err(|source| TreeError { path: path.to_vec(), source })?;
                Ok(tar.append(&name, meta, Some(&mut data))?)
            }
            TreeStep::Entry(meta) => Ok(tar.append(&name, meta, None)?),
        }
    })
}
