//! Calls that make files, or names of files, where ownership is recorded.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Asked, Recorded, last, reach, search};
use crate::overrides::Type;
use crate::sandbox::supervisor::Answer;
use crate::sandbox::supervisor::access::{self, Owned, Want};
use crate::sandbox::supervisor::call::{Address, PathArgument};
use crate::sandbox::supervisor::capability::Capability;
use crate::sandbox::supervisor::owners::{Look, Target, record_text};
use crate::sandbox::supervisor::path::{End, Found, Last, Walked};
use crate::sandbox::supervisor::{credentials::Credentials, status};

const SET_GID: u32 = 0o2000;
const REGULAR: u32 = 0o100000;
const DIRECTORY: u32 = 0o040000;
const LINK: u32 = 0o120000;

/// Where something is about to be made.
struct Room {
    target: Target,
    /// Who the directory belongs to.
    dir: Owned,
}

/// What a making call finds.
enum Site {
    /// Nothing is there, and it may be made.
    Free(Room),
    /// The kernel has the answer: something is there, or nothing has to be recorded.
    Kernel,
}

impl Recorded {
    /// Where `path` leads for a call that makes something there. Root has to be recorded only where the directory's group
    /// goes over to what is made in it.
    fn site(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Site, Errno> {
        if asked.is_root {
            let target = self.reach(asked, path)?.target;
            return match target.split() {
                Some((dir, _)) => self.site_of_root(asked, target.clone(), &dir),
                None => Ok(Site::Kernel),
            };
        }
        let (target, walked) = self.search(asked, path, Last::Entry)?;
        match walked {
            Some(Walked { found: Found::Missing, path, end: End::Name, .. }) => {
                let (dir, _) = path.split().ok_or(Errno::EXIST)?;
                let dir = search::owned_at(&self.records, &dir)?;
                access::check(&asked.who, &dir, Want::ENTRIES)?;
                Ok(Site::Free(Room { target, dir }))
            }
            Some(_) => Ok(Site::Kernel),
            None => Ok(self.room_in_chroot(asked, target)?.map_or(Site::Kernel, Site::Free)),
        }
    }

    /// Room for a file in another root, where the way to it is not checked; `None` where there is one.
    fn room_in_chroot(&self, asked: &Asked<'_>, target: Target) -> Result<Option<Room>, Errno> {
        let Some((dir, _)) = target.split().filter(|_| target.stat().is_err()) else { return Ok(None) };
        let dir = self.records.look(&dir)?.owned;
        access::check(&asked.who, &dir, Want::ENTRIES)?;
        Ok(Some(Room { target, dir }))
    }

    fn site_of_root(&self, asked: &Asked<'_>, target: Target, dir: &Target) -> Result<Site, Errno> {
        if asked.places.is_some() {
            // The kernel would not make it as told: see `Records::native_mode`.
            return Ok(Site::Free(Room { dir: self.records.look(dir)?.owned, target }));
        }
        let Ok(Some(record)) = self.records.recorded(dir) else { return Ok(Site::Kernel) };
        if record.mode & SET_GID == 0 || record.gid == 0 {
            return Ok(Site::Kernel);
        }
        let dir = self.records.look(dir)?.owned;
        Ok(Site::Free(Room { target, dir }))
    }

    pub(super) fn open(&self, asked: &Asked<'_>, path: &PathArgument, flags: i32, mode: u32) -> Result<Answer, Errno> {
        let temporary = flags & libc::O_TMPFILE == libc::O_TMPFILE;
        let creates = flags & libc::O_CREAT != 0 || temporary;
        if asked.is_root && !creates {
            return self.open_status(asked, path, flags);
        }
        if temporary {
            return self.open_temporary(asked, path, flags, mode);
        }
        if creates
            && flags & libc::O_PATH == 0
            && let Some(answer) = self.create(asked, path, flags, mode)?
        {
            return Ok(answer);
        }
        if asked.is_root {
            return Ok(Answer::Continue);
        }
        let (target, walked) = self.search(asked, path, last(path))?;
        if flags & libc::O_PATH != 0 || walked.is_some_and(|walked| walked.found == Found::Magic) {
            return Ok(Answer::Continue);
        }
        let look = self.records.look(&target)?;
        let mut want = match flags & libc::O_ACCMODE {
            libc::O_RDONLY => 4,
            libc::O_WRONLY => 2,
            _ => 6,
        };
        if flags & libc::O_TRUNC != 0 {
            want |= 2;
        }
        access::check(&asked.who, &look.owned, Want(want))?;
        if want & 2 != 0 {
            self.written(asked, &target, &look)?;
        }
        self.open_status(asked, path, flags)
    }

    /// Takes away what a file loses that a user writes to. The writing itself is not seen here, only that it may begin.
    pub(super) fn written(&self, asked: &Asked<'_>, target: &Target, look: &Look) -> Result<(), Errno> {
        let after = access::written(&asked.who, &look.owned);
        if after == look.owned { Ok(()) } else { self.records.give(target, look, after) }
    }

    /// Makes the file of an `O_CREAT`; `None` where the call goes on as one without.
    fn create(&self, asked: &Asked<'_>, path: &PathArgument, flags: i32, mode: u32) -> Result<Option<Answer>, Errno> {
        // Through a link at the end a file is made where that leads, unless it must be new.
        let room = if path.follow && !asked.is_root {
            match self.search(asked, path, Last::Follow)? {
                (target, Some(Walked { found: Found::Missing, path, .. })) => {
                    let (dir, _) = path.split().ok_or(Errno::EXIST)?;
                    let dir = search::owned_at(&self.records, &dir)?;
                    access::check(&asked.who, &dir, Want::ENTRIES)?;
                    Room { target, dir }
                }
                (target, None) => match self.room_in_chroot(asked, target)? {
                    Some(room) => room,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
        } else {
            match self.site(asked, path)? {
                Site::Free(room) => room,
                Site::Kernel => return Ok(None),
            }
        };
        let mode = mode & 0o7777 & !reach::umask(asked.caller)?;
        let owned = access::created(&asked.who, &room.dir, REGULAR | mode);
        let exclusive = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened =
            rustix::fs::open(&room.target.path, open_flags(flags) | exclusive, self.records.native_mode(&owned));
        match opened {
            Ok(fd) => self.record_open(fd, owned, flags).map(Some),
            // It came into being meanwhile, or root goes through a link.
            Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn open_temporary(&self, asked: &Asked<'_>, path: &PathArgument, flags: i32, mode: u32) -> Result<Answer, Errno> {
        let (target, look) = self.find(asked, path)?;
        if !asked.is_root {
            access::check(&asked.who, &look.owned, Want::ENTRIES)?;
        } else if look.owned.mode & SET_GID == 0 || look.owned.gid == 0 {
            return Ok(Answer::Continue);
        }
        let mode = mode & 0o7777 & !reach::umask(asked.caller)?;
        let owned = access::created(&asked.who, &look.owned, REGULAR | mode);
        let mode = self.records.native_mode(&owned);
        let fd = rustix::fs::open(&target.path, open_flags(flags) | OFlags::CLOEXEC, mode)?;
        self.record_open(fd, owned, flags)
    }

    fn record_open(&self, fd: OwnedFd, owned: Owned, flags: i32) -> Result<Answer, Errno> {
        if (owned.uid, owned.gid) != (0, 0) || self.records.native_mode(&owned).as_raw_mode() != owned.mode & 0o7777 {
            let text = record_text(owned, Type::File);
            match self.records.record_held(&fd, &text) {
                Err(Errno::NOTSUP | Errno::PERM) => {
                    let path = Target::new(format!("/proc/self/fd/{}", fd.as_raw_fd()), true)?;
                    let path = self.records.canonical(&path)?;
                    self.records.tell(path, owned)?;
                }
                other => other?,
            }
        }
        Ok(Answer::Descriptor { fd, close_on_exec: flags & libc::O_CLOEXEC != 0 })
    }

    pub(super) fn open_how(
        &self,
        asked: &Asked<'_>,
        path: &PathArgument,
        how: Address,
        size: u64,
    ) -> Result<Answer, Errno> {
        let mut bytes = [0; 24]; // struct open_how: flags, mode, resolve
        if size < 24 {
            return Err(Errno::INVAL);
        }
        asked.caller.read(how, &mut bytes)?;
        let field = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let (flags, mode, resolve) = (field(0), field(8), field(16));
        let exclusive = (libc::O_CREAT | libc::O_EXCL) as u64;
        let follow = flags & libc::O_NOFOLLOW as u64 == 0 && flags & exclusive != exclusive;
        let path = PathArgument { follow, ..*path };
        if resolve == 0 {
            return self.open(asked, &path, flags as i32, mode as u32);
        }
        // What may be resolved is the kernel's to say, so it opens, and what it made is recorded afterwards.
        if flags & libc::O_CREAT as u64 == 0 || asked.is_root {
            return Ok(Answer::Continue);
        }
        let said = asked.caller.read_path(path.address)?;
        let base =
            rustix::fs::open(reach::base(asked.caller, path.dirfd), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::from_bits_retain(resolve);
        let made = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode as u32 & 0o777 & !reach::umask(asked.caller)?);
        match rustix::fs::openat2(&base, &said[..], open_flags(flags as i32) | made, mode, resolve) {
            Ok(fd) => {
                let target = Target::new(format!("/proc/self/fd/{}", fd.as_raw_fd()), true)?;
                let file = Target::new(target.name()?, false)?;
                let (dir, _) = file.split().ok_or(Errno::INVAL)?;
                let owned = access::created(&asked.who, &self.records.look(&dir)?.owned, target.stat()?.st_mode);
                self.record_open(fd, owned, flags as i32)
            }
            Err(Errno::EXIST) if flags & libc::O_EXCL as u64 == 0 => Ok(Answer::Continue),
            Err(errno) => Err(errno),
        }
    }

    /// An open that goes on natively, unless it is of a process's status: that tells of emulated ids.
    fn open_status(&self, asked: &Asked<'_>, path: &PathArgument, flags: i32) -> Result<Answer, Errno> {
        if asked.places.is_some() || !asked.table.has_changed() || flags & libc::O_ACCMODE != libc::O_RDONLY {
            return Ok(Answer::Continue);
        }
        let target = self.reach(asked, path)?.target;
        let path = target.path.to_bytes();
        let name = path.strip_suffix(b"/status").and_then(|dir| dir.rsplit(|byte| *byte == b'/').next());
        let Some(pid) = name.and_then(|name| std::str::from_utf8(name).ok()?.parse::<i32>().ok()) else {
            return Ok(Answer::Continue);
        };
        if self.records.canonical(&target)?.strip_prefix(b"proc/").is_none() {
            return Ok(Answer::Continue);
        }
        let credentials = asked.table.process_of(pid)?.credentials();
        let text = asked.caller.outside.read_proc(format!("{pid}/status"))?;
        let fd = status::as_file(&status::with_credentials(&text, &credentials))?;
        Ok(Answer::Descriptor { fd, close_on_exec: flags & libc::O_CLOEXEC != 0 })
    }

    pub(super) fn mkdir(&self, asked: &Asked<'_>, path: &PathArgument, mode: u32) -> Result<Answer, Errno> {
        let Site::Free(room) = self.site(asked, path)? else { return Ok(Answer::Continue) };
        let mode = mode & 0o1777 & !reach::umask(asked.caller)?;
        let owned = access::created(&asked.who, &room.dir, DIRECTORY | mode);
        rustix::fs::mkdirat(CWD, &room.target.path, self.records.native_mode(&owned))?;
        self.record_made(&room.target, owned)
    }

    pub(super) fn mknod(
        &self,
        asked: &Asked<'_>,
        path: &PathArgument,
        mode: u32,
        device: u64,
    ) -> Result<Answer, Errno> {
        let kind = FileType::from_raw_mode(mode);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if is_device {
            return self.make_device(asked, path, mode, device);
        }
        let site = self.site(asked, path)?;
        let kind = match kind {
            FileType::Fifo | FileType::Socket => kind,
            _ => FileType::RegularFile,
        };
        let Site::Free(room) = site else {
            self.forget(asked, path);
            return Ok(Answer::Continue);
        };
        let mode = mode & 0o7777 & !reach::umask(asked.caller)?;
        let owned = access::created(&asked.who, &room.dir, kind.as_raw_mode() | mode);
        rustix::fs::mknodat(CWD, &room.target.path, kind, self.records.native_mode(&owned), 0)?;
        self.record_made(&room.target, owned)
    }

    /// A device is a regular file whose record says what it is.
    fn make_device(&self, asked: &Asked<'_>, path: &PathArgument, mode: u32, device: u64) -> Result<Answer, Errno> {
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let kind = match FileType::from_raw_mode(mode) {
            // A whiteout, which overlayfs does not let anybody make either.
            FileType::CharacterDevice if device == 0 => return Err(Errno::PERM),
            FileType::CharacterDevice => Type::Char(major, minor),
            _ => Type::Block(major, minor),
        };
        let room = match self.site(asked, path)? {
            Site::Free(room) => room,
            Site::Kernel if !asked.is_root => return Ok(Answer::Continue),
            Site::Kernel => {
                let target = self.reach(asked, path)?.target;
                let (dir, _) = target.split().ok_or(Errno::EXIST)?;
                let dir = self.records.look(&dir)?.owned;
                Room { target, dir }
            }
        };
        if !asked.who.has(Capability::MKNOD) {
            return Err(Errno::PERM);
        }
        let mode = mode & 0o7777 & !reach::umask(asked.caller)?;
        let owned = access::created(&asked.who, &room.dir, mode);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&room.target.path, flags, Mode::from_raw_mode(mode & 0o777))?;
        self.records.record_held(&fd, &record_text(owned, kind))?;
        Ok(Answer::Value(0))
    }

    pub(super) fn symlink(&self, asked: &Asked<'_>, target: Address, path: &PathArgument) -> Result<Answer, Errno> {
        let Site::Free(room) = self.site(asked, path)? else {
            self.forget(asked, path);
            return Ok(Answer::Continue);
        };
        let leads = asked.caller.read_path(target)?;
        let owned = access::created(&asked.who, &room.dir, LINK | 0o777);
        rustix::fs::symlinkat(&leads[..], CWD, &room.target.path)?;
        self.records.tell(self.records.canonical_entry(&room.target)?, owned)?;
        Ok(Answer::Value(0))
    }

    /// Root is about to make something at `path`: what the table says of it is of something that is gone, unless nothing
    /// comes of the call.
    fn forget(&self, asked: &Asked<'_>, path: &PathArgument) {
        if !asked.is_root || !self.records.has_table() {
            return;
        }
        let Ok(reached) = self.reach(asked, path) else { return };
        let target = reached.target.unfollowed();
        if let (Err(Errno::NOENT), Ok(entry)) = (target.stat(), self.records.canonical_entry(&target)) {
            self.records.forget(&entry);
        }
    }

    fn record_made(&self, target: &Target, owned: Owned) -> Result<Answer, Errno> {
        let told = (owned.uid, owned.gid) == (0, 0) && !self.records.has_table();
        if told && self.records.native_mode(&owned).as_raw_mode() == owned.mode & 0o7777 {
            return Ok(Answer::Value(0));
        }
        let target = target.clone().unfollowed();
        let mut look = self.records.look(&target)?;
        look.record = None;
        self.records.give(&target, &look, owned)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn link(&self, asked: &Asked<'_>, from: &PathArgument, to: &PathArgument) -> Result<Answer, Errno> {
        if asked.is_root && !self.records.has_table() {
            return Ok(Answer::Continue);
        }
        let (source, look) = self.find(asked, from)?;
        let made = if asked.is_root {
            self.reach(asked, to)?.target
        } else {
            access::check_link(&asked.who, &look.owned)?;
            match self.site(asked, to)? {
                Site::Free(room) => room.target,
                Site::Kernel => return Ok(Answer::Continue),
            }
        };
        // What has an xattr, or is nobody else's, takes all with it.
        if look.record.is_some() || (look.owned.uid, look.owned.gid) == (0, 0) && !self.records.has_table() {
            return Ok(Answer::Continue);
        }
        let old = self.records.canonical(&source)?;
        let flags = if source.follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
        rustix::fs::linkat(CWD, &source.path, CWD, &made.path, flags)?;
        self.records.linked(&old, self.records.canonical_entry(&made)?);
        Ok(Answer::Value(0))
    }

    pub(super) fn rename(
        &self,
        asked: &Asked<'_>,
        from: &PathArgument,
        to: &PathArgument,
        flags: u32,
    ) -> Result<Answer, Errno> {
        let (old, new) = if asked.is_root {
            if !self.records.has_table() {
                return Ok(Answer::Continue);
            }
            let old = self.reach(asked, from)?.target.unfollowed();
            // A file takes its record along; only what the table may tell of, or holds, has to be followed.
            let is_file = old.stat().is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
            if is_file && flags & libc::RENAME_EXCHANGE == 0 && !self.records.tells_of_files() {
                return Ok(Answer::Continue);
            }
            (old, self.reach(asked, to)?.target)
        } else {
            let (old, from) = self.search(asked, from, Last::Entry)?;
            let (new, to) = self.search(asked, to, Last::Entry)?;
            if let (Some(from), Some(to)) = (from, to) {
                self.check_rename(&asked.who, &from, &to)?;
            }
            (old, new)
        };
        if !self.records.has_table() {
            return Ok(Answer::Continue);
        }
        let (Ok(before), Ok(after)) = (self.records.canonical_entry(&old), self.records.canonical_entry(&new)) else {
            return Ok(Answer::Continue);
        };
        rustix::fs::renameat_with(CWD, &old.path, CWD, &new.path, RenameFlags::from_bits_retain(flags))?;
        if before != after {
            self.records.moved(&before, &after, flags & libc::RENAME_EXCHANGE != 0);
        }
        Ok(Answer::Value(0))
    }

    /// `may_delete` of the old name, and of the new one or `may_create` there.
    fn check_rename(&self, who: &Credentials, from: &Walked, to: &Walked) -> Result<(), Errno> {
        let (Some((old_dir, _)), Some((new_dir, _))) = (from.path.split(), to.path.split()) else {
            return Err(Errno::BUSY);
        };
        if from.found == Found::Missing {
            return Err(Errno::NOENT);
        }
        let owned = |path| search::owned_at(&self.records, path);
        let (into, moved) = (owned(&new_dir)?, owned(&from.path)?);
        access::check_removal(who, &owned(&old_dir)?, &moved)?;
        match to.found {
            Found::Missing => access::check(who, &into, Want::ENTRIES)?,
            _ => access::check_removal(who, &into, &owned(&to.path)?)?,
        }
        // Its `..` changes.
        if moved.is_dir() && old_dir != new_dir {
            access::check(who, &moved, Want::WRITE)?;
        }
        Ok(())
    }
}

fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags as u32)
}
