//! Looks for the records of all files of a directory that a step opens to read, in a thread of its own: who reads a directory
//! mostly asks for each of its files next, and what has no record is answered at once then.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use crate::sandbox::supervisor::owners::Target;
use crate::sandbox::supervisor::perform::own;
use crate::sandbox::supervisor::places::NAMED;
use crate::sandbox::supervisor::recorded::Recorded;

/// Directories that wait to be looked at, at most.
const WAITING: usize = 32;

/// So many files are looked at for each that a step asked for and that was not known: a step that only reads names costs
/// nothing.
const WORTH: usize = 16;

/// No fewer than so many have been asked for.
const BEGIN: usize = 16;

/// Stack of the thread, and room for entries of a directory, in bytes.
const STACK: usize = 256 << 10;
const ROOM: usize = 32 << 10;

/// Where directories are handed to the thread, once there is one.
#[derive(Debug)]
pub(super) struct LookAhead {
    recorded: Arc<Recorded>,
    /// The device of the tree.
    device: u64,
    sender: OnceLock<Option<SyncSender<OwnedFd>>>,
    /// Files looked at.
    looked: Arc<AtomicUsize>,
}

impl LookAhead {
    /// For the files of `tree`.
    pub(super) fn new(recorded: Arc<Recorded>, tree: impl AsFd) -> Result<LookAhead, Errno> {
        let device = rustix::fs::fstat(tree)?.st_dev;
        Ok(LookAhead { recorded, device, sender: OnceLock::new(), looked: Arc::default() })
    }

    /// The step has opened a directory that is in no mount.
    pub(super) fn opens(&self, directory: &OwnedFd) {
        let asked = self.recorded.records().learned();
        if asked < BEGIN || asked * WORTH < self.looked.load(Ordering::Relaxed) {
            return;
        }
        if let Some(sender) = self.sender.get_or_init(|| self.start())
            && let Ok(copy) = rustix::io::fcntl_dupfd_cloexec(directory, 0)
        {
            let _ = sender.try_send(copy); // where too many wait, its files are looked at when they are asked for
        }
    }

    /// `None` where there can be no thread: then nothing is known beforehand.
    fn start(&self) -> Option<SyncSender<OwnedFd>> {
        let (sender, directories) = sync_channel(WAITING);
        let (recorded, looked, device) = (self.recorded.clone(), self.looked.clone(), self.device);
        let work = move || look(&directories, &recorded, device, &looked);
        std::thread::Builder::new().stack_size(STACK).spawn(work).ok().map(|_| sender)
    }
}

fn look(directories: &Receiver<OwnedFd>, recorded: &Recorded, device: u64, looked: &AtomicUsize) {
    while let Ok(directory) = directories.recv() {
        let _ = look_at(&directory, recorded, device, looked); // it may be gone by now
    }
}

fn look_at(directory: &OwnedFd, recorded: &Recorded, device: u64, looked: &AtomicUsize) -> Result<(), Errno> {
    if rustix::fs::fstat(directory)?.st_dev != device {
        return Ok(()); // /proc, and what else is shown
    }
    // Opened anew: the step's has one place to read from next.
    let directory = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut room = Vec::with_capacity(ROOM);
    let mut entries = RawDir::new(&directory, room.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let is_file = matches!(entry.file_type(), FileType::RegularFile | FileType::Directory);
        if !is_file || entry.file_name() == c".." {
            continue;
        }
        looked.fetch_add(1, Ordering::Relaxed);
        let Ok(file) = openat(&directory, entry.file_name(), NAMED, Mode::empty()) else { continue };
        let found = rustix::fs::fstat(&file)?;
        if found.st_dev == device {
            recorded.records().look_ahead(&Target::new(format!("/proc/{}", own(&file)), true)?, &found);
        }
    }
    Ok(())
}
