//! The content of what a COPY or ADD selects, as one digest: a part of its cache key.

use super::{Change, Changes, CopyError, CopyRequest, Data, copy};
use crate::context::{EmptyTree, SourceTree};
use crate::oci::layer::{Kind, Metadata};
use crate::oci::{Digest, digest};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// As much of a file's digest as tells two versions of it apart.
const BEGINNING: usize = 16;
/// Files are read by this many threads at most; more only wait for the disk.
const THREADS: usize = 4;

/// Digest of what `request` selects in `source`: paths, types, modes, owners, bytes or link targets, attributes and which
/// names are one file; no times. The destination has no part in it, so nothing of the image need be there, and neither
/// have the options, which the caller's key holds as written. An archive counts as the file that it is.
pub fn selection_digest(request: &CopyRequest<'_>, source: &dyn SourceTree) -> Result<Digest, CopyError> {
    Ok(selection(request, source)?.0)
}

/// [`selection_digest`], and what it is made of: paths, each with the beginning of a digest of all that counts of it.
pub fn selection(
    request: &CopyRequest<'_>,
    source: &dyn SourceTree,
) -> Result<(Digest, BTreeMap<String, String>), CopyError> {
    let (mut all, mut files) = (digest::Hasher::new(digest::Algorithm::Sha256), BTreeMap::new());
    let plain = CopyRequest {
        dest: "/",
        chown: None,
        chmod: None,
        link: true,
        unpack: Some(false),
        created_mtime: 0,
        ..*request
    };
    for text in request.sources {
        let one = CopyRequest { sources: std::slice::from_ref(text), heredocs: &[], ..plain };
        // Nothing is spooled where nothing is unpacked.
        let changes = copy(&one, source, &EmptyTree, Path::new(""))?;
        let mut own = BTreeMap::new();
        all.update(changes_digest(&changes, source, &mut own)?.hex().as_bytes());
        files.extend(own.into_iter().map(|(path, digest)| (named(text, path), digest)));
    }
    for heredoc in request.heredocs {
        for part in [heredoc.name.as_bytes(), heredoc.body] {
            field(&mut all, part);
        }
    }
    Ok((all.finish(), files))
}

/// A path of what a source selects, in the words of the source: a directory's content is known by names below it.
fn named(source: &str, path: String) -> String {
    let source = source.trim_start_matches("./").trim_matches('/');
    match source {
        "" | "." => path,
        source if source.rsplit('/').next() == Some(path.as_str()) => source.to_string(),
        source if source.contains(['*', '?', '[', '\0']) => path,
        source => format!("{source}/{path}"),
    }
}

/// A field with its length before it, so that no two lists of fields look alike.
fn field(hasher: &mut digest::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn changes_digest(
    changes: &Changes,
    source: &dyn SourceTree,
    files: &mut BTreeMap<String, String>,
) -> Result<Digest, CopyError> {
    let entries: Vec<(&[u8], &Change)> = changes.iter().collect();
    let contents = contents(&entries, changes, source)?;
    let mut all = digest::Hasher::new(digest::Algorithm::Sha256);
    for ((path, change), content) in entries.iter().zip(contents) {
        field(&mut all, path);
        let mut hasher = digest::Hasher::new(digest::Algorithm::Sha256);
        match change {
            Change::Hardlink { to } => {
                field(&mut hasher, b"hardlink");
                field(&mut hasher, to);
            }
            Change::Entry { meta, .. } => metadata(&mut hasher, meta),
            Change::Whiteout => field(&mut hasher, b"whiteout"),
            Change::Opaque => field(&mut hasher, b"opaque"),
        }
        field(&mut hasher, content.as_ref().map_or("", |content| content.hex()).as_bytes());
        let entry = hasher.finish();
        all.update(entry.hex().as_bytes());
        files.insert(String::from_utf8_lossy(path).into_owned(), entry.hex()[..BEGINNING].to_string());
    }
    Ok(all.finish())
}

fn metadata(hasher: &mut digest::Hasher, meta: &Metadata) {
    let (kind, detail) = match &meta.kind {
        Kind::File { size } => ("file", size.to_string().into_bytes()),
        Kind::Dir => ("dir", Vec::new()),
        Kind::Symlink { target } => ("symlink", target.clone()),
        Kind::Fifo => ("fifo", Vec::new()),
        Kind::Socket => ("socket", Vec::new()),
        Kind::CharDevice { major, minor } => ("char", format!("{major}:{minor}").into_bytes()),
        Kind::BlockDevice { major, minor } => ("block", format!("{major}:{minor}").into_bytes()),
    };
    field(hasher, kind.as_bytes());
    field(hasher, &detail);
    field(hasher, format!("{:o} {} {} {}", meta.mode, meta.uid, meta.gid, meta.xattrs.len()).as_bytes());
    for (name, value) in &meta.xattrs {
        field(hasher, name);
        field(hasher, value);
    }
}

/// Digests of the files' bytes, in order; read by several threads.
fn contents(
    entries: &[(&[u8], &Change)],
    changes: &Changes,
    source: &dyn SourceTree,
) -> io::Result<Vec<Option<Digest>>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new((vec![None; entries.len()], None));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((_, change)) = entries.get(index) else { return };
            let Change::Entry { data, .. } = change else { continue };
            if *data == Data::None {
                continue;
            }
            let known = match data {
                Data::Source(path) => source.content_digest(path),
                _ => Ok(None),
            };
            let hashed = known.and_then(|known| match known {
                Some(digest) => Ok(digest),
                None => changes.open(data, source, &EmptyTree).and_then(|mut file| Digest::read(&mut file)),
            });
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match hashed {
                Ok(digest) => results.0[index] = Some(digest),
                Err(error) => {
                    results.1.get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(entries.len() / 16) {
            scope.spawn(work);
        }
        work();
    });
    let (digests, error) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    error.map_or(Ok(digests), Err)
}
