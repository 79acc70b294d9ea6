//! Small values that options are written in: booleans, numbers, comma-separated fields.

/// `1 t T true True TRUE` or `0 f F false False FALSE`.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A number of digits alone.
pub(super) fn number(text: &str, radix: u32) -> Option<u32> {
    if text.starts_with('+') { None } else { u32::from_str_radix(text, radix).ok() }
}

/// The fields of one CSV record (RFC 4180): a field may be quoted, and hold commas and doubled quotes then.
/// `None` where the quotes are wrong or there is nothing at all.
pub(super) fn csv(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return None;
    }
    let (mut fields, mut rest) = (Vec::new(), text);
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, after) = rest.split_once(',').map_or((rest, None), |(field, after)| (field, Some(after)));
            if field.contains('"') {
                return None;
            }
            fields.push(field.to_string());
            match after {
                Some(after) => rest = after,
                None => return Some(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let (part, after) = quoted.split_once('"')?;
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    quoted = after;
                }
                None => {
                    quoted = after;
                    break;
                }
            }
        }
        fields.push(field);
        match quoted.strip_prefix(',') {
            Some(after) => rest = after,
            None if quoted.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_records() {
        let fields = |text: &str| csv(text).map(|fields| fields.join("|"));
        assert_eq!(fields("a,b=c,,"), Some("a|b=c||".into()));
        assert_eq!(fields("\"a,\"\"b\",c"), Some("a,\"b|c".into()));
        assert_eq!(fields(""), None);
        assert_eq!(fields("a\"b"), None);
        assert_eq!(fields("\"a"), None);
        assert_eq!(fields("\"a\"b"), None);
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(number("0755", 8), Some(0o755));
        assert_eq!(number("+1", 10), None);
        assert_eq!(number("-1", 10), None);
        assert_eq!(number("", 10), None);
        assert_eq!(number("8", 8), None);
    }
}
