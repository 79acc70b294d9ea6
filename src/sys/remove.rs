//! Removing a directory tree whatever the modes in it.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

/// Directories nested deeper than this are moved up to the top first, so that neither descriptors nor stack run out.
const DEPTH: usize = 100;

/// Removes the directory `path` and everything in it; nothing there is fine. Symbolic links are removed, never followed;
/// directories without permissions (overlayfs leaves `work/work` at mode 000) are opened up first.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = |error: Errno| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("failed to remove tree {}: {error}", path.display()))
    };
    let top = match open_dir(CWD, path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(name)?,
    };
    let mut moved = 0;
    loop {
        let before = moved;
        clear(top.as_fd(), top.as_fd(), 0, &mut moved).map_err(name)?;
        match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What was deep stands in `top` now.
            Err(Errno::NOTEMPTY) if moved > before => {}
            Err(error) => return Err(name(error)),
        }
    }
}

/// Removes `name` in `dir` and, where it is a directory, everything in it, as [`remove_tree`] does; nothing there is fine.
pub fn remove_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return done,
    }
    empty_at(dir, name)?;
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// Removes everything in the directory `name` in `dir`.
pub fn empty_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let inner = open_dir(dir, name)?;
    let mut moved = 0;
    loop {
        let before = moved;
        clear(inner.as_fd(), inner.as_fd(), 0, &mut moved)?;
        if moved == before {
            return Ok(());
        }
    }
}

/// Empties `dir`, `depth` levels below `top`. What lies too deep is moved to `top`, and counted.
fn clear(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> Result<(), Errno> {
    for (name, kind) in names(dir)? {
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error),
            }
        }
        let child = match open_dir(dir, &name) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if depth >= DEPTH {
            drop(child);
            *moved += 1;
            rustix::fs::renameat(dir, &name, top, format!(".dockless-remove-{moved}"))?; // opened above: it may be moved only if writable
            continue;
        }
        clear(top, child.as_fd(), depth + 1, moved)?;
        drop(child);
        match rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a directory for reading and changing, giving its owner the permissions for that where they lack.
fn open_dir<P: rustix::path::Arg + Copy>(at: BorrowedFd<'_>, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // chmodat follows links, but only a directory comes here: a link fails above with ENOTDIR or ELOOP.
            rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(at, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&opened, Mode::RWXU)?;
    }
    Ok(opened)
}

fn names(dir: BorrowedFd<'_>) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut out = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            out.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn removes_what_modes_and_links_would_keep() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs_err::create_dir_all(tree.join("work/work/in")).unwrap();
        fs_err::write(tree.join("work/work/in/f"), "x").unwrap();
        fs_err::write(dir.path().join("kept"), "x").unwrap();
        symlink(dir.path(), tree.join("out")).unwrap();
        fs_err::set_permissions(tree.join("work/work"), PermissionsExt::from_mode(0o0)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && dir.path().join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn removes_trees_deeper_than_descriptors_and_paths_reach() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs_err::create_dir(&tree).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::openat(CWD, &tree, flags, Mode::empty()).unwrap();
        for _ in 0..1200 {
            rustix::fs::mkdirat(&at, "a", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "a", flags, Mode::empty()).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn names_the_tree_that_it_cannot_remove() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = remove_tree(file.path()).unwrap_err();
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    }
}
