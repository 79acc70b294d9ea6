use super::*;

fn env() -> Vec<(String, String)> {
    [("A", "one"), ("A", "abcabc"), ("EMPTY", ""), ("SP", "x  y")].map(|(k, v)| (k.into(), v.into())).to_vec()
}

fn word(text: &str) -> String {
    match Expander::new('\\').expand_word(text, &env()[..]) {
        Ok(expanded) => expanded.word,
        Err(error) => format!("! {}", error.kind),
    }
}

/// The recorded cases go much further; these are what a change is likely to break first.
#[test]
fn expands_words() {
    for (text, want) in [
        ("a$A.b", "aabcabc.b"),
        ("'$A' \"$A\" \\$A", "$A abcabc $A"),
        ("${NONE:-${A:+y}}", "y"),
        ("${EMPTY-d}${EMPTY:-d}", "d"),
        ("${A#a*b}|${A##a*b}|${A%b*c}|${A%%b*c}", "cabc|c|abca|a"),
        ("${A/b/X}|${A//b/X}", "aXcabc|aXcaXc"),
        ("${A//\\//x}", "abcabc"),
        ("${A//*/x}", "x"),
        ("${NONE?gone}", "! NONE: gone"),
        ("${A#\\x}", "! invalid pattern (\\x) in substitution: invalid escape '\\x'"),
        ("end\\", "end"),
        ("$", "$"),
    ] {
        assert_eq!(word(text), want, "{text}");
    }
}

#[test]
fn replacements_are_templates() {
    let env = [("A".to_string(), "abab".to_string()), ("T".to_string(), "<$0|$$|${1}|$-|${0}>".to_string())];
    let expanded = Expander::new('\\').expand_word("${A//b/$T}", &env[..]).expect("valid");
    assert_eq!(expanded.word, "a<b|$||$-|b>a<b|$||$-|b>");
}

#[test]
fn splits_where_variables_have_blanks() {
    let words = Expander::new('\\').expand_words("a$SP \"b c\" '' 80${X:-81}", &env()[..]).expect("valid");
    assert_eq!(words, ["ax", "y", "b c", "81"]);
}

#[test]
fn says_what_was_set_and_what_not() {
    let expanded = Expander::new('\\').expand_word("$B$A$B${C:-$A}", &env()[..]).expect("valid");
    assert_eq!((expanded.matched, expanded.unmatched), (vec!["A".to_string()], vec!["B".to_string(), "C".to_string()]));
}

#[test]
fn nests_only_so_deep() {
    let nested = |depth: usize| format!("{}x{}", "${a:-".repeat(depth), "}".repeat(depth));
    assert_eq!(word(&nested(MAX_DEPTH)), "x");
    assert_eq!(word(&nested(MAX_DEPTH + 1)), format!("! {}", ExpandErrorKind::TooDeep));
    assert_eq!(word(&nested(1_000_000)), format!("! {}", ExpandErrorKind::TooDeep));
    assert_eq!(word(&"\"${a:-".repeat(100_000)), format!("! {}", ExpandErrorKind::TooDeep));
}

#[test]
fn grows_only_so_long() {
    let env = [("A".to_string(), "x".repeat(1 << 20))];
    let error = Expander::new('\\').expand_word(&"$A".repeat(17), &env[..]).expect_err("17 MiB");
    assert_eq!(error.kind, ExpandErrorKind::TooLong);
    // What is put into what is put in counts too, and so does what is thrown away.
    let nested = format!("{}$A{}", "${B:-".repeat(20), "}".repeat(20));
    assert_eq!(
        Expander::new('\\').expand_word(&nested, &env[..]).expect_err("20 times").kind,
        ExpandErrorKind::TooLong
    );
    let dropped = format!("${{A+x{}}}", "$A".repeat(17));
    assert!(Expander::new('\\').expand_word(&dropped, &env[..]).is_err());
    let error = Expander::new('\\').expand_word(&format!("${{A#{}}}", "?".repeat(1 << 10)), &env[..]);
    assert!(error.is_err(), "a pattern and a value that take too long");
    // A long replacement that comes to nothing costs nothing.
    let env = [("A".to_string(), "x".repeat(1 << 14))];
    let nothing = format!("${{A//x/'{}'}}", "$n".repeat(1 << 14));
    assert_eq!(Expander::new('\\').expand_word(&nothing, &env[..]).expect("fits").word, "");
}
