//! A directory of the user's as a [`SourceTree`].
//!
//! The tree is reached from one directory handle, component by component, with no symbolic link followed on the way: a
//! path cannot leave the directory, whatever is swapped under it meanwhile. Files arrive as `0:0` whoever owns them.

use super::chain::Chain;
use super::ignore::{IgnoreFile, Patterns, Verdict};
use super::stats::Learnt;
use super::{Exclusion, Found, SourceTree, Stats, xattrs};
use crate::oci::Digest;
use crate::oci::digest::{Algorithm, Hasher};
use crate::oci::layer::{Kind, Metadata};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

/// Bytes that one call reads of a directory or a file.
const BUFFER: usize = 1 << 16;

/// A context directory, filtered by an ignore file.
#[derive(Debug)]
pub struct ContextDir {
    path: PathBuf,
    root: Arc<OwnedFd>,
    ignore: Option<IgnoreFile>,
    chain: Mutex<Chain>,
    /// Verdicts on directories.
    verdicts: Mutex<HashMap<Vec<u8>, Arc<Verdict>>>,
    /// Digests of files, once somebody brought some.
    stats: OnceLock<Stats>,
}

impl ContextDir {
    /// Opens the directory `path`; what `ignore` leaves out is not in the tree.
    pub fn open(path: &Path, ignore: Option<IgnoreFile>) -> io::Result<ContextDir> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| named(path, e))?;
        let root = Arc::new(root);
        let (chain, verdicts, stats) = (Mutex::new(Chain::new(root.clone())), Mutex::default(), OnceLock::new());
        Ok(ContextDir { path: path.to_path_buf(), root, ignore, chain, verdicts, stats })
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes use of what is known of the files, and learns more; only the first time has an effect.
    pub fn bring(&self, stats: Stats) {
        self.stats.get_or_init(|| stats);
    }

    /// What was brought, with what was learnt.
    pub fn stats(&self) -> Option<&Stats> {
        self.stats.get()
    }

    /// Whether the ignore file leaves out `path` and everything below it.
    pub fn leaves_out(&self, path: &str) -> bool {
        self.patterns().is_some_and(|patterns| patterns.matches_for_good(path.as_bytes()))
    }

    fn error(&self, path: &[u8], errno: Errno) -> io::Error {
        named(&self.path.join(OsStr::from_bytes(path)), errno)
    }

    /// The handle of the directory `path`, or `None` where there is no such directory (a symbolic link is none).
    fn directory(&self, path: &[u8]) -> io::Result<Option<Arc<OwnedFd>>> {
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        chain.walk_to(path).map_err(|e| self.error(path, e))
    }

    /// The handle of the directory that holds `path`, and the name in it (`.` for the root itself).
    fn locate<'a>(&self, path: &'a [u8]) -> io::Result<Option<(Arc<OwnedFd>, &'a [u8])>> {
        let (parent, name) = split(path);
        let name = if name.is_empty() { b"." } else { name };
        if name == b".." {
            return Ok(None);
        }
        Ok(self.directory(parent)?.map(|fd| (fd, name)))
    }

    fn stat(&self, path: &[u8]) -> io::Result<Option<(Arc<OwnedFd>, Stat)>> {
        let Some((parent, name)) = self.locate(path)? else { return Ok(None) };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((parent, stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(self.error(path, e)),
        }
    }

    /// Opens what is regular and at `path`, in the directory `parent`.
    fn open_file(&self, path: &[u8], parent: &OwnedFd) -> io::Result<File> {
        // Should a pipe take the file's place meanwhile, opening it must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, split(path).1, flags, Mode::empty()).map_err(|e| self.error(path, e))?;
        Ok(File::from(fd))
    }

    fn patterns(&self) -> Option<&Patterns> {
        self.ignore.as_ref().map(|file| &file.patterns).filter(|patterns| !patterns.is_empty())
    }

    /// The verdict on the directory `path`, remembered; `None` for the root, which nothing judges.
    fn directory_verdict(&self, patterns: &Patterns, path: &[u8]) -> Option<Arc<Verdict>> {
        if path.is_empty() {
            return None;
        }
        let known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        known.or_else(|| {
            let above = self.directory_verdict(patterns, split(path).0);
            let verdict = Arc::new(patterns.judge(path, above.as_deref()));
            let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.insert(path.to_vec(), verdict.clone());
            Some(verdict)
        })
    }

    /// Whether `path` is in the tree: not left out, or a directory with something below it that is not.
    fn visible(&self, path: &[u8], kind: FileType) -> io::Result<bool> {
        let Some(patterns) = self.patterns().filter(|_| !path.is_empty()) else { return Ok(true) };
        let parent = self.directory_verdict(patterns, split(path).0);
        self.visible_in(patterns, parent.as_deref(), path, kind)
    }

    /// [`ContextDir::visible`], given the verdict on the directory that holds it.
    fn visible_in(
        &self,
        patterns: &Patterns,
        parent: Option<&Verdict>,
        path: &[u8],
        kind: FileType,
    ) -> io::Result<bool> {
        if !patterns.is_match(path, parent) {
            return Ok(true);
        }
        if !patterns.may_hold_exception(path) || !self.is_dir(path, kind)? {
            return Ok(false);
        }
        Ok(!self.names(path, true)?.is_empty())
    }

    fn is_dir(&self, path: &[u8], kind: FileType) -> io::Result<bool> {
        match kind {
            FileType::Directory => Ok(true),
            // Not every filesystem tells kinds in its listings.
            FileType::Unknown => {
                let stat = self.stat(path)?;
                Ok(stat.is_some_and(|(_, stat)| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
            }
            _ => Ok(false),
        }
    }

    /// The names in the directory `path` that are in the tree, sorted; with `one`, not more than one of them.
    fn names(&self, path: &[u8], one: bool) -> io::Result<Vec<Vec<u8>>> {
        let listed = self.list(path)?;
        let mut names = match self.patterns() {
            None => listed.into_iter().map(|(name, _)| name).collect(),
            Some(patterns) => {
                let verdict = self.directory_verdict(patterns, path);
                let mut names = Vec::new();
                for (name, kind) in listed {
                    if self.visible_in(patterns, verdict.as_deref(), &join(path, &name), kind)? {
                        names.push(name);
                        if one {
                            break;
                        }
                    }
                }
                names
            }
        };
        names.sort_unstable();
        Ok(names)
    }

    /// All entries of the directory `path`, in the order of the disk.
    fn list(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let fd = self.directory(path)?.ok_or_else(|| self.error(path, Errno::NOTDIR))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&fd, ".", flags, Mode::empty()).map_err(|e| self.error(path, e))?;
        let mut buffer = [MaybeUninit::uninit(); BUFFER / 2];
        let (mut dir, mut out) = (RawDir::new(readable, &mut buffer), Vec::new());
        while let Some(entry) = dir.next() {
            let entry = entry.map_err(|e| self.error(path, e))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                out.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(out)
    }

    fn present(&self, path: &[u8]) -> io::Result<Option<(Arc<OwnedFd>, Stat)>> {
        let Some((parent, stat)) = self.stat(path)? else { return Ok(None) };
        let visible = self.visible(path, FileType::from_raw_mode(stat.st_mode))?;
        Ok(visible.then_some((parent, stat)))
    }

    /// What `stat` tells of `path`, which is called `name` in `parent`.
    fn found(&self, path: &[u8], parent: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<Found> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File { size: stat.st_size as u64 },
            FileType::Directory => Kind::Dir,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(|e| self.error(path, e))?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => device(stat),
        };
        let is_file = matches!(kind, Kind::File { .. });
        let known = self.stats.get().filter(|_| is_file).and_then(|stats| stats.known(stat));
        let xattrs = match kind {
            Kind::File { .. } if known.as_ref().is_some_and(|known| known.plain) => BTreeMap::new(),
            Kind::File { .. } | Kind::Dir => xattrs::read(parent, name).map_err(|e| self.error(path, e))?,
            _ => BTreeMap::new(),
        };
        let meta = Metadata { kind, mode: stat.st_mode & 0o7777, uid: 0, gid: 0, mtime: stat.st_mtime, xattrs };
        let identity = (is_file && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        Ok(Found { meta, identity, digest: known.map(|known| known.digest) })
    }

    /// Digest of an open file and, where it may be kept, what is to be remembered; `None` where it is no regular file.
    fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<Option<(Digest, Option<Learnt>)>> {
        let start = SystemTime::now();
        let before = rustix::fs::fstat(&*file)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let (mut hasher, mut done) = (Hasher::new(Algorithm::Sha256), 0);
        // What grows meanwhile is not remembered, so where it ended when it was opened is where it ends.
        while done < before.st_size {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    done += n as i64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let (digest, plain) = (hasher.finish(), xattrs::has_none(file)?);
        let after = rustix::fs::fstat(&*file)?;
        let learnt = Learnt::new((&before, &after), start, plain, &digest);
        Ok(Some((digest, learnt)))
    }
}

impl SourceTree for ContextDir {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        Ok(self.look(path)?.map(|found| found.meta))
    }

    fn look(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let Some((parent, stat)) = self.present(path)? else { return Ok(None) };
        self.found(path, &parent, split(path).1, &stat).map(Some)
    }

    fn entries(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, Found)>> {
        let names = self.names(path, false)?;
        let Some(parent) = self.directory(path)? else { return Ok(Vec::new()) };
        let mut out = Vec::with_capacity(names.len());
        for name in names {
            let child = join(path, &name);
            match rustix::fs::statat(&parent, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    let found = self.found(&child, &parent, &name, &stat)?;
                    out.push((name, found));
                }
                // It went meanwhile.
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.error(&child, e)),
            }
        }
        Ok(out)
    }

    fn asks_the_kernel(&self) -> bool {
        true
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.names(path, false)
    }

    fn open(&self, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        let missing = || self.error(path, Errno::NOENT);
        let (parent, stat) = self.present(path)?.ok_or_else(missing)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error(path, Errno::INVAL));
        }
        Ok(Box::new(self.open_file(path, &parent)?))
    }

    fn content_digest(&self, path: &[u8]) -> io::Result<Option<Digest>> {
        Ok(self.content_digests(&[path])?.pop().flatten())
    }

    fn content_digests(&self, paths: &[&[u8]]) -> io::Result<Vec<Option<Digest>>> {
        // Several threads do this at once: the way they go is each one's own.
        let (mut chain, mut buffer) = (Chain::new(self.root.clone()), vec![0; BUFFER]);
        let (mut digests, mut all_learnt) = (Vec::with_capacity(paths.len()), Vec::new());
        for path in paths {
            let parent = chain.walk_to(split(path).0).map_err(|e| self.error(path, e))?;
            let parent = parent.ok_or_else(|| self.error(path, Errno::NOENT))?;
            let mut file = self.open_file(path, &parent)?;
            let read = ContextDir::read(&mut file, &mut buffer)
                .map_err(|e| named(&self.path.join(OsStr::from_bytes(path)), e))?;
            let (digest, learnt) = read.unzip();
            digests.push(digest);
            all_learnt.extend(learnt.flatten());
        }
        if let Some(stats) = self.stats.get() {
            stats.learn(all_learnt);
        }
        Ok(digests)
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        let stat = self.present(path)?.map(|(_, stat)| stat).filter(|stat| stat.st_nlink > 1);
        Ok(stat.map(|stat| (stat.st_dev, stat.st_ino)))
    }

    fn excluded(&self, path: &[u8]) -> io::Result<Option<Exclusion>> {
        let Some(file) = &self.ignore else { return Ok(None) };
        if self.stat(path)?.is_none() || self.present(path)?.is_some() {
            return Ok(None);
        }
        Ok(file.patterns.decisive(path).map(|pattern| Exclusion { pattern, file: file.path.clone() }))
    }
}

fn named(path: &Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn device(stat: &Stat) -> Kind {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        _ => Kind::CharDevice { major, minor },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(ignore: &str) -> (tempfile::TempDir, ContextDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        for file in ["top", "a/x", "a/b/y", "a/b/c/z"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        symlink("/etc", dir.path().join("out")).unwrap();
        symlink("a", dir.path().join("in")).unwrap();
        fs::write(dir.path().join(".dockerignore"), ignore).unwrap();
        let ignore = IgnoreFile::find(dir.path(), None).unwrap();
        let context = ContextDir::open(dir.path(), ignore).unwrap();
        (dir, context)
    }

    fn names(context: &ContextDir, path: &str) -> Vec<String> {
        let names = context.read_dir(path.as_bytes()).unwrap();
        names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn links_are_never_followed() {
        let (_dir, context) = tree("");
        assert!(
            matches!(context.metadata(b"out").unwrap().unwrap().kind, Kind::Symlink { target } if target == b"/etc")
        );
        assert_eq!(context.metadata(b"out/passwd").unwrap(), None);
        assert_eq!(context.metadata(b"in/x").unwrap(), None);
        assert_eq!(context.metadata(b"top/x").unwrap(), None);
        assert!(context.open(b"out/passwd").is_err());
        assert!(context.read_dir(b"out").is_err());
        assert!(context.metadata(b"a/../../x").unwrap().is_none(), "no `..` leads out");
        assert!(context.metadata(b"..").unwrap().is_none());
    }

    #[test]
    fn files_arrive_as_root_with_their_bytes() {
        let (dir, context) = tree("");
        let name = OsStr::from_bytes(b"n\xff");
        fs::write(dir.path().join(name), "bytes").unwrap();
        fs::hard_link(dir.path().join(name), dir.path().join("second")).unwrap();
        let meta = context.metadata(b"n\xff").unwrap().unwrap();
        assert_eq!((meta.uid, meta.gid, &meta.kind), (0, 0, &Kind::File { size: 5 }));
        let mut text = String::new();
        context.open(b"n\xff").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "bytes");
        assert_eq!(context.link_identity(b"n\xff").unwrap(), context.link_identity(b"second").unwrap());
        assert!(context.link_identity(b"second").unwrap().is_some());
        assert_eq!(context.link_identity(b"top").unwrap(), None);
    }

    #[test]
    fn one_look_at_a_directory_tells_what_looks_at_its_names_do() {
        for ignore in ["", "a/b\n!a/b/c\n*out\n"] {
            let (_dir, context) = tree(ignore);
            for path in ["", "a", "a/b", "a/b/c"] {
                let entries = context.entries(path.as_bytes()).unwrap();
                let each = context.read_dir(path.as_bytes()).unwrap().into_iter();
                let each =
                    each.map(|name| (name.clone(), context.look(&join(path.as_bytes(), &name)).unwrap().unwrap()));
                assert_eq!(entries, each.collect::<Vec<_>>(), "{ignore} {path}");
            }
        }
    }

    #[test]
    fn digests_come_in_the_order_of_paths() {
        let (dir, context) = tree("");
        fs::write(dir.path().join("large"), vec![7; 3 * BUFFER + 1]).unwrap();
        let digests = context.content_digests(&[b"a/b/y", b"large", b"top", b"a/x", b"a"]).unwrap();
        let file = |text: &str| Some(Digest::sha256(text));
        let large = Some(Digest::sha256(vec![7; 3 * BUFFER + 1]));
        assert_eq!(digests, [file("a/b/y"), large, file("top"), file("a/x"), None]);
        assert!(context.content_digests(&[b"top", b"missing"]).is_err());
        assert!(context.content_digest(b"out").is_err(), "no link is followed");
    }

    #[test]
    fn an_excluded_directory_stays_for_what_is_taken_back() {
        let (_dir, context) = tree("*\n!a/b/c/z\n");
        assert_eq!(names(&context, ""), ["a"]);
        assert_eq!(names(&context, "a"), ["b"]);
        assert_eq!(names(&context, "a/b/c"), ["z"]);
        assert!(context.metadata(b"a/x").unwrap().is_none());
        let (_dir, context) = tree("a\n!a/nothing\n");
        assert_eq!(context.metadata(b"a").unwrap(), None, "nothing below it is taken back");
        let why = context.excluded(b"a/b/y").unwrap().unwrap();
        assert_eq!(why.pattern, "a");
        assert!(why.file.ends_with(".dockerignore"));
        assert_eq!(context.excluded(b"a/missing").unwrap(), None);
        assert_eq!(context.excluded(b"top").unwrap(), None);
    }
}
