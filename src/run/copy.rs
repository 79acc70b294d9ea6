//! Files between a container, running or not, and the machine: `docker cp` and `docker export`.

use super::container::{Container, Containers};
use super::volumes::{VolumeSource, Volumes, tar_to};
use super::{RunError, Services, client, keep};
use crate::context::{ContextDir, SourceTree};
use crate::rootfs::layer::TarWriter;
use crate::rootfs::{Ownership, append_tree, extract, open_inside};
use crate::sandbox::{self, users};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No more of a container's passwd and group is read.
const NAMES_MAX: u64 = 1 << 20;

/// The machine's side of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Local {
    /// A file or directory, by its absolute path. A `/` or `/.` at the end counts.
    Path(PathBuf),
    /// A tar on standard input or output.
    Tar,
}

/// How files are copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CopyOptions {
    /// `--archive`: they keep their owners; else they belong to whoever they are copied to.
    pub keep_owners: bool,
    /// `--follow-link`: what a link at the end of the source leads to is copied.
    pub follow: bool,
    /// What is copied into a container belongs to this user: `USER[:GROUP]`, names or numbers of the container's.
    pub owner: Option<String>,
    /// Directories that are missing on the way to the place are made.
    pub parents: bool,
}

impl CopyOptions {
    fn ownership(&self) -> Ownership {
        if self.keep_owners { Ownership::Kept } else { Ownership::Own }
    }
}

/// A path as the user wrote it, taken apart.
struct Written<'a> {
    /// Without slashes around it, and without `.` at its end.
    path: &'a [u8],
    /// It ends in `/`: a directory is meant.
    directory: bool,
    /// It ends in `/.`: what is in the directory is meant.
    contents: bool,
}

impl Written<'_> {
    fn of(text: &[u8]) -> Written<'_> {
        let contents = text == b"." || text.ends_with(b"/.");
        let text = if contents { &text[..text.len() - 1] } else { text };
        let start = text.iter().position(|b| *b != b'/').unwrap_or(text.len());
        let end = text.iter().rposition(|b| *b != b'/').map_or(start, |at| at + 1);
        Written { path: &text[start..end], directory: text.ends_with(b"/"), contents }
    }

    fn name(&self) -> &[u8] {
        self.path.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }
}

/// Where in the target what is copied goes: the directory that the tar is unpacked in, and the name in it.
fn place(
    source: &Written<'_>,
    source_is_dir: bool,
    target: &Written<'_>,
    found: Option<FileType>,
    parents: bool,
) -> Result<(Vec<u8>, Vec<u8>), RunError> {
    let above = || {
        let cut = target.path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        (target.path[..cut].to_vec(), target.name().to_vec())
    };
    let bad = |why| RunError::Path { path: String::from_utf8_lossy(target.path).into_owned(), why };
    match found {
        Some(FileType::Directory) if source.contents || source.name().is_empty() => {
            Ok((target.path.to_vec(), Vec::new()))
        }
        Some(FileType::Directory) => Ok((target.path.to_vec(), source.name().to_vec())),
        Some(_) if source_is_dir => Err(bad("cannot copy a directory to a file")),
        Some(_) if target.directory || target.contents => Err(bad("not a directory")),
        None if !source_is_dir && target.directory && parents => Ok((target.path.to_vec(), source.name().to_vec())),
        None if !source_is_dir && target.directory => Err(bad("no such directory")),
        Some(_) | None => Ok(above()),
    }
}

/// Copies `from` of the machine to `to` in the container.
pub fn copy_in(
    container: &Container,
    services: &Services<'_>,
    from: &Local,
    to: &[u8],
    options: &CopyOptions,
) -> Result<(), RunError> {
    let ownership = match &options.owner {
        Some(owner) => user_of(container, services, owner)?,
        None => options.ownership(),
    };
    inside(container, services, to, &mut |root, to| {
        let target = Written::of(to);
        let found = kind_at(root, target.path)?;
        match from {
            Local::Tar if found != Some(FileType::Directory) => {
                Err(RunError::Path { path: String::from_utf8_lossy(to).into_owned(), why: "not a directory" })
            }
            Local::Tar => Ok(extract(root, target.path, rustix_stdin()?, Ownership::Kept)?),
            Local::Path(path) => {
                let source = Written::of(path.as_os_str().as_bytes());
                let (tree, name) = local(path, options.follow || source.contents)?;
                let is_dir = tree.metadata(&name)?.is_some_and(|metadata| metadata.is_dir());
                let (at, place) = place(&source, is_dir, &target, found, options.parents)?;
                if !options.parents {
                    no_directory(root, &at)?;
                }
                tar_to(&tree, &name, &place, |tar| Ok(extract(root, &at, tar, ownership)?))
            }
        }
    })
}

/// Copies `from` of the container to the machine.
pub fn copy_out(
    container: &Container,
    services: &Services<'_>,
    from: &[u8],
    to: &Local,
    options: &CopyOptions,
    out: &mut (dyn Write + Send),
) -> Result<(), RunError> {
    let view;
    let mounted;
    let source = Written::of(from);
    let (tree, path): (&dyn SourceTree, Vec<u8>) = match in_mount(container, services, source.path)? {
        Some((place, rest)) => {
            let (dir, name) = local(&place.join(std::ffi::OsStr::from_bytes(&rest)), options.follow)?;
            mounted = dir;
            (&mounted, name)
        }
        None => {
            view = keep::tree(container, services)?.view()?;
            let found = resolve(&view, source.path, options.follow || source.contents)?;
            (&view, found)
        }
    };
    let Some(metadata) = tree.metadata(&path)? else { return Err(missing(container, from)) };
    if source.contents && !metadata.is_dir() {
        return Err(RunError::Path { path: String::from_utf8_lossy(from).into_owned(), why: "not a directory" });
    }
    match to {
        Local::Tar => {
            let name = if source.contents { b"" } else { source.name() };
            let mut tar = TarWriter::new(out, None);
            append_tree::<_, RunError>(&mut tar, tree, &path, name)?;
            Ok(tar.finish()?.flush()?)
        }
        Local::Path(to) => {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let root = root.map_err(io::Error::from)?;
            let target = Written::of(to.as_os_str().as_bytes());
            let found = kind_at(root.as_fd(), target.path)?;
            let (at, place) = place(&source, metadata.is_dir(), &target, found, false)?;
            no_directory(root.as_fd(), &at)?;
            tar_to(tree, &path, &place, |tar| Ok(extract(root.as_fd(), &at, tar, options.ownership())?))
        }
    }
}

/// The user that `owner` names in the container.
fn user_of(container: &Container, services: &Services<'_>, owner: &str) -> Result<Ownership, RunError> {
    let view = keep::tree(container, services)?.view()?;
    let text = |path: &[u8]| -> Result<Vec<u8>, RunError> {
        let Some(path) = view.resolve(path)? else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        view.open(&path)?.take(NAMES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let user = users::lookup(&text(b"etc/passwd")?, &text(b"etc/group")?, owner)?;
    Ok(Ownership::Of(user.uid, user.gid))
}

/// Writes the container's tree as a tar, without what is mounted in it.
pub fn export(container: &Container, services: &Services<'_>, out: &mut (dyn Write + Send)) -> Result<(), RunError> {
    let view = keep::tree(container, services)?.view()?;
    let mut tar = TarWriter::new(out, None);
    append_tree::<_, RunError>(&mut tar, &view, b"", b"")?;
    Ok(tar.finish()?.flush()?)
}

fn missing(container: &Container, path: &[u8]) -> RunError {
    let path = format!("{}:{}", container.name, String::from_utf8_lossy(path));
    RunError::Path { path, why: "Could not find the file in the container" }
}

/// `path` with links on the way resolved; the last one too with `follow`.
fn resolve(view: &crate::rootfs::LayerView, path: &[u8], follow: bool) -> Result<Vec<u8>, RunError> {
    let none = || RunError::Path {
        path: String::from_utf8_lossy(path).into_owned(),
        why: "Could not find the file in the container",
    };
    if follow {
        return view.resolve(path)?.ok_or_else(none);
    }
    let cut = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let mut found = view.resolve(&path[..cut])?.ok_or_else(none)?;
    if !found.is_empty() {
        found.push(b'/');
    }
    found.extend_from_slice(path[cut..].strip_prefix(b"/").unwrap_or(&path[cut..]));
    Ok(found)
}

/// The tree that a file of the machine is in, and its path there.
fn local(path: &Path, follow: bool) -> Result<(ContextDir, Vec<u8>), RunError> {
    let path = if follow { fs_err::canonicalize(path)? } else { path.components().collect() };
    let metadata = fs_err::symlink_metadata(&path)?;
    if metadata.is_dir() {
        return Ok((ContextDir::open(&path, None)?, Vec::new()));
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(RunError::Path { path: path.display().to_string(), why: "not a file" });
    };
    Ok((ContextDir::open(dir, None)?, name.as_bytes().to_vec()))
}

/// Where on the machine `path` of the container lies, if it lies in a mount: the mount's source, and the rest of the path.
fn in_mount(
    container: &Container,
    services: &Services<'_>,
    path: &[u8],
) -> Result<Option<(PathBuf, Vec<u8>)>, RunError> {
    let volumes = Volumes::of(services.store.root());
    let mut best: Option<(usize, PathBuf, Vec<u8>)> = None;
    for mount in &container.settings.mounts {
        let target = Written::of(mount.target.as_os_str().as_bytes()).path;
        let Some(rest) = path.strip_prefix(target).filter(|rest| rest.is_empty() || rest[0] == b'/') else { continue };
        let source = match &mount.source {
            VolumeSource::Path(source) => source.clone(),
            VolumeSource::Volume { name, .. } => volumes.data(name),
            // Memory: only the container itself has it.
            VolumeSource::Tmpfs(_) => continue,
        };
        if best.as_ref().is_none_or(|(length, _, _)| target.len() > *length) {
            best = Some((target.len(), source, rest.strip_prefix(b"/").unwrap_or(rest).to_vec()));
        }
    }
    Ok(best.map(|(_, source, rest)| (source, rest)))
}

/// What is done with a root directory and a path in it.
type Work<'a> = dyn FnMut(BorrowedFd<'_>, &[u8]) -> Result<(), RunError> + 'a;

/// Calls `work` with a root directory and the path in it that `path` of the container is.
fn inside(container: &Container, services: &Services<'_>, path: &[u8], work: &mut Work<'_>) -> Result<(), RunError> {
    let plain = Written::of(path).path;
    if let Some((source, rest)) = in_mount(container, services, plain)? {
        let rest = if path.ends_with(b"/") { [&rest[..], b"/"].concat() } else { rest };
        let dir = if source.is_dir() { source.clone() } else { source.parent().unwrap_or(&source).to_path_buf() };
        let rest = if source.is_dir() { rest } else { source.file_name().unwrap_or_default().as_bytes().to_vec() };
        let root = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        return work(root.map_err(io::Error::from)?.as_fd(), &rest);
    }
    let containers = Containers::of(services.store.root());
    if containers.is_running(&container.id)? {
        return work(client::root(&containers, container)?.as_fd(), path);
    }
    // Nobody may start it meanwhile.
    let _kept = containers.keep(container)?;
    let root = keep::tree(container, services)?.root()?;
    sandbox::with_tree(&root, |root| work(root, path))?
}

/// What is at `path` of the tree.
fn kind_at(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<FileType>, RunError> {
    match open_inside(root, path, OFlags::PATH) {
        Ok(found) => {
            let stat = rustix::fs::fstat(&found).map_err(io::Error::from)?;
            Ok(Some(FileType::from_raw_mode(stat.st_mode)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(io::Error::from(errno).into()),
    }
}

/// An error where the directory `at`, in which something is to be put, is not there.
fn no_directory(root: BorrowedFd<'_>, at: &[u8]) -> Result<(), RunError> {
    match kind_at(root, at)? {
        Some(FileType::Directory) => Ok(()),
        _ => {
            let path = format!("/{}", String::from_utf8_lossy(at));
            Err(RunError::Path { path, why: "no such directory" })
        }
    }
}

fn rustix_stdin() -> io::Result<impl Read + Send> {
    let stdin: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    Ok(std::fs::File::from(stdin))
}
