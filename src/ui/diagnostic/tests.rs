use super::*;

fn snippet(text: &str, span: Span) -> Snippet {
    Snippet { file: "Dockerfile".into(), text: text.into(), span }
}

#[test]
fn draws_the_exact_words() {
    let text = "FROM scratch\nCOPY --from=biuld /a /b\n";
    let span = Span { line: 2, end_line: 2, column: 13, end_column: 18 };
    let drawn = Diagnostic::new(Kind::Dockerfile, "no stage is named 'biuld'")
        .at(snippet(text, span))
        .hint("did you mean 'build'?")
        .draw(false);
    assert_eq!(
        drawn,
        "error: no stage is named 'biuld'\n \
         --> Dockerfile:2:13\n  \
           |\n\
         2 | COPY --from=biuld /a /b\n  \
           |             ^^^^^\n  \
           |\n  \
           = hint: did you mean 'build'?\n"
    );
}

#[test]
fn draws_whole_lines() {
    let text = "FROM scratch\n  RUN a && \\\n      false\n";
    let drawn = Diagnostic::new(Kind::Run, "exit code 1").at(snippet(text, Span::lines(2, 3))).draw(false);
    assert_eq!(
        drawn,
        "error: exit code 1\n \
         --> Dockerfile:2:3\n  \
           |\n\
         2 | /   RUN a && \\\n\
         3 | |       false\n  \
           | |___________^\n"
    );
}

#[test]
fn a_span_outside_of_the_file_never_loses_the_message() {
    let spans = [
        Span::default(),
        Span::lines(9, 9),
        Span { line: 1, end_line: 1, column: 90, end_column: 99 },
        Span { line: 1, end_line: 1, column: 5, end_column: 2 },
        Span { line: 3, end_line: 1, column: 1, end_column: 1 },
        Span { line: 1, end_line: 1, column: 3, end_column: 4 },
        Span { line: u32::MAX, end_line: u32::MAX, column: u32::MAX, end_column: u32::MAX },
    ];
    for text in ["", "é\u{1F433}\n", "FROM x\r\n", "\n\n\n"] {
        for span in spans {
            let drawn = Diagnostic::new(Kind::Dockerfile, "wrong").at(snippet(text, span)).draw(false);
            assert!(drawn.starts_with("error: wrong\n"), "{text:?} {span:?}: {drawn}");
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot reach the registry: {0}")]
struct Outer(#[source] Inner);

#[derive(Debug, thiserror::Error)]
#[error("connection refused")]
struct Inner(#[source] std::io::Error);

#[test]
fn causes_are_said_once() {
    let error = Outer(Inner(std::io::Error::from_raw_os_error(111)));
    let diagnostic = Diagnostic::from_error(Kind::Registry, &error);
    assert_eq!(diagnostic.message, "cannot reach the registry: connection refused");
    assert_eq!(diagnostic.causes, ["Connection refused (os error 111)"]);
    assert_eq!(diagnostic.exit, 1);
    assert_eq!(
        diagnostic.draw(false),
        "error: cannot reach the registry: connection refused\n |\n = cause: Connection refused (os error 111)\n"
    );
}

#[test]
fn colours_only_when_asked() {
    let diagnostic = Diagnostic::new(Kind::Usage, "no \u{1b}[31mred\u{7}");
    assert_eq!(diagnostic.draw(false), "error: no red\n");
    assert!(diagnostic.draw(true).contains("\u{1b}["));
    assert_eq!(diagnostic.exit, 2);
}
