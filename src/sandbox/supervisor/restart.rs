//! Making a caller make another call than it asked for: its thread is traced for a moment, its registers are set to the
//! other call, and it is let go. Notifications themselves cannot change a call.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{Restart, numbers as nr};
use crate::sys::{Listener, Notification, Registers, Stop, Traced};

/// Has the caller make `what`. With an error the call still waits for its answer.
pub(super) fn restart(listener: &Listener, notification: &Notification, what: &Restart) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let id = notification.id;
    // Traced by somebody already (a debugger in the step): then it cannot be done.
    let traced = Traced::seize(notification.thread).map_err(|_| Errno::ACCESS)?;
    if !listener.is_waiting(id) {
        return Err(Errno::SRCH);
    }
    let file = match what {
        Restart::ChangeDirectory(directory) => directory,
        Restart::Execute { program, .. } => program,
    };
    // A script's interpreter opens the script by the descriptor, so that must stay over the exec.
    let close_on_exec = !matches!(what, Restart::Execute { script: true, .. });
    let number = listener.add_descriptor(id, file.as_fd(), close_on_exec).map_err(errno)?;
    // From here on the call is answered. What the caller gets for it does not matter, for it is stopped before it sees
    // that. Where the interruption ended the call before the answer came, there is none to be given.
    traced.interrupt().map_err(errno)?;
    let _ = listener.refuse(id, libc::EINTR);
    let mut thread = Thread { traced, signals: Vec::new() };
    let done = thread.stopped().and_then(|before| match what {
        Restart::ChangeDirectory(_) => thread.change_directory(before, notification, number),
        Restart::Execute { arguments, environment, empty, .. } => {
            let mut registers = before;
            let call = [number as u64, *empty, *arguments, *environment, libc::AT_EMPTY_PATH as u64, 0];
            registers.call_again(notification.instruction, nr::EXECVEAT, call);
            thread.traced.set_registers(&registers).ok()
        }
    });
    let _ = done; // where the thread ended there is nothing left to do
    thread.release(notification.thread);
    Ok(())
}

/// A thread whose registers are being changed.
struct Thread {
    traced: Traced,
    /// Signals that came meanwhile.
    signals: Vec<i32>,
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

    /// Has it make a call about the injected descriptor.
    fn call(
        &mut self,
        before: Registers,
        notification: &Notification,
        number: i64,
        descriptor: i32,
    ) -> Option<Registers> {
        let mut registers = before;
        registers.call_again(notification.instruction, number, [descriptor as u64, 0, 0, 0, 0, 0]);
        self.traced.set_registers(&registers).ok()?;
        self.traced.run_to_call(0).ok()?;
        self.stopped()?;
        self.traced.run_to_call(0).ok()?;
        self.stopped()
    }

    /// Runs `fchdir` of the injected descriptor, closes it, and gives the caller the result.
    fn change_directory(&mut self, before: Registers, notification: &Notification, descriptor: i32) -> Option<()> {
        let result = self.call(before, notification, libc::SYS_fchdir, descriptor)?.result();
        self.call(before, notification, libc::SYS_close, descriptor)?;
        let mut after = before;
        after.set_result(result);
        self.traced.set_registers(&after).ok()
    }

    /// Lets it go on, with the signals that came.
    fn release(self, thread: i32) {
        let _ = self.traced.release(0);
        for signal in self.signals {
            let _ = crate::sys::send_signal(thread, true, signal); // it may have ended
        }
    }
}
