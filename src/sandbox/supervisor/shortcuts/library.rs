//! A copy of a C library that takes shortcuts: in memory, for one step. The tree's own file stays what it is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::code::{self, Bytes, Known, Slots};
use crate::sandbox::supervisor::load::Elf;
use crate::sandbox::supervisor::places::raw;
use crate::sys;

/// C libraries are smaller, in bytes.
const LARGEST: u64 = 16 << 20;

/// The code of a program ends with a page, and the file fills what is left of it.
const PAGE: usize = 4096;

/// The copy of a library.
#[derive(Debug)]
pub(super) struct Library {
    /// It.
    pub(super) file: OwnedFd,
    /// Its number among the files in memory.
    pub(super) inode: u64,
    /// Where its switch is, in bytes from its beginning.
    pub(super) switch: u64,
    /// Where it is to be told of records, and of changes.
    told: u64,
    generation: u64,
}

impl Library {
    /// A copy of the library that `file` is; `None` where it has nothing to shorten.
    pub(super) fn copy(file: OwnedFd, known: &Known<'_>) -> Result<Option<Library>, Errno> {
        let Some(elf) = Elf::read(&file)? else { return Ok(None) };
        let Some((offset, length)) = elf.text() else { return Ok(None) };
        let known = Known { slots: elf.behind_data().and_then(Slots::within), ..*known };
        let mut bytes = Vec::new();
        raw(File::from(file).take(LARGEST).read_to_end(&mut bytes))?;
        let Some((start, places)) = shorten(&mut bytes, (offset, length), &known) else { return Ok(None) };
        let copy = rustix::fs::memfd_create("dockless-libc", MemfdFlags::CLOEXEC)?;
        let mut writer = File::from(copy);
        raw(writer.write_all(&bytes))?;
        let file = OwnedFd::from(writer);
        let stat = rustix::fs::fstat(&file)?;
        let offset = |at: usize| (start + at) as u64;
        let [switch, told, generation] = [places.switch, places.told, places.generation].map(offset);
        Ok(Some(Library { file, inode: stat.st_ino, switch, told, generation }))
    }

    /// Tells all who use it that what can have no xattrs may have records: who has it mapped sees that as long as what of
    /// it is changed in their own memory is the switch, with which they use it no more.
    pub(super) fn tell_of_records(&self) -> Result<(), Errno> {
        rustix::io::pwrite(&self.file, &[1], self.told).map(drop)
    }

    /// Tells them to forget what they have found out about files, likewise.
    pub(super) fn forget(&self, generation: u64) -> Result<(), Errno> {
        rustix::io::pwrite(&self.file, &generation.to_ne_bytes(), self.generation).map(drop)
    }

    /// Whether programs can map it as code: kernels can be told to have none in memory alone (`vm.memfd_noexec`).
    pub(super) fn is_executable(&self) -> bool {
        sys::map_code(self.file.as_fd(), PAGE).is_ok()
    }
}

/// Puts shortcuts into the code, of this offset and length; gives where it begins, and what is where in it.
fn shorten(bytes: &mut [u8], (offset, length): (u64, u64), known: &Known<'_>) -> Option<(usize, Bytes)> {
    let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
    let end = start.checked_add(length)?;
    let page = end.checked_next_multiple_of(PAGE)?;
    let text = bytes.get_mut(start..page)?;
    if text[length..].iter().any(|byte| *byte != 0) {
        return None; // it is not free
    }
    Some((start, code::put_shortcuts(text, length, known)?))
}
