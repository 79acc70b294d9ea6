//! `--chown` and `--chmod`.

use super::{CopyError, source};
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata};
use std::io::{self, Read};

/// An owner inside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// Reads `--chown` as BuildKit does: names come from the text of `passwd` and `group`, a name that is not there gives
    /// 0, a user's number without a group is the group's number too.
    pub fn lookup(spec: &str, passwd: &[u8], group: &[u8]) -> Owner {
        let (user, group_name) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
        let mut owner = match number(user) {
            Some(id) => Owner { uid: id, gid: id },
            None => record(passwd, user).map_or(Owner { uid: 0, gid: 0 }, |fields| Owner {
                uid: id_field(&fields, 2),
                gid: id_field(&fields, 3),
            }),
        };
        if let Some(name) = group_name {
            let named = || record(group, name).map(|fields| id_field(&fields, 2));
            owner.gid = number(name).or_else(named).unwrap_or(owner.gid);
        }
        owner
    }
}

/// `root` needs no file to be 0.
fn number(text: &str) -> Option<u32> {
    if text == "root" { Some(0) } else { text.parse().ok() }
}

/// The line of passwd(5) or group(5) that starts with `name`, in its fields.
fn record<'a>(file: &'a [u8], name: &str) -> Option<Vec<&'a [u8]>> {
    let lines = file.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b':').collect::<Vec<_>>());
    lines.into_iter().find(|fields| !name.is_empty() && fields[0].trim_ascii() == name.as_bytes())
}

fn id_field(fields: &[&[u8]], index: usize) -> u32 {
    let text = fields.get(index).and_then(|field| std::str::from_utf8(field).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What `--chmod` does to a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// The mode is this.
    Set(u32),
    /// chmod(1)'s symbolic clauses, in order.
    Clauses(Vec<Clause>),
}

/// One `who op permissions` of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The bits of those it is about, set-id bits included.
    who: u32,
    op: char,
    perms: Perms,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Perms {
    /// Letters of `rwxXst`.
    Letters(String),
    /// What the user, the group or others have now.
    CopyOf(char),
}

impl ModeChange {
    /// Reads an octal (0 to 7777) or symbolic (`u=rwX,go-w`) mode.
    pub fn parse(text: &str) -> Option<ModeChange> {
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(ModeChange::Set);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let ops = part.find(['+', '-', '='])?;
            let who = part[..ops].chars().try_fold(0, |bits, c| Some(bits | who_bits(c)?))?;
            let who = if ops == 0 { 0o7777 } else { who };
            let mut rest = &part[ops..];
            while let Some(op) = rest.chars().next() {
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
                let perms = match &rest[1..end] {
                    letter @ ("u" | "g" | "o") => Perms::CopyOf(char::from(letter.as_bytes()[0])),
                    letters if letters.bytes().all(|b| b"rwxXst".contains(&b)) => Perms::Letters(letters.to_string()),
                    _ => return None,
                };
                clauses.push(Clause { who, op, perms });
                rest = &rest[end..];
            }
        }
        Some(ModeChange::Clauses(clauses))
    }

    /// The mode that `mode` becomes.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ModeChange::Set(mode) => *mode,
            ModeChange::Clauses(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

fn who_bits(who: char) -> Option<u32> {
    match who {
        'u' => Some(0o4700),
        'g' => Some(0o2070),
        'o' => Some(0o0007),
        'a' => Some(0o7777),
        _ => None,
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = match &self.perms {
            Perms::CopyOf(who) => {
                let triple =
                    mode >> match who {
                        'u' => 6,
                        'g' => 3,
                        _ => 0,
                    } & 7;
                triple * 0o111
            }
            Perms::Letters(letters) => letters.chars().fold(0, |bits, c| {
                bits | match c {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if is_dir || mode & 0o111 != 0 => 0o111,
                    's' => 0o6000,
                    't' => 0o1000,
                    _ => 0,
                }
            }),
        };
        // The sticky bit belongs to nobody in particular.
        let reach = self.who | 0o1000;
        match self.op {
            '+' => mode | bits & reach,
            '-' => mode & !(bits & reach),
            _ => mode & !(self.who & 0o777) | bits & reach,
        }
    }
}

/// `--chown` and `--chmod` of one COPY or ADD, ready to apply.
#[derive(Debug)]
pub struct Ownership {
    /// The new owner.
    pub owner: Option<Owner>,
    mode: Option<ModeChange>,
}

impl Ownership {
    /// Reads both; names are looked up in `dest`.
    pub fn read(chown: Option<&str>, chmod: Option<&str>, dest: &dyn SourceTree) -> Result<Ownership, CopyError> {
        let mode = chmod.map(|text| ModeChange::parse(text).ok_or_else(|| CopyError::Chmod(text.to_string())));
        let owner = match chown {
            None | Some("") => None,
            Some(spec) => {
                let named = spec.split(':').any(|part| number(part).is_none());
                if named && dest.read_dir(b"")?.is_empty() {
                    return Err(CopyError::ChownScratch(spec.to_string()));
                }
                Some(Owner::lookup(spec, &text_of(dest, b"etc/passwd")?, &text_of(dest, b"etc/group")?))
            }
        };
        Ok(Ownership { owner, mode: mode.transpose()? })
    }

    /// `meta` with the new owner.
    pub fn owned(&self, mut meta: Metadata) -> Metadata {
        if let Some(owner) = self.owner {
            (meta.uid, meta.gid) = (owner.uid, owner.gid);
        }
        meta
    }

    /// `meta` with the new owner and mode; symbolic links have no mode to change.
    pub fn applied(&self, meta: Metadata) -> Metadata {
        let mut meta = self.owned(meta);
        if let Some(change) = self.mode.as_ref().filter(|_| !matches!(meta.kind, Kind::Symlink { .. })) {
            meta.mode = change.apply(meta.mode, meta.is_dir());
        }
        meta
    }
}

/// The text of a file of the tree, links followed; nothing where it is missing.
fn text_of(tree: &dyn SourceTree, path: &[u8]) -> Result<Vec<u8>, CopyError> {
    let path = source::resolve(&|path: &[u8]| tree.metadata(path), path)?;
    let mut text = Vec::new();
    if matches!(tree.metadata(&path)?.map(|meta| meta.kind), Some(Kind::File { .. })) {
        // Nobody's passwd is larger; the limit keeps a hostile image from filling memory.
        let limit = 16 << 20;
        if tree.open(&path)?.take(limit).read_to_end(&mut text)? as u64 == limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, super::shown(&path)).into());
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_as_buildkit_reads_them() {
        let passwd = b"root:x:0:0::/:/bin/sh\nbob:x:1234:99::/:/bin/sh\n";
        let group = b"root:x:0:\nbob:x:77:\nwww:x:33:bob\n";
        for (spec, uid, gid) in [
            ("bob", 1234, 99),
            ("bob:bob", 1234, 77),
            ("bob:5", 1234, 5),
            ("12", 12, 12),
            ("12:34", 12, 34),
            (":www", 0, 33),
            ("nobody", 0, 0),
            ("bob:nobody", 1234, 99),
            ("root", 0, 0),
            (":", 0, 0),
        ] {
            assert_eq!(Owner::lookup(spec, passwd, group), Owner { uid, gid }, "{spec}");
        }
    }

    #[test]
    fn modes_octal_and_symbolic() {
        for (text, mode, is_dir, expected) in [
            ("755", 0o600, false, 0o755),
            ("4755", 0o600, false, 0o4755),
            ("0", 0o600, false, 0),
            ("go-w", 0o124, true, 0o104),
            ("u+rw,g+r,o-x,o+w", 0o124, true, 0o766),
            ("a+X", 0o124, true, 0o135),
            ("a+X", 0o666, false, 0o666),
            ("u=rw,g=r,o=r", 0o666, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("+t", 0o777, true, 0o1777),
            ("u+s", 0o755, false, 0o4755),
            ("=r", 0o777, false, 0o444),
        ] {
            assert_eq!(ModeChange::parse(text).unwrap().apply(mode, is_dir), expected, "{text} on {mode:o}");
        }
        for text in ["99", "64a", "10000", "u", "z+r", "u+q", ""] {
            assert_eq!(ModeChange::parse(text), None, "{text}");
        }
    }
}
