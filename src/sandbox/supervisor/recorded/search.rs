//! May a user go there? Walks a path as the kernel does and asks each directory on the way, by the recorded owners.

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;

use super::{Asked, reach};
use crate::sandbox::supervisor::access::{self, Owned, Want};
use crate::sandbox::supervisor::credentials::Credentials;
use crate::sandbox::supervisor::owners::{Records, Target};
use crate::sandbox::supervisor::path::{Last, Node, Rules, View, ViewPath, Walked, walk_within};
use crate::sandbox::supervisor::places::Kind;
use crate::sandbox::supervisor::procfs::{self, ProcPath};
use crate::sandbox::supervisor::view::Eyes;
use crate::sandbox::supervisor::{Caller, Identity, Worker};

/// The step's tree as a user sees it.
pub(super) struct Searched<'a> {
    caller: &'a Caller<'a>,
    who: &'a Credentials,
    records: &'a Records,
    /// What finds the way where the step's paths are not this process's.
    eyes: Option<Eyes<'a>>,
    /// The directory whose search was allowed last.
    allowed: Option<ViewPath>,
}

/// Follows `said` from `dirfd`, with the search permission of `who` on every directory.
pub(super) fn search(
    asked: &Asked<'_>,
    records: &Records,
    dirfd: i32,
    said: &[u8],
    last: Last,
) -> Result<Walked, Errno> {
    let (caller, who) = (asked.caller, &asked.who);
    let identity = Identity::of(who);
    let mut worker = Worker::only();
    let mut eyes = asked.places.map(|places| {
        let identity = identity.as_ref();
        Eyes { places, caller, worker: &mut worker, identity, records: None }
    });
    let root = eyes.as_ref().map_or_else(ViewPath::root, Eyes::own_root);
    let start = if said.first() == Some(&b'/') {
        root.clone()
    } else if let Some(eyes) = &mut eyes {
        eyes.start(dirfd)?
    } else {
        let link = rustix::fs::readlink(reach::base(caller, dirfd), Vec::new()).map_err(|_| Errno::BADF)?;
        ViewPath::without_links(link.as_bytes())
    };
    let mut view = Searched { caller, who, records, eyes, allowed: None };
    if said.first() != Some(&b'/') {
        view.may_search(&start)?;
    }
    walk_within(&mut view, &root, &start, said, last, Rules::default())
}

impl Searched<'_> {
    fn may_search(&mut self, dir: &ViewPath) -> Result<(), Errno> {
        if self.allowed.as_ref() == Some(dir) {
            return Ok(());
        }
        // What is in /proc and the like has rules of its own.
        if let Some(eyes) = &self.eyes
            && let Some((number, _)) = eyes.places.find(dir)
            && eyes.places.get(number).kind != Kind::Bind
        {
            return Ok(());
        }
        let target = Target::new(self.records.host(dir).as_bytes(), false)?;
        let native = target.stat()?;
        // What everybody may search, whose ever it is, needs no look at the record: its mode is the recorded one.
        if native.st_mode & 0o111 != 0o111 {
            access::check(self.who, &self.records.look(&target)?.owned, Want::EXECUTE)?;
        }
        self.allowed = Some(dir.clone());
        Ok(())
    }

    /// A link below /proc: to the caller's own process, or to a file.
    fn proc_link(&self, below: &[u8], path: &ViewPath) -> Result<Option<Node>, Errno> {
        let (pid, thread) = (self.caller.process.pid, self.caller.thread);
        Ok(match procfs::parse(below) {
            ProcPath::OwnProcess => Some(Node::Link(pid.to_string().into_bytes())),
            ProcPath::OwnThread => Some(Node::Link(format!("{pid}/task/{thread}").into_bytes())),
            ProcPath::Process(process) if process.is_magic() => {
                let leads = rustix::fs::readlinkat(CWD, path.as_bytes(), Vec::new())?;
                let leads = leads.as_bytes();
                Some(Node::Magic(if leads.first() == Some(&b'/') {
                    Ok(ViewPath::without_links(leads))
                } else {
                    Err(Errno::NOTDIR)
                }))
            }
            _ => None,
        })
    }
}

impl View for Searched<'_> {
    fn look(&mut self, path: &ViewPath) -> Result<Node, Errno> {
        if let Some((dir, _)) = path.split() {
            self.may_search(&dir)?;
        }
        if let Some(eyes) = &mut self.eyes {
            return eyes.look(path);
        }
        let stat = rustix::fs::lstat(path.as_bytes())?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Node::Directory),
            FileType::Symlink => {
                if let Some(below) = path.as_bytes().strip_prefix(b"/proc/")
                    && let Some(node) = self.proc_link(below, path)?
                {
                    return Ok(node);
                }
                Ok(Node::Link(rustix::fs::readlink(path.as_bytes(), Vec::new())?.into_bytes()))
            }
            _ => Ok(Node::Other),
        }
    }
}

/// What stands at the end of a walk belongs to this.
pub(super) fn owned_at(records: &Records, path: &ViewPath) -> Result<Owned, Errno> {
    Ok(records.look(&Target::new(records.host(path).as_bytes(), false)?)?.owned)
}
