//! Id maps of user namespaces, and the files that grant ranges.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

/// One line of `/proc/PID/uid_map`: `count` ids from `inside` are the ids from `outside` in the parent namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id in the namespace.
    pub inside: u32,
    /// First id in the parent namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// How a map came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMapKind {
    /// Ranges, written directly: the caller may set any id that it has itself.
    Ranges,
    /// Ranges that `/etc/subuid` and `/etc/subgid` grant, written by `newuidmap` and `newgidmap`.
    Newuidmap,
    /// Only id 0, which is the caller.
    OneId,
}

/// The ids of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// How it came about.
    pub kind: IdMapKind,
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl IdMap {
    /// The map that leaves every id that the caller's own maps hold as it is.
    pub(super) fn identity(uids: &[IdRange], gids: &[IdRange]) -> IdMap {
        let same = |ranges: &[IdRange]| ranges.iter().map(|r| IdRange { outside: r.inside, ..*r }).collect::<Vec<_>>();
        let kind = if is_one(uids) && is_one(gids) { IdMapKind::OneId } else { IdMapKind::Ranges };
        IdMap { kind, uids: same(uids), gids: same(gids) }
    }

    /// 0 is the caller, 1 and up are the granted ranges one after another.
    pub(super) fn subordinate(uid: u32, gid: u32, uids: &[(u32, u32)], gids: &[(u32, u32)]) -> IdMap {
        let map = |own: u32, granted: &[(u32, u32)]| {
            let mut out = vec![IdRange { inside: 0, outside: own, count: 1 }];
            let mut inside = 1u32;
            for (outside, count) in granted {
                let count = (*count).min(u32::MAX - inside);
                out.push(IdRange { inside, outside: *outside, count });
                inside += count;
            }
            out
        };
        IdMap { kind: IdMapKind::Newuidmap, uids: map(uid, uids), gids: map(gid, gids) }
    }

    /// 0 is the caller, and nothing else.
    pub(super) fn one(uid: u32, gid: u32) -> IdMap {
        let map = |outside| vec![IdRange { inside: 0, outside, count: 1 }];
        IdMap { kind: IdMapKind::OneId, uids: map(uid), gids: map(gid) }
    }

    /// Whether `uid` exists in the namespace.
    pub fn has_uid(&self, uid: u32) -> bool {
        contains(&self.uids, uid)
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.kind {
            IdMapKind::Ranges => "ranges, written directly",
            IdMapKind::Newuidmap => "ranges, by newuidmap",
            IdMapKind::OneId => "one id",
        };
        write!(f, "{how}: uids {}, gids {}", Ranges(&self.uids), Ranges(&self.gids))
    }
}

struct Ranges<'a>(&'a [IdRange]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}+{} -> {}", range.inside, range.count, range.outside)?;
        }
        Ok(())
    }
}

/// Whether a map holds one id only.
pub(super) fn is_one(ranges: &[IdRange]) -> bool {
    matches!(ranges, [IdRange { count: 1, .. }])
}

/// Whether this process can give files to its own id alone, so that their owners are recorded and not held: it may not
/// change owners, or its namespace has no other id.
pub fn has_one_id() -> io::Result<bool> {
    let sets = rustix::thread::capabilities(None)?;
    if !sets.effective.contains(rustix::thread::CapabilitySet::CHOWN) {
        return Ok(true);
    }
    let one = |path: &str| Ok::<_, io::Error>(is_one(&parse_map(&fs_err::read_to_string(path)?)));
    Ok(one("/proc/self/uid_map")? && one("/proc/self/gid_map")?)
}

/// Whether one of `ranges` holds `id` on its inside.
pub(super) fn contains(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|r| id >= r.inside && id - r.inside < r.count)
}

/// Reads the text of a `uid_map` or `gid_map`; lines that are none are left out.
pub(super) fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
            let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(IdRange { inside: inside.ok()?, outside: outside.ok()?, count: count.ok()? })
        })
        .collect()
}

/// The text to write to a `uid_map` or `gid_map`.
pub(super) fn format_map(ranges: &[IdRange]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

/// The (first id, count) ranges that `text`, a `subuid(5)` file, grants to the user `uid`, whose name may be known.
pub(super) fn subordinate_ranges(text: &[u8], name: Option<&[u8]>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.split(|b| *b == b'\n')
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.trim_ascii().split(|b| *b == b':').collect();
            let [owner, first, count] = fields.as_slice() else { return None };
            if *owner != number.as_bytes() && Some(*owner) != name {
                return None;
            }
            let id = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u32>().ok();
            Some((id(first)?, id(count)?)).filter(|(first, count)| *count > 0 && first.checked_add(*count).is_some())
        })
        .collect()
}

/// The name of `uid` in the text of a `passwd(5)` file.
pub(super) fn name_of(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    let number = uid.to_string();
    passwd.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id == number.as_bytes()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_round_trip() {
        let text = "         0          0 4294967295\n         5       1000          1\n";
        let ranges = parse_map(text);
        assert_eq!(format_map(&ranges), "0 0 4294967295\n5 1000 1\n");
        assert!(parse_map("x\n1 2\n-1 2 3\n").is_empty());
    }

    #[test]
    fn identity_keeps_the_callers_own_ids() {
        let outer = parse_map("0 100000 65536\n");
        let map = IdMap::identity(&outer, &outer);
        assert_eq!((format_map(&map.uids), map.kind), ("0 0 65536\n".into(), IdMapKind::Ranges));
        assert!(map.has_uid(65535) && !map.has_uid(65536));
        let one = parse_map("0 1000 1\n");
        assert_eq!(IdMap::identity(&one, &one).kind, IdMapKind::OneId);
    }

    #[test]
    fn grants_are_found_by_name_and_by_number() {
        let text = b"# c\nbob:100000:65536\n1000:300000:10\nalice:1:1\nbob:bad:1\nbob:4294967295:9\nbob:5:0\n";
        assert_eq!(subordinate_ranges(text, Some(b"bob"), 1000), [(100000, 65536), (300000, 10)]);
        assert_eq!(subordinate_ranges(text, None, 1000), [(300000, 10)]);
        assert_eq!(subordinate_ranges(text, None, 7), []);
        let map = IdMap::subordinate(1000, 100, &[(100000, 65536), (300000, 10)], &[]);
        assert_eq!(format_map(&map.uids), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
        assert_eq!(format_map(&map.gids), "0 100 1\n");
        assert_eq!(
            map.to_string(),
            "ranges, by newuidmap: uids 0+1 -> 1000, 1+65536 -> 100000, 65537+10 -> 300000, gids 0+1 -> 100"
        );
    }

    #[test]
    fn finds_a_name_in_passwd() {
        assert_eq!(name_of(b"root:x:0:0::/:\nbob:x:1000:1::/:\n", 1000), Some(&b"bob"[..]));
        assert_eq!(name_of(b"root:x:0:0::/:\n\n", 1000), None);
    }
}
