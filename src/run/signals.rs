//! Signals by name.

use super::RunError;

/// Linux's signals on the machines that dockless runs on, but for the real-time ones.
const NAMES: [(&str, i32); 36] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];

/// As Docker and glibc have them: the first two are the C library's own.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of the signal that `text` names: `SIGTERM`, `term`, `15`, `RTMIN+3`.
pub fn signal(text: &str) -> Result<i32, RunError> {
    let bad = || RunError::Signal(text.to_string());
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (base, offset) = match name.split_once(['+', '-']) {
        Some((base @ ("RTMIN" | "RTMAX"), offset)) => {
            let offset: i32 = offset.parse().map_err(|_| bad())?;
            (base, if base == "RTMIN" { offset } else { -offset })
        }
        Some(_) => return Err(bad()),
        None => (name, 0),
    };
    let number = NAMES.iter().find(|(known, _)| *known == base).map(|(_, number)| number + offset).ok_or_else(bad)?;
    if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::signal;

    #[test]
    fn knows_names_and_numbers() {
        for (text, number) in
            [("SIGTERM", 15), ("kill", 9), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-14", 50), ("usr1", 10)]
        {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "SIGFOO", "TERM+1", "RTMIN+40", "-9"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
