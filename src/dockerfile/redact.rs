//! Credentials in URLs, kept out of what people and images see.

use std::ops::Range;

/// `text` with user and password of every URL in it replaced, as BuildKit writes them: `https://xxxxx:xxxxx@host/path`.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for found in credentials(text) {
        out.push_str(&text[from..found.start]);
        out.push_str("xxxxx:xxxxx");
        from = found.end;
    }
    out.push_str(&text[from..]);
    out
}

/// As [`redact`], but what is hidden keeps its length, so that columns still point to the same words.
pub fn mask(text: &str) -> String {
    let mut out = text.to_string();
    for found in credentials(text) {
        let hidden: String = text[found.clone()].chars().map(|c| "x".repeat(c.len_utf8())).collect();
        out.replace_range(found, &hidden);
    }
    out
}

/// Where `user:password` of each `scheme://user:password@host` stands; a bare user name may be a token.
fn credentials(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'');
        let authority = text[start..].split(ends).next().unwrap_or_default();
        let scheme = text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        // `ssh://git@host` names the account that everybody uses.
        match authority.rfind('@') {
            Some(0) | None => {}
            Some(end) if end + 1 == authority.len() => {}
            Some(at) if scheme.eq_ignore_ascii_case("ssh") && !authority[..at].contains(':') => {}
            Some(at) => found.push(start..start + at),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_replaced() {
        for (text, expected) in [
            ("https://me:hunter2@h/p", "https://xxxxx:xxxxx@h/p"),
            ("ADD http://token@h:80/p?a=b@c /x", "ADD http://xxxxx:xxxxx@h:80/p?a=b@c /x"),
            ("git://a:b@h/x git://c@d:e@h2/y", "git://xxxxx:xxxxx@h/x git://xxxxx:xxxxx@h2/y"),
            ("ssh://git@host/x ssh://me:hunter2@h/x", "ssh://git@host/x ssh://xxxxx:xxxxx@h/x"),
            ("https://h/p@1 https://@h git@github.com:a/b", "https://h/p@1 https://@h git@github.com:a/b"),
            ("http://@HTTP@/f", "http://@HTTP@/f"),
            ("", ""),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }

    #[test]
    fn a_mask_keeps_columns() {
        let text = "ADD https://mé:hunter2@h/p /x";
        assert_eq!(mask(text), "ADD https://xxxxxxxxxxx@h/p /x");
        assert_eq!(mask(text).len(), text.len());
    }
}
