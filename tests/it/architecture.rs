//! Holds the arrows between modules, and what may be used where. The map is in `src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Level of each module; a module may use modules of lower levels, and those that `SIDEWAYS` allows.
const LEVELS: &[(&str, u8)] = &[
    ("oci", 0),
    ("overrides", 0),
    ("dockerfile", 0),
    ("progress", 0),
    ("http", 0),
    ("secret", 0),
    ("sys", 0),
    ("store", 1),
    ("context", 1),
    ("plan", 1),
    ("sandbox", 1),
    ("git", 1),
    ("rootfs", 2),
    ("registry", 2),
    ("build", 3),
    ("run", 3),
    ("images", 3),
    ("ui", 4),
    ("cli", 5),
    ("main", 6),
];

/// Arrows within one level.
const SIDEWAYS: &[(&str, &str)] = &[("http", "oci"), ("http", "progress"), ("http", "secret"), ("overrides", "oci")];

/// Text that only the named modules may hold, tests left out.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("unsafe ", &["sys"], "unsafe code stands in sys"),
    ("std::env::var", &["cli"], "the environment is read in cli"),
    ("env::vars", &["cli"], "the environment is read in cli"),
    ("env::current_dir", &["cli"], "the current directory is read in cli"),
    ("set_var(", &[], "no process-wide state"),
    ("set_current_dir(", &[], "no process-wide state"),
    ("static mut ", &[], "no process-wide state"),
    ("println!(", &["ui"], "ui prints"),
    ("io::stdout()", &["ui"], "ui prints"),
    ("io::stderr()", &["ui"], "ui prints"),
    ("tokio::", &["http", "registry"], "async stays in http and registry"),
    ("reqwest::", &["http", "registry"], "async stays in http and registry"),
    ("async fn", &["http", "registry"], "async stays in http and registry"),
    ("use super::super::", &[], "an arrow that this test cannot see; write crate::"),
];

/// Pure modules: no I/O at all.
const PURE: &[&str] = &["dockerfile", "plan"];
const IO: &[&str] = &["std::fs", "fs_err", "std::net", "std::process", "std::env", "rustix::", "SystemTime::now"];

fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix("src").expect("under src");
    let first = inside.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
            out.push(path);
        }
    }
}

/// The code of a file: without its test module and without comments and string contents that would mislead.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("readable");
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn level(module: &str) -> Option<u8> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|(_, level)| *level)
}

/// Modules that `code` names by `crate::NAME`, in `use` lists too.
fn arrows(code: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, found) in code.match_indices("crate::").chain(code.match_indices("dockless::")) {
        let rest = &code[at + found.len()..];
        let names: Vec<String> = match rest.strip_prefix('{') {
            Some(list) => top_level_names(list),
            None => vec![rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()],
        };
        out.extend(names);
    }
    out
}

/// First segments in `a::b, c::{d, e}, f}`.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut depth, mut word, mut out) = (0, String::new(), Vec::new());
    let mut in_first = true;
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(std::mem::take(&mut word));
                in_first = true;
            }
            ':' if depth == 0 => in_first = false,
            c if depth == 0 && in_first && !c.is_whitespace() => word.push(c),
            _ => {}
        }
    }
    out.push(word);
    out.retain(|w| !w.is_empty());
    out
}

#[test]
fn every_arrow_points_down() {
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    sources(Path::new("src"), &mut files);
    for file in files {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        let own = level(&module).unwrap_or_else(|| panic!("{module} has no level in tests/it/architecture.rs"));
        for target in arrows(&code(&file)) {
            let Some(other) = level(&target) else { continue };
            let sideways = SIDEWAYS.contains(&(module.as_str(), target.as_str()));
            if target != module && other >= own && !sideways {
                wrong.push(format!("{}: {module} (level {own}) uses {target} (level {other})", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn things_stand_where_they_belong() {
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    sources(Path::new("src"), &mut files);
    for file in files {
        let (module, code) = (module_of(&file), code(&file));
        for (text, allowed, why) in ONLY {
            if code.contains(text) && !allowed.contains(&module.as_str()) {
                wrong.push(format!("{}: '{text}': {why}", file.display()));
            }
        }
        for text in IO {
            if PURE.contains(&module.as_str()) && code.contains(text) {
                wrong.push(format!("{}: '{text}': {module} is pure", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The test itself can fail: it sees arrows in every way of writing them.
#[test]
fn sees_arrows_however_they_are_written() {
    let code = "use crate::oci::Digest;\nuse crate::{store::Store, build::{a, b}, ui};\nlet x = crate::cli::main();";
    assert_eq!(arrows(code), ["oci", "store", "build", "ui", "cli"]);
}

#[test]
fn files_stay_readable() {
    let (mut files, mut long) = (Vec::new(), Vec::new());
    sources(Path::new("src"), &mut files);
    for file in files {
        let lines = code(&file).lines().count();
        if lines > 500 {
            long.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(long.is_empty(), "files over 500 lines of code:\n{}", long.join("\n"));
}
