//! The machine code that answers by the table of what is known of paths, see `findings`.

use super::instructions::{ALWAYS, IF_EQUAL, IF_NOT_EQUAL, STEP, relative};
use super::{Call, Code, Label, Shortcut, Stat};
use crate::sandbox::supervisor::findings::{Finding, HASH_BEGIN, HASH_INDEX, HASH_TIMES, TABLE};

/// Kinds of jumps.
const IF_NEGATIVE: u8 = 0x78;
const IF_NOT_POSITIVE: u8 = 0x7e;

/// What the routine gives beside a [`Finding`]: nothing is known of the path; it begins not at the root, or is no path.
const OTHER: u8 = 3;

/// Which argument a path is: the first, or the second.
#[derive(Clone, Copy)]
enum Path {
    First,
    Second,
}

/// A routine that looks the path at `rax` up and gives in `eax` what is known of it. It changes `rcx` and `r11` besides, as a
/// system call does. The table is at `table`.
///
/// That the path can be read it finds out by rt_sigprocmask(2), which reads eight bytes before it refuses what it is asked to
/// do, and fails otherwise if it cannot: the page that these are in it may read to its end.
pub(super) fn lookup(at: usize, table: usize) -> Option<Vec<u8>> {
    let mut code = vec![
        0x57,
        0x56,
        0x52,
        0x41,
        0x52,
        0x50, // push %rdi, %rsi, %rdx, %r10, %rax
        0x48,
        0x89,
        0xc6,
        0x48,
        0x83,
        0xe6,
        0xf8, // mov %rax, %rsi; and $-8, %rsi
        0x83,
        0xcf,
        0xff,
        0x31,
        0xd2, // or $-1, %edi; xor %edx, %edx
        0x41,
        0xba,
        8,
        0,
        0,
        0,
        0xb8,
        14,
        0,
        0,
        0,
        0x0f,
        0x05, // mov $8, %r10d; mov $14, %eax; syscall
        0x5e,
        0x83,
        0xf8,
        22u8.wrapping_neg(), // pop %rsi; cmp $-EINVAL, %eax
    ];
    let to_other = [jump_short(&mut code, 0x75), {
        code.extend([0x80, 0x3e, b'/']);
        jump_short(&mut code, 0x75)
    }];
    code.extend([0x48, 0xb8]); // movabs $begin, %rax; movabs $times, %r11
    code.extend(HASH_BEGIN.to_le_bytes());
    code.extend([0x49, 0xbb]);
    code.extend(HASH_TIMES.to_le_bytes());
    let next = code.len();
    code.extend([0x0f, 0xb6, 0x0e, 0x85, 0xc9]); // movzbl (%rsi), %ecx; test %ecx, %ecx; je end
    let to_end = jump_short(&mut code, 0x74);
    code.extend([0x48, 0x31, 0xc8, 0x49, 0x0f, 0xaf, 0xc3, 0x48, 0xff, 0xc6]); // xor %rcx, %rax; imul %r11, %rax; inc %rsi
    code.extend([0xf7, 0xc6, 0xff, 0x0f, 0, 0]); // test $0xfff, %esi; jne next
    let again = jump_short(&mut code, 0x75);
    lead(&mut code, again, next)?;
    code.extend([0x31, 0xc0]); // xor %eax, %eax: it goes on in another page
    let to_out = jump_short(&mut code, 0xeb);
    let end = code.len();
    lead(&mut code, to_end, end)?;
    code.extend([0x48, 0x89, 0xc1, 0x48, 0xc1, 0xe9, HASH_INDEX as u8, 0x81, 0xe1]); // mov %rax, %rcx; shr $index, %rcx; and
    code.extend((TABLE as u32 - 1).to_le_bytes());
    code.extend([0x4c, 0x8d, 0x1d]); // lea table(%rip), %r11
    let distance = relative(at + code.len() + 4, table)?;
    code.extend(distance);
    code.extend([0x4d, 0x8b, 0x1c, 0xcb, 0x49, 0x31, 0xc3]); // mov (%r11,%rcx,8), %r11; xor %rax, %r11
    code.extend([0x83, 0xe0, 0x03, 0x49, 0x83, 0xfb, 0x03]); // and $3, %eax; cmp $3, %r11; jbe same
    let to_same = jump_short(&mut code, 0x76);
    code.extend([0x31, 0xc0]); // xor %eax, %eax
    let to_out_too = jump_short(&mut code, 0xeb);
    let other = code.len();
    to_other.into_iter().try_for_each(|from| lead(&mut code, from, other))?;
    code.extend([0xb8, OTHER, 0, 0, 0]); // mov $other, %eax
    let from_other = jump_short(&mut code, 0xeb);
    let same = code.len();
    lead(&mut code, to_same, same)?;
    code.extend([0x44, 0x31, 0xd8]); // xor %r11d, %eax
    let out = code.len();
    [to_out, to_out_too, from_other].into_iter().try_for_each(|from| lead(&mut code, from, out))?;
    code.extend([0x41, 0x5a, 0x5a, 0x5e, 0x5f, 0xc3]); // pop %r10, %rdx, %rsi, %rdi; ret
    Some(code)
}

/// A jump of this kind; where its distance is.
fn jump_short(code: &mut Vec<u8>, kind: u8) -> usize {
    code.extend([kind, 0]);
    code.len() - 1
}

/// Makes a jump lead to `to`.
fn lead(code: &mut [u8], from: usize, to: usize) -> Option<()> {
    code[from] = i8::try_from(to as i64 - from as i64 - 1).ok()? as u8;
    Some(())
}

impl Code<'_> {
    /// Answers by the table, where that is enough; goes on at [`Label::Ask`], or with a path that begins not at the root
    /// at [`Label::Native`].
    pub(super) fn ask_table(&mut self, shortcut: Shortcut) {
        let reads_link = matches!(shortcut.call, Call::Readlink | Call::ReadlinkAt);
        let is_stat_at = shortcut.call == Call::Stat(Stat::At);
        let path = self.check_arguments(shortcut);
        if is_stat_at {
            // cmp $AT_FDCWD, %edi: others are of who gives names in it.
            self.put(&[0x83, 0xff, 100u8.wrapping_neg()]);
            self.jump(IF_NOT_EQUAL, Label::Native);
        }
        self.move_stack(-STEP);
        // mov path, %rax; call lookup
        self.put(match path {
            Path::First => &[0x48, 0x89, 0xf8, 0xe8],
            Path::Second => &[0x48, 0x89, 0xf0, 0xe8],
        });
        self.reference(self.lookup, 0);
        self.move_stack(STEP);
        self.if_is(Finding::Nothing as u8, Label::Nothing);
        if reads_link {
            self.if_is(Finding::NoLink as u8, Label::NoLink);
        }
        if is_stat_at {
            self.if_is(OTHER, Label::Native);
        }
        self.jump(ALWAYS, Label::Ask);
        self.fail(Label::Nothing, libc::ENOENT);
        if reads_link {
            self.fail(Label::NoLink, libc::EINVAL);
        }
    }

    /// Asks where the call fails by its other arguments before its path is looked at. Which one the path is.
    fn check_arguments(&mut self, shortcut: Shortcut) -> Path {
        let (in_esi, in_edx, in_r10): (&[u8], &[u8], &[u8]) = (&[0xf7, 0xc6], &[0xf7, 0xc2], &[0x41, 0xf7, 0xc2]);
        let more_than = |known: i32| !known as u32;
        let stat = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
        let access = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_EACCESS;
        let making = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
        match (shortcut.call, shortcut.number) {
            (Call::Open, _) => self.ask_if_any(in_edx, making),
            (Call::Access, 21) => {
                self.ask_if_any(in_esi, more_than(7));
                return Path::First;
            }
            (Call::Access, number) => {
                self.ask_if_any(in_edx, more_than(7));
                if number == 439 {
                    self.ask_if_any(in_r10, more_than(access));
                }
            }
            (Call::Readlink, _) => {
                // test %edx, %edx: the buffer's size
                self.put(&[0x85, 0xd2]);
                self.jump(IF_NOT_POSITIVE, Label::Ask);
                return Path::First;
            }
            (Call::ReadlinkAt, _) => {
                // test %r10d, %r10d
                self.put(&[0x45, 0x85, 0xd2]);
                self.jump(IF_NOT_POSITIVE, Label::Ask);
            }
            (Call::Stat(Stat::At), _) => self.ask_if_any(in_r10, more_than(stat)),
            (Call::Stat(Stat::Extended), _) => {
                self.ask_if_any(in_edx, more_than(stat));
                // test %r10d, %r10d: `STATX__RESERVED`
                self.put(&[0x45, 0x85, 0xd2]);
                self.jump(IF_NEGATIVE, Label::Ask);
            }
            (Call::Stat(Stat::Path | Stat::Link | Stat::Descriptor) | Call::ReadDirectory, _) => return Path::First,
        }
        Path::Second
    }

    /// `test $bits, argument; jne ask`
    fn ask_if_any(&mut self, argument: &[u8], bits: u32) {
        self.put(argument);
        self.put(&bits.to_le_bytes());
        self.jump(IF_NOT_EQUAL, Label::Ask);
    }

    /// `cmp $value, %eax; je to`
    fn if_is(&mut self, value: u8, to: Label) {
        self.put(&[0x83, 0xf8, value]);
        self.jump(IF_EQUAL, to);
    }

    /// The end where the call has failed: `mov $-errno, %rax`.
    fn fail(&mut self, label: Label, errno: i32) {
        self.label(label);
        self.put(&[0x48, 0xc7, 0xc0]);
        self.put(&(-errno).to_le_bytes());
        self.leave(self.site + super::CALL);
    }
}
