//! The attributes of a file that belong into an image: the user's own and file capabilities. Labels, access control lists
//! and the marks of overlay filesystems belong to this machine.

use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// Those of the entry `name` of a directory; of the directory itself where it is empty.
pub(super) fn read(parent: &OwnedFd, name: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    // There is no `*at` call for attributes before kernel 6.13, and handles opened with O_PATH are refused.
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend(if name.is_empty() { b"." } else { name });
    let names = match whole(&|buffer: &mut [u8]| rustix::fs::llistxattr(&path[..], buffer)) {
        Ok(names) => names,
        // The filesystem has none; without /proc they cannot be read, and nothing can depend on them there.
        Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::NOTDIR) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e),
    };
    let mut out = BTreeMap::new();
    for name in names.split(|b| *b == 0).filter(|name| belongs_to_image(name)) {
        match whole(&|buffer: &mut [u8]| rustix::fs::lgetxattr(&path[..], name, buffer)) {
            Ok(value) => drop(out.insert(name.to_vec(), value)),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// Whether an open file has none.
pub(super) fn has_none(file: &impl std::os::fd::AsFd) -> Result<bool, Errno> {
    match whole(&|buffer: &mut [u8]| rustix::fs::flistxattr(file, buffer)) {
        Ok(names) => Ok(!names.split(|b| *b == 0).any(belongs_to_image)),
        Err(Errno::OPNOTSUPP) => Ok(true),
        Err(e) => Err(e),
    }
}

/// All that `get` gives, once it is asked with a buffer that is large enough; an empty one asks for the length.
fn whole(get: &dyn Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    loop {
        let mut buffer = vec![0; get(&mut [])?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match get(&mut buffer) {
            Ok(len) => return Ok(buffer[..len].to_vec()),
            // It grew meanwhile.
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e),
        }
    }
}

fn belongs_to_image(name: &[u8]) -> bool {
    let user =
        name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.starts_with(b"user.dockless.");
    user || name == b"security.capability"
}
