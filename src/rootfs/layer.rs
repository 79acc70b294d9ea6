//! One layer, written in one pass: entries go to a canonical tar, a content digest, a compressor and a blob at once.
//!
//! Memory does not depend on the layer's size. The bytes depend on the entries, the compression and the epoch alone: not on
//! the number of threads, the machine, or the time.

mod archive;

pub use archive::{LayerError, TarWriter, order};

use super::gzip::{Compression, ParallelCompressor};
use crate::oci::digest::{Algorithm, Hasher, HashingWriter};
use crate::oci::layer::{Kind, Metadata};
use crate::oci::{ContentDigest, DiffId, Layer};
use crate::store::BlobWriter;
use std::io::{self, Read, Write};

/// How a layer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// Its compression.
    pub compression: Compression,
    /// Threads that compress.
    pub threads: usize,
    /// Times after this are set back to it (`SOURCE_DATE_EPOCH`), seconds since 1970.
    pub epoch: Option<i64>,
}

impl Default for LayerOptions {
    /// gzip, as many threads as the process may use, times as they are.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        LayerOptions { compression: Compression::default(), threads, epoch: None }
    }
}

/// Writes one layer into the blob `W`. Entries come in the canonical order ([`order`]), each path once. After an error the
/// blob is of no use and must be dropped.
pub struct LayerWriter<W: Write> {
    tar: TarWriter<HashingWriter<ParallelCompressor<W>>>,
    content: ContentHasher,
    media_type: &'static str,
}

impl<W: Write> LayerWriter<W> {
    /// Writes into `blob`.
    pub fn new(blob: W, options: LayerOptions) -> Self {
        let compressor = ParallelCompressor::new(blob, options.compression, options.threads);
        LayerWriter {
            tar: TarWriter::new(HashingWriter::new(compressor), options.epoch),
            content: ContentHasher::new(),
            media_type: options.compression.media_type(),
        }
    }

    /// Adds `path`: relative bytes without `.`, `..`, a leading or trailing slash; empty is the root. `data` is read for
    /// regular files only and must give exactly as many bytes as `meta` says; it may be absent where that is none.
    pub fn append(&mut self, path: &[u8], meta: &Metadata, data: Option<&mut dyn Read>) -> Result<(), LayerError> {
        self.content.entry(path, meta);
        match data {
            Some(data) => {
                let mut data = Tee { inner: data, content: &mut self.content };
                self.tar.append(path, meta, Some(&mut data))
            }
            None => self.tar.append(path, meta, None),
        }
    }

    /// Adds `path` as another name of the file `target`, which was added before with the metadata `meta`.
    pub fn hardlink(&mut self, path: &[u8], target: &[u8], meta: &Metadata) -> Result<(), LayerError> {
        self.content.mark(b'h', path);
        self.content.bytes(target);
        self.tar.hardlink(path, target, meta)
    }

    /// Says that `path` of the layers below is gone. Takes `path` itself, without the prefix.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.content.mark(b'w', path);
        self.tar.whiteout(path)
    }

    /// Says that nothing of `dir` in the layers below shows through. Comes right after `dir` itself.
    pub fn opaque(&mut self, dir: &[u8]) -> Result<(), LayerError> {
        self.content.mark(b'o', dir);
        self.tar.opaque(dir)
    }

    /// Ends the layer: the blob, all of it written, and what it holds.
    pub fn finish_into(self) -> Result<(W, DiffId, ContentDigest), LayerError> {
        let (compressor, diff_id, _) = self.tar.finish()?.finish();
        let blob = compressor.finish().map_err(LayerError::Write)?;
        Ok((blob, DiffId::new(diff_id), self.content.finish()))
    }
}

impl LayerWriter<BlobWriter> {
    /// Ends the layer and puts its blob in the store.
    pub fn finish(self) -> Result<Layer, LayerError> {
        let media_type = self.media_type.to_string();
        let (blob, diff_id, content) = self.finish_into()?;
        let (digest, size) = blob.finish()?;
        Ok(Layer { digest, size, media_type, diff_id, content: Some(content) })
    }
}

/// Computes [`ContentDigest`]: SHA-256 over the entries without their times, each field behind its length, so that no two
/// different layers have one encoding. The first bytes name the encoding's version.
struct ContentHasher(Hasher);

impl ContentHasher {
    fn new() -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"dockless layer content 1\n");
        ContentHasher(hasher)
    }

    fn mark(&mut self, tag: u8, path: &[u8]) {
        self.0.update(&[tag]);
        self.bytes(path);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Everything but the bytes of a file, whose length is the last field.
    fn entry(&mut self, path: &[u8], meta: &Metadata) {
        let tag = match meta.kind {
            Kind::File { .. } => b'f',
            Kind::Dir => b'd',
            Kind::Symlink { .. } => b'l',
            Kind::Fifo => b'p',
            Kind::CharDevice { .. } => b'c',
            Kind::BlockDevice { .. } => b'b',
            Kind::Socket => b's',
        };
        self.mark(tag, path);
        for number in [meta.mode & 0o7777, meta.uid, meta.gid] {
            self.number(number.into());
        }
        self.number(meta.xattrs.len() as u64);
        for (name, value) in &meta.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        match &meta.kind {
            Kind::File { size } => self.number(*size),
            Kind::Symlink { target } => self.bytes(target),
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                self.number((*major).into());
                self.number((*minor).into());
            }
            Kind::Dir | Kind::Fifo | Kind::Socket => {}
        }
    }

    fn finish(self) -> ContentDigest {
        ContentDigest::new(self.0.finish())
    }
}

/// Shows the content digest what the tar reads.
struct Tee<'a> {
    inner: &'a mut dyn Read,
    content: &'a mut ContentHasher,
}

impl Read for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.content.0.update(&buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
