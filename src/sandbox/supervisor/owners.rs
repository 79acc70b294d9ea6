//! Recorded ownership: who files belong to where the kernel has one id for all of them.
//!
//! The records are those of [`crate::overrides`]: an xattr on files and directories, so that it goes along with renames,
//! links and overlayfs's copying up; for links, pipes and sockets a table by path, which is read from the side files of
//! the layers below and written to the step's own. A file without a record belongs to whom the kernel says (0).
//!
//! In the file system a recorded file has its mode without set-id and sticky bits. A record that says 0:0 is taken away
//! instead, and the file has its whole mode.

mod target;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::access::Owned;
use super::path::ViewPath;
use super::places::Mapping;
use super::shortcuts::Told;
use super::stat::{Shown, file_id};
use super::unrecorded::{FileId, Unrecorded};
use crate::overrides::{OVERRIDE, Override, Owners, SHELVED, Type, image_ids, own_bits};
pub(crate) use target::Target;

const TYPE: u32 = 0o170000;

/// What is known of a file.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// What the file system says.
    pub native: Stat,
    /// Its xattr record.
    pub record: Option<Override>,
    /// Who it belongs to.
    pub owned: Owned,
}

impl Look {
    /// What a stat call is to tell.
    pub(crate) fn shown(&self) -> Shown {
        let device = match self.record.map(|record| record.kind) {
            Some(Type::Char(major, minor) | Type::Block(major, minor)) => Some((major, minor)),
            _ => None,
        };
        Shown { owned: self.owned, device }
    }

    /// Device and inode.
    pub(crate) fn id(&self) -> (u64, u64) {
        (self.native.st_dev, self.native.st_ino)
    }

    /// Whether a stat call tells something else than the kernel does.
    fn is_told_otherwise(&self) -> bool {
        let (uid, gid) = image_ids(self.native.st_uid, self.native.st_gid);
        self.owned != Owned { uid, gid, mode: self.native.st_mode }
    }
}

/// The records of a step's tree.
#[derive(Debug)]
pub(crate) struct Records {
    /// Links, pipes, sockets, and files where no xattrs can be, by canonical path. Entries of files that are gone may
    /// stay: whatever is made at such a path goes through here.
    table: RwLock<HashMap<Vec<u8>, Owned>>,
    is_used: AtomicBool,
    /// Who is to know once that is so.
    told: Arc<Told>,
    /// Files and directories are in it, too.
    is_elsewhere: AtomicBool,
    mapping: Mapping,
    /// This process's ids, which files of root have.
    own: (u32, u32),
    unrecorded: Unrecorded,
    learned: AtomicUsize,
}

impl Records {
    /// Those of a tree of `layers`, the top one first.
    pub(crate) fn read(layers: &[PathBuf]) -> io::Result<Records> {
        let mut table = HashMap::new();
        for (at, layer) in layers.iter().enumerate() {
            for (path, entry) in Owners::read(layer)?.iter() {
                // What a layer above has at the path, a whiteout too, is told of there if at all.
                let hidden =
                    layers[..at].iter().any(|above| above.join(OsStr::from_bytes(path)).symlink_metadata().is_ok());
                if !hidden {
                    table.entry(path.to_vec()).or_insert(owned_by(entry));
                }
            }
        }
        let (is_used, told) = (AtomicBool::new(!table.is_empty()), Arc::<Told>::default());
        if !table.is_empty() {
            told.tell()?;
        }
        Ok(Records {
            table: RwLock::new(table),
            is_used,
            told,
            is_elsewhere: AtomicBool::new(false),
            mapping: Mapping::none(),
            own: own(),
            unrecorded: Unrecorded::default(),
            learned: AtomicUsize::new(0),
        })
    }

    /// Where is told that links, pipes or sockets have records.
    pub(super) fn told(&self) -> &Arc<Told> {
        &self.told
    }

    /// Has the step's paths lead elsewhere.
    pub(super) fn map(&mut self, mapping: Mapping) {
        self.mapping = mapping;
        self.own = own();
    }

    /// Where what the step has at `path` really is.
    pub(super) fn host(&self, path: &ViewPath) -> ViewPath {
        self.mapping.host(path)
    }

    /// The path of `target` in the tree, without links and without the slash at its beginning; elsewhere with that.
    pub(crate) fn canonical(&self, target: &Target) -> Result<Vec<u8>, Errno> {
        let name = target.name()?;
        Ok(self.mapping.in_tree(&name).map_or_else(|| name.clone(), <[u8]>::to_vec))
    }

    /// [`Records::canonical`] of something that is there, or is about to be made, by that of its directory.
    pub(crate) fn canonical_entry(&self, target: &Target) -> Result<Vec<u8>, Errno> {
        let (dir, name) = target.split().ok_or(Errno::INVAL)?;
        let mut path = self.canonical(&dir)?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path)
    }

    /// The mode of a file of these owners in the file system: set-id bits are recorded only, unless it is root's own. Without
    /// root's rights even this process could not use it without its owner's own bits.
    pub(crate) fn native_mode(&self, owned: &Owned) -> Mode {
        let bits = if (owned.uid, owned.gid) == (0, 0) { 0o7777 } else { 0o777 };
        let own = if self.mapping.is_some() { own_bits(owned.mode, owned.is_dir()) } else { 0 };
        Mode::from_raw_mode(owned.mode & bits | own)
    }

    /// Puts what is recorded of `target` into a `struct stat` of it. With `ours` nobody else gives it a record.
    pub(super) fn correct_stat(&self, target: &Target, stat: &mut [u8], ours: bool) {
        let (file, mode) = (file_id(stat), super::stat::mode(stat));
        if self.is_unrecorded(target, file, mode, ours) {
            return super::stat::own_stat(stat, self.own);
        }
        match self.told_of(target, Some(mode)) {
            Ok(Some(shown)) => super::stat::correct_stat(stat, &shown),
            // Of what has no path the kernel says it best.
            Ok(None) | Err(_) => super::stat::own_stat(stat, self.own),
        }
    }

    /// Whether a file has no record, where only an xattr could be one; that is remembered of `ours`.
    fn is_unrecorded(&self, target: &Target, file: FileId, mode: u32, ours: bool) -> bool {
        if !can_have_records(mode) || self.tells_of_files() {
            return false;
        }
        if ours && self.unrecorded.has(file) {
            return true;
        }
        let has_none = matches!(self.recorded(target), Ok(None));
        if has_none && ours {
            self.unrecorded.note(file);
            self.learned.fetch_add(1, Ordering::Relaxed);
        }
        has_none
    }

    /// Remembers a file of the tree, found to be so, if it has no record.
    pub(super) fn look_ahead(&self, target: &Target, found: &Stat) {
        let file = (found.st_dev, found.st_ino);
        let is_new = can_have_records(found.st_mode) && !self.unrecorded.has(file);
        if is_new && matches!(self.recorded(target), Ok(None)) {
            self.unrecorded.note(file);
        }
    }

    /// How often a file was asked for, of the tree and without a record, that was not known.
    pub(super) fn learned(&self) -> usize {
        self.learned.load(Ordering::Relaxed)
    }

    /// The same where nothing has to be asked: the file is known to have no record. False where that is not so.
    pub(super) fn correct_known_stat(&self, stat: &mut [u8]) -> bool {
        let is_known = can_have_records(super::stat::mode(stat)) && self.unrecorded.has(file_id(stat));
        if !is_known || self.tells_of_files() {
            return false;
        }
        super::stat::own_stat(stat, self.own);
        true
    }

    /// Gives an open file a record.
    pub(super) fn record_held(&self, file: &OwnedFd, record: &str) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(file)?;
        self.unrecorded.gives((stat.st_dev, stat.st_ino));
        rustix::fs::fsetxattr(file, OVERRIDE, record.as_bytes(), XattrFlags::empty())
    }

    /// Puts what is recorded of `target` into a `struct statx` of it, likewise.
    pub(super) fn correct_statx(&self, target: &Target, statx: &mut [u8], ours: bool) {
        if let Some((file, mode)) = super::stat::statx_file(statx)
            && self.is_unrecorded(target, file, mode, ours)
        {
            return super::stat::own_statx(statx, self.own);
        }
        match self.told_otherwise(target) {
            Ok(Some(shown)) => super::stat::correct_statx(statx, &shown),
            Ok(None) | Err(_) => super::stat::own_statx(statx, self.own),
        }
    }

    /// Writes what is to be known of links and pipes in the layer directory `layer`, whose files are in `tree`.
    pub(crate) fn write(&self, tree: &Path, layer: &Path) -> io::Result<()> {
        let mut owners = Owners::default();
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for (path, owned) in &*table {
            let Ok(found) = rustix::fs::lstat(tree.join(OsStr::from_bytes(path))) else { continue };
            let kind = match FileType::from_raw_mode(found.st_mode) {
                FileType::Symlink => Type::Symlink,
                FileType::Fifo => Type::Fifo,
                _ => continue,
            };
            if found.st_mode & TYPE == owned.mode & TYPE {
                let (uid, gid, mode) = (owned.uid, owned.gid, owned.mode & 0o7777);
                owners.insert(path.clone(), Override { uid, gid, mode, kind });
            }
        }
        owners.write(layer)
    }

    /// The xattr record of `target`, which may be none.
    pub(crate) fn recorded(&self, target: &Target) -> Result<Option<Override>, Errno> {
        match target.get_xattr(OVERRIDE) {
            Ok(text) => Ok(Override::parse(&text)),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether any path has an entry in the table.
    pub(crate) fn has_table(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether files and directories have entries in the table, too.
    pub(crate) fn tells_of_files(&self) -> bool {
        self.is_elsewhere.load(Ordering::Relaxed)
    }

    /// What a stat call is to tell otherwise than the kernel does; `None` where the kernel is right.
    pub(crate) fn told_otherwise(&self, target: &Target) -> Result<Option<Shown>, Errno> {
        self.told_of(target, None)
    }

    /// The same of what may be known to have this mode in the file system.
    fn told_of(&self, target: &Target, mode: Option<u32>) -> Result<Option<Shown>, Errno> {
        let is_recorded = mode.is_none_or(can_have_records) && self.recorded(target)?.is_some();
        let may_be_told = is_recorded || self.has_table() && self.may_be_in_table(target, mode)?;
        if !may_be_told {
            return Ok(None);
        }
        let look = self.look(target)?;
        Ok((look.record.is_some() || look.is_told_otherwise()).then(|| look.shown()))
    }

    /// All about `target`.
    pub(crate) fn look(&self, target: &Target) -> Result<Look, Errno> {
        let native = target.stat()?;
        let (uid, gid) = image_ids(native.st_uid, native.st_gid);
        let mut owned = Owned { uid, gid, mode: native.st_mode };
        let can_have_xattrs = can_have_records(native.st_mode);
        let record = if can_have_xattrs { self.recorded(target)? } else { None };
        if let Some(record) = record {
            owned = Owned {
                uid: record.uid,
                gid: record.gid,
                mode: type_bits(record.kind) | record.mode_of(native.st_mode & 0o7777),
            };
        } else if self.has_table()
            && (!can_have_xattrs || !self.holds_xattrs(target))
            && let Some(told) = self.in_table(&self.canonical(target)?)
            && told.mode & TYPE == native.st_mode & TYPE
        {
            owned = told;
        }
        Ok(Look { native, record, owned })
    }

    /// Whether `target` is of a kind that the table tells of.
    fn may_be_in_table(&self, target: &Target, mode: Option<u32>) -> Result<bool, Errno> {
        let mode = mode.map_or_else(|| target.stat().map(|native| native.st_mode), Ok)?;
        Ok(!can_have_records(mode) || !self.holds_xattrs(target))
    }

    /// Whether the file system of `target`, a file or directory, can hold records: most can.
    fn holds_xattrs(&self, target: &Target) -> bool {
        !self.tells_of_files() || !matches!(target.get_xattr(OVERRIDE), Err(Errno::NOTSUP))
    }

    fn in_table(&self, path: &[u8]) -> Option<Owned> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    fn change_table<T>(&self, change: impl FnOnce(&mut HashMap<Vec<u8>, Owned>) -> T) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut table);
        self.is_used.store(!table.is_empty(), Ordering::Relaxed);
        result
    }

    /// Says that what stands at the canonical `path` belongs to `owned`.
    pub(crate) fn tell(&self, path: Vec<u8>, owned: Owned) -> Result<(), Errno> {
        let is_record = (owned.uid, owned.gid) != (0, 0);
        if is_record {
            self.told.tell()?;
        }
        if matches!(FileType::from_raw_mode(owned.mode), FileType::RegularFile | FileType::Directory) {
            self.is_elsewhere.store(true, Ordering::Relaxed);
        }
        self.change_table(|table| if is_record { table.insert(path, owned) } else { table.remove(&path) });
        Ok(())
    }

    /// Says that what stood at the canonical `path` is gone.
    pub(crate) fn forget(&self, path: &[u8]) {
        self.change_table(|table| table.remove(path));
    }

    /// Makes `target`, of which `look` is known, belong to `new`, with its mode.
    pub(crate) fn give(&self, target: &Target, look: &Look, new: Owned) -> Result<(), Errno> {
        let held = self.hold(target, look)?;
        let target = held.as_ref().map_or(target, |(_, held)| held);
        let kind = match (FileType::from_raw_mode(look.native.st_mode), look.record) {
            (FileType::RegularFile, Some(record)) => record.kind,
            (FileType::RegularFile, None) => Type::File,
            (FileType::Directory, _) => Type::Dir,
            _ => return self.give_special(target, look, new),
        };
        let owned = Owned { mode: native_type(kind) | new.mode & 0o7777, ..new };
        let native = self.native_mode(&owned).as_raw_mode();
        let held = matches!(kind, Type::File | Type::Dir) && native == new.mode & 0o7777;
        let plain = (new.uid, new.gid) == (0, 0) && held;
        let mode = if plain { new.mode & 0o7777 } else { native & 0o777 };
        if plain {
            match target.remove_xattr(OVERRIDE) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            let record = Override { uid: new.uid, gid: new.gid, mode: new.mode & 0o7777, kind };
            self.unrecorded.gives(look.id());
            match target.set_xattr(OVERRIDE, record.to_string().as_bytes(), XattrFlags::empty()) {
                Err(Errno::NOTSUP | Errno::PERM) => return self.give_special(target, look, new),
                other => other?,
            }
        }
        if mode != look.native.st_mode & 0o7777 {
            rustix::fs::chmodat(CWD, &target.path, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        Ok(())
    }

    /// The object that was looked at, by a descriptor, where what takes its place meanwhile must not get its mode: a
    /// directory with a file's could not be used any more.
    fn hold(&self, target: &Target, look: &Look) -> Result<Option<(OwnedFd, Target)>, Errno> {
        if !self.mapping.is_some() {
            return Ok(None);
        }
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !target.follow);
        let object = rustix::fs::open(&target.path, flags, Mode::empty())?;
        let found = rustix::fs::fstat(&object)?;
        if (found.st_dev, found.st_ino) != look.id() {
            return Err(Errno::NOENT);
        }
        let target = Target::new(format!("/proc/self/fd/{}", object.as_raw_fd()), true)?;
        Ok(Some((object, target)))
    }

    /// The same of what cannot have xattrs.
    fn give_special(&self, target: &Target, look: &Look, new: Owned) -> Result<(), Errno> {
        let path = self.canonical(target)?;
        let native = look.native.st_mode;
        if native & TYPE != TYPE_LINK && native & 0o7777 != new.mode & 0o7777 {
            let mode = Mode::from_raw_mode(new.mode & 0o7777);
            rustix::fs::chmodat(CWD, &target.path, mode, AtFlags::empty())?;
        }
        self.touch_owner(target)?;
        self.tell(path, Owned { mode: native & TYPE | new.mode & 0o7777, ..new })
    }

    /// Does in the file system what a change of owner does beside it: the change time, set-id bits and capabilities that go,
    /// and with overlayfs the copying up.
    pub(crate) fn touch_owner(&self, target: &Target) -> Result<(), Errno> {
        match rustix::fs::chownat(
            CWD,
            &target.path,
            Some(rustix::process::geteuid()),
            Some(rustix::process::getegid()),
            target.at_flags(),
        ) {
            // Not ours at all (/proc, a bind mount of another's file): only told.
            Err(Errno::PERM | Errno::INVAL | Errno::OVERFLOW) => Ok(()),
            other => other,
        }
    }

    /// Forgets the capabilities of a file that the file system could not hold.
    pub(crate) fn drop_capabilities(&self, target: &Target) {
        let shelved = [SHELVED, "security.capability"].concat();
        let _ = target.remove_xattr(shelved); // mostly there are none
    }

    /// Something was moved from one canonical path to another.
    pub(crate) fn moved(&self, from: &[u8], to: &[u8], exchanged: bool) {
        let moves = |path: &[u8], from: &[u8], to: &[u8]| {
            let rest = path.strip_prefix(from)?;
            matches!(rest.first(), None | Some(b'/')).then(|| [to, rest].concat())
        };
        self.change_table(|table| {
            let old = std::mem::take(table);
            for (path, owned) in old {
                if let Some(moved) = moves(&path, from, to) {
                    table.insert(moved, owned);
                } else if let Some(moved) = moves(&path, to, from) {
                    // What stood there is gone, unless the two have changed places.
                    if exchanged {
                        table.insert(moved, owned);
                    }
                } else {
                    table.insert(path, owned);
                }
            }
        });
    }

    /// What stands at `from` got another name.
    pub(crate) fn linked(&self, from: &[u8], to: Vec<u8>) {
        self.change_table(|table| match table.get(from).copied() {
            Some(owned) => table.insert(to, owned),
            None => table.remove(&to),
        });
    }
}

/// This process's ids, which files of root have.
fn own() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Whether what has this mode in the file system can have the xattrs of users: xattr(7).
fn can_have_records(mode: u32) -> bool {
    matches!(FileType::from_raw_mode(mode), FileType::RegularFile | FileType::Directory)
}

/// The type of what a record of this kind is at.
fn native_type(kind: Type) -> u32 {
    match kind {
        Type::Dir => 0o040000,
        _ => 0o100000,
    }
}

const TYPE_LINK: u32 = 0o120000;

fn type_bits(kind: Type) -> u32 {
    match kind {
        Type::File => 0o100000,
        Type::Dir => 0o040000,
        Type::Symlink => TYPE_LINK,
        Type::Fifo => 0o010000,
        Type::Char(..) => 0o020000,
        Type::Block(..) => 0o060000,
    }
}

fn owned_by(entry: &Override) -> Owned {
    Owned { uid: entry.uid, gid: entry.gid, mode: type_bits(entry.kind) | entry.mode }
}

/// The record of a device that is about to be stood in for, or of a file whose owner cannot be had.
pub(crate) fn record_text(owned: Owned, kind: Type) -> String {
    Override { uid: owned.uid, gid: owned.gid, mode: owned.mode & 0o7777, kind }.to_string()
}
