//! The instructions that shortcuts are made of, and their registers, stack and jumps.

use super::{Code, Label, Stat};

/// A place between bytes: how many are before it but for jumps, and how many jumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    bytes: usize,
    jumps: usize,
}

/// A jump, which is short where its target is near.
#[derive(Debug, Clone, Copy)]
pub(super) struct Jump {
    at: Position,
    kind: u8,
    to: Label,
    is_long: bool,
}

impl Jump {
    fn length(&self) -> usize {
        match (self.is_long, self.kind) {
            (false, _) => 2,
            (true, ALWAYS) => 5,
            (true, _) => 6,
        }
    }
}

/// Four bytes that tell how far something is from the instruction behind them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference {
    at: Position,
    /// What of the instruction comes after them.
    rest: usize,
    to: usize,
}

/// Bytes below the stack pointer that belong to the program (System V ABI, "red zone"), room for seven registers and for a
/// `struct stat`.
pub(super) const STEP: i32 = 0x80 + 0x38 + 0x90;

/// Where that room has what: registers, and the structure.
pub(super) const R9: u8 = 0x00;
pub(super) const RDI: u8 = 0x08;
pub(super) const RSI: u8 = 0x10;
pub(super) const RDX: u8 = 0x18;
pub(super) const R10: u8 = 0x20;
pub(super) const R8: u8 = 0x28;
pub(super) const RAX: u8 = 0x30;
pub(super) const STRUCTURE: u8 = 0x38;

/// What is there in its place where none is asked for: where a number is to be remembered, and it.
pub(super) const SLOT: u8 = STRUCTURE;
pub(super) const NUMBER: u8 = STRUCTURE + 8;

/// Kinds of jumps, as short ones begin.
pub(super) const ALWAYS: u8 = 0xeb;
pub(super) const IF_EQUAL: u8 = 0x74;
pub(super) const IF_NOT_EQUAL: u8 = 0x75;
pub(super) const IF_NOT_BELOW: u8 = 0x73;
pub(super) const IF_BELOW: u8 = 0x72;

/// What a jump, or an address relative to the next instruction at `from`, needs to lead to `to`.
pub(super) fn relative(from: usize, to: usize) -> Option<[u8; 4]> {
    Some(i32::try_from(to as i64 - from as i64).ok()?.to_le_bytes())
}

impl Stat {
    /// Instructions that load the mode into `ecx`.
    pub(super) fn load_mode(self) -> &'static [u8] {
        match self {
            Stat::Path | Stat::Link | Stat::Descriptor => &[0x8b, 0x4e, 0x18],
            Stat::At => &[0x8b, 0x4a, 0x18],
            Stat::Extended => &[0x41, 0x0f, 0xb7, 0x48, 0x1c],
        }
    }

    /// Instructions that load the inode into `rax`.
    pub(super) fn load_inode(self) -> &'static [u8] {
        match self {
            Stat::Path | Stat::Link | Stat::Descriptor => &[0x48, 0x8b, 0x46, 0x08],
            Stat::At => &[0x48, 0x8b, 0x42, 0x08],
            Stat::Extended => &[0x49, 0x8b, 0x40, 0x20],
        }
    }
}

impl Code<'_> {
    fn here(&self) -> Position {
        Position { bytes: self.bytes.len(), jumps: self.jumps.len() }
    }

    /// How far something in the library's text is from here, for an instruction that has so many bytes left after that.
    pub(super) fn reference(&mut self, to: usize, rest: usize) {
        self.references.push(Reference { at: self.here(), rest, to });
        self.put(&[0; 4]);
    }

    /// All of it, with its distances. `None` where something is too far away.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        while let Some(jump) = (0..self.jumps.len()).find(|jump| !self.reaches(*jump)) {
            self.jumps[jump].is_long = true;
        }
        let (mut out, mut done) = (Vec::new(), 0);
        for (number, jump) in self.jumps.iter().enumerate() {
            out.extend_from_slice(&self.bytes[done..jump.at.bytes]);
            done = jump.at.bytes;
            let distance = i32::try_from(self.distance(number)?).ok()?;
            match (jump.is_long, jump.kind) {
                (false, kind) => out.extend([kind, distance as u8]),
                (true, ALWAYS) => out.push(0xe9),
                (true, kind) => out.extend([0x0f, kind + 0x10]),
            }
            if jump.is_long {
                out.extend(distance.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.bytes[done..]);
        for reference in &self.references {
            let at = self.offset(reference.at);
            out[at..at + 4].copy_from_slice(&relative(self.at + at + 4 + reference.rest, reference.to)?);
        }
        Some(out)
    }

    fn offset(&self, position: Position) -> usize {
        position.bytes + self.jumps[..position.jumps].iter().map(Jump::length).sum::<usize>()
    }

    /// How far the target of a jump is from its end.
    fn distance(&self, number: usize) -> Option<i64> {
        let Jump { at, to, .. } = self.jumps[number];
        let target = self.labels.iter().find(|(label, _)| *label == to)?.1;
        Some(self.offset(target) as i64 - self.offset(Position { jumps: number + 1, ..at }) as i64)
    }

    fn reaches(&self, number: usize) -> bool {
        self.jumps[number].is_long || self.distance(number).is_none_or(|distance| i8::try_from(distance).is_ok())
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Where something of our data is, for an instruction that ends with that.
    pub(super) fn data(&mut self, offset: usize) {
        self.reference(self.base + offset, 0);
    }

    /// `call routine`
    pub(super) fn call(&mut self, routine: usize) {
        self.put(&[0xe8]);
        self.reference(routine, 0);
    }

    pub(super) fn syscall(&mut self) {
        self.put(&[0x0f, 0x05]);
    }

    /// `mov $number, %eax`
    pub(super) fn number(&mut self, number: u32) {
        self.put(&[0xb8]);
        self.put(&number.to_le_bytes());
    }

    /// The mode into `ecx`; `and $S_IFMT, %ecx`
    pub(super) fn load_type(&mut self, stat: Stat) {
        self.put(stat.load_mode());
        self.put(&[0x81, 0xe1, 0x00, 0xf0, 0x00, 0x00]);
    }

    /// `cmp $kind, %ecx`
    pub(super) fn compare_type(&mut self, kind: u32) {
        self.put(&[0x81, 0xf9]);
        self.put(&kind.to_le_bytes());
    }

    /// `lea by(%rsp), %rsp`, which leaves the flags alone.
    pub(super) fn move_stack(&mut self, by: i32) {
        self.put(&[0x48, 0x8d, 0xa4, 0x24]);
        self.put(&by.to_le_bytes());
    }

    /// `mov %register, offset(%rsp)` for each of these.
    pub(super) fn save(&mut self, registers: &[u8]) {
        self.move_registers(0x89, registers);
    }

    /// `mov offset(%rsp), %register` for each of these.
    pub(super) fn load(&mut self, registers: &[u8]) {
        self.move_registers(0x8b, registers);
    }

    fn move_registers(&mut self, operation: u8, registers: &[u8]) {
        for offset in registers.iter().copied() {
            let [prefix, register] = match offset {
                RDI => [0x48, 0x7c],
                RSI => [0x48, 0x74],
                RDX => [0x48, 0x54],
                R10 => [0x4c, 0x54],
                R8 => [0x4c, 0x44],
                R9 => [0x4c, 0x4c],
                _ => [0x48, 0x44], // rax
            };
            self.put(&[prefix, operation, register, 0x24, offset + self.depth]);
        }
    }

    /// r9 and the stack as they were.
    pub(super) fn restore_stack(&mut self) {
        self.load(&[R9]);
        self.move_stack(STEP);
    }

    /// `cmpb $0, byte(%rip); jne to`
    pub(super) fn ask_if_set(&mut self, byte: usize, to: Label) {
        self.put(&[0x80, 0x3d]);
        self.reference(self.base + byte, 1);
        self.put(&[0x00]);
        self.jump(IF_NOT_EQUAL, to);
    }

    pub(super) fn jump(&mut self, kind: u8, to: Label) {
        self.jumps.push(Jump { at: self.here(), kind, to, is_long: false });
    }

    /// A jump back into the library.
    pub(super) fn leave(&mut self, to: usize) {
        self.put(&[0xe9]);
        self.reference(to, 0);
    }

    pub(super) fn label(&mut self, label: Label) {
        self.labels.push((label, self.here()));
    }
}
