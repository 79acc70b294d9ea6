//! The canonical tar: one tree of entries has one sequence of bytes.
//!
//! Entries come sorted by path, component by component (so a directory comes before what is in it), each at most once.
//! Headers are ustar; a PAX record stands only for what ustar cannot hold: paths over 100 bytes that its prefix field
//! cannot take either, link targets over 100 bytes, ids over 2097151, sizes over 8 GiB, times before 1970, and extended
//! attributes (`SCHILY.xattr.NAME`, as GNU tar, libarchive and Go write them). Names are raw bytes in both places. Owners
//! are numbers, times are whole seconds, there is no access or change time.
//!
//! Spec: POSIX pax (ustar interchange format, pax extended header), OCI image-spec layer.md.

use crate::oci::layer::{Kind, Metadata, OPAQUE_WHITEOUT, WHITEOUT_PREFIX};
use std::io::{self, Read, Write};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Largest number in a ustar field of 8 bytes.
const MAX_ID: u64 = 0o7_777_777;
/// Largest number in a ustar field of 12 bytes.
const MAX_SIZE: u64 = 0o77_777_777_777;
/// Name of the entries that hold PAX records; nobody extracts it.
const PAX_NAME: &[u8] = b"././@PaxHeader";
/// Mode of whiteout markers.
const MARKER_MODE: u32 = 0o600;

/// What cannot be written into a layer, or was not read right.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A path that an archive must not hold.
    #[error("'{}' cannot be a path in a layer: {why}", show(.path))]
    Path {
        /// The path.
        path: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Entries came in the wrong order, or twice.
    #[error("'{}' comes after '{}', which is not the canonical order", show(.path), show(.previous))]
    Order {
        /// The path.
        path: Vec<u8>,
        /// The one before it.
        previous: Vec<u8>,
    },
    /// A hard link to a path that does not come before it.
    #[error("'{}' cannot be a hard link to '{}', which does not come before it", show(.path), show(.target))]
    LinkTarget {
        /// The path.
        path: Vec<u8>,
        /// What it should be a link to.
        target: Vec<u8>,
    },
    /// A socket cannot be in an archive.
    #[error("'{}' is a socket, which a layer cannot hold", show(.0))]
    Socket(Vec<u8>),
    /// A device number over 2097151.
    #[error("device number {major}:{minor} of '{}' does not fit into an archive", show(.path))]
    Device {
        /// The path.
        path: Vec<u8>,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An attribute's name with `=`, which ends the name in a PAX record, or NUL.
    #[error("'{}' has an extended attribute '{}', whose name an archive cannot hold", show(.path), show(.name))]
    XattrName {
        /// The path.
        path: Vec<u8>,
        /// The attribute.
        name: Vec<u8>,
    },
    /// A file gave fewer bytes than its size.
    #[error("'{}' became shorter while it was read: {got} bytes of {expected}", show(.path))]
    Shrank {
        /// The path.
        path: Vec<u8>,
        /// Its size when it was looked at.
        expected: u64,
        /// What could be read.
        got: u64,
    },
    /// A file gave more bytes than its size.
    #[error("'{}' became longer while it was read: more than its {expected} bytes", show(.path))]
    Grew {
        /// The path.
        path: Vec<u8>,
        /// Its size when it was looked at.
        expected: u64,
    },
    /// A file could not be read.
    #[error("reading '{}' into a layer", show(.path))]
    Read {
        /// The path inside the image.
        path: Vec<u8>,
        /// What happened.
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("writing a layer")]
    Write(#[source] io::Error),
    /// The blob could not be stored.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// A path for a message.
pub(super) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Writes a canonical tar into `W`. After an error the archive is of no use.
pub struct TarWriter<W: Write> {
    out: W,
    epoch: Option<i64>,
    previous: Option<Vec<u8>>,
    buffer: Vec<u8>,
}

/// What a header says beyond path and kind.
struct Numbers {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    size: u64,
}

impl<W: Write> TarWriter<W> {
    /// Writes into `out`. Times after `epoch` (seconds since 1970) are set back to it.
    pub fn new(out: W, epoch: Option<i64>) -> Self {
        TarWriter { out, epoch, previous: None, buffer: vec![0; 128 * 1024] }
    }

    /// Adds `path`: relative, without `.`, `..`, a leading or trailing slash; empty is the root. `data` is read for regular
    /// files only and must give exactly their size; it may be absent where that is 0.
    pub fn append(&mut self, path: &[u8], meta: &Metadata, data: Option<&mut dyn Read>) -> Result<(), LayerError> {
        self.next(path)?;
        let no_link: &[u8] = b"";
        let (entry, size, target, device) = match &meta.kind {
            Kind::File { size } => (EntryType::Regular, *size, no_link, (0, 0)),
            Kind::Dir => (EntryType::Directory, 0, no_link, (0, 0)),
            Kind::Symlink { target } => (EntryType::Symlink, 0, target.as_slice(), (0, 0)),
            Kind::Fifo => (EntryType::Fifo, 0, no_link, (0, 0)),
            Kind::CharDevice { major, minor } => (EntryType::Char, 0, no_link, (*major, *minor)),
            Kind::BlockDevice { major, minor } => (EntryType::Block, 0, no_link, (*major, *minor)),
            Kind::Socket => return Err(LayerError::Socket(path.to_vec())),
        };
        let (numbers, mut records) = self.attributes(path, meta, size)?;
        let name = match &meta.kind {
            Kind::Dir if path.is_empty() => b"./".to_vec(),
            Kind::Dir => [path, b"/"].concat(),
            _ if path.is_empty() => return Err(bad_path(path, "the root is a directory")),
            _ => path.to_vec(),
        };
        let header = self.header(path, &name, entry, target, &numbers, device, &mut records)?;
        self.emit(&header, &records)?;
        match data {
            _ if size == 0 => Ok(()),
            Some(data) => self.copy(path, size, data),
            None => Err(LayerError::Shrank { path: path.to_vec(), expected: size, got: 0 }),
        }
    }

    fn attributes(&self, path: &[u8], meta: &Metadata, size: u64) -> Result<(Numbers, Records), LayerError> {
        let mtime = self.clamp(meta.mtime);
        let numbers = Numbers { mode: meta.mode, uid: meta.uid, gid: meta.gid, mtime, size };
        let mut records = Records::default();
        for (name, value) in &meta.xattrs {
            if name.iter().any(|b| matches!(b, b'=' | 0)) {
                return Err(LayerError::XattrName { path: path.to_vec(), name: name.clone() });
            }
            records.push(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        Ok((numbers, records))
    }

    /// Adds `path` as another name of `target`, which came before with the metadata `meta`. The entry has them too: Docker and
    /// containerd set owner, mode, time and attributes of a link's entry on the file that it is a name of.
    pub fn hardlink(&mut self, path: &[u8], target: &[u8], meta: &Metadata) -> Result<(), LayerError> {
        check(target)?;
        if target.is_empty() || order(target, path) != std::cmp::Ordering::Less {
            return Err(LayerError::LinkTarget { path: path.to_vec(), target: target.to_vec() });
        }
        self.next(path)?;
        let (numbers, mut records) = self.attributes(path, meta, 0)?;
        let header = self.header(path, path, EntryType::Link, target, &numbers, (0, 0), &mut records)?;
        self.emit(&header, &records)
    }

    /// Says that `path` of the layers below is gone.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.next(path)?;
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        self.marker(&[&path[..at], WHITEOUT_PREFIX.as_bytes(), &path[at..]].concat())
    }

    /// Says that nothing of the directory `dir` of the layers below shows through. Comes right after `dir` itself.
    pub fn opaque(&mut self, dir: &[u8]) -> Result<(), LayerError> {
        let previous = self.previous.as_deref();
        if previous != Some(dir) && !previous.is_none_or(|previous| order(previous, dir).is_lt()) {
            return Err(LayerError::Order { path: dir.to_vec(), previous: previous.unwrap_or_default().to_vec() });
        }
        let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        self.marker(&[dir, slash, OPAQUE_WHITEOUT.as_bytes()].concat())
    }

    /// Ends the archive and gives the inner writer back.
    pub fn finish(mut self) -> Result<W, LayerError> {
        self.write(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn clamp(&self, mtime: i64) -> i64 {
        self.epoch.map_or(mtime, |epoch| mtime.min(epoch))
    }

    /// Checks `path` and that it is its turn.
    fn next(&mut self, path: &[u8]) -> Result<(), LayerError> {
        check(path)?;
        match &mut self.previous {
            Some(previous) if !order(previous, path).is_lt() => {
                Err(LayerError::Order { path: path.to_vec(), previous: previous.clone() })
            }
            Some(previous) => {
                previous.clear();
                previous.extend_from_slice(path);
                Ok(())
            }
            none => {
                *none = Some(path.to_vec());
                Ok(())
            }
        }
    }

    fn marker(&mut self, name: &[u8]) -> Result<(), LayerError> {
        let numbers = Numbers { mode: MARKER_MODE, uid: 0, gid: 0, mtime: 0, size: 0 };
        let mut records = Records::default();
        let header = self.header(name, name, EntryType::Regular, b"", &numbers, (0, 0), &mut records)?;
        self.emit(&header, &records)
    }

    /// A header; what does not fit goes to `records`.
    #[allow(clippy::too_many_arguments)]
    fn header(
        &self,
        path: &[u8],
        name: &[u8],
        entry: EntryType,
        target: &[u8],
        numbers: &Numbers,
        (major, minor): (u32, u32),
        records: &mut Records,
    ) -> Result<Header, LayerError> {
        let mut header = blank(entry);
        if !set_name(&mut header, name) {
            records.push(b"path", name);
            set_field(&mut header.as_old_mut().name, name);
        }
        if target.contains(&0) {
            return Err(bad_path(path, "its link target holds a NUL byte"));
        }
        if !set_field(&mut header.as_old_mut().linkname, target) {
            records.push(b"linkpath", target);
        }
        header.set_mode(numbers.mode & 0o7777);
        header.set_uid(records.number(b"uid", numbers.uid.into(), MAX_ID));
        header.set_gid(records.number(b"gid", numbers.gid.into(), MAX_ID));
        header.set_size(records.number(b"size", numbers.size, MAX_SIZE));
        match u64::try_from(numbers.mtime) {
            Ok(mtime) => header.set_mtime(records.number(b"mtime", mtime, MAX_SIZE)),
            Err(_) => records.push(b"mtime", numbers.mtime.to_string().as_bytes()),
        }
        if u64::from(major.max(minor)) > MAX_ID {
            return Err(LayerError::Device { path: path.to_vec(), major, minor });
        }
        // Infallible for ustar headers.
        header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).map_err(LayerError::Write)?;
        header.set_cksum();
        Ok(header)
    }

    fn emit(&mut self, header: &Header, records: &Records) -> Result<(), LayerError> {
        if !records.0.is_empty() {
            let mut pax = blank(EntryType::XHeader);
            set_field(&mut pax.as_old_mut().name, PAX_NAME);
            pax.set_size(records.0.len() as u64);
            pax.set_cksum();
            self.write(pax.as_bytes())?;
            self.write(&records.0)?;
            self.pad(records.0.len() as u64)?;
        }
        self.write(header.as_bytes())
    }

    fn copy(&mut self, path: &[u8], size: u64, data: &mut dyn Read) -> Result<(), LayerError> {
        let mut left = size;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = read(path, data, &mut buffer[..want])?;
            if got == 0 {
                return Err(LayerError::Shrank { path: path.to_vec(), expected: size, got: size - left });
            }
            self.write(&buffer[..got])?;
            left -= got as u64;
        }
        if read(path, data, &mut buffer[..1])? > 0 {
            return Err(LayerError::Grew { path: path.to_vec(), expected: size });
        }
        self.buffer = buffer;
        self.pad(size)
    }

    fn pad(&mut self, written: u64) -> Result<(), LayerError> {
        let over = (written % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.write(&[0; BLOCK][over..]) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.out.write_all(bytes).map_err(LayerError::Write)
    }
}

fn read(path: &[u8], data: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, LayerError> {
    loop {
        match data.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(LayerError::Read { path: path.to_vec(), source }),
            Ok(got) => return Ok(got),
        }
    }
}

/// A header with everything zero that can be.
fn blank(entry: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(0);
    header
}

/// Sets a text field as far as `value` fits; says whether it did.
fn set_field(field: &mut [u8], value: &[u8]) -> bool {
    let n = value.len().min(field.len());
    field.fill(0);
    field[..n].copy_from_slice(&value[..n]);
    n == value.len()
}

/// Sets name and prefix, if ustar can hold `name`: 100 bytes, or 155 and 100 with a slash between them.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else { return false };
    if name.len() <= ustar.name.len() {
        return set_field(&mut ustar.name, name);
    }
    // The last slash that leaves a name; a directory's own trailing slash does not.
    let limit = ustar.prefix.len().min(name.len() - 2);
    let slash = name[..=limit].iter().rposition(|b| *b == b'/').filter(|at| *at > 0);
    match slash {
        Some(at) if name.len() - at - 1 <= ustar.name.len() => {
            set_field(&mut ustar.prefix, &name[..at]) && set_field(&mut ustar.name, &name[at + 1..])
        }
        _ => false,
    }
}

/// PAX records: `length key=value\n`, where the length counts itself.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// `value` where the header's field holds it; else 0, and a record.
    fn number(&mut self, key: &[u8], value: u64, max: u64) -> u64 {
        if value <= max {
            return value;
        }
        self.push(key, value.to_string().as_bytes());
        0
    }
}

fn bad_path(path: &[u8], why: &'static str) -> LayerError {
    LayerError::Path { path: path.to_vec(), why }
}

fn check(path: &[u8]) -> Result<(), LayerError> {
    if path.is_empty() {
        return Ok(());
    }
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" => return Err(bad_path(path, "it is absolute or has an empty component")),
            b"." | b".." => return Err(bad_path(path, "it has a component '.' or '..'")),
            _ if part.contains(&0) => return Err(bad_path(path, "it holds a NUL byte")),
            _ if part.starts_with(WHITEOUT_PREFIX.as_bytes()) => {
                return Err(bad_path(path, "names that begin with '.wh.' mean deletion"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The canonical order: component by component, each by its bytes.
pub fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    // A slash sorts before every byte that a name can hold.
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).position(|(a, b)| a != b) {
        Some(at) => key(a[at]).cmp(&key(b[at])),
        None => a.len().cmp(&b.len()),
    }
}
