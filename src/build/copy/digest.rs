//! The content of what a COPY or ADD selects, as one digest: a part of its cache key.

use super::{Change, Changes, CopyError, CopyRequest, Data, copy};
use crate::context::{EmptyTree, SourceTree};
use crate::oci::layer::{Kind, Metadata};
use crate::oci::{Digest, digest};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// As much of a file's digest as tells two versions of it apart.
const BEGINNING: usize = 16;
/// A thread reads as many files at a time, or so many bytes.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 1 << 20;
/// Files are read by this many threads at most; more only wait for the disk.
const THREADS: usize = 4;

/// Digest of what `request` selects in `source`: paths, types, modes, owners, bytes or link targets, attributes and which
/// names are one file; no times. The destination has no part in it, so nothing of the image need be there, and neither
/// have the options, which the caller's key holds as written. An archive counts as the file that it is.
pub fn selection_digest(request: &CopyRequest<'_>, source: &dyn SourceTree) -> Result<Digest, CopyError> {
    Ok(selection(request, source)?.0)
}

/// What a selection is made of: paths, each with the beginning of a digest of all that counts of it.
pub type Files = Arc<[(String, String)]>;

/// [`selection_digest`], and what it is made of.
pub fn selection(request: &CopyRequest<'_>, source: &dyn SourceTree) -> Result<(Digest, Files), CopyError> {
    let (mut all, mut files) = (digest::Hasher::new(digest::Algorithm::Sha256), Vec::new());
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
        let digest = changes_digest(&changes, source, |path, digest| files.push((named(text, path), digest)))?;
        all.update(digest.hex().as_bytes());
    }
    for heredoc in request.heredocs {
        for part in [heredoc.name.as_bytes(), heredoc.body] {
            field(&mut all, part);
        }
    }
    Ok((all.finish(), files.into()))
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
    mut tell: impl FnMut(String, String),
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
        tell(String::from_utf8_lossy(path).into_owned(), entry.hex()[..BEGINNING].to_string());
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
    let mut digests = vec![None; entries.len()];
    let mut unread = Vec::new();
    for (index, (_, change)) in entries.iter().enumerate() {
        match change {
            Change::Entry { data: Data::Source { digest: Some(digest), .. }, .. } => {
                digests[index] = Some(digest.clone())
            }
            Change::Entry { meta, data } if *data != Data::None => {
                unread.push(Unread { index, size: meta.size(), data })
            }
            _ => {}
        }
    }
    let batches: Vec<&[Unread<'_>]> = batches(&unread);
    let next = AtomicUsize::new(0);
    let results = Mutex::new((digests, None));
    let work = || {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = read(batch, changes, source);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(digests) => {
                    batch.iter().zip(digests).for_each(|(file, digest)| results.0[file.index] = Some(digest));
                }
                Err(error) => {
                    results.1.get_or_insert(error);
                    next.store(batches.len(), Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(batches.len()) {
            scope.spawn(work);
        }
        work();
    });
    let (digests, error) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    error.map_or(Ok(digests), Err)
}

/// A file whose digest is not known.
struct Unread<'a> {
    index: usize,
    size: u64,
    data: &'a Data,
}

impl<'a> Unread<'a> {
    /// Its path in the source tree, where it is from there.
    fn path(&self) -> Option<&'a [u8]> {
        match self.data {
            Data::Source { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// `files` in pieces that are worth a thread's while.
fn batches<'f, 'a>(files: &'f [Unread<'a>]) -> Vec<&'f [Unread<'a>]> {
    let (mut out, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, file) in files.iter().enumerate() {
        bytes += file.size;
        if bytes >= BATCH_BYTES || at - start + 1 == BATCH_FILES {
            out.push(&files[start..=at]);
            (start, bytes) = (at + 1, 0);
        }
    }
    out.push(&files[start..]);
    out.retain(|batch| !batch.is_empty());
    out
}

/// Digests of `files`, in order.
fn read(files: &[Unread<'_>], changes: &Changes, source: &dyn SourceTree) -> io::Result<Vec<Digest>> {
    let paths: Vec<&[u8]> = files.iter().filter_map(Unread::path).collect();
    let mut known = source.content_digests(&paths)?.into_iter();
    let digest = |file: &Unread<'_>| match file.path().and_then(|_| known.next().flatten()) {
        Some(digest) => Ok(digest),
        None => Digest::read(&mut *changes.open(file.data, source, &EmptyTree)?),
    };
    files.iter().map(digest).collect()
}
