//! STOPSIGNAL: the names and numbers that Docker accepts.

use crate::dockerfile::suggest::nearest;

/// Names without `SIG`, but for the real-time ones.
const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether `text` names a signal: `SIGTERM`, `term`, `15`, `RTMIN+3`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, most: u8| {
        !rest.starts_with(['0', '+']) && rest.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n))
    };
    NAMES.contains(&name)
        || name.strip_prefix("RTMIN+").is_some_and(|rest| offset(rest, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|rest| offset(rest, 14))
}

/// The name that was probably meant.
pub(super) fn nearest_to(text: &str) -> Option<String> {
    let upper = text.to_uppercase();
    let prefix = if upper.starts_with("SIG") { "SIG" } else { "" };
    let near = nearest(upper.strip_prefix(prefix).unwrap_or(&upper), NAMES.iter().copied())?;
    Some(format!("{prefix}{near}"))
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn knows_dockers_signals() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "sigkill"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["SIGFOO", "", "0", "RTMIN+16", "RTMAX-15", "RTMIN+0", "SIG"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
