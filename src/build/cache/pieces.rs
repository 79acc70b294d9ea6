//! What cache mounts hold, as pieces: so that of a large cache only what changed goes over the line.
//!
//! A directory becomes one canonical tar, which is cut where its content says (FastCDC): a file that is added or changed
//! changes the pieces around it and no others. Each piece is compressed by itself and travels in an
//! [`super::envelope`]; the same bytes are the same blob in every build.

use super::envelope;
use super::export::ExportError;
use crate::context::EmptyTree;
use crate::rootfs::{
    Compression, DiffError, LayerError, LayerOptions, LayerView, LayerWriter, UnpackError, diff, unpack,
};
use fastcdc::v2020::StreamCDC;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::Path;

/// Bytes of a piece: no less (but the last one), about, no more.
const LEAST: usize = 256 << 10;
const ABOUT: usize = 1 << 20;
const MOST: usize = 4 << 20;
/// What is packed once per build is packed fast.
const LEVEL: i32 = 1;
/// What every piece is called.
pub const NAME: &str = "dockless/piece";

/// Why a directory could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// Its files could not be read.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// They could not be written as a tar.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The tar could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The pipe between the two.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A piece that is none.
    #[error("a piece of it is damaged")]
    Damaged,
}

/// Packs what `dir` holds, and gives each piece in order to `take`; false where it has more than `limit` bytes.
pub fn pack(
    dir: &Path,
    limit: u64,
    mut take: impl FnMut(Vec<u8>) -> Result<(), ExportError>,
) -> Result<bool, ExportError> {
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let tar = scope.spawn(move || write_tar(dir, writer));
        let cut = cut(reader, limit, &mut take);
        let written = tar.join().unwrap_or(Err(PieceError::Damaged));
        match (cut, written) {
            // Whoever writes fails when nobody reads any more.
            (Ok(false), _) => Ok(false),
            (Err(error), _) => Err(error),
            (Ok(true), written) => written.map(|()| true).map_err(ExportError::from),
        }
    })
}

fn write_tar(dir: &Path, writer: PipeWriter) -> Result<(), PieceError> {
    let options = LayerOptions { compression: Compression::none(), threads: 1, epoch: None };
    let mut layer = LayerWriter::new(writer, options);
    diff(dir, &EmptyTree, &[], &mut layer)?;
    layer.finish_into()?;
    Ok(())
}

fn cut(
    reader: PipeReader,
    limit: u64,
    take: &mut impl FnMut(Vec<u8>) -> Result<(), ExportError>,
) -> Result<bool, ExportError> {
    let mut total = 0;
    for chunk in StreamCDC::new(reader, LEAST, ABOUT, MOST) {
        let chunk = chunk.map_err(io::Error::from)?;
        total += chunk.length as u64;
        if total > limit {
            return Ok(false);
        }
        take(zstd::encode_all(&chunk.data[..], LEVEL)?)?;
    }
    Ok(true)
}

/// Unpacks into the empty directory `dir` what `pieces` gives: envelopes, in order.
pub fn unpack_all<E: From<PieceError> + Send>(
    dir: &Path,
    pieces: impl Iterator<Item = Result<Vec<u8>, E>> + Send,
) -> Result<(), E> {
    let (reader, mut writer) = io::pipe().map_err(PieceError::Io)?;
    std::thread::scope(|scope| {
        let feed = scope.spawn(move || -> Result<(), E> {
            for archive in pieces {
                let tar = open(&archive?)?;
                // Where nobody reads any more, the reader says why.
                if writer.write_all(&tar).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        });
        let view = LayerView::new(&[]).map_err(PieceError::Io);
        let unpacked = view.and_then(|view| Ok(unpack(reader, &view, dir, None)?));
        // What was wrong with a piece says more than that the tar ended.
        feed.join().unwrap_or_else(|_| Err(PieceError::Damaged.into()))?;
        unpacked.map(drop).map_err(E::from)
    })
}

/// The bytes of one piece.
fn open(archive: &[u8]) -> Result<Vec<u8>, PieceError> {
    let piece = envelope::unwrap(archive).ok_or(PieceError::Damaged)?;
    let mut tar = Vec::new();
    zstd::Decoder::new(&piece[..])?.take(MOST as u64 + 1).read_to_end(&mut tar)?;
    (tar.len() <= MOST).then_some(tar).ok_or(PieceError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn packed(dir: &Path) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let whole = pack(dir, u64::MAX, |piece| {
            pieces.push(envelope::wrap(NAME, &piece)?);
            Ok(())
        });
        assert!(whole.unwrap());
        pieces
    }

    /// Bytes that do not compress.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed + 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn only_what_changed_is_another_piece() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("dir");
        fs::create_dir_all(dir.join("sub")).unwrap();
        for n in 0..20 {
            fs::write(dir.join(format!("sub/{n:02}")), noise(n, 1 << 20)).unwrap();
        }
        std::os::unix::fs::symlink("sub/03", dir.join("link")).unwrap();
        let before = packed(&dir);
        assert_eq!(packed(&dir), before);
        fs::write(dir.join("sub/07b"), "a new file in the middle").unwrap();
        let after = packed(&dir);
        let new = after.iter().filter(|piece| !before.contains(piece)).count();
        assert!(before.len() > 8 && (1..=3).contains(&new), "{new} of {}", after.len());
        let out = temp.path().join("out");
        fs::create_dir(&out).unwrap();
        unpack_all(&out, after.iter().cloned().map(Ok::<_, PieceError>)).unwrap();
        assert_eq!(fs::read(out.join("sub/07b")).unwrap(), b"a new file in the middle");
        assert_eq!(fs::read(out.join("link")).unwrap(), noise(3, 1 << 20));
        // Less than all of it, or something else.
        for wrong in [&after[..3], &[b"garbage".to_vec()][..]] {
            let place = tempfile::tempdir().unwrap();
            assert!(unpack_all(place.path(), wrong.iter().cloned().map(Ok::<_, PieceError>)).is_err());
        }
        let few = pack(&dir, 1 << 20, |_| Ok(()));
        assert!(!few.unwrap(), "more than may be");
    }
}
