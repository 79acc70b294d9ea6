//! What a step reads in directories that are not as the kernel has them: /proc without the processes of others, /dev/pts
//! without their terminals, and, where a place is in a directory, its file type instead of that of what stands there.

use rustix::fs::FileType;

use super::Caller;
use super::call::Address;
use super::path::ViewPath;
use super::places::{Kind, Places, descriptor_path};
use super::restart::{self, After};

/// Where `struct linux_dirent64` has its length, type and name.
const LENGTH: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

/// What becomes of one entry.
enum Shown {
    AsIs,
    Not,
    /// As one of this file type.
    As(FileType),
}

/// Corrects the answer to `getdents64`; false where the kernel's is the right one. To be called as who the worker began as.
pub(super) fn answer(places: &Places, caller: &Caller<'_>, directory: i32, buffer: Address) -> bool {
    if places.is_empty() {
        return false;
    }
    let Ok(Some(path)) = places.path_of(&descriptor_path(caller.thread, directory)) else { return false };
    let kind = places.at(&path).map(|(kind, _)| kind);
    if !matches!(kind, Some(Kind::Proc | Kind::Pts)) && !places.has_in(&path) {
        return false;
    }
    let correct = |result: i64| {
        let mut entries = vec![0; result.max(0) as usize];
        if result <= 0 || caller.read(buffer, &mut entries).is_err() {
            return After::Result(result);
        }
        filter(&mut entries, |name| shown(places, kind, &path, name));
        let _ = caller.write(buffer, &entries); // the caller's memory, which it may have taken away
        // Nothing at all would be the end of the directory.
        if entries.is_empty() { After::Again } else { After::Result(entries.len() as i64) }
    };
    // A caller that a debugger traces gets all entries.
    restart::look_after(caller, correct).is_ok()
}

fn shown(places: &Places, kind: Option<Kind>, directory: &ViewPath, name: &[u8]) -> Shown {
    let number = std::str::from_utf8(name).ok().and_then(|name| name.parse::<i32>().ok());
    match (kind, number) {
        (Some(Kind::Proc), Some(pid)) if !places.table.belongs(pid) => Shown::Not,
        (Some(Kind::Pts), Some(_)) if !places.terminals.shows(name) => Shown::Not,
        _ if name == b"." || name == b".." => Shown::AsIs,
        _ => {
            let mut path = directory.clone();
            path.push(name);
            places.at(&path).map_or(Shown::AsIs, |(_, kind)| Shown::As(kind))
        }
    }
}

/// Takes entries out and changes their types. What does not look like an entry ends the list.
fn filter(entries: &mut Vec<u8>, shown: impl Fn(&[u8]) -> Shown) {
    let mut out = Vec::with_capacity(entries.len());
    let mut rest = entries.as_slice();
    while rest.len() > NAME {
        let length = usize::from(u16::from_ne_bytes([rest[LENGTH], rest[LENGTH + 1]]));
        if length <= NAME || length > rest.len() {
            break;
        }
        let (entry, after) = rest.split_at(length);
        let name = entry[NAME..].split(|byte| *byte == 0).next().unwrap_or_default();
        let start = out.len();
        match shown(name) {
            Shown::Not => {}
            Shown::AsIs => out.extend_from_slice(entry),
            Shown::As(kind) => {
                out.extend_from_slice(entry);
                out[start + TYPE] = (kind.as_raw_mode() >> 12) as u8; // `IFTODT`
            }
        }
        rest = after;
    }
    *entries = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: u8) -> Vec<u8> {
        let length = (NAME + name.len() + 1).next_multiple_of(8);
        let mut out = vec![0; 16];
        out.extend((length as u16).to_ne_bytes());
        out.push(kind);
        out.extend(name.bytes());
        out.resize(length, 0);
        out
    }

    #[test]
    fn takes_out_and_changes() {
        let mut entries = [entry("1", 4), entry("keep", 8), entry("proc", 10), entry("22", 4)].concat();
        filter(&mut entries, |name| match name {
            b"1" | b"22" => Shown::Not,
            b"proc" => Shown::As(FileType::Directory),
            _ => Shown::AsIs,
        });
        assert_eq!(entries, [entry("keep", 8), entry("proc", 4)].concat());
        filter(&mut entries, |_| Shown::Not);
        assert!(entries.is_empty());
    }

    #[test]
    fn ends_at_garbage() {
        let whole = entry("a", 8);
        for garbage in [vec![0; 40], vec![0xff; 40], vec![1; 5]] {
            let mut entries = [whole.clone(), garbage].concat();
            filter(&mut entries, |_| Shown::AsIs);
            assert_eq!(entries, whole);
        }
    }
}
