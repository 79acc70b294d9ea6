//! A copy of a C library that takes shortcuts: a file without a name beside the tree's, for one step; in memory where no file can
//! be. The tree's own file stays what it is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::code::{self, Bytes, Known, Rule, Slots};
use super::{Mapping, Name};
use crate::sandbox::supervisor::findings::{TABLE, Table};
use crate::sandbox::supervisor::load::{Added, Elf, add_segment};
use crate::sandbox::supervisor::outside::Outside;
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
    /// What the kernel calls it among the mappings of a process.
    pub(super) name: Name,
    /// Where its switch is, in bytes from its beginning.
    pub(super) switch: u64,
    /// Where it is to be told of records, and of changes.
    told: u64,
    generation: u64,
    /// Where it has a table of what is known of paths.
    table: Option<Added>,
}

impl Library {
    /// A copy of the library that `file` is, in `beside`, an empty file, if there is one. `None` where it has nothing to shorten, or
    /// programs could not run it.
    pub(super) fn copy(
        file: OwnedFd,
        beside: Option<OwnedFd>,
        outside: &Outside,
        known: Known<'_>,
    ) -> Result<Option<Library>, Errno> {
        let Some(elf) = Elf::read(&file)? else { return Ok(None) };
        let Some((offset, length)) = elf.text() else { return Ok(None) };
        let mut bytes = Vec::new();
        raw(File::from(file).take(LARGEST).read_to_end(&mut bytes))?;
        let table = match known.rule {
            Rule::Outside { .. } => add_segment(&mut bytes, 8 * TABLE),
            Rule::Barriers | Rule::Records => None,
        };
        let known = Known {
            slots: elf.behind_data().and_then(Slots::within),
            table: table.map(|table| (table.address - elf.text_address()) as usize),
            ..known
        };
        let Some((start, places)) = shorten(&mut bytes, (offset, length), &known) else { return Ok(None) };
        let offset = |at: usize| (start + at) as u64;
        let [switch, told, generation] = [places.switch, places.told, places.generation].map(offset);
        let fill = |empty| {
            let found = Library::fill(empty, &bytes, outside)?;
            Ok(found.map(|(file, name)| Library { file, name, switch, told, generation, table }))
        };
        // The pages of a file are mapped many at a time, those in memory one by one, which each program pays for.
        if let Some(Ok(Some(library))) = beside.map(fill) {
            return Ok(Some(library));
        }
        fill(rustix::fs::memfd_create("dockless-libc", MemfdFlags::CLOEXEC)?)
    }

    /// What programs that use it read of what is known of paths.
    pub(super) fn table(&self) -> Result<Option<Table>, Errno> {
        let Some(table) = self.table else { return Ok(None) };
        Ok(Some(Table { file: rustix::io::fcntl_dupfd_cloexec(&self.file, 0)?, offset: table.offset }))
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

    /// `None` where it cannot be mapped as code: a mount may forbid that, and kernels can be told to for files in memory alone
    /// (`vm.memfd_noexec`).
    fn fill(empty: OwnedFd, bytes: &[u8], outside: &Outside) -> Result<Option<(OwnedFd, Name)>, Errno> {
        let mut writer = File::from(empty);
        raw(writer.write_all(bytes))?;
        let file = OwnedFd::from(writer);
        let Ok(mapped) = sys::map_code(file.as_fd(), PAGE) else { return Ok(None) };
        let maps = outside.read_proc("self/maps")?;
        let mut mappings = maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse);
        let name = mappings.find(|mapping| mapping.start == mapped.address()).map(|mapping| mapping.name);
        Ok(name.map(|name| (file, name)))
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
