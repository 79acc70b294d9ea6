//! The calls that there are shortcuts for, and those that these make besides.

/// A kind of call that is worth a shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortcut {
    pub(super) number: u32,
    pub(super) call: Call,
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Opens a file.
    Open,
    /// Tells only whether it succeeds.
    Access,
    /// Reads a link into `rsi`; from a directory into `rdx`.
    Readlink,
    ReadlinkAt,
    /// Reads a directory.
    ReadDirectory,
    /// Fills in a structure.
    Stat(Stat),
}

/// Which arguments of a stat call are what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stat {
    /// `stat`: a path in `rdi`; the structure in `rsi`.
    Path,
    /// `lstat`, likewise.
    Link,
    /// `fstat`: a descriptor in `rdi`.
    Descriptor,
    /// `newfstatat`: directory in `rdi`, path in `rsi`, structure in `rdx`, flags in `r10`.
    At,
    /// `statx`: directory in `rdi`, path in `rsi`, flags in `rdx`, structure in `r8`.
    Extended,
}

/// The calls that look at files and change nothing, the most used ones first: there may be no room for all. Numbers are those
/// of x86-64, whatever this program was built for.
pub(super) const SHORTCUTS: [Shortcut; 12] = [
    Shortcut { number: 262, call: Call::Stat(Stat::At) }, // newfstatat
    Shortcut { number: 257, call: Call::Open },           // openat
    Shortcut { number: 5, call: Call::Stat(Stat::Descriptor) }, // fstat
    Shortcut { number: 4, call: Call::Stat(Stat::Path) }, // stat
    Shortcut { number: 217, call: Call::ReadDirectory },  // getdents64
    Shortcut { number: 89, call: Call::Readlink },        // readlink
    Shortcut { number: 21, call: Call::Access },          // access
    Shortcut { number: 332, call: Call::Stat(Stat::Extended) }, // statx
    Shortcut { number: 6, call: Call::Stat(Stat::Link) }, // lstat
    Shortcut { number: 439, call: Call::Access },         // faccessat2
    Shortcut { number: 267, call: Call::ReadlinkAt },     // readlinkat
    Shortcut { number: 269, call: Call::Access },         // faccessat
];

/// The calls that ask for an xattr: by path, by path without following a link, by descriptor, and from a directory
/// (Linux 6.13).
pub(super) const GETXATTR: u32 = 191;
pub(super) const LGETXATTR: u32 = 192;
pub(super) const FGETXATTR: u32 = 193;
pub(super) const GETXATTRAT: u32 = 464;
pub(super) const CLOSE: u32 = 3;
pub(super) const FSTAT: u32 = 5;
