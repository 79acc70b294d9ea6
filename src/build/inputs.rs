//! What a build starts from: its contexts, fetched and unpacked where they are not directories, and its Dockerfile.

use super::copy::resolve_in;
use super::error::BuildError;
use super::options::{BuildOptions, ContextSource, DockerfileSource, NamedSource, RemoteUrl};
use super::remote::{self, FileTree, RemoteError};
use super::{Lookup, Source};
use crate::context::ignore::{IgnoreError, IgnoreFile, Patterns, parse_file};
use crate::context::{ContextDir, SourceTree, Stats};
use crate::dockerfile::git_ref;
use crate::dockerfile::value::boolean;
use crate::oci::Digest;
use crate::progress::{Event, Outcome, StepId};
use crate::store::{Store, StoreError, TempDir};
use fs_err as fs;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Names of a Dockerfile that nobody named, in a context that was fetched.
const USUAL_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];
/// The only file of a context that is the download of a Dockerfile.
const DOWNLOADED: &str = "context";
/// Bucket of the store: what is known of the files of a directory, by its path.
const STATS: &str = "context-stats";
/// What the main context is called.
pub(super) const MAIN: &str = "context";
/// Build argument that keeps `.git` in contexts.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// A build's inputs, open.
pub struct Inputs {
    /// The Dockerfile.
    pub dockerfile: Source,
    /// What COPY and ADD read.
    pub(super) context: Arc<ContextDir>,
    /// Named contexts that are trees of files.
    pub(super) named: BTreeMap<String, NamedTree>,
    /// When the contexts that are commits or downloads were made, in seconds since 1970.
    pub(super) times: BTreeMap<String, i64>,
    /// How many ids of progress were used.
    pub(super) ids: u64,
    /// Directories that were filled for this build.
    _temporary: Vec<TempDir>,
}

/// A named context that is a tree of files.
pub(super) struct NamedTree {
    /// What COPY reads: its ignore file applies.
    pub filtered: Arc<ContextDir>,
    /// What FROM reads: all of it.
    pub whole: Arc<ContextDir>,
}

/// Opens the contexts of a build, fetching what is elsewhere, and reads the Dockerfile; `lookup` is called only where
/// something is to be fetched or unpacked.
///
/// A named context is fetched whether the Dockerfile reads it or not.
pub fn open<'s>(
    options: &BuildOptions,
    lookup: impl Fn() -> Result<Lookup<'s>, StoreError>,
) -> Result<Inputs, BuildError> {
    open_some(options, &options.build_contexts, &lookup)
}

/// As [`open`], but without the named contexts: for a check, which reads none of them.
pub fn open_main<'s>(
    options: &BuildOptions,
    lookup: impl Fn() -> Result<Lookup<'s>, StoreError>,
) -> Result<Inputs, BuildError> {
    open_some(options, &[], &lookup)
}

type Look<'l, 's> = dyn Fn() -> Result<Lookup<'s>, StoreError> + 'l;

fn open_some<'s>(
    options: &BuildOptions,
    build_contexts: &[(String, NamedSource)],
    lookup: &Look<'_, 's>,
) -> Result<Inputs, BuildError> {
    let keep_git_dir = options.build_args.iter().rev().find(|(name, _)| name == KEEP_GIT_DIR);
    let keep_git_dir = keep_git_dir.and_then(|(_, value)| value.as_deref()).and_then(boolean);
    let mut opener = Opener { lookup, keep_git_dir, ids: 0, temporary: Vec::new(), times: BTreeMap::new() };
    let mut place = opener.place(&options.context, MAIN)?;
    if let Some(part) = &options.context_subdir {
        place.enter(part)?;
    }
    let (dockerfile, path) = dockerfile(&options.dockerfile, &place)?;
    let context = place.open(path.as_deref())?;
    let mut named = BTreeMap::new();
    for (name, source) in build_contexts {
        if let NamedSource::Tree(source) = source {
            let place = opener.place(source, name)?;
            let whole = ContextDir::open(&place.dir, None).map_err(BuildError::Context)?;
            named.insert(name.clone(), NamedTree { filtered: place.open(None)?, whole: Arc::new(whole) });
        }
    }
    let Opener { ids, times, temporary, .. } = opener;
    Ok(Inputs { dockerfile, context, named, times, ids, _temporary: temporary })
}

impl Inputs {
    /// The user's own directories.
    fn directories(&self, options: &BuildOptions) -> Vec<&ContextDir> {
        let main = matches!(options.context, ContextSource::Directory(_)).then_some(&*self.context);
        let named = options.build_contexts.iter().filter_map(|(name, source)| match source {
            NamedSource::Tree(ContextSource::Directory(_)) => self.named.get(name).map(|tree| &*tree.filtered),
            _ => None,
        });
        main.into_iter().chain(named).collect()
    }

    /// Makes use of what `store` knows of the files in directories; where the build is not to look anything up, of nothing.
    pub(super) fn bring_stats(&self, options: &BuildOptions, store: &Store) -> Result<(), StoreError> {
        for dir in self.directories(options) {
            let known = if options.no_cache { None } else { store.record(STATS, &stats_key(dir))? };
            dir.bring(known.map_or_else(Stats::default, |bytes| Stats::decode(&bytes)));
        }
        Ok(())
    }

    /// Keeps what was learnt of the files in directories.
    pub(super) fn keep_stats(&self, options: &BuildOptions, store: &Store) -> Result<(), StoreError> {
        for dir in self.directories(options) {
            if let Some(bytes) = dir.stats().and_then(Stats::encode) {
                store.put_record(STATS, &stats_key(dir), &bytes)?;
            }
        }
        Ok(())
    }
}

fn stats_key(dir: &ContextDir) -> Digest {
    Digest::sha256(dir.path().as_os_str().as_bytes())
}

/// A context as a directory.
struct Place {
    dir: PathBuf,
    /// It came from elsewhere: no link in it may be followed out of it.
    foreign: bool,
    /// The Dockerfile that came in its stead.
    dockerfile: Option<Vec<u8>>,
}

impl Place {
    /// Goes down into a directory of it, links followed inside.
    fn enter(&mut self, part: &str) -> Result<(), BuildError> {
        let tree = ContextDir::open(&self.dir, None).map_err(BuildError::Context)?;
        let found = resolve_in(&tree, part.as_bytes()).filter(|path| !path.is_empty());
        let is_dir = |path: &Vec<u8>| tree.metadata(path).is_ok_and(|meta| meta.is_some_and(|meta| meta.is_dir()));
        let Some(path) = found.filter(is_dir) else {
            let missing = io::Error::new(io::ErrorKind::NotFound, format!("the context has no directory '{part}'"));
            return Err(BuildError::Context(missing));
        };
        self.dir.push(OsStr::from_bytes(&path));
        Ok(())
    }

    /// The tree, filtered by its ignore file; `dockerfile` is the path of the Dockerfile, relative where the context is
    /// foreign.
    fn open(&self, dockerfile: Option<&Path>) -> Result<Arc<ContextDir>, BuildError> {
        let ignore = match self.foreign {
            false => IgnoreFile::find(&self.dir, dockerfile)?,
            true => self.ignore_inside(dockerfile)?,
        };
        ContextDir::open(&self.dir, ignore).map(Arc::new).map_err(BuildError::Context)
    }

    /// As [`IgnoreFile::find`], without leaving the directory.
    fn ignore_inside(&self, dockerfile: Option<&Path>) -> Result<Option<IgnoreFile>, BuildError> {
        let beside = dockerfile.map(|path| format!("{}.dockerignore", path.display()));
        for name in beside.as_deref().into_iter().chain([".containerignore", ".dockerignore"]) {
            let Some(text) = self.read(name)? else { continue };
            let path = PathBuf::from(name);
            let patterns = Patterns::new(parse_file(&text))
                .map_err(|source| IgnoreError::File { path: path.clone(), source: Box::new(source) })?;
            return Ok(Some(IgnoreFile { path, patterns }));
        }
        Ok(None)
    }

    /// The file `name` of the tree, links followed inside it.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, BuildError> {
        let tree = ContextDir::open(&self.dir, None).map_err(BuildError::Context)?;
        let read = || -> io::Result<Option<Vec<u8>>> {
            let Some(path) = resolve_in(&tree, name.as_bytes()) else { return Ok(None) };
            if tree.metadata(&path)?.is_none_or(|meta| meta.is_dir()) {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            tree.open(&path)?.read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        read().map_err(BuildError::Context)
    }
}

struct Opener<'l, 's> {
    lookup: &'l Look<'l, 's>,
    keep_git_dir: Option<bool>,
    ids: u64,
    times: BTreeMap<String, i64>,
    temporary: Vec<TempDir>,
}

impl Opener<'_, '_> {
    /// Makes `source` a directory.
    fn place(&mut self, source: &ContextSource, name: &str) -> Result<Place, BuildError> {
        let result = match source {
            ContextSource::Directory(dir) => {
                return Ok(Place { dir: dir.clone(), foreign: false, dockerfile: None });
            }
            ContextSource::Stdin => self.report("load build context from standard input".to_string(), Self::stdin),
            ContextSource::Url(url) => {
                self.report(format!("load {name} from {url}"), |own, lookup| own.url(lookup, url, name))
            }
            ContextSource::Git(url) => {
                self.report(format!("load {name} from {url}"), |own, lookup| own.git(lookup, url, name))
            }
        };
        result.map_err(|source| BuildError::Fetch { name: name.to_string(), source: Box::new(source) })
    }

    fn report<T>(
        &mut self,
        name: String,
        work: impl FnOnce(&mut Self, &Lookup<'_>) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let lookup = (self.lookup)()?;
        let (id, started) = (StepId(self.ids), Instant::now());
        self.ids += 1;
        lookup.progress.emit(Event::Started { id, name: format!("[internal] {name}"), line: None });
        let result = work(self, &lookup);
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        lookup.progress.emit(Event::Finished { id, outcome, elapsed: started.elapsed() });
        result
    }

    fn stdin(&mut self, lookup: &Lookup<'_>) -> Result<Place, RemoteError> {
        let temp = lookup.store.temp_dir()?;
        let path = temp.path().join("input");
        let mut file = fs::File::create(&path)?;
        let size = io::copy(&mut io::stdin().lock(), &mut file)?;
        let input = FileTree {
            path,
            name: "context".into(),
            size,
            mtime: 0,
            digest: None,
            fetch: Mutex::default(),
            keep: Some(temp),
        };
        let (dir, is_archive) = self.unpack(lookup, &input, "standard input")?;
        let dockerfile = if is_archive { None } else { Some(fs::read(&input.path)?) };
        Ok(Place { dir, foreign: true, dockerfile })
    }

    fn url(&mut self, lookup: &Lookup<'_>, url: &RemoteUrl, name: &str) -> Result<Place, RemoteError> {
        let temp = lookup.store.temp_dir()?;
        let path = temp.path().join("download");
        let found = remote::download(lookup.registry.http(), url.expose(), None, &path)?;
        let (size, mtime) = (found.size, found.mtime());
        let input = FileTree {
            path,
            name: DOWNLOADED.into(),
            size,
            mtime,
            digest: None,
            fetch: Mutex::default(),
            keep: Some(temp),
        };
        if let Some(time) = remote::time_of(&found, &input)? {
            self.times.insert(name.to_string(), time);
        }
        let (dir, is_archive) = self.unpack(lookup, &input, &url.to_string())?;
        let mut dockerfile = None;
        if !is_archive {
            dockerfile = Some(fs::read(&input.path)?);
            fs::rename(&input.path, dir.join(DOWNLOADED))?;
        }
        Ok(Place { dir, foreign: true, dockerfile })
    }

    fn git(&mut self, lookup: &Lookup<'_>, url: &RemoteUrl, name: &str) -> Result<Place, RemoteError> {
        let from = git_ref::parse(url.expose());
        let from = from.map_err(|reason| RemoteError::GitUrl { url: url.to_string(), reason })?;
        let (temp, time) = remote::checkout(lookup, &from, self.keep_git_dir, None)?;
        self.times.insert(name.to_string(), time);
        let dir = temp.path().to_path_buf();
        self.temporary.push(temp);
        Ok(Place { dir, foreign: true, dockerfile: None })
    }

    /// Unpacks `input` into a new directory, which stays empty where it is no archive.
    fn unpack(&mut self, lookup: &Lookup<'_>, input: &FileTree, from: &str) -> Result<(PathBuf, bool), RemoteError> {
        let (temp, spool) = (lookup.store.temp_dir()?, lookup.store.temp_dir()?);
        let dir = temp.path().to_path_buf();
        let is_archive = remote::unpack(input, &dir, spool.path(), from)?;
        self.temporary.push(temp);
        Ok((dir, is_archive))
    }
}

/// The Dockerfile's text, and its path for the ignore file beside it.
fn dockerfile(source: &DockerfileSource, place: &Place) -> Result<(Source, Option<PathBuf>), BuildError> {
    let (name, bytes, path) = match source {
        DockerfileSource::Text(text) => ("Dockerfile".to_string(), text.clone(), None),
        DockerfileSource::File { path, name } => {
            let bytes = fs::read(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => BuildError::NoDockerfile { path: path.clone() },
                _ => BuildError::ReadDockerfile(error),
            })?;
            // In a foreign context only what it holds itself is looked for beside its Dockerfile.
            (name.clone(), bytes, Some(path.clone()).filter(|_| !place.foreign))
        }
        DockerfileSource::InContext(name) => inside(place, name.as_deref())?,
    };
    let text = String::from_utf8(bytes)
        .map_err(|error| BuildError::ReadDockerfile(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))?;
    Ok((Source { name, text }, path))
}

type Found = (String, Vec<u8>, Option<PathBuf>);

fn inside(place: &Place, name: Option<&str>) -> Result<Found, BuildError> {
    if let Some(text) = &place.dockerfile {
        if name.is_some() {
            return Err(BuildError::TwoDockerfiles);
        }
        return Ok(("Dockerfile".to_string(), text.clone(), None));
    }
    let names = name.map_or(USUAL_NAMES.to_vec(), |name| vec![name]);
    for name in names {
        if let Some(bytes) = place.read(name)? {
            return Ok((name.to_string(), bytes, Some(PathBuf::from(name))));
        }
    }
    Err(BuildError::NoDockerfile { path: PathBuf::from(name.unwrap_or("the context")) })
}
