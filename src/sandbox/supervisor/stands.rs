//! Mounts as far as a step notices them that nothing is mounted for: a name at which one is cannot be removed, moved or
//! replaced, nor can a directory above it be moved (`EBUSY`); and a tmpfs, which is a directory of the tree's own file
//! system here, tells of the size that was asked for. Nothing keeps it to that size: a file that the step holds open grows
//! without a call that the supervisor sees.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Answer;
use super::call::{Address, Call, PathArgument};
use super::path::{Last, ViewPath};
use super::places::raw;
use super::view::{Entry, Eyes, Object};
use crate::sys;

/// Something in the step's tree that stands for a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stand {
    /// Where the step sees it: absolute, without links.
    pub at: PathBuf,
    /// What it is a tmpfs with.
    pub tmpfs: Option<Tmpfs>,
}

/// What is told of a tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tmpfs {
    /// The most bytes that it is to hold.
    pub size: Option<u64>,
}

impl Tmpfs {
    /// What it has for options of its file system: see `shmem_show_options`.
    pub(super) fn options(self) -> Vec<u8> {
        match self.size {
            Some(bytes) => format!("rw,size={}k", up(bytes) / 1024).into_bytes(),
            None => b"rw".to_vec(),
        }
    }

    /// `struct statfs` of the file system that it lies on, put right.
    fn correct(self, statfs: &mut [u8], used: impl FnOnce() -> u64) {
        /// `TMPFS_MAGIC`
        const MAGIC: u64 = 0x0102_1994;
        // It begins with words: type, block size, blocks, free blocks, those for users, files, free files, id, longest
        // name, fragment size.
        let mut put = |at: usize, value: u64| statfs[at * 8..at * 8 + 8].copy_from_slice(&value.to_ne_bytes());
        put(0, MAGIC);
        if let Some(size) = self.size {
            let blocks = up(size) / PAGE;
            let free = blocks.saturating_sub(used() / PAGE);
            for (at, value) in [(1, PAGE), (2, blocks), (3, free), (4, free), (9, PAGE)] {
                put(at, value);
            }
        }
    }
}

/// What a tmpfs keeps bytes in.
const PAGE: u64 = 4096;

fn up(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}

/// The mounts of a step.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Where they are, those of places too.
    at: Vec<(ViewPath, Option<Tmpfs>)>,
    /// All names on the way to them.
    names: Vec<Vec<u8>>,
}

impl Mounts {
    pub(super) fn new(at: Vec<(ViewPath, Option<Tmpfs>)>) -> Mounts {
        let parts =
            |path: &ViewPath| path.relative().split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut names: Vec<Vec<u8>> = at.iter().flat_map(|(path, _)| parts(path)).collect();
        names.sort();
        names.dedup();
        Mounts { at, names }
    }

    /// Whether a path as it is written may end at a mount, or above one.
    fn may_be(&self, path: &[u8]) -> bool {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let name = path[..end].rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.names.binary_search_by(|one| one.as_slice().cmp(name)).is_ok()
    }

    fn is_at(&self, path: &ViewPath) -> bool {
        self.at.iter().any(|(at, _)| at == path)
    }

    fn is_at_or_below(&self, path: &ViewPath) -> bool {
        self.at.iter().any(|(at, _)| at.below(path).is_some())
    }

    /// The tmpfs that `path` is in, and where that begins.
    fn tmpfs(&self, path: &ViewPath) -> Option<(&ViewPath, Tmpfs)> {
        let above = self.at.iter().filter(|(at, _)| path.below(at).is_some());
        let (at, tmpfs) = above.max_by_key(|(at, _)| at.as_bytes().len())?;
        Some((at, (*tmpfs)?))
    }
}

impl Eyes<'_> {
    /// Fails where a call would remove, move or replace what a mount is at.
    pub(super) fn check_mounts(&mut self, call: &Call) -> Result<(), Errno> {
        match call {
            Call::Unlink { path, .. } => self.check_mount(path, Mounts::is_at),
            Call::Rename { from, to, .. } => {
                self.check_mount(from, Mounts::is_at_or_below)?;
                self.check_mount(to, Mounts::is_at_or_below)
            }
            _ => Ok(()),
        }
    }

    fn check_mount(
        &mut self,
        argument: &PathArgument,
        is_there: impl Fn(&Mounts, &ViewPath) -> bool,
    ) -> Result<(), Errno> {
        let path = self.path(argument)?;
        if !self.places.mounted.may_be(&path) {
            return Ok(());
        }
        // What is wrong with the path is for those to say who make the call.
        match self.name_of(argument, path) {
            Ok(name) if is_there(&self.places.mounted, &name) => Err(Errno::BUSY),
            _ => Ok(()),
        }
    }

    /// The path without links of the name that a call is about.
    fn name_of(&mut self, argument: &PathArgument, path: Vec<u8>) -> Result<ViewPath, Errno> {
        let site = match self.locate(argument, &path, Last::Entry)? {
            Some(site) => site,
            None => self.in_tree(argument, path)?,
        };
        let Entry { directory, name, .. } = self.entry(&site)?;
        let name = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut path = self.places.translate(&self.host_path(&directory)?, || None);
        path.push(name);
        Ok(path)
    }

    /// `statfs`, `fstatfs`.
    pub(super) fn statfs(&mut self, argument: &PathArgument, buffer: Address) -> Result<Answer, Errno> {
        let seen = self.seen(argument)?;
        let native = seen.is_none();
        let object = match seen {
            Some(object) => object,
            None => self.native_object(argument)?,
        };
        let mut bytes = raw(sys::statfs_bytes(object.fd.as_fd()))?;
        match self.tmpfs_of(&object)? {
            Some((at, tmpfs)) => {
                self.as_self()?;
                let (from, name) = self.places.name_in_tree(&at);
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(from, name, flags, Mode::empty())?;
                tmpfs.correct(&mut bytes, || used(&directory));
            }
            None if native => return Ok(Answer::Continue),
            None => {}
        }
        self.caller.write(buffer, &bytes)?;
        Ok(Answer::Value(0))
    }

    /// What a call is about that the kernel may make as it is.
    fn native_object(&mut self, argument: &PathArgument) -> Result<Object, Errno> {
        let path = self.path(argument)?;
        if path.is_empty() {
            return self.object_of_descriptor(argument.dirfd);
        }
        let site = self.in_tree(argument, path)?;
        self.object(&site, Last::Follow)
    }

    fn tmpfs_of(&mut self, object: &Object) -> Result<Option<(ViewPath, Tmpfs)>, Errno> {
        if object.place.is_some() || object.is_pipe {
            return Ok(None);
        }
        self.as_self()?;
        let host = self.host_path(&object.fd)?;
        if host.first() != Some(&b'/') {
            return Ok(None);
        }
        let path = self.places.translate(&host, || None);
        Ok(self.places.mounted.tmpfs(&path).map(|(at, tmpfs)| (at.clone(), tmpfs)))
    }
}

/// Bytes that the files below a directory take. What goes away meanwhile, or cannot be looked at, counts nothing.
fn used(directory: &OwnedFd) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |at: &OwnedFd, name: &std::ffi::CStr| rustix::fs::openat(at, name, flags, Mode::empty());
    let (mut todo, mut links, mut sum) = (vec![open(directory, c".")], std::collections::HashSet::new(), 0);
    while let Some(next) = todo.pop() {
        let Ok(at) = next else { continue };
        let Ok(entries) = Dir::read_from(&at) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Ok(stat) = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if name == c"." || name == c".." || (stat.st_nlink > 1 && !links.insert(stat.st_ino)) {
                continue;
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => todo.push(open(&at, name)),
                FileType::RegularFile => sum += stat.st_blocks as u64 * 512,
                _ => {}
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ViewPath {
        ViewPath::without_links(text.as_bytes())
    }

    fn mounts() -> Mounts {
        let sized = Some(Tmpfs { size: Some(5000) });
        Mounts::new(vec![(path("/etc/hosts"), None), (path("/var/lib"), sized), (path("/var/lib/cache"), None)])
    }

    #[test]
    fn knows_where_mounts_are() {
        let mounts = mounts();
        for (written, may) in
            [("hosts", true), ("/x/etc//", true), ("/var", true), ("/etc/passwd", false), ("/", false)]
        {
            assert_eq!(mounts.may_be(written.as_bytes()), may, "{written}");
        }
        for (at, exactly, above) in [("/etc/hosts", true, true), ("/etc", false, true), ("/etc/ho", false, false)] {
            assert_eq!((mounts.is_at(&path(at)), mounts.is_at_or_below(&path(at))), (exactly, above), "{at}");
        }
        let tmpfs = |at: &str| mounts.tmpfs(&path(at)).map(|(at, _)| at.as_bytes().escape_ascii().to_string());
        assert_eq!(tmpfs("/var/lib/x").as_deref(), Some("/var/lib"));
        assert_eq!((tmpfs("/var/lib/cache/x"), tmpfs("/var"), tmpfs("/etc/hosts")), (None, None, None));
    }

    #[test]
    fn tells_of_a_size() {
        let tell = |size: Option<u64>, used: u64| {
            let mut bytes: Vec<u8> = (100u64..115).flat_map(u64::to_ne_bytes).collect();
            Tmpfs { size }.correct(&mut bytes, || used);
            let word = |at: usize| u64::from_ne_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap());
            [0, 1, 2, 3, 4, 5, 9].map(word)
        };
        assert_eq!(tell(Some(5000), 4096), [0x0102_1994, 4096, 2, 1, 1, 105, 4096]);
        assert_eq!(tell(Some(4096), 1 << 20), [0x0102_1994, 4096, 1, 0, 0, 105, 4096]);
        assert_eq!(tell(None, 0), [0x0102_1994, 101, 102, 103, 104, 105, 109]);
        assert_eq!(Tmpfs { size: Some(5000) }.options(), b"rw,size=8k");
    }

    #[test]
    fn counts_what_is_used() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("a")).unwrap();
        fs_err::write(dir.path().join("a/x"), vec![1; 10_000]).unwrap();
        fs_err::hard_link(dir.path().join("a/x"), dir.path().join("y")).unwrap();
        let open = rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(used(&open), 12288);
    }
}
