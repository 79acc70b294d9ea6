//! What an image says about a file that the file system, or the id map, cannot hold.
//!
//! With one mapped id nothing can be given to another owner; without `CAP_MKNOD` there are no devices. Such a file is
//! made as well as it can be, and what it should be is kept beside it:
//!
//! - on regular files and directories in the xattr [`OVERRIDE`]: `uid:gid:octal mode:type[:major:minor]`, where the type is
//!   one of `f d l p c b`. A device that cannot be made is an empty regular file with this xattr.
//! - for symbolic links, pipes and devices, which cannot have `user.` xattrs, in a side file beside the layer's directory,
//!   named `owners`: for each path its bytes, NUL, the same text, NUL.
//! - an xattr of the image that the file system refuses is kept under [`SHELVED`] and its own name.
//! - a whiteout (a character device 0:0) that cannot be made, as on the overlay that is a container's root, is nothing at
//!   all, and the word `gone` in the side file.
//!
//! Whoever reads a tree honours all three; whoever writes a layer strips them.

use crate::oci::layer::{Kind, Metadata};
use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The xattr that holds an [`Override`].
pub const OVERRIDE: &str = "user.dockless.override";
/// Prefix of an xattr that stands for the image's one of the rest of the name.
pub const SHELVED: &str = "user.dockless.xattr.";
/// Prefix of all xattrs that are ours and not the image's.
pub const PRIVATE: &str = "user.dockless.";

/// The type of a file, without what depends on the type (length, target).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `f`: regular file.
    File,
    /// `d`: directory.
    Dir,
    /// `l`: symbolic link.
    Symlink,
    /// `p`: named pipe.
    Fifo,
    /// `c`: character device of these numbers.
    Char(u32, u32),
    /// `b`: block device of these numbers.
    Block(u32, u32),
}

/// What a file should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// Owner inside the image.
    pub uid: u32,
    /// Group inside the image.
    pub gid: u32,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Its type.
    pub kind: Type,
}

impl Override {
    /// What `metadata` says; `None` for a socket, which no layer can hold.
    pub fn of(metadata: &Metadata) -> Option<Override> {
        let kind = match metadata.kind {
            Kind::File { .. } => Type::File,
            Kind::Dir => Type::Dir,
            Kind::Symlink { .. } => Type::Symlink,
            Kind::Fifo => Type::Fifo,
            Kind::CharDevice { major, minor } => Type::Char(major, minor),
            Kind::BlockDevice { major, minor } => Type::Block(major, minor),
            Kind::Socket => return None,
        };
        Some(Override { uid: metadata.uid, gid: metadata.gid, mode: metadata.mode, kind })
    }

    /// Reads the text form; `None` where it is not one.
    pub fn parse(text: &[u8]) -> Option<Override> {
        let mut fields = std::str::from_utf8(text).ok()?.split(':');
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok().filter(|mode| mode & !0o7777 == 0)?;
        let letter = fields.next()?;
        let mut number = || fields.next()?.parse().ok();
        let kind = match letter {
            "f" => Type::File,
            "d" => Type::Dir,
            "l" => Type::Symlink,
            "p" => Type::Fifo,
            "c" => Type::Char(number()?, number()?),
            "b" => Type::Block(number()?, number()?),
            _ => return None,
        };
        fields.next().is_none().then_some(Override { uid, gid, mode, kind })
    }

    /// Puts it over what the file system says, but for what a command has changed since: an owner that is no longer the
    /// unpacker's, a mode that is no longer the one that was put there with the record. A set-id bit that could not be
    /// put there cannot be seen to go, and stays.
    pub fn apply(&self, metadata: &mut Metadata) {
        self.apply_as(metadata, 0, 0); // see `image_ids`
    }

    fn apply_as(&self, metadata: &mut Metadata, unpacker: u32, group: u32) {
        if metadata.uid == unpacker {
            metadata.uid = self.uid;
        }
        if metadata.gid == group {
            metadata.gid = self.gid;
        }
        metadata.mode = self.mode_of(metadata.mode);
        match self.kind {
            // Length and target are the file's own.
            Type::File | Type::Dir | Type::Symlink => {}
            Type::Fifo => metadata.kind = Kind::Fifo,
            Type::Char(major, minor) => metadata.kind = Kind::CharDevice { major, minor },
            Type::Block(major, minor) => metadata.kind = Kind::BlockDevice { major, minor },
        }
    }
}

impl Override {
    /// The mode of a file with this record whose mode in the file system is `mode`, both without the type.
    pub fn mode_of(&self, mode: u32) -> u32 {
        if self.was_given(mode) { self.mode } else { mode }
    }

    /// Whether `mode` is what a file with this record was given when it was made: set-id bits may be missing, and outside
    /// of a user namespace the owner's own bits may be added.
    fn was_given(&self, mode: u32) -> bool {
        let own = own_bits(self.mode, self.kind == Type::Dir);
        let given = [self.mode, self.mode & 0o777];
        self.kind == Type::Symlink || given.iter().any(|given| mode == *given || mode == given | own)
    }
}

/// The bits that a file of this mode has besides in the file system, where nobody has more rights than its owner: who built
/// it must be able to read and write it, and to run what anybody may run.
pub fn own_bits(mode: u32, is_dir: bool) -> u32 {
    if is_dir || mode & 0o111 != 0 { 0o700 } else { 0o600 }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{:o}:", self.uid, self.gid, self.mode)?;
        match self.kind {
            Type::File => f.write_str("f"),
            Type::Dir => f.write_str("d"),
            Type::Symlink => f.write_str("l"),
            Type::Fifo => f.write_str("p"),
            Type::Char(major, minor) => write!(f, "c:{major}:{minor}"),
            Type::Block(major, minor) => write!(f, "b:{major}:{minor}"),
        }
    }
}

/// The ids in the image of a file that has these in the file system, and no record. A store has one user, whoever reads it
/// unpacked it: what is that user's own is root's. Inside of a user namespace this is so by itself.
pub fn image_ids(uid: u32, gid: u32) -> (u32, u32) {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    (if uid == own.0 { 0 } else { uid }, if gid == own.1 { 0 } else { gid })
}

/// Says beside the regular file or directory `path`, which has its mode already, that it should belong to `uid` and `gid`.
/// Fails with `ENOTSUP` where there can be no such xattr.
pub fn record_owner(path: &Path, uid: u32, gid: u32) -> Result<(), Errno> {
    let stat = rustix::fs::lstat(path)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Type::File,
        FileType::Directory => Type::Dir,
        _ => return Err(Errno::NOTSUP),
    };
    let entry = Override { uid, gid, mode: stat.st_mode & 0o7777, kind };
    rustix::fs::lsetxattr(path, OVERRIDE, entry.to_string().as_bytes(), XattrFlags::empty())
}

/// What the side file says of a whiteout.
const GONE: &[u8] = b"gone";

/// The side file of one layer: overrides of what cannot have xattrs, by path inside the layer, and whiteouts that could not
/// be made.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Owners {
    told: HashMap<Vec<u8>, Override>,
    gone: BTreeSet<Vec<u8>>,
}

impl Owners {
    /// Where the side file of the layer directory `layer` lies: beside it.
    pub fn path(layer: &Path) -> PathBuf {
        layer.with_file_name("owners")
    }

    /// Reads the side file of `layer`; an absent one is empty, a damaged one an error.
    pub fn read(layer: &Path) -> io::Result<Owners> {
        let path = Owners::path(layer);
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Owners::default()),
            Err(e) => return Err(e),
        };
        let parsed = Owners::parse(&bytes);
        parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())))
    }

    fn parse(bytes: &[u8]) -> Option<Owners> {
        let mut owners = Owners::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut field = || {
                let end = rest.iter().position(|b| *b == 0)?;
                let field = &rest[..end];
                rest = &rest[end + 1..];
                Some(field)
            };
            let (path, text) = (field()?, field()?);
            match text {
                GONE => drop(owners.gone.insert(path.to_vec())),
                text => drop(owners.told.insert(path.to_vec(), Override::parse(text)?)),
            }
        }
        Some(owners)
    }

    /// Writes the side file of `layer`; none where there is nothing to say.
    pub fn write(&self, layer: &Path) -> io::Result<()> {
        let mut lines: Vec<(&[u8], Vec<u8>)> =
            self.told.iter().map(|(path, entry)| (&path[..], entry.to_string().into_bytes())).collect();
        lines.extend(self.gone.iter().map(|path| (&path[..], GONE.to_vec())));
        if lines.is_empty() {
            return match fs_err::remove_file(Owners::path(layer)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        lines.sort();
        let mut bytes = Vec::new();
        for (path, text) in lines {
            bytes.extend_from_slice(path);
            bytes.push(0);
            bytes.extend_from_slice(&text);
            bytes.push(0);
        }
        fs_err::write(Owners::path(layer), bytes)
    }

    /// What `path` should be, if it is told here.
    pub fn get(&self, path: &[u8]) -> Option<&Override> {
        self.told.get(path)
    }

    /// Tells what `path` should be.
    pub fn insert(&mut self, path: Vec<u8>, entry: Override) {
        self.told.insert(path, entry);
    }

    /// All that it tells, whiteouts left out.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Override)> {
        self.told.iter().map(|(path, entry)| (&path[..], entry))
    }

    /// Makes `path` a whiteout.
    pub fn hide(&mut self, path: &[u8]) {
        self.gone.insert(path.to_vec());
    }

    /// Says that there is something at `path` now: no whiteout any more.
    pub fn show(&mut self, path: &[u8]) {
        self.gone.remove(path);
    }

    /// Whether `path` is a whiteout that is told here only.
    pub fn hides(&self, path: &[u8]) -> bool {
        self.gone.contains(path)
    }

    /// Names of the whiteouts in the directory `dir` that are told here only.
    pub fn hidden_in<'a>(&'a self, dir: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let start = if dir.is_empty() { Vec::new() } else { [dir, b"/"].concat() };
        let length = start.len();
        let inside = self.gone.range(start.clone()..).take_while(move |path| path.starts_with(&start));
        inside.map(move |path| &path[length..]).filter(|name| !name.contains(&b'/'))
    }

    /// Forgets `path` itself.
    pub fn forget(&mut self, path: &[u8]) {
        self.told.remove(path);
        self.gone.remove(path);
    }

    /// Forgets `path` and all below it.
    pub fn remove(&mut self, path: &[u8]) {
        let inside = |p: &[u8]| p.starts_with(path) && matches!(p.get(path.len()), None | Some(b'/'));
        if !self.is_empty() {
            self.told.retain(|p, _| !inside(p));
            self.gone.retain(|p| !inside(p));
        }
    }

    /// Whether it tells nothing.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.gone.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        for (text, uid, gid, mode, kind) in [
            ("0:0:755:d", 0, 0, 0o755, Type::Dir),
            ("4294967294:5:4755:f", 4294967294, 5, 0o4755, Type::File),
            ("1:2:0:c:1:3", 1, 2, 0, Type::Char(1, 3)),
            ("1:2:660:b:259:1048575", 1, 2, 0o660, Type::Block(259, 1048575)),
            ("1:2:777:l", 1, 2, 0o777, Type::Symlink),
            ("1:2:644:p", 1, 2, 0o644, Type::Fifo),
        ] {
            let value = Override { uid, gid, mode, kind };
            assert_eq!(Override::parse(text.as_bytes()), Some(value), "{text}");
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn what_a_command_changed_counts() {
        let wanted = Override { uid: 7, gid: 8, mode: 0o4640, kind: Type::File };
        for (found, result) in [
            ((0, 0, 0o4640), (7, 8, 0o4640)),
            ((0, 0, 0o640), (7, 8, 0o4640)),
            ((0, 0, 0o755), (7, 8, 0o755)),
            ((0, 0, 0o2640), (7, 8, 0o2640)),
            ((5, 0, 0o640), (5, 8, 0o4640)),
            ((0, 5, 0o640), (7, 5, 0o4640)),
        ] {
            let (uid, gid, mode) = found;
            let (kind, xattrs) = (Kind::File { size: 1 }, std::collections::BTreeMap::new());
            let mut metadata = Metadata { kind, mode, uid, gid, mtime: 0, xattrs };
            wanted.apply_as(&mut metadata, 0, 0);
            assert_eq!((metadata.uid, metadata.gid, metadata.mode), result, "{found:?}");
        }
        let link = Override { mode: 0o700, kind: Type::Symlink, ..wanted };
        assert!(link.was_given(0o777));
    }

    #[test]
    fn refuses_what_is_no_override() {
        for text in ["", "0:0:755", "0:0:888:f", "0:0:17777:f", "-1:0:755:f", "0:0:755:x", "0:0:755:c:1", "0:0:7:f:1"] {
            assert_eq!(Override::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn side_file_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("tree");
        assert!(Owners::read(&layer).unwrap().is_empty());
        let link = Override { uid: 1, gid: 2, mode: 0o777, kind: Type::Symlink };
        let mut owners = Owners::default();
        for path in ["a", "a/b", "ab", "c\n"] {
            owners.insert(path.into(), link);
        }
        for path in ["a/gone", "d", "e/f", "e/g/h", "ee"] {
            owners.hide(path.as_bytes());
        }
        owners.remove(b"a");
        owners.write(&layer).unwrap();
        let back = Owners::read(&layer).unwrap();
        assert_eq!(back, owners);
        assert!(back.hides(b"e/f") && !back.hides(b"e") && !back.hides(b"a/gone"));
        let hidden = |dir: &str| {
            back.hidden_in(dir.as_bytes()).map(|n| String::from_utf8(n.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((hidden(""), hidden("e"), hidden("x")), (vec!["d".into(), "ee".into()], vec!["f".into()], vec![]));
        assert_eq!(back.get(b"ab"), Some(&link));
        assert_eq!(back.get(b"c\n"), Some(&link));
        assert_eq!((back.get(b"a"), back.get(b"a/b")), (None, None));
        std::fs::write(Owners::path(&layer), "torn").unwrap();
        assert!(Owners::read(&layer).is_err());
    }
}
