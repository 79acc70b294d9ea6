//! Opening files. See [`super::perform`].

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::call::{Address, PathArgument};
use super::path::{End, Found, Last, Rules, ViewPath, Walked};
use super::places::{Kind, is_directory, kind_of, raw};
use super::procfs::{ProcPath, ProcessPath, Synthesised};
use super::protected::is_multiplexer;
use super::view::{Eyes, Object, Site};
use super::{Answer, Restart, status};
use crate::sys;

/// Size of the first `struct open_how`, and the largest that is looked at.
const OPEN_HOW: usize = 24;
const PAGE: u64 = 4096;

/// How long is waited at first for the other side of a pipe.
const PAUSE: Duration = Duration::from_micros(100);

/// What openat2(2) takes.
const RESOLVE_ALL: u64 = 0x3f;

/// What the flags of an open call ask for.
#[derive(Clone, Copy)]
struct Wanted {
    flags: OFlags,
    mode: u32,
}

impl Wanted {
    fn has(self, flag: OFlags) -> bool {
        self.flags.contains(flag)
    }

    fn writes(self) -> bool {
        self.flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) && !self.has(OFlags::PATH)
    }

    /// Bits as in access(2).
    fn access(self) -> u32 {
        match self.flags.bits() as i32 & libc::O_ACCMODE {
            libc::O_RDONLY => 4,
            libc::O_WRONLY => 2,
            _ => 6,
        }
    }

    /// The flags to open an object with that has been found.
    fn found(self) -> OFlags {
        let made = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        // This process must not get the terminal as its own.
        self.flags.difference(made) | OFlags::NOCTTY | OFlags::CLOEXEC
    }
}

impl Eyes<'_> {
    /// `open`, `openat`, `creat`.
    pub(super) fn open(&mut self, argument: &PathArgument, flags: i32, mode: u32) -> Result<Answer, Errno> {
        let path = self.path(argument)?;
        // What is not known is ignored by these calls.
        let flags = OFlags::from_bits_retain(flags as u32);
        let last = if argument.follow { Last::Follow } else { Last::Keep };
        match self.locate(argument, &path, last)? {
            None => Ok(Answer::Continue),
            Some(site) => self.open_site(&site, last, Wanted { flags, mode: mode & 0o7777 }),
        }
    }

    /// `openat2`.
    pub(super) fn open_how(&mut self, argument: &PathArgument, how: Address, size: u64) -> Result<Answer, Errno> {
        if size < OPEN_HOW as u64 {
            return Err(Errno::INVAL);
        }
        if size > PAGE {
            return Err(Errno::TOOBIG);
        }
        let mut bytes = vec![0; size as usize];
        self.caller.read(how, &mut bytes)?;
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at * 8 + byte]));
        let (flags, mode, resolve) = (word(0), word(1), word(2));
        if bytes[OPEN_HOW..].iter().any(|byte| *byte != 0) {
            return Err(Errno::TOOBIG);
        }
        let path = self.path(argument)?;
        let follow = argument.follow && !follows_not(flags);
        let last = if follow { Last::Follow } else { Last::Keep };
        let rules = Rules::of_openat2(resolve);
        let site = match rules == Rules::default() {
            true => self.locate(argument, &path, last)?,
            false => self.locate_within(argument, &path, last, rules)?,
        };
        let Some(site) = site else { return Ok(Answer::Continue) };
        if flags > u64::from(u32::MAX) || mode & !0o7777 != 0 || resolve & !RESOLVE_ALL != 0 {
            return Err(Errno::INVAL);
        }
        let flags = OFlags::from_bits_retain(flags as u32);
        self.open_site(&site, last, Wanted { flags, mode: mode as u32 })
    }

    /// `open_tree`: a clone takes the right to mount, which no step has.
    pub(super) fn open_tree(&mut self, argument: &PathArgument, flags: u32) -> Result<Answer, Errno> {
        if flags & libc::OPEN_TREE_CLONE != 0 {
            return Ok(Answer::Continue);
        }
        let path = self.path(argument)?;
        if path.is_empty() && argument.empty_path {
            return Ok(Answer::Continue); // as dup(2)
        }
        let last = if argument.follow { Last::Follow } else { Last::Keep };
        let mut flags = if flags & libc::OPEN_TREE_CLOEXEC != 0 { OFlags::CLOEXEC } else { OFlags::empty() };
        flags.set(OFlags::NOFOLLOW, !argument.follow);
        match self.locate(argument, &path, last)? {
            None => Ok(Answer::Continue),
            Some(site) => self.open_site(&site, last, Wanted { flags: flags | OFlags::PATH, mode: 0 }),
        }
    }

    /// `O_PATH`: the caller opens the object itself, by its name in a directory.
    fn name_object(&mut self, walked: &Walked, last: Last, wanted: Wanted) -> Result<Answer, Errno> {
        let object = self.object(&Site::At(walked.clone()), last)?;
        if wanted.has(OFlags::DIRECTORY) && !is_directory(object.fd.as_fd())? {
            return Err(Errno::NOTDIR);
        }
        self.note_given(&object.fd, object.path.as_ref())?;
        self.as_self()?;
        let (directory, name) = self.directory_and_name(&object, walked)?;
        let directory = self.reopen(&directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if self.places.find(&walked.path).is_some() {
            self.give_directory()?;
        }
        let kept = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut flags = wanted.flags.intersection(kept);
        flags.set(OFlags::NOFOLLOW, !(walked.found == Found::Magic && last == Last::Follow));
        Ok(Answer::Restart(Restart::Name { directory, name, flags }))
    }

    /// A directory and a name there by which the kernel finds an object.
    fn directory_and_name(&mut self, object: &Object, walked: &Walked) -> Result<(OwnedFd, Vec<u8>), Errno> {
        if is_directory(object.fd.as_fd())? && walked.found != Found::Magic {
            return Ok((rustix::io::fcntl_dupfd_cloexec(&object.fd, 0)?, b".".to_vec()));
        }
        if let Some((number, [])) = self.places.find(&walked.path) {
            // A file shown at a path of its own: its name is that where it really is.
            return self.places.real_name(number);
        }
        let (above, name) = walked.path.split().ok_or(Errno::NOENT)?;
        Ok((self.node(&above)?.fd, name.to_vec()))
    }

    fn open_site(&mut self, site: &Site, last: Last, wanted: Wanted) -> Result<Answer, Errno> {
        match site {
            Site::Tree { path, .. } if self.places.is_emulated() => self.open_from_outside(path, last, wanted),
            Site::Tree { from, path } => self.open_in_tree(from.as_ref(), path, wanted),
            Site::At(walked) => self.open_walked(walked, last, wanted),
        }
    }

    /// Opens as the caller what the kernel finds by itself.
    fn open_in_tree(&mut self, from: Option<&OwnedFd>, path: &[u8], wanted: Wanted) -> Result<Answer, Errno> {
        self.as_caller()?;
        let from_fd = from.map_or(CWD, AsFd::as_fd);
        let named = OFlags::PATH | OFlags::CLOEXEC | wanted.flags.intersection(OFlags::NOFOLLOW);
        let is_left = match from {
            Some(_) => !self.may_exchange(),
            None => !self.places.has_given_directory(),
        };
        if wanted.has(OFlags::PATH) {
            // Whether the caller may pass through the directories is the question; the descriptor is its own to make.
            openat(from_fd, path, named, Mode::empty())?;
            if is_left {
                return Ok(Answer::Continue);
            }
            self.as_self()?;
            let whole = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = match from {
                Some(from) => self.reopen(from, whole)?,
                None => openat(CWD, "/", whole, Mode::empty())?,
            };
            let flags = wanted.flags.intersection(named | OFlags::DIRECTORY);
            return Ok(Answer::Restart(Restart::Name { directory, name: path.to_vec(), flags }));
        }
        let making = wanted.has(OFlags::CREATE) || wanted.has(OFlags::TMPFILE);
        match openat(from_fd, path, named, Mode::empty()) {
            Ok(object) => {
                let kind = kind_of(object.as_fd())?;
                if !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink) {
                    // To wait for what only the caller may wait for, and to give it its terminal.
                    raw(sys::may_access(object.as_fd(), wanted.access() as i32))?;
                    if is_left {
                        return Ok(Answer::Continue);
                    }
                    let object = Object { fd: object, path: None, place: None, is_pipe: false };
                    return self.open_found(&object, wanted);
                }
            }
            Err(Errno::NOENT) if making => {}
            Err(error) => return Err(error),
        }
        let mode = if making { self.mode_in_tree(from, path, wanted)? } else { 0 };
        let flags = wanted.flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = openat(from_fd, path, flags, Mode::from_raw_mode(mode))?;
        Ok(Answer::Descriptor { fd, close_on_exec: wanted.has(OFlags::CLOEXEC) })
    }

    /// Opens what is in a tree that is not the caller's root to the kernel. Nothing is waited for: what would have to be is
    /// a pipe.
    fn open_from_outside(&mut self, path: &[u8], last: Last, wanted: Wanted) -> Result<Answer, Errno> {
        if wanted.has(OFlags::PATH) {
            let object = self.object(&Site::Tree { from: None, path: path.to_vec() }, last)?;
            return self.name_host(&object, wanted);
        }
        let mut flags = wanted.flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        flags.set(OFlags::NOFOLLOW, last != Last::Follow);
        let makes_unnamed = wanted.flags.bits() & OFlags::TMPFILE.bits() == OFlags::TMPFILE.bits();
        let mode = if makes_unnamed { wanted.mode & !self.umask()? } else { wanted.mode };
        let fd = match self.places.open_in_tree(None, path, flags, Mode::from_raw_mode(mode | 0o600)) {
            Ok(fd) => fd,
            Err(Errno::LOOP) => {
                let walked = super::path::walk(self, &ViewPath::root(), path, last)?;
                return self.open_walked(&walked, last, wanted);
            }
            // A pipe that nobody reads.
            Err(Errno::NXIO) if !wanted.has(OFlags::NONBLOCK) => {
                let object = self.object(&Site::Tree { from: None, path: path.to_vec() }, last)?;
                if kind_of(object.fd.as_fd())? != FileType::Fifo {
                    return Err(Errno::NXIO);
                }
                self.open_fifo(&object, wanted)?
            }
            Err(error) => return Err(error),
        };
        if !wanted.has(OFlags::NONBLOCK) {
            if wanted.access() == 4 && kind_of(fd.as_fd())? == FileType::Fifo {
                self.wait_for_writer(&fd)?;
            }
            // Of the others it takes those that can be changed, and they are as they were asked for.
            rustix::fs::fcntl_setfl(&fd, wanted.flags)?;
        }
        Ok(Answer::Descriptor { fd, close_on_exec: wanted.has(OFlags::CLOEXEC) })
    }

    /// `O_PATH` of an object by the kernel's name for it: the caller opens it itself.
    fn name_host(&mut self, object: &Object, wanted: Wanted) -> Result<Answer, Errno> {
        let kept = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let flags = wanted.flags.intersection(kept) | OFlags::NOFOLLOW;
        let arguments = [super::call::CWD as u64, 0, u64::from(flags.bits()), 0, 0, 0];
        let path = self.host_path(&object.fd)?;
        Ok(Answer::Restart(Restart::Path { number: super::numbers::OPENAT, arguments, position: 1, path }))
    }

    fn mode_in_tree(&mut self, from: Option<&OwnedFd>, path: &[u8], wanted: Wanted) -> Result<u32, Errno> {
        let from = match from {
            Some(from) => Some(rustix::io::fcntl_dupfd_cloexec(from, 0)?),
            None => None,
        };
        let site = Site::Tree { from, path: path.to_vec() };
        let directory = if wanted.has(OFlags::TMPFILE) {
            self.object(&site, Last::Follow)?.fd
        } else {
            self.entry(&site)?.directory
        };
        self.made_mode(&directory, wanted.mode)
    }

    fn open_walked(&mut self, walked: &Walked, last: Last, wanted: Wanted) -> Result<Answer, Errno> {
        let creates = wanted.has(OFlags::CREATE) && !wanted.has(OFlags::PATH);
        if creates && (walked.slash || walked.end != End::Name) {
            return Err(Errno::ISDIR);
        }
        match walked.found {
            Found::Missing if creates => return self.create(walked, wanted),
            Found::Missing => return Err(Errno::NOENT),
            _ if creates && wanted.has(OFlags::EXCL) => return Err(Errno::EXIST),
            Found::Link if !wanted.has(OFlags::PATH) => return Err(Errno::LOOP),
            Found::Magic if last != Last::Follow && !wanted.has(OFlags::PATH) => return Err(Errno::LOOP),
            _ => {}
        }
        if wanted.has(OFlags::PATH) {
            return self.name_object(walked, last, wanted);
        }
        let object = self.object(&Site::At(walked.clone()), last)?;
        self.open_found(&object, wanted)
    }

    fn open_found(&mut self, object: &Object, wanted: Wanted) -> Result<Answer, Errno> {
        let close_on_exec = wanted.has(OFlags::CLOEXEC);
        let fd = match self.open_object(object, wanted)? {
            Opened::File(fd) => fd,
            Opened::Terminal(terminal) => {
                return Ok(Answer::Restart(Restart::ControllingTerminal { terminal, close_on_exec }));
            }
        };
        self.note_given(&fd, object.path.as_ref())?;
        Ok(Answer::Descriptor { fd, close_on_exec })
    }

    /// Makes a file that is not there.
    fn create(&mut self, walked: &Walked, wanted: Wanted) -> Result<Answer, Errno> {
        let entry = self.entry(&Site::At(walked.clone()))?;
        self.check_makable(&entry)?;
        let mode = Mode::from_raw_mode(self.made_mode(&entry.directory, wanted.mode)?);
        // Exclusively: what somebody else puts there meanwhile could be a link or a pipe.
        let flags = wanted.flags | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&entry.directory, entry.name.as_slice(), flags, mode)?;
        Ok(Answer::Descriptor { fd, close_on_exec: wanted.has(OFlags::CLOEXEC) })
    }

    fn open_object(&mut self, object: &Object, wanted: Wanted) -> Result<Opened, Errno> {
        let kind = kind_of(object.fd.as_fd())?;
        if kind == FileType::Directory && wanted.has(OFlags::CREATE) {
            return Err(Errno::ISDIR);
        }
        if wanted.has(OFlags::DIRECTORY) && kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let place = object.place.map(|number| self.places.get(number).kind);
        let is_file = matches!(kind, FileType::RegularFile | FileType::Directory);
        if wanted.writes() && is_file {
            self.check_writable(object)?;
        }
        let path = object.path.as_ref();
        if let Some(ProcPath::Process(process)) = path.and_then(|path| self.places.proc_path(path)) {
            let mode = rustix::fs::fstat(&object.fd)?.st_mode;
            self.check_process(&process, mode, wanted.access())?;
            self.as_self()?;
            if let Some(what) = process.synthesised()
                && (what != Synthesised::Maps || self.places.is_emulated())
            {
                return self.synthesise(what, &process, wanted).map(Opened::File);
            }
            return self.reopen(&object.fd, wanted.found()).map(Opened::File);
        }
        if object.is_pipe {
            self.as_self()?;
            return self.reopen(&object.fd, wanted.found()).map(Opened::File);
        }
        self.as_caller()?;
        match (place, kind) {
            (Some(Kind::Pts), FileType::CharacterDevice) => self.open_terminal(object, wanted),
            (Some(Kind::Bind), FileType::CharacterDevice) if is_own_terminal(&object.fd)? => {
                self.open_own_terminal(wanted).map(Opened::File)
            }
            (_, FileType::Fifo) => self.open_fifo(object, wanted).map(Opened::File),
            (_, FileType::Socket) => Err(Errno::NXIO),
            (_, FileType::Directory) if wanted.flags.bits() & OFlags::TMPFILE.bits() == OFlags::TMPFILE.bits() => {
                let mode = Mode::from_raw_mode(self.made_mode(&object.fd, wanted.mode)?);
                openat(&object.fd, ".", wanted.flags | OFlags::CLOEXEC, mode).map(Opened::File)
            }
            _ => self.reopen(&object.fd, wanted.found()).map(Opened::File),
        }
    }

    fn open_terminal(&mut self, object: &Object, wanted: Wanted) -> Result<Opened, Errno> {
        if is_multiplexer(object) {
            return self.places.terminals.open_new(&self.places.outside, wanted.found()).map(Opened::File);
        }
        let fd = self.reopen(&object.fd, wanted.found())?;
        if wanted.has(OFlags::NOCTTY) || !self.wants_terminal()? {
            return Ok(Opened::File(fd));
        }
        Ok(Opened::Terminal(fd))
    }

    /// `TIOCGPTPEER`: the other side of a terminal. By itself the caller may open nothing in /dev/pts, whose other terminals
    /// are the machine's.
    pub(super) fn open_peer(&mut self, terminal: i32, flags: u32) -> Result<Answer, Errno> {
        self.as_self()?;
        let info = self.places.outside.read_proc(format!("{}/fdinfo/{terminal}", self.caller.thread));
        // Of what is no terminal the kernel says so.
        let Some(number) = info.ok().and_then(|info| terminal_number(&info)) else { return Ok(Answer::Continue) };
        let node = self.places.terminals.open_node(&self.places.outside, &number)?;
        let object = Object { fd: node, path: None, place: None, is_pipe: false };
        let wanted = Wanted { flags: OFlags::from_bits_retain(flags), mode: 0 };
        let close_on_exec = wanted.has(OFlags::CLOEXEC);
        Ok(match self.open_terminal(&object, wanted)? {
            Opened::File(fd) => Answer::Descriptor { fd, close_on_exec },
            Opened::Terminal(terminal) => Answer::Restart(Restart::ControllingTerminal { terminal, close_on_exec }),
        })
    }

    /// Whether the first terminal that the caller opens becomes its controlling one: it leads a session that has none.
    fn wants_terminal(&mut self) -> Result<bool, Errno> {
        let (session, terminal) = self.session()?;
        Ok(session == self.caller.process.pid && terminal == 0)
    }

    /// The caller's session, and the device number of its terminal.
    fn session(&mut self) -> Result<(i32, u32), Errno> {
        self.as_self()?;
        let stat = self.places.outside.read_proc(format!("{}/stat", self.caller.process.pid))?;
        let after = stat.iter().rposition(|byte| *byte == b')').map_or(&[][..], |end| &stat[end + 1..]);
        let mut fields = after.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).skip(3);
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<i32>().ok();
        Ok((number().ok_or(Errno::SRCH)?, number().ok_or(Errno::SRCH)? as u32))
    }

    /// `/dev/tty`: opened here, the machine's would be this process's.
    fn open_own_terminal(&mut self, wanted: Wanted) -> Result<OwnedFd, Errno> {
        let number = self.session()?.1;
        // proc_pid_stat(5): the minor number is in bits 31 to 20 and 7 to 0, the major one in 15 to 8.
        let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
        if !(136..144).contains(&major) {
            return Err(Errno::NXIO);
        }
        let path = format!("dev/pts/{}", (major - 136) * 0x10_0000 + minor);
        openat(self.places.outside.root(), path, wanted.found(), Mode::empty())
    }

    /// Opens a pipe with a name, which waits for the other side: for as long as the caller does.
    fn open_fifo(&mut self, object: &Object, wanted: Wanted) -> Result<OwnedFd, Errno> {
        let flags = wanted.found() | OFlags::NONBLOCK;
        if wanted.has(OFlags::NONBLOCK) || wanted.access() == 6 {
            return self.reopen(&object.fd, wanted.found());
        }
        let fd = if wanted.access() == 2 {
            let mut pause = PAUSE;
            loop {
                match self.reopen(&object.fd, flags) {
                    Err(Errno::NXIO) => self.pause(&mut pause)?, // nobody reads yet
                    other => break other?,
                }
            }
        } else {
            let fd = self.reopen(&object.fd, flags)?;
            self.wait_for_writer(&fd)?;
            fd
        };
        let now = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, now.difference(OFlags::NONBLOCK))?;
        Ok(fd)
    }

    /// Waits for as long as the caller does until somebody has opened a pipe for writing.
    fn wait_for_writer(&self, fd: &OwnedFd) -> Result<(), Errno> {
        let (_reader, other) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let mut pause = PAUSE;
        // Without a writer there is an end of file at once, with one nothing yet.
        let mut seen = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
        while rustix::pipe::tee(fd, &other, 1, SpliceFlags::NONBLOCK) == Ok(0)
            && rustix::event::poll(&mut seen, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0
        {
            self.pause(&mut pause)?;
        }
        Ok(())
    }

    fn pause(&self, pause: &mut Duration) -> Result<(), Errno> {
        std::thread::sleep(*pause);
        *pause = (*pause * 2).min(Duration::from_millis(10));
        if self.caller.is_waiting() { Ok(()) } else { Err(Errno::INTR) }
    }

    /// A file with what stands at a path of ours.
    fn synthesise(&mut self, what: Synthesised, of: &ProcessPath<'_>, wanted: Wanted) -> Result<OwnedFd, Errno> {
        let thread = of.thread.unwrap_or(of.id);
        if wanted.access() != 4 {
            return Err(Errno::ACCESS);
        }
        let (name, text) = match what {
            Synthesised::Mounts => ("mounts", self.places.mounts.mounts()),
            Synthesised::MountInfo => ("mountinfo", self.places.mounts.mountinfo()),
            Synthesised::MountStats => ("mountstats", self.places.mounts.mountstats()),
            Synthesised::Maps => {
                let name = String::from_utf8_lossy(of.rest).into_owned();
                let real = self.places.outside.read_proc(format!("{thread}/{name}"))?;
                ("maps", self.places.with_own_paths(&real))
            }
            Synthesised::Status => ("status", self.status(thread)?),
        };
        let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        self.reopen(&file, wanted.found())
    }

    /// `/proc/PID/status` with the ids that the process believes in.
    fn status(&self, thread: u32) -> Result<Vec<u8>, Errno> {
        let real = self.places.outside.read_proc(format!("{thread}/status"))?;
        let process = self.places.table.process_of(thread as i32)?;
        Ok(status::with_credentials(&real, &process.credentials()))
    }
}

/// What opening a terminal may be, too.
enum Opened {
    File(OwnedFd),
    /// It is to become the caller's controlling terminal.
    Terminal(OwnedFd),
}

/// The number of a terminal, from what /proc/PID/fdinfo says of its first side (`ptm_unix98_ops`).
fn terminal_number(info: &[u8]) -> Option<Vec<u8>> {
    let line = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"tty-index:"))?;
    Some(line.trim_ascii().to_vec())
}

/// Whether it is `/dev/tty`.
fn is_own_terminal(device: &OwnedFd) -> Result<bool, Errno> {
    let number = rustix::fs::fstat(device)?.st_rdev;
    Ok((rustix::fs::major(number), rustix::fs::minor(number)) == (5, 0))
}

fn follows_not(flags: u64) -> bool {
    let exclusive = (libc::O_CREAT | libc::O_EXCL) as u64;
    flags & libc::O_NOFOLLOW as u64 != 0 || flags & exclusive == exclusive
}
