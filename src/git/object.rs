//! Names and kinds of objects, and what commits and trees say.

use super::GitError;
use sha1_checked::{Digest, Sha1};
use std::fmt;

/// Name of an object: SHA-1 of its kind, length and content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(pub [u8; 20]);

impl Oid {
    /// From 40 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Oid> {
        let mut bytes = [0; 20];
        if text.len() != 40 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())?;
        }
        Some(Oid(bytes))
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit,
    /// A directory.
    Tree,
    /// A file's content.
    Blob,
    /// An annotated tag.
    Tag,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Commit => "commit",
            Kind::Tree => "tree",
            Kind::Blob => "blob",
            Kind::Tag => "tag",
        }
    }
}

/// Computes an object's name.
pub struct Namer(Sha1);

impl Namer {
    /// For an object of this kind and length.
    pub fn new(kind: Kind, size: u64) -> Self {
        let mut hasher = Sha1::new();
        hasher.update(format!("{} {size}\0", kind.name()));
        Namer(hasher)
    }

    /// Takes more of its content.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The name; an error where the content was made to collide with another.
    pub fn finish(self) -> Result<Oid, GitError> {
        let result = self.0.try_finalize();
        if result.has_collision() {
            return Err(GitError::Damaged("an object was made to have the name of another one"));
        }
        Ok(Oid((*result.hash()).into()))
    }
}

/// What a commit says that is needed here.
#[derive(Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its tree.
    pub tree: Oid,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
}

impl Commit {
    /// Reads a commit's content.
    pub fn parse(content: &[u8]) -> Result<Commit, GitError> {
        let damaged = || GitError::Damaged("a commit makes no sense");
        let text = String::from_utf8_lossy(content);
        let headers = text.split("\n\n").next().unwrap_or_default();
        let header = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let tree = header("tree").and_then(Oid::parse).ok_or_else(damaged)?;
        // `Name <address> 1700000000 +0100`
        let time = header("committer").and_then(|line| line.rsplit(' ').nth(1)?.parse().ok()).ok_or_else(damaged)?;
        Ok(Commit { tree, time })
    }
}

/// The commit or other object that an annotated tag names.
pub fn tagged(content: &[u8]) -> Result<Oid, GitError> {
    let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = std::str::from_utf8(line).ok().and_then(|line| Oid::parse(line.strip_prefix("object ")?));
    name.ok_or(GitError::Damaged("a tag makes no sense"))
}

/// What stands in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A file, executable or not.
    File {
        /// Whether it is.
        executable: bool,
    },
    /// A symbolic link.
    Symlink,
    /// A directory.
    Tree,
    /// The commit of a submodule.
    Submodule,
}

/// Reads a tree: mode, name and object of each entry. Refuses names that are no plain file names.
pub fn parse_tree(mut content: &[u8]) -> Result<Vec<(Entry, Vec<u8>, Oid)>, GitError> {
    let damaged = || GitError::Damaged("a tree makes no sense");
    let mut out = Vec::new();
    while !content.is_empty() {
        let space = content.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
        let end = content.iter().position(|byte| *byte == 0).filter(|end| *end > space).ok_or_else(damaged)?;
        let oid: [u8; 20] = content.get(end + 1..end + 21).and_then(|oid| oid.try_into().ok()).ok_or_else(damaged)?;
        let (mode, name) = (&content[..space], &content[space + 1..end]);
        let entry = match mode {
            b"40000" | b"040000" => Entry::Tree,
            b"120000" => Entry::Symlink,
            b"160000" => Entry::Submodule,
            b"100755" => Entry::File { executable: true },
            // Very old repositories have group-writable files.
            b"100644" | b"100664" => Entry::File { executable: false },
            _ => return Err(damaged()),
        };
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.contains(&b'/')
            || name.eq_ignore_ascii_case(b".git")
        {
            return Err(GitError::Name(String::from_utf8_lossy(name).into_owned()));
        }
        out.push((entry, name.to_vec(), Oid(oid)));
        content = &content[end + 21..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_gits() {
        let mut namer = Namer::new(Kind::Blob, 6);
        namer.update(b"hello\n");
        assert_eq!(namer.finish().unwrap().to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(Oid::parse("ce013625030ba8dba906f756967f9e9ca394464"), None);
        assert_eq!(Oid::parse("+e013625030ba8dba906f756967f9e9ca394464a"), None);
    }

    #[test]
    fn commits_and_tags() {
        let hex = "ce013625030ba8dba906f756967f9e9ca394464a";
        let text = format!("tree {hex}\nauthor A <a> 1 +0000\ncommitter B C <b> 1700000000 +0100\n\ntree x\n");
        let commit = Commit::parse(text.as_bytes()).unwrap();
        assert_eq!((commit.tree.to_string().as_str(), commit.time), (hex, 1_700_000_000));
        assert!(Commit::parse(b"tree x\n").is_err());
        assert_eq!(tagged(format!("object {hex}\ntype commit\n").as_bytes()).unwrap().to_string(), hex);
        assert!(tagged(b"").is_err());
    }

    #[test]
    fn trees_hold_plain_names_only() {
        let tree = |mode: &str, name: &str| [format!("{mode} {name}\0").as_bytes(), &[7; 20]].concat();
        let both = [tree("100755", "run"), tree("40000", "d")].concat();
        let parsed = parse_tree(&both).unwrap();
        assert_eq!(parsed[0], (Entry::File { executable: true }, b"run".to_vec(), Oid([7; 20])));
        assert_eq!((parsed[1].0, parsed.len()), (Entry::Tree, 2));
        for name in ["", ".", "..", "a/b", ".git", ".GIT", "../x"] {
            assert!(matches!(parse_tree(&tree("100644", name)), Err(GitError::Name(_))), "{name}");
        }
        assert!(parse_tree(&both[..both.len() - 1]).is_err());
        assert!(parse_tree(&tree("100600", "x")).is_err());
    }
}
