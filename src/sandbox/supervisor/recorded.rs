//! Calls about files where ownership is recorded: the kernel's one id may do everything, so what the caller may do, and
//! whose a file is, is decided here.
//!
//! A caller who is root with root's capabilities mostly goes on natively. For others each directory on the way and the file
//! at the end are checked by the recorded owners and modes, and the call then goes on natively, too, unless it makes
//! something: that is done here, since its owner must be recorded before anybody sees it.

mod attributes;
mod make;
mod reach;
mod search;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::access::{self, Want};
use super::call::{self, Call, PathArgument, Times};
use super::capability::Capability;
use super::credentials::Credentials;
use super::owners::{Look, Records, Target};
use super::path::{Found, Last, ViewPath, Walked};
use super::places::{Mapping, Places};
use super::process::Table;
use super::procfs::{self, ProcPath};
use super::shortcuts::Told;
use super::stat::{Shown, correct_stat, correct_statx};
use super::{Answer, Caller, exec};
use crate::sys;
use reach::Reached;

/// The files of one step.
#[derive(Debug)]
pub(crate) struct Recorded {
    records: Records,
    /// Something of the step has another root.
    chroots: AtomicBool,
}

/// Who calls, and what there is to know for an answer.
struct Asked<'a> {
    caller: &'a Caller<'a>,
    who: Credentials,
    table: &'a Table,
    /// What the step sees, where its paths are not this process's.
    places: Option<&'a Places>,
    /// Root with all that root may do to files: nothing has to be checked.
    is_root: bool,
}

impl Recorded {
    /// The files of a tree of `layers`, the top one first.
    pub(crate) fn read(layers: &[PathBuf]) -> io::Result<Recorded> {
        Ok(Recorded { records: Records::read(layers)?, chroots: AtomicBool::new(false) })
    }

    /// The same for a step whose files are elsewhere than it sees them.
    pub(crate) fn seen_from_outside(mut self, mapping: Mapping) -> Recorded {
        self.records.map(mapping);
        self
    }

    /// Where is told that links, pipes or sockets have records.
    pub(crate) fn told(&self) -> Arc<Told> {
        self.records.told().clone()
    }

    /// Whose files are whose.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Whether something of the step may have another root.
    pub(super) fn has_chroots(&self) -> bool {
        self.chroots.load(Ordering::Relaxed)
    }

    /// Writes what has to lie beside the layer directory `layer`, which may be reached through `tree`.
    pub(crate) fn write(&self, tree: &Path, layer: &Path) -> io::Result<()> {
        self.records.write(tree, layer)
    }

    /// What becomes of `call`. With `places` its paths are those of a step that sees these; what goes on natively is then for
    /// them to do.
    pub(crate) fn answer(
        &self,
        call: &Call,
        caller: &Caller<'_>,
        table: &Table,
        places: Option<&Places>,
    ) -> Result<Answer, Errno> {
        let who = caller.process.credentials();
        let is_root = is_root(&who);
        let asked = Asked { caller, who, table, places, is_root };
        match *call {
            Call::Open { path, flags, mode } => self.open(&asked, &path, flags, mode),
            Call::OpenHow { path, how, size } => self.open_how(&asked, &path, how, size),
            Call::Stat { path, buffer, flags: _ } => self.stat(&asked, &path, buffer),
            Call::Statx { path, flags, mask, buffer } => self.statx(&asked, &path, flags, mask, buffer),
            Call::Chown { path, uid, gid } => self.chown(&asked, &path, uid, gid),
            Call::Chmod { path, mode } => self.chmod(&asked, &path, mode),
            Call::Xattr { path, what } => self.xattr(&asked, &path, what),
            Call::Mkdir { path, mode } => self.mkdir(&asked, &path, mode),
            Call::Mknod { path, mode, device } => self.mknod(&asked, &path, mode, device),
            Call::Symlink { target, path } => self.symlink(&asked, target, &path),
            Call::Link { from, to } => self.link(&asked, &from, &to),
            Call::Rename { from, to, flags } => self.rename(&asked, &from, &to, flags),
            Call::Exec { path, .. } => self.exec(&asked, &path),
            Call::Chroot { path } => self.chroot(&asked, &path),
            Call::Access { path, mode, flags } => self.access(&asked, &path, mode, flags),
            _ if is_root => Ok(Answer::Continue),
            Call::OpenTree { path, .. }
            | Call::Statfs { path, .. }
            | Call::Readlink { path, .. }
            | Call::NameToHandle { path, .. }
            | Call::FileAttributes { path, .. } => self.only_search(&asked, &path),
            Call::Chdir { path } => self.check(&asked, &path, Want::EXECUTE),
            Call::WatchPath { path, .. } => self.check(&asked, &path, Want::READ),
            Call::Truncate { path, .. } => self.truncate(&asked, &path),
            Call::Utimes { path, times } => self.utimes(&asked, &path, times),
            Call::Unlink { path, .. } => self.unlink(&asked, &path),
            Call::Bind { address, length, .. } => self.bind(&asked, address, length),
            _ => Ok(Answer::Continue),
        }
    }

    fn reach(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Reached, Errno> {
        match asked.places {
            Some(places) => reach::from_outside(asked.caller, places, &self.records, path),
            None => reach::reach(asked.caller, path, self.has_chroots()),
        }
    }

    /// The file that a caller who is not root may reach, and its path; nothing may be there.
    fn search(&self, asked: &Asked<'_>, path: &PathArgument, last: Last) -> Result<(Target, Option<Walked>), Errno> {
        let reached = self.reach(asked, path)?;
        // In another root only the file at the end is checked.
        if reached.said.is_empty() || self.has_chroots() {
            return Ok((reached.target, None));
        }
        let walked = search::search(asked, &self.records, path.dirfd, &reached.said, last)?;
        let is_magic = walked.found == Found::Magic && last == Last::Follow;
        Ok((Target::new(self.records.host(&walked.path).as_bytes(), is_magic)?, Some(walked)))
    }

    /// The file at `path`, that a caller who is not root may reach, and all about it; `ENOENT` where there is none.
    fn find(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<(Target, Look), Errno> {
        let target =
            if asked.is_root { self.reach(asked, path)?.target } else { self.search(asked, path, last(path))?.0 };
        let look = self.records.look(&target)?;
        Ok((target, look))
    }

    fn only_search(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Answer, Errno> {
        self.search(asked, path, last(path))?;
        Ok(Answer::Continue)
    }

    /// Lets a call through for who may do `want` to the file.
    fn check(&self, asked: &Asked<'_>, path: &PathArgument, want: Want) -> Result<Answer, Errno> {
        let (_, look) = self.find(asked, path)?;
        access::check(&asked.who, &look.owned, want)?;
        Ok(Answer::Continue)
    }

    fn truncate(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Answer, Errno> {
        let (target, look) = self.find(asked, path)?;
        access::check(&asked.who, &look.owned, Want::WRITE)?;
        self.written(asked, &target, &look)?;
        Ok(Answer::Continue)
    }

    fn access(&self, asked: &Asked<'_>, path: &PathArgument, mode: i32, flags: i32) -> Result<Answer, Errno> {
        let effective = flags & libc::AT_EACCESS != 0;
        let who = if effective { asked.who.clone() } else { asked.who.real() };
        if is_root(&who) {
            return Ok(Answer::Continue);
        }
        let asked = Asked { caller: asked.caller, table: asked.table, places: asked.places, is_root: false, who };
        let (_, look) = self.find(&asked, path)?;
        if mode & 7 != 0 && is_checked(&look) {
            access::check(&asked.who, &look.owned, Want(mode as u32 & 7))?;
        }
        Ok(Answer::Continue)
    }

    fn utimes(&self, asked: &Asked<'_>, path: &PathArgument, times: Times) -> Result<Answer, Errno> {
        let (_, look) = self.find(asked, path)?;
        let now = match times {
            Times::Seconds(at) | Times::Microseconds(at) => at == 0,
            Times::Nanoseconds(at) => at == 0 || are_now(asked.caller, at)?,
        };
        if !access::is_owner(&asked.who, &look.owned) {
            let written = if now { access::check(&asked.who, &look.owned, Want::WRITE) } else { Err(Errno::PERM) };
            // Whoever has it open for writing may say that it was written now.
            if path.as_descriptor().is_none() || !now {
                written?;
            }
        }
        Ok(Answer::Continue)
    }

    fn stat(&self, asked: &Asked<'_>, path: &PathArgument, buffer: call::Address) -> Result<Answer, Errno> {
        let target = self.stat_target(asked, path)?;
        if asked.places.is_some() {
            return Ok(Answer::Continue);
        }
        let Some(shown) = self.shown(asked, &target)? else { return Ok(Answer::Continue) };
        let flags = if target.follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        let mut bytes = sys::stat_bytes(&target.path, flags).map_err(errno)?;
        correct_stat(&mut bytes, &shown);
        asked.caller.write(buffer, &bytes)?;
        Ok(Answer::Value(0))
    }

    fn statx(
        &self,
        asked: &Asked<'_>,
        path: &PathArgument,
        flags: i32,
        mask: u32,
        buffer: call::Address,
    ) -> Result<Answer, Errno> {
        let target = self.stat_target(asked, path)?;
        if asked.places.is_some() {
            return Ok(Answer::Continue);
        }
        let Some(shown) = self.shown(asked, &target)? else { return Ok(Answer::Continue) };
        let kept = flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW);
        let follow = if target.follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        let mut bytes = sys::statx_bytes(&target.path, kept | follow, mask).map_err(errno)?;
        correct_statx(&mut bytes, &shown);
        asked.caller.write(buffer, &bytes)?;
        Ok(Answer::Value(0))
    }

    fn stat_target(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Target, Errno> {
        match asked.is_root {
            true => Ok(self.reach(asked, path)?.target),
            false => Ok(self.search(asked, path, last(path))?.0),
        }
    }

    /// What a stat call is to tell, where that is not what the kernel does.
    fn shown(&self, asked: &Asked<'_>, target: &Target) -> Result<Option<Shown>, Errno> {
        match self.records.told_otherwise(target) {
            Ok(Some(shown)) => Ok(Some(shown)),
            Ok(None) => self.process_shown(asked, target),
            // That costs less than to let the kernel say it.
            Err(Errno::NOENT) if !target.path.to_bytes().starts_with(b"/proc/") => Err(Errno::NOENT),
            // The kernel says it best.
            Err(_) => Ok(None),
        }
    }

    /// /proc/PID belongs to whom the process runs as.
    fn process_shown(&self, asked: &Asked<'_>, target: &Target) -> Result<Option<Shown>, Errno> {
        let Some(below) = target.path.to_bytes().strip_prefix(b"/proc/") else { return Ok(None) };
        let ProcPath::Process(process) = procfs::parse(below) else { return Ok(None) };
        if process.is_magic() || process.leads_elsewhere() {
            return Ok(None);
        }
        let Ok(of) = asked.table.process_of(process.id as i32) else { return Ok(None) };
        let (of, native) = (of.credentials(), target.stat()?);
        let owned = access::Owned { uid: of.uid.effective, gid: of.gid.effective, mode: native.st_mode };
        Ok(Some(Shown { owned, device: None }))
    }

    fn exec(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Answer, Errno> {
        let target = match asked.is_root {
            true => self.reach(asked, path)?.target,
            false => self.search(asked, path, last(path))?.0,
        };
        // Root as it began gains nothing but by a record, and most programs have none.
        if asked.is_root && asked.who.is_whole_root() && matches!(self.records.recorded(&target), Ok(None) | Err(_)) {
            return Ok(Answer::Continue);
        }
        let look = self.records.look(&target)?;
        if FileType::from_raw_mode(look.native.st_mode) != FileType::RegularFile {
            return Ok(Answer::Continue);
        }
        access::check(&asked.who, &look.owned, Want::EXECUTE)?;
        let capability = attributes::capability(&target)?;
        let privilege = exec::privilege(&look.owned, capability.as_deref(), || exec::is_script(&target.path))?;
        exec::begin(asked.caller, &asked.who, look.id(), &privilege)?;
        Ok(Answer::Continue)
    }

    fn chroot(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Answer, Errno> {
        if !asked.is_root {
            self.check(asked, path, Want::EXECUTE)?;
        }
        if !asked.who.has(Capability::SYS_CHROOT) {
            return Err(Errno::PERM);
        }
        self.chroots.store(true, Ordering::Relaxed);
        Ok(Answer::Continue)
    }

    fn unlink(&self, asked: &Asked<'_>, path: &PathArgument) -> Result<Answer, Errno> {
        let (_, walked) = self.search(asked, path, Last::Entry)?;
        if let Some(walked) = walked
            && walked.found != Found::Missing
            && let Some((dir, _)) = walked.path.split()
        {
            self.check_removal(asked, &dir, &walked.path)?;
        }
        Ok(Answer::Continue)
    }

    fn check_removal(&self, asked: &Asked<'_>, dir: &ViewPath, file: &ViewPath) -> Result<(), Errno> {
        let (dir, file) = (search::owned_at(&self.records, dir)?, search::owned_at(&self.records, file)?);
        access::check_removal(&asked.who, &dir, &file)
    }

    /// `bind`: a local socket with a path is a file.
    fn bind(&self, asked: &Asked<'_>, address: call::Address, length: u32) -> Result<Answer, Errno> {
        let mut bytes = vec![0; (length as usize).min(size_of::<libc::sockaddr_un>())];
        asked.caller.read(address, &mut bytes)?;
        let family = bytes.get(..2).map(|family| u16::from_ne_bytes([family[0], family[1]]));
        let path = bytes.get(2..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        if family != Some(libc::AF_UNIX as u16) || path.is_empty() || self.has_chroots() {
            return Ok(Answer::Continue);
        }
        let walked = search::search(asked, &self.records, call::CWD, path, Last::Entry)?;
        if let (Found::Missing, Some((dir, _))) = (walked.found, walked.path.split()) {
            let dir = search::owned_at(&self.records, &dir)?;
            access::check(&asked.who, &dir, Want::ENTRIES)?;
            let mode = 0o140000 | 0o777 & !reach::umask(asked.caller)?;
            let owned = access::created(&asked.who, &dir, mode);
            self.records.tell(walked.path.relative().to_vec(), owned)?;
        }
        Ok(Answer::Continue)
    }
}

/// Whether nothing that is done to a file has to be checked, nor to be recorded of a file that is made.
pub(super) fn is_root(who: &Credentials) -> bool {
    let all = [
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FOWNER,
        Capability::FSETID,
        Capability::MKNOD,
        Capability::SETFCAP,
    ];
    (who.uid.fs, who.gid.fs) == (0, 0) && all.into_iter().all(|one| who.has(one))
}

/// How the last name of `path` is looked up.
fn last(path: &PathArgument) -> Last {
    if path.follow { Last::Follow } else { Last::Keep }
}

/// Whether the kernel would check who opens the file: not for what is already open, a pipe or a socket by a magic link.
fn is_checked(look: &Look) -> bool {
    look.native.st_mode & 0o170000 != 0o140000
}

/// Whether both times of a utimensat(2) are `UTIME_NOW`, or one is and the other is left.
fn are_now(caller: &Caller<'_>, at: call::Address) -> Result<bool, Errno> {
    let mut bytes = [0; 32];
    caller.read(at, &mut bytes)?;
    let nanos = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    let (first, second) = (nanos(8), nanos(24));
    Ok((first, second) == (libc::UTIME_NOW, libc::UTIME_NOW) || (first, second) == (libc::UTIME_OMIT, libc::UTIME_OMIT))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
