//! Where a path leads, in the file system that a command sees. Pure: what stands at a path is asked of a [`View`].
//!
//! The rules are those of path_resolution(7) and `fs/namei.c`. They are needed by hand because parts of what the command
//! sees ([`super::places`]) lie elsewhere, so no single call of the kernel can follow a path that crosses their borders.

use std::fmt;

use rustix::io::Errno;

/// Symbolic links that are followed in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Bytes of one name (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// Bytes of a path, its nul among them (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// An absolute path of the command's view without links, `.`, `..` and doubled slashes: `/`, or `/a/b`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ViewPath(Vec<u8>);

impl ViewPath {
    /// `/`.
    pub(crate) fn root() -> ViewPath {
        ViewPath(Vec::new())
    }

    /// The path of these bytes with `.`, empty names and, by their names alone, `..` taken out: for paths in which no
    /// link is, such as those that the kernel gives.
    pub(crate) fn without_links(path: &[u8]) -> ViewPath {
        let mut out = ViewPath::root();
        for name in names(path) {
            match name {
                b".." => out.pop(),
                name => out.push(name),
            }
        }
        out
    }

    /// The bytes; `/` for the root.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"/" } else { &self.0 }
    }

    /// What follows the first slash; nothing for the root.
    pub(crate) fn relative(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Goes down to `name`, which is a single one.
    pub(crate) fn push(&mut self, name: &[u8]) {
        self.0.push(b'/');
        self.0.extend_from_slice(name);
    }

    /// Goes up; the root is above itself.
    pub(crate) fn pop(&mut self) {
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        self.0.truncate(end);
    }

    /// The directory above and the name in it; `None` for the root.
    pub(crate) fn split(&self) -> Option<(ViewPath, &[u8])> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some((ViewPath(self.0[..slash].to_vec()), &self.0[slash + 1..]))
    }

    /// The rest of this path below `above`, without a slash before it: nothing where the two are the same, `None` where this
    /// one is not below.
    pub(crate) fn below(&self, above: &ViewPath) -> Option<&[u8]> {
        match self.0.strip_prefix(above.0.as_slice())? {
            [] => Some(&[]),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    /// This path and `rest`, a path without links, below it.
    pub(crate) fn join(&self, rest: &[u8]) -> ViewPath {
        let mut out = self.clone();
        names(rest).for_each(|name| out.push(name));
        out
    }
}

impl fmt::Debug for ViewPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The names in a path, in order, without the empty ones and `.`.
fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory.
    Directory,
    /// A symbolic link and what it holds.
    Link(Vec<u8>),
    /// A link that leads to an object by itself, not by a path, as `/proc/PID/fd/0` does; and the path of that object, or
    /// the error of going on from it: `ENOTDIR` for a pipe.
    Magic(Result<ViewPath, Errno>),
    /// Anything else.
    Other,
}

/// What the walk asks.
pub(crate) trait View {
    /// What stands at `path`; links are not followed. `ENOENT` where nothing does.
    fn look(&mut self, path: &ViewPath) -> Result<Node, Errno>;
}

/// What becomes of the last name of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// A link there is followed.
    Follow,
    /// A link there is what is meant, unless a slash follows.
    Keep,
    /// The name itself is meant: something is to be made, moved or removed there.
    Entry,
}

/// Bounds of a walk, as openat2(2) has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rules {
    /// No magic link is followed.
    pub no_magic: bool,
    /// No link at all is followed.
    pub no_links: bool,
    /// Nothing above the directory that the walk starts from is reached.
    pub beneath: bool,
    /// The directory that the walk starts from is the root.
    pub in_root: bool,
}

impl Rules {
    /// Those of `open_how.resolve`. (`RESOLVE_NO_XDEV` is not among them: all places are one file system here.)
    pub(crate) fn of_openat2(resolve: u64) -> Rules {
        Rules {
            no_magic: resolve & libc::RESOLVE_NO_MAGICLINKS != 0,
            no_links: resolve & libc::RESOLVE_NO_SYMLINKS != 0,
            beneath: resolve & libc::RESOLVE_BENEATH != 0,
            in_root: resolve & libc::RESOLVE_IN_ROOT != 0,
        }
    }

    /// Whether the walk's start is a border of it.
    fn scoped(self) -> bool {
        self.beneath || self.in_root
    }
}

/// What the last name of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A name in a directory.
    Name,
    /// `.`.
    Dot,
    /// `..`.
    DotDot,
    /// There is none: the path is made of slashes.
    Root,
}

/// What was found at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A directory.
    Directory,
    /// A symbolic link that was not to be followed.
    Link,
    /// A link that leads to an object by itself. Whether that object or the link is meant depends on [`Last`].
    Magic,
    /// Anything else.
    Other,
    /// Nothing; the directory above is there.
    Missing,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walked {
    /// The path without links.
    pub path: ViewPath,
    /// What stands there.
    pub found: Found,
    /// Its last name, as it was written.
    pub end: End,
    /// A slash follows it: what it names must be a directory.
    pub slash: bool,
}

/// A walk under way.
struct Walk {
    at: ViewPath,
    root: ViewPath,
    rules: Rules,
    /// Names still to go, the next one last, each with whether a slash follows it.
    todo: Vec<(Vec<u8>, bool)>,
    links: usize,
}

impl Walk {
    fn enter(&mut self, path: &[u8]) {
        let slash_at_end = path.last() == Some(&b'/');
        let before = self.todo.len();
        let all = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).rev();
        self.todo.extend(all.map(|name| (name.to_vec(), true)));
        // The last name of a link is followed by a slash where the link was or where the link's text ends in one.
        if let Some(last) = self.todo.get_mut(before) {
            last.1 = slash_at_end || before > 0;
        }
    }

    /// Counts a link that is to be followed.
    fn count_link(&mut self, magic: bool) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS || self.rules.no_links || (magic && self.rules.no_magic) {
            return Err(Errno::LOOP);
        }
        if magic && self.rules.scoped() { Err(Errno::XDEV) } else { Ok(()) }
    }

    fn restart(&mut self) -> Result<(), Errno> {
        if self.rules.beneath {
            return Err(Errno::XDEV);
        }
        self.at = self.root.clone();
        Ok(())
    }

    fn up(&mut self) -> Result<(), Errno> {
        if self.at != self.root {
            self.at.pop();
            return Ok(());
        }
        if self.rules.beneath { Err(Errno::XDEV) } else { Ok(()) }
    }

    /// Follows a link in the directory that the walk is at.
    fn follow(&mut self, target: &[u8], slash: bool) -> Result<(), Errno> {
        self.count_link(false)?;
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target[0] == b'/' {
            self.restart()?;
        }
        let before = self.todo.len();
        self.enter(target);
        if let Some(last) = self.todo.get_mut(before) {
            last.1 |= slash;
        }
        Ok(())
    }
}

/// Follows `path` from the directory `start`. All but the last name must be directories, or links to some.
pub(crate) fn walk(view: &mut impl View, start: &ViewPath, path: &[u8], last: Last) -> Result<Walked, Errno> {
    walk_within(view, &ViewPath::root(), start, path, last, Rules::default())
}

/// [`walk`] within bounds, where what begins with a slash begins at `root`, and nothing is above that.
pub(crate) fn walk_within(
    view: &mut impl View,
    root: &ViewPath,
    start: &ViewPath,
    path: &[u8],
    last: Last,
    rules: Rules,
) -> Result<Walked, Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if path.len() >= MAX_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    let root = if rules.scoped() { start.clone() } else { root.clone() };
    let mut walk = Walk { at: start.clone(), root, rules, todo: Vec::new(), links: 0 };
    if path[0] == b'/' {
        walk.restart()?;
    }
    walk.enter(path);
    let mut end = End::Root;
    while let Some((name, slash)) = walk.todo.pop() {
        let is_last = walk.todo.is_empty();
        end = match name.as_slice() {
            b"." => End::Dot,
            b".." => {
                walk.up()?;
                End::DotDot
            }
            _ => End::Name,
        };
        if end != End::Name {
            continue;
        }
        if name.len() > MAX_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        let directory = walk.at.clone();
        walk.at.push(&name);
        let done = |path, found| Ok(Walked { path, found, end: End::Name, slash });
        let kept = is_last && (last == Last::Entry || (last == Last::Keep && !slash));
        match view.look(&walk.at) {
            Ok(Node::Directory) => {}
            Ok(Node::Other) if is_last && (!slash || last == Last::Entry) => return done(walk.at, Found::Other),
            Ok(Node::Other) => return Err(Errno::NOTDIR),
            Ok(Node::Link(_)) if kept => return done(walk.at, Found::Link),
            Ok(Node::Link(target)) => {
                walk.at = directory;
                walk.follow(&target, slash)?;
                if walk.todo.is_empty() {
                    end = End::Root; // the link holds slashes only
                }
            }
            Ok(Node::Magic(_)) if is_last && (kept || !slash) => {
                if !kept {
                    walk.count_link(true)?;
                }
                return done(walk.at, Found::Magic);
            }
            Ok(Node::Magic(leads)) => {
                walk.count_link(true)?;
                walk.at = leads?;
                require_directory(view, &walk.at)?;
            }
            Err(Errno::NOENT) if is_last => return done(walk.at, Found::Missing),
            Err(error) => return Err(error),
        }
        if is_last && walk.todo.is_empty() {
            return Ok(Walked { path: walk.at, found: Found::Directory, end, slash });
        }
    }
    Ok(Walked { path: walk.at, found: Found::Directory, end, slash: false })
}

fn require_directory(view: &mut impl View, path: &ViewPath) -> Result<(), Errno> {
    if *path == ViewPath::root() || view.look(path)? == Node::Directory { Ok(()) } else { Err(Errno::NOTDIR) }
}

#[cfg(test)]
mod tests;
