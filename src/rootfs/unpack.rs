//! Unpacks a layer's blob into a directory in overlayfs's format.
//!
//! The blob is decompressed in one thread while another hashes the tar and writes files; the whole stream is hashed, what
//! follows the archive's end included, for that is what a DiffID is of. How entries become files is in
//! `rootfs/unpack_tree.rs`, how they are read in `rootfs/unpack_tar.rs`.
//!
//! Spec: OCI image-spec layer.md; config.md (DiffID).

use super::fill;
use super::unpack_tar::TarReader;
use super::unpack_tree::Tree;
use super::view::LayerView;
use crate::oci::digest::{Algorithm, Hasher};
use crate::oci::{DiffId, Digest};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Size of a piece that goes from one thread to the other, and how many may be on their way: 2 MiB in all.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The blob could not be read or decompressed.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// A file of the layer could not be made; the message names it.
    #[error("cannot unpack the layer: {0}")]
    Write(#[source] io::Error),
    /// A header that makes no sense.
    #[error("damaged layer: in the tar header at byte {offset}, {why}")]
    Header {
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The stream ends inside an entry.
    #[error("damaged layer: the tar ends at byte {offset}, inside an entry")]
    Truncated {
        /// Where in the uncompressed stream.
        offset: u64,
    },
    /// A name that must not be in a layer.
    #[error("refused layer: '{path}' {why}")]
    Path {
        /// The entry's name.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A hard link to what is in neither this layer nor those below, or to a directory.
    #[error("damaged layer: '{path}' is a hard link to '{target}', which is no file of the image")]
    LinkTarget {
        /// The entry's name.
        path: String,
        /// What it should be a link to.
        target: String,
    },
    /// Something tar can say and dockless does not know.
    #[error("the layer holds '{path}', {what}, which dockless cannot unpack")]
    Unsupported {
        /// The entry's name.
        path: String,
        /// What it is.
        what: String,
    },
    /// The tar is not the one the image's config names.
    #[error("digest mismatch: the layer should unpack to {expected}, it unpacks to {found}")]
    DiffId {
        /// What the config says.
        expected: DiffId,
        /// What came out.
        found: DiffId,
    },
}

/// Unpacks `blob` (a tar: plain, gzip or zstd, told by its first bytes) into the empty directory `into`, as the layer on top
/// of `parent`, and gives the DiffID. Where `expected` is given, another DiffID is an error.
///
/// `into` must lie on the file system of the store and nobody else may write to it. After an error it holds what was
/// written so far: unpack into a `StagedLayer`, which is only seen once committed.
pub fn unpack<R: Read + Send>(
    blob: R,
    parent: &LayerView,
    into: &Path,
    expected: Option<&DiffId>,
) -> Result<DiffId, UnpackError> {
    stream(blob, expected, |reader| {
        let mut tree = Tree::new(parent, into)?;
        while let Some(entry) = reader.next_entry()? {
            tree.add(entry, reader)?;
        }
        tree.finish()
    })
}

/// Lets `visit` read the tar in `blob`, and gives the DiffID; another one than `expected` is an error.
pub(super) fn stream<R: Read + Send>(
    blob: R,
    expected: Option<&DiffId>,
    visit: impl FnOnce(&mut TarReader<Stream>) -> Result<(), UnpackError>,
) -> Result<DiffId, UnpackError> {
    let (pieces, incoming) = sync_channel(PIECES);
    let (used, spare) = sync_channel(PIECES + 2);
    let found = std::thread::scope(|scope| {
        scope.spawn(move || decompress(blob, &pieces, &spare));
        let stream = Stream { incoming, used, piece: Vec::new(), at: 0, hasher: Hasher::new(Algorithm::Sha256) };
        let mut reader = TarReader::new(stream);
        visit(&mut reader)?;
        Ok(DiffId::new(reader.drain()?.finish()))
    })?;
    match expected {
        Some(expected) if *expected != found => Err(UnpackError::DiffId { expected: expected.clone(), found }),
        _ => Ok(found),
    }
}

type Piece = io::Result<Vec<u8>>;

/// Decompresses `blob` piece by piece until it ends, fails, or nobody listens any more.
fn decompress(blob: impl Read, pieces: &SyncSender<Piece>, spare: &Receiver<Vec<u8>>) {
    let mut reader = match decoder(blob) {
        Ok(reader) => reader,
        Err(e) => return drop(pieces.send(Err(e))),
    };
    loop {
        let mut piece = spare.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let sent = match fill(&mut reader, &mut piece) {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                pieces.send(Ok(piece))
            }
            Err(e) => return drop(pieces.send(Err(e))),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What reads the tar out of `blob`, by its first bytes: media types are wrong often enough.
fn decoder<'a>(blob: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(PIECE, blob);
    let start = reader.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(reader)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(Box::new(zstd::Decoder::with_buffer(reader)?));
    }
    Ok(Box::new(reader))
}

/// The uncompressed stream as the writing thread sees it; hashes what goes through.
pub(super) struct Stream {
    incoming: Receiver<Piece>,
    used: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    hasher: Hasher,
}

impl Stream {
    fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // The other thread hangs up at the end, after the last piece.
        if self.at == self.piece.len()
            && let Ok(piece) = self.incoming.recv()
        {
            let piece = piece?;
            self.hasher.update(&piece);
            // Given back to be filled anew; not being taken is no loss.
            drop(self.used.try_send(std::mem::replace(&mut self.piece, piece)));
            self.at = 0;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        self.consume(length);
        Ok(length)
    }
}
