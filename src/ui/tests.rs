use super::*;
use crate::progress::{Outcome, StepId, Stream};
use std::sync::Arc;

/// A clock that stands, so that output can be compared whole.
fn frozen() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Keeps each write apart.
#[derive(Clone, Default)]
struct Pages(Arc<Mutex<Vec<String>>>);

impl Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn drawn(mode: Mode, events: Vec<Event>, end: impl Fn(&Screen)) -> Vec<String> {
    let pages = Pages::default();
    let screen = Screen::on(Look { mode, colour: false, explain: false }, Box::new(pages.clone()), frozen);
    events.into_iter().for_each(|event| screen.emit(event));
    end(&screen);
    pages.0.lock().unwrap().clone()
}

fn started(id: u64, name: &str) -> Event {
    Event::Started { id: StepId(id), name: name.into(), line: Some(4) }
}

fn wrote(id: u64, stream: Stream, data: &[u8]) -> Event {
    Event::Output { id: StepId(id), stream, data: data.to_vec() }
}

fn finished(id: u64, outcome: Outcome) -> Event {
    Event::Finished { id: StepId(id), outcome, elapsed: Duration::from_millis(1240) }
}

/// Two stages at once, a base that is pulled, a step from the cache.
fn story(last: Outcome) -> Vec<Event> {
    vec![
        Event::Planned { steps: 4 },
        started(90, "[internal] FROM debian:12"),
        Event::Transferred { id: StepId(90), done: 34_100_000, total: Some(34_100_000) },
        finished(90, Outcome::Done),
        started(10, "[build 1/1] RUN make\tall"),
        started(20, "[stage-1 1/2] RUN echo"),
        wrote(10, Stream::Stdout, b"cc -c ma"),
        wrote(20, Stream::Stdout, b"\x1b[1mhello\x1b[0m\n"),
        wrote(10, Stream::Stderr, b"warning: bad \xff\n"),
        wrote(10, Stream::Stdout, b"in.c\r\n10%\r20%\r100%"),
        Event::Note { id: Some(StepId(20)), text: "cache: ARG VERSION changed".into() },
        Event::Warning { text: "StageNameCasing: line 1".into() },
        Event::Warning { text: "StageNameCasing: line 1".into() },
        finished(20, Outcome::Cached("local".into())),
        finished(10, last),
    ]
}

const PLAIN: &str = "\
#1 [internal] FROM debian:12
#1 DONE 1.2s 34.1MB
#2 [build 1/1] RUN make\tall
#3 [stage-1 1/2] RUN echo
#3 0.000 hello
#2 0.000 warning: bad \u{fffd}
#2 0.000 cc -c main.c
#3 note: cache: ARG VERSION changed
warning: StageNameCasing: line 1
#3 CACHED 1.2s local
";

#[test]
fn plain_tells_interleaved_stages_apart() {
    let pages = drawn(Mode::Plain, story(Outcome::Done), Screen::succeed);
    let expected = "\
#2 1.240 100%
#2 DONE 1.2s
1 warning:
  StageNameCasing: line 1
done: 3 steps, 1 cached, 0.0s
";
    assert_eq!(pages.concat(), format!("{PLAIN}{expected}"));
    // Each write is made of whole lines, so that another process's lines never stand inside ours.
    assert!(pages.iter().all(|page| page.ends_with('\n')), "{pages:?}");
}

#[test]
fn plain_repeats_the_output_of_the_step_that_failed() {
    let diagnostic = Diagnostic::new(Kind::Run, "'make all' exited with code 2");
    let pages = drawn(Mode::Plain, story(Outcome::Failed), |screen| screen.fail(&diagnostic));
    let expected = "\
#2 1.240 100%
#2 ERROR 1.2s
------
last output of #2 [build 1/1] RUN make\tall:
warning: bad \u{fffd}
cc -c main.c
100%
------
1 warning:
  StageNameCasing: line 1
error: 'make all' exited with code 2
";
    assert_eq!(pages.concat(), format!("{PLAIN}{expected}"));
}

#[test]
fn quiet_says_only_what_failed() {
    assert_eq!(drawn(Mode::Quiet, story(Outcome::Done), Screen::succeed).concat(), "");
    let diagnostic = Diagnostic::new(Kind::Run, "exit code 2");
    let text = drawn(Mode::Quiet, story(Outcome::Failed), |screen| screen.fail(&diagnostic)).concat();
    assert!(text.starts_with("------\nlast output of #2 "), "{text}");
    assert!(text.ends_with("error: exit code 2\n"), "{text}");
}

#[test]
fn json_is_one_object_a_line() {
    let text = drawn(Mode::RawJson, story(Outcome::Done), Screen::succeed).concat();
    let expected = r#"{"event":"planned","steps":4,"time":0.0}
{"event":"started","line":4,"name":"[internal] FROM debian:12","step":1,"time":0.0}
{"done":34100000,"event":"transferred","step":1,"time":0.0,"total":34100000}
{"event":"finished","from":null,"outcome":"done","seconds":1.24,"step":1,"time":0.0}
{"event":"started","line":4,"name":"[build 1/1] RUN make\tall","step":2,"time":0.0}
{"event":"started","line":4,"name":"[stage-1 1/2] RUN echo","step":3,"time":0.0}
{"event":"output","step":3,"stream":"stdout","text":"hello","time":0.0}
{"event":"output","step":2,"stream":"stderr","text":"warning: bad �","time":0.0}
{"event":"output","step":2,"stream":"stdout","text":"cc -c main.c","time":0.0}
{"event":"note","step":3,"text":"cache: ARG VERSION changed","time":0.0}
{"event":"warning","text":"StageNameCasing: line 1","time":0.0}
{"event":"finished","from":"local","outcome":"cached","seconds":1.24,"step":3,"time":0.0}
{"event":"output","step":2,"stream":"stdout","text":"100%","time":0.0}
{"event":"finished","from":null,"outcome":"done","seconds":1.24,"step":2,"time":0.0}
{"cached":1,"event":"succeeded","steps":3,"time":0.0}
"#;
    assert_eq!(text, expected);
}

#[test]
fn json_says_where_it_failed() {
    let span = crate::dockerfile::span::Span { line: 2, end_line: 2, column: 5, end_column: 9 };
    let source = Snippet { file: "Dockerfile".into(), text: "a\nb".into(), span };
    let diagnostic = Diagnostic::new(Kind::Run, "exit code 2").at(source);
    let text = drawn(Mode::RawJson, vec![], |screen| screen.fail(&diagnostic)).concat();
    let expected = concat!(
        r#"{"causes":[],"event":"error","exit":1,"hints":[],"kind":"run","message":"exit code 2","#,
        r#""source":{"column":5,"end_column":9,"end_line":2,"file":"Dockerfile","line":2},"time":0.0}"#,
        "\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn the_look_follows_the_flag_and_the_terminal() {
    let terminal = Terminal { is_terminal: true, term: Some("xterm".into()), ..Terminal::default() };
    let dumb = Terminal { term: Some("dumb".into()), ..terminal.clone() };
    let ci = Terminal { ci: true, ..terminal.clone() };
    let no_color = Terminal { no_color: true, clicolor_force: true, ..terminal.clone() };
    let pipe = Terminal::default();
    let forced = Terminal { clicolor_force: true, ..pipe.clone() };
    let off = Terminal { clicolor_off: true, ..terminal.clone() };
    let cases = [
        (Choice::Auto, &terminal, Mode::Tty, true),
        (Choice::Auto, &dumb, Mode::Plain, false),
        (Choice::Auto, &ci, Mode::Plain, true),
        (Choice::Auto, &pipe, Mode::Plain, false),
        (Choice::Auto, &no_color, Mode::Tty, false),
        (Choice::Auto, &off, Mode::Tty, false),
        (Choice::Auto, &forced, Mode::Plain, true),
        (Choice::Plain, &terminal, Mode::Plain, true),
        (Choice::Tty, &ci, Mode::Tty, true),
        (Choice::Tty, &pipe, Mode::Plain, false),
        (Choice::RawJson, &terminal, Mode::RawJson, true),
        (Choice::Quiet, &pipe, Mode::Quiet, false),
    ];
    for (choice, terminal, mode, colour) in cases {
        assert_eq!(Look::choose(choice, terminal), Look { mode, colour, explain: false }, "{choice:?} {terminal:?}");
    }
}
