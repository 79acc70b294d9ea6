//! Running a program whose interpreter (`PT_INTERP`) lies in a tree that is not the machine's root: the kernel would take the
//! machine's own, or find none.
//!
//! The kernel is given the interpreter to run, by descriptor. Where it has done that, and before the first instruction, the
//! thread is made to map the program besides, and what its stack says of the program (auxiliary vector, getauxval(3))
//! is put right. So the interpreter finds everything as if the kernel had loaded both (`load_elf_binary`), and needs no
//! part in it: any C library's will do, of any age. A program without an interpreter is run as it is; only its name is
//! put right.
//!
//! What remains different: `/proc/PID/exe` leads to the interpreter, which the supervisor corrects for those who ask it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

/// Bytes of the headers of an ELF file of 64 bits.
const HEADER: usize = 64;
const SEGMENT: usize = 56;

/// Most program headers that are looked at (the kernel's bound is 64 KiB of them).
const MAX_SEGMENTS: usize = 1024;

/// Kinds of segments, and of files.
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;
const PROGRAM_HEADERS: u32 = 6;
const RELOCATABLE: u16 = 3;

/// Keys of the auxiliary vector.
const END: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
const AT_SECURE: u64 = 23;
const AT_EXECFN: u64 = 31;

/// A part of a program that is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// `PF_X`, `PF_W`, `PF_R`.
    flags: u32,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

impl Segment {
    /// The first page, and the end of the last one that the file fills.
    fn pages(&self) -> (u64, u64) {
        (down(self.address), up(self.address + self.in_file))
    }

    pub(super) fn protection(&self) -> u64 {
        let bit = |flag: u32, protection: i32| if self.flags & flag != 0 { protection as u64 } else { 0 };
        bit(4, libc::PROT_READ) | bit(2, libc::PROT_WRITE) | bit(1, libc::PROT_EXEC)
    }

    fn is_writable(&self) -> bool {
        self.flags & 2 != 0
    }
}

fn page() -> u64 {
    rustix::param::page_size() as u64
}

fn down(address: u64) -> u64 {
    address & !(page() - 1)
}

fn up(address: u64) -> u64 {
    down(address.saturating_add(page() - 1))
}

/// What the headers of an ELF file say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elf {
    /// It can lie anywhere.
    is_relocatable: bool,
    entry: u64,
    /// Where the program headers are once it is mapped, as an address of the file's own.
    headers: u64,
    count: u64,
    segments: Vec<Segment>,
    /// The path of the interpreter: offset and length in the file.
    interpreter: Option<(u64, u64)>,
}

/// One step of mapping a program, with addresses of the file's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Pages of the file.
    File { address: u64, length: u64, protection: u64, offset: u64 },
    /// Zeros from here to the end of the page, where the file ends.
    Zero { address: u64, length: u64 },
    /// Empty pages.
    Empty { address: u64, length: u64, protection: u64 },
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Elf {
    /// Reads the headers of `file`; `None` for what is no ELF file of 64 bits, or is damaged: the kernel has an error for it.
    pub(super) fn read(file: impl AsFd) -> Result<Option<Elf>, Errno> {
        let mut header = [0; HEADER];
        if rustix::io::pread(&file, &mut header, 0)? < HEADER || !header.starts_with(b"\x7fELF\x02\x01") {
            return Ok(None);
        }
        let at = u64_at(&header, 32).unwrap_or_default();
        let (size, count) = (u16_at(&header, 54).unwrap_or_default(), u16_at(&header, 56).unwrap_or_default());
        if usize::from(size) != SEGMENT || usize::from(count) > MAX_SEGMENTS {
            return Ok(None);
        }
        let mut headers = vec![0; SEGMENT * usize::from(count)];
        if rustix::io::pread(&file, &mut headers, at)? < headers.len() {
            return Ok(None);
        }
        Ok(Elf::parse(&header, &headers))
    }

    fn parse(header: &[u8], headers: &[u8]) -> Option<Elf> {
        let (kind, entry, offset) = (u16_at(header, 16)?, u64_at(header, 24)?, u64_at(header, 32)?);
        let mut out = Elf {
            is_relocatable: kind == RELOCATABLE,
            entry,
            headers: 0,
            count: (headers.len() / SEGMENT) as u64,
            segments: Vec::new(),
            interpreter: None,
        };
        let mut told = None;
        for header in headers.chunks_exact(SEGMENT) {
            let segment = Segment {
                flags: u32_at(header, 4)?,
                offset: u64_at(header, 8)?,
                address: u64_at(header, 16)?,
                in_file: u64_at(header, 32)?,
                in_memory: u64_at(header, 40)?,
            };
            match u32_at(header, 0)? {
                LOAD => {
                    let sane = segment.in_file <= segment.in_memory
                        && segment.address.checked_add(segment.in_memory)? < 1 << 56
                        && segment.offset.checked_add(segment.in_file)? < 1 << 62
                        && segment.address % page() == segment.offset % page();
                    if !sane {
                        return None;
                    }
                    if (segment.offset..segment.offset + segment.in_file).contains(&offset) {
                        out.headers = segment.address + (offset - segment.offset);
                    }
                    out.segments.push(segment);
                }
                INTERPRETER => out.interpreter = Some((segment.offset, segment.in_file)),
                PROGRAM_HEADERS => told = Some(segment.address),
                _ => {}
            }
        }
        if out.headers == 0 {
            out.headers = told.unwrap_or_default();
        }
        Some(out)
    }

    /// The path of the interpreter of this program, which is `file`.
    pub(super) fn interpreter(&self, file: impl AsFd) -> Result<Option<Vec<u8>>, Errno> {
        let Some((offset, length)) = self.interpreter else { return Ok(None) };
        // `load_elf_binary`: with its nul between 2 bytes and PATH_MAX.
        if !(2..=libc::PATH_MAX as u64).contains(&length) {
            return Err(Errno::NOEXEC);
        }
        let mut path = vec![0; length as usize];
        if rustix::io::pread(&file, &mut path, offset)? < path.len() || path.pop() != Some(0) {
            return Err(Errno::NOEXEC);
        }
        Ok(Some(path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()))
    }

    /// Where its code is in the file, and the bytes of that, where all of it is in one piece.
    pub(super) fn text(&self) -> Option<(u64, u64)> {
        let mut code = self.segments.iter().filter(|segment| segment.flags & 1 != 0);
        let only = code.next()?;
        code.next().is_none().then_some((only.offset, only.in_file))
    }

    /// The bytes of its last page that its data leaves free: how far they are from the beginning of its code, and how many.
    pub(super) fn behind_data(&self) -> Option<(u64, u64)> {
        let code = self.segments.iter().find(|segment| segment.flags & 1 != 0)?;
        let last = self.segments.iter().max_by_key(|segment| segment.address)?;
        let end = last.address + last.in_memory;
        last.is_writable().then_some((end.checked_sub(code.address)?, up(end) - end))
    }

    /// The address of that.
    pub(super) fn text_address(&self) -> u64 {
        self.segments.iter().find(|segment| segment.flags & 1 != 0).map_or(0, |segment| segment.address)
    }

    /// The first address of the program, and the bytes from there to its end.
    fn extent(&self) -> (u64, u64) {
        let first = self.segments.iter().map(|segment| down(segment.address)).min().unwrap_or_default();
        let end = self.segments.iter().map(|segment| up(segment.address + segment.in_memory)).max().unwrap_or_default();
        (first, end - first)
    }

    fn steps(&self) -> Vec<Step> {
        let mut out = Vec::new();
        for segment in &self.segments {
            let (first, end) = segment.pages();
            let protection = segment.protection();
            if segment.in_file > 0 {
                out.push(Step::File {
                    address: first,
                    length: end - first,
                    protection,
                    offset: segment.offset - (segment.address - first),
                });
            }
            let (filled, last) = (segment.address + segment.in_file, up(segment.address + segment.in_memory));
            if segment.in_memory > segment.in_file {
                let rest = end.max(first);
                if segment.in_file > 0 && filled < rest && segment.is_writable() {
                    out.push(Step::Zero { address: filled, length: rest - filled });
                }
                let from = if segment.in_file > 0 { rest } else { first };
                if from < last {
                    out.push(Step::Empty { address: from, length: last - from, protection });
                }
            }
        }
        out
    }
}

/// Where something is in an ELF file, and where once that is mapped, as an address of the file's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) offset: u64,
    pub(super) address: u64,
}

/// Adds `length` zeros, which can be read, to the ELF file that `bytes` is, in the place of a note: whoever loads it does
/// not look at those but for the first of all. `None` where there is none that comes after all that is mapped, as segments
/// must be in the order of their addresses.
pub(super) fn add_segment(bytes: &mut Vec<u8>, length: usize) -> Option<Added> {
    let (start, count) = (u64_at(bytes, 32)? as usize, usize::from(u16_at(bytes, 56)?));
    let headers = bytes.get(start..start.checked_add(SEGMENT * count)?)?;
    let elf = Elf::parse(bytes.get(..HEADER)?, headers)?;
    let kinds: Vec<u32> = headers.chunks_exact(SEGMENT).filter_map(|header| u32_at(header, 0)).collect();
    let last = kinds.iter().rposition(|kind| *kind == LOAD)?;
    let note = last + kinds[last..].iter().position(|kind| *kind == NOTE)?;
    let (first, extent) = elf.extent();
    let added = Added { offset: up(bytes.len() as u64), address: first + extent };
    bytes.resize(added.offset as usize + length, 0);
    let readable = 4u32;
    let fields = [added.offset, added.address, added.address, length as u64, length as u64, page()];
    let header = [LOAD.to_le_bytes(), readable.to_le_bytes()].concat().into_iter();
    let at = start + SEGMENT * note;
    let header: Vec<u8> = header.chain(fields.into_iter().flat_map(u64::to_le_bytes)).collect();
    bytes[at..at + SEGMENT].copy_from_slice(&header);
    Some(added)
}

/// A program that is to be run.
#[derive(Debug)]
pub(crate) struct Image {
    /// What the kernel runs: the interpreter, or the program itself where it has none.
    pub(super) runs: OwnedFd,
    /// The program, where it has an interpreter, and both of their headers.
    pub(super) program: Option<(OwnedFd, Elf, Elf)>,
    /// What the program is called (`AT_EXECFN`).
    pub(super) name: Vec<u8>,
    /// What the caller said, the script's name: the thread's name comes from it.
    pub(super) said: Vec<u8>,
    /// The path of the program in the step's view.
    pub(super) path: Vec<u8>,
    /// What the kernel runs is glibc's dynamic linker, which does nothing else than that.
    pub(super) by_linker: bool,
}

/// What has become of a thread that runs a program now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished {
    /// Where its stack begins.
    pub(super) stack: u64,
    /// Where the interpreter is: its first address, and the one behind the last.
    pub(super) interpreter: Option<(u64, u64)>,
}

/// What is done to a thread that has just begun with a program.
pub(super) trait Host {
    /// Makes it call `number`, and gives the result; `None` where it is gone.
    fn call(&mut self, number: i64, arguments: [u64; 6]) -> Option<i64>;
    /// Reads its memory.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno>;
    /// Writes to it.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;
}

/// Maps `program`, which the thread has open as `descriptor`; how far from the file's own addresses it lies then.
fn map(host: &mut impl Host, program: &Elf, descriptor: i32) -> Option<u64> {
    let (first, length) = program.extent();
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
    let fixed = if program.is_relocatable { 0 } else { libc::MAP_FIXED_NOREPLACE as u64 };
    let wanted = if program.is_relocatable { 0 } else { first };
    // All of it at once, so that nothing else comes to lie in between.
    let none = libc::PROT_NONE as u64;
    let at = host.call(libc::SYS_mmap, [wanted, length, none, private | fixed, u64::MAX, 0])?;
    let at = u64::try_from(at).ok()?;
    let bias = at.wrapping_sub(first);
    let fixed = libc::MAP_FIXED as u64;
    for step in program.steps() {
        let done = match step {
            Step::File { address, length, protection, offset } => {
                let flags = libc::MAP_PRIVATE as u64 | fixed;
                let address = address.wrapping_add(bias);
                host.call(libc::SYS_mmap, [address, length, protection, flags, descriptor as u64, offset])?
            }
            Step::Empty { address, length, protection } => {
                let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64 | fixed;
                host.call(libc::SYS_mmap, [address.wrapping_add(bias), length, protection, flags, u64::MAX, 0])?
            }
            Step::Zero { address, length } => {
                host.write(address.wrapping_add(bias), &vec![0; length as usize]).ok()?;
                0
            }
        };
        if done < 0 {
            return None;
        }
    }
    Some(bias)
}

/// Finishes the exec of `image` in a thread whose stack begins at `stack`: the program is mapped from `descriptor`, which
/// is closed, and the stack says so, and whether it has got rights by the exec (`AT_SECURE`). `None` where that cannot be done.
pub(super) fn finish(
    host: &mut impl Host,
    image: &Image,
    descriptor: Option<i32>,
    stack: u64,
    secure: bool,
) -> Option<Finished> {
    let start = Start::read(host, stack).ok()?;
    let mut found = None;
    let mut replaced = vec![(AT_SECURE, u64::from(secure))];
    if let (Some((_, program, interpreter)), Some(descriptor)) = (&image.program, descriptor) {
        let bias = map(host, program, descriptor)?;
        host.call(libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0])?;
        let base = start.value(AT_ENTRY)?.wrapping_sub(interpreter.entry);
        let (first, length) = interpreter.extent();
        found = Some((base.wrapping_add(first), base.wrapping_add(first + length)));
        replaced.extend([
            (AT_PHDR, program.headers.wrapping_add(bias)),
            (AT_PHNUM, program.count),
            (AT_BASE, base),
            (AT_ENTRY, program.entry.wrapping_add(bias)),
        ]);
    }
    // Names go between the vector and what the kernel has put above it; everything below moves down.
    let thread = image.said.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let names = [image.name.as_slice(), b"\0", thread, b"\0"].concat();
    let room = (names.len() as u64).next_multiple_of(16);
    let (moved, name) = (stack - room, stack - room + start.words.len() as u64 * 8);
    replaced.push((AT_EXECFN, name));
    host.write(moved, &start.with(&replaced)).ok()?;
    host.write(name, &names).ok()?;
    let thread_name = name + image.name.len() as u64 + 1;
    host.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, thread_name, 0, 0, 0, 0])?;
    Some(Finished { stack: moved, interpreter: found })
}

/// What a program finds on its stack at its start: counts and addresses of its arguments, its environment, and the
/// auxiliary vector.
struct Start {
    words: Vec<u64>,
    /// Where the auxiliary vector begins.
    vector: usize,
}

/// Most bytes of it: as many pointers as arguments may have bytes, and more.
const MAX_START: usize = 16 << 20;

impl Start {
    fn read(host: &impl Host, stack: u64) -> Result<Start, Errno> {
        let mut bytes = Vec::new();
        loop {
            let from = stack + bytes.len() as u64;
            let mut page = vec![0; (4096 - from % 4096) as usize];
            host.read(from, &mut page)?;
            bytes.extend_from_slice(&page);
            let words: Vec<u64> =
                bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(std::array::from_fn(|byte| word[byte]))).collect();
            if let Some(start) = Start::find(words) {
                return Ok(start);
            }
            if bytes.len() > MAX_START {
                return Err(Errno::NOEXEC);
            }
        }
    }

    /// `None` where the words end too early.
    fn find(mut words: Vec<u64>) -> Option<Start> {
        let environment = 1 + usize::try_from(*words.first()?).ok()? + 1;
        let end = words.get(environment..)?.iter().position(|word| *word == 0)?;
        let vector = environment + end + 1;
        let last = words.get(vector..)?.chunks_exact(2).position(|pair| pair[0] == END)?;
        words.truncate(vector + 2 * last + 2);
        Some(Start { words, vector })
    }

    fn value(&self, key: u64) -> Option<u64> {
        self.words[self.vector..].chunks_exact(2).find(|pair| pair[0] == key).map(|pair| pair[1])
    }

    fn with(&self, replaced: &[(u64, u64)]) -> Vec<u8> {
        let mut words = self.words.clone();
        for pair in words[self.vector..].chunks_exact_mut(2) {
            if let Some((_, value)) = replaced.iter().find(|(key, _)| *key == pair[0]) {
                pair[1] = *value;
            }
        }
        words.into_iter().flat_map(u64::to_ne_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u16) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[16..18].copy_from_slice(&kind.to_le_bytes());
        out[24..32].copy_from_slice(&0x1234u64.to_le_bytes());
        out[32..40].copy_from_slice(&64u64.to_le_bytes());
        out
    }

    fn segment(kind: u32, flags: u32, [offset, address, in_file, in_memory]: [u64; 4]) -> Vec<u8> {
        let mut out = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        for field in [offset, address, 0, in_file, in_memory, 0] {
            out.extend(field.to_le_bytes());
        }
        out
    }

    #[test]
    fn reads_headers() {
        let page = page();
        let data = 3 * page + 0x40;
        let headers = [
            segment(INTERPRETER, 4, [0x300, 0x300, 28, 28]),
            segment(LOAD, 5, [0, 0, 0x900, 0x900]),
            segment(LOAD, 6, [page + 0x40, data, 0x100, 2 * page]),
        ]
        .concat();
        let elf = Elf::parse(&header(RELOCATABLE), &headers).unwrap();
        assert_eq!((elf.is_relocatable, elf.entry, elf.headers, elf.count), (true, 0x1234, 64, 3));
        assert_eq!(elf.interpreter, Some((0x300, 28)));
        assert_eq!(elf.extent(), (0, up(data + 2 * page)));
        let (read, write, execute) = (libc::PROT_READ as u64, libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
        assert_eq!(
            elf.steps(),
            [
                Step::File { address: 0, length: page, protection: read | execute, offset: 0 },
                Step::File { address: 3 * page, length: page, protection: read | write, offset: page },
                Step::Zero { address: data + 0x100, length: page - 0x140 },
                Step::Empty { address: 4 * page, length: 2 * page, protection: read | write },
            ]
        );
        assert!(!Elf::parse(&header(2), &headers).unwrap().is_relocatable);
    }

    #[test]
    fn adds_a_segment_in_the_place_of_a_note() {
        let data = [page() + 0x40, 3 * page() + 0x40, 0x100, 2 * page()];
        let (first, second) = (segment(LOAD, 5, [0, 0, 0x900, 0x900]), segment(LOAD, 6, data));
        let note = segment(NOTE, 4, [0x200, 0x200, 32, 32]);
        let file = |headers: &[Vec<u8>]| {
            let mut header = header(RELOCATABLE);
            header[56] = headers.len() as u8;
            let mut bytes = [header, headers.concat()].concat();
            bytes.resize(2 * page() as usize + 5, 7);
            bytes
        };
        let mut bytes = file(&[note.clone(), first.clone(), second.clone(), note.clone(), note.clone()]);
        let before = bytes.clone();
        let added = add_segment(&mut bytes, 64).unwrap();
        assert_eq!(added, Added { offset: 3 * page(), address: up(5 * page() + 0x40) });
        assert_eq!(bytes.len() as u64, 3 * page() + 64);
        assert!(bytes[before.len()..].iter().all(|byte| *byte == 0));
        let changed: Vec<usize> =
            (0..before.len()).filter(|at| bytes[*at] != before[*at]).map(|at| (at - 64) / 56).collect();
        assert!(!changed.is_empty() && changed.iter().all(|header| *header == 3), "{changed:?}");
        let whole = Elf::parse(&bytes[..HEADER], &bytes[HEADER..HEADER + 5 * SEGMENT]).unwrap();
        assert_eq!(whole.extent(), (0, added.address + up(64)));
        let steps = whole.steps();
        let Step::File { address, offset, protection, .. } = steps[steps.len() - 1] else { panic!("{steps:?}") };
        assert_eq!((address, offset, protection), (added.address, added.offset, libc::PROT_READ as u64));
        for without in [&[note.clone(), first.clone(), second.clone()][..], &[first, second], &[note]] {
            let mut bytes = file(without);
            let before = bytes.clone();
            assert_eq!(add_segment(&mut bytes, 64), None);
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for bad in [[0, 1, 1, 1], [0, 0, 9, 8], [0, 1 << 60, 1, 1], [u64::MAX, u64::MAX, 2, 2]] {
            assert_eq!(Elf::parse(&header(RELOCATABLE), &segment(LOAD, 4, bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn finds_the_parts_of_a_stack() {
        let words = vec![2, 100, 200, 0, 300, 0, AT_PHDR, 7, AT_EXECFN, 8, END, 0, 99];
        let start = Start::find(words.clone()).unwrap();
        assert_eq!((start.words.len(), start.vector, start.value(AT_EXECFN)), (12, 6, Some(8)));
        let changed = start.with(&[(AT_EXECFN, 5), (AT_BASE, 6)]);
        let expected = [2u64, 100, 200, 0, 300, 0, AT_PHDR, 7, AT_EXECFN, 5, END, 0];
        assert_eq!(changed, expected.into_iter().flat_map(u64::to_ne_bytes).collect::<Vec<u8>>());
        for short in 1..11 {
            assert!(Start::find(words[..short].to_vec()).is_none(), "{short}");
        }
    }
}
