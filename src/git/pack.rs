//! Packs: objects, some of them as deltas of others. Spec: gitformat-pack.
//!
//! A pack stays on disk. Opening it reads it twice at most: once from front to end, then once more for what deltas build on;
//! every object is hashed, so that an object which is found by its name is that object.

use super::GitError;
use super::object::{Kind, Namer, Oid};
use flate2::bufread::ZlibDecoder;
use sha1_checked::{Digest, Sha1};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

/// Longest object that has to be in memory: trees, commits, and files that come as deltas.
const MOST: u64 = 1 << 30;
const BUFFER: usize = 64 << 10;

/// A pack on disk, indexed.
pub struct Pack {
    file: File,
    offsets: HashMap<Oid, u64>,
    trailer: Oid,
    /// The length without the trailer.
    end: u64,
}

/// An entry's header.
struct Entry {
    base: Base,
    size: u64,
    /// Where its compressed content is.
    data: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    /// It is whole.
    Whole(Kind),
    /// A delta of the entry at this offset.
    At(u64),
    /// A delta of this object.
    Named(Oid),
}

impl Pack {
    /// Indexes the pack in `file`.
    pub fn open(mut file: File) -> Result<Pack, GitError> {
        let (trailer, end) = check_whole(&mut file)?;
        let mut pack = Pack { file, offsets: HashMap::new(), trailer, end };
        pack.index()?;
        Ok(pack)
    }

    /// All objects with their offsets, and the SHA-1 of the whole.
    pub fn listing(&self) -> (Vec<(Oid, u64)>, Oid) {
        let mut all: Vec<(Oid, u64)> = self.offsets.iter().map(|(oid, offset)| (*oid, *offset)).collect();
        all.sort_unstable();
        (all, self.trailer)
    }

    /// Where the entries end.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The object `oid`, in memory.
    pub fn read(&self, oid: Oid) -> Result<(Kind, Vec<u8>), GitError> {
        let mut offset = *self.offsets.get(&oid).ok_or(GitError::Missing(oid))?;
        let mut deltas = Vec::new();
        loop {
            let entry = self.entry(offset)?;
            let content = self.inflate(&entry)?;
            offset = match entry.base {
                Base::Whole(kind) => {
                    let whole = deltas.iter().rev().try_fold(content, |base, delta: &Vec<u8>| apply(&base, delta))?;
                    return Ok((kind, whole));
                }
                Base::At(offset) => offset,
                Base::Named(oid) => *self.offsets.get(&oid).ok_or(GitError::Missing(oid))?,
            };
            deltas.push(content);
        }
    }

    /// Writes the content of the file `oid`; what is no delta does not go through memory as a whole.
    pub fn write_blob(&self, oid: Oid, to: &mut dyn Write) -> Result<u64, GitError> {
        let entry = self.entry(*self.offsets.get(&oid).ok_or(GitError::Missing(oid))?)?;
        if entry.base == Base::Whole(Kind::Blob) {
            return Ok(io::copy(&mut self.inflater(&entry)?.take(entry.size), to)?);
        }
        match self.read(oid)? {
            (Kind::Blob, content) => {
                to.write_all(&content)?;
                Ok(content.len() as u64)
            }
            _ => Err(GitError::Damaged("a file is no blob")),
        }
    }

    fn entry(&self, offset: u64) -> Result<Entry, GitError> {
        let mut reader = self.reader(offset)?;
        let (base, size, length) = read_header(&mut reader, offset)?;
        Ok(Entry { base, size, data: offset + length })
    }

    fn reader(&self, offset: u64) -> Result<impl BufRead, GitError> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        Ok(BufReader::with_capacity(BUFFER, file.take(self.end.saturating_sub(offset))))
    }

    fn inflater(&self, entry: &Entry) -> Result<impl Read, GitError> {
        Ok(ZlibDecoder::new(self.reader(entry.data)?))
    }

    fn inflate(&self, entry: &Entry) -> Result<Vec<u8>, GitError> {
        if entry.size > MOST {
            return Err(GitError::TooLarge(entry.size));
        }
        let mut content = Vec::new();
        self.inflater(entry)?.take(entry.size + 1).read_to_end(&mut content).map_err(corrupt)?;
        if content.len() as u64 != entry.size {
            return Err(GitError::Damaged("an object does not have the length it should have"));
        }
        Ok(content)
    }

    /// Finds every object and its name.
    fn index(&mut self) -> Result<(), GitError> {
        let mut children = Children::default();
        let mut wholes = Vec::new();
        let mut reader = Counted { inner: self.reader(0)?, at: 0 };
        let count = read_count(&mut reader)?;
        for _ in 0..count {
            let offset = reader.at;
            let (base, size, _) = read_header(&mut reader, offset)?;
            let mut content = ZlibDecoder::new(&mut reader).take(size + 1);
            match base {
                Base::Whole(kind) => wholes.push((offset, kind, name_of(kind, size, &mut content)?)),
                Base::At(base) => children.at.entry(base).or_default().push(offset),
                Base::Named(base) => children.named.entry(base).or_default().push(offset),
            }
            if !matches!(base, Base::Whole(_)) {
                io::copy(&mut content, &mut io::sink()).map_err(corrupt)?;
            }
            if content.limit() != 1 {
                return Err(GitError::Damaged("an object does not have the length it should have"));
            }
            // Reads the compressed stream's own end, so that the next entry is found.
            content.set_limit(1);
            if content.read(&mut [0]).map_err(corrupt)? != 0 {
                return Err(GitError::Damaged("an object does not have the length it should have"));
            }
        }
        drop(reader);
        for (offset, kind, oid) in wholes {
            self.offsets.insert(oid, offset);
            self.resolve(&mut children, offset, kind, oid)?;
        }
        if !children.at.is_empty() || !children.named.is_empty() {
            return Err(GitError::Damaged("a delta builds on what is not there"));
        }
        Ok(())
    }

    /// Names all deltas that build on the object `oid` at `offset`, directly or not.
    fn resolve(&mut self, children: &mut Children, offset: u64, kind: Kind, oid: Oid) -> Result<(), GitError> {
        let first = children.take(offset, oid);
        if first.is_empty() {
            return Ok(());
        }
        let content = Rc::new(self.inflate(&self.entry(offset)?)?);
        let mut pending: Vec<(Rc<Vec<u8>>, u64)> = first.into_iter().map(|child| (content.clone(), child)).collect();
        drop(content);
        while let Some((base, offset)) = pending.pop() {
            let content = apply(&base, &self.inflate(&self.entry(offset)?)?)?;
            let oid = name_of(kind, content.len() as u64, &mut &content[..])?;
            self.offsets.insert(oid, offset);
            let content = Rc::new(content);
            pending.extend(children.take(offset, oid).into_iter().map(|child| (content.clone(), child)));
        }
        Ok(())
    }
}

/// Deltas by what they build on.
#[derive(Default)]
struct Children {
    at: HashMap<u64, Vec<u64>>,
    named: HashMap<Oid, Vec<u64>>,
}

impl Children {
    fn take(&mut self, offset: u64, oid: Oid) -> Vec<u64> {
        let mut found = self.at.remove(&offset).unwrap_or_default();
        found.extend(self.named.remove(&oid).unwrap_or_default());
        found
    }
}

/// Counts what is consumed.
struct Counted<R> {
    inner: R,
    at: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.at += length as u64;
        self.inner.consume(length);
    }
}

/// What the decompressor says of bytes that are no stream of its own.
fn corrupt(error: io::Error) -> GitError {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            GitError::Damaged("an object cannot be decompressed")
        }
        _ => GitError::Io(error),
    }
}

fn name_of(kind: Kind, size: u64, content: &mut dyn Read) -> Result<Oid, GitError> {
    let mut namer = Namer::new(kind, size);
    let mut buffer = vec![0; BUFFER.min(usize::try_from(size).unwrap_or(BUFFER).max(1))];
    let mut left = size;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match content.read(&mut buffer[..most]).map_err(corrupt)? {
            0 => return Err(GitError::Damaged("an object does not have the length it should have")),
            read => {
                namer.update(&buffer[..read]);
                left -= read as u64;
            }
        }
    }
    namer.finish()
}

/// Compares the trailer with what comes before it; gives it and where it begins.
fn check_whole(file: &mut File) -> Result<(Oid, u64), GitError> {
    let end = file.seek(SeekFrom::End(0))?.checked_sub(20).ok_or(GitError::Damaged("the pack is too short"))?;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(BUFFER, &*file).take(end);
    let mut hasher = Sha1::new();
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        let length = piece.len();
        reader.consume(length);
    }
    let mut trailer = [0; 20];
    reader.into_inner().read_exact(&mut trailer)?;
    let found: [u8; 20] = hasher.finalize().into();
    if found != trailer {
        return Err(GitError::Damaged("the pack is not what its checksum says"));
    }
    Ok((Oid(trailer), end))
}

fn read_count(reader: &mut dyn Read) -> Result<u32, GitError> {
    let mut header = [0; 12];
    reader.read_exact(&mut header).map_err(corrupt)?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    match (&header[..4], number(4)) {
        (b"PACK", 2 | 3) => Ok(number(8)),
        _ => Err(GitError::Damaged("it is no pack of a known version")),
    }
}

/// Reads an entry's header: what it is, the length of its content, and its own length.
fn read_header(reader: &mut dyn Read, offset: u64) -> Result<(Base, u64, u64), GitError> {
    let mut length = 0;
    let mut byte = || -> Result<u8, GitError> {
        let mut byte = [0];
        reader.read_exact(&mut byte).map_err(corrupt)?;
        length += 1;
        Ok(byte[0])
    };
    let damaged = || GitError::Damaged("an entry of the pack makes no sense");
    let first = byte()?;
    let mut size = u64::from(first & 15);
    let (mut next, mut shift) = (first, 4);
    while next & 0x80 != 0 {
        next = byte()?;
        let bits = u64::from(next & 0x7f);
        size |= bits.checked_shl(shift).filter(|shifted| shift < 57 && shifted >> shift == bits).ok_or_else(damaged)?;
        shift += 7;
    }
    let base = match first >> 4 & 7 {
        1 => Base::Whole(Kind::Commit),
        2 => Base::Whole(Kind::Tree),
        3 => Base::Whole(Kind::Blob),
        4 => Base::Whole(Kind::Tag),
        6 => {
            let mut next = byte()?;
            let mut back = u64::from(next & 0x7f);
            while next & 0x80 != 0 {
                next = byte()?;
                back = back.checked_add(1).filter(|back| back >> 57 == 0).ok_or_else(damaged)? << 7
                    | u64::from(next & 0x7f);
            }
            // A base comes before what builds on it.
            Base::At(offset.checked_sub(back).filter(|_| back > 0).ok_or_else(damaged)?)
        }
        7 => {
            let mut oid = [0; 20];
            for place in &mut oid {
                *place = byte()?;
            }
            Base::Named(Oid(oid))
        }
        _ => return Err(damaged()),
    };
    Ok((base, size, length))
}

/// Applies a delta: pieces of `base` and bytes of its own.
fn apply(base: &[u8], mut delta: &[u8]) -> Result<Vec<u8>, GitError> {
    let damaged = || GitError::Damaged("a delta makes no sense");
    let from = number(&mut delta).ok_or_else(damaged)?;
    let to = number(&mut delta).ok_or_else(damaged)?;
    if from != base.len() as u64 {
        return Err(damaged());
    }
    if to > MOST {
        return Err(GitError::TooLarge(to));
    }
    let mut out = Vec::new();
    while let Some((&code, rest)) = delta.split_first() {
        delta = rest;
        let piece = if code & 0x80 != 0 {
            let mut field = |bits: std::ops::Range<u32>| {
                bits.clone().filter(|bit| code >> bit & 1 == 1).try_fold(0usize, |value, bit| {
                    let (&byte, rest) = delta.split_first()?;
                    delta = rest;
                    Some(value | usize::from(byte) << (8 * (bit - bits.start)))
                })
            };
            let start = field(0..4).ok_or_else(damaged)?;
            let length = match field(4..7).ok_or_else(damaged)? {
                0 => 0x10000,
                length => length,
            };
            base.get(start..start + length).ok_or_else(damaged)?
        } else {
            let length = usize::from(code);
            let piece = delta.get(..length).filter(|_| length > 0).ok_or_else(damaged)?;
            delta = &delta[length..];
            piece
        };
        out.extend_from_slice(piece);
        if out.len() as u64 > to {
            return Err(damaged());
        }
    }
    if out.len() as u64 != to { Err(damaged()) } else { Ok(out) }
}

/// A length at the beginning of a delta.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift > 56 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack of these entries: header bytes and content.
    fn pack(entries: &[(Vec<u8>, &[u8])]) -> Result<Pack, GitError> {
        let mut bytes = b"PACK\0\0\0\x02".to_vec();
        bytes.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        for (header, content) in entries {
            bytes.extend_from_slice(header);
            let mut encoder = flate2::write::ZlibEncoder::new(&mut bytes, flate2::Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap();
        }
        let digest: [u8; 20] = Sha1::digest(&bytes).into();
        bytes.extend_from_slice(&digest);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        Pack::open(file)
    }

    fn blob(content: &[u8]) -> Oid {
        name_of(Kind::Blob, content.len() as u64, &mut &content[..]).unwrap()
    }

    #[test]
    fn whole_objects_and_deltas_of_both_kinds() {
        let base = b"hello world\n";
        // Copy 5 from 0, insert "!", copy 1 from 11.
        let delta = [12, 7, 0x90, 5, 1, b'!', 0x91, 11, 1];
        let second = [7, 8, 0x90, 7, 1, b'?'];
        let named = [&[0x76][..], &blob(b"hello!\n").0].concat();
        let pack = pack(&[(vec![0x3c], base), (vec![0x69, 21], &delta), (named, &second)]);
        // The distance of the first delta: one header byte and a zlib stream of 20.
        let pack = pack.unwrap();
        for content in [&base[..], b"hello!\n", b"hello!\n?"] {
            assert_eq!(pack.read(blob(content)).unwrap(), (Kind::Blob, content.to_vec()));
            let mut out = Vec::new();
            assert_eq!(pack.write_blob(blob(content), &mut out).unwrap(), content.len() as u64);
            assert_eq!(out, content);
        }
        assert!(matches!(pack.read(blob(b"other")), Err(GitError::Missing(_))));
        assert_eq!(pack.listing().0.len(), 3);
    }

    #[test]
    fn damage_is_an_error() {
        let named = [&[0x76][..], &blob(b"nowhere").0].concat();
        for (entries, what) in [
            (vec![(vec![0x3b], &b"hello world\n"[..])], "too long"),
            (vec![(vec![0x3d], b"hello world\n")], "too short"),
            (vec![(named, &[7, 8, 0x90, 7, 1, b'?'])], "no base"),
            (vec![(vec![0x66, 200, 1], b"abcdef")], "a base before the pack"),
            (vec![(vec![0x51], b"x")], "no such kind"),
        ] {
            assert!(matches!(pack(&entries), Err(GitError::Damaged(_))), "{what}");
        }
    }

    #[test]
    fn deltas_stay_within_bounds() {
        for delta in [
            &[3, 1, 0x91, 3, 1][..], // copies from behind the end
            &[3, 1, 0],              // reserved
            &[3, 1, 5, b'x'],        // ends inside
            &[3, 1, 2, b'x', b'y'],  // more than announced
            &[3, 9, 1, b'x'],        // less
            &[2, 1, 1, b'x'],        // another base
            &[3],
            &[],
        ] {
            assert!(apply(b"abc", delta).is_err(), "{delta:?}");
        }
        assert_eq!(apply(b"abc", &[3, 2, 0x91, 1, 2]).unwrap(), b"bc");
    }
}
