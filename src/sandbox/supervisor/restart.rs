//! Making a caller make another call than it asked for: its thread is traced for a moment, its registers are set to the
//! other call, and it is let go. Notifications themselves cannot change a call.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Arguments, Caller, Program, Restart, numbers as nr};
use crate::sys::{Registers, Stop, Traced};

/// Has the caller make `what`. With an error the call still waits for its answer.
pub(super) fn restart(caller: &Caller<'_>, what: &Restart) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (listener, notification) = (caller.listener, &caller.notification);
    let id = notification.id;
    // What the caller's memory holds is read while it waits.
    let block = match what {
        Restart::Execute { program, arguments, .. } => Block::of(caller, program, arguments)?,
        Restart::ChangeDirectory(_) | Restart::Name { .. } | Restart::ControllingTerminal { .. } => None,
    };
    let (file, close_on_exec) = match what {
        Restart::ChangeDirectory(directory) | Restart::Name { directory, .. } => (Some(directory), true),
        Restart::Execute { program: Program::File(file, _), .. } => (Some(file), true),
        Restart::Execute { .. } => (None, true),
        Restart::ControllingTerminal { terminal, close_on_exec } => (Some(terminal), *close_on_exec),
    };
    let opened = file.map(|file| opened(caller, file)).transpose()?.flatten();
    let file = opened.as_ref().or(file);
    // Traced by somebody already (a debugger in the step): then it cannot be done.
    let traced = Traced::seize(notification.thread, caller.process.is_own_child(notification.thread))
        .map_err(|_| Errno::ACCESS)?;
    if !listener.is_waiting(id) {
        return Err(Errno::SRCH);
    }
    // Letting go of the thread waits for it to stop, which it does not while it waits for an answer: so that comes first.
    let failed = |traced: Traced, error: std::io::Error| {
        let _ = listener.refuse(id, errno(error).raw_os_error());
        drop(traced);
        Ok(())
    };
    let number = match file {
        Some(file) => match listener.add_descriptor(id, file.as_fd(), close_on_exec) {
            Ok(number) => number,
            Err(error) => return failed(traced, error),
        },
        None => -1,
    };
    // From here on the call is answered. What the caller gets for it does not matter, for it is stopped before it sees
    // that. Where the interruption ended the call before the answer came, there is none to be given.
    if let Err(error) = traced.interrupt() {
        return failed(traced, error);
    }
    let _ = listener.refuse(id, libc::EINTR);
    let mut thread = Thread { traced, signals: Vec::new(), instruction: notification.instruction };
    let done = thread.stopped().and_then(|before| match what {
        Restart::ChangeDirectory(_) => thread.change_directory(before, number),
        Restart::Name { name, flags, .. } => thread.name(before, caller, number, name, *flags),
        Restart::ControllingTerminal { .. } => {
            // That somebody else has the terminal already changes nothing of the open call.
            thread.call(before, libc::SYS_ioctl, [number as u64, TIOCSCTTY, 0, 0, 0, 0])?;
            let mut after = before;
            after.set_result(number.into());
            thread.traced.set_registers(&after).ok()
        }
        Restart::Execute { program, arguments, environment } => {
            thread.execute(before, caller, (program, number), arguments, block, *environment)
        }
    });
    let _ = done; // where the thread ended there is nothing left to do
    thread.release(notification.thread);
    Ok(())
}

/// `file` opened for reading, where it is open as a place only: no such descriptor can be given (seccomp_unotify(2): `EBADF`).
/// To be called as who the worker began as: the caller need not be allowed to read what it may go to.
fn opened(caller: &Caller<'_>, file: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    if !rustix::fs::fcntl_getfl(file)?.contains(OFlags::PATH) {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    caller.outside.open_proc(format!("thread-self/fd/{}", file.as_raw_fd()), flags).map(Some)
}

/// What becomes of a call that the kernel has made, see [`look_after`].
pub(super) enum After {
    /// The caller gets this result.
    Result(i64),
    /// The call is made once more.
    Again,
}

/// What the kernel has for a call that a signal interrupted and that is to be made anew (`ERESTARTSYS` and its like): no
/// caller sees it.
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;

/// Lets the kernel make the call as it is and stops the caller before it sees the result: `then` is called with that.
/// With an error the call still waits for its answer.
pub(super) fn look_after(caller: &Caller<'_>, mut then: impl FnMut(i64) -> After) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let notification = &caller.notification;
    let traced = Traced::seize(notification.thread, caller.process.is_own_child(notification.thread))
        .map_err(|_| Errno::ACCESS)?;
    if !caller.is_waiting() {
        return Err(Errno::SRCH);
    }
    if let Err(error) = traced.interrupt() {
        let _ = caller.listener.refuse(notification.id, errno(error).raw_os_error());
        return Ok(());
    }
    let _ = caller.listener.proceed(notification.id); // where the interruption came first, the call is made anew below
    let mut thread = Thread { traced, signals: Vec::new(), instruction: notification.instruction };
    let mut stopped = thread.stopped();
    while let Some(registers) = stopped {
        let result = registers.result();
        match if RESTARTS.contains(&result) { After::Again } else { then(result) } {
            After::Result(new) if new == result => break,
            After::Result(new) => {
                let mut after = registers;
                after.set_result(new);
                let _ = thread.traced.set_registers(&after); // it may have been killed
                break;
            }
            After::Again => {
                // This call is trapped, too: whoever receives it is to let it through.
                caller.process.set_native(caller.thread);
                stopped = thread.call(registers, notification.number, notification.arguments);
                caller.process.set_native(0);
            }
        }
    }
    thread.release(notification.thread);
    Ok(())
}

/// `TIOCSCTTY`.
const TIOCSCTTY: u64 = 0x540e;

/// Most bytes of arguments of a program.
const MAX_ARGUMENTS: usize = 2 << 20;

/// What is written to the caller's memory for an exec: strings, and the addresses of the arguments.
struct Block {
    /// An empty string and then, where there is one, the path.
    strings: Vec<u8>,
    /// Where in `strings` the first arguments begin.
    first: Vec<usize>,
    /// Addresses of the other arguments, with the null at the end.
    rest: Vec<u64>,
}

impl Block {
    /// `None` where the caller has everything already.
    fn of(caller: &Caller<'_>, program: &Program, arguments: &Arguments) -> Result<Option<Block>, Errno> {
        let mut block = Block { strings: vec![0], first: Vec::new(), rest: Vec::new() };
        match program {
            Program::Path(path) => {
                block.strings.extend_from_slice(path);
                block.strings.push(0);
            }
            Program::File(..) if matches!(arguments, Arguments::Same(_)) => return Ok(None),
            Program::File(..) => {}
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
    fn bytes(&self, address: u64) -> (Vec<u8>, usize) {
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

/// A thread whose registers are being changed.
struct Thread {
    traced: Traced,
    /// Signals that came meanwhile.
    signals: Vec<i32>,
    /// The address after the system call instruction that it came from.
    instruction: u64,
}

impl Thread {
    /// Waits until the thread is stopped, and gives its registers; `None` where it ended.
    fn stopped(&mut self) -> Option<Registers> {
        loop {
            match self.traced.wait() {
                Ok(Stop::Event | Stop::Call) => return self.traced.registers().ok(),
                Ok(Stop::Signal(signal)) => {
                    self.signals.push(signal);
                    self.traced.run_to_call(0).ok()?;
                }
                Ok(Stop::Gone) | Err(_) => return None,
            }
        }
    }

    /// Has it make a call, and gives its registers after it.
    fn call(&mut self, before: Registers, number: i64, arguments: [u64; 6]) -> Option<Registers> {
        let mut registers = before;
        registers.call_again(self.instruction, number, arguments);
        self.traced.set_registers(&registers).ok()?;
        self.traced.run_to_call(0).ok()?;
        self.stopped()?;
        self.traced.run_to_call(0).ok()?;
        self.stopped()
    }

    /// Runs `fchdir` of the injected descriptor, closes it, and gives the caller the result.
    fn change_directory(&mut self, before: Registers, descriptor: i32) -> Option<()> {
        let arguments = [descriptor as u64, 0, 0, 0, 0, 0];
        let result = self.call(before, libc::SYS_fchdir, arguments)?.result();
        self.call(before, libc::SYS_close, arguments)?;
        let mut after = before;
        after.set_result(result);
        self.traced.set_registers(&after).ok()
    }

    /// Has it open `name` in the injected directory, close that, and gives the caller the result.
    fn name(
        &mut self,
        before: Registers,
        caller: &Caller<'_>,
        directory: i32,
        name: &[u8],
        flags: OFlags,
    ) -> Option<()> {
        let string = [name, b"\0"].concat();
        let address = self.map(before, string.len())?;
        let result = if address > 0 && caller.write(address as u64, &string).is_ok() {
            // This call is trapped, too: whoever receives it is to let it through.
            caller.process.set_native(caller.thread);
            let call = [directory as u64, address as u64, u64::from(flags.bits()), 0, 0, 0];
            let opened = self.call(before, libc::SYS_openat, call);
            caller.process.set_native(0);
            opened?.result()
        } else {
            -i64::from(libc::ENOMEM)
        };
        if address > 0 {
            self.call(before, libc::SYS_munmap, [address as u64, string.len() as u64, 0, 0, 0, 0])?;
        }
        self.call(before, libc::SYS_close, [directory as u64, 0, 0, 0, 0, 0])?;
        let mut after = before;
        after.set_result(result);
        self.traced.set_registers(&after).ok()
    }

    /// Gives it pages of its own, and their address or an error.
    fn map(&mut self, before: Registers, length: usize) -> Option<i64> {
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let call = [0, length as u64, protection, flags, u64::MAX, 0];
        Some(self.call(before, libc::SYS_mmap, call)?.result())
    }

    /// Sets it to the exec. What that needs in its memory is put into pages of their own, which an exec that succeeds
    /// takes away with all others: its stack may be small, or lie in that of a parent that waits for it (vfork(2)).
    fn execute(
        &mut self,
        before: Registers,
        caller: &Caller<'_>,
        (program, number): (&Program, i32),
        arguments: &Arguments,
        block: Option<Block>,
        environment: u64,
    ) -> Option<()> {
        let (mut strings, mut list) = (0, 0);
        if let Some(block) = block {
            let mapped = self.map(before, block.bytes(0).0.len())?;
            let written = if mapped > 0 {
                strings = mapped as u64;
                let (bytes, at) = block.bytes(strings);
                list = strings + at as u64;
                caller.write(strings, &bytes)
            } else {
                Err(Errno::NOMEM)
            };
            if written.is_err() {
                let mut after = before;
                after.set_result(-i64::from(libc::ENOMEM));
                return self.traced.set_registers(&after).ok();
            }
        }
        let list = match arguments {
            Arguments::Same(address) => *address,
            Arguments::Script(..) => list,
        };
        let mut registers = before;
        match program {
            Program::File(_, empty) => {
                let empty = if strings == 0 { *empty } else { strings };
                let call = [number as u64, empty, list, environment, libc::AT_EMPTY_PATH as u64, 0];
                registers.call_again(self.instruction, nr::EXECVEAT, call);
            }
            Program::Path(_) => {
                registers.call_again(self.instruction, nr::EXECVE, [strings + 1, list, environment, 0, 0, 0]);
            }
        }
        self.traced.set_registers(&registers).ok()
    }

    /// Lets it go on, with the signals that came.
    fn release(self, thread: i32) {
        self.traced.release(0);
        for signal in self.signals {
            let _ = crate::sys::send_signal(thread, true, signal); // it may have ended
        }
    }
}
