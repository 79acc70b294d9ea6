//! Tests of `dockerfile`: spans, suggestions, what no input may do, and a second opinion.

use dockless::dockerfile::expand::Expander;
use dockless::dockerfile::instruction::{CommandLine, Instruction};
use dockless::dockerfile::mount::Mount;
use dockless::dockerfile::span::Span;
use dockless::dockerfile::{
    Dockerfile, ParseError, ParseErrorKind, directive, expose, git_ref, parse, parse_bytes, parse_trigger, syntax,
};
use proptest::prelude::*;

/// The text that a span of an error covers.
fn marked(text: &str) -> (String, ParseError) {
    let error = parse(text).expect_err("wrong on purpose");
    let Span { line, end_line, column, end_column } = error.span;
    assert_eq!(line, end_line, "{text:?}: {error}");
    let whole = text.lines().nth(line as usize - 1).expect("a line of the file");
    let part = if column == 0 { whole } else { &whole[column as usize - 1..end_column as usize - 1] };
    (part.to_string(), error)
}

#[test]
fn errors_mark_the_exact_words() {
    for (text, part, message) in [
        ("FROM a\n  RUM x\n", "RUM", "unknown instruction: RUM (did you mean RUN?)"),
        ("FROM a\nCOPY --form=b c d\n", "--form=b", "(did you mean --from?)"),
        ("FROM a\nRUN x \\\n  y\nCOPY \\\n  --chown a b\n", "--chown", "missing a value on flag: --chown"),
        ("FROM a\nENV a=b \\\n  c \\\n  d=e\n", "c", "can't find = in \"c\""),
        ("FROM a AS 1b\n", "1b", "invalid name for build stage: \"1b\""),
        ("\u{feff}FRON a\n", "FRON", "did you mean FROM?"),
        ("FROM a\r\nHEALTHCHECK --interval=5 CMD x\r\n", "--interval=5", "missing unit"),
        ("FROM a\nRUN [\"a\", 1]\n", "[\"a\", 1]", "strings only"),
        ("FROM a\nONBUILD   ONBUILD RUN x\n", "ONBUILD", "isn't allowed"),
        ("FROM a\nRUN <<EOF cat\nx\n", "<<EOF", "no line is exactly \"EOF\""),
        ("FROM a\nRUN --mount=type=bind,from=$x y\n", "--mount=type=bind,from=$x", "variable"),
        ("# escape=x\nFROM a\n", "x", "invalid escape token"),
        ("RUN x\n", "RUN x", "only ARG may stand before"),
    ] {
        let (found, error) = marked(text);
        assert!(error.to_string().contains(message), "{text:?}: {error}");
        // A byte order mark is no part of the first line's text as editors show it, but of its columns.
        assert_eq!(found, part, "{text:?}: {error}");
    }
}

#[test]
fn spans_of_stages_and_instructions_are_their_lines() {
    let file =
        parse("ARG x\nFROM --platform=$p base AS b\nRUN <<A cat && \\\n  true\nbody\nA\nCMD x\n").expect("valid");
    let stage = &file.stages[0];
    assert_eq!(stage.base_span, Span { line: 2, end_line: 2, column: 20, end_column: 24 });
    let lines: Vec<_> = stage.instructions.iter().map(|i| (i.span.line, i.span.end_line)).collect();
    assert_eq!(lines, [(3, 6), (7, 7)]);
    assert_eq!(stage.instructions[0].original, "RUN <<A cat &&   true");
}

#[test]
fn bytes_that_are_not_utf8_are_passed_over_in_comments_alone() {
    assert!(parse_bytes(b"# caf\xe9\nFROM a\nRUN x \\\n# \xff\n y\n").is_ok());
    let error = parse_bytes(b"FROM a\nRUN caf\xe9\n").expect_err("an instruction");
    assert_eq!((*error.kind, error.span), (ParseErrorKind::NotUtf8, Span::lines(2, 2)));
    assert!(parse_bytes(b"FROM a\nRUN <<E\n# \xff\nE\n").is_err(), "a body has no comments");
}

#[test]
fn triggers_are_instructions_too() {
    let span = Span::lines(7, 9);
    let trigger = parse_trigger("COPY <<-E /x\n\tbody\nE", '\\', span).expect("valid");
    let Instruction::Copy(copy) = &trigger.value else { panic!("{trigger:?}") };
    assert_eq!(copy.paths.heredocs[0].body, "body\n");
    let trigger = parse_trigger("RUN a `\n b", '`', span).expect("valid");
    assert!(matches!(&trigger.value, Instruction::Run(run) if run.command == CommandLine::Shell("a  b".into())));
    for (text, message) in
        [("FROM x", "FROM isn't allowed"), ("RUM x", "did you mean RUN?"), ("RUN x\nRUN y", "must be one instruction")]
    {
        let error = parse_trigger(text, '\\', span).expect_err("wrong on purpose");
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert_eq!(error.span, span);
    }
}

#[test]
fn comments_above_turn_lints_off_for_one_instruction() {
    let file = parse("FROM a\n# check=skip=SecretsUsedInArgOrEnv // fine\nENV token=x\nENV token=y\n").expect("valid");
    let lines: Vec<_> = file.warnings.iter().map(|warning| (warning.rule, warning.span.line)).collect();
    assert_eq!(lines, [("SecretsUsedInArgOrEnv", 4)]);
}

#[test]
fn own_front_ends_are_known_by_name() {
    for image in
        ["docker/dockerfile", "docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile-upstream:master@sha256:0"]
    {
        assert!(directive::is_built_in(image), "{image}");
    }
    for image in ["docker/dockerfile2", "r2d4/mocker", "dockerfile", "x/docker/dockerfile"] {
        assert!(!directive::is_built_in(image), "{image}");
    }
}

#[test]
fn long_files_are_no_trouble() {
    let lines = format!("FROM a\nRUN true{}\n", " \\\n && true".repeat(100_000));
    let file = parse(&lines).expect("valid");
    assert_eq!(file.stages[0].instructions[0].span.end_line, 100_002);
    let many = format!("FROM a\n{}", "RUN echo \"$a\" # 0123456789\n".repeat(100_000));
    assert_eq!(parse(&many).expect("valid").stages[0].instructions.len(), 100_000);
    let chain = format!("FROM a\n{}", "ONBUILD \\\n".repeat(100_000));
    assert!(parse(&chain).is_err());
    let stages = "FROM a AS b\nFROM b AS a\nWORKDIR x\n".repeat(20_000);
    assert_eq!(parse(&stages).expect("valid").stages.len(), 40_000);
    let quotes = format!("FROM a\nENV{}\n", " a='x y' \\\n".repeat(100_000));
    assert!(parse(&quotes).is_ok());
    let heredocs = format!("FROM a\nRUN cat{}\n{}", " <<E".repeat(1_000), "E\n".repeat(1_000));
    assert!(parse(&heredocs).is_ok());
}

/// Text of pieces that mean something, so that random input gets past the first word.
fn dockerfile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("FROM a AS b\n"),
        Just("RUN "),
        Just("COPY "),
        Just("ENV "),
        Just("ARG "),
        Just("LABEL "),
        Just("ONBUILD "),
        Just("HEALTHCHECK "),
        Just("EXPOSE 80/TCP\n"),
        Just("<<E "),
        Just("<<-'E'"),
        Just("\nE\n"),
        Just("\\\n"),
        Just("\\"),
        Just("`"),
        Just("# escape=`\n"),
        Just("# check=skip=all\n"),
        Just("#\n"),
        Just("\r\n"),
        Just("\n"),
        Just("--mount=type=cache,target=/x "),
        Just("--"),
        Just("--from=b "),
        Just("[\"a\", \"b\"]"),
        Just("["),
        Just("\""),
        Just("'"),
        Just("$"),
        Just("${a:-"),
        Just("}"),
        Just("="),
        Just(" "),
        Just("\t"),
        Just("\u{a0}"),
        Just("\u{feff}"),
        Just("ü"),
        Just("\0"),
        Just("x"),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text in prop_oneof![dockerfile_text(), any::<String>()]) {
        for text in [text.clone(), format!("FROM a\n{text}")] {
            if let Err(error) = parse(&text) {
                let lines = text.split('\n').count() as u32;
                prop_assert!(error.span.line <= lines && error.span.end_line <= lines, "{:?}", error.span);
            }
        }
        let _ = parse_trigger(&text, '`', Span::lines(1, 1));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_bytes(&bytes);
        let _ = parse_bytes(&[b"FROM a\nRUN ", bytes.as_slice()].concat());
    }

    #[test]
    fn no_word_panics(
        word in prop_oneof!["[${}a:#%/*?'\"\\\\<`+-]{0,40}", any::<String>()],
        flags in any::<[bool; 4]>(),
        escape in prop_oneof![Just('\\'), Just('`')],
    ) {
        let [raw_quotes, raw_escapes, skip_process_quotes, skip_unset_env] = flags;
        let expander = Expander { escape, raw_quotes, raw_escapes, skip_process_quotes, skip_unset_env };
        let env = [("a".to_string(), "x*y\n?$a".to_string())];
        let _ = expander.expand_word(&word, &env[..]);
        let _ = expander.expand_words(&word, &env[..]);
        let _ = Mount::parse(&word, |value| Ok(value.to_string()));
        let _ = expose::parse(&word);
        let _ = git_ref::parse(&word);
        let _ = git_ref::parse(&format!("https://h/a.git?{word}"));
    }
}

/// What both parsers understand: names of the bases, and shell-form RUN, line for line.
fn outline(file: &Dockerfile) -> Vec<String> {
    let run = |instruction: &Instruction| match instruction {
        Instruction::Run(run) => match &run.command {
            CommandLine::Shell(text) => Some(format!("RUN {}", text.split_whitespace().collect::<Vec<_>>().join(" "))),
            CommandLine::Exec(words) => Some(format!("RUN {words:?}")),
        },
        _ => None,
    };
    let mut out = Vec::new();
    for stage in &file.stages {
        out.push(format!("FROM {}", stage.base));
        out.extend(stage.instructions.iter().filter_map(|located| run(&located.value)));
    }
    out
}

fn other_outline(file: &dockerfile_parser::Dockerfile) -> Vec<String> {
    use dockerfile_parser::{Instruction as Other, ShellOrExecExpr};
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = |instruction: &Other| match instruction {
        Other::From(from) => Some(format!("FROM {}", from.image.content)),
        Other::Run(run) => Some(match &run.expr {
            ShellOrExecExpr::Shell(text) => format!("RUN {}", words(text.to_string())),
            ShellOrExecExpr::Exec(exec) => {
                format!("RUN {:?}", exec.as_str_vec())
            }
        }),
        _ => None,
    };
    file.instructions.iter().filter_map(line).collect()
}

/// Files of the recorded data in the older part of the language: no here-documents, flags or escapes.
fn classic() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/conformance/dockerfile/parse.jsonl");
    let data = std::fs::read_to_string(path).expect("readable");
    let plain = |text: &String| {
        !["<<", "--", "escape", "\"", "'", "\\\\", "\r", "\u{feff}"].iter().any(|odd| text.contains(odd))
            && !text.contains('\\')
            && syntax::read(text, '\\').is_ok_and(|file| file.nodes.iter().all(|node| node.comments.is_empty()))
    };
    data.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|case| case["kind"] == "parse-ok")
        .filter_map(|case| case["input"]["dockerfile"].as_str().map(str::to_string))
        .filter(plain)
        .collect()
}

/// An independent parser agrees on every classic file that it can read at all.
#[test]
fn a_second_parser_agrees_on_the_classic_language() {
    let (mut agreed, mut refused) = (0, 0);
    for text in classic() {
        let ours = parse(&text).expect("valid");
        match dockerfile_parser::Dockerfile::parse(&text) {
            Ok(theirs) => {
                assert_eq!(outline(&ours), other_outline(&theirs), "{text}");
                agreed += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(agreed > 100, "{agreed} files agreed, {refused} it cannot read");
}
