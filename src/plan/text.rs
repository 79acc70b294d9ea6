//! Small rules of the language that the recorded histories show: paths, Go's way of quoting and of writing durations.

/// `path` joined to `base` where it is relative; `.`, `..` and repeated slashes resolved by text alone, never above `/`.
pub(super) fn absolute(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let from_base = if path.starts_with('/') { "" } else { base };
    for part in from_base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// [`absolute`] for the destination of COPY and ADD: what is written as a directory keeps its trailing slash.
pub(super) fn destination(base: &str, path: &str) -> String {
    let directory = path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    let clean = absolute(base, path);
    if directory && clean != "/" { clean + "/" } else { clean }
}

/// Go's `%q` of a list of strings: `["a" "b"]`.
pub(super) fn quoted_list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "))
}

/// Go's `%q` of a string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// A letter, mark, number, sign or the plain blank. Rust escapes a mark only where a string begins with it, hence the `x`.
fn is_printable(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || !format!("x{c}").escape_debug().skip(1).eq(c.escape_unicode())
}

/// Go's text of a duration in nanoseconds: `1m30s`, `1.5s`, `2ms`, `0s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    let magnitude = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let fraction = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    match magnitude {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{magnitude}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(magnitude, 1_000_000)),
        _ => {
            let minutes = magnitude / 60_000_000_000;
            let seconds = fraction(magnitude % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// ` (did you mean X?)`, or nothing.
pub(super) fn did_you_mean(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_by_text() {
        for (base, path, expected) in [
            ("/", "a", "/a"),
            ("/w", "a/../b", "/w/b"),
            ("/w", "../../..", "/"),
            ("/w", "/x//y/./", "/x/y"),
            ("/w", "", "/w"),
        ] {
            assert_eq!(absolute(base, path), expected);
        }
        for (path, expected) in
            [("", "/w/"), (".", "/w/"), ("a", "/w/a"), ("a/", "/w/a/"), ("a/.", "/w/a/"), ("/", "/"), ("..", "/")]
        {
            assert_eq!(destination("/w", path), expected);
        }
    }

    #[test]
    fn quotes_as_go_does() {
        let words = ["a\"b", "\\\n\t\u{1}\u{7f}", "é日\u{301}", "\u{200b}\u{e000}\u{10ffff}\u{a0}"].map(String::from);
        assert_eq!(
            quoted_list(&words),
            "[\"a\\\"b\" \"\\\\\\n\\t\\x01\\x7f\" \"é日\u{301}\" \"\\u200b\\ue000\\U0010ffff\\u00a0\"]"
        );
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn writes_durations_as_go_does() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (5_000_000_000, "5s"),
            (60_000_000_000, "1m0s"),
            (3_690_500_000_000, "1h1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000, "1.5ms"),
            (1_050, "1.05µs"),
            (7, "7ns"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }
}
