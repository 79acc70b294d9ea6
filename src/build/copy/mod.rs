//! COPY and ADD: what they change in a tree, as a sorted set of layer entries.
//!
//! Nothing is unpacked and no tree is written: the sources are read through one [`SourceTree`], the destination is looked
//! at through another, and what comes out goes straight into a layer. The rules are those of BuildKit's file copies
//! (FOLLOW links in what is named, keep them in what is found inside; merge directories; created directories are 0755).
//! Remote sources of ADD are fetched before, and stand beside the source tree ([`WithRemotes`]).

mod ahead;
mod archive;
mod digest;
mod owner;
mod remotes;
pub(super) mod source;
mod target;
mod walk;

pub use archive::{is_archive, newest_member};
pub use digest::{Files, selection, selection_digest};
pub use owner::{ModeChange, Owner};
pub use remotes::{WithRemotes, remote_path};

use crate::context::ignore::{IgnoreError, Patterns};
use crate::context::{Exclusion, SourceTree};
use crate::oci::Digest;
use crate::oci::layer::Metadata;
use crate::rootfs::fill;
use owner::Ownership;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use target::Target;

/// Why a COPY or an ADD cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that is not there.
    #[error("\"/{path}\": not found")]
    NotFound {
        /// The source, as looked for beneath the root.
        path: String,
    },
    /// A source that is there, but left out by an ignore file.
    #[error("\"/{path}\": not found: it is excluded by pattern '{pattern}' of {file}", file = file.display())]
    Excluded {
        /// The source.
        path: String,
        /// The pattern that leaves it out.
        pattern: String,
        /// The ignore file that holds the pattern.
        file: PathBuf,
    },
    /// A directory would be copied onto something else.
    #[error("cannot copy to non-directory: /{path}")]
    NotADirectory {
        /// The destination.
        path: String,
    },
    /// A file would be copied onto a directory.
    #[error("cannot replace to directory /{path} with file")]
    IsADirectory {
        /// The destination.
        path: String,
    },
    /// Symbolic links that lead in a circle.
    #[error("too many levels of symbolic links: /{path}")]
    LinkLoop {
        /// The path that cannot be resolved.
        path: String,
    },
    /// A malformed `--chmod`.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Chmod(String),
    /// A name in `--chown` and no tree to look it up in.
    #[error("invalid user index: -1 (--chown={0} names a user or group, and the image has no files to look it up in)")]
    ChownScratch(String),
    /// A malformed pattern in `--exclude` or a source.
    #[error(transparent)]
    Pattern(#[from] IgnoreError),
    /// An archive holds something that cannot be unpacked.
    #[error("archive /{archive}: member '{member}': {reason}")]
    Member {
        /// The archive.
        archive: String,
        /// The member's name.
        member: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An archive is damaged.
    #[error("archive /{archive}: {source}")]
    Archive {
        /// The archive.
        archive: String,
        /// What reading it said.
        source: io::Error,
    },
    /// A tree or the spool file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CopyError {
    fn not_found(path: &[u8], exclusion: Option<Exclusion>) -> CopyError {
        let path = shown(path);
        match exclusion {
            Some(Exclusion { pattern, file }) => CopyError::Excluded { path, pattern, file },
            None => CopyError::NotFound { path },
        }
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A here-document among the sources.
#[derive(Debug, Clone, Copy)]
pub struct Heredoc<'a> {
    /// The file's name.
    pub name: &'a str,
    /// Its content.
    pub body: &'a [u8],
}

/// One COPY or ADD, with all variables expanded.
#[derive(Debug, Clone, Copy)]
pub struct CopyRequest<'a> {
    /// Paths and globs below the source tree's root.
    pub sources: &'a [String],
    /// Here-documents, which are copied after the sources.
    pub heredocs: &'a [Heredoc<'a>],
    /// Where to, as written; relative to `workdir`.
    pub dest: &'a str,
    /// The image's working directory, absolute.
    pub workdir: &'a str,
    /// `--chown`.
    pub chown: Option<&'a str>,
    /// `--chmod`, octal or symbolic.
    pub chmod: Option<&'a str>,
    /// `--exclude`, relative to each source.
    pub exclude: &'a [String],
    /// `--parents`.
    pub parents: bool,
    /// `--link`: the layer stands alone, whatever the destination holds.
    pub link: bool,
    /// Whether this is an ADD.
    pub is_add: bool,
    /// `--unpack` of ADD; where `None`, archives named as sources are unpacked, remote ones are not.
    pub unpack: Option<bool>,
    /// Time of whatever comes from no source: created directories, here-documents. Seconds since 1970.
    pub created_mtime: i64,
}

impl CopyRequest<'static> {
    /// Nothing, to the root, with every option off: what others differ from.
    pub const PLAIN: CopyRequest<'static> = CopyRequest {
        sources: &[],
        heredocs: &[],
        dest: "/",
        workdir: "/",
        chown: None,
        chmod: None,
        exclude: &[],
        parents: false,
        link: false,
        is_add: false,
        unpack: None,
        created_mtime: 0,
    };
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// No bytes: not a regular file.
    None,
    /// A file of the source tree.
    Source {
        /// Its path.
        path: Vec<u8>,
        /// SHA-256 of its content, where that was known without reading it.
        digest: Option<Digest>,
    },
    /// This path of the destination tree.
    Dest(Vec<u8>),
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A piece of the spool file that holds the members of unpacked archives.
    Spool {
        /// Where it starts.
        offset: u64,
        /// Its length.
        len: u64,
    },
}

/// What happens to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The path is this now.
    Entry {
        /// Its metadata.
        meta: Metadata,
        /// Its bytes.
        data: Data,
    },
    /// The path is another name of `to`, which is an entry that comes before it.
    Hardlink {
        /// Path of the entry.
        to: Vec<u8>,
    },
    /// The path is gone.
    Whiteout,
    /// Nothing that the directory held before shows through; comes right after its entry.
    Opaque,
}

impl Change {
    /// The metadata of what the path is now; `None` for another name of a file, and for what is gone.
    pub fn entry(&self) -> Option<&Metadata> {
        match self {
            Change::Entry { meta, .. } => Some(meta),
            Change::Hardlink { .. } | Change::Whiteout | Change::Opaque => None,
        }
    }
}

/// What a COPY or ADD changes, by path: relative to the root, in the order of a layer (component by component, each by its
/// bytes, so parents come before what they hold).
///
/// Directories that exist and only hold a change are listed too, as they are.
#[derive(Debug, Default)]
pub struct Changes {
    entries: Vec<(Vec<u8>, Change)>,
    spool: Option<File>,
}

impl Changes {
    /// The changes in the order a layer has them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Change)> {
        self.entries.iter().map(|(path, change)| (path.as_slice(), change))
    }

    /// The bytes of an entry of these changes; `source` and `dest` are the trees that the changes were made from.
    pub fn open<'a>(
        &'a self,
        data: &'a Data,
        source: &dyn SourceTree,
        dest: &dyn SourceTree,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match data {
            Data::None => Box::new(io::empty()),
            Data::Source { path, .. } => source.open(path)?,
            Data::Dest(path) => dest.open(path)?,
            Data::Bytes(bytes) => Box::new(Cursor::new(&bytes[..])),
            Data::Spool { offset, len } => Box::new(SpoolReader { file: self.spool.as_ref(), at: *offset, left: *len }),
        })
    }
}

/// Reads a piece of the spool file; several may read at once.
struct SpoolReader<'a> {
    file: Option<&'a File>,
    at: u64,
    left: u64,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(file) = self.file.filter(|_| want > 0) else { return Ok(0) };
        let read = file.read_at(&mut buf[..want], self.at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Works out what `request` changes in `dest` (the tree of the step before; an empty one for scratch).
///
/// `spool_dir` takes the members of archives until the changes are dropped; the file has no name.
pub fn copy(
    request: &CopyRequest<'_>,
    source: &dyn SourceTree,
    dest: &dyn SourceTree,
    spool_dir: &Path,
) -> Result<Changes, CopyError> {
    let ownership = Ownership::read(request.chown, request.chmod, dest)?;
    let below: &dyn SourceTree = if request.link { &crate::context::EmptyTree } else { dest };
    let mut job = Job {
        request,
        source,
        target: Target::new(below, request.created_mtime),
        ownership,
        exclude: (!request.exclude.is_empty()).then(|| Patterns::new(request.exclude)).transpose()?,
        dest: destination(request),
        spool: None,
        spool_dir,
    };
    for text in request.sources {
        job.source(text)?;
    }
    for heredoc in request.heredocs {
        job.heredoc(heredoc)?;
    }
    let mut changes = Changes { entries: Vec::new(), spool: job.spool.map(|(file, _)| file) };
    let target = job.target;
    let same = |ours: &Data, path: &[u8]| match (below.content_digest(path)?, ours) {
        (Some(digest), Data::Source { digest: Some(known), .. }) => Ok(digest == *known),
        (Some(digest), _) => Ok(Digest::read(&mut *changes.open(ours, source, below)?)? == digest),
        (None, _) => same_bytes(&mut *changes.open(ours, source, below)?, &mut *below.open(path)?),
    };
    changes.entries = target.finish(same)?;
    Ok(changes)
}

/// Works out what WORKDIR changes in `dest`: `path` (absolute) and what is missing above it, 0755, owned by `user` as
/// `--chown` would have it; empty is root.
pub fn make_directory(path: &str, user: &str, dest: &dyn SourceTree, now: i64) -> Result<Changes, CopyError> {
    let ownership = Ownership::read(Some(user), None, dest)?;
    let mut target = Target::new(dest, now);
    let path = target.resolve(&source::beneath(path.as_bytes()))?;
    target.make_dirs(&path, &|meta| ownership.owned(meta))?;
    let entries = target.finish(|_, _| Ok(true))?;
    Ok(Changes { entries, spool: None })
}

/// The path in `tree` that `path` names once all links are followed inside it; `None` where they lead in a circle or the
/// tree cannot be read there.
pub fn resolve_in(tree: &dyn SourceTree, path: &[u8]) -> Option<Vec<u8>> {
    source::resolve(&|path: &[u8]| tree.metadata(path), &source::beneath(path)).ok()
}

/// The destination beneath the root, with a trailing `/` where it says that it is a directory.
fn destination(request: &CopyRequest<'_>) -> Vec<u8> {
    let dest = request.dest.as_bytes();
    let joined = if dest.starts_with(b"/") { dest.to_vec() } else { [request.workdir.as_bytes(), b"/", dest].concat() };
    let is_dir = [&b""[..], b"."].contains(&dest) || dest.ends_with(b"/") || dest.ends_with(b"/.");
    let mut out = source::beneath(&joined);
    if is_dir && !out.is_empty() {
        out.push(b'/');
    }
    out
}

/// One COPY or ADD on its way.
struct Job<'a> {
    request: &'a CopyRequest<'a>,
    source: &'a dyn SourceTree,
    target: Target<'a>,
    ownership: Ownership,
    exclude: Option<Patterns>,
    dest: Vec<u8>,
    /// The spool file and its length, once there is one.
    spool: Option<(File, u64)>,
    spool_dir: &'a Path,
}

impl Job<'_> {
    fn source(&mut self, text: &str) -> Result<(), CopyError> {
        let (root, wanted) = source::split_parents(text, self.request.parents);
        let include = match &wanted {
            Some(pattern) if !pattern.is_empty() => Some(walk::Include::new(pattern)?),
            _ => None,
        };
        for name in source::expand(self.source, &root)? {
            let path = self.follow(&name)?;
            if let Some(literal) = include.as_ref().and_then(walk::Include::literal) {
                let wanted = source::join(&path, literal);
                self.require(&wanted, &wanted)?;
            }
            // What is downloaded is not unpacked unless that is asked for.
            let unpack = self.request.unpack.unwrap_or(!remotes::is_remote(&path));
            if self.request.is_add && unpack && archive::is_archive(self.source, &path)? {
                self.unpack(&path)?;
                continue;
            }
            self.copy_one(&name, &path, include.as_ref())?;
        }
        Ok(())
    }

    /// Where a named source really is: links are followed inside the source's root.
    fn follow(&self, name: &[u8]) -> Result<Vec<u8>, CopyError> {
        let path = source::resolve(&|path: &[u8]| self.source.metadata(path), name)?;
        self.require(name, &path).map(|()| path)
    }

    /// That there is something at `path`, which was named as `name`.
    fn require(&self, name: &[u8], path: &[u8]) -> Result<(), CopyError> {
        match self.source.metadata(path)? {
            Some(_) => Ok(()),
            None => Err(CopyError::not_found(name, self.source.excluded(path)?)),
        }
    }

    fn heredoc(&mut self, heredoc: &Heredoc<'_>) -> Result<(), CopyError> {
        let target = self.target_of(heredoc.name.as_bytes(), false)?;
        let kind = crate::oci::layer::Kind::File { size: heredoc.body.len() as u64 };
        let mtime = self.request.created_mtime;
        let meta = Metadata { kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() };
        let meta = self.ownership.applied(meta);
        self.target.put_file(&target, meta, Data::Bytes(heredoc.body.into()))
    }

    /// Makes the directories that the destination needs, and says what path a source called `name` is copied to.
    fn target_of(&mut self, name: &[u8], is_dir: bool) -> Result<Vec<u8>, CopyError> {
        let made = |target: &mut Target<'_>, path: &[u8], ownership: &Ownership| {
            let path = target.resolve(path)?;
            target.make_dirs(&path, &|meta| ownership.applied(meta)).map(|()| path)
        };
        if self.dest.ends_with(b"/") {
            made(&mut self.target, &self.dest.clone(), &self.ownership)?;
        }
        let mut path = self.target.resolve(&self.dest)?;
        let found = self.target.metadata(&path)?;
        if !is_dir && found.as_ref().is_some_and(Metadata::is_dir) {
            path = source::join(&path, source::split(name).1);
        }
        let parent = if is_dir && found.is_none() { &path[..] } else { source::split(&path).0 };
        self.target.make_dirs(parent, &|meta| self.ownership.applied(meta))?;
        Ok(path)
    }
}

/// Whether two streams hold the same bytes.
fn same_bytes(a: &mut dyn Read, b: &mut dyn Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (n, m) = (fill(a, &mut left)?, fill(b, &mut right)?);
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}
