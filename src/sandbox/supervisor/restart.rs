//! Making a caller make another call than it asked for: its thread is traced for a moment, its registers are set to the
//! other call, and it is let go. Notifications themselves cannot change a call.

mod block;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::load::{self, Image};
use super::{Arguments, Caller, Program, Restart, numbers as nr};
use crate::sys::{RESTARTS, Registers, Stop, Traced};
use block::Block;

/// Has the caller make `what`. With an error the call still waits for its answer.
pub(super) fn restart(caller: &Caller<'_>, what: &Restart) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (listener, notification) = (caller.listener, &caller.notification);
    let id = notification.id;
    // What the caller's memory holds is read while it waits.
    let block = match what {
        Restart::Execute { program, arguments, .. } => Block::of(caller, Some(program), arguments)?,
        Restart::Load { arguments, .. } => Block::of(caller, None, arguments)?,
        Restart::ChangeDirectory(_)
        | Restart::Name { .. }
        | Restart::ControllingTerminal { .. }
        | Restart::Path { .. }
        | Restart::SocketName { .. } => None,
    };
    let (file, close_on_exec) = match what {
        Restart::ChangeDirectory(directory)
        | Restart::Name { directory, .. }
        | Restart::SocketName { directory, .. } => (Some(directory), true),
        Restart::Load { image, .. } => (Some(&image.runs), true),
        Restart::Execute { program: Program::File(file, _), .. } => (Some(file), true),
        Restart::Execute { .. } | Restart::Path { .. } => (None, true),
        Restart::ControllingTerminal { terminal, close_on_exec } => (Some(terminal), *close_on_exec),
    };
    let opened = file.map(|file| opened(caller, file)).transpose()?.flatten();
    let file = opened.as_ref().or(file);
    let traced = seize(caller)?;
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
    let program = match what {
        Restart::Load { image, .. } => image.program.as_ref().map(|(program, ..)| program),
        _ => None,
    };
    let program = match program.map(|program| listener.add_descriptor(id, program.as_fd(), false)).transpose() {
        Ok(program) => program,
        Err(error) => return failed(traced, error),
    };
    // From here on the call is answered. What the caller gets for it does not matter, for it is stopped before it sees
    // that. Where the interruption ended the call before the answer came, there is none to be given.
    if let Err(error) = traced.interrupt() {
        return failed(traced, error);
    }
    let _ = listener.refuse(id, libc::EINTR);
    let mut thread = Thread::of(caller, traced);
    let done = thread.stopped().and_then(|before| match what {
        Restart::ChangeDirectory(_) => thread.change_directory(before, number),
        Restart::Name { name, flags, .. } => thread.name(before, caller, number, name, *flags),
        Restart::ControllingTerminal { .. } => {
            // That somebody else has the terminal already changes nothing of the open call.
            thread.call(before, libc::SYS_ioctl, [number as u64, TIOCSCTTY, 0, 0, 0, 0])?;
            thread.give(before, number.into())
        }
        Restart::Execute { program, arguments, environment } => {
            thread.execute(before, caller, (program, number), arguments, block, *environment)
        }
        Restart::Load { image, empty, arguments, environment } => {
            let list = match arguments {
                Arguments::Same(address) => *address,
                Arguments::Script(..) => 0,
            };
            thread.load(
                before,
                caller,
                image,
                Descriptors { runs: number, program },
                [*empty, list, *environment],
                block,
            )
        }
        Restart::Path { number, arguments, position, path } => {
            thread.call_with(before, caller, *number, *arguments, *position, &[path, b"\0".as_slice()].concat())
        }
        Restart::SocketName { directory: _, name, position } => {
            let path = [format!("/proc/self/fd/{number}/").as_bytes(), name].concat();
            let address = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], &path, b"\0"].concat();
            let mut arguments = notification.arguments;
            arguments[position + 1] = address.len() as u64;
            let made = thread.call_with(before, caller, notification.number, arguments, *position, &address);
            thread.close(number);
            made
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

/// Begins to trace the caller. Traced by somebody already (a debugger in the step) it cannot be.
fn seize(caller: &Caller<'_>) -> Result<Traced, Errno> {
    let (thread, process) = (caller.thread, &caller.process);
    let has_others = caller.outside.count_threads(process.pid)? > 1;
    Traced::seize(thread, process.is_own_child(thread), has_others).map_err(|_| Errno::ACCESS)
}

/// What becomes of a call that the kernel has made, see [`look_after`].
pub(super) enum After {
    /// The caller gets this result.
    Result(i64),
    /// The call is made once more.
    Again,
}

/// Lets the kernel make the call as it is and stops the caller before it sees the result: `then` is called with that.
/// With an error the call still waits for its answer.
pub(super) fn look_after(caller: &Caller<'_>, mut then: impl FnMut(i64) -> After) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let notification = &caller.notification;
    let traced = seize(caller)?;
    if !caller.is_waiting() {
        return Err(Errno::SRCH);
    }
    if let Err(error) = traced.interrupt() {
        let _ = caller.listener.refuse(notification.id, errno(error).raw_os_error());
        return Ok(());
    }
    let _ = caller.listener.proceed(notification.id); // where the interruption came first, the call is made anew below
    let mut thread = Thread::of(caller, traced);
    let mut stopped = thread.stopped();
    while let Some(registers) = stopped {
        let result = registers.result();
        match if registers.is_interrupted(thread.instruction) { After::Again } else { then(result) } {
            After::Result(new) if new == result => break,
            After::Result(new) => {
                let mut after = registers;
                after.set_result(thread.instruction, new);
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

/// Descriptors that the thread has for an exec.
struct Descriptors {
    runs: i32,
    program: Option<i32>,
}

/// A thread that has begun with a program, and has come to no instruction of it yet.
struct Begun<'a, 'b> {
    thread: &'a mut Thread,
    caller: &'a Caller<'b>,
    start: Registers,
}

impl load::Host for Begun<'_, '_> {
    fn call(&mut self, number: i64, arguments: [u64; 6]) -> Option<i64> {
        self.thread.call(self.start, number, arguments).map(|after| after.result())
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.caller.memory.read(self.caller.process.pid, None, address, into)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.caller.memory.write(self.caller.process.pid, address, bytes)
    }
}

/// A thread whose registers are being changed.
struct Thread {
    traced: Traced,
    /// Signals that came meanwhile.
    signals: Vec<i32>,
    /// The address after the system call instruction that it came from.
    instruction: u64,
    /// The arguments of the call that it made there.
    arguments: [u64; 6],
    /// Its result is that a signal interrupted that call.
    interrupted: bool,
}

impl Thread {
    fn of(caller: &Caller<'_>, traced: Traced) -> Thread {
        let (instruction, arguments) = (caller.notification.instruction, caller.notification.arguments);
        Thread { traced, signals: Vec::new(), instruction, arguments, interrupted: false }
    }

    /// Waits until the thread is stopped, and gives its registers; `None` where it ended.
    fn stopped(&mut self) -> Option<Registers> {
        loop {
            match self.traced.wait() {
                Ok(Stop::Event | Stop::Call | Stop::Exec) => return self.traced.registers().ok(),
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
        self.give(before, result)
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
            let call = [directory as u64, address as u64, u64::from(flags.bits()), 0, 0, caller.pass];
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
        self.give(before, result)
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
            match self.place(before, caller, &block)? {
                Some(placed) => (strings, list) = placed,
                None => return self.give(before, -i64::from(libc::ENOMEM)),
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
        self.traced.set_registers(&registers).ok()?;
        // Up to the exec. On its way back from the call before, a signal that comes when the thread is let go would end this
        // one with `EINTR` (arm64's `do_signal`).
        self.traced.run_to_call(0).ok()?;
        self.stopped().map(drop)
    }

    /// Puts a block into pages of its own: where its strings and its list are; `None` where that cannot be done.
    fn place(&mut self, before: Registers, caller: &Caller<'_>, block: &Block) -> Option<Option<(u64, u64)>> {
        let mapped = self.map(before, block.bytes(0).0.len())?;
        if mapped <= 0 {
            return Some(None);
        }
        let strings = mapped as u64;
        let (bytes, at) = block.bytes(strings);
        Some(caller.write(strings, &bytes).is_ok().then_some((strings, strings + at as u64)))
    }

    /// Gives the caller a result.
    fn give(&mut self, before: Registers, result: i64) -> Option<()> {
        let mut after = before;
        after.set_result(self.instruction, result);
        self.interrupted = RESTARTS.contains(&result);
        self.traced.set_registers(&after).ok()
    }

    /// Has it make a call with `bytes` at the address that one argument is, and gives it the result.
    fn call_with(
        &mut self,
        before: Registers,
        caller: &Caller<'_>,
        number: i64,
        mut arguments: [u64; 6],
        position: usize,
        bytes: &[u8],
    ) -> Option<()> {
        let address = self.map(before, bytes.len())?;
        if address <= 0 || caller.write(address as u64, bytes).is_err() {
            return self.give(before, -i64::from(libc::ENOMEM));
        }
        arguments[position] = address as u64;
        arguments[5] = caller.pass;
        let result = self.call(before, number, arguments)?.result();
        self.call(before, libc::SYS_munmap, [address as u64, bytes.len() as u64, 0, 0, 0, 0])?;
        self.give(before, result)
    }

    /// Closes a descriptor of it, and leaves its registers as they are.
    fn close(&mut self, descriptor: i32) {
        let Ok(before) = self.traced.registers() else { return };
        let _ = self.call(before, libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0]); // it may have been killed
        let _ = self.traced.set_registers(&before);
    }

    /// Has it run a program: see [`super::load`].
    fn load(
        &mut self,
        before: Registers,
        caller: &Caller<'_>,
        image: &Image,
        descriptors: Descriptors,
        [mut empty, mut list, environment]: [u64; 3],
        block: Option<Block>,
    ) -> Option<()> {
        if let Some(block) = block {
            match self.place(before, caller, &block)? {
                Some(placed) => (empty, list) = placed,
                None => return self.give(before, -i64::from(libc::ENOMEM)),
            }
        }
        let mut registers = before;
        let flags = libc::AT_EMPTY_PATH as u64;
        let call = [descriptors.runs as u64, empty, list, environment, flags, caller.pass];
        registers.call_again(self.instruction, nr::EXECVEAT, call);
        self.traced.set_registers(&registers).ok()?;
        self.traced.run_to_call(0).ok()?;
        self.stopped()?;
        self.traced.run_to_call(0).ok()?;
        if !self.runs_new_program(caller)? {
            let failed = self.traced.registers().ok()?.result();
            self.give(before, failed)?;
            for descriptor in [Some(descriptors.runs), descriptors.program].into_iter().flatten() {
                self.close(descriptor);
            }
            return Some(());
        }
        // The exec's own end.
        self.traced.run_to_call(0).ok()?;
        let start = self.stopped()?;
        let loaded = self.finish(start, caller, image, descriptors.program);
        let mut state = caller.process.state();
        state.program = Some(image.path.as_slice().into());
        state.linker = loaded.and_then(|loaded| loaded.interpreter).filter(|_| image.by_linker);
        let pending = state.pending.take();
        drop(state);
        if let Some(pending) = pending {
            caller.table.set_credentials(&caller.process, pending.credentials);
        }
        if loaded.is_none() {
            // As the kernel does past the point of no return.
            let _ = crate::sys::send_signal(caller.process.pid, false, libc::SIGKILL);
        }
        loaded.map(drop)
    }

    /// Waits for the end of an exec, or for the new program; which of the two it is.
    fn runs_new_program(&mut self, caller: &Caller<'_>) -> Option<bool> {
        let process = &caller.process;
        let mut thread = caller.thread;
        loop {
            match self.traced.wait() {
                Ok(Stop::Exec) => return Some(true),
                Ok(Stop::Call) => return Some(false),
                Ok(Stop::Event) => self.traced.run_to_call(0).ok()?,
                Ok(Stop::Signal(signal)) => {
                    self.signals.push(signal);
                    self.traced.run_to_call(0).ok()?;
                }
                // It has taken the place of the first thread of its process, and the number.
                Ok(Stop::Gone) if thread != process.pid => {
                    thread = process.pid;
                    self.traced.becomes(process.pid, process.is_child);
                }
                Ok(Stop::Gone) | Err(_) => return None,
            }
        }
    }

    fn finish(
        &mut self,
        start: Registers,
        caller: &Caller<'_>,
        image: &Image,
        program: Option<i32>,
    ) -> Option<load::Finished> {
        let begin = start.next();
        let mut word = [0; 8];
        word[..Registers::CALL.len()].copy_from_slice(Registers::CALL);
        let covered = self.traced.exchange(begin, u64::from_ne_bytes(word)).ok()?;
        self.instruction = begin + Registers::CALL.len() as u64;
        let secure = caller.process.state().pending.is_some();
        let host = &mut Begun { thread: self, caller, start };
        let finished = load::finish(host, image, program, start.stack(), secure)?;
        self.traced.exchange(begin, covered).ok()?;
        let mut registers = start;
        registers.set_stack(finished.stack);
        self.traced.set_registers(&registers).ok()?;
        Some(finished)
    }

    /// Lets it go on, with the signals that came. They are there before it goes: by them the kernel ends a call that was
    /// interrupted with `EINTR`, or makes it anew.
    fn release(mut self, thread: i32) {
        if self.interrupted
            && let Ok(before) = self.traced.registers()
        {
            // For a call that is made anew, arm64's kernel takes the first argument from the call before (`orig_x0`, which
            // no register shows). So there is one more, which does nothing with it. The thread may have been killed.
            let _ = self.call(before, libc::SYS_getpid, self.arguments);
            let _ = self.traced.set_registers(&before);
        }
        for signal in &self.signals {
            let _ = crate::sys::send_signal(thread, true, *signal); // it may have ended
        }
        self.traced.release(0);
    }
}
