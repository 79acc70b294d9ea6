//! Running programs that lie in a place, or whose interpreter does. See [`super::perform`].
//!
//! Such a program is run by a descriptor. A script is not: its interpreter would be told the descriptor's path instead of
//! the script's. So the kernel's work is done for it here, by `fs/binfmt_script.c`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::call::{Address, CWD, PathArgument};
use super::load::{Elf, Image};
use super::path::Last;
use super::places::{Kind, kind_of, raw};
use super::view::{Eyes, Object, Site};
use super::{Answer, Arguments, Program, Restart};
use crate::sys;

/// Bytes of a program that the kernel looks at (`BINPRM_BUF_SIZE`).
const START: usize = 256;

/// Interpreters of interpreters that the kernel puts up with.
const MAX_DEPTH: usize = 5;

/// The first line of a script.
#[derive(Debug, PartialEq, Eq)]
struct Interpreter {
    path: Vec<u8>,
    argument: Option<Vec<u8>>,
}

impl Eyes<'_> {
    /// `execve`, `execveat`.
    pub(super) fn execute(
        &mut self,
        argument: &PathArgument,
        arguments: Address,
        environment: Address,
        flags: i32,
    ) -> Result<Answer, Errno> {
        if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
            return Ok(Answer::Continue); // EINVAL, or only a question (AT_EXECVE_CHECK)
        }
        let path = self.path(argument)?;
        if self.has_other_root() {
            return self.execute_from_outside(argument, path, arguments, environment);
        }
        if path.is_empty() && argument.empty_path {
            return self.execute_descriptor(argument.dirfd);
        }
        let last = if argument.follow { Last::Follow } else { Last::Keep };
        let empty = argument.address + path.len() as u64;
        let Some(site) = self.locate(argument, &path, last)? else {
            return self.execute_in_tree(argument, path, last, arguments, environment);
        };
        let mut object = self.object(&site, last)?;
        let start = self.check_program(&mut object)?;
        let native = matches!(site, Site::Tree { .. });
        self.run(Run { object, native, start, name: path, empty }, arguments, environment)
    }

    /// Whether the kernel has another root for the caller than the caller has for itself.
    fn has_other_root(&self) -> bool {
        self.places.is_emulated() || self.caller.process.root().is_some()
    }

    /// A program in a tree that is not the caller's root to the kernel: all of it is found here.
    fn execute_from_outside(
        &mut self,
        argument: &PathArgument,
        path: Vec<u8>,
        arguments: Address,
        environment: Address,
    ) -> Result<Answer, Errno> {
        let empty = argument.address + path.len() as u64;
        let (mut object, name) = if path.is_empty() && argument.empty_path {
            (self.object_of_descriptor(argument.dirfd)?, format!("/dev/fd/{}", argument.dirfd).into_bytes())
        } else {
            let last = if argument.follow { Last::Follow } else { Last::Keep };
            let site = self.locate(argument, &path, last)?.ok_or(Errno::NOENT)?;
            (self.object(&site, last)?, path)
        };
        let start = self.check_program(&mut object)?;
        self.run(Run { object, native: false, start, name, empty }, arguments, environment)
    }

    /// The program at the end of all scripts, with its interpreter.
    fn image(&mut self, object: Object, name: Vec<u8>, said: Vec<u8>) -> Result<Box<Image>, Errno> {
        let host = self.host_path(&object.fd)?;
        let path = self.places.translate(&host, || None).as_bytes().to_vec();
        let elf = Elf::read(&object.fd)?;
        let interpreter = match &elf {
            Some(elf) => elf.interpreter(&object.fd)?,
            None => None,
        };
        let (Some(elf), Some(interpreter)) = (elf, interpreter) else {
            return Ok(Box::new(Image { runs: object.fd, program: None, name, said, path, by_linker: false }));
        };
        let site = self.locate(&ANY, &interpreter, Last::Follow)?.ok_or(Errno::NOENT)?;
        let mut found = self.object(&site, Last::Follow)?;
        self.check_program(&mut found)?;
        let own = Elf::read(&found.fd)?.ok_or(Errno::LIBBAD)?;
        // Others are a C library as well (musl), or whatever they like to be.
        let real = self.host_path(&found.fd)?;
        let real = real.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let by_linker = real.starts_with(b"ld-linux") || real.starts_with(b"ld-2");
        Ok(Box::new(Image { runs: found.fd, program: Some((object.fd, elf, own)), name, said, path, by_linker }))
    }

    /// A descriptor's program is run as it is; only whether the caller may is asked.
    fn execute_descriptor(&mut self, fd: i32) -> Result<Answer, Errno> {
        if self.identity.is_some() {
            let mut object = self.object_of_descriptor(fd)?;
            self.check_program(&mut object)?;
        }
        Ok(Answer::Continue)
    }

    /// A program that the kernel finds: its interpreter may be one that it does not.
    fn execute_in_tree(
        &mut self,
        argument: &PathArgument,
        path: Vec<u8>,
        last: Last,
        arguments: Address,
        environment: Address,
    ) -> Result<Answer, Errno> {
        if !self.places.has_binds() {
            return Ok(Answer::Continue);
        }
        let empty = argument.address + path.len() as u64;
        let site = self.in_tree(argument, path.clone())?;
        let Ok(mut object) = self.object(&site, last) else { return Ok(Answer::Continue) };
        let Ok(start) = self.check_program(&mut object) else { return Ok(Answer::Continue) };
        self.run(Run { object, native: true, start, name: path, empty }, arguments, environment)
    }

    /// Fails where the caller may not run an object; gives how it begins.
    fn check_program(&mut self, object: &mut Object) -> Result<Vec<u8>, Errno> {
        if kind_of(object.fd.as_fd())? != FileType::RegularFile {
            return Err(Errno::ACCESS);
        }
        // They are mounted noexec.
        if matches!(object.place.map(|number| self.places.get(number).kind), Some(Kind::Proc | Kind::Sys | Kind::Pts)) {
            return Err(Errno::ACCESS);
        }
        self.as_caller()?;
        raw(sys::may_access(object.fd.as_fd(), libc::X_OK))?;
        // Running takes no right to read.
        self.as_self()?;
        let file = self.reopen(&object.fd, OFlags::RDONLY)?;
        let mut start = vec![0; START];
        let got = rustix::io::read(&file, &mut start)?;
        start.truncate(got);
        object.fd = file; // one of O_PATH could not be given
        Ok(start)
    }

    fn run(&mut self, run: Run, arguments: Address, environment: Address) -> Result<Answer, Errno> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let Run { mut object, mut native, mut start, mut name, empty } = run;
        let said = name.clone();
        // Whether the kernel finds everything by itself.
        let mut by_kernel = native;
        for _ in 0..=MAX_DEPTH {
            let Some(interpreter) = interpreter(&start)? else {
                if by_kernel {
                    return Ok(Answer::Continue);
                }
                let arguments =
                    if names.is_empty() { Arguments::Same(arguments) } else { Arguments::Script(names, arguments) };
                if self.has_other_root() {
                    let image = self.image(object, name, said)?;
                    return Ok(Answer::Restart(Restart::Load { image, empty, arguments, environment }));
                }
                let program = if native { Program::Path(name) } else { self.program(object, empty)? };
                return Ok(Answer::Restart(Restart::Execute { program, arguments, environment }));
            };
            // In front of what is there: the interpreter, its argument, the script.
            if names.is_empty() {
                names.push(name);
            } else {
                names[0] = name;
            }
            let mut front = vec![interpreter.path.clone()];
            front.extend(interpreter.argument);
            names.splice(0..0, front);
            let found = self.locate(&ANY, &interpreter.path, Last::Follow)?;
            native = !matches!(found, Some(Site::At(_))) && !self.has_other_root();
            by_kernel &= native;
            let site = match found {
                Some(site) => site,
                None => self.in_tree(&ANY, interpreter.path.clone())?,
            };
            object = self.object(&site, Last::Follow)?;
            start = self.check_program(&mut object)?;
            name = interpreter.path;
        }
        Err(Errno::LOOP)
    }

    /// How to run an object: by its path where the kernel can follow that, so that it has its name.
    fn program(&mut self, object: Object, empty: Address) -> Result<Program, Errno> {
        if object.place.is_none()
            && let Some(path) = self.path_in_tree(&object.fd)?
        {
            return Ok(Program::Path(path));
        }
        Ok(Program::File(object.fd, empty))
    }

    /// The path of an object of the tree, where it still leads there.
    fn path_in_tree(&mut self, object: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
        self.as_self()?;
        let name = rustix::fs::readlinkat(self.places.outside.proc(), super::perform::own(object), Vec::new())?;
        let name = name.into_bytes();
        let there = rustix::fs::stat(name.as_slice());
        let same = |there: rustix::fs::Stat, here: rustix::fs::Stat| {
            (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
        };
        let here = rustix::fs::fstat(object)?;
        Ok(there.is_ok_and(|there| same(there, here)).then_some(name))
    }
}

/// What is to be run.
struct Run {
    object: Object,
    /// The kernel finds it by `name`.
    native: bool,
    /// How it begins.
    start: Vec<u8>,
    /// What the caller called it.
    name: Vec<u8>,
    /// Where the caller has an empty string.
    empty: Address,
}

/// A path from the working directory.
const ANY: PathArgument = PathArgument { dirfd: CWD, address: 0, follow: true, empty_path: false };

/// What the first line of a script says; `None` for what is no script.
fn interpreter(start: &[u8]) -> Result<Option<Interpreter>, Errno> {
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let (line, whole) = match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&line[..end], true),
        None => (line, start.len() < START),
    };
    let begin = line.iter().position(|byte| !is_blank(byte)).ok_or(Errno::NOEXEC)?;
    let line = line[begin..].split(|byte| *byte == 0).next().unwrap_or_default();
    let end = line.iter().position(is_blank);
    // A name that may go on behind what was read is none.
    if line.is_empty() || (end.is_none() && !whole) {
        return Err(Errno::NOEXEC);
    }
    let (path, rest) = line.split_at(end.unwrap_or(line.len()));
    let argument = rest.trim_ascii();
    Ok(Some(Interpreter { path: path.to_vec(), argument: (!argument.is_empty()).then(|| argument.to_vec()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_first_lines_as_the_kernel_does() {
        type Wanted = Option<(&'static str, Option<&'static str>)>;
        let cases: &[(&[u8], Wanted)] = &[
            (b"\x7fELF", None),
            (b"#!/bin/sh\n", Some(("/bin/sh", None))),
            (b"#! /bin/sh -e \nx", Some(("/bin/sh", Some("-e")))),
            (b"#!\t/usr/bin/env  python3 -u\t\n", Some(("/usr/bin/env", Some("python3 -u")))),
            (b"#!/bin/sh", Some(("/bin/sh", None))),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.map(|(path, argument)| Interpreter {
                path: path.as_bytes().to_vec(),
                argument: argument.map(|argument| argument.as_bytes().to_vec()),
            });
            assert_eq!(interpreter(text), Ok(wanted), "{}", String::from_utf8_lossy(text));
        }
        let long = [b"#!/".as_slice(), &[b'x'; 253]].concat();
        for text in [b"#!\n".as_slice(), b"#!  \n", &long] {
            assert_eq!(interpreter(text), Err(Errno::NOEXEC));
        }
    }
}
