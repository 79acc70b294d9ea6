//! Switches (the first byte), a word and, behind the first NUL, a value: any result will do, as long as there is one.
#![no_main]

use dockless::dockerfile::expand::Expander;
use dockless::dockerfile::mount::{Device, Mount};
use dockless::dockerfile::{duration, expose, git_ref, heredoc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((switches, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (word, value) = text.split_once('\0').unwrap_or((text, ""));
    let on = |bit: u8| switches & (1 << bit) != 0;
    let expander = Expander {
        escape: if on(0) { '`' } else { '\\' },
        raw_quotes: on(1),
        raw_escapes: on(2),
        skip_process_quotes: on(3),
        skip_unset_env: on(4),
    };
    let env = [("a".to_string(), value.to_string()), ("b".to_string(), String::new())];
    let _ = expander.expand_word(word, &env[..]);
    let _ = expander.expand_words(word, &env[..]);
    let _ = Mount::parse(word, |field| Ok(expander.expand_word(field, &env[..])?.word));
    let _ = Device::parse(word);
    let _ = expose::parse(word);
    let _ = git_ref::parse(word);
    let _ = heredoc::parse_word(word);
    let _ = duration::parse(word);
});
