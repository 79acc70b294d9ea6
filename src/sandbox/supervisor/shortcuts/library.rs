//! A copy of a C library that takes shortcuts: in memory, for one step. The tree's own file stays what it is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::code::{self, Rule};
use crate::sandbox::supervisor::findings::TABLE;
use crate::sandbox::supervisor::load::{Elf, add_segment};
use crate::sandbox::supervisor::places::raw;
use crate::sys::{self, SharedWords};

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
    /// What programs read in it of what is known of paths.
    pub(super) table: Option<SharedWords>,
}

impl Library {
    /// A copy of the library that `file` is; `None` where it has nothing to shorten.
    pub(super) fn copy(file: OwnedFd, token: u64, rule: Rule) -> Result<Option<Library>, Errno> {
        let Some(elf) = Elf::read(&file)? else { return Ok(None) };
        let Some((offset, length)) = elf.text() else { return Ok(None) };
        let mut bytes = Vec::new();
        raw(File::from(file).take(LARGEST).read_to_end(&mut bytes))?;
        let table = if rule.has_table() { add_segment(&mut bytes, 8 * TABLE) } else { None };
        let from_text = table.map(|table| table.address as usize - elf.text_address() as usize);
        let Some(switch) = shorten(&mut bytes, (offset, length), token, rule, from_text) else { return Ok(None) };
        let copy = rustix::fs::memfd_create("dockless-libc", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut writer = File::from(copy);
        raw(writer.write_all(&bytes))?;
        let file = OwnedFd::from(writer);
        let stat = rustix::fs::fstat(&file)?;
        let table = table.map(|table| raw(SharedWords::map(file.as_fd(), table.offset, TABLE))).transpose()?;
        Ok(Some(Library { file, inode: stat.st_ino, switch, table }))
    }

    /// Whether programs can map it as code: kernels can be told to have none in memory alone (`vm.memfd_noexec`).
    pub(super) fn is_executable(&self) -> bool {
        sys::map_code(self.file.as_fd(), PAGE).is_ok()
    }
}

/// Puts shortcuts into the code, of this offset and length. The table is so many bytes behind its beginning.
fn shorten(
    bytes: &mut [u8],
    (offset, length): (u64, u64),
    token: u64,
    rule: Rule,
    table: Option<usize>,
) -> Option<u64> {
    let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
    let end = start.checked_add(length)?;
    let page = end.checked_next_multiple_of(PAGE)?;
    let text = bytes.get_mut(start..page)?;
    if text[length..].iter().any(|byte| *byte != 0) {
        return None; // it is not free
    }
    Some((start + code::put_shortcuts(text, length, token, rule, table)?) as u64)
}
