//! Sets of capabilities, and the two forms in which they cross the system call boundary: `capset(2)`'s data and the xattr
//! `security.capability`. Pure.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

/// One capability, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capability(u8);

/// The highest number that there is (CAP_CHECKPOINT_RESTORE).
const LAST: u8 = 40;

impl Capability {
    /// Change owners.
    pub const CHOWN: Capability = Capability(0);
    /// Read, write and search whatever the mode says.
    pub const DAC_OVERRIDE: Capability = Capability(1);
    /// Read and search whatever the mode says.
    pub const DAC_READ_SEARCH: Capability = Capability(2);
    /// Act as the owner of any file.
    pub const FOWNER: Capability = Capability(3);
    /// Keep and give set-group-ID bits.
    pub const FSETID: Capability = Capability(4);
    /// Signal any process.
    pub const KILL: Capability = Capability(5);
    /// Set group ids.
    pub const SETGID: Capability = Capability(6);
    /// Set user ids.
    pub const SETUID: Capability = Capability(7);
    /// Change capability sets.
    pub const SETPCAP: Capability = Capability(8);
    /// `chroot(2)`.
    pub const SYS_CHROOT: Capability = Capability(18);
    /// Make devices.
    pub const MKNOD: Capability = Capability(27);
    /// Set file capabilities.
    pub const SETFCAP: Capability = Capability(31);

    /// The capability of this number (`cap_valid`).
    pub fn from_number(number: u64) -> Option<Capability> {
        u8::try_from(number).ok().filter(|number| *number <= LAST).map(Capability)
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// No capability.
    pub const NONE: Capabilities = Capabilities(0);
    /// Those that setfsuid(2) takes and gives (CAP_FS_SET).
    pub const OF_FILES: Capabilities =
        Capabilities(1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | 1 << 27 | 1 << 32);
    const ALL: Capabilities = Capabilities((1 << (LAST + 1)) - 1);

    /// Whether `capability` is in it.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Both.
    pub fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// What is in both.
    pub fn and(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }

    /// What is not in `other`.
    pub fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Whether all of it is in `other`.
    pub fn is_in(self, other: Capabilities) -> bool {
        self.without(other) == Capabilities::NONE
    }

    /// The bits, as `/proc/PID/status` shows them.
    pub fn bits(self) -> u64 {
        self.0
    }

    fn of_halves(low: u32, high: u32) -> Capabilities {
        Capabilities(u64::from(low) | u64::from(high) << 32).and(Capabilities::ALL)
    }
}

impl From<Capability> for Capabilities {
    fn from(capability: Capability) -> Capabilities {
        Capabilities(1 << capability.0)
    }
}

impl From<CapabilitySet> for Capabilities {
    fn from(set: CapabilitySet) -> Capabilities {
        Capabilities(set.bits()).and(Capabilities::ALL)
    }
}

/// The three sets of capget(2) and capset(2): effective, permitted, inheritable.
pub(crate) type Sets = [Capabilities; 3];

/// The version of their data that a program names: how many words of each set there are.
pub(crate) fn words_of_version(version: u32) -> Option<usize> {
    match version {
        0x1998_0330 => Some(1),
        0x2007_1026 | 0x2008_0522 => Some(2),
        _ => None,
    }
}

/// The version that the kernel names to a program that asks.
pub(crate) const PREFERRED_VERSION: u32 = 0x2008_0522;

/// The data of capget(2) with `words` words of each set.
pub(crate) fn encode(sets: Sets, words: usize) -> Vec<u8> {
    let word = |set: Capabilities, at: usize| ((set.0 >> (32 * at)) as u32).to_ne_bytes();
    (0..words).flat_map(|at| sets.into_iter().flat_map(move |set| word(set, at))).collect()
}

/// The data of capset(2); capabilities that do not exist are left out, as the kernel does.
pub(crate) fn decode(data: &[u8]) -> Sets {
    let mut halves = [[0u32; 2]; 3];
    for (at, word) in data.chunks_exact(4).enumerate().take(6) {
        halves[at % 3][at / 3] = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
    }
    halves.map(|[low, high]| Capabilities::of_halves(low, high))
}

/// What `security.capability` of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileCapabilities {
    /// Those that the program gets.
    pub permitted: Capabilities,
    /// Those that it gets where the process may pass them on.
    pub inheritable: Capabilities,
    /// Whether they are in use at once.
    pub effective: bool,
}

impl FileCapabilities {
    /// Reads the xattr's value: version 1, 2, or 3 for a root that is ours already.
    pub fn parse(value: &[u8]) -> Result<FileCapabilities, Errno> {
        let word = |at: usize| {
            let bytes = value.get(4 * at..4 * at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or(Errno::INVAL)
        };
        let magic = word(0)?;
        let (words, extra) = match magic >> 24 {
            1 => (1, 0),
            2 => (2, 0),
            3 => (2, 1),
            _ => return Err(Errno::INVAL),
        };
        if value.len() != 4 * (1 + 2 * words + extra) {
            return Err(Errno::INVAL);
        }
        let high = |at| if words == 2 { word(at) } else { Ok(0) };
        Ok(FileCapabilities {
            permitted: Capabilities::of_halves(word(1)?, high(3)?),
            inheritable: Capabilities::of_halves(word(2)?, high(4)?),
            effective: magic & 1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_every_version() {
        let sets = [1 << 7, 1 << 7 | 1 << 40, 1 << 33].map(Capabilities);
        assert_eq!(decode(&encode(sets, 2)), sets);
        assert_eq!(encode(sets, 2).len(), 24);
        assert_eq!(decode(&encode(sets, 1)), [1 << 7, 1 << 7, 0].map(Capabilities));
        assert_eq!(decode(&[0xff; 24]), [Capabilities::ALL; 3]);
        for (version, words) in [(0x1998_0330, Some(1)), (PREFERRED_VERSION, Some(2)), (0, None)] {
            assert_eq!(words_of_version(version), words);
        }
    }

    #[test]
    fn capabilities_of_files() {
        // What `setcap cap_net_raw+ep` writes.
        let ping = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let parsed = FileCapabilities::parse(&ping).unwrap();
        assert_eq!((parsed.permitted.bits(), parsed.inheritable.bits(), parsed.effective), (1 << 13, 0, true));
        for wrong in [&ping[..19], &[][..], &[0, 0, 0, 9]] {
            assert_eq!(FileCapabilities::parse(wrong), Err(Errno::INVAL));
        }
    }
}
