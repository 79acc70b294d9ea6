//! The machine code of shortcuts, for x86-64.
//!
//! A C library makes a system call by `mov $number, %eax; syscall`. The first of the two instructions becomes a jump to
//! code of ours, which makes the call with the token in its last argument, which it does not use, and goes on behind the
//! library's `syscall`; or, where the answer may not be the right one, at it, with the number in place: that call is handed
//! over. A program that jumps to the `syscall` itself is none the wiser, because that stays where it was.
//!
//! Of what the program's registers hold nothing changes but what a system call changes: the result, `rcx`, `r11` and flags.

/// A kind of call that is worth a shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shortcut {
    number: u32,
    success: Success,
}

/// What is known once a call has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Success {
    /// It is right: the path led through no barrier.
    Right,
    /// What was found is a symbolic link, so it may be a barrier.
    Link,
    /// What was found is one if the mode says so, which these instructions load into `ecx`.
    Mode(&'static [u8]),
}

/// The mode in a `struct stat` that `rsi` or `rdx` points to, and in a `struct statx` that `r8` does.
const STAT_RSI: Success = Success::Mode(&[0x8b, 0x4e, 0x18]);
const STAT_RDX: Success = Success::Mode(&[0x8b, 0x4a, 0x18]);
const STATX_R8: Success = Success::Mode(&[0x41, 0x0f, 0xb7, 0x48, 0x1c]);

/// The calls that look at files and change nothing. Numbers are those of x86-64, whatever this program was built for.
const SHORTCUTS: [Shortcut; 10] = [
    Shortcut { number: 4, success: STAT_RSI },         // stat
    Shortcut { number: 6, success: STAT_RSI },         // lstat
    Shortcut { number: 21, success: Success::Right },  // access
    Shortcut { number: 89, success: Success::Link },   // readlink
    Shortcut { number: 257, success: Success::Right }, // openat
    Shortcut { number: 262, success: STAT_RDX },       // newfstatat
    Shortcut { number: 267, success: Success::Link },  // readlinkat
    Shortcut { number: 269, success: Success::Right }, // faccessat
    Shortcut { number: 332, success: STATX_R8 },       // statx
    Shortcut { number: 439, success: Success::Right }, // faccessat2
];

/// Errors that no barrier and no fence gives: they are right. ENOENT, ENOTDIR, EINVAL.
const RIGHT_ERRORS: [u8; 3] = [2, 20, 22];

/// Length of `mov $number, %eax`, and with the `syscall` behind it.
const MOVE: usize = 5;
const CALL: usize = 7;

/// Our code begins with the token and the switch.
const TOKEN: usize = 0;
const SWITCH: usize = 8;
const CODE: usize = 16;

/// Bytes below the stack pointer that belong to the program (System V ABI, "red zone"), and room for a register.
const STEP: i32 = 0x80 + 8;

/// Puts shortcuts into `text`, machine code whose bytes from `end` on are free. Gives where the switch is, a byte that is
/// to be made other than 0 to do without them from then on. `None` where there is nothing to be done, or no room.
pub(super) fn put_shortcuts(text: &mut [u8], end: usize, token: u64) -> Option<usize> {
    let base = end.next_multiple_of(16);
    let mut at = base + CODE;
    let mut sites = 0;
    for (site, shortcut) in find(&text[..end]) {
        let code = Code::new(at, site, base).assemble(shortcut)?;
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
    text[base + TOKEN..base + TOKEN + 8].copy_from_slice(&token.to_le_bytes());
    text[base + SWITCH] = 0;
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
    Done,
    /// It is an error.
    Failed,
    /// The supervisor is to be asked.
    Ask,
}

struct Code {
    bytes: Vec<u8>,
    /// Where it is going to be, the call it is for, and where the token and the switch are.
    at: usize,
    site: usize,
    base: usize,
    /// Short jumps: where the distance is, and to what.
    jumps: Vec<(usize, Label)>,
    labels: Vec<(Label, usize)>,
}

impl Code {
    fn new(at: usize, site: usize, base: usize) -> Code {
        Code { bytes: Vec::new(), at, site, base, jumps: Vec::new(), labels: Vec::new() }
    }

    fn assemble(mut self, shortcut: Shortcut) -> Option<Vec<u8>> {
        // cmpb $0, switch(%rip); jne ask
        self.put(&[0x80, 0x3d]);
        self.put(&relative(self.here() + 5, self.base + SWITCH)?);
        self.put(&[0x00]);
        self.jump(0x75, Label::Ask);
        // lea -STEP(%rsp), %rsp; mov %r9, (%rsp); mov token(%rip), %r9
        self.move_stack(-STEP);
        self.put(&[0x4c, 0x89, 0x0c, 0x24, 0x4c, 0x8b, 0x0d]);
        self.put(&relative(self.here() + 4, self.base + TOKEN)?);
        self.number(shortcut.number);
        self.put(&[0x0f, 0x05]); // syscall
        // mov (%rsp), %r9; lea STEP(%rsp), %rsp
        self.put(&[0x4c, 0x8b, 0x0c, 0x24]);
        self.move_stack(STEP);
        // cmp $-4095, %rax; jae failed
        self.put(&[0x48, 0x3d]);
        self.put(&(-4095i32).to_le_bytes());
        self.jump(0x73, Label::Failed);
        match shortcut.success {
            Success::Right => self.jump(0xeb, Label::Done),
            Success::Link => self.jump(0xeb, Label::Ask),
            Success::Mode(load) => {
                self.put(load);
                // and $S_IFMT, %ecx; cmp $S_IFLNK, %ecx; jne done; jmp ask
                self.put(&[0x81, 0xe1, 0x00, 0xf0, 0x00, 0x00, 0x81, 0xf9, 0x00, 0xa0, 0x00, 0x00]);
                self.jump(0x75, Label::Done);
                self.jump(0xeb, Label::Ask);
            }
        }
        self.label(Label::Failed);
        for errno in RIGHT_ERRORS {
            // cmp $-errno, %rax; je done
            self.put(&[0x48, 0x83, 0xf8, errno.wrapping_neg()]);
            self.jump(0x74, Label::Done);
        }
        self.label(Label::Ask);
        self.number(shortcut.number);
        self.leave(self.site + MOVE)?;
        self.label(Label::Done);
        self.leave(self.site + CALL)?;
        for (from, label) in &self.jumps {
            let to = self.labels.iter().find(|(known, _)| known == label)?.1;
            self.bytes[*from] = i8::try_from(to as i64 - (*from as i64 + 1)).ok()? as u8;
        }
        Some(self.bytes)
    }

    fn here(&self) -> usize {
        self.at + self.bytes.len()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `mov $number, %eax`
    fn number(&mut self, number: u32) {
        self.put(&[0xb8]);
        self.put(&number.to_le_bytes());
    }

    /// `lea by(%rsp), %rsp`, which leaves the flags alone.
    fn move_stack(&mut self, by: i32) {
        self.put(&[0x48, 0x8d, 0xa4, 0x24]);
        self.put(&by.to_le_bytes());
    }

    /// A short jump of this kind.
    fn jump(&mut self, kind: u8, to: Label) {
        self.put(&[kind, 0]);
        self.jumps.push((self.bytes.len() - 1, to));
    }

    /// A jump back into the library.
    fn leave(&mut self, to: usize) -> Option<()> {
        self.put(&[0xe9]);
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
        let mut text = [&[0x90; 10][..], &call(89), &[0xc3], &call(0), &call(262), &[0x90; 4]].concat();
        let end = text.len();
        text.resize(4096, 0);
        let before = text.clone();
        let switch = put_shortcuts(&mut text, end, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(text[switch], 0);
        assert_eq!(text[switch - 8..switch], 0x1122_3344_5566_7788u64.to_le_bytes());
        let changed: Vec<usize> = (0..end).filter(|at| text[*at] != before[*at]).collect();
        assert!(changed.iter().all(|at| (10..15).contains(at) || (25..30).contains(at)), "{changed:?}");
        for site in [10, 25] {
            assert_eq!(text[site], 0xe9, "a jump");
            assert_eq!(text[site + 5..site + 7], [0x0f, 0x05], "the call itself stays");
            let distance = i32::from_le_bytes(text[site + 1..site + 5].try_into().unwrap());
            let to = (site as i32 + 5 + distance) as usize;
            assert!(to >= switch + 8 && text[to..to + 2] == [0x80, 0x3d], "to our code: {to}");
        }
    }

    #[test]
    fn does_without_room_or_calls() {
        let mut full = [call(89), vec![0; 8]].concat();
        assert_eq!(put_shortcuts(&mut full, 7, 1), None);
        let mut other = [call(1), vec![0; 4096]].concat();
        let before = other.clone();
        assert_eq!(put_shortcuts(&mut other, 7, 1), None);
        assert_eq!(other, before);
    }
}
