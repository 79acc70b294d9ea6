//! Extended attributes. See [`super::perform`].

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Answer;
use super::call::{Address, PathArgument, XattrCall};
use super::perform::own;
use super::view::Eyes;
use crate::overrides::PRIVATE;

/// Most bytes of the value of an extended attribute, and of a list of names (`XATTR_SIZE_MAX`).
const MAX_XATTR: u64 = 65536;

/// Most bytes of the name of an extended attribute, with its nul.
const MAX_XATTR_NAME: usize = 256;

impl Eyes<'_> {
    pub(super) fn xattr(&mut self, path: &PathArgument, what: XattrCall) -> Result<Answer, Errno> {
        let name = match what {
            XattrCall::Get { name, .. } | XattrCall::Set { name, .. } | XattrCall::Remove { name } => {
                let name = self.caller.read_string(name, MAX_XATTR_NAME);
                name.map_err(|error| if error == Errno::TOOBIG { Errno::RANGE } else { error })?
            }
            XattrCall::List { .. } => Vec::new(),
        };
        let changes = matches!(what, XattrCall::Set { .. } | XattrCall::Remove { .. });
        let object = if changes { self.changed(path)? } else { self.seen(path)? };
        let Some(object) = object else { return Ok(Answer::Continue) };
        if !changes {
            self.as_caller()?;
        }
        let file = own(&object.fd);
        match what {
            XattrCall::Get { value, size, .. } => {
                let mut into = vec![0; size.min(MAX_XATTR) as usize];
                let got = rustix::fs::getxattr(&file, name, &mut into)?;
                self.give_bytes(value, &into, got)
            }
            XattrCall::List { list, size } => {
                let mut into = vec![0; size.min(MAX_XATTR) as usize];
                let got = rustix::fs::listxattr(&file, &mut into)?;
                self.give_bytes(list, &into, got)
            }
            // Those of records are refused before, by a name that may have been another one then.
            XattrCall::Set { .. } | XattrCall::Remove { .. }
                if self.records.is_some() && name.starts_with(PRIVATE.as_bytes()) =>
            {
                Err(Errno::PERM)
            }
            XattrCall::Set { value, size, flags, .. } => {
                if size > MAX_XATTR {
                    return Err(Errno::TOOBIG);
                }
                let mut bytes = vec![0; size as usize];
                self.caller.read(value, &mut bytes)?;
                let flags = XattrFlags::from_bits_retain(flags as u32);
                rustix::fs::setxattr(&file, name, &bytes, flags).map(|()| Answer::Value(0))
            }
            XattrCall::Remove { .. } => rustix::fs::removexattr(&file, name).map(|()| Answer::Value(0)),
        }
    }

    /// Answers with `got` bytes, of which `bytes` holds those that the caller wanted (none: it asked for the length).
    fn give_bytes(&self, address: Address, bytes: &[u8], got: usize) -> Result<Answer, Errno> {
        if !bytes.is_empty() {
            self.caller.write(address, &bytes[..got.min(bytes.len())])?;
        }
        Ok(Answer::Value(got as i64))
    }
}
