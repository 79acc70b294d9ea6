//! A layer that holds one file. What caches hold beside layers goes into such ones, so that a cache is an image like any
//! other to registries, and to tools that copy, list or remove images.

use std::io::{Cursor, Read};

/// Bytes that a file in an envelope may have.
pub const MAX: u64 = 128 << 20;

/// An archive with one file of no time and no owner.
pub fn wrap(name: &str, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::with_capacity(bytes.len() + 2048));
    archive.append_data(&mut header, name, bytes)?;
    archive.into_inner()
}

/// The bytes of the file; `None` where this is no such archive.
pub fn unwrap(archive: &[u8]) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(Cursor::new(archive));
    let entry = archive.entries().ok()?.next()?.ok()?;
    let size = entry.header().size().ok().filter(|size| *size <= MAX)?;
    let mut bytes = Vec::new();
    entry.take(MAX).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == size).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for bytes in [&b""[..], b"x", &[7; 5000]] {
            let archive = wrap("dockless/x", bytes).unwrap();
            assert_eq!(wrap("dockless/x", bytes).unwrap(), archive, "the same bytes each time");
            assert_eq!(unwrap(&archive).unwrap(), bytes);
            assert_eq!(unwrap(&archive[..archive.len().min(600)]).filter(|_| bytes.len() > 100), None);
        }
        assert_eq!(unwrap(b"not an archive"), None);
    }
}
