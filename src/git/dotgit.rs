//! The `.git` directory of a checkout, for `--keep-git-dir`: what `git` needs to read it, at depth 1.
//! Spec: gitrepository-layout, gitformat-pack (index version 2), gitformat-index (version 2).

use super::checkout::Written;
use super::object::Entry;
use super::pack::Pack;
use super::remote::Ref;
use super::{GitError, Oid};
use crate::dockerfile::redact::redact;
use flate2::Crc;
use fs_err as fs;
use sha1_checked::{Digest, Sha1};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// What the checkout is of.
pub struct Head<'a> {
    /// The repository.
    pub remote: &'a str,
    /// The commit.
    pub commit: Oid,
    /// The ref that named it; without a name where a commit was asked for.
    pub found: &'a Ref,
}

/// Makes the directory `dir` for the checkout of `files`.
pub fn write(dir: &Path, pack: &Pack, files: &[Written], head: &Head<'_>) -> Result<(), GitError> {
    for sub in ["objects/pack", "objects/info", "refs/heads", "refs/tags"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    let (listing, trailer) = pack.listing();
    let name = dir.join(format!("objects/pack/pack-{trailer}"));
    let mut from = pack.file();
    from.seek(SeekFrom::Start(0))?;
    io::copy(&mut from, &mut fs::File::create(name.with_extension("pack"))?)?;
    fs::write(name.with_extension("idx"), pack_index(pack, &listing, trailer)?)?;
    fs::write(dir.join("HEAD"), format!("{}\n", head.commit))?;
    fs::write(dir.join("shallow"), format!("{}\n", head.commit))?;
    let refs = head.found.name.strip_prefix("refs/").filter(|name| is_safe(name));
    if let Some(name) = refs {
        let path = dir.join("refs").join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, format!("{}\n", head.found.oid))?;
    }
    let url = redact(head.remote).replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], "");
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = \"{url}\"\n\
         \tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    );
    fs::write(dir.join("config"), config)?;
    Ok(fs::write(dir.join("index"), index(files))?)
}

/// The server chose the name: it must stay where refs are.
fn is_safe(name: &str) -> bool {
    name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

/// Where each object of the pack is.
fn pack_index(pack: &Pack, listing: &[(Oid, u64)], trailer: Oid) -> Result<Vec<u8>, GitError> {
    let mut offsets: Vec<u64> = listing.iter().map(|(_, offset)| *offset).collect();
    offsets.sort_unstable();
    offsets.push(pack.end());
    let mut out = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=255u8 {
        let count = listing.partition_point(|(oid, _)| oid.0[0] <= first) as u32;
        out.extend_from_slice(&count.to_be_bytes());
    }
    listing.iter().for_each(|(oid, _)| out.extend_from_slice(&oid.0));
    for (_, offset) in listing {
        let next = offsets[offsets.partition_point(|other| other <= offset)];
        out.extend_from_slice(&checksum(pack, *offset, next)?.to_be_bytes());
    }
    let mut far = Vec::new();
    for (_, offset) in listing {
        let place = u32::try_from(*offset).ok().filter(|near| near >> 31 == 0).unwrap_or_else(|| {
            far.extend_from_slice(&offset.to_be_bytes());
            (far.len() / 8 - 1) as u32 | 1 << 31
        });
        out.extend_from_slice(&place.to_be_bytes());
    }
    out.extend_from_slice(&far);
    out.extend_from_slice(&trailer.0);
    out.extend_from_slice(&Sha1::digest(&out));
    Ok(out)
}

/// CRC-32 of an entry as it is in the pack.
fn checksum(pack: &Pack, from: u64, to: u64) -> Result<u32, GitError> {
    let mut file = pack.file();
    file.seek(SeekFrom::Start(from))?;
    let mut reader = file.take(to - from);
    let (mut crc, mut buffer) = (Crc::new(), vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(crc.sum()),
            read => crc.update(&buffer[..read]),
        }
    }
}

/// What is checked out. Times and sizes are left out, so git looks at the files once and then knows them.
fn index(files: &[Written]) -> Vec<u8> {
    let mut sorted: Vec<&Written> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut out = b"DIRC\0\0\0\x02".to_vec();
    out.extend_from_slice(&(sorted.len() as u32).to_be_bytes());
    for file in sorted {
        let start = out.len();
        let mode: u32 = match file.entry {
            Entry::File { executable: true } => 0o100755,
            Entry::File { executable: false } => 0o100644,
            Entry::Symlink => 0o120000,
            Entry::Tree => 0o040000,
            Entry::Submodule => 0o160000,
        };
        out.extend_from_slice(&[0; 24]);
        out.extend_from_slice(&mode.to_be_bytes());
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&file.oid.0);
        out.extend_from_slice(&(file.path.len().min(0xfff) as u16).to_be_bytes());
        out.extend_from_slice(&file.path);
        // One to eight NULs, up to a multiple of eight.
        let padded = (out.len() - start) / 8 * 8 + 8;
        out.resize(start + padded, 0);
    }
    let digest = Sha1::digest(&out);
    out.extend_from_slice(&digest);
    out
}
