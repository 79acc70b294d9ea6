//! Times the front end: `cargo run --release --example frontend_speed`. Figures, not a test: machines differ.

use dockless::context::ignore::{IgnoreFile, Patterns, parse_file};
use dockless::context::{ContextDir, SourceTree};
use dockless::dockerfile::{self, expand::Expander};
use dockless::oci::{Digest, ImageConfig, Platform};
use dockless::plan::{BaseImage, PlanOptions, Planner, lint_options};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

/// The best and the middle of several runs.
fn time(runs: usize, mut work: impl FnMut()) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    (times[0], times[runs / 2])
}

/// A Dockerfile of 60 instructions in three stages, of the kinds that people write.
fn sixty() -> String {
    let mut text = String::from("ARG BASE=debian\nFROM ${BASE} AS build\n");
    for n in 0..12 {
        text += &format!(
            "ARG A{n}=${{B{n}:-x}}\nENV E{n}=\"$A{n}/${{PATH}}\" F{n}=2\nRUN --mount=type=cache,target=/c{n} make \\\n    \
             -j$(nproc) all && \\\n    make install\nCOPY --chown=1:1 src{n}/*.c ${{E{n}}}/dir/\n"
        );
    }
    text += "FROM build AS test\nRUN make test\nFROM scratch\nCOPY --from=build /out /\n";
    text += "USER 1\nWORKDIR /w\nLABEL a=b\nEXPOSE 80/tcp\nENTRYPOINT [\"/x\"]\nCMD [\"y\"]\n";
    text
}

fn plan(text: &str, options: &PlanOptions) -> usize {
    let file = dockerfile::parse(text).expect("it parses");
    let mut planner = Planner::for_check(&file, options).expect("it plans");
    for request in planner.wanted() {
        let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        planner.supply(&request, BaseImage { digest: Digest::sha256(b"base"), config }).expect("no triggers");
    }
    let plan = planner.finish().expect("it plans");
    let wanted = lint_options(&file, &[]).expect("no options");
    plan.lints(&file, &wanted, |_| false).len()
}

fn main() {
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let options = PlanOptions {
        target: None,
        build_args: Vec::new(),
        labels: Vec::new(),
        platform: platform.clone(),
        platform_is_explicit: false,
        build_platform: platform,
        source_date_epoch: None,
        named_contexts: BTreeMap::new(),
    };
    let mut out = std::io::stdout().lock();
    let mut row = |what: &str, (best, middle): (Duration, Duration)| {
        writeln!(out, "{what:<58} best {best:>10.3?}  median {middle:>10.3?}").expect("standard output");
    };

    let text = sixty();
    let count = dockerfile::syntax::read(&text, '\\').expect("it parses").nodes.len();
    row(
        &format!("parse, plan and lint {count} instructions"),
        time(200, || {
            let _ = black_box(plan(&text, &options));
        }),
    );

    let line = "RUN echo some words of an ordinary line && echo some more of them # like this\n";
    let text = format!("FROM scratch\n{}", line.repeat((10 << 20) / line.len()));
    row(
        "parse 10 MB in 78-byte instructions",
        time(3, || {
            let _ = black_box(dockerfile::parse(&text));
        }),
    );
    row(
        "parse, plan and lint them",
        time(3, || {
            let _ = black_box(plan(&text, &options));
        }),
    );
    let text = format!("FROM scratch\nRUN <<E\n{}E\n", "a line of a here-document\n".repeat((10 << 20) / 26));
    row(
        "parse 10 MB in one here-document",
        time(3, || {
            let _ = black_box(dockerfile::parse(&text));
        }),
    );
    let text = format!("FROM scratch\nRUN true{}\n", " && \\\n  true".repeat(100_000));
    row(
        "parse, plan and lint 100,000 continuation lines",
        time(3, || {
            let _ = black_box(plan(&text, &options));
        }),
    );
    let text = format!("FROM scratch\nENV{}\n", " \\\n  A=b".repeat(100_000));
    row(
        "parse an ENV of 100,000 continuation lines",
        time(3, || {
            let _ = black_box(dockerfile::parse(&text));
        }),
    );

    let nested = format!("{}x{}", "${a:-".repeat(120), "}".repeat(120));
    let no_env: &[(String, String)] = &[];
    row(
        "expand ${a:-${a:-…}} 120 deep",
        time(20, || {
            let _ = black_box(Expander::new('\\').expand_word(&nested, no_env));
        }),
    );
    let too_deep = format!("{}x{}", "${a:-".repeat(100_000), "}".repeat(100_000));
    row(
        "refuse it 100,000 deep",
        time(20, || {
            let _ = black_box(Expander::new('\\').expand_word(&too_deep, no_env));
        }),
    );

    let context = tempfile::tempdir().expect("a directory");
    for dir in 0..200 {
        let path = context.path().join(format!("src/module{dir}"));
        std::fs::create_dir_all(&path).expect("a directory");
        for file in 0..100 {
            let kind = ["rs", "log", "md", "o"][file % 4];
            std::fs::write(path.join(format!("file{file}.{kind}")), "content").expect("a file");
        }
    }
    let ignore =
        "# usual\n.git\n**/*.log\n**/node_modules\ntarget\n*.tmp\n**/.cache/**\n!src/module7/file1.log\n**/*.o\n";
    let bare = time(15, || {
        let _ = black_box(walk(context.path(), None));
    });
    let filtered = time(15, || {
        let _ = black_box(walk(context.path(), Some(ignore)));
    });
    let least = |(best, middle): (Duration, Duration), (bare, bare_middle): (Duration, Duration)| {
        (best.saturating_sub(bare), middle.saturating_sub(bare_middle))
    };
    row("walk 20,000 files", bare);
    row("the same with 8 patterns, a quarter of the files left", filtered);
    row("what the patterns cost on top (negative is 0)", least(filtered, bare));
    let all = time(15, || {
        let _ = black_box(walk(context.path(), Some("nothing\n**/*.zip\n!x\na/b\nc/**\n*.y\nz*\n**/q\n")));
    });
    row("with 8 patterns that leave nothing out, on top", least(all, bare));
}

/// Walks a context as a COPY of all of it does; how many files it has.
fn walk(path: &std::path::Path, ignore: Option<&str>) -> usize {
    let ignore = ignore.map(|text| IgnoreFile {
        path: "x".into(),
        patterns: Patterns::new(parse_file(text.as_bytes())).expect("patterns"),
    });
    let context = ContextDir::open(path, ignore).expect("a context");
    let (mut todo, mut files) = (vec![Vec::new()], 0);
    while let Some(dir) = todo.pop() {
        for name in context.read_dir(&dir).expect("a directory") {
            let path = if dir.is_empty() { name } else { [&dir[..], b"/", &name].concat() };
            let meta = context.metadata(&path).expect("readable").expect("in the tree");
            if meta.is_dir() {
                todo.push(path);
            } else {
                let _ = black_box(context.link_identity(&path));
                files += 1;
            }
        }
    }
    files
}
