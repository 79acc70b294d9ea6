//! The machine code of shortcuts, for x86-64.
//!
//! A C library makes a system call by `mov $number, %eax; syscall`. The first of the two instructions becomes a jump to
//! code of ours, which makes the call with the token in its last argument, which it does not use, and goes on behind the
//! library's `syscall`; or, where the answer may not be the right one, at it, with the number in place: that call is handed
//! over. A program that jumps to the `syscall` itself is none the wiser, because that stays where it was.
//!
//! Of what the program's registers hold nothing changes but what a system call changes: the result, `rcx`, `r11` and flags.

mod known;

use crate::overrides::OVERRIDE;

/// When the kernel's answer is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Where places are there are barriers: unless it failed by one, or found a link, which may be one.
    Barriers,
    /// Owners are recorded: unless it tells of a file's, and the file has a record, or can have none. What is in /proc
    /// can have none.
    Records,
    /// The same, and the step has another root for itself than for the kernel, which knows it by these ids: only where it
    /// tells of an open file, or of a name in a directory. Of paths there is a table, see `findings`.
    Outside { uid: u32, gid: u32 },
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
    /// Reads a link.
    Readlink,
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
}

/// The calls that look at files and change nothing. Numbers are those of x86-64, whatever this program was built for.
const SHORTCUTS: [Shortcut; 11] = [
    Shortcut { number: 4, call: Call::Stat(Stat::Path) },       // stat
    Shortcut { number: 5, call: Call::Stat(Stat::Descriptor) }, // fstat
    Shortcut { number: 6, call: Call::Stat(Stat::Link) },       // lstat
    Shortcut { number: 21, call: Call::Access },                // access
    Shortcut { number: 89, call: Call::Readlink },              // readlink
    Shortcut { number: 257, call: Call::Open },                 // openat
    Shortcut { number: 262, call: Call::Stat(Stat::At) },       // newfstatat
    Shortcut { number: 267, call: Call::Readlink },             // readlinkat
    Shortcut { number: 269, call: Call::Access },               // faccessat
    Shortcut { number: 332, call: Call::Stat(Stat::Extended) }, // statx
    Shortcut { number: 439, call: Call::Access },               // faccessat2
];

impl Rule {
    /// Whether a call is worth a shortcut. With real owners no fstat is handed over; with records what is opened may have to
    /// be a file of the supervisor's (`/proc/PID/status`).
    fn shortens(self, call: Call, has_table: bool) -> bool {
        match self {
            Rule::Barriers => call != Call::Stat(Stat::Descriptor),
            Rule::Records => call != Call::Open,
            Rule::Outside { .. } if has_table => call != Call::Stat(Stat::Descriptor),
            Rule::Outside { .. } => call == Call::Stat(Stat::At),
        }
    }

    /// Whether programs have a table of what is known of paths.
    pub(super) fn has_table(self) -> bool {
        matches!(self, Rule::Outside { .. })
    }
}

/// The calls that ask for an xattr: by path, by path without following a link, by descriptor, and from a directory
/// (Linux 6.13).
const GETXATTR: u32 = 191;
const LGETXATTR: u32 = 192;
const FGETXATTR: u32 = 193;
const GETXATTRAT: u32 = 464;

/// Errors that no barrier, fence or record gives: they are right. ENOENT, ENOTDIR, EINVAL.
const RIGHT_ERRORS: [u8; 3] = [2, 20, 22];

/// Length of `mov $number, %eax`, and with the `syscall` behind it.
const MOVE: usize = 5;
const CALL: usize = 7;

/// Our code begins with what it needs: the token, the switch, the arguments of getxattrat(2), which are zeros, and the name
/// of the xattr.
const TOKEN: usize = 0;
const SWITCH: usize = 8;
const ARGUMENTS: usize = 16;
const NAME: usize = ARGUMENTS + super::ARGUMENTS_LENGTH as usize;
const CODE: usize = (NAME + OVERRIDE.len() + 1).next_multiple_of(16);

/// Bytes below the stack pointer that belong to the program (System V ABI, "red zone"), and room for six registers.
const STEP: i32 = 0x80 + 0x38;

/// Puts shortcuts into `text`, machine code whose bytes from `end` on are free. Gives where the switch is, a byte that is
/// to be made other than 0 to do without them from then on. `None` where there is nothing to be done, or no room. The table of
/// what is known of paths is `table` bytes behind the beginning of `text`, where there is one.
pub(super) fn put_shortcuts(
    text: &mut [u8],
    end: usize,
    token: u64,
    rule: Rule,
    table: Option<usize>,
) -> Option<usize> {
    let base = end.next_multiple_of(16);
    let mut at = base + CODE;
    let mut sites = 0;
    let lookup = table.map(|_| at);
    if let Some(table) = table {
        let code = known::lookup(at, table)?;
        text.get_mut(at..at + code.len())?.copy_from_slice(&code);
        at = (at + code.len()).next_multiple_of(16);
    }
    let worthwhile = |found: &(usize, Shortcut)| rule.shortens(found.1.call, table.is_some());
    for (site, shortcut) in find(&text[..end]).into_iter().filter(worthwhile) {
        let code = Code::new(at, site, base, rule, lookup).assemble(shortcut)?;
        let Some(room) = text.get_mut(at..at + code.len()) else { break };
        room.copy_from_slice(&code);
        text[site] = 0xe9;
        text[site + 1..site + MOVE].copy_from_slice(&relative(site + MOVE, at)?);
        at = (at + code.len()).next_multiple_of(16);
        sites += 1;
    }
    if sites == 0 {
        return None;
    }
    let data = &mut text[base..base + CODE];
    data.fill(0);
    data[TOKEN..TOKEN + 8].copy_from_slice(&token.to_le_bytes());
    data[NAME..NAME + OVERRIDE.len()].copy_from_slice(OVERRIDE.as_bytes());
    Some(base + SWITCH)
}

/// Where the calls are made that have shortcuts.
fn find(text: &[u8]) -> Vec<(usize, Shortcut)> {
    let number = |window: &[u8]| u32::from_le_bytes([window[1], window[2], window[3], window[4]]);
    let calls =
        text.windows(CALL).enumerate().filter(|(_, window)| window[0] == 0xb8 && window[MOVE..] == [0x0f, 0x05]);
    calls
        .filter_map(|(at, window)| Some((at, *SHORTCUTS.iter().find(|shortcut| shortcut.number == number(window))?)))
        .collect()
}

/// What a jump, or an address relative to the next instruction at `from`, needs to lead to `to`.
fn relative(from: usize, to: usize) -> Option<[u8; 4]> {
    Some(i32::try_from(to as i64 - from as i64).ok()?.to_le_bytes())
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

/// Kinds of jumps.
const ALWAYS: &[u8] = &[0xe9];
const IF_EQUAL: &[u8] = &[0x0f, 0x84];
const IF_NOT_EQUAL: &[u8] = &[0x0f, 0x85];
const IF_NOT_BELOW: &[u8] = &[0x0f, 0x83];
const IF_NEGATIVE: &[u8] = &[0x0f, 0x88];
const IF_NOT_POSITIVE: &[u8] = &[0x0f, 0x8e];

struct Code {
    bytes: Vec<u8>,
    /// Where it is going to be, the call it is for, and where the data is.
    at: usize,
    site: usize,
    base: usize,
    rule: Rule,
    /// Where the routine is that says what is known of a path.
    lookup: Option<usize>,
    /// Jumps: where the distance is, and to what.
    jumps: Vec<(usize, Label)>,
    labels: Vec<(Label, usize)>,
}

impl Code {
    fn new(at: usize, site: usize, base: usize, rule: Rule, lookup: Option<usize>) -> Code {
        Code { bytes: Vec::new(), at, site, base, rule, lookup, jumps: Vec::new(), labels: Vec::new() }
    }

    fn assemble(mut self, shortcut: Shortcut) -> Option<Vec<u8>> {
        // cmpb $0, switch(%rip); jne ask
        self.put(&[0x80, 0x3d]);
        self.put(&relative(self.here() + 5, self.base + SWITCH)?);
        self.put(&[0x00]);
        self.jump(IF_NOT_EQUAL, Label::Ask);
        if let Some(lookup) = self.lookup {
            self.ask_table(shortcut, lookup)?;
            if shortcut.call != Call::Stat(Stat::At) {
                self.ask(shortcut)?;
                return self.finish();
            }
            self.label(Label::Native);
        }
        // lea -STEP(%rsp), %rsp; mov %r9, (%rsp); mov token(%rip), %r9
        self.move_stack(-STEP);
        self.put(&[0x4c, 0x89, 0x0c, 0x24, 0x4c, 0x8b, 0x0d]);
        self.data(TOKEN)?;
        self.number(shortcut.number);
        self.syscall();
        // cmp $-4095, %rax; jae failed
        self.put(&[0x48, 0x3d]);
        self.put(&(-4095i32).to_le_bytes());
        self.jump(IF_NOT_BELOW, Label::Failed);
        match (self.rule, shortcut.call) {
            (Rule::Barriers, Call::Readlink) => self.jump(ALWAYS, Label::AskBelow),
            (Rule::Barriers, Call::Stat(stat)) => {
                self.load_type(stat);
                self.compare_type(0xa000);
                self.jump(IF_NOT_EQUAL, Label::Made);
                self.jump(ALWAYS, Label::AskBelow);
            }
            (Rule::Records | Rule::Outside { .. }, Call::Stat(stat)) => self.ask_for_record(stat)?,
            _ => self.jump(ALWAYS, Label::Made),
        }
        self.label(Label::Failed);
        // Of a path that begins at the root, failure tells nothing where that is another one.
        let is_right = !matches!(self.rule, Rule::Outside { .. });
        for errno in RIGHT_ERRORS.into_iter().filter(|_| is_right) {
            // cmp $-errno, %rax; je made
            self.put(&[0x48, 0x83, 0xf8, errno.wrapping_neg()]);
            self.jump(IF_EQUAL, Label::Made);
        }
        self.label(Label::AskBelow);
        self.restore_stack();
        self.ask(shortcut)?;
        self.label(Label::Made);
        self.restore_stack();
        self.leave(self.site + CALL)?;
        self.finish()
    }

    /// The end where the supervisor is asked.
    fn ask(&mut self, shortcut: Shortcut) -> Option<()> {
        self.label(Label::Ask);
        self.number(shortcut.number);
        self.leave(self.site + MOVE)
    }

    /// All of it, with its jumps leading where they should.
    fn finish(mut self) -> Option<Vec<u8>> {
        for (from, label) in &self.jumps {
            let to = self.labels.iter().find(|(known, _)| known == label)?.1;
            self.bytes[*from..from + 4].copy_from_slice(&relative(from + 4, to)?);
        }
        Some(self.bytes)
    }

    /// A stat call has succeeded: its answer is right for a file or directory without a record.
    fn ask_for_record(&mut self, stat: Stat) -> Option<()> {
        self.load_type(stat);
        self.compare_type(0x8000);
        self.jump(IF_EQUAL, Label::Record);
        self.compare_type(0x4000);
        self.jump(IF_NOT_EQUAL, Label::AskBelow);
        self.label(Label::Record);
        // mov %rdi, 8(%rsp) and so on: rsi, rdx, r10, r8.
        self.put(&[0x48, 0x89, 0x7c, 0x24, 0x08, 0x48, 0x89, 0x74, 0x24, 0x10, 0x48, 0x89, 0x54, 0x24, 0x18]);
        self.put(&[0x4c, 0x89, 0x54, 0x24, 0x20, 0x4c, 0x89, 0x44, 0x24, 0x28]);
        match stat {
            Stat::Path => self.number(GETXATTR),
            Stat::Link => self.number(LGETXATTR),
            Stat::Descriptor => self.number(FGETXATTR),
            Stat::At | Stat::Extended => self.name_at(stat)?,
        }
        // lea name(%rip), %rsi; xor %edx, %edx; xor %r10d, %r10d: its length is asked for.
        self.put(&[0x48, 0x8d, 0x35]);
        self.data(NAME)?;
        self.put(&[0x31, 0xd2, 0x45, 0x31, 0xd2]);
        self.label(Label::Ready);
        self.syscall();
        self.put(&[0x48, 0x8b, 0x7c, 0x24, 0x08, 0x48, 0x8b, 0x74, 0x24, 0x10, 0x48, 0x8b, 0x54, 0x24, 0x18]);
        self.put(&[0x4c, 0x8b, 0x54, 0x24, 0x20, 0x4c, 0x8b, 0x44, 0x24, 0x28]);
        // cmp $-ENODATA, %rax; jne ask; xor %eax, %eax
        self.put(&[0x48, 0x83, 0xf8, 61u8.wrapping_neg()]);
        self.jump(IF_NOT_EQUAL, Label::AskBelow);
        self.put(&[0x31, 0xc0]);
        if let Rule::Outside { uid, gid } = self.rule {
            // The ids, at these offsets from rdx: cmpl $id, offset(%rdx); jne +7; movl $0, offset(%rdx)
            for (offset, id) in [(28, uid), (32, gid)] {
                self.put(&[0x81, 0x7a, offset]);
                self.put(&id.to_le_bytes());
                self.put(&[0x75, 0x07, 0xc7, 0x42, offset, 0, 0, 0, 0]);
            }
        }
        self.jump(ALWAYS, Label::Made);
        Some(())
    }

    /// The call, and the file, for what a path from a directory names.
    fn name_at(&mut self, stat: Stat) -> Option<()> {
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
        if matches!(self.rule, Rule::Outside { .. }) {
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
        self.data(NAME)?;
        // lea arguments(%rip), %r8; mov $length, %r9d
        self.put(&[0x4c, 0x8d, 0x05]);
        self.data(ARGUMENTS)?;
        self.put(&[0x41, 0xb9]);
        self.put(&super::ARGUMENTS_LENGTH.to_le_bytes());
        self.number(GETXATTRAT);
        self.jump(ALWAYS, Label::Ready);
        self.label(Label::ByDescriptor);
        self.number(FGETXATTR);
        self.label(Label::Named);
        Some(())
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

    fn here(&self) -> usize {
        self.at + self.bytes.len()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Where something of our data is, for an instruction that ends with that.
    fn data(&mut self, offset: usize) -> Option<()> {
        self.put(&relative(self.here() + 4, self.base + offset)?);
        Some(())
    }

    fn syscall(&mut self) {
        self.put(&[0x0f, 0x05]);
    }

    /// `mov $number, %eax`
    fn number(&mut self, number: u32) {
        self.put(&[0xb8]);
        self.put(&number.to_le_bytes());
    }

    /// The mode into `ecx`; `and $S_IFMT, %ecx`
    fn load_type(&mut self, stat: Stat) {
        self.put(stat.load_mode());
        self.put(&[0x81, 0xe1, 0x00, 0xf0, 0x00, 0x00]);
    }

    /// `cmp $kind, %ecx`
    fn compare_type(&mut self, kind: u32) {
        self.put(&[0x81, 0xf9]);
        self.put(&kind.to_le_bytes());
    }

    /// `lea by(%rsp), %rsp`, which leaves the flags alone.
    fn move_stack(&mut self, by: i32) {
        self.put(&[0x48, 0x8d, 0xa4, 0x24]);
        self.put(&by.to_le_bytes());
    }

    /// `mov (%rsp), %r9`, and the stack as it was.
    fn restore_stack(&mut self) {
        self.put(&[0x4c, 0x8b, 0x0c, 0x24]);
        self.move_stack(STEP);
    }

    fn jump(&mut self, kind: &[u8], to: Label) {
        self.put(kind);
        self.put(&[0; 4]);
        self.jumps.push((self.bytes.len() - 4, to));
    }

    /// A jump back into the library.
    fn leave(&mut self, to: usize) -> Option<()> {
        self.put(ALWAYS);
        self.put(&relative(self.here() + 4, to)?);
        Some(())
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u32) -> Vec<u8> {
        [&[0xb8][..], &number.to_le_bytes(), &[0x0f, 0x05]].concat()
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
        let switch = put_shortcuts(&mut text, end, 0x1122_3344_5566_7788, rule, table).unwrap();
        assert_eq!(text[switch], 0);
        assert_eq!(text[switch - 8..switch], 0x1122_3344_5566_7788u64.to_le_bytes());
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
    fn does_without_room_or_calls() {
        let mut full = [call(89), vec![0; 8]].concat();
        assert_eq!(put_shortcuts(&mut full, 7, 1, Rule::Barriers, None), None);
        let mut other = [call(1), vec![0; 4096]].concat();
        let before = other.clone();
        assert_eq!(put_shortcuts(&mut other, 7, 1, Rule::Barriers, None), None);
        assert_eq!(other, before);
    }
}
