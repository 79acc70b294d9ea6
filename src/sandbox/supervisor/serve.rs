//! The workers that receive trapped calls, have them answered and give the answers.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::call::{Call, IdentityCall, UNKNOWN};
use super::emulated::Emulated;
use super::memory::Memory;
use super::outside::Outside;
use super::outsiders::Outsiders;
use super::places::Places;
use super::process::Table;
use super::recorded::Recorded;
use super::shortcuts::{Root, Run, Shortcuts};
use super::workers::{More, Seen, Workers};
use super::{Answer, Caller, Identity, Worker, directories, exec, identify, identities, peers, programs, restart};
use crate::sys::{Listener, Notification};

/// Stack of a thread here, in bytes.
const STACK: usize = 256 << 10;

/// After so many calls a worker looks whether more wait than it can answer.
const LOOK: u32 = 16;

/// What the supervisor of one step is made of.
#[derive(Debug)]
pub(crate) struct Supervisor {
    listener: Listener,
    outside: Arc<Outside>,
    memory: Memory,
    table: Arc<Table>,
    outsiders: Outsiders,
    files: Files,
    /// What uname(2) tells as the machine's name, if it is not the machine's.
    hostname: Option<String>,
    pass: u64,
    shortcuts: Option<Shortcuts>,
    workers: Workers,
}

/// Who answers calls about files.
#[derive(Debug)]
pub(crate) enum Files {
    /// Places stand in the tree; who owns a file is the kernel's to know.
    Placed(Places),
    /// Nothing has to stand in for anything, but owners are recorded.
    Recorded(Arc<Recorded>),
    /// The step has the machine's root, and owners are recorded.
    Emulated(Emulated),
}

/// What a supervisor needs to know of its step.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The listener of the step's filter.
    pub listener: Listener,
    /// What lies outside.
    pub outside: Arc<Outside>,
    /// The process that all of the step descends from: this one.
    pub root: i32,
    /// The step's processes: none yet.
    pub table: Arc<Table>,
    /// Who answers its calls about files.
    pub files: Files,
    /// The machine's name for the step.
    pub hostname: Option<String>,
    /// What the filter lets restarted calls through by; 0 for nothing.
    pub pass: u64,
    /// What its programs may do past the supervisor.
    pub shortcuts: Option<Shortcuts>,
}

impl Supervisor {
    /// Starts the workers. They work until this process ends.
    pub(crate) fn start(setup: Setup) -> std::io::Result<Arc<Supervisor>> {
        let Setup { listener, outside, root, table, files, hostname, pass, shortcuts } = setup;
        listener.wake_synchronously();
        // Each stop of a thread that a worker traces would wake whoever waits for children to end.
        crate::sys::want_no_word_of_stops()?;
        let supervisor = Arc::new(Supervisor {
            listener,
            memory: Memory::new(outside.clone()),
            outsiders: Outsiders::new(table.clone(), outside.clone(), root),
            outside,
            table,
            files,
            hostname,
            pass,
            shortcuts,
            workers: Workers::new(),
        });
        supervisor.add_worker()?;
        let watched = supervisor.clone();
        let watch = move || watched.workers.watch(|| watched.listener.has_waiting(), || watched.start_worker());
        std::thread::Builder::new().stack_size(STACK).spawn(watch)?;
        Ok(supervisor)
    }

    fn add_worker(self: &Arc<Supervisor>) -> std::io::Result<()> {
        let supervisor = self.clone();
        std::thread::Builder::new().stack_size(STACK).spawn(move || supervisor.work())?;
        Ok(())
    }

    fn start_worker(self: &Arc<Supervisor>) {
        // Without one more the call waits for one of those that are there.
        if self.add_worker().is_err() {
            self.workers.not_started();
        }
    }

    /// Waits until no worker works on a call: to be called when no process of the step is left to make one.
    pub(crate) fn settle(&self) {
        while !self.workers.is_idle() {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn work(self: Arc<Supervisor>) {
        let mut worker = if matches!(self.files, Files::Emulated(_)) { Worker::only() } else { Worker::begin() };
        let (mut seen, mut calls) = (Seen::default(), 0u32);
        loop {
            // An error means that the listener is of no more use: the step is over.
            let Ok(received) = self.listener.receive() else { return };
            let Some(notification) = received else { continue };
            self.workers.begin();
            let served = catch_unwind(AssertUnwindSafe(|| self.serve(&notification, &mut worker)));
            if served.is_err() {
                let _ = self.listener.refuse(notification.id, libc::EIO);
            }
            self.workers.end();
            // Asking costs as much as half an answer.
            calls = calls.wrapping_add(1);
            if !calls.is_multiple_of(LOOK) {
                continue;
            }
            if self.workers.look(self.listener.has_waiting(), &mut seen) == More::Start {
                self.start_worker();
            }
        }
    }

    /// Answers a call.
    fn serve(&self, notification: &Notification, worker: &mut Worker) {
        let Some(call) = Call::decode(notification.number, notification.arguments) else {
            return self.give(notification.id, Answer::Error(UNKNOWN));
        };
        // Only as who it began as may a worker look into other processes.
        let process = match worker.become_identity(None).and_then(|()| self.table.process_of(notification.thread)) {
            Ok(process) => process,
            // It died, or /proc cannot tell: nothing is known of it that could be applied.
            Err(errno) => return self.give(notification.id, Answer::Error(errno)),
        };
        let caller = Caller {
            thread: notification.thread,
            process,
            notification: *notification,
            outside: &self.outside,
            listener: &self.listener,
            memory: &self.memory,
            table: &self.table,
            pass: self.pass,
            shortcuts: self.shortcuts.as_ref(),
            said: RefCell::default(),
        };
        if caller.process.is_native(caller.thread) {
            return self.give(notification.id, Answer::Continue);
        }
        caller.process.memory.calls(caller.thread);
        if caller.process.state().pending.is_some() {
            exec::settle(&caller, &self.table);
        }
        if let Call::PeerCredentials { value, .. } = call
            && peers::answer(&caller, &self.table, value)
        {
            return;
        }
        let places = match &self.files {
            Files::Placed(places) => Some(places),
            Files::Emulated(emulated) => Some(emulated.places()),
            Files::Recorded(_) => None,
        };
        if let (Call::ReadDirectory { directory, buffer }, Some(places)) = (call, places)
            && directories::answer(places, &caller, directory, buffer)
        {
            return;
        }
        let answer = self.dispatch(&call, &caller, worker);
        if let Some(shortcuts) = &self.shortcuts
            && call.changes_files()
            && let Err(errno) = shortcuts.forget()
        {
            return self.give(notification.id, Answer::Error(errno));
        }
        if let Call::Exec { .. } = call {
            caller.process.state().run = caller.said.take().map(|(_, path)| Run::of(&path));
            caller.process.memory.execs(caller.thread);
            self.table.execs(&caller.process);
        }
        match answer {
            Answer::Restart(what) => {
                let restarted = worker.become_identity(None).and_then(|()| restart::restart(&caller, &what));
                if let Err(errno) = restarted {
                    self.give(notification.id, Answer::Error(errno));
                }
            }
            answer => self.give(notification.id, answer),
        }
    }

    /// Gives the answer. It fails where the caller died meanwhile, which is nothing to anybody.
    fn give(&self, id: u64, answer: Answer) {
        let listener = &self.listener;
        let given = match answer {
            Answer::Continue => listener.proceed(id),
            Answer::Value(value) => listener.give(id, value),
            Answer::Error(errno) => listener.refuse(id, errno.raw_os_error()),
            Answer::Descriptor { fd, close_on_exec } => match listener.give_descriptor(id, fd.as_fd(), close_on_exec) {
                // The caller has no room for one more descriptor: EMFILE.
                Err(error) => listener.refuse(id, error.raw_os_error().unwrap_or(libc::EIO)),
                done => done,
            },
            Answer::Restart(_) | Answer::Given => Ok(()), // made already
        };
        let _ = given;
    }

    fn dispatch(&self, call: &Call, caller: &Caller<'_>, worker: &mut Worker) -> Answer {
        match *call {
            Call::Process(call) => self.outsiders.answer(call, caller),
            Call::Identity(call) => self.identity(call, caller).into(),
            Call::Exit { group } => {
                if let Some(shortcuts) = self.shortcuts.as_ref().filter(|_| group) {
                    shortcuts.ends(caller);
                }
                self.table.ends(&caller.process, caller.thread, group);
                Answer::Continue
            }
            Call::Uname { buffer } => identify::uname(caller, buffer, self.hostname.as_deref()).into(),
            _ => match &self.files {
                Files::Placed(places) => {
                    let answer = placed(places, call, caller, worker);
                    self.linker((Some(places), Root::Own), call, caller, (worker, answer))
                }
                Files::Recorded(recorded) => {
                    let answer = recorded.answer(call, caller, &self.table, None).into();
                    let root = if recorded.has_chroots() { Root::Other } else { Root::Own };
                    self.linker((None, root), call, caller, (worker, answer))
                }
                Files::Emulated(emulated) => emulated.answer(call, caller, worker).into(),
            },
        }
    }

    /// The answer, as it is for a dynamic linker.
    fn linker(
        &self,
        sees: (Option<&Places>, Root),
        call: &Call,
        caller: &Caller<'_>,
        (worker, answer): (&mut Worker, Answer),
    ) -> Answer {
        match &self.shortcuts {
            Some(shortcuts)
                if matches!(call, Call::Open { .. } | Call::Access { .. }) && worker.become_identity(None).is_ok() =>
            {
                shortcuts.answer_linker(sees, call, caller, answer)
            }
            _ => answer,
        }
    }

    fn identity(&self, call: IdentityCall, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let before = caller.process.credentials();
        let answer = identities::answer(call, caller, &self.table)?;
        // The kernel would go on to take it for root; where that cannot be ended it stays who it was.
        if let Some(shortcuts) = &self.shortcuts
            && !shortcuts.allows(&caller.process.credentials())
            && let Err(errno) = shortcuts.turn_off(caller)
        {
            self.table.set_credentials(&caller.process, before);
            return Err(errno);
        }
        Ok(answer)
    }
}

fn placed(places: &Places, call: &Call, caller: &Caller<'_>, worker: &mut Worker) -> Answer {
    let credentials = caller.process.credentials();
    let answer = places.answer(call, caller, worker, Identity::of(&credentials).as_ref());
    match (call, &answer) {
        (Call::Exec { path, .. }, Answer::Continue) => {
            let noted = worker.become_identity(None).and_then(|()| programs::note(caller, path, &credentials));
            noted.map_or_else(Answer::Error, |()| answer)
        }
        _ => answer,
    }
}
