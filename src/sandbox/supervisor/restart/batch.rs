//! Having a thread that has just begun with a program make several calls, before its first instruction.
//!
//! Each stop of a thread is two switches between processes. So on x86-64 it is given code that makes all of the calls, in the
//! place of the program's first instructions, and stops once: at a call that the filter hands over to who traces it.

use super::{Caller, Thread, load};
use crate::sys::Registers;

#[cfg(target_arch = "x86_64")]
impl Thread {
    /// The registers that it begins with; it has been stopped because it runs another program now.
    pub(super) fn begun(&mut self) -> Option<Registers> {
        let mut start = self.traced.registers().ok()?;
        start.set_result(self.instruction, 0); // as the exec ends
        Some(start)
    }

    /// See [`load::Host::calls`]. It begins with `start`.
    pub(super) fn calls(
        &mut self,
        start: Registers,
        caller: &Caller<'_>,
        calls: &[load::HostCall],
        stack: u64,
    ) -> Option<u64> {
        let mut table: Vec<u64> = Vec::new();
        for call in calls {
            table.push(call.number as u64);
            table.extend(call.arguments);
            table.push(if call.from_first { u64::MAX } else { 0 });
        }
        let last = 8 * table.len() as u64;
        table.extend([super::nr::BRK as u64, 0, 0, 0, 0, 0, caller.pass, 0]);
        let bytes: Vec<u8> = table.into_iter().flat_map(u64::to_ne_bytes).collect();
        let at = (stack - bytes.len() as u64) & !15;
        caller.memory.write(caller.process.pid, at, &bytes).ok()?;
        let code = start.next();
        let mut covered = [0; CODE.len()];
        caller.memory.read(caller.process.pid, None, code, &mut covered).ok()?;
        self.put(code, &CODE)?;
        let mut registers = start;
        registers.begin_calls(at, at + last);
        self.traced.set_registers(&registers).ok()?;
        let stopped = self.run_to_filter()?;
        self.put(code, &covered)?;
        stopped.first_result()
    }

    /// Writes what is whole words.
    fn put(&self, address: u64, bytes: &[u8]) -> Option<()> {
        bytes.chunks_exact(8).zip(0..).try_for_each(|(word, number): (_, u64)| {
            let word = u64::from_ne_bytes(std::array::from_fn(|byte| word[byte]));
            self.traced.put(address + 8 * number, word).ok()
        })
    }

    fn run_to_filter(&mut self) -> Option<Registers> {
        use crate::sys::Stop;
        loop {
            self.traced.run().ok()?;
            match self.traced.wait() {
                Ok(Stop::Filter) => return self.traced.registers().ok(),
                Ok(Stop::Event | Stop::Call | Stop::Exec) => {}
                Ok(Stop::Signal(signal)) => self.signals.push(signal),
                Ok(Stop::Gone) | Err(_) => return None,
            }
        }
    }
}

/// Makes the calls in the table at `rbp`, of eight words each: number, arguments, and what of the first result is added to the
/// first argument. Goes on with the last one, at `r13`, where one fails. Leaves the first result in `rbx`, an error in `r12`;
/// both are 0 at first.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const CODE: [u8; 72] = [
    0x48, 0x8b, 0x45, 0x00, // mov (%rbp), %rax
    0x48, 0x8b, 0x7d, 0x08, // mov 8(%rbp), %rdi
    0x48, 0x8b, 0x75, 0x10, // mov 16(%rbp), %rsi
    0x48, 0x8b, 0x55, 0x18, // mov 24(%rbp), %rdx
    0x4c, 0x8b, 0x55, 0x20, // mov 32(%rbp), %r10
    0x4c, 0x8b, 0x45, 0x28, // mov 40(%rbp), %r8
    0x4c, 0x8b, 0x4d, 0x30, // mov 48(%rbp), %r9
    0x48, 0x8b, 0x4d, 0x38, // mov 56(%rbp), %rcx
    0x48, 0x21, 0xd9, 0x48, 0x01, 0xcf, // and %rbx, %rcx; add %rcx, %rdi
    0x0f, 0x05, // syscall
    0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x0d, // cmp $-4095, %rax; jae failed
    0x48, 0x85, 0xdb, 0x48, 0x0f, 0x44, 0xd8, // test %rbx, %rbx; cmovz %rax, %rbx
    0x48, 0x83, 0xc5, 0x40, 0xeb, 0xc3, // add $64, %rbp; jmp begin
    0x49, 0x89, 0xc4, 0x4c, 0x89, 0xed, 0xeb, 0xbb, // failed: mov %rax, %r12; mov %r13, %rbp; jmp begin
    0x90, 0x90, 0x90, // nop
];

#[cfg(not(target_arch = "x86_64"))]
impl Thread {
    /// The registers that it begins with; it has been stopped because it runs another program now.
    pub(super) fn begun(&mut self) -> Option<Registers> {
        // The exec's own end.
        self.traced.run_to_call(0).ok()?;
        self.stopped()
    }

    /// See [`load::Host::calls`]. It begins with `start`.
    pub(super) fn calls(
        &mut self,
        start: Registers,
        _caller: &Caller<'_>,
        calls: &[load::HostCall],
        _stack: u64,
    ) -> Option<u64> {
        let begin = start.next();
        let mut word = [0; 8];
        word[..Registers::CALL.len()].copy_from_slice(Registers::CALL);
        let covered = self.traced.exchange(begin, u64::from_ne_bytes(word)).ok()?;
        self.instruction = begin + Registers::CALL.len() as u64;
        let mut first = None;
        for call in calls {
            let mut arguments = call.arguments;
            if call.from_first {
                arguments[0] = arguments[0].wrapping_add(first.unwrap_or_default());
            }
            let result = u64::try_from(self.call(start, call.number, arguments)?.result()).ok()?;
            first.get_or_insert(result);
        }
        self.traced.exchange(begin, covered).ok()?;
        first
    }
}
