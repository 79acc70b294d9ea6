//! A directory of the user's as a [`SourceTree`].
//!
//! The tree is reached from one directory handle, component by component, with no symbolic link followed on the way: a
//! path cannot leave the directory, whatever is swapped under it meanwhile. Files arrive as `0:0` whoever owns them.

use super::ignore::{IgnoreFile, Patterns, Verdict};
use super::{Exclusion, SourceTree, Stats};
use crate::oci::Digest;
use crate::oci::layer::{Kind, Metadata};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

/// A context directory, filtered by an ignore file.
#[derive(Debug)]
pub struct ContextDir {
    path: PathBuf,
    root: Arc<OwnedFd>,
    ignore: Option<IgnoreFile>,
    cache: Mutex<Cache>,
    /// Digests of files, once somebody brought some.
    stats: OnceLock<Stats>,
}

/// What a walk asks for again and again.
#[derive(Debug, Default)]
struct Cache {
    /// The directories on the way to the one used last, from the root's entry down.
    chain: Vec<Level>,
    /// What is in the tree of the root's entries, once they were listed.
    root_listed: Option<Listed>,
    /// Verdicts on directories.
    verdicts: HashMap<Vec<u8>, Arc<Verdict>>,
    /// The path whose metadata was asked for last.
    last: Option<Last>,
}

/// The names in a directory that are in the tree.
type Listed = Arc<HashSet<Vec<u8>>>;

/// A path, and what identifies its file where that has several names.
type Last = (Vec<u8>, Option<(u64, u64)>);

/// A directory on the way.
#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    fd: Arc<OwnedFd>,
    /// Once it was listed: a walk lists a directory and then asks for each of its entries, some of them several times.
    listed: Option<Listed>,
}

impl ContextDir {
    /// Opens the directory `path`; what `ignore` leaves out is not in the tree.
    pub fn open(path: &Path, ignore: Option<IgnoreFile>) -> io::Result<ContextDir> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| named(path, e))?;
        let (root, cache, stats) = (Arc::new(root), Mutex::default(), OnceLock::new());
        Ok(ContextDir { path: path.to_path_buf(), root, ignore, cache, stats })
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
        self.walk_to(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner), path)
    }

    /// Makes `path` the last of the chain, as far as it is a directory.
    fn walk_to(&self, cache: &mut Cache, path: &[u8]) -> io::Result<Option<Arc<OwnedFd>>> {
        let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        let known = names.clone().zip(&cache.chain).take_while(|(name, level)| *name == level.name).count();
        cache.chain.truncate(known);
        for name in names.skip(known) {
            if name == b".." {
                return Ok(None);
            }
            let parent = cache.chain.last().map_or(&self.root, |level| &level.fd);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                Ok(fd) => cache.chain.push(Level { name: name.to_vec(), fd: Arc::new(fd), listed: None }),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(e) => return Err(self.error(path, e)),
            }
        }
        Ok(Some(cache.chain.last().map_or(&self.root, |level| &level.fd).clone()))
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
        let known = self.cache.lock().unwrap_or_else(PoisonError::into_inner).verdicts.get(path).cloned();
        known.or_else(|| {
            let above = self.directory_verdict(patterns, split(path).0);
            let verdict = Arc::new(patterns.judge(path, above.as_deref()));
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.verdicts.insert(path.to_vec(), verdict.clone());
            Some(verdict)
        })
    }

    /// Whether `path` is in the tree: not left out, or a directory with something below it that is not.
    fn visible(&self, path: &[u8], kind: FileType) -> io::Result<bool> {
        let Some(patterns) = self.patterns().filter(|_| !path.is_empty()) else { return Ok(true) };
        let parent = self.directory_verdict(patterns, split(path).0);
        if !patterns.judge(path, parent.as_deref()).matched {
            return Ok(true);
        }
        if !patterns.may_hold_exception(path) || !self.is_dir(path, kind)? {
            return Ok(false);
        }
        for (name, kind) in self.list(path)? {
            let child = join(path, &name);
            if self.visible(&child, kind)? {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// All entries of the directory `path`, in the order of the disk.
    fn list(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let fd = self.directory(path)?.ok_or_else(|| self.error(path, Errno::NOTDIR))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&fd, ".", flags, Mode::empty()).map_err(|e| self.error(path, e))?;
        let mut out = Vec::new();
        for entry in Dir::new(readable).map_err(|e| self.error(path, e))? {
            let entry = entry.map_err(|e| self.error(path, e))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                out.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(out)
    }

    /// Which names of the directory `path` are in the tree, if it was listed on the way to where the walk is.
    fn listed(&self, path: &[u8]) -> Option<Listed> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = cache.root_listed.as_ref();
        let mut levels = cache.chain.iter();
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            listed = levels.next().filter(|level| level.name == name)?.listed.as_ref();
        }
        listed.cloned()
    }

    /// Remembers which names of the directory `path` are in the tree.
    fn remember(&self, path: &[u8], names: &[Vec<u8>]) -> io::Result<()> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // What is below it may have been looked at meanwhile, or something else.
        let is_there = self.walk_to(&mut cache, path)?.is_some();
        let listed = Some(Arc::new(names.iter().cloned().collect()));
        match cache.chain.last_mut() {
            Some(level) if is_there => level.listed = listed,
            None => cache.root_listed = listed,
            Some(_) => {}
        }
        Ok(())
    }

    fn present(&self, path: &[u8]) -> io::Result<Option<(Arc<OwnedFd>, Stat)>> {
        let Some((parent, stat)) = self.stat(path)? else { return Ok(None) };
        let (dir, name) = split(path);
        let visible = match self.patterns().and_then(|_| self.listed(dir)) {
            Some(listed) if !name.is_empty() => listed.contains(name),
            _ => self.visible(path, FileType::from_raw_mode(stat.st_mode))?,
        };
        Ok(visible.then_some((parent, stat)))
    }
}

impl SourceTree for ContextDir {
    fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        let Some((parent, stat)) = self.present(path)? else { return Ok(None) };
        let (_, name) = split(path);
        // A walk asks next whether the file has other names.
        let last = (path.to_vec(), (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino)));
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).last = Some(last);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File { size: stat.st_size as u64 },
            FileType::Directory => Kind::Dir,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&parent, name, Vec::new()).map_err(|e| self.error(path, e))?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => device(&stat),
        };
        let xattrs = match kind {
            Kind::File { .. } if self.stats.get().is_some_and(|stats| stats.is_plain(&stat)) => BTreeMap::new(),
            Kind::File { .. } | Kind::Dir => xattrs(&parent, name).map_err(|e| self.error(path, e))?,
            _ => BTreeMap::new(),
        };
        Ok(Some(Metadata { kind, mode: stat.st_mode & 0o7777, uid: 0, gid: 0, mtime: stat.st_mtime, xattrs }))
    }

    fn read_dir(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        for (name, kind) in self.list(path)? {
            let child = join(path, &name);
            if self.visible(&child, kind)? {
                out.push(name);
            }
        }
        out.sort_unstable();
        if self.patterns().is_some() {
            self.remember(path, &out)?;
        }
        Ok(out)
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
        let Some(stats) = self.stats.get() else { return Ok(None) };
        let Some((parent, before)) = self.present(path)? else { return Ok(None) };
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        if let Some(digest) = stats.known(&before) {
            return Ok(Some(digest));
        }
        let start = SystemTime::now();
        let mut file = self.open_file(path, &parent)?;
        let digest = Digest::read(&mut file)?;
        let plain = xattrs(&parent, split(path).1).map_err(|e| self.error(path, e))?.is_empty();
        let after = rustix::fs::fstat(&file).map_err(|e| self.error(path, e))?;
        stats.learn((&before, &after), start, plain, &digest);
        Ok(Some(digest))
    }

    fn link_identity(&self, path: &[u8]) -> io::Result<Option<(u64, u64)>> {
        if let Some((last, identity)) = &self.cache.lock().unwrap_or_else(PoisonError::into_inner).last
            && last == path
        {
            return Ok(*identity);
        }
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

fn named(path: &Path, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
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

/// The attributes of a file that belong into an image: the user's own and file capabilities. Labels, access control lists
/// and the marks of overlay filesystems belong to this machine.
fn xattrs(parent: &OwnedFd, name: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    // There is no `*at` call for attributes before kernel 6.13, and handles opened with O_PATH are refused.
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend(if name.is_empty() { b"." } else { name });
    let read = |get: &dyn Fn(&mut [u8]) -> Result<usize, Errno>| loop {
        let mut buffer = vec![0; get(&mut [])?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match get(&mut buffer) {
            Ok(len) => return Ok(buffer[..len].to_vec()),
            // It grew meanwhile.
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e),
        }
    };
    let names = match read(&|buffer: &mut [u8]| rustix::fs::llistxattr(&path[..], buffer)) {
        Ok(names) => names,
        // The filesystem has none; without /proc they cannot be read, and nothing can depend on them there.
        Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::NOTDIR) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e),
    };
    let mut out = BTreeMap::new();
    for name in names.split(|b| *b == 0).filter(|name| belongs_to_image(name)) {
        match read(&|buffer: &mut [u8]| rustix::fs::lgetxattr(&path[..], name, buffer)) {
            Ok(value) => drop(out.insert(name.to_vec(), value)),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

fn belongs_to_image(name: &[u8]) -> bool {
    let user =
        name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.starts_with(b"user.dockless.");
    user || name == b"security.capability"
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
