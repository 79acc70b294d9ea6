//! Does a caller's path calls where the kernel cannot do them as they are: at places, and for callers whose ids are not
//! their real ones.
//!
//! A call is about an object, which is opened with `O_PATH` and then acted on, or about a name in a directory ([`super::entries`]).
//! So nothing is looked up twice. This process's root is the step's, its working directory is the real /proc (calls that
//! take nothing but a path reach an object by `self/fd/N` from there), and its umask is 0.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::call::{Address, Call, PathArgument, Times};
use super::owners::Target;
use super::path::{Last, ViewPath};
use super::places::{Kind, Places, kind_of, raw};
use super::procfs::{self, ProcPath};
use super::protected::is_device;
use super::view::{Eyes, Object};
use super::{Answer, Caller, Identity, Restart, Worker};
use crate::sys::{self, Replaced};

impl Places {
    /// Answers a call about a path. `identity` is who the caller is to the kernel, `None` for who the worker began as.
    pub(crate) fn answer(
        &self,
        call: &Call,
        caller: &Caller<'_>,
        worker: &mut Worker,
        identity: Option<&Identity>,
    ) -> Answer {
        let mut eyes = Eyes { places: self, caller, worker, identity, records: None, said: Cell::default() };
        eyes.check_mounts(call).and_then(|()| eyes.perform(call)).into()
    }
}

impl Eyes<'_> {
    pub(super) fn perform(&mut self, call: &Call) -> Result<Answer, Errno> {
        if let Some(answer) = self.at_once(call)? {
            return Ok(answer);
        }
        match *call {
            Call::Open { path, flags, mode } => self.open(&path, flags, mode),
            Call::OpenHow { path, how, size } => self.open_how(&path, how, size),
            Call::OpenTree { path, flags } => self.open_tree(&path, flags),
            Call::Stat { path, flags, buffer } => self.stat(&path, flags, buffer),
            Call::Statx { path, flags, mask, buffer } => self.statx(&path, flags, mask, buffer),
            Call::Statfs { path, buffer } => self.statfs(&path, buffer),
            Call::Access { path, mode, flags } => self.access(&path, mode, flags),
            Call::Readlink { path, buffer, size } => self.readlink(&path, buffer, size),
            Call::Xattr { path, what } => self.xattr(&path, what),
            Call::Chmod { path, mode } => self.chmod(&path, mode),
            Call::Chown { path, uid, gid } => self.chown(&path, uid, gid),
            Call::Utimes { path, times } => self.utimes(&path, times),
            Call::Truncate { path, length } => self.truncate(&path, length),
            Call::Mkdir { path, mode } => self.mkdir(&path, mode),
            Call::Mknod { path, mode, device } => self.mknod(&path, mode, device),
            Call::Unlink { path, directory } => self.unlink(&path, directory),
            Call::Rename { from, to, flags } => self.rename(&from, &to, flags),
            Call::Link { from, to } => self.link(&from, &to),
            Call::Symlink { target, path } => self.symlink(target, &path),
            Call::FileAttributes { path, set, .. } => self.attributes(&path, set),
            Call::WatchPath { path, inotify, mask } => self.watch(&path, inotify, mask),
            Call::NameToHandle { path, handle, mount_id, flags } => self.handle(&path, handle, mount_id, flags),
            Call::Chdir { path } => self.chdir(&path),
            Call::Exec { path, arguments, environment, flags } => self.execute(&path, arguments, environment, flags),
            Call::GetCwd { buffer, size } => self.getcwd(buffer, size),
            Call::Bind { socket, address, length } => self.bind(socket, address, length),
            Call::Connect { socket, address, length } => self.connect(socket, address, length),
            Call::SendTo { socket, data, length, flags, address, address_length } => {
                self.send((socket, flags), (data, length), (address, address_length))
            }
            Call::Terminal { fd, request: super::call::TIOCGPTPEER, argument } if !self.places.is_emulated() => {
                self.open_peer(fd, argument as u32)
            }
            Call::Chroot { path } => self.chroot(&path),
            Call::PeerCredentials { .. }
            | Call::ReadDirectory { .. }
            | Call::Terminal { .. }
            | Call::Uname { .. }
            | Call::Identity(_)
            | Call::Process(_)
            | Call::MapCode { .. }
            | Call::Exit { .. } => Ok(Answer::Continue),
        }
    }

    /// The object of a call that only looks at it; `None` where the kernel may make the call as it is.
    pub(super) fn seen(&mut self, argument: &PathArgument) -> Result<Option<Object>, Errno> {
        let path = self.path(argument)?;
        if path.is_empty() && argument.empty_path {
            return self.seen_by_descriptor(argument.dirfd);
        }
        self.seen_at(argument, &path)
    }

    fn seen_at(&mut self, argument: &PathArgument, path: &[u8]) -> Result<Option<Object>, Errno> {
        let last = if argument.follow { Last::Follow } else { Last::Keep };
        match self.locate(argument, path, last)? {
            Some(site) => self.object(&site, last).map(Some),
            None => Ok(None),
        }
    }

    /// The object of a call that asks for nothing but its `struct stat`: of an open file the place does not matter then,
    /// but for /proc. And whether it is sure to be in no place.
    fn stated(&mut self, argument: &PathArgument) -> Result<Option<(Object, bool)>, Errno> {
        let path = self.path(argument)?;
        if !path.is_empty() || !argument.empty_path {
            let object = self.seen_at(argument, &path)?;
            return Ok(object.map(|object| {
                let inside = object.place.is_none();
                (object, inside)
            }));
        }
        if !self.places.is_emulated() {
            return Ok(self.seen_by_descriptor(argument.dirfd)?.map(|object| (object, false)));
        }
        let fd = self.descriptor(argument.dirfd)?;
        if rustix::fs::fstat(&fd)?.st_dev == self.places.proc_device {
            return Ok(Some((self.object_of_descriptor(argument.dirfd)?, false)));
        }
        Ok(Some((Object { fd, path: None, place: None, is_pipe: false }, !self.places.has_binds())))
    }

    /// What a caller holds a descriptor of it may look at, so the kernel's answer is the right one, but for owners in /proc.
    fn seen_by_descriptor(&mut self, fd: i32) -> Result<Option<Object>, Errno> {
        if self.identity.is_none() && !self.places.is_emulated() {
            return Ok(None);
        }
        self.object_of_descriptor(fd).map(Some)
    }

    /// The object of a call that changes it.
    pub(super) fn changed(&mut self, argument: &PathArgument) -> Result<Option<Object>, Errno> {
        let path = self.path(argument)?;
        let object = if path.is_empty() && argument.empty_path {
            let object = self.object_of_descriptor(argument.dirfd)?;
            self.check_device(&object)?;
            let handed = self.identity.is_some() || self.may_exchange();
            let looked_at = handed || object.place.is_some() || self.places.is_emulated();
            looked_at.then_some(object)
        } else {
            let last = if argument.follow { Last::Follow } else { Last::Keep };
            match self.locate(argument, &path, last)? {
                Some(site) => Some(self.object(&site, last)?),
                None => None,
            }
        };
        if let Some(object) = &object {
            self.check_writable(object)?;
            self.check_own(object)?;
            self.as_owner(object)?;
        }
        Ok(object)
    }

    /// The path of a call, nothing where it is about a descriptor.
    pub(super) fn path(&self, argument: &PathArgument) -> Result<Vec<u8>, Errno> {
        match argument.as_descriptor() {
            Some(_) => Ok(Vec::new()),
            None => match self.said.take() {
                Some((address, path)) if address == argument.address => Ok(path),
                _ => self.caller.read_path(argument.address),
            },
        }
    }

    /// Becomes who the kernel is to check for a change of an object: the caller, but where the object is a file of a
    /// process, whose owner the kernel does not know: there the caller must be the owner.
    fn as_owner(&mut self, object: &Object) -> Result<(), Errno> {
        let Some(ProcPath::Process(path)) = object.path.as_ref().and_then(|path| self.places.proc_path(path)) else {
            return self.as_caller();
        };
        if let Some(identity) = self.identity
            && self.owner_of(&path)?.0 != identity.uid
        {
            return Err(Errno::PERM);
        }
        self.as_self()
    }

    /// Who an object belongs to, where the kernel has it wrong.
    fn shown_owner(&self, object: &Object) -> Option<(u32, u32)> {
        match self.places.proc_path(object.path.as_ref()?)? {
            ProcPath::Process(path) => self.owner_of(&path).ok(),
            _ => None,
        }
    }

    fn stat(&mut self, path: &PathArgument, flags: i32, buffer: Address) -> Result<Answer, Errno> {
        let allowed = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
        // That comes before the path is looked at, here and below.
        if flags & !allowed != 0 {
            return Err(Errno::INVAL);
        }
        let Some((object, inside)) = self.stated(path)? else { return Ok(Answer::Continue) };
        let owner = self.shown_owner(&object);
        let mut bytes = raw(sys::stat_object(object.fd.as_fd(), owner))?;
        if let (None, Some(records)) = (owner, self.records) {
            records.correct_stat(&held(&object.fd)?, &mut bytes, inside);
        }
        self.caller.write(buffer, &bytes)?;
        Ok(Answer::Value(0))
    }

    fn statx(&mut self, path: &PathArgument, flags: i32, mask: u32, buffer: Address) -> Result<Answer, Errno> {
        let allowed = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
        if flags & !(allowed | libc::AT_STATX_SYNC_TYPE) != 0 || mask & libc::STATX__RESERVED as u32 != 0 {
            return Err(Errno::INVAL);
        }
        let Some(object) = self.seen(path)? else { return Ok(Answer::Continue) };
        let place = object.path.as_ref().and_then(|path| self.places.find(path));
        let mount = place.and_then(|(number, rest)| Some((self.places.get(number).mount?, rest.is_empty())));
        let replaced = Replaced { owner: self.shown_owner(&object), mount };
        let flags = flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH);
        let mut bytes = raw(sys::statx_object(object.fd.as_fd(), flags, mask, replaced))?;
        if let (None, Some(records)) = (replaced.owner, self.records) {
            records.correct_statx(&held(&object.fd)?, &mut bytes, object.place.is_none());
        }
        self.caller.write(buffer, &bytes)?;
        Ok(Answer::Value(0))
    }

    fn access(&mut self, path: &PathArgument, mode: i32, flags: i32) -> Result<Answer, Errno> {
        let allowed = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_EACCESS;
        if flags & !allowed != 0 || mode & !7 != 0 {
            return Err(Errno::INVAL);
        }
        let Some(object) = self.seen(path)? else { return Ok(Answer::Continue) };
        if mode & libc::W_OK != 0
            && !matches!(kind_of(object.fd.as_fd())?, FileType::Fifo | FileType::Socket)
            && !is_device(&object)?
        {
            self.check_writable(&object)?;
        }
        if let Some(ProcPath::Process(path)) = object.path.as_ref().and_then(|path| self.places.proc_path(path)) {
            let mode_there = rustix::fs::fstat(&object.fd)?.st_mode;
            return self.check_process(&path, mode_there, mode as u32).map(|()| Answer::Value(0));
        }
        if object.is_pipe {
            return Ok(Answer::Value(0));
        }
        // access(2) asks for the real ids, where it is not told otherwise.
        let real = if flags & libc::AT_EACCESS == 0 { self.real_identity() } else { self.identity.cloned() };
        self.worker.become_identity(real.as_ref())?;
        raw(sys::may_access(object.fd.as_fd(), mode)).map(|()| Answer::Value(0))
    }

    /// The caller by its real ids.
    fn real_identity(&self) -> Option<Identity> {
        let identity = self.identity?;
        let credentials = self.caller.process.credentials();
        let (uid, gid) = (credentials.uid.real, credentials.gid.real);
        if uid == 0 { None } else { Some(Identity { uid, gid, groups: identity.groups.clone() }) }
    }

    fn readlink(&mut self, path: &PathArgument, buffer: Address, size: u64) -> Result<Answer, Errno> {
        if size as i32 <= 0 {
            return Err(Errno::INVAL);
        }
        let bytes = self.path(path)?;
        if bytes.is_empty() && path.empty_path {
            return Ok(Answer::Continue); // a link that the caller holds open
        }
        let Some(site) = self.locate(path, &bytes, Last::Keep)? else { return Ok(Answer::Continue) };
        let object = self.object(&site, Last::Keep)?;
        let text = self.link_text(&object)?;
        let length = text.len().min(size as usize);
        self.caller.write(buffer, &text[..length])?;
        Ok(Answer::Value(length as i64))
    }

    /// What a link holds; of a magic one what the step calls the object that it leads to.
    fn link_text(&mut self, object: &Object) -> Result<Vec<u8>, Errno> {
        if let Some(path) = &object.path
            && let Some((number, rest)) = self.places.find(path)
            && self.places.get(number).kind == Kind::Proc
        {
            match procfs::parse(rest) {
                ProcPath::OwnProcess => return Ok(self.caller.process.pid.to_string().into_bytes()),
                ProcPath::OwnThread => {
                    let (process, thread) = (self.caller.process.pid, self.caller.thread);
                    return Ok(format!("{process}/task/{thread}").into_bytes());
                }
                ProcPath::Process(process) if process.is_magic() => {
                    let link = String::from_utf8_lossy(rest);
                    if let Some(path) = self.places.path_of(&link)? {
                        return Ok(path.as_bytes().to_vec());
                    }
                }
                ProcPath::Process(_) | ProcPath::Global => {}
            }
        }
        // With an empty path that is the error for what is no link: readlink(2).
        let text = rustix::fs::readlinkat(&object.fd, "", Vec::new());
        Ok(text.map_err(|error| if error == Errno::NOENT { Errno::INVAL } else { error })?.into_bytes())
    }

    fn chmod(&mut self, path: &PathArgument, mode: u32) -> Result<Answer, Errno> {
        let Some(object) = self.changed(path)? else { return Ok(Answer::Continue) };
        if kind_of(object.fd.as_fd())? == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        // Modes of the tree's files are for the records to change. The path was another one when these were asked.
        if self.places.is_emulated() && object.place.is_none_or(|number| self.places.get(number).kind == Kind::Bind) {
            return Err(Errno::PERM);
        }
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(self.places.outside.proc(), own(&object.fd), mode, AtFlags::empty())?;
        Ok(Answer::Value(0))
    }

    fn chown(&mut self, path: &PathArgument, uid: u32, gid: u32) -> Result<Answer, Errno> {
        let Some(object) = self.changed(path)? else { return Ok(Answer::Continue) };
        let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
        let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
        rustix::fs::chownat(&object.fd, "", uid, gid, AtFlags::EMPTY_PATH)?;
        Ok(Answer::Value(0))
    }

    fn utimes(&mut self, path: &PathArgument, times: Times) -> Result<Answer, Errno> {
        let Some(object) = self.changed(path)? else { return Ok(Answer::Continue) };
        let times = self.times(times)?;
        rustix::fs::utimensat(self.places.outside.proc(), own(&object.fd), &times, AtFlags::empty())?;
        Ok(Answer::Value(0))
    }

    fn times(&self, times: Times) -> Result<Timestamps, Errno> {
        let now = Timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW as _ };
        let (address, words) = match times {
            Times::Seconds(address) => (address, 2),
            Times::Microseconds(address) | Times::Nanoseconds(address) => (address, 4),
        };
        if address == 0 {
            return Ok(Timestamps { last_access: now, last_modification: now });
        }
        let mut bytes = [0; 32];
        self.caller.read(address, &mut bytes[..words * 8])?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            i64::from_ne_bytes(word)
        };
        let one = |seconds: i64, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
        let micro = |seconds: i64, micros: i64| match micros {
            0..1_000_000 => Ok(one(seconds, micros * 1000)),
            _ => Err(Errno::INVAL),
        };
        let (last_access, last_modification) = match times {
            Times::Seconds(_) => (one(word(0), 0), one(word(1), 0)),
            Times::Microseconds(_) => (micro(word(0), word(1))?, micro(word(2), word(3))?),
            Times::Nanoseconds(_) => (one(word(0), word(1)), one(word(2), word(3))),
        };
        Ok(Timestamps { last_access, last_modification })
    }

    fn truncate(&mut self, path: &PathArgument, length: i64) -> Result<Answer, Errno> {
        let Some(object) = self.changed(path)? else { return Ok(Answer::Continue) };
        let file = CString::new(own(&object.fd)).map_err(|_| Errno::INVAL)?;
        raw(sys::truncate(&file, length)).map(|()| Answer::Value(0))
    }

    /// `file_getattr`, `file_setattr`: flags of some file systems, which can be had by `ioctl` of an open file, too.
    fn attributes(&mut self, path: &PathArgument, set: bool) -> Result<Answer, Errno> {
        let object = if set { self.changed(path)? } else { self.seen(path)? };
        if object.is_some() { Err(Errno::OPNOTSUPP) } else { Ok(Answer::Continue) }
    }

    /// The inotify instance is the caller's; where it cannot be had (Docker's profile denies pidfd_getfd) nothing in a
    /// place can be watched.
    fn watch(&mut self, path: &PathArgument, inotify: i32, mask: u32) -> Result<Answer, Errno> {
        let Some(object) = self.seen(path)? else { return Ok(Answer::Continue) };
        if self.places.is_emulated() {
            let mut arguments = self.caller.notification.arguments;
            arguments[2] |= u64::from(libc::IN_DONT_FOLLOW);
            let path = self.host_path(&object.fd)?;
            let number = self.caller.notification.number;
            return Ok(Answer::Restart(Restart::Path { number, arguments, position: 1, path }));
        }
        self.as_self()?;
        let instance = self.take_descriptor(inotify).map_err(|error| match error {
            Errno::PERM | Errno::NOSYS => Errno::ACCESS,
            error => error,
        })?;
        self.as_caller()?;
        let file = CString::new(own(&object.fd)).map_err(|_| Errno::INVAL)?;
        raw(sys::watch(instance.as_fd(), &file, mask)).map(|number| Answer::Value(number.into()))
    }

    /// A copy of a descriptor of the caller's.
    fn take_descriptor(&self, fd: i32) -> Result<OwnedFd, Errno> {
        use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
        let pid = Pid::from_raw(self.caller.process.pid).ok_or(Errno::SRCH)?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        pidfd_getfd(process, fd, PidfdGetfdFlags::empty())
    }

    fn handle(&mut self, path: &PathArgument, handle: Address, mount_id: Address, flags: i32) -> Result<Answer, Errno> {
        let Some(object) = self.seen(path)? else { return Ok(Answer::Continue) };
        let mut room = [0; 4];
        self.caller.read(handle, &mut room)?;
        let room = u32::from_ne_bytes(room);
        let flags = flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH);
        let (bytes, result) = sys::name_to_handle(object.fd.as_fd(), room, flags);
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match raw(result) {
            Ok(mount) => {
                self.caller.write(handle, &bytes[..8 + length as usize])?;
                self.caller.write(mount_id, &(mount as i32).to_ne_bytes())?;
                Ok(Answer::Value(0))
            }
            Err(Errno::OVERFLOW) => {
                self.caller.write(handle, &bytes[..4])?;
                Err(Errno::OVERFLOW)
            }
            Err(error) => Err(error),
        }
    }

    fn chdir(&mut self, path: &PathArgument) -> Result<Answer, Errno> {
        let Some(object) = self.seen(path)? else { return Ok(Answer::Continue) };
        if kind_of(object.fd.as_fd())? != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        self.check_search(&object)?;
        if object.place.is_some() {
            self.give_directory()?;
        }
        // A descriptor of O_PATH cannot be given; the caller holds this one, which takes the right to read, for a moment.
        self.as_self()?;
        let directory = self.reopen(&object.fd, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Answer::Restart(Restart::ChangeDirectory(directory)))
    }

    /// Whether the caller may pass through a directory.
    pub(super) fn check_search(&mut self, object: &Object) -> Result<(), Errno> {
        if let Some(ProcPath::Process(path)) = object.path.as_ref().and_then(|path| self.places.proc_path(path)) {
            let mode = rustix::fs::fstat(&object.fd)?.st_mode;
            return self.check_process(&path, mode, libc::X_OK as u32);
        }
        self.as_caller()?;
        raw(sys::may_access(object.fd.as_fd(), libc::X_OK))
    }

    /// The kernel's name for an object.
    pub(super) fn host_path(&self, object: &OwnedFd) -> Result<Vec<u8>, Errno> {
        Ok(rustix::fs::readlinkat(self.places.outside.proc(), own(object), Vec::new())?.into_bytes())
    }

    /// Opens the object of an `O_PATH` descriptor.
    pub(super) fn reopen(&self, object: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.places.outside.open_proc(own(object), flags)
    }

    /// Remembers what the step is given, where relative paths may begin at it.
    pub(super) fn note_given(&mut self, file: &OwnedFd, path: Option<&ViewPath>) -> Result<(), Errno> {
        if path.is_some_and(|path| self.places.find(path).is_some()) && kind_of(file.as_fd())? == FileType::Directory {
            self.give_directory()?;
        }
        Ok(())
    }

    /// To be called before the caller is given a directory of a place.
    pub(super) fn give_directory(&mut self) -> Result<(), Errno> {
        self.places.give_directory();
        self.as_self()?;
        self.caller.turn_off_shortcuts()
    }
}

/// The path of a file of this process from the real /proc.
pub(super) fn own(file: &OwnedFd) -> String {
    format!("self/fd/{}", file.as_raw_fd())
}

/// A file of this process, for the records.
fn held(file: &OwnedFd) -> Result<Target, Errno> {
    Target::new(format!("/proc/{}", own(file)), true)
}
