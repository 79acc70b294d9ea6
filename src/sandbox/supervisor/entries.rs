//! Calls about a name in a directory: making, removing, moving, linking. See [`super::perform`].

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;

use super::Answer;
use super::call::{Address, PATH_MAX, PathArgument};
use super::path::Last;
use super::perform::own;
use super::places::Kind;
use super::view::{Entry, Eyes, Object, Site};

/// The attribute of a directory that says with what permissions entries of it begin.
const DEFAULT_ACL: &str = "system.posix_acl_default";

impl Eyes<'_> {
    /// The name that a call is about; `None` where the kernel may make the call as it is.
    fn named(&mut self, argument: &PathArgument) -> Result<Option<Entry>, Errno> {
        let path = self.path(argument)?;
        match self.locate(argument, &path, Last::Entry)? {
            Some(site) => self.entry(&site).map(Some),
            None => Ok(None),
        }
    }

    /// The name that a call is about which is made here wherever there are places, since `trodden` has to know of it.
    fn noted(&mut self, argument: &PathArgument) -> Result<Option<Entry>, Errno> {
        let path = self.path(argument)?;
        let site = match self.locate(argument, &path, Last::Entry)? {
            Some(site) => site,
            None if self.places.is_empty() => return Ok(None),
            None => self.in_tree(argument, path)?,
        };
        self.entry(&site).map(Some)
    }

    /// Fails where nothing can be made at a name: as the kernel has it `EEXIST` comes before `EROFS`.
    pub(super) fn check_makable(&mut self, entry: &Entry) -> Result<(), Errno> {
        if entry.is_place {
            return Err(Errno::EXIST);
        }
        let Some(number) = entry.place else { return self.as_caller() };
        let place = self.places.get(number);
        let errno = match place.kind {
            Kind::Proc => Errno::NOENT, // what proc itself says
            Kind::Pts => Errno::PERM,
            Kind::Sys | Kind::Bind if place.readonly => Errno::ROFS,
            Kind::Sys | Kind::Bind => return self.as_caller(),
        };
        self.as_caller()?;
        let there = rustix::fs::statat(&entry.directory, entry.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        Err(if there.is_ok() { Errno::EXIST } else { errno })
    }

    /// Fails where a name cannot be taken away or given to something else.
    fn check_removable(&mut self, entry: &Entry) -> Result<(), Errno> {
        if entry.is_place {
            return Err(Errno::BUSY);
        }
        if let Some(number) = entry.place {
            let place = self.places.get(number);
            match place.kind {
                Kind::Proc | Kind::Pts => return Err(Errno::PERM),
                Kind::Sys | Kind::Bind if place.readonly => return Err(Errno::ROFS),
                Kind::Sys | Kind::Bind => {}
            }
        }
        self.as_caller()
    }

    /// The mode of something that is to be made in `directory`: the caller's umask counts, where no default ACL says
    /// otherwise. To be called as the caller.
    pub(super) fn made_mode(&mut self, directory: &OwnedFd, mode: u32) -> Result<u32, Errno> {
        let has_acl = rustix::fs::getxattr(own(directory), DEFAULT_ACL, &mut [0u8; 0][..]).is_ok();
        if has_acl {
            return Ok(mode);
        }
        self.as_self()?;
        let umask = self.umask()?;
        self.as_caller()?;
        // What the caller's own id makes it must be able to use.
        let own = if self.places.is_emulated() { 0o700 } else { 0 };
        Ok(mode & !umask | own)
    }

    pub(super) fn umask(&self) -> Result<u32, Errno> {
        let status = self.places.outside.read_proc(format!("{}/status", self.caller.thread))?;
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Umask:"));
        let text = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Errno::SRCH)?;
        u32::from_str_radix(text.trim(), 8).map_err(|_| Errno::SRCH)
    }

    pub(super) fn mkdir(&mut self, path: &PathArgument, mode: u32) -> Result<Answer, Errno> {
        let Some(entry) = self.named(path)? else { return Ok(Answer::Continue) };
        self.check_makable(&entry)?;
        let mode = Mode::from_raw_mode(self.made_mode(&entry.directory, mode & 0o7777)?);
        rustix::fs::mkdirat(&entry.directory, entry.name.as_slice(), mode)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn mknod(&mut self, path: &PathArgument, mode: u32, device: u64) -> Result<Answer, Errno> {
        let Some(entry) = self.named(path)? else { return Ok(Answer::Continue) };
        self.check_makable(&entry)?;
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Unknown if mode & libc::S_IFMT == 0 => FileType::RegularFile,
            FileType::Unknown | FileType::Symlink => return Err(Errno::INVAL),
            FileType::Directory => return Err(Errno::PERM),
            kind => kind,
        };
        let mode = Mode::from_raw_mode(self.made_mode(&entry.directory, mode & 0o7777)?);
        // The kernel takes 32 bits of it.
        let device = u64::from(device as u32);
        rustix::fs::mknodat(&entry.directory, entry.name.as_slice(), kind, mode, device)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn unlink(&mut self, path: &PathArgument, directory: bool) -> Result<Answer, Errno> {
        let named = if directory { self.noted(path)? } else { self.named(path)? };
        let Some(entry) = named else { return Ok(Answer::Continue) };
        self.check_removable(&entry)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&entry.directory, entry.name.as_slice(), flags)?;
        if directory {
            self.places.trodden.forget();
        }
        Ok(Answer::Value(0))
    }

    pub(super) fn symlink(&mut self, target: Address, path: &PathArgument) -> Result<Answer, Errno> {
        let Some(entry) = self.noted(path)? else { return Ok(Answer::Continue) };
        let target = self.caller.read_string(target, PATH_MAX);
        let target = target.map_err(|error| if error == Errno::TOOBIG { Errno::NAMETOOLONG } else { error })?;
        self.check_makable(&entry)?;
        rustix::fs::symlinkat(target.as_slice(), &entry.directory, entry.name.as_slice())?;
        self.places.trodden.forget();
        Ok(Answer::Value(0))
    }

    pub(super) fn rename(&mut self, from: &PathArgument, to: &PathArgument, flags: u32) -> Result<Answer, Errno> {
        let Some((from, to)) = self.both(from, to, Last::Entry)? else { return Ok(Answer::Continue) };
        let (from, to) = (self.entry(&from)?, self.entry(&to)?);
        self.check_removable(&from)?;
        self.check_removable(&to)?;
        if from.place != to.place {
            return Err(Errno::XDEV);
        }
        let flags = RenameFlags::from_bits_retain(flags);
        let (old, new) = (from.name.as_slice(), to.name.as_slice());
        rustix::fs::renameat_with(&from.directory, old, &to.directory, new, flags)?;
        // Looked at now: before, it may have been something else. What has taken its place since has been noted itself.
        let moved = rustix::fs::statat(&to.directory, new, AtFlags::SYMLINK_NOFOLLOW);
        let is_file = moved.is_ok_and(|moved| FileType::from_raw_mode(moved.st_mode) == FileType::RegularFile);
        if !is_file || flags.contains(RenameFlags::EXCHANGE) {
            self.places.trodden.forget();
        }
        Ok(Answer::Value(0))
    }

    pub(super) fn link(&mut self, from: &PathArgument, to: &PathArgument) -> Result<Answer, Errno> {
        let last = if from.follow { Last::Follow } else { Last::Keep };
        let Some((old, to)) = self.both(from, to, last)? else { return Ok(Answer::Continue) };
        let old = match &old {
            Site::Tree { path, .. } if path.is_empty() => self.object_of_descriptor(from.dirfd)?,
            site => self.object(site, last)?,
        };
        let to = self.entry(&to)?;
        self.check_makable(&to)?;
        if old.place != to.place {
            return Err(Errno::XDEV);
        }
        self.check_linkable(&old)?;
        self.as_caller()?;
        let proc = self.places.outside.proc();
        let name = to.name.as_slice();
        rustix::fs::linkat(proc, own(&old.fd), &to.directory, name, AtFlags::SYMLINK_FOLLOW)?;
        if super::places::kind_of(old.fd.as_fd())? == FileType::Symlink {
            self.places.trodden.forget();
        }
        Ok(Answer::Value(0))
    }

    /// An empty file that was made without a name may be linked by who holds it, whatever its mode: so only directories
    /// are to be refused here, as `EPERM`.
    fn check_linkable(&self, object: &Object) -> Result<(), Errno> {
        let kind = super::places::kind_of(object.fd.as_fd())?;
        if kind == FileType::Directory { Err(Errno::PERM) } else { Ok(()) }
    }

    /// Where two paths lead, as in [`Eyes::noted`].
    fn both(&mut self, from: &PathArgument, to: &PathArgument, last: Last) -> Result<Option<(Site, Site)>, Errno> {
        let (first, second) = (self.path(from)?, self.path(to)?);
        let by_descriptor = first.is_empty() && from.empty_path;
        let old = if by_descriptor { None } else { self.locate(from, &first, last)? };
        let new = self.locate(to, &second, Last::Entry)?;
        if old.is_none() && new.is_none() && self.places.is_empty() {
            return Ok(None);
        }
        let old = match old {
            Some(site) => site,
            None => self.in_tree(from, first)?,
        };
        let new = match new {
            Some(site) => site,
            None => self.in_tree(to, second)?,
        };
        Ok(Some((old, new)))
    }

    /// A path that leads through the tree alone.
    pub(super) fn in_tree(&mut self, argument: &PathArgument, path: Vec<u8>) -> Result<Site, Errno> {
        let from = if path.first() == Some(&b'/') { None } else { Some(self.descriptor(argument.dirfd)?) };
        Ok(Site::Tree { from, path })
    }
}
