//! Calls about files that a program makes past the supervisor, because they are right as the kernel makes them: most of what a
//! compiler or `tar` does. A call that is handed over costs at least five times what it costs itself.
//!
//! The tree is the step's root, so a path means to the kernel what it means to the step, but for places; and where a place is
//! the tree has a barrier, a link to itself (`chroot_tree`): no path that the kernel resolves leads through one. So a call that
//! only looks is right where it succeeds at something that is no barrier, and right where it fails by what no barrier makes it
//! fail by. Barriers, and directories that have one, stay what and where they are as long as the step lives (`stands`), so a
//! list of their inodes tells them from other files; who reads a link knows a barrier by its text. The C library of a program
//! is made to make such a call itself, with a token in the call's last argument by which the filter lets it through, and to
//! have the supervisor asked wherever the answer may not be the right one. To that end the dynamic linker gets a copy
//! ([`code`], [`library`]) where it opens the library ([`linker`]). Programs that have no such library are served as ever.
//!
//! Where owners are recorded (`recorded`) there are no places, and a file without a record belongs to whom the kernel says.
//! There the library itself asks the kernel whether a file has one, which is two calls in the place of one that is handed over.
//! Links and the like can have no xattr: what the kernel says of them is right until the first of them has a record, which all
//! copies of the library are then told ([`Told`]). Programs remember some files without a record, where free bytes are behind
//! the library's data, until they are told that files may have changed. Opening to read is right, but for what /proc tells of a
//! process's ids.
//!
//! Where the step has another root than the kernel has for it (`emulated`) this is right for what a descriptor is for, and for
//! a name in its directory that is not followed. What the kernel has at an absolute path is another thing there. But every name
//! in the tree is made and taken away by the supervisor, so that it can say beforehand what is not to be had: the copy of the
//! library has a table of what has been found at paths (`findings`), which the supervisor goes on to write and programs read.
//!
//! This is for processes that are root, have the tree as their root and no directory outside it: for others the switch in their
//! memory is turned off before they are anything else ([`Shortcuts::turn_off`]). The token is no secret, and a program may use
//! it as it likes. What that gives it are calls that look at files as the step's real user does: in the tree, and from a
//! directory of a place upwards, and the names in directories that it was given; opening is kept to the tree and the mounts by
//! landlock(7), without which there are no shortcuts with places at all.

mod code;
mod library;
mod linker;
mod runs;
mod told;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use super::call::CWD;
use super::credentials::Credentials;
use super::places::{Places, descriptor_path};
use super::recorded::is_root;
use super::{Caller, Identity};
use code::Rule;
pub(crate) use code::{BARRIER_TEXT, Guarded};
use library::Library;
pub(super) use linker::Root;
pub(super) use runs::Run;
use runs::Runs;
pub(crate) use told::Told;

/// Length of the arguments of getxattrat(2) by which the filter knows the call of a shortcut, since it uses its last argument:
/// 8 bytes more than all other programs give.
pub(super) const ARGUMENTS_LENGTH: u32 = 24;

/// Which file, and in which state of its content: device, inode, size, and when it changed.
type Version = (u64, u64, i64, i64, u64);

/// What is known of a file whose code programs map.
#[derive(Debug, Clone)]
enum Known {
    /// It gets no shortcuts.
    Other,
    /// A C library that one program uses: a copy would cost more than that one saves, if there is no second.
    Once,
    /// A C library that has a copy.
    Copied(Arc<Library>),
}

/// The shortcuts of a step.
#[derive(Debug)]
pub(crate) struct Shortcuts {
    token: u64,
    rule: Rule,
    known: Mutex<HashMap<Version, Known>>,
    /// Where owners are recorded: who is to know that links have records.
    told: Arc<Told>,
    /// How its programs have run.
    runs: Runs,
    /// Some process may use a copy.
    are_used: AtomicBool,
}

impl Shortcuts {
    /// Where there are places: for calls that have `token` in their last argument.
    pub(crate) fn past_barriers(token: u64) -> Shortcuts {
        Shortcuts::new(token, Rule::Barriers, Arc::default())
    }

    /// Where owners are recorded: likewise. It is told when links have records.
    pub(crate) fn past_records(token: u64, told: Arc<Told>) -> Shortcuts {
        Shortcuts::new(token, Rule::Records, told)
    }

    /// Where they are, and the step has another root for itself than for the kernel: likewise.
    pub(crate) fn from_outside(token: u64) -> Shortcuts {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Shortcuts::new(token, Rule::Outside { uid, gid }, Arc::default())
    }

    fn new(token: u64, rule: Rule, told: Arc<Told>) -> Shortcuts {
        Shortcuts {
            token,
            rule,
            known: Mutex::default(),
            told,
            runs: Runs::default(),
            are_used: AtomicBool::new(false),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Version, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called when the caller's process ends.
    pub(super) fn ends(&self, caller: &Caller<'_>) {
        let run = caller.process.state().run;
        if let Some(run) = run {
            self.runs.ends(&run);
        }
    }

    /// Whether the caller may take shortcuts; it has these places, if there are any.
    fn may_use(&self, places: Option<&Places>, caller: &Caller<'_>) -> Result<bool, Errno> {
        if !self.allows(&caller.process.credentials()) || caller.process.root().is_some() || translates(caller)? {
            return Ok(false);
        }
        Ok(match places.filter(|places| places.is_directory_given()) {
            Some(places) => !holds_directory_outside(places, caller)?,
            None => true,
        })
    }

    /// Whether the kernel's answers are right for who has these credentials.
    pub(super) fn allows(&self, credentials: &Credentials) -> bool {
        match self.rule {
            Rule::Barriers => Identity::of(credentials).is_none(),
            Rule::Records | Rule::Outside { .. } => is_root(credentials),
        }
    }

    /// What is known of the file at `path`, from /proc if it is relative: of a library there is a copy when it is asked for again.
    fn known_at(
        &self,
        places: Option<&Places>,
        caller: &Caller<'_>,
        path: &[u8],
        is_library: impl FnOnce() -> Result<bool, Errno>,
    ) -> Result<Known, Errno> {
        let stat = statat(caller.outside.proc(), path, AtFlags::empty())?;
        let version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec as u64);
        let known = self.known().get(&version).cloned();
        let now = match known {
            Some(known @ (Known::Other | Known::Copied(_))) => return Ok(known),
            Some(Known::Once) => self.make_copy(places, caller, path)?.map_or(Known::Other, Known::Copied),
            None if is_library()? => Known::Once,
            None => Known::Other,
        };
        let mut all = self.known();
        match all.get(&version) {
            // Another worker was faster. No copy that somebody uses may be forgotten.
            Some(known @ Known::Copied(_)) => return Ok(known.clone()),
            _ => all.insert(version, now.clone()),
        };
        Ok(now)
    }

    fn make_copy(
        &self,
        places: Option<&Places>,
        caller: &Caller<'_>,
        path: &[u8],
    ) -> Result<Option<Arc<Library>>, Errno> {
        if !can_be_turned_off(caller) {
            return Ok(None);
        }
        let file = caller.outside.open_proc(path, OFlags::RDONLY)?;
        let none = Guarded::default();
        let known = code::Known {
            token: self.token,
            rule: self.rule,
            guarded: places.map_or(&none, Places::guarded),
            proc: rustix::fs::fstat(caller.outside.proc())?.st_dev,
            tree: if self.rule == Rule::Records { overlay()? } else { 0 },
            slots: None,
            table: None,
        };
        let (tree, root) = match places {
            Some(places) if places.is_emulated() => (places.tree(), "."),
            _ => (rustix::fs::CWD, "/"),
        };
        let beside = openat(tree, root, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RWXU);
        let copy = Library::copy(file, beside.ok(), caller.outside, known)?.map(Arc::new);
        if let Some(copy) = &copy {
            self.told.add(copy)?;
            if let (Some(places), Some(table)) = (places, copy.table()?) {
                places.findings.add(table)?;
            }
        }
        Ok(copy)
    }

    /// Has programs find out anew which files have no record. To be called when a call may have changed files.
    pub(super) fn forget(&self) -> Result<(), Errno> {
        if self.rule == Rule::Records && self.are_used.load(Ordering::Acquire) { self.told.forget() } else { Ok(()) }
    }

    /// Ends the shortcuts of the caller's process, if it has any, as who the worker began as. To be called before a directory
    /// outside the tree is given to it, and before it has another root or is another user.
    pub(super) fn turn_off(&self, caller: &Caller<'_>) -> Result<(), Errno> {
        if !self.are_used.load(Ordering::Acquire) || !caller.process.set_shortcuts(false) {
            return Ok(());
        }
        let done = self.turn_off_in(caller);
        if done.is_err() {
            caller.process.set_shortcuts(true);
        }
        done
    }

    fn turn_off_in(&self, caller: &Caller<'_>) -> Result<(), Errno> {
        let copies: Vec<Arc<Library>> = self
            .known()
            .values()
            .filter_map(|known| if let Known::Copied(copy) = known { Some(copy.clone()) } else { None })
            .collect();
        let maps = caller.outside.read_proc(format!("{}/maps", caller.process.pid))?;
        for mapping in maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse) {
            let copy = copies.iter().find(|copy| copy.name == mapping.name);
            if let Some(address) = copy.and_then(|copy| mapping.address_of(copy.switch)) {
                caller.memory.force(caller.thread, address, &[1])?;
            }
        }
        Ok(())
    }
}

/// The device of the step's tree where that is an overlay: no other step has files of it. Else 0, which none is.
fn overlay() -> Result<u64, Errno> {
    const OVERLAYFS: u64 = 0x794c_7630; // <linux/magic.h>
    let is_overlay = rustix::fs::statfs("/")?.f_type as u64 == OVERLAYFS;
    Ok(if is_overlay { rustix::fs::stat("/")?.st_dev } else { 0 })
}

/// Whether what a program's code is can be changed, as [`Shortcuts::turn_off`] does: kernels can be told to forbid that
/// (`proc_mem.force_override`). A byte of the caller's own is put in its own place.
fn can_be_turned_off(caller: &Caller<'_>) -> bool {
    let (address, mut byte) = (caller.notification.instruction, [0]);
    let read = caller.read(address, &mut byte);
    read.and_then(|()| caller.memory.force(caller.thread, address, &byte)).is_ok()
}

/// Whether the caller's program is valgrind, which runs others and looks for what it is to know of a library by the name that
/// the library is mapped by.
fn translates(caller: &Caller<'_>) -> Result<bool, Errno> {
    // It lies low, so that all above is for the program that it runs (`VALT_LOAD_ADDRESS`), and makes that one's calls itself.
    if caller.notification.instruction >> 40 != 0 {
        return Ok(false);
    }
    // Which one it is the kernel does not know where another root has been made of the tree.
    let program = match caller.process.state().program.clone() {
        Some(program) => program.to_vec(),
        None => readlinkat(caller.outside.proc(), format!("{}/exe", caller.process.pid), Vec::new())?.into_bytes(),
    };
    let mut parts = program.rsplit(|byte| *byte == b'/').skip(1);
    Ok(parts.next() == Some(b"valgrind"))
}

/// Whether a file is one by its name: `libc.so.6`, and `libc-2.31.so` of older releases.
fn is_c_library(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.starts_with(b"libc.so") || name.starts_with(b"libc-2")
}

/// Whether the caller's working directory, or one that it has a descriptor of, is in a place.
fn holds_directory_outside(places: &Places, caller: &Caller<'_>) -> Result<bool, Errno> {
    let is_outside = |fd: i32| {
        let link = descriptor_path(caller.thread, fd);
        let is_directory = statat(caller.outside.proc(), &*link, AtFlags::empty())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        // What is gone by now it does not hold.
        is_directory && places.path_of(&link).is_ok_and(|path| path.is_some_and(|path| places.find(&path).is_some()))
    };
    let open = caller.outside.list_proc(format!("{}/fd", caller.thread))?;
    Ok(open.into_iter().chain([CWD]).any(is_outside))
}

/// What /proc/PID/maps knows a file by: its device and inode, of which stat(2) may tell others (overlayfs, btrfs).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    device: String,
    inode: u64,
}

/// A line of /proc/PID/maps, proc_pid_maps(5), of what can be executed.
struct Mapping {
    start: u64,
    length: u64,
    offset: u64,
    name: Name,
}

impl Mapping {
    fn parse(line: &[u8]) -> Option<Mapping> {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
        fields.next().filter(|permissions| permissions.contains('x'))?;
        let offset = hexadecimal(fields.next()?)?;
        let name = Name { device: fields.next()?.to_owned(), inode: fields.next()?.parse().ok()? };
        Some(Mapping { start, length: end.checked_sub(start)?, offset, name })
    }

    /// Where it has the byte at `offset` of its file.
    fn address_of(&self, offset: u64) -> Option<u64> {
        let at = offset.checked_sub(self.offset)?;
        (at < self.length).then(|| self.start + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_c_libraries_by_their_names() {
        for name in ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/libc-2.31.so", "libc.so.6"] {
            assert!(is_c_library(name.as_bytes()), "{name}");
        }
        for name in ["/lib/libcap.so.2", "/usr/lib/libc++.so.1", "/lib/ld-musl-x86_64.so.1", "/lib/libc.so.6/", ""] {
            assert!(!is_c_library(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn reads_maps() {
        let line = b"7f0010026000-7f001017c000 r-xp 00026000 00:01 1046   /memfd:dockless-libc (deleted)";
        let found = Mapping::parse(line).unwrap();
        assert_eq!(found.name, Name { device: "00:01".to_owned(), inode: 1046 });
        assert_eq!(found.address_of(0x26010), Some(0x7f00_1002_6010));
        assert_eq!((found.address_of(0x25fff), found.address_of(0x17c000)), (None, None));
        assert!(Mapping::parse(b"7f0010026000-7f001017c000 r--p 00026000 00:01 1046   /memfd:x").is_none());
    }
}
