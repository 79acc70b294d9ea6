//! The tar stream of a layer, entry by entry.
//!
//! Headers are read through the `tar` crate's layouts; the extensions are put together here, because PAX records may hold
//! any bytes (an xattr's value with a newline in it), which that crate's iterator splits on. Known: ustar, old tar, GNU long
//! names and links, base-256 numbers, PAX `path linkpath size uid gid mtime SCHILY.xattr.*`, local and global.
//!
//! Spec: POSIX.1-2017 `pax`; tar(5); OCI image-spec layer.md.

use super::unpack::UnpackError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::BufRead;
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Extended headers are read into memory; Go's reader, which most of the field uses, has the same limit.
const MAX_EXTENDED: u64 = 1 << 20;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// One entry of the stream, extensions applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(with = "bytes")]
    pub(super) path: Vec<u8>,
    /// Target of a hard or symbolic link.
    #[serde(with = "bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    #[serde(with = "pairs", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Bytes as text, one character each (U+0000 to U+00FF): JSON has no bytes, and most are ASCII.
pub(super) mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn text(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| char::from(*byte)).collect()
    }

    pub(super) fn read(text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
    }

    pub(in crate::rootfs) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(in crate::rootfs) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        read(&text).ok_or_else(|| D::Error::custom("a character that is no byte"))
    }
}

/// The same of names and values.
mod pairs {
    use super::bytes::{read, text};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::collections::BTreeMap;

    type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

    pub(in crate::rootfs) fn serialize<S: Serializer>(pairs: &Pairs, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(name, value)| (text(name), text(value))))
    }

    pub(in crate::rootfs) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
        let pairs: Option<Pairs> = pairs.iter().map(|(name, value)| Some((read(name)?, read(value)?))).collect();
        pairs.ok_or_else(|| D::Error::custom("a character that is no byte"))
    }
}

/// The type of an entry; the data of a file is read from the [`TarReader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum EntryKind {
    File,
    Dir,
    Symlink,
    HardLink,
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
}

/// Reads a tar stream.
pub(super) struct TarReader<R> {
    inner: R,
    /// Bytes taken so far.
    offset: u64,
    /// Bytes of the current entry's data not yet taken.
    data: u64,
    /// Zeros after that, up to a whole block.
    padding: u64,
    global: Records,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// What stands before an entry and is about it.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Records,
}

impl<R: BufRead> TarReader<R> {
    pub(super) fn new(inner: R) -> Self {
        TarReader { inner, offset: 0, data: 0, padding: 0, global: Records::new() }
    }

    /// The next entry; `None` at the end of the archive. Skips what was not read of the one before.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extensions = Extensions { records: self.global.clone(), ..Extensions::default() };
        loop {
            self.skip_data()?;
            let Some(block) = self.header_block()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            let old = header.as_old();
            let size = self.number(&old.size, "its size")?;
            let size = u64::try_from(size).map_err(|_| self.bad("it has a negative size"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.records(size)?;
                    merge(&mut extensions.records, records);
                }
                EntryType::XGlobalHeader => {
                    let records = self.records(size)?;
                    merge(&mut extensions.records, records.clone());
                    merge(&mut self.global, records);
                }
                EntryType::GNULongName => extensions.long_name = Some(self.long_name(size)?),
                EntryType::GNULongLink => extensions.long_link = Some(self.long_name(size)?),
                _ => return self.entry(header, size, extensions).map(Some),
            }
        }
    }

    /// A piece of the current entry's data; empty at its end. [`Self::consume`] says how much of it was used.
    pub(super) fn data(&mut self) -> Result<&[u8], UnpackError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let piece = self.inner.fill_buf().map_err(UnpackError::Read)?;
        if piece.is_empty() {
            return Err(UnpackError::Truncated { offset });
        }
        let length = piece.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        Ok(&piece[..length])
    }

    pub(super) fn consume(&mut self, length: usize) {
        self.inner.consume(length);
        self.data -= length as u64;
        self.offset += length as u64;
    }

    /// Length of the current entry's data that is left.
    pub(super) fn remaining(&self) -> u64 {
        self.data
    }

    /// Takes what follows the end of the archive, and gives the inner reader back.
    pub(super) fn drain(mut self) -> Result<R, UnpackError> {
        loop {
            let length = self.inner.fill_buf().map_err(UnpackError::Read)?.len();
            if length == 0 {
                return Ok(self.inner);
            }
            self.inner.consume(length);
        }
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry, UnpackError> {
        let Extensions { long_name, long_link, mut records } = extensions;
        let old = header.as_old();
        let path = records.remove(&b"path"[..]).or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = records.remove(&b"linkpath"[..]).or(long_link);
        let link = link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let size = match records.get(&b"size"[..]) {
            Some(text) => decimal(text).ok_or_else(|| self.bad("its PAX size is no number"))?,
            None => size,
        };
        if records.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
            return Err(unsupported(path, "a sparse file in PAX form"));
        }
        let kind = self.kind(header, &path)?;
        let (data, padding) = match kind {
            EntryKind::File => (size, padding(size)),
            // As Go's reader has it: a size here is not followed by data.
            _ => (0, 0),
        };
        (self.data, self.padding) = (data, padding);
        let id = |reader: &Self, key: &[u8], field: &[u8], what: &'static str| {
            let number = match records.get(key) {
                Some(text) => decimal(text),
                None => reader.number(field, what)?.try_into().ok(),
            };
            number.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| reader.bad("its owner is no 32 bit number"))
        };
        let uid = id(self, b"uid", &old.uid, "its owner")?;
        let gid = id(self, b"gid", &old.gid, "its group")?;
        let mtime = match records.get(&b"mtime"[..]) {
            Some(text) => whole_seconds(text).ok_or_else(|| self.bad("its PAX time is no number"))?,
            None => self.number(&old.mtime, "its time")?,
        };
        let mode = (self.number(&old.mode, "its mode")? & 0o7777) as u32;
        let xattrs = records
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_vec(), value)))
            .filter(|(key, _)| !key.is_empty())
            .collect();
        Ok(Entry { path, link, kind, mode, uid, gid, mtime, xattrs })
    }

    fn kind(&self, header: &Header, path: &[u8]) -> Result<EntryKind, UnpackError> {
        let device = |reader: &Self| {
            let number = |field: Option<&[u8]>| {
                let number = reader.number(field.unwrap_or_default(), "its device number")?;
                u32::try_from(number).map_err(|_| reader.bad("its device number is negative or too large"))
            };
            let ustar = header.as_ustar().map(|h| (&h.dev_major[..], &h.dev_minor[..]));
            let fields = ustar.or_else(|| header.as_gnu().map(|h| (&h.dev_major[..], &h.dev_minor[..])));
            Ok::<_, UnpackError>((number(fields.map(|f| f.0))?, number(fields.map(|f| f.1))?))
        };
        Ok(match header.entry_type() {
            // Tars from before directories had a type end their names with a slash.
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => EntryKind::Dir,
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Directory => EntryKind::Dir,
            EntryType::Symlink => EntryKind::Symlink,
            EntryType::Link => EntryKind::HardLink,
            EntryType::Fifo => EntryKind::Fifo,
            EntryType::Char => device(self).map(|(major, minor)| EntryKind::Char(major, minor))?,
            EntryType::Block => device(self).map(|(major, minor)| EntryKind::Block(major, minor))?,
            EntryType::GNUSparse => return Err(unsupported(path.to_vec(), "a sparse file in GNU form")),
            other => {
                let what = format!("an entry of type '{}'", char::from(other.as_byte()).escape_default());
                return Err(unsupported(path.to_vec(), &what));
            }
        })
    }

    /// The next header; `None` at a block of zeros or the end of the stream.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]).map_err(UnpackError::Read)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(UnpackError::Truncated { offset: self.offset + filled as u64 }),
                n => filled += n,
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let told = self.number(&header.as_old().cksum, "its checksum")?;
        // The checksum counts its own field as eight spaces; some old writers added signed bytes.
        let counted = |i: usize, b: u8| if (148..156).contains(&i) { b' ' } else { b };
        let unsigned: i64 = block.iter().enumerate().map(|(i, b)| i64::from(counted(i, *b))).sum();
        let signed: i64 = block.iter().enumerate().map(|(i, b)| i64::from(counted(i, *b) as i8)).sum();
        if told != unsigned && told != signed {
            return Err(self.bad("its checksum is wrong (is this a tar at all?)"));
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    fn skip_data(&mut self) -> Result<(), UnpackError> {
        self.data = self.data.saturating_add(std::mem::take(&mut self.padding));
        while self.data > 0 {
            let length = self.data()?.len();
            self.consume(length);
        }
        Ok(())
    }

    /// The data of an extended header, whole.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > MAX_EXTENDED {
            return Err(self.bad("its extended header is longer than 1 MiB"));
        }
        (self.data, self.padding) = (size, padding(size));
        let mut bytes = Vec::new();
        while self.data > 0 {
            let piece = self.data()?;
            let length = piece.len();
            bytes.extend_from_slice(piece);
            self.consume(length);
        }
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        let mut name = self.extended(size)?;
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// PAX records: `length SP key=value LF`, the length counting all of it.
    fn records(&mut self, size: u64) -> Result<Records, UnpackError> {
        let bytes = self.extended(size)?;
        let mut records = Records::new();
        let mut rest = &bytes[..];
        // Padding with zeros is seen in the wild.
        while !rest.is_empty() && rest[0] != 0 {
            let record = split_record(rest).ok_or_else(|| self.bad("its PAX records are damaged"))?;
            let (key, value, after) = record;
            records.insert(key.to_vec(), value.to_vec());
            rest = after;
        }
        Ok(records)
    }

    /// A number field: octal text, or base 256 (two's complement) where the first bit is set. Blank is 0.
    fn number(&self, field: &[u8], what: &'static str) -> Result<i64, UnpackError> {
        let wrong = || UnpackError::Header { offset: self.offset, why: format!("{what} is no number") };
        if let Some(first) = field.first().filter(|b| **b & 0x80 != 0) {
            // 0x80 starts a positive number, 0xff a negative one.
            let start = if *first & 0x40 == 0 { i128::from(first & 0x7f) } else { i128::from(*first as i8) };
            let value = field[1..].iter().try_fold(start, |n, b| n.checked_mul(256)?.checked_add(i128::from(*b)));
            return value.and_then(|n| i64::try_from(n).ok()).ok_or_else(wrong);
        }
        let text = field.split(|b| *b == 0).find(|part| !part.is_empty()).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| wrong())?.trim();
        if text.is_empty() { Ok(0) } else { i64::from_str_radix(text, 8).map_err(|_| wrong()) }
    }

    fn bad(&self, why: &str) -> UnpackError {
        UnpackError::Header { offset: self.offset, why: why.to_string() }
    }
}

fn unsupported(path: Vec<u8>, what: &str) -> UnpackError {
    UnpackError::Unsupported { path: String::from_utf8_lossy(&path).into_owned(), what: what.to_string() }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Later records win; an empty value takes the key away.
fn merge(into: &mut Records, records: Records) {
    for (key, value) in records {
        match value.is_empty() && !key.starts_with(XATTR) {
            true => into.remove(&key),
            false => into.insert(key, value),
        };
    }
}

/// Key, value and what follows.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds since 1970 with the fraction cut off towards the past.
fn whole_seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let past = whole.starts_with('-') && fraction.bytes().any(|b| b != b'0');
    Some(if past { seconds.checked_sub(1)? } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times() {
        for (text, seconds) in [("0", 0), ("12.9", 12), ("-1", -1), ("-1.5", -2), ("-1.0", -1), ("-0.5", -1)] {
            assert_eq!(whole_seconds(text.as_bytes()), Some(seconds), "{text}");
        }
        assert_eq!(whole_seconds(b"x"), None);
    }

    #[test]
    fn number_fields() {
        let reader = TarReader::new(&b""[..]);
        for (field, number) in [
            (&b"0000644\0"[..], 0o644),
            (b"    644 ", 0o644),
            (b"644\0junk", 0o644),
            (b"\0\0\0\0", 0),
            (b"\x80\0\0\0\0\0\x20\x00", 0x2000),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(reader.number(field, "x").unwrap(), number, "{field:?}");
        }
        assert!(reader.number(b"9", "x").is_err());
        assert!(reader.number(&[0x80, 255, 255, 255, 255, 255, 255, 255, 255, 255], "x").is_err());
    }

    #[test]
    fn records_may_hold_newlines() {
        let (key, value, rest) = split_record(b"12 key=a\nb=\nnext").unwrap();
        assert_eq!((key, value, rest), (&b"key"[..], &b"a\nb="[..], &b"next"[..]));
        for bad in ["", "5", "99 a=b\n", "6 a=b", "5 ab\n", "-1 a=b\n", "0 a=b\n"] {
            assert_eq!(split_record(bad.as_bytes()), None, "{bad}");
        }
    }
}
