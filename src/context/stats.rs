//! Digests of files, by what stat(2) says of them: so that a context which did not change is not read again. Also whether a
//! file has attributes that belong to an image, since setting one changes its ctime, too.
//!
//! A file is known by device and inode, and its digest holds as long as the time of its last change of status (ctime, which
//! nobody can set), its size and its mode are what they were. What changed less than [`GRAIN`] before it was read is not
//! remembered: it may change once more without a change of these times, since a clock that gives them moves in ticks.

use crate::oci::Digest;
use rustix::fs::Stat;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
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
const MOST: usize = 500_000;

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
    before: HashMap<File, Remembered>,
    /// What was found out in this process.
    learnt: Mutex<HashMap<File, Known>>,
}

#[derive(Debug)]
struct Remembered {
    known: Known,
    /// Somebody asked for it in this process.
    seen: AtomicBool,
}

/// What is known of a file that did not change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Knowledge {
    /// SHA-256 of its content.
    pub digest: Digest,
    /// It has no attribute that belongs to an image.
    pub plain: bool,
}

impl Stats {
    /// What [`Stats::encode`] made; nothing is known where it is something else.
    pub fn decode(bytes: &[u8]) -> Stats {
        let entries = bytes.strip_prefix(MAGIC).filter(|rest| rest.len() % ENTRY == 0).unwrap_or_default();
        let mut before = HashMap::with_capacity(entries.len() / ENTRY);
        before.extend(entries.chunks_exact(ENTRY).filter_map(entry));
        Stats { before, learnt: Mutex::default() }
    }

    /// As it is to be remembered; `None` where that is what was decoded. Files that were not looked at are left out first
    /// when there are too many.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        if learnt.is_empty() {
            return None;
        }
        let others = || self.before.iter().filter(|(file, _)| !learnt.contains_key(file));
        let of = |seen| others().filter(move |(_, one)| one.seen.load(Ordering::Relaxed) == seen);
        let others = of(true).chain(of(false)).map(|(file, one)| (file, &one.known));
        let mut out = Vec::with_capacity(MAGIC.len() + ENTRY * (learnt.len() + self.before.len()).min(MOST));
        out.extend(MAGIC);
        for ((device, inode), known) in learnt.iter().chain(others).take(MOST) {
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

    /// What is known of the file that `stat` is of, if it did not change.
    pub(super) fn known(&self, stat: &Stat) -> Option<Knowledge> {
        let file = (stat.st_dev, stat.st_ino);
        let knowledge = |known: &Known| {
            let (digest, plain) = (Digest::from_sha256(&known.digest), known.plain);
            known.is_still(stat).then_some(Knowledge { digest, plain })
        };
        if let Some(before) = self.before.get(&file)
            && let Some(knowledge) = knowledge(&before.known)
        {
            before.seen.store(true, Ordering::Relaxed);
            return Some(knowledge);
        }
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).get(&file).and_then(knowledge)
    }

    /// Remembers `files`.
    pub(super) fn learn(&self, files: Vec<Learnt>) {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.extend(files.into_iter().map(|Learnt { file, known }| (file, known)));
    }
}

/// A file that is to be remembered.
#[derive(Debug)]
pub(super) struct Learnt {
    file: File,
    known: Known,
}

impl Learnt {
    /// A file that was read from `start` on and was `before`, then `after`; `None` where it may change unseen.
    pub(super) fn new(
        (before, after): (&Stat, &Stat),
        start: SystemTime,
        plain: bool,
        digest: &Digest,
    ) -> Option<Learnt> {
        let known = Known::new(after, plain, digest.sha256_bytes()?);
        let old = Duration::from_secs(u64::try_from(after.st_ctime).unwrap_or_default())
            + Duration::from_nanos(u64::from(known.nanoseconds));
        let quiet = start.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|start| old + GRAIN <= start);
        (quiet && known.is_still(before)).then_some(Learnt { file: (after.st_dev, after.st_ino), known })
    }
}

fn entry(bytes: &[u8]) -> Option<(File, Remembered)> {
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
    let file = (u64::from_le_bytes(*device), u64::from_le_bytes(*inode));
    Some((file, Remembered { known, seen: AtomicBool::new(false) }))
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

    /// A file with the content `one`, read from `start` on.
    fn learnt(before: &Stat, after: &Stat, start: SystemTime) -> Vec<Learnt> {
        Learnt::new((before, after), start, true, &Digest::sha256("one")).into_iter().collect()
    }

    #[test]
    fn what_changed_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let (first, digest) = (stat(&path), Digest::sha256("one"));
        let stats = Stats::default();
        stats.learn(learnt(&first, &first, SystemTime::now() + LATER));
        assert_eq!(stats.known(&first).unwrap().digest, digest, "in this process, too");
        let bytes = stats.encode().unwrap();
        let known = Stats::decode(&bytes);
        assert_eq!(known.known(&first), Some(Knowledge { digest: digest.clone(), plain: true }));
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
        }
        let mut touched = first;
        touched.st_mtime += 1;
        assert_eq!(known.known(&touched).unwrap().digest, digest, "its time is of no interest");
    }

    #[test]
    fn what_may_change_unseen_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let stat = stat(&path);
        let mut before = stat;
        before.st_ctime_nsec ^= 1;
        for (before, start) in [
            (stat, SystemTime::now()),
            (stat, SystemTime::UNIX_EPOCH),
            // It changed while it was read.
            (before, SystemTime::now() + LATER),
        ] {
            let stats = Stats::default();
            stats.learn(learnt(&before, &stat, start));
            assert_eq!(stats.encode(), None);
        }
    }

    #[test]
    fn what_is_damaged_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        let stat = stat(&dir.path().join("a"));
        let stats = Stats::default();
        stats.learn(learnt(&stat, &stat, SystemTime::now() + LATER));
        let bytes = stats.encode().unwrap();
        for length in 0..bytes.len() {
            assert_eq!(Stats::decode(&bytes[..length]).known(&stat), None, "{length}");
        }
        assert_eq!(Stats::decode(&[&bytes[..], b"x"].concat()).known(&stat), None);
    }
}
