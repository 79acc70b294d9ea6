//! What a caller sees at a path: the tree by the kernel, places by their rules. And from a call's path to the object, or
//! the name in a directory, that the call is about.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use super::call::{self, Address, PathArgument};
use super::owners::Records;
use super::path::{self, End, Found, Last, Node, Rules, View, ViewPath, Walked};
use super::perform::own;
use super::places::{Kind, NAMED, Places, descriptor_path, is_directory, kind_of};
use super::process::Process;
use super::procfs::{self, Person, ProcPath, ProcessPath};
use super::trodden::{Begun, Fact};
use super::{Caller, Identity, Worker};

/// A caller's eyes, and a worker's hands.
pub(super) struct Eyes<'a> {
    pub(super) places: &'a Places,
    pub(super) caller: &'a Caller<'a>,
    pub(super) worker: &'a mut Worker,
    /// Who the caller is to the kernel; `None` for who the worker began as.
    pub(super) identity: Option<&'a Identity>,
    /// Whose files are whose, where that is recorded.
    pub(super) records: Option<&'a Records>,
    /// A path of the call that has been read already, and its address.
    pub(super) said: Cell<Option<(Address, Vec<u8>)>>,
}

/// Where the path of a call leads.
#[derive(Debug)]
pub(super) enum Site {
    /// Nowhere but through the tree, where the kernel finds its way: from this directory, if the path is relative.
    Tree { from: Option<OwnedFd>, path: Vec<u8> },
    /// To, or through, a place.
    At(Walked),
}

/// Something that a call is about.
#[derive(Debug)]
pub(super) struct Object {
    /// It, opened with `O_PATH`.
    pub(super) fd: OwnedFd,
    /// The path that it was found at, where it was by hand.
    pub(super) path: Option<ViewPath>,
    /// The place that it is in.
    pub(super) place: Option<usize>,
    /// It is a pipe without a name that the caller has: the kernel has it for the real id's.
    pub(super) is_pipe: bool,
}

/// A name in a directory, at which a call makes, moves or removes something.
#[derive(Debug)]
pub(super) struct Entry {
    /// The directory, opened with `O_PATH`.
    pub(super) directory: OwnedFd,
    /// The name, with the slash that follows it if one does.
    pub(super) name: Vec<u8>,
    /// The place that the directory is in.
    pub(super) place: Option<usize>,
    /// A place begins at the name.
    pub(super) is_place: bool,
}

impl View for Eyes<'_> {
    fn look(&mut self, path: &ViewPath) -> Result<Node, Errno> {
        let Some((number, rest)) = self.places.find(path) else {
            self.as_caller()?;
            return self.look_in_tree(path);
        };
        if rest.is_empty() {
            return Ok(if self.places.is_place_directory(number) { Node::Directory } else { Node::Other });
        }
        if self.places.get(number).kind == Kind::Proc {
            return self.look_in_proc(number, rest);
        }
        self.as_caller()?;
        self.look_at(number, rest)
    }
}

impl Eyes<'_> {
    fn look_in_tree(&self, path: &ViewPath) -> Result<Node, Errno> {
        let begun = match self.places.is_emulated().then(|| self.places.trodden.ask(path.as_bytes(), Fact::IsDirectory))
        {
            Some(Ok(())) => return Ok(Node::Directory),
            asked => asked.and_then(Result::err),
        };
        let (from, name) = self.places.name_in_tree(path);
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if let Some(begun) = begun {
                    self.note_directory(path, begun);
                }
                Node::Directory
            }
            FileType::Symlink => Node::Link(readlinkat(from, name, Vec::new())?.into_bytes()),
            _ => Node::Other,
        })
    }

    /// Remembers a directory that has been seen at `path`, if no link is on the way now: what led there may have changed
    /// since it was gone.
    fn note_directory(&self, path: &ViewPath, begun: Begun) {
        if self.places.open_without_links(path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            self.places.trodden.note(path.as_bytes(), Fact::IsDirectory, begun);
        }
    }

    /// Makes the worker the caller.
    pub(super) fn as_caller(&mut self) -> Result<(), Errno> {
        self.worker.become_identity(self.identity)
    }

    /// Makes the worker who it began as.
    pub(super) fn as_self(&mut self) -> Result<(), Errno> {
        self.worker.become_identity(None)
    }

    fn look_at(&self, number: usize, rest: &[u8]) -> Result<Node, Errno> {
        let node = self.places.open_node(number, rest, NAMED)?;
        Ok(match kind_of(node.as_fd())? {
            FileType::Directory => Node::Directory,
            FileType::Symlink => Node::Link(readlinkat(&node, "", Vec::new())?.into_bytes()),
            _ => Node::Other,
        })
    }

    fn look_in_proc(&mut self, number: usize, rest: &[u8]) -> Result<Node, Errno> {
        let (process, thread) = (self.caller.process.pid, self.caller.thread);
        match procfs::parse(rest) {
            ProcPath::OwnProcess => Ok(Node::Link(process.to_string().into_bytes())),
            ProcPath::OwnThread => Ok(Node::Link(format!("{process}/task/{thread}").into_bytes())),
            ProcPath::Global => {
                self.as_caller()?;
                self.look_at(number, rest)
            }
            ProcPath::Process(path) => {
                self.as_self()?;
                self.check_shown(&path)?;
                if path.rest.contains(&b'/') && path.is_guarded() {
                    self.check_process(&path, 0o500, 1)?; // the directory that it is in
                }
                if !path.is_magic() {
                    return self.look_at(number, rest);
                }
                self.check_process(&path, 0o777, 4)?;
                let link = String::from_utf8_lossy(rest).into_owned(); // names and numbers
                let leads = self.places.path_of(&link)?;
                Ok(Node::Magic(leads.ok_or(Errno::NOTDIR)))
            }
        }
    }

    /// Only the step's own processes are there.
    fn check_shown(&self, path: &ProcessPath<'_>) -> Result<(), Errno> {
        let own = path.id == self.caller.process.pid as u32 || path.id == self.caller.thread as u32;
        if own || self.places.table.belongs(path.id as i32) { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// Whether the caller may do `wanted` (bits as in access(2)) with a file of this mode at `path`.
    pub(super) fn check_process(&mut self, path: &ProcessPath<'_>, mode: u32, wanted: u32) -> Result<(), Errno> {
        let own = path.id == self.caller.process.pid as u32;
        if self.identity.is_none() {
            return Ok(()); // real root's rights, over processes whose real ids are its own
        }
        let (uid, gid) = self.owner_of(path)?;
        let owner = Person { uid, gid, overrides: false, traces: false };
        let looker = looker(&self.caller.process);
        procfs::access(path, mode, owner, looker, own, wanted)
    }

    /// Who the files of a process belong to.
    pub(super) fn owner_of(&self, path: &ProcessPath<'_>) -> Result<(u32, u32), Errno> {
        let own = path.id == self.caller.process.pid as u32;
        let process = if own { self.caller.process.clone() } else { self.places.table.process_of(path.id as i32)? };
        let credentials = process.credentials();
        Ok((credentials.uid.effective, credentials.gid.effective))
    }

    /// Where the path of a call leads; `None` where it is only through the tree, and the caller is who the worker began as:
    /// then the kernel may make the call as it is.
    pub(super) fn locate(&mut self, argument: &PathArgument, path: &[u8], last: Last) -> Result<Option<Site>, Errno> {
        let relative = path.first() != Some(&b'/');
        if let Some(root) = self.caller.process.root().filter(|_| !path.is_empty()) {
            self.as_self()?;
            let start = if relative { self.start(argument.dirfd)? } else { (*root).clone() };
            let walked = path::walk_within(self, &root, &start, path, last, Rules::default())?;
            return Ok(Some(Site::At(walked)));
        }
        if !relative && self.places.begins_in_place(path) {
            return Ok(Some(Site::At(path::walk(self, &ViewPath::root(), path, last)?)));
        }
        if path.is_empty() && !argument.empty_path {
            return Err(Errno::NOENT);
        }
        let (thread, dirfd) = (self.caller.thread, argument.dirfd);
        if self.places.is_emulated() {
            return self.locate_from_outside(dirfd, path, last).map(Some);
        }
        if relative && self.may_exchange() {
            return self.locate_from_held(dirfd, path, last).map(Some);
        }
        if !self.places.is_empty() {
            self.as_self()?;
            if relative
                && self.places.has_given_directory()
                && let Some(start) = self.start_in_place(dirfd)?
            {
                return Ok(Some(Site::At(path::walk(self, &start, path, last)?)));
            }
            let from = if relative { descriptor_path(thread, dirfd) } else { String::new() };
            if self.leaves_tree(&from, path, last) {
                let start = if relative { self.places.path_of(&from)? } else { None };
                return Ok(Some(Site::At(path::walk(self, &start.unwrap_or_else(ViewPath::root), path, last)?)));
            }
        }
        if self.identity.is_none() && (relative || !self.may_turn_relative(dirfd)?) {
            return Ok(None);
        }
        let from = if relative { Some(self.descriptor(dirfd)?) } else { None };
        Ok(Some(Site::Tree { from, path: path.to_vec() }))
    }

    /// Whether `path` leads from a directory of the tree, a link below /proc (nothing: from the root), to a place or through one.
    fn leaves_tree(&self, from: &str, path: &[u8], last: Last) -> bool {
        let follow = last == Last::Follow || (last == Last::Keep && path.last() == Some(&b'/'));
        let stays = !from.is_empty() && !follow && self.places.is_plain_name(path);
        let border = !follow && self.places.may_end_at_place(path);
        !stays && (border || self.places.crosses(from, path, follow))
    }

    /// Whether another thread of the caller may put a directory of a place under a descriptor, or make one the working
    /// directory, after that has been looked at. To the kernel those lie outside the step's root, and so does what is
    /// above them: a relative path must not be left to it then. (Processes that share descriptors without being threads
    /// of one are not thought of.)
    pub(super) fn may_exchange(&self) -> bool {
        self.places.has_given_directory() && self.places.outside.count_threads(self.caller.process.pid) != Ok(1)
    }

    /// Whether the kernel, if it finds a relative path where an absolute one was read, may be led outside by it: whoever
    /// shares the caller's memory can change that meanwhile.
    fn may_turn_relative(&mut self, dirfd: i32) -> Result<bool, Errno> {
        if !self.places.has_given_directory() {
            return Ok(false);
        }
        self.as_self()?;
        Ok(self.may_exchange() || !matches!(self.start_in_place(dirfd), Ok(None)))
    }

    /// [`Eyes::locate`] of a relative path from a directory that is looked at once and held.
    fn locate_from_held(&mut self, dirfd: i32, path: &[u8], last: Last) -> Result<Site, Errno> {
        let from = self.descriptor(dirfd)?;
        if !is_directory(from.as_fd())? {
            return Err(Errno::NOTDIR);
        }
        let link = own(&from);
        let start = self.places.path_of(&link)?.ok_or(Errno::NOTDIR)?;
        if self.places.find(&start).is_some() || self.leaves_tree(&link, path, last) {
            return Ok(Site::At(path::walk(self, &start, path, last)?));
        }
        Ok(Site::Tree { from: Some(from), path: path.to_vec() })
    }

    /// [`Eyes::locate`] where the step has another root to the kernel than to itself. Whether the path leads over a border is
    /// found out by going it.
    fn locate_from_outside(&mut self, dirfd: i32, path: &[u8], last: Last) -> Result<Site, Errno> {
        let whole = match path.first() {
            Some(b'/') => path.to_vec(),
            _ => {
                let start = self.start(dirfd)?;
                if self.places.find(&start).is_some() {
                    return Ok(Site::At(path::walk(self, &start, path, last)?));
                }
                [start.as_bytes(), b"/", path].concat()
            }
        };
        // What is made by a link at the end of a path is made elsewhere.
        let follow = last == Last::Follow || (last == Last::Keep && path.last() == Some(&b'/'));
        if !follow && self.places.may_end_at_place(&whole) {
            return Ok(Site::At(path::walk(self, &ViewPath::root(), &whole, last)?));
        }
        Ok(Site::Tree { from: None, path: whole })
    }

    /// The path of the directory that a relative path begins at.
    pub(super) fn start(&mut self, dirfd: i32) -> Result<ViewPath, Errno> {
        if dirfd != call::CWD && dirfd < 0 {
            return Err(Errno::BADF);
        }
        let start = self.places.path_of(&descriptor_path(self.caller.thread, dirfd));
        start.map_err(|_| Errno::BADF)?.ok_or(Errno::NOTDIR)
    }

    /// Where the path of a call leads, in every case by hand.
    pub(super) fn walk(&mut self, dirfd: i32, path: &[u8], last: Last) -> Result<Walked, Errno> {
        let root = self.own_root();
        let start = if path.first() == Some(&b'/') { root.clone() } else { self.start(dirfd)? };
        path::walk_within(self, &root, &start, path, last, Rules::default())
    }

    /// [`Eyes::locate`] for a path whose way has bounds.
    pub(super) fn locate_within(
        &mut self,
        argument: &PathArgument,
        path: &[u8],
        last: Last,
        rules: Rules,
    ) -> Result<Option<Site>, Errno> {
        self.as_self()?;
        let scoped = rules.beneath || rules.in_root;
        let root = self.own_root();
        let start = if !scoped && path.first() == Some(&b'/') {
            root.clone()
        } else {
            let start = self.places.path_of(&descriptor_path(self.caller.thread, argument.dirfd));
            start.map_err(|_| Errno::BADF)?.ok_or(Errno::NOTDIR)?
        };
        let walked = path::walk_within(self, &root, &start, path, last, rules)?;
        let native = self.identity.is_none()
            && self.places.find(&walked.path).is_none()
            && !self.places.is_emulated()
            && root == ViewPath::root()
            && !self.may_exchange();
        Ok((!native).then_some(Site::At(walked)))
    }

    /// The path of a directory of a place that a relative path begins at.
    fn start_in_place(&mut self, dirfd: i32) -> Result<Option<ViewPath>, Errno> {
        let link = descriptor_path(self.caller.thread, dirfd);
        let Ok(Some(path)) = self.places.path_of(&link) else { return Ok(None) }; // the kernel says what is wrong
        if self.places.find(&path).is_none() {
            return Ok(None);
        }
        let object = self.places.outside.open_proc(&*link, OFlags::PATH)?;
        if is_directory(object.as_fd())? { Ok(Some(path)) } else { Err(Errno::NOTDIR) }
    }

    /// What a descriptor of the caller's is for, or its working directory.
    pub(super) fn descriptor(&mut self, fd: i32) -> Result<OwnedFd, Errno> {
        self.as_self()?;
        if fd != call::CWD && fd < 0 {
            return Err(Errno::BADF);
        }
        self.caller.open_descriptor(fd, OFlags::PATH)
    }

    /// The object behind a descriptor of the caller's, with the place that it is in.
    pub(super) fn object_of_descriptor(&mut self, fd: i32) -> Result<Object, Errno> {
        let object = self.descriptor(fd)?;
        let path = if self.places.is_empty() { None } else { self.places.path_of(&own(&object))? };
        let place = path.as_ref().and_then(|path| Some(self.places.find(path)?.0));
        let is_pipe = is_pipe(object.as_fd())?;
        Ok(Object { fd: object, path: path.filter(|_| place.is_some()), place, is_pipe })
    }

    /// The object at a site, as the caller may reach it.
    pub(super) fn object(&mut self, site: &Site, last: Last) -> Result<Object, Errno> {
        let walked = match site {
            Site::At(walked) => walked,
            Site::Tree { from, path } => {
                self.as_caller()?;
                let flags = if last == Last::Follow { OFlags::PATH | OFlags::CLOEXEC } else { NAMED };
                match self.places.open_in_tree(from.as_ref(), path, flags, Mode::empty()) {
                    Ok(fd) => return Ok(Object { fd, path: None, place: None, is_pipe: false }),
                    Err(Errno::LOOP) if self.places.is_emulated() => {
                        let walked = path::walk(self, &ViewPath::root(), path, last)?;
                        return self.object(&Site::At(walked), last);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        match walked.found {
            Found::Missing => Err(Errno::NOENT),
            Found::Magic if last == Last::Follow => self.follow_magic(&walked.path),
            _ => self.node(&walked.path),
        }
    }

    /// The object at a path without links.
    pub(super) fn node(&mut self, path: &ViewPath) -> Result<Object, Errno> {
        let found = self.places.find(path);
        match self.places.proc_path(path) {
            Some(ProcPath::Process(_)) => self.as_self()?,
            _ => self.as_caller()?,
        }
        let fd = match found {
            None => {
                let (from, name) = self.places.name_in_tree(path);
                openat(from, name, NAMED, Mode::empty())?
            }
            Some((number, rest)) => self.places.open_node(number, rest, NAMED)?,
        };
        Ok(Object { fd, path: Some(path.clone()), place: found.map(|(number, _)| number), is_pipe: false })
    }

    /// The object that a magic link leads to; the walk has checked that the caller may follow it.
    fn follow_magic(&mut self, link: &ViewPath) -> Result<Object, Errno> {
        self.as_self()?;
        let (_, rest) = self.places.find(link).ok_or(Errno::NOENT)?;
        if let Some(path) = self.leads(link)? {
            return self.node(&path);
        }
        let name = String::from_utf8_lossy(rest);
        let path = self.places.path_of(&name)?;
        let fd = self.places.outside.open_proc(rest, OFlags::PATH)?;
        let place = path.as_ref().and_then(|path| Some(self.places.find(path)?.0));
        let is_pipe = is_pipe(fd.as_fd())?;
        Ok(Object { fd, path: path.filter(|_| place.is_some()), place, is_pipe })
    }

    /// Where a magic link leads that the kernel has something else for than the step: a process's root, and its program.
    pub(super) fn leads(&self, link: &ViewPath) -> Result<Option<ViewPath>, Errno> {
        let Some((_, rest)) = self.places.find(link).filter(|_| self.places.is_emulated()) else { return Ok(None) };
        if rest.ends_with(b"/root") {
            return Ok(Some(ViewPath::root()));
        }
        let name = String::from_utf8_lossy(rest);
        if name.ends_with("/exe") { self.places.path_of(&name) } else { Ok(None) }
    }

    /// The name that a call is about, and its directory.
    pub(super) fn entry(&mut self, site: &Site) -> Result<Entry, Errno> {
        let walked = match site {
            Site::At(walked) => walked,
            Site::Tree { from, path } => {
                self.as_caller()?;
                let (above, name) = split_last(path);
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                match self.places.open_in_tree(from.as_ref(), above, flags, Mode::empty()) {
                    Ok(directory) => {
                        return Ok(Entry { directory, name: name.to_vec(), place: None, is_place: false });
                    }
                    Err(Errno::LOOP) if self.places.is_emulated() => {
                        let walked = path::walk(self, &ViewPath::root(), path, Last::Entry)?;
                        return self.entry(&Site::At(walked));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let is_place = matches!(self.places.find(&walked.path), Some((_, [])));
        let Some((above, name)) = walked.path.split().filter(|_| walked.end == End::Name) else {
            let directory = self.node(&walked.path)?;
            return Ok(Entry { directory: directory.fd, name: b".".to_vec(), place: directory.place, is_place });
        };
        let mut name = name.to_vec();
        if walked.slash {
            name.push(b'/');
        }
        let directory = self.node(&above)?;
        Ok(Entry { directory: directory.fd, name, place: directory.place, is_place })
    }
}

fn is_pipe(object: BorrowedFd<'_>) -> Result<bool, Errno> {
    const PIPEFS_MAGIC: u64 = 0x5049_5045;
    Ok(kind_of(object)? == FileType::Fifo && rustix::fs::fstatfs(object)?.f_type as u64 == PIPEFS_MAGIC)
}

fn looker(process: &Process) -> Person {
    let credentials = process.credentials();
    Person { uid: credentials.uid.fs, gid: credentials.gid.fs, overrides: false, traces: false }
}

/// The part of a path above its last name, `.` where there is none, and that name with the slashes after it.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    match path[..end].iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..=slash], &path[slash + 1..]),
        None if end == 0 => (b"/", b"."),
        None => (b".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_off_the_last_name() {
        let cases: [(&str, &str, &str); 6] = [
            ("a", ".", "a"),
            ("a/", ".", "a/"),
            ("/a", "/", "a"),
            ("/a/b//", "/a/", "b//"),
            ("//", "/", "."),
            ("../x", "../", "x"),
        ];
        for (path, above, name) in cases {
            assert_eq!(split_last(path.as_bytes()), (above.as_bytes(), name.as_bytes()), "{path}");
        }
    }
}
