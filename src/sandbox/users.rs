//! USER in a tree: a pure reader of `passwd(5)` and `group(5)` text.
//!
//! Follows what Docker does: `USER name`, `name:group`, `uid`, `uid:gid` and any mixture. A number is always an id, never
//! a name. A number that the files do not know is fine; a name that they do not know is an error. An explicit group
//! replaces the user's own group and its supplementary groups. The host's databases are never asked.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Largest id that USER may name (Docker's own bound: ids are signed there).
const MAX_ID: u32 = i32::MAX as u32;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids in the order of the group file; empty where the group was given explicitly.
    pub groups: Vec<u32>,
    /// Home directory; `/` where the user is in no file.
    pub home: PathBuf,
}

/// Why a USER cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name that `/etc/passwd` of the image does not hold.
    #[error("unable to find user {name}: no matching entries in the image's /etc/passwd")]
    UnknownUser {
        /// The name as written.
        name: String,
    },
    /// A name that `/etc/group` of the image does not hold.
    #[error("unable to find group {name}: no matching entries in the image's /etc/group")]
    UnknownGroup {
        /// The name as written.
        name: String,
    },
    /// A number above 2147483647.
    #[error("id {id} is out of range: uids and gids must be between 0 and 2147483647")]
    OutOfRange {
        /// The number as written.
        id: String,
    },
}

/// Resolves `spec` (what USER or `--chown` says) by the bytes of a tree's `/etc/passwd` and `/etc/group`.
///
/// Files that do not exist are given as empty slices. An empty `spec`, or an empty user part, means uid 0.
pub fn lookup(passwd: &[u8], group: &[u8], spec: &str) -> Result<User, UserError> {
    let (user_part, group_part) = spec.split_once(':').unwrap_or((spec, ""));
    let (mut user, name) = find_user(passwd, user_part)?;
    if !group_part.is_empty() {
        user.gid = find_group(group, group_part)?;
    } else if let Some(name) = name {
        user.groups = memberships(group, name);
    }
    Ok(user)
}

fn find_user<'a>(passwd: &'a [u8], wanted: &str) -> Result<(User, Option<&'a [u8]>), UserError> {
    let id = if wanted.is_empty() { Some(0) } else { number(wanted)? };
    for line in lines(passwd) {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { continue };
        let (Some(uid), Some(gid)) = (field_id(uid), field_id(gid)) else { continue };
        if id.map_or(*name == wanted.as_bytes(), |id| id == uid) {
            let home = match rest.get(1) {
                Some(home) if !home.is_empty() => PathBuf::from(OsString::from_vec(home.to_vec())),
                _ => PathBuf::from("/"),
            };
            return Ok((User { uid, gid, groups: Vec::new(), home }, Some(name)));
        }
    }
    match id {
        Some(uid) => Ok((User { uid, gid: 0, groups: Vec::new(), home: PathBuf::from("/") }, None)),
        None => Err(UserError::UnknownUser { name: wanted.to_string() }),
    }
}

fn find_group(group: &[u8], wanted: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(wanted)? {
        return Ok(gid);
    }
    groups(group)
        .find(|(name, _, _)| *name == wanted.as_bytes())
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| UserError::UnknownGroup { name: wanted.to_string() })
}

fn memberships(group: &[u8], name: &[u8]) -> Vec<u32> {
    let mut out = Vec::new();
    for (_, gid, members) in groups(group) {
        if members.split(|b| *b == b',').any(|member| member == name) && !out.contains(&gid) {
            out.push(gid);
        }
    }
    out
}

/// (name, gid, comma separated members) of each well-formed line.
fn groups(text: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    lines(text).filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        let [name, _, gid, rest @ ..] = fields.as_slice() else { return None };
        Some((*name, field_id(gid)?, rest.first().copied().unwrap_or_default()))
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn field_id(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The id that `text` is, `None` where it is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::OutOfRange { id: text.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# c:x:7:7::/:\n\nbroken\nbad:x:no:1::/x:\n\
        app:x:1000:1001:App:/home/app:/bin/sh\ntwin:x:1000:5::/twin:\nbare:x:12:13\n77:x:1234:1234::/n:\n";
    const GROUP: &[u8] =
        b"root:x:0:root\nadm:x:4:app,root\nweb:x:33:\nstaff:x:50:bob,app\nstaff2:x:50:app\nbad:x:z:app\n";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<User, UserError> {
        Ok(User { uid, gid, groups: groups.to_vec(), home: home.into() })
    }

    #[test]
    fn resolves_every_form() {
        let unknown_user = |name: &str| Err(UserError::UnknownUser { name: name.into() });
        let table = [
            ("", user(0, 0, &[0, 4], "/root")),
            ("root", user(0, 0, &[0, 4], "/root")),
            ("0", user(0, 0, &[0, 4], "/root")),
            ("app", user(1000, 1001, &[4, 50], "/home/app")),
            ("1000", user(1000, 1001, &[4, 50], "/home/app")),
            ("app:web", user(1000, 33, &[], "/home/app")),
            ("app:7777", user(1000, 7777, &[], "/home/app")),
            ("app:", user(1000, 1001, &[4, 50], "/home/app")),
            (":web", user(0, 33, &[], "/root")),
            ("bare", user(12, 13, &[], "/")),
            ("4242", user(4242, 0, &[], "/")),
            ("4242:web", user(4242, 33, &[], "/")),
            ("77", user(77, 0, &[], "/")),
            ("nobody", unknown_user("nobody")),
            ("bad", unknown_user("bad")),
            ("-1", unknown_user("-1")),
            ("app:nogroup", Err(UserError::UnknownGroup { name: "nogroup".into() })),
            ("2147483647", user(2147483647, 0, &[], "/")),
            ("2147483648", Err(UserError::OutOfRange { id: "2147483648".into() })),
            ("app:99999999999", Err(UserError::OutOfRange { id: "99999999999".into() })),
        ];
        for (spec, expected) in table {
            assert_eq!(lookup(PASSWD, GROUP, spec), expected, "USER {spec}");
        }
    }

    #[test]
    fn needs_no_files() {
        assert_eq!(lookup(b"", b"", ""), user(0, 0, &[], "/"));
        assert_eq!(lookup(b"", b"", "5:6"), user(5, 6, &[], "/"));
    }
}
