//! What several shortcuts call where owners are recorded.

use super::instructions::{IF_BELOW, IF_EQUAL, IF_NOT_EQUAL, NUMBER, RAX, RDI, RSI, SLOT, relative};
use super::{CLOSE, Code, FSTAT, GENERATION, Label, Slots, TREE};

impl Code<'_> {
    /// What is called when a file has been opened: says "equal" if it is what /proc tells of a process, by its name
    /// (`/proc/PID/status`), and then has closed it.
    pub(super) fn opened(mut self) -> Option<Vec<u8>> {
        self.depth = 8; // where it returns to
        self.save(&[RAX]);
        // mov %rsi, %rcx; next byte: inc %rcx; cmpb $0, -1(%rcx); jne next byte
        self.put(&[0x48, 0x89, 0xf1]);
        self.label(Label::NextByte);
        self.put(&[0x48, 0xff, 0xc1, 0x80, 0x79, 0xff, 0x00]);
        self.jump(IF_NOT_EQUAL, Label::NextByte);
        // mov %rcx, %rax; sub %rsi, %rax; cmp $5, %rax, with the zero byte; mov the result, %rax; jb right
        self.put(&[0x48, 0x89, 0xc8, 0x48, 0x29, 0xf0, 0x48, 0x83, 0xf8, 0x05]);
        self.load(&[RAX]);
        self.jump(IF_BELOW, Label::Right);
        // cmpl $"atus", -5(%rcx); jne right
        self.put(&[0x81, 0x79, 0xfb]);
        self.put(b"atus");
        self.jump(IF_NOT_EQUAL, Label::Right);
        self.save(&[RDI, RSI]);
        // mov %eax, %edi
        self.put(&[0x89, 0xc7]);
        self.open_structure();
        self.number(FSTAT);
        self.syscall();
        // test %eax, %eax; jnz close
        self.put(&[0x85, 0xc0]);
        self.jump(IF_NOT_EQUAL, Label::Close);
        self.compare_device()?;
        self.jump(IF_EQUAL, Label::Close);
        self.load(&[RDI, RSI, RAX]);
        self.label(Label::Right);
        // test %rsp, %rsp; ret
        self.put(&[0x48, 0x85, 0xe4, 0xc3]);
        self.label(Label::Close);
        self.number(CLOSE);
        self.syscall();
        self.load(&[RDI, RSI]);
        // cmp %eax, %eax; ret
        self.put(&[0x39, 0xc0, 0xc3]);
        self.finish()
    }

    /// What is called with `rcx` at a `struct stat` of a file: says "equal" if it is remembered that it has no record, else leaves
    /// where that can be remembered, and how. A number there is an inode and the generation, so that it means nothing in others.
    pub(super) fn remembers(mut self, slots: Slots) -> Option<Vec<u8>> {
        self.depth = 8;
        // mov (%rcx), %rax; cmp tree(%rip), %rax; jne right
        self.put(&[0x48, 0x8b, 0x01, 0x48, 0x3b, 0x05]);
        self.data(TREE)?;
        self.jump(IF_NOT_EQUAL, Label::Right);
        // mov 8(%rcx), %rcx; mov %rcx, %rax; xor generation(%rip), %rax; and $(count - 1), %ecx
        self.put(&[0x48, 0x8b, 0x49, 0x08, 0x48, 0x89, 0xc8, 0x48, 0x33, 0x05]);
        self.data(GENERATION)?;
        self.put(&[0x83, 0xe1, slots.count - 1]);
        // lea slots(%rip), %r11; lea (%r11, %rcx, 8), %r11; mov %r11, slot(%rsp); mov %rax, number(%rsp); cmp %rax, (%r11); ret
        self.put(&[0x4c, 0x8d, 0x1d]);
        self.put(&relative(self.here() + 4, slots.distance)?);
        self.put(&[0x4d, 0x8d, 0x1c, 0xcb, 0x4c, 0x89, 0x5c, 0x24, SLOT + self.depth]);
        self.put(&[0x48, 0x89, 0x44, 0x24, NUMBER + self.depth, 0x49, 0x39, 0x03, 0xc3]);
        self.label(Label::Right);
        // lea number(%rsp), %r11; mov %r11, slot(%rsp); test %rsp, %rsp; ret
        self.put(&[0x4c, 0x8d, 0x5c, 0x24, NUMBER + self.depth, 0x4c, 0x89, 0x5c, 0x24, SLOT + self.depth]);
        self.put(&[0x48, 0x85, 0xe4, 0xc3]);
        self.finish()
    }
}
