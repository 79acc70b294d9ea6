//! Digests of files, by what stat(2) says of them: so that a context which did not change is not read again. Also whether a
//! file has attributes that belong to an image, since setting one changes its ctime, too.
//!
//! A file is known by device and inode, and its digest holds as long as the time of its last change of status (ctime, which
//! nobody can set), its size and its mode are what they were. What changed less than [`GRAIN`] before it was read is not
//! remembered: it may change once more without a change of these times, since a clock that gives them moves in ticks.

use crate::oci::Digest;
use rustix::fs::Stat;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Longer than a tick of any clock that gives files their times: FAT counts in two seconds, Linux in milliseconds. Also
/// more than the clocks of a file server and of this machine should be apart.
const GRAIN: Duration = Duration::from_secs(3);
/// What the bytes of a remembered state begin with.
const MAGIC: &[u8] = b"dockless stats 1\n";
/// Bytes of one entry: device, inode, seconds, nanoseconds, size, mode, whether it has attributes, and the digest, little
/// endian.
const ENTRY: usize = 8 + 8 + 8 + 4 + 8 + 4 + 1 + 32;
/// As many entries are kept.
const MOST: usize = 100_000;

/// A file.
type File = (u64, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    seconds: i64,
    nanoseconds: u32,
    size: u64,
    mode: u32,
    /// It has no attribute that belongs to an image.
    plain: bool,
    digest: [u8; 32],
}

impl Known {
    fn new(stat: &Stat, plain: bool, digest: [u8; 32]) -> Known {
        let (seconds, nanoseconds) = (stat.st_ctime, stat.st_ctime_nsec as u32);
        Known { seconds, nanoseconds, size: stat.st_size as u64, mode: stat.st_mode, plain, digest }
    }

    fn is_still(&self, stat: &Stat) -> bool {
        *self == Known::new(stat, self.plain, self.digest)
    }
}

/// What is known of the files of a context.
#[derive(Debug, Default)]
pub struct Stats {
    before: HashMap<File, Known>,
    now: Mutex<Now>,
}

/// What was seen in this process.
#[derive(Debug, Default)]
struct Now {
    seen: HashMap<File, Known>,
    /// Something is other than it was before.
    changed: bool,
}

impl Stats {
    /// What [`Stats::encode`] made; nothing is known where it is something else.
    pub fn decode(bytes: &[u8]) -> Stats {
        let entries = bytes.strip_prefix(MAGIC).filter(|rest| rest.len() % ENTRY == 0).unwrap_or_default();
        Stats { before: entries.chunks_exact(ENTRY).filter_map(entry).collect(), now: Mutex::default() }
    }

    /// As it is to be remembered; `None` where that is what was decoded. Files that were not looked at are left out when
    /// there are too many.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !now.changed {
            return None;
        }
        let unseen = self.before.iter().filter(|(file, _)| !now.seen.contains_key(file));
        let mut out = MAGIC.to_vec();
        for ((device, inode), known) in now.seen.iter().chain(unseen).take(MOST) {
            out.extend(device.to_le_bytes());
            out.extend(inode.to_le_bytes());
            out.extend(known.seconds.to_le_bytes());
            out.extend(known.nanoseconds.to_le_bytes());
            out.extend(known.size.to_le_bytes());
            out.extend(known.mode.to_le_bytes());
            out.push(u8::from(known.plain));
            out.extend(known.digest);
        }
        Some(out)
    }

    /// The digest of the file that `stat` is of, if it did not change.
    pub(super) fn known(&self, stat: &Stat) -> Option<Digest> {
        let file = (stat.st_dev, stat.st_ino);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            now.seen.get(&file).or_else(|| self.before.get(&file)).filter(|known| known.is_still(stat))?.clone();
        let digest = format!("sha256:{}", hex(&known.digest)).parse().ok()?;
        now.seen.insert(file, known);
        Some(digest)
    }

    /// Whether it is known that the file which `stat` is of has no attribute that belongs to an image.
    pub(super) fn is_plain(&self, stat: &Stat) -> bool {
        self.before.get(&(stat.st_dev, stat.st_ino)).is_some_and(|known| known.plain && known.is_still(stat))
    }

    /// Remembers a file that was read from `start` on and was `before`, then `after`.
    pub(super) fn learn(&self, (before, after): (&Stat, &Stat), start: SystemTime, plain: bool, digest: &Digest) {
        let Some(bytes) = unhex(digest.hex()) else { return };
        let known = Known::new(after, plain, bytes);
        let old = Duration::from_secs(u64::try_from(after.st_ctime).unwrap_or_default())
            + Duration::from_nanos(u64::from(known.nanoseconds));
        let quiet = start.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|start| old + GRAIN <= start);
        if quiet && known.is_still(before) {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            now.seen.insert((after.st_dev, after.st_ino), known);
            now.changed = true;
        }
    }
}

fn entry(bytes: &[u8]) -> Option<(File, Known)> {
    let (device, rest) = bytes.split_first_chunk()?;
    let (inode, rest) = rest.split_first_chunk()?;
    let (seconds, rest) = rest.split_first_chunk()?;
    let (nanoseconds, rest) = rest.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (mode, rest) = rest.split_first_chunk()?;
    let ([plain], rest) = rest.split_first_chunk()?;
    let known = Known {
        seconds: i64::from_le_bytes(*seconds),
        nanoseconds: u32::from_le_bytes(*nanoseconds),
        size: u64::from_le_bytes(*size),
        mode: u32::from_le_bytes(*mode),
        plain: *plain == 1,
        digest: *rest.first_chunk()?,
    };
    Some(((u64::from_le_bytes(*device), u64::from_le_bytes(*inode)), known))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn stat(path: &Path) -> Stat {
        rustix::fs::stat(path).unwrap()
    }

    /// As if the file had not been touched for an hour.
    const LATER: Duration = Duration::from_secs(3600);

    #[test]
    fn what_changed_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let (first, digest) = (stat(&path), Digest::sha256("one"));
        let stats = Stats::default();
        stats.learn((&first, &first), SystemTime::now() + LATER, true, &digest);
        let bytes = stats.encode().unwrap();
        let known = Stats::decode(&bytes);
        assert_eq!(known.known(&first), Some(digest.clone()));
        assert_eq!(known.encode(), None, "nothing new");
        let cases: [fn(&mut Stat); 6] = [
            |stat| stat.st_dev += 1,
            |stat| stat.st_ino += 1,
            |stat| stat.st_ctime += 1,
            |stat| stat.st_ctime_nsec += 1,
            |stat| stat.st_size += 1,
            |stat| stat.st_mode ^= 0o100,
        ];
        for (number, change) in cases.iter().enumerate() {
            let mut other = first;
            change(&mut other);
            assert_eq!(known.known(&other), None, "{number}");
            assert!(known.is_plain(&first) && !known.is_plain(&other), "{number}");
        }
        let mut touched = first;
        touched.st_mtime += 1;
        assert_eq!(known.known(&touched), Some(digest), "its time is of no interest");
    }

    #[test]
    fn what_may_change_unseen_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let (stat, digest) = (stat(&path), Digest::sha256("one"));
        let mut before = stat;
        before.st_ctime_nsec ^= 1;
        for (before, start) in [
            (stat, SystemTime::now()),
            (stat, SystemTime::UNIX_EPOCH),
            // It changed while it was read.
            (before, SystemTime::now() + LATER),
        ] {
            let stats = Stats::default();
            stats.learn((&before, &stat), start, true, &digest);
            assert_eq!(stats.encode(), None);
        }
    }

    #[test]
    fn what_is_damaged_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        let stat = stat(&dir.path().join("a"));
        let stats = Stats::default();
        stats.learn((&stat, &stat), SystemTime::now() + LATER, true, &Digest::sha256("one"));
        let bytes = stats.encode().unwrap();
        for length in 0..bytes.len() {
            assert_eq!(Stats::decode(&bytes[..length]).known(&stat), None, "{length}");
        }
        assert_eq!(Stats::decode(&[&bytes[..], b"x"].concat()).known(&stat), None);
        assert_eq!(unhex(&hex(&[7; 32])), Some([7; 32]));
    }
}
