//! Tracing one thread of another process for a moment: ptrace(2).

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// A thread that is traced by the calling thread, and is let go when this is dropped.
#[derive(Debug)]
pub struct Traced {
    thread: i32,
    own_child: bool,
    /// Its process has other threads. So its number may change, of which nobody who sleeps until then is told.
    has_others: bool,
}

/// How long [`Traced::wait`] sleeps where it cannot be woken: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_micros(10), Duration::from_millis(1));

/// Why a traced thread stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Because [`Traced::interrupt`] was called, or its process is stopped.
    Event,
    /// Because it runs another program now.
    Exec,
    /// At the beginning or the end of a system call, after [`Traced::run_to_call`].
    Call,
    /// At a call that its filter hands over to who traces it.
    Filter,
    /// Because it is to get this signal; [`Traced::run_to_call`] and dropping deliver it only where told.
    Signal(i32),
    /// It ended.
    Gone,
}

/// The registers that say which system call is to be made, and its result.
#[derive(Clone, Copy)]
pub struct Registers(libc::user_regs_struct);

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registers").field("result", &self.result()).finish_non_exhaustive()
    }
}

const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACESECCOMP;

fn request(request: libc::c_uint, thread: i32, data: usize) -> io::Result<()> {
    // SAFETY: called only with requests whose data is an integer, or a pointer that lives through the call.
    let done = unsafe { libc::ptrace(request as _, thread, std::ptr::null_mut::<libc::c_void>(), data) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn sleep(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 2).min(PAUSES.1);
}

impl Traced {
    /// Begins to trace `thread`, without stopping it. `EPERM` where somebody traces it already. With `own_child` it is a
    /// child process of this one: then how it ends is left for another thread to be told. `has_others` says that its
    /// process has more threads: one that runs a program ends the others and takes the first one's number (`de_thread` in
    /// `fs/exec.c`), and the kernel wakes neither who waits for the number that it had nor who waits for the first one.
    pub fn seize(thread: i32, own_child: bool, has_others: bool) -> io::Result<Traced> {
        request(libc::PTRACE_SEIZE as _, thread, OPTIONS as usize)?;
        Ok(Traced { thread, own_child, has_others })
    }

    /// Stops it, which ends the system call that it waits in.
    pub fn interrupt(&self) -> io::Result<()> {
        request(libc::PTRACE_INTERRUPT as _, self.thread, 0)
    }

    /// Waits until it stops.
    pub fn wait(&self) -> io::Result<Stop> {
        let mut status = 0;
        if self.own_child && self.has_ended()? {
            return Ok(Stop::Gone);
        }
        let options = libc::__WALL | libc::__WNOTHREAD | self.without_sleep();
        let mut pause = PAUSES.0;
        loop {
            // SAFETY: the status is written to an integer that lives through the call. __WNOTHREAD keeps to what this
            // thread traces.
            let got = unsafe { libc::waitpid(self.thread, &raw mut status, options) };
            match got {
                0 => sleep(&mut pause),
                -1 => match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EINTR) => {}
                    error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Stop::Gone),
                    error => return Err(error),
                },
                _ => break,
            }
        }
        if !libc::WIFSTOPPED(status) {
            return Ok(Stop::Gone);
        }
        Ok(match libc::WSTOPSIG(status) {
            _ if status >> 16 == libc::PTRACE_EVENT_STOP => Stop::Event,
            _ if status >> 16 == libc::PTRACE_EVENT_EXEC => Stop::Exec,
            _ if status >> 16 == libc::PTRACE_EVENT_SECCOMP => Stop::Filter,
            signal if signal == libc::SIGTRAP | 0x80 => Stop::Call,
            signal => Stop::Signal(signal),
        })
    }

    /// Waits until it stops or ends, and tells which without taking note of it.
    fn has_ended(&self) -> io::Result<bool> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
        let options = options | self.without_sleep();
        let mut pause = PAUSES.0;
        loop {
            // SAFETY: the kernel writes one siginfo_t, which lives through the call.
            let done = unsafe { libc::waitid(libc::P_PID, self.thread as libc::id_t, info.as_mut_ptr(), options) };
            match io::Error::last_os_error() {
                // SAFETY: integers, all zero before. Without anything to tell the kernel leaves or makes this one zero.
                _ if done == 0 && unsafe { info.assume_init_ref() }.si_signo == 0 => sleep(&mut pause),
                _ if done == 0 => break,
                error if error.raw_os_error() == Some(libc::EINTR) => {}
                error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(true),
                error => return Err(error),
            }
        }
        // SAFETY: integers, all zero before and written by the kernel now.
        let code = unsafe { info.assume_init() }.si_code;
        Ok(matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED))
    }

    fn without_sleep(&self) -> libc::c_int {
        if self.has_others { libc::WNOHANG } else { 0 }
    }

    /// Lets it run to the next beginning or end of a system call, delivering `signal` if it is not 0.
    pub fn run_to_call(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_SYSCALL as _, self.thread, signal as usize)
    }

    /// Lets it run until something else stops it than a system call.
    pub fn run(&self) -> io::Result<()> {
        request(libc::PTRACE_CONT as _, self.thread, 0)
    }

    /// Lets it go, delivering `signal` if it is not 0. It is to be stopped.
    pub fn release(self, signal: i32) {
        self.let_go(signal);
        std::mem::forget(self);
    }

    /// One that ended stays the tracer's to be waited for, and until then its process cannot end; one that runs has to be
    /// stopped first.
    fn let_go(&self, signal: i32) {
        let mut signal = signal;
        while request(libc::PTRACE_DETACH as _, self.thread, signal as usize).is_err() {
            let _ = self.interrupt(); // fails where it has ended, which the next line tells
            match self.wait() {
                Ok(Stop::Gone) | Err(_) => return,
                Ok(Stop::Signal(came)) => signal = came,
                Ok(Stop::Event | Stop::Call | Stop::Exec | Stop::Filter) => {}
            }
        }
    }

    /// The thread is the only one of its process now, and has that one's id: an exec ends all others (ptrace(2)).
    pub fn becomes(&mut self, process: i32, own_child: bool) {
        (self.thread, self.own_child, self.has_others) = (process, own_child, false);
    }

    /// Writes a word to its memory, whatever its protection, and gives what was there; while it is stopped.
    pub fn exchange(&self, address: u64, word: u64) -> io::Result<u64> {
        let mut before = 0u64;
        let at = std::ptr::without_provenance_mut::<libc::c_void>(address as usize);
        // SAFETY: the raw call (ptrace(2), "C library/kernel differences") writes one word, which lives through it; the
        // address is the other process's.
        let done = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, self.thread, at, &raw mut before) };
        if done == -1 {
            return Err(io::Error::last_os_error());
        }
        self.put(address, word).map(|()| before)
    }

    /// Writes a word to its memory, whatever its protection; while it is stopped.
    pub fn put(&self, address: u64, word: u64) -> io::Result<()> {
        let at = std::ptr::without_provenance_mut::<libc::c_void>(address as usize);
        // SAFETY: the word is passed by value; the address is the other process's.
        let done = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_POKEDATA, self.thread, at, word) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Its registers, while it is stopped.
    pub fn registers(&self) -> io::Result<Registers> {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
        let mut vector =
            libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of::<libc::user_regs_struct>() };
        // SAFETY: the kernel writes at most the vector's length to the registers, which live through the call.
        let done = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, self.thread, NT_PRSTATUS, &raw mut vector) };
        if done == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: integers, all zero before and written by the kernel now.
        Ok(Registers(unsafe { registers.assume_init() }))
    }

    /// Sets its registers, while it is stopped.
    pub fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        let mut registers = registers.0;
        let mut vector =
            libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<libc::user_regs_struct>() };
        // SAFETY: the kernel reads the vector's length of bytes from the registers, which live through the call.
        let done = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, self.thread, NT_PRSTATUS, &raw mut vector) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.let_go(0);
    }
}

/// The set of general registers, elf.h.
const NT_PRSTATUS: usize = 1;

/// What the kernel has for a call that a signal interrupted and that is to be made anew (`ERESTARTSYS` and its like): no
/// caller sees it.
pub const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// The result of the system call that just ended, or a negative error number.
    pub fn result(&self) -> i64 {
        self.0.rax as i64
    }

    /// Whether a signal interrupted the call that the thread has come from (`instruction` is the address after it), which
    /// is to be made anew: the kernel sees to that when the thread goes on.
    pub fn is_interrupted(&self, _instruction: u64) -> bool {
        RESTARTS.contains(&self.result())
    }

    /// Makes that call, or the one made in its place, end with `result`.
    pub fn set_result(&mut self, _instruction: u64, result: i64) {
        self.0.rax = result as u64;
    }

    /// Makes the thread execute the system call instruction that it has just come from (`instruction` is the address
    /// after it) with these arguments.
    pub fn call_again(&mut self, instruction: u64, number: i64, arguments: [u64; 6]) {
        self.0.rip = instruction - 2; // `syscall` is two bytes long
        self.0.rax = number as u64;
        self.0.orig_rax = u64::MAX; // not in a call that is to be restarted
        [self.0.rdi, self.0.rsi, self.0.rdx, self.0.r10, self.0.r8, self.0.r9] = arguments;
    }

    /// The system call instruction.
    pub const CALL: &[u8] = &[0x0f, 0x05];

    /// The stack's end.
    pub fn stack(&self) -> u64 {
        self.0.rsp
    }

    /// Sets that.
    pub fn set_stack(&mut self, address: u64) {
        self.0.rsp = address;
    }

    /// The address of the instruction that is next.
    pub fn next(&self) -> u64 {
        self.0.rip
    }

    /// For code that makes the calls of a table, up to the one at `last`.
    pub fn begin_calls(&mut self, table: u64, last: u64) {
        (self.0.rbp, self.0.r13, self.0.rbx, self.0.r12) = (table, last, 0, 0);
    }

    /// The first result of those; `None` where one failed.
    pub fn first_result(&self) -> Option<u64> {
        (self.0.r12 == 0).then_some(self.0.rbx)
    }

    /// Makes nothing of the call that it has been stopped at.
    pub fn skip_call(&mut self) {
        self.0.orig_rax = u64::MAX;
    }
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    /// The result of the system call that just ended, or a negative error number.
    pub fn result(&self) -> i64 {
        self.0.regs[0] as i64
    }

    /// Whether a signal interrupted the call that the thread has come from (`instruction` is the address after it), which
    /// is to be made anew: this kernel goes back to it, with the arguments that it had, before it stops the thread
    /// (`do_signal` in `arch/arm64/kernel/signal.c`).
    pub fn is_interrupted(&self, instruction: u64) -> bool {
        self.0.pc == instruction - 4 || RESTARTS.contains(&self.result())
    }

    /// Makes that call, or the one made in its place, end with `result`.
    pub fn set_result(&mut self, instruction: u64, result: i64) {
        self.0.pc = instruction;
        self.0.regs[0] = result as u64;
    }

    /// Makes the thread execute the system call instruction that it has just come from (`instruction` is the address
    /// after it) with these arguments.
    pub fn call_again(&mut self, instruction: u64, number: i64, arguments: [u64; 6]) {
        self.0.pc = instruction - 4;
        self.0.regs[8] = number as u64;
        self.0.regs[..6].copy_from_slice(&arguments);
    }

    /// The system call instruction (`svc #0`).
    pub const CALL: &[u8] = &[0x01, 0x00, 0x00, 0xd4];

    /// The stack's end.
    pub fn stack(&self) -> u64 {
        self.0.sp
    }

    /// Sets that.
    pub fn set_stack(&mut self, address: u64) {
        self.0.sp = address;
    }

    /// The address of the instruction that is next.
    pub fn next(&self) -> u64 {
        self.0.pc
    }

    /// Nothing: it is not stopped at the beginning of a call.
    pub fn skip_call(&mut self) {}
}
