//! From a repository's address to files in a directory.

use super::object::{Commit, Entry, Kind, parse_tree, tagged};
use super::pack::Pack;
use super::remote::{Ref, Remote};
use super::{GitError, Oid, Reach, dotgit, submodule};
use fs_err as fs;
use std::ffi::OsStr;
use std::io::BufWriter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Submodules in submodules.
const DEPTH: usize = 16;
/// Directories in directories.
const NESTED: usize = 500;

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its address: `https://`, `http://`, `git://`, `ssh://` or `user@host:path`. May hold a password.
    pub remote: &'a str,
    /// Branch, tag, full name of a ref, or commit; `None` is the default branch.
    pub reference: Option<&'a str>,
    /// The commit (or annotated tag) that it must be, or the beginning of its name.
    pub checksum: Option<&'a str>,
    /// Fetch `checksum` itself instead of `reference`.
    pub fetch_by_commit: bool,
    /// Only what is below this directory, which becomes the root.
    pub subdir: Option<&'a str>,
    /// Make a `.git` directory too; not with `subdir`.
    pub keep_git_dir: bool,
    /// Fetch submodules.
    pub submodules: bool,
    /// Give files the time of the commit instead of now.
    pub commit_time: bool,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkout {
    /// The commit.
    pub commit: Oid,
    /// When it was made, in seconds since 1970.
    pub time: i64,
}

/// Fetches what `wanted` says into the empty directory `into`; `spool` is a directory for what comes in between.
pub fn checkout(reach: Reach<'_>, wanted: &Wanted<'_>, into: &Path, spool: &Path) -> Result<Checkout, GitError> {
    fetch(reach, wanted, into, spool, 0)
}

fn fetch(reach: Reach<'_>, wanted: &Wanted<'_>, into: &Path, spool: &Path, depth: usize) -> Result<Checkout, GitError> {
    if depth > DEPTH {
        return Err(GitError::Depth(DEPTH));
    }
    let mut remote = Remote::connect(reach, wanted.remote)?;
    let found = find(&mut remote, wanted)?;
    let mut writer = BufWriter::new(tempfile::tempfile_in(spool)?);
    remote.fetch(found.oid, &mut writer)?;
    drop(remote);
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    let pack = Pack::open(file)?;
    let mut oid = found.oid;
    let mut object = pack.read(oid)?;
    while object.0 == Kind::Tag {
        oid = tagged(&object.1)?;
        object = pack.read(oid)?;
    }
    if object.0 != Kind::Commit {
        return Err(GitError::Damaged("what the name stands for is no commit"));
    }
    let commit = Commit::parse(&object.1)?;
    if let Some(expected) = wanted.checksum
        && ![oid, found.oid].iter().any(|oid| oid.to_string().starts_with(&expected.to_lowercase()))
    {
        let (remote, expected) = (wanted.remote.to_string(), expected.to_string());
        return Err(GitError::Checksum { remote, found: oid, expected });
    }
    let mut tree =
        Tree { pack: &pack, time: wanted.commit_time.then_some(commit.time), files: Vec::new(), modules: Vec::new() };
    let root = find_subdir(&pack, commit.tree, wanted)?;
    let prefix = wanted.subdir.unwrap_or_default().trim_matches('/');
    tree.write(root, into, b"")?;
    let Tree { files, modules, .. } = tree;
    if wanted.keep_git_dir && prefix.is_empty() {
        dotgit::write(
            &into.join(".git"),
            &pack,
            &files,
            &dotgit::Head { remote: wanted.remote, commit: oid, found: &found },
        )?;
    }
    if wanted.submodules && !modules.is_empty() {
        let urls = submodule_urls(&pack, commit.tree)?;
        drop(pack);
        for (path, commit) in modules {
            let shown = String::from_utf8_lossy(&path).into_owned();
            let whole = if prefix.is_empty() { shown.clone() } else { format!("{prefix}/{shown}") };
            let url = urls.iter().find(|(own, _)| *own == whole).map(|(_, url)| submodule::resolve(wanted.remote, url));
            let url = url.ok_or_else(|| GitError::NoSubmodule(shown.clone()))?;
            let reference = commit.to_string();
            let inner = Wanted {
                remote: &url,
                reference: Some(&reference),
                checksum: Some(&reference),
                fetch_by_commit: false,
                subdir: None,
                keep_git_dir: false,
                ..*wanted
            };
            let dir = into.join(OsStr::from_bytes(&path));
            fetch(reach, &inner, &dir, spool, depth + 1)
                .map_err(|source| GitError::Submodule { path: shown, source: Box::new(source) })?;
        }
    }
    Ok(Checkout { commit: oid, time: commit.time })
}

/// The ref or commit to ask for.
fn find(remote: &mut Remote<'_>, wanted: &Wanted<'_>) -> Result<Ref, GitError> {
    let commit = |oid: Oid| Ref { name: String::new(), oid, peeled: None };
    let reference = wanted.reference.unwrap_or("HEAD");
    if wanted.fetch_by_commit
        && let Some(oid) = wanted.checksum.and_then(Oid::parse)
    {
        return Ok(commit(oid));
    }
    if let Some(oid) = Oid::parse(reference) {
        return Ok(commit(oid));
    }
    // A branch wins over a tag of the same name.
    let bare = reference.strip_prefix("refs/").unwrap_or(reference);
    let names = match reference {
        "HEAD" => vec!["HEAD".to_string()],
        _ => vec![format!("refs/heads/{reference}"), format!("refs/tags/{reference}"), format!("refs/{bare}")],
    };
    let refs = remote.refs(&names)?;
    let found = names.iter().find_map(|name| refs.iter().find(|found| found.name == *name));
    found.cloned().ok_or_else(|| {
        let (remote, reference) = (wanted.remote.to_string(), reference.to_string());
        match reference.len() >= 4 && reference.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => GitError::Abbreviated { remote, reference },
            false => GitError::NoReference { remote, reference },
        }
    })
}

fn find_subdir(pack: &Pack, root: Oid, wanted: &Wanted<'_>) -> Result<Oid, GitError> {
    let subdir = wanted.subdir.unwrap_or_default();
    let missing = || GitError::NoSubdir { remote: wanted.remote.to_string(), subdir: subdir.to_string() };
    let mut above = Vec::new();
    let mut at = root;
    for name in subdir.split('/') {
        match name {
            "" | "." => {}
            ".." => at = above.pop().unwrap_or(root),
            name => {
                above.push(at);
                let tree = parse_tree(&pack.read(at)?.1)?;
                let entry = tree.iter().find(|(kind, own, _)| *kind == Entry::Tree && own == name.as_bytes());
                at = entry.ok_or_else(missing)?.2;
            }
        }
    }
    Ok(at)
}

/// A file that was written.
pub(super) struct Written {
    /// Its path, relative to the root.
    pub path: Vec<u8>,
    /// What it is.
    pub entry: Entry,
    /// Its content's name.
    pub oid: Oid,
}

/// Writes a tree.
struct Tree<'a> {
    pack: &'a Pack,
    time: Option<i64>,
    files: Vec<Written>,
    /// Paths and commits of submodules.
    modules: Vec<(Vec<u8>, Oid)>,
}

impl Tree<'_> {
    /// Writes the tree `oid` into the directory `dir`, which is there and empty. Nothing that exists is written over, so a
    /// tree that has a name twice is an error, and no link is ever followed.
    fn write(&mut self, oid: Oid, dir: &Path, prefix: &[u8]) -> Result<(), GitError> {
        let (Kind::Tree, content) = self.pack.read(oid)? else {
            return Err(GitError::Damaged("a directory is no tree"));
        };
        for (entry, name, oid) in parse_tree(&content)? {
            let target = dir.join(OsStr::from_bytes(&name));
            let path = if prefix.is_empty() { name } else { [prefix, b"/", &name].concat() };
            // Such a tree was made to exhaust the stack.
            if path.iter().filter(|byte| **byte == b'/').count() > NESTED {
                return Err(GitError::Damaged("directories are nested too deep"));
            }
            match entry {
                Entry::Tree => {
                    make_dir(&target)?;
                    self.write(oid, &target, &path)?;
                    self.set_time(&target)?;
                    continue;
                }
                Entry::Submodule => {
                    make_dir(&target)?;
                    self.modules.push((path.clone(), oid));
                }
                Entry::File { executable } => self.file(oid, &target, if executable { 0o755 } else { 0o644 })?,
                Entry::Symlink => {
                    let mut text = Vec::new();
                    self.pack.write_blob(oid, &mut text)?;
                    fs::os::unix::fs::symlink(OsStr::from_bytes(&text), &target)?;
                }
            }
            if entry != Entry::Submodule {
                self.set_time(&target)?;
            }
            self.files.push(Written { path, entry, oid });
        }
        Ok(())
    }

    fn file(&self, oid: Oid, target: &Path, mode: u32) -> Result<(), GitError> {
        let mut file = fs::OpenOptions::new();
        file.write(true).create_new(true);
        file.options_mut().mode(mode);
        let mut file = file.open(target)?;
        self.pack.write_blob(oid, &mut file)?;
        // The umask must not decide about it.
        Ok(file.set_permissions(std::fs::Permissions::from_mode(mode))?)
    }

    fn set_time(&self, target: &Path) -> Result<(), GitError> {
        let Some(seconds) = self.time else { return Ok(()) };
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let set = rustix::fs::utimensat(rustix::fs::CWD, target, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        Ok(set.map_err(std::io::Error::from)?)
    }
}

fn make_dir(path: &Path) -> Result<(), GitError> {
    fs::create_dir(path)?;
    Ok(fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// The addresses in `.gitmodules`, which stands at the root of the repository.
fn submodule_urls(pack: &Pack, root: Oid) -> Result<Vec<(String, String)>, GitError> {
    let tree = parse_tree(&pack.read(root)?.1)?;
    let file = tree.iter().find(|(kind, name, _)| matches!(kind, Entry::File { .. }) && name == b".gitmodules");
    let Some((_, _, oid)) = file else { return Ok(Vec::new()) };
    Ok(submodule::parse(&String::from_utf8_lossy(&pack.read(*oid)?.1)))
}
