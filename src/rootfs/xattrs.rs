//! Extended attributes of a name in an open directory, never through a symbolic link.
//!
//! There is no `*at` form of the xattr calls before Linux 6.13, so the path goes through `/proc/self/fd/N/name`: the kernel
//! jumps to the open directory and follows nothing after it.

use crate::overrides::{OVERRIDE, Override, PRIVATE, SHELVED};
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;

/// The xattr that makes a directory opaque in overlayfs mounted with `userxattr`.
pub const OPAQUE: &str = "user.overlay.opaque";

/// Xattrs of overlayfs: they are about layers, not about the image.
const OVERLAY: &[&[u8]] = &[b"user.overlay.", b"trusted.overlay."];
/// Labels that the machine puts on files, not the image.
const MACHINE: &[&[u8]] = &[b"security.selinux", b"security.ima", b"security.evm"];

/// Whether an xattr of this name belongs to the image, and not to overlayfs, the machine or us.
pub fn is_images(name: &[u8]) -> bool {
    !OVERLAY.iter().any(|prefix| name.starts_with(prefix))
        && !MACHINE.contains(&name)
        && !name.starts_with(PRIVATE.as_bytes())
}

/// All that the xattrs of a file say.
#[derive(Debug, Default)]
pub struct Xattrs {
    /// Those of the image.
    pub image: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Our override.
    pub replaced: Option<Override>,
}

fn proc_path(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Reads the xattrs of `name` in `dir`.
pub fn read(dir: impl AsFd, name: &[u8]) -> io::Result<Xattrs> {
    let path = proc_path(dir, name);
    let mut found = Xattrs::default();
    let list = match with_buffer(|buffer| rustix::fs::llistxattr(&path[..], buffer)) {
        Ok(list) => list,
        Err(Errno::NOTSUP) => return Ok(found),
        Err(errno) => return Err(errno.into()),
    };
    for key in list.split(|b| *b == 0).filter(|key| !key.is_empty()) {
        let ours = key == OVERRIDE.as_bytes();
        let shelved = key.strip_prefix(SHELVED.as_bytes());
        if !ours && shelved.is_none() && !is_images(key) {
            continue;
        }
        let value = match with_buffer(|buffer| rustix::fs::lgetxattr(&path[..], key, buffer)) {
            Ok(value) => value,
            // Gone in between, or listed though we may not read it (`trusted.` outside the first user namespace).
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) if !ours => continue,
            Err(errno) => return Err(errno.into()),
        };
        if ours {
            let damaged = || {
                let text = String::from_utf8_lossy(&value).into_owned();
                io::Error::new(io::ErrorKind::InvalidData, format!("damaged {OVERRIDE}: '{text}'"))
            };
            found.replaced = Some(Override::parse(&value).ok_or_else(damaged)?);
        } else {
            found.image.insert(shelved.unwrap_or(key).to_vec(), value);
        }
    }
    Ok(found)
}

/// Gives `to` in its directory the xattrs of `from` in its, the image's and ours, as they are. Whatever else it has it loses.
pub fn copy(from: (impl AsFd, &[u8]), to: (impl AsFd, &[u8])) -> Result<(), Errno> {
    let (source, target) = (proc_path(from.0, from.1), proc_path(to.0, to.1));
    let (wanted, had) = (kept(&source)?, kept(&target)?);
    for key in had.iter().filter(|key| !wanted.contains(key)) {
        rustix::fs::lremovexattr(&target[..], &key[..])?;
    }
    for key in &wanted {
        match with_buffer(|buffer| rustix::fs::lgetxattr(&source[..], &key[..], buffer)) {
            Ok(value) => rustix::fs::lsetxattr(&target[..], &key[..], &value, XattrFlags::empty())?,
            // As in `read`.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Names of the xattrs of `path` that are the image's or ours.
fn kept(path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let list = match with_buffer(|buffer| rustix::fs::llistxattr(path, buffer)) {
        Err(Errno::NOTSUP) => Vec::new(),
        list => list?,
    };
    let kept = |key: &&[u8]| !key.is_empty() && (is_images(key) || key.starts_with(PRIVATE.as_bytes()));
    Ok(list.split(|b| *b == 0).filter(kept).map(<[u8]>::to_vec).collect())
}

/// Whether the directory `name` in `dir` is opaque.
pub fn is_opaque(dir: impl AsFd, name: &[u8]) -> io::Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(&proc_path(dir, name)[..], OPAQUE, &mut value) {
        Ok(n) => Ok(value[..n] == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets an xattr of `name` in `dir`.
pub fn set(dir: impl AsFd, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(&proc_path(dir, name)[..], key, value, XattrFlags::empty())
}

/// Calls `read` with a buffer that is large enough.
fn with_buffer(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(n) => return Ok(small[..n].to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    // The kernel's limits for a value and for a list (XATTR_SIZE_MAX, XATTR_LIST_MAX).
    let mut large = vec![0; 1 << 16];
    let n = read(&mut large)?;
    large.truncate(n);
    Ok(large)
}
