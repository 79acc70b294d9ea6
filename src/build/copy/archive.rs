//! Archives named by ADD: found by content, unpacked into changes.
//!
//! Members go through one spool file, so an archive of any size costs no memory. Their paths are clamped and their links
//! followed inside the destination directory, which is a root to them.

use super::source::{beneath, join, resolve, split};
use super::{Change, CopyError, Data, Job, shown};
use crate::context::SourceTree;
use crate::oci::layer::{Kind, Metadata};
use fs_err as fs;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use tar::EntryType;

/// A size no header of a real archive exceeds; decompressors may not take more memory than this for their window.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// The plain bytes of a file that may be compressed, told by its first bytes.
fn decompressed(file: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut file = BufReader::new(file);
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic)?;
    let file = io::Cursor::new(magic.clone()).chain(file);
    Ok(match &magic[..] {
        [0x1f, 0x8b, 8, ..] => Box::new(flate2::read::MultiGzDecoder::new(file)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::read::MultiBzDecoder::new(file)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new_mem_limit(file, true, XZ_MEMORY_KIB)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

/// Whether the file at `path` is a tar, compressed or not, with at least one member.
pub fn is_archive(tree: &dyn SourceTree, path: &[u8]) -> io::Result<bool> {
    if !matches!(tree.metadata(path)?.map(|meta| meta.kind), Some(Kind::File { .. })) {
        return Ok(false);
    }
    // What cannot be decompressed or read as a header is simply no archive; only opening the file must succeed.
    let Ok(stream) = decompressed(tree.open(path)?) else { return Ok(false) };
    let mut archive = tar::Archive::new(stream);
    Ok(archive.entries().is_ok_and(|mut members| members.next().is_some_and(|member| member.is_ok())))
}

/// The newest time of a file in the tar at `path`, compressed or not; `None` where it is no tar, or one that ends badly.
pub fn newest_member(tree: &dyn SourceTree, path: &[u8]) -> io::Result<Option<i64>> {
    let Ok(stream) = decompressed(tree.open(path)?) else { return Ok(None) };
    let mut archive = tar::Archive::new(stream);
    let Ok(members) = archive.entries() else { return Ok(None) };
    let mut newest = None;
    for member in members {
        let Ok(member) = member else { return Ok(None) };
        if member.header().entry_type().is_file() {
            newest = newest.max(member.header().mtime().ok().and_then(|time| i64::try_from(time).ok()));
        }
    }
    Ok(newest)
}

/// A member's own words, from its header and its PAX records.
struct Member {
    path: Vec<u8>,
    link: Vec<u8>,
    meta: Metadata,
}

impl Job<'_> {
    /// Unpacks the archive at `path` of the source tree into the destination.
    pub fn unpack(&mut self, path: &[u8]) -> Result<(), CopyError> {
        let root = self.target.resolve(&self.dest)?;
        self.target.make_dirs(&root, &|meta| self.ownership.owned(meta))?;
        let broken = |source: io::Error| CopyError::Archive { archive: shown(path), source };
        let mut archive = tar::Archive::new(decompressed(self.source.open(path)?).map_err(broken)?);
        let mut times = BTreeMap::new();
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::XGlobalHeader) {
                continue;
            }
            let member = read_member(&mut entry).map_err(broken)?;
            let refused = |reason| CopyError::Member { archive: shown(path), member: shown(&member.path), reason };
            let name = beneath(&member.path);
            if name.is_empty() {
                continue;
            }
            let target = self.place(&root, &name)?.ok_or_else(|| refused("its directory is a link to nothing"))?;
            let data = match kind {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.spool(&mut entry)?,
                EntryType::Link => {
                    let to = self.place(&root, &beneath(&member.link))?;
                    let to = to.ok_or_else(|| refused("it is a hard link to nothing"))?;
                    if !self.link(&target, &to, member.meta)? {
                        return Err(refused("it is a hard link to nothing"));
                    }
                    continue;
                }
                EntryType::Directory | EntryType::Symlink | EntryType::Fifo | EntryType::Char | EntryType::Block => {
                    Data::None
                }
                _ => return Err(refused("a member of this type cannot be unpacked")),
            };
            let mut meta = self.ownership.owned(member.meta);
            if let Data::Spool { len, .. } = data {
                meta.kind = Kind::File { size: len };
            }
            if meta.is_dir() {
                times.insert(target.clone(), meta.mtime);
            }
            self.set(&target, meta, data)?;
        }
        // Last, as each member changes the time of its directory.
        for (directory, time) in times {
            if self.target.metadata(&directory)?.is_some_and(|meta| meta.is_dir()) {
                self.target.set_time(&directory, time);
            }
        }
        Ok(())
    }

    /// Where a member goes: links on its way are followed inside `root`, missing directories made. `None` where a link on
    /// the way leads to nothing.
    fn place(&mut self, root: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>, CopyError> {
        let (parent, last) = split(name);
        let resolved = {
            let lookup = |path: &[u8]| self.target.metadata(&join(root, path));
            let (above, link) = split(parent);
            let at = join(&resolve(&lookup, above)?, link);
            let dangles = matches!(lookup(&at)?.map(|meta| meta.kind), Some(Kind::Symlink { .. }));
            let resolved = resolve(&lookup, parent)?;
            if dangles && lookup(&resolved)?.is_none() {
                return Ok(None);
            }
            join(root, &resolved)
        };
        self.target.make_dirs(&resolved, &|meta| self.ownership.owned(meta))?;
        Ok(Some(join(&resolved, last)))
    }

    fn set(&mut self, target: &[u8], meta: Metadata, data: Data) -> Result<(), CopyError> {
        let merges = meta.is_dir() && self.target.metadata(target)?.is_some_and(|found| found.is_dir());
        if merges {
            self.target.set_directory(target, meta);
        } else {
            self.target.replace(target, Change::Entry { meta, data })?;
        }
        Ok(())
    }

    /// Makes `target` another name of `to`. As with tar(1), the file then has what the link's header says.
    fn link(&mut self, target: &[u8], to: &[u8], meta: Metadata) -> Result<bool, CopyError> {
        let meta = self.ownership.owned(meta);
        let Some((to, linked)) = self.target.entry(to)? else { return Ok(false) };
        if linked.is_dir() {
            return Ok(false);
        }
        let kind = linked.kind.clone();
        *linked = Metadata { kind, xattrs: std::mem::take(&mut linked.xattrs), ..meta };
        if to != target {
            self.target.replace(target, Change::Hardlink { to })?;
        }
        Ok(true)
    }

    /// Appends a member's bytes to the spool file.
    fn spool(&mut self, member: &mut dyn Read) -> Result<Data, CopyError> {
        let (file, end) = match &mut self.spool {
            Some(spool) => spool,
            none => {
                fs::create_dir_all(self.spool_dir)?;
                none.insert((tempfile::tempfile_in(self.spool_dir)?, 0))
            }
        };
        let offset = *end;
        let len = copy_bytes(member, file)?;
        *end += len;
        Ok(Data::Spool { offset, len })
    }
}

fn copy_bytes(from: &mut dyn Read, to: &mut File) -> io::Result<u64> {
    let len = io::copy(from, to)?;
    to.flush()?;
    Ok(len)
}

fn read_member(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Member> {
    let path = entry.path_bytes().into_owned();
    let link = entry.link_name_bytes().unwrap_or_default().into_owned();
    let header = entry.header();
    let device =
        || -> io::Result<(u32, u32)> { Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))) };
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Dir,
        EntryType::Symlink => Kind::Symlink { target: link.clone() },
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
        EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        _ => Kind::File { size: entry.size() },
    };
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "an id over 32 bits"));
    let mode = if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { header.mode()? & 0o7777 };
    let mtime = header.mtime()?.cast_signed();
    let mut meta =
        Metadata { kind, mode, uid: id(header.uid()?)?, gid: id(header.gid()?)?, mtime, xattrs: BTreeMap::new() };
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let (key, value) = (record.key_bytes(), record.value_bytes());
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            meta.xattrs.insert(name.to_vec(), value.to_vec());
        } else if key == b"mtime" {
            let seconds = std::str::from_utf8(value).ok().and_then(|text| text.split('.').next()?.parse().ok());
            meta.mtime = seconds.unwrap_or(meta.mtime);
        } else if key.starts_with(b"GNU.sparse.") {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "sparse files in PAX form are not supported"));
        }
    }
    Ok(Member { path, link, meta })
}
