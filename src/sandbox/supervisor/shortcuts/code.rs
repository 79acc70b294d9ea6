//! The machine code of shortcuts, for x86-64.
//!
//! A C library makes a system call by `mov $number, %eax; syscall`. The first of the two instructions becomes a jump to
//! code of ours, which makes the call with the token in its last argument, which it does not use, and goes on behind the
//! library's `syscall`; or, where the answer may not be the right one, at it, with the number in place: that call is handed
//! over. A program that jumps to the `syscall` itself is none the wiser, because that stays where it was.
//!
//! Of what the program's registers hold nothing changes but what a system call changes: the result, `rcx`, `r11` and flags.

mod instructions;
mod known;
mod routines;

use crate::overrides::OVERRIDE;
use instructions::{
    ALWAYS, IF_BELOW, IF_EQUAL, IF_NOT_BELOW, IF_NOT_EQUAL, Jump, NUMBER, Position, R8, R9, R10, RDI, RDX, RSI,
    Reference, SLOT, STEP, STRUCTURE, relative,
};

/// When the kernel's answer is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Where places are there are barriers: unless it failed by one, or found one, or reads a directory that has one.
    Barriers,
    /// Owners are recorded: unless it tells of a file's, and the file has a record, or can have none while others of its
    /// kind have. What is in /proc can have none. What tells of a process there is not to be opened.
    Records,
    /// The same, and the step has another root for itself than for the kernel, which knows it by these ids: only where it
    /// tells of an open file, or of a name in a directory. Of paths there may be a table, see `findings`.
    Outside { uid: u32, gid: u32 },
}

/// What is not what the kernel has it for where there are places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guarded {
    /// The tree's device.
    pub(crate) device: u64,
    /// Inodes there: barriers, and directories that have one.
    pub(crate) inodes: Vec<u64>,
}

/// What the code of a step's shortcuts knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// What the filter knows them by.
    pub(super) token: u64,
    pub(super) rule: Rule,
    /// Of the step's places.
    pub(super) guarded: &'a Guarded,
    /// The device of /proc, and that of a tree that is this step's alone.
    pub(super) proc: u64,
    pub(super) tree: u64,
    /// Where the library remembers files without a record, if it can.
    pub(super) slots: Option<Slots>,
    /// Where the table of what is known of paths is, in bytes from where the library's code begins.
    pub(super) table: Option<usize>,
}

/// Room in a program's memory for numbers of 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots {
    /// How far it is from the beginning of the code.
    distance: usize,
    /// How many; a power of 2.
    count: u8,
}

impl Slots {
    /// Those that there are within so many bytes at a distance.
    pub(super) fn within((distance, length): (u64, u64)) -> Option<Slots> {
        let begin = distance.next_multiple_of(8);
        let count = (length.checked_sub(begin - distance)? / 8).min(MOST_SLOTS).checked_ilog2()?;
        Some(Slots { distance: usize::try_from(begin).ok()?, count: 1 << count })
    }
}

/// As many as a byte in an instruction can tell of is more than fit.
const MOST_SLOTS: u64 = 64;

impl Known<'_> {
    /// Whether a call is worth a shortcut. With real owners no fstat is handed over; with records no reading of directories.
    fn shortens(&self, call: Call) -> bool {
        match self.rule {
            Rule::Barriers => call != Call::Stat(Stat::Descriptor) && (call != Call::ReadDirectory || self.has_list()),
            Rule::Records => call != Call::ReadDirectory,
            Rule::Outside { .. } if self.table.is_some() => {
                !matches!(call, Call::Stat(Stat::Descriptor) | Call::ReadDirectory)
            }
            Rule::Outside { .. } => call == Call::Stat(Stat::At),
        }
    }

    /// Whether what is guarded can be looked through.
    fn has_list(&self) -> bool {
        !self.guarded.inodes.is_empty() && self.guarded.inodes.len() <= MOST_GUARDED
    }

    /// The list's length in bytes.
    fn list_length(&self) -> usize {
        if self.rule == Rule::Barriers && self.has_list() { 8 * self.guarded.inodes.len() } else { 0 }
    }
}

/// Inodes that are looked through at most.
const MOST_GUARDED: usize = 40;

/// Where the code has what is to be written in it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes {
    /// A byte that is to be made other than 0 to do without shortcuts from then on.
    pub(super) switch: usize,
    /// The same once something that can have no xattr has a record.
    pub(super) told: usize,
    /// 8 bytes that are to be made others when files have changed.
    pub(super) generation: usize,
}

/// A kind of call that is worth a shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shortcut {
    number: u32,
    call: Call,
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
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
enum Stat {
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

impl Stat {
    /// Instructions that load the mode into `ecx`.
    fn load_mode(self) -> &'static [u8] {
        match self {
            Stat::Path | Stat::Link | Stat::Descriptor => &[0x8b, 0x4e, 0x18],
            Stat::At => &[0x8b, 0x4a, 0x18],
            Stat::Extended => &[0x41, 0x0f, 0xb7, 0x48, 0x1c],
        }
    }

    /// Instructions that load the inode into `rax`.
    fn load_inode(self) -> &'static [u8] {
        match self {
            Stat::Path | Stat::Link | Stat::Descriptor => &[0x48, 0x8b, 0x46, 0x08],
            Stat::At => &[0x48, 0x8b, 0x42, 0x08],
            Stat::Extended => &[0x49, 0x8b, 0x40, 0x20],
        }
    }
}

/// The calls that look at files and change nothing, the most used ones first: there may be no room for all. Numbers are those
/// of x86-64, whatever this program was built for.
const SHORTCUTS: [Shortcut; 12] = [
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
const GETXATTR: u32 = 191;
const LGETXATTR: u32 = 192;
const FGETXATTR: u32 = 193;
const GETXATTRAT: u32 = 464;
const CLOSE: u32 = 3;
const FSTAT: u32 = 5;

/// What a barrier's text begins with, and hardly another link's.
pub(crate) const BARRIER_TEXT: [u8; 3] = *b".//";

/// Errors that no barrier, fence or record gives: they are right. ENOENT, ENOTDIR, EINVAL.
const RIGHT_ERRORS: [u8; 3] = [2, 20, 22];

/// Length of `mov $number, %eax`, and with the `syscall` behind it.
const MOVE: usize = 5;
const CALL: usize = 7;

/// Our code begins with what it needs: the token, the switch, whether what has no xattrs has records, a device, the tree's,
/// a number for what is remembered, the arguments of getxattrat(2), which are zeros, and the name of the xattr; then inodes.
const TOKEN: usize = 0;
const SWITCH: usize = 8;
const TOLD: usize = 9;
const DEVICE: usize = 16;
const TREE: usize = 24;
const GENERATION: usize = 32;
const ARGUMENTS: usize = 40;
const NAME: usize = ARGUMENTS + super::ARGUMENTS_LENGTH as usize;
const INODES: usize = (NAME + OVERRIDE.len() + 1).next_multiple_of(16);

/// Puts shortcuts into `text`, machine code whose bytes from `end` on are free. Gives where they can be told things later.
/// `None` where there is nothing to be done, or no room.
pub(super) fn put_shortcuts(text: &mut [u8], end: usize, known: &Known<'_>) -> Option<Bytes> {
    let base = end.next_multiple_of(16);
    let code = base + (INODES + known.list_length()).next_multiple_of(16);
    let (mut at, mut sites) = (code, 0);
    let (mut opened, mut remembers) = (at, None);
    if known.rule == Rule::Records {
        let routine = Code::new(at, 0, base, known).opened()?;
        opened = put(text, &mut at, &routine)?;
        if let Some(slots) = known.slots {
            let routine = Code::new(at, 0, base, known).remembers(slots)?;
            remembers = Some(put(text, &mut at, &routine)?);
        }
    }
    let mut lookup = at;
    if let (Rule::Outside { .. }, Some(table)) = (known.rule, known.table) {
        let routine = known::lookup(at, table)?;
        lookup = put(text, &mut at, &routine)?;
    }
    for (site, shortcut) in find(&text[..end]).into_iter().filter(|(_, found)| known.shortens(found.call)) {
        let made = Code { opened, remembers, lookup, ..Code::new(at, site, base, known) }.assemble(shortcut)?;
        let Some(begin) = put(text, &mut at, &made) else { continue };
        text[site] = 0xe9;
        text[site + 1..site + MOVE].copy_from_slice(&relative(site + MOVE, begin)?);
        sites += 1;
    }
    if sites == 0 {
        return None;
    }
    let data = &mut text[base..code];
    data.fill(0);
    let device = if known.rule == Rule::Barriers { known.guarded.device } else { known.proc };
    data[TOKEN..TOKEN + 8].copy_from_slice(&known.token.to_le_bytes());
    data[DEVICE..DEVICE + 8].copy_from_slice(&device.to_le_bytes());
    data[TREE..TREE + 8].copy_from_slice(&known.tree.to_le_bytes());
    data[NAME..NAME + OVERRIDE.len()].copy_from_slice(OVERRIDE.as_bytes());
    for (room, inode) in data[INODES..].chunks_exact_mut(8).zip(&known.guarded.inodes) {
        room.copy_from_slice(&inode.to_le_bytes());
    }
    Some(Bytes { switch: base + SWITCH, told: base + TOLD, generation: base + GENERATION })
}

/// Puts code at `at`, which then is behind it, if there is room; gives where it begins.
fn put(text: &mut [u8], at: &mut usize, code: &[u8]) -> Option<usize> {
    let begin = *at;
    text.get_mut(begin..begin + code.len())?.copy_from_slice(code);
    *at = (begin + code.len()).next_multiple_of(8);
    Some(begin)
}

/// Where the calls are made that have shortcuts, the most used ones first.
fn find(text: &[u8]) -> Vec<(usize, Shortcut)> {
    let number = |window: &[u8]| u32::from_le_bytes([window[1], window[2], window[3], window[4]]);
    let calls =
        text.windows(CALL).enumerate().filter(|(_, window)| window[0] == 0xb8 && window[MOVE..] == [0x0f, 0x05]);
    let mut found: Vec<_> = calls
        .filter_map(|(at, window)| Some((at, SHORTCUTS.iter().position(|shortcut| shortcut.number == number(window))?)))
        .collect();
    found.sort_by_key(|(_, place)| *place);
    found.into_iter().map(|(at, place)| (at, SHORTCUTS[place])).collect()
}

/// A place in the code that jumps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// The result is right.
    Made,
    /// It is an error.
    Failed,
    /// The supervisor is to be asked; the same with the stack as it was left for the call.
    Ask,
    AskBelow,
    /// In the routine: it is not to be asked; what was opened is to be closed.
    Right,
    Close,
    /// Whether the file has a record is to be asked: by its path, from a directory, by its descriptor.
    Record,
    ByPath,
    FromDirectory,
    ByDescriptor,
    NextByte,
    /// That call and the file are known; so is all the rest of it.
    Named,
    Ready,
    /// Nothing is at the path; no link is; the kernel is to be asked.
    Nothing,
    NoLink,
    Native,
}

struct Code<'a> {
    bytes: Vec<u8>,
    /// Where it is going to be, the call it is for, and where the data is.
    at: usize,
    site: usize,
    base: usize,
    known: &'a Known<'a>,
    /// The routines that are called, and in one how far its stack is from the caller's.
    opened: usize,
    remembers: Option<usize>,
    lookup: usize,
    depth: u8,
    /// What gets its distances when all is there.
    jumps: Vec<Jump>,
    labels: Vec<(Label, Position)>,
    references: Vec<Reference>,
}

impl<'a> Code<'a> {
    fn new(at: usize, site: usize, base: usize, known: &'a Known<'a>) -> Code<'a> {
        Code {
            bytes: Vec::new(),
            at,
            site,
            base,
            known,
            opened: 0,
            remembers: None,
            lookup: 0,
            depth: 0,
            jumps: Vec::new(),
            labels: Vec::new(),
            references: Vec::new(),
        }
    }

    fn assemble(mut self, shortcut: Shortcut) -> Option<Vec<u8>> {
        self.ask_if_set(SWITCH, Label::Ask);
        if self.known.table.is_some() {
            self.ask_table(shortcut);
            if shortcut.call != Call::Stat(Stat::At) {
                self.ask(shortcut);
                return self.finish();
            }
            self.label(Label::Native);
        }
        // mov token(%rip), %r9
        self.move_stack(-STEP);
        self.save(&[R9]);
        if shortcut.call == Call::ReadDirectory {
            self.ask_if_guarded();
        }
        self.put(&[0x4c, 0x8b, 0x0d]);
        self.data(TOKEN);
        self.number(shortcut.number);
        self.syscall();
        // cmp $-4095, %rax; jae failed
        self.put(&[0x48, 0x3d]);
        self.put(&(-4095i32).to_le_bytes());
        self.jump(IF_NOT_BELOW, Label::Failed);
        match (self.known.rule, shortcut.call) {
            (Rule::Barriers, Call::Readlink | Call::ReadlinkAt) => self.ask_if_barrier_text(shortcut.call),
            (Rule::Barriers, Call::Stat(stat)) => self.ask_if_barrier(stat),
            (Rule::Records | Rule::Outside { .. }, Call::Stat(stat)) => self.ask_for_record(stat),
            (Rule::Records, Call::Open) => {
                self.call(self.opened);
                self.jump(IF_EQUAL, Label::AskBelow);
            }
            _ => {}
        }
        self.jump(ALWAYS, Label::Made);
        self.label(Label::Failed);
        // Of a path that begins at the root, failure tells nothing where that is another one.
        let is_right = !matches!(self.known.rule, Rule::Outside { .. });
        for errno in RIGHT_ERRORS.into_iter().filter(|_| is_right) {
            // cmp $-errno, %rax; je made
            self.put(&[0x48, 0x83, 0xf8, errno.wrapping_neg()]);
            self.jump(IF_EQUAL, Label::Made);
        }
        self.label(Label::AskBelow);
        self.restore_stack();
        self.ask(shortcut);
        self.label(Label::Made);
        self.restore_stack();
        self.leave(self.site + CALL);
        self.finish()
    }

    /// The end where the supervisor is asked.
    fn ask(&mut self, shortcut: Shortcut) {
        self.label(Label::Ask);
        self.number(shortcut.number);
        self.leave(self.site + MOVE);
    }

    /// Asks if the descriptor in `rdi` is of a directory that is guarded, or of none of the tree.
    fn ask_if_guarded(&mut self) {
        self.save(&[RSI]);
        self.open_structure();
        self.number(FSTAT);
        self.syscall();
        self.load(&[RSI]);
        // test %eax, %eax; jnz ask
        self.put(&[0x85, 0xc0]);
        self.jump(IF_NOT_EQUAL, Label::AskBelow);
        self.compare_device();
        self.jump(IF_NOT_EQUAL, Label::AskBelow);
        // mov st_ino(%rsp), %rax
        self.put(&[0x48, 0x8b, 0x44, 0x24, STRUCTURE + 8]);
        self.look_through();
        self.jump(IF_EQUAL, Label::AskBelow);
    }

    /// A link has been read: asks if that may be a barrier's text, or does not tell.
    fn ask_if_barrier_text(&mut self, call: Call) {
        // cmp $3, %rax; jb ask; cmpw $"./", (buffer); jne made; cmpb $'/', 2(buffer); je ask
        let [first, second] = if call == Call::Readlink { [0x3e, 0x7e] } else { [0x3a, 0x7a] };
        self.put(&[0x48, 0x83, 0xf8, BARRIER_TEXT.len() as u8]);
        self.jump(IF_BELOW, Label::AskBelow);
        self.put(&[0x66, 0x81, first, BARRIER_TEXT[0], BARRIER_TEXT[1]]);
        self.jump(IF_NOT_EQUAL, Label::Made);
        self.put(&[0x80, second, 0x02, BARRIER_TEXT[2]]);
        self.jump(IF_EQUAL, Label::AskBelow);
    }

    /// A stat call has succeeded: asks if it tells of a link that is a barrier.
    fn ask_if_barrier(&mut self, stat: Stat) {
        self.load_type(stat);
        self.compare_type(0xa000);
        self.jump(IF_NOT_EQUAL, Label::Made);
        if !self.known.has_list() {
            self.jump(ALWAYS, Label::AskBelow);
            return;
        }
        if stat == Stat::Extended {
            // testb $(STATX_INO >> 8), stx_mask + 1(%r8); jz ask
            self.put(&[0x41, 0xf6, 0x40, 0x01, 0x01]);
            self.jump(IF_EQUAL, Label::AskBelow);
        }
        self.put(stat.load_inode());
        self.look_through();
        self.jump(IF_EQUAL, Label::AskBelow);
    }

    /// Compares `rax` with all that is guarded: equal if it is there. Makes it 0.
    fn look_through(&mut self) {
        self.save(&[RDI]);
        // lea inodes(%rip), %rdi; mov $count, %ecx; repne scasq
        self.put(&[0x48, 0x8d, 0x3d]);
        self.data(INODES);
        self.put(&[0xb9]);
        self.put(&(self.known.guarded.inodes.len() as u32).to_le_bytes());
        self.put(&[0xf2, 0x48, 0xaf]);
        self.load(&[RDI]);
        self.number(0);
    }

    /// Makes an end if it is remembered that the file of a `struct stat` has no record.
    fn end_if_remembered(&mut self, routine: usize, stat: Stat) {
        // mov buffer, %rcx; call; mov $0, %eax; je made
        self.put(if stat == Stat::At { &[0x48, 0x89, 0xd1] } else { &[0x48, 0x89, 0xf1] });
        self.call(routine);
        self.number(0);
        self.jump(IF_EQUAL, Label::Made);
    }

    /// `lea structure(%rsp), %rsi`
    fn open_structure(&mut self) {
        self.put(&[0x48, 0x8d, 0x74, 0x24, STRUCTURE + self.depth]);
    }

    /// `mov st_dev(%rsp), %rax; cmp device(%rip), %rax`
    fn compare_device(&mut self) {
        self.put(&[0x48, 0x8b, 0x44, 0x24, STRUCTURE + self.depth, 0x48, 0x3b, 0x05]);
        self.data(DEVICE);
    }

    /// A stat call has succeeded: its answer is right for a file or directory without a record, and for what can have none
    /// as long as nothing like it has one.
    fn ask_for_record(&mut self, stat: Stat) {
        self.load_type(stat);
        self.compare_type(0x8000);
        self.jump(IF_EQUAL, Label::Record);
        self.compare_type(0x4000);
        if self.known.rule == Rule::Records {
            self.jump(IF_EQUAL, Label::Record);
            self.ask_if_set(TOLD, Label::AskBelow);
            self.jump(ALWAYS, Label::Made);
        } else {
            self.jump(IF_NOT_EQUAL, Label::AskBelow);
        }
        self.label(Label::Record);
        let remembers = self.remembers.filter(|_| stat != Stat::Extended);
        if let Some(routine) = remembers {
            self.end_if_remembered(routine, stat);
        }
        self.save(&[RDI, RSI, RDX, R10, R8]);
        match stat {
            Stat::Path => self.number(GETXATTR),
            Stat::Link => self.number(LGETXATTR),
            Stat::Descriptor => self.number(FGETXATTR),
            Stat::At | Stat::Extended => self.name_at(stat),
        }
        // lea name(%rip), %rsi; xor %edx, %edx; xor %r10d, %r10d: its length is asked for.
        self.put(&[0x48, 0x8d, 0x35]);
        self.data(NAME);
        self.put(&[0x31, 0xd2, 0x45, 0x31, 0xd2]);
        self.label(Label::Ready);
        self.syscall();
        self.load(&[RDI, RSI, RDX, R10, R8]);
        // cmp $-ENODATA, %rax; jne ask; xor %eax, %eax
        self.put(&[0x48, 0x83, 0xf8, 61u8.wrapping_neg()]);
        self.jump(IF_NOT_EQUAL, Label::AskBelow);
        if remembers.is_some() {
            // mov slot(%rsp), %rcx; mov number(%rsp), %rax; mov %rax, (%rcx)
            self.put(&[0x48, 0x8b, 0x4c, 0x24, SLOT, 0x48, 0x8b, 0x44, 0x24, NUMBER, 0x48, 0x89, 0x01]);
        }
        self.put(&[0x31, 0xc0]);
        if let Rule::Outside { uid, gid } = self.known.rule {
            // The ids, at these offsets from rdx: cmpl $id, offset(%rdx); jne +7; movl $0, offset(%rdx)
            for (offset, id) in [(28, uid), (32, gid)] {
                self.put(&[0x81, 0x7a, offset]);
                self.put(&id.to_le_bytes());
                self.put(&[0x75, 0x07, 0xc7, 0x42, offset, 0, 0, 0, 0]);
            }
        }
    }

    /// The call, and the file, for what a path from a directory names.
    fn name_at(&mut self, stat: Stat) {
        // mov flags, %ecx; test $AT_EMPTY_PATH, %ecx; jz by path
        self.put(if stat == Stat::At { &[0x44, 0x89, 0xd1] } else { &[0x89, 0xd1] });
        self.put(&[0xf7, 0xc1, 0x00, 0x10, 0x00, 0x00]);
        self.jump(IF_EQUAL, Label::ByPath);
        // test %rsi, %rsi; jz by descriptor; cmpb $0, (%rsi); je by descriptor
        self.put(&[0x48, 0x85, 0xf6]);
        self.jump(IF_EQUAL, Label::ByDescriptor);
        self.put(&[0x80, 0x3e, 0x00]);
        self.jump(IF_EQUAL, Label::ByDescriptor);
        self.label(Label::ByPath);
        if matches!(self.known.rule, Rule::Outside { .. }) {
            self.only_name();
            self.jump(ALWAYS, Label::FromDirectory);
        }
        // cmp $AT_FDCWD, %edi; jne from directory; mov %rsi, %rdi
        self.put(&[0x83, 0xff, 100u8.wrapping_neg()]);
        self.jump(IF_NOT_EQUAL, Label::FromDirectory);
        self.put(&[0x48, 0x89, 0xf7]);
        self.number(GETXATTR);
        // test $AT_SYMLINK_NOFOLLOW, %ecx; jz done
        self.put(&[0xf7, 0xc1, 0x00, 0x01, 0x00, 0x00]);
        self.jump(IF_EQUAL, Label::Named);
        self.number(LGETXATTR);
        self.jump(ALWAYS, Label::Named);
        self.label(Label::FromDirectory);
        // and $(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW), %ecx; mov %ecx, %edx; lea name(%rip), %r10
        self.put(&[0x81, 0xe1, 0x00, 0x11, 0x00, 0x00, 0x89, 0xca, 0x4c, 0x8d, 0x15]);
        self.data(NAME);
        // lea arguments(%rip), %r8; mov $length, %r9d
        self.put(&[0x4c, 0x8d, 0x05]);
        self.data(ARGUMENTS);
        self.put(&[0x41, 0xb9]);
        self.put(&super::ARGUMENTS_LENGTH.to_le_bytes());
        self.number(GETXATTRAT);
        self.jump(ALWAYS, Label::Ready);
        self.label(Label::ByDescriptor);
        self.number(FGETXATTR);
        self.label(Label::Named);
    }

    /// Asks unless the path in `rsi`, of a link that is not followed, is one name, which does not begin with a dot.
    fn only_name(&mut self) {
        // test $AT_SYMLINK_NOFOLLOW, %ecx; jz ask; cmpb $'.', (%rsi); je ask; mov %rsi, %rax
        self.put(&[0xf7, 0xc1, 0x00, 0x01, 0x00, 0x00]);
        self.jump(IF_EQUAL, Label::AskBelow);
        self.put(&[0x80, 0x3e, b'.']);
        self.jump(IF_EQUAL, Label::AskBelow);
        self.put(&[0x48, 0x89, 0xf0]);
        self.label(Label::NextByte);
        // cmpb $'/', (%rax); je ask; inc %rax; cmpb $0, -1(%rax); jne next byte
        self.put(&[0x80, 0x38, b'/']);
        self.jump(IF_EQUAL, Label::AskBelow);
        self.put(&[0x48, 0xff, 0xc0, 0x80, 0x78, 0xff, 0x00]);
        self.jump(IF_NOT_EQUAL, Label::NextByte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u32) -> Vec<u8> {
        [&[0xb8][..], &number.to_le_bytes(), &[0x0f, 0x05]].concat()
    }

    fn known(rule: Rule, guarded: &Guarded) -> Known<'_> {
        let slots = Slots::within((0x1b_bf50, 176));
        Known { token: 0x1122_3344_5566_7788, rule, guarded, proc: 0x99aa, tree: 0xddee, slots, table: None }
    }

    fn guarded(count: u64) -> Guarded {
        Guarded { device: 0xbbcc, inodes: (1..=count).collect() }
    }

    #[test]
    fn replaces_the_calls_that_it_knows() {
        for rule in [Rule::Barriers, Rule::Records] {
            replaces(rule, None);
        }
        replaces(Rule::Outside { uid: 1, gid: 2 }, Some(0x10000));
    }

    fn replaces(rule: Rule, table: Option<usize>) {
        let mut text = [&[0x90; 10][..], &call(89), &[0xc3], &call(0), &call(262), &[0x90; 4]].concat();
        let end = text.len();
        text.resize(4096, 0);
        let before = text.clone();
        let Bytes { switch, told, generation } =
            put_shortcuts(&mut text, end, &Known { table, ..known(rule, &guarded(3)) }).unwrap();
        assert_eq!((text[switch], text[told]), (0, 0));
        assert_eq!(text[switch - 8..switch], 0x1122_3344_5566_7788u64.to_le_bytes());
        let base = switch - SWITCH;
        assert_eq!(generation, base + GENERATION);
        let barriers = rule == Rule::Barriers;
        assert_eq!(text[base + DEVICE..base + DEVICE + 8], if barriers { 0xbbccu64 } else { 0x99aa }.to_le_bytes());
        let inodes: Vec<u8> = [1u64, 2, 3].into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(text[base + INODES..base + INODES + 24] == inodes, barriers);
        let changed: Vec<usize> = (0..end).filter(|at| text[*at] != before[*at]).collect();
        assert!(changed.iter().all(|at| (10..15).contains(at) || (25..30).contains(at)), "{changed:?}");
        for site in [10, 25] {
            assert_eq!(text[site], 0xe9, "a jump");
            assert_eq!(text[site + 5..site + 7], [0x0f, 0x05], "the call itself stays");
            let distance = i32::from_le_bytes(text[site + 1..site + 5].try_into().unwrap());
            let to = (site as i32 + 5 + distance) as usize;
            assert!(to > switch && text[to..to + 2] == [0x80, 0x3d], "to our code: {to}");
        }
    }

    #[test]
    fn reads_directories_where_it_knows_which_are_guarded() {
        for (count, rule, shortens) in [
            (1, Rule::Barriers, true),
            (MOST_GUARDED as u64, Rule::Barriers, true),
            (MOST_GUARDED as u64 + 1, Rule::Barriers, false),
            (0, Rule::Barriers, false),
            (1, Rule::Records, false),
        ] {
            let mut text = [call(217), vec![0; 4096]].concat();
            assert_eq!(put_shortcuts(&mut text, CALL, &known(rule, &guarded(count))).is_some(), shortens, "{count}");
        }
    }

    /// The C library of Debian 12 has these calls, and 3,844 bytes behind its code.
    #[test]
    fn has_room_for_all() {
        let sites = [4, 5, 6, 21, 89, 217, 257, 257, 257, 257, 257, 262, 262, 267, 269, 332, 439];
        let calls: Vec<u8> = sites.into_iter().flat_map(call).collect();
        let (guarded, end) = (guarded(20), calls.len().next_multiple_of(4));
        let outside = Rule::Outside { uid: 1, gid: 1 };
        for (rule, table) in [(Rule::Barriers, None), (Rule::Records, None), (outside, None), (outside, Some(0x10000))]
        {
            let mut text = calls.clone();
            text.resize(end + 3844, 0);
            let known = Known { table, ..known(rule, &guarded) };
            put_shortcuts(&mut text, end, &known).unwrap();
            let made = sites.iter().enumerate().filter(|(at, _)| text[at * CALL] == 0xe9).count();
            let wanted = find(&calls).iter().filter(|(_, found)| known.shortens(found.call)).count();
            assert_eq!(made, wanted, "{rule:?}");
            let free = text.iter().rev().take_while(|byte| **byte == 0).count();
            assert!(free > 500, "{rule:?} {free}");
        }
    }

    #[test]
    fn puts_the_most_used_first() {
        let sites = [332, 439, 21, 262];
        let calls: Vec<u8> = sites.into_iter().flat_map(call).collect();
        let guarded = guarded(1);
        for (room, made) in [(400, vec![21, 262]), (800, sites.to_vec())] {
            let mut text = [calls.clone(), vec![0; room]].concat();
            put_shortcuts(&mut text, calls.len(), &Known { slots: None, ..known(Rule::Barriers, &guarded) }).unwrap();
            let found = sites.iter().enumerate().filter(|(at, _)| text[at * CALL] == 0xe9);
            assert_eq!(found.map(|(_, number)| *number).collect::<Vec<_>>(), made, "{room}");
        }
    }

    #[test]
    fn finds_slots_behind_data() {
        let slots = |distance, length| Slots::within((distance, length)).map(|slots| (slots.distance, slots.count));
        assert_eq!(slots(0x1000, 176), Some((0x1000, 16)));
        assert_eq!(slots(0x1001, 15), Some((0x1008, 1)));
        assert_eq!((slots(0x1001, 14), slots(0x1000, 0), slots(0x1001, 3)), (None, None, None));
        assert_eq!(slots(0x1000, 4096), Some((0x1000, 64)));
    }

    #[test]
    fn does_without_room_or_calls() {
        let guarded = guarded(1);
        let known = known(Rule::Barriers, &guarded);
        let mut full = [call(89), vec![0; 8]].concat();
        assert_eq!(put_shortcuts(&mut full, 7, &known), None);
        let mut other = [call(1), vec![0; 4096]].concat();
        let before = other.clone();
        assert_eq!(put_shortcuts(&mut other, 7, &known), None);
        assert_eq!(other, before);
    }
}
