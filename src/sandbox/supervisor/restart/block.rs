//! What is put into a caller's memory for an exec in place of its own.

use rustix::io::Errno;

use crate::sandbox::supervisor::{Arguments, Caller, Program};

/// Most bytes of arguments of a program.
const MAX_ARGUMENTS: usize = 2 << 20;

/// What is written to the caller's memory for an exec: strings, and the addresses of the arguments.
pub(super) struct Block {
    /// An empty string and then, where there is one, the path.
    pub(super) strings: Vec<u8>,
    /// Where in `strings` the first arguments begin.
    first: Vec<usize>,
    /// Addresses of the other arguments, with the null at the end.
    rest: Vec<u64>,
}

impl Block {
    /// `None` where the caller has everything already.
    pub(super) fn of(
        caller: &Caller<'_>,
        program: Option<&Program>,
        arguments: &Arguments,
    ) -> Result<Option<Block>, Errno> {
        let mut block = Block { strings: vec![0], first: Vec::new(), rest: Vec::new() };
        match program {
            Some(Program::Path(path)) => {
                block.strings.extend_from_slice(path);
                block.strings.push(0);
            }
            Some(Program::File(..)) | None if matches!(arguments, Arguments::Same(_)) => return Ok(None),
            Some(Program::File(..)) | None => {}
        }
        if let Arguments::Script(first, address) = arguments {
            for argument in first {
                block.first.push(block.strings.len());
                block.strings.extend_from_slice(argument);
                block.strings.push(0);
            }
            block.rest = pointers(caller, *address)?;
            if !block.rest.is_empty() {
                block.rest.remove(0); // the name that the program was called by
            }
            block.rest.push(0);
        }
        Ok(Some(block))
    }

    /// The bytes for `address`, and where in them the addresses of the arguments begin.
    pub(super) fn bytes(&self, address: u64) -> (Vec<u8>, usize) {
        let mut out = self.strings.clone();
        out.resize(out.len().next_multiple_of(8), 0);
        let at = out.len();
        let first = self.first.iter().map(|start| address + *start as u64);
        out.extend(first.chain(self.rest.iter().copied()).flat_map(u64::to_ne_bytes));
        (out, at)
    }
}

/// The addresses at `address` up to the null.
fn pointers(caller: &Caller<'_>, address: u64) -> Result<Vec<u64>, Errno> {
    let mut out = Vec::new();
    if address == 0 {
        return Ok(out); // the kernel takes it for an empty list
    }
    loop {
        let mut pointer = [0; 8];
        caller.read(address.wrapping_add(8 * out.len() as u64), &mut pointer)?;
        match u64::from_ne_bytes(pointer) {
            0 => return Ok(out),
            pointer => out.push(pointer),
        }
        if 8 * out.len() > MAX_ARGUMENTS {
            return Err(Errno::TOOBIG);
        }
    }
}
