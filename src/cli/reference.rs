//! `docs/docker-cli.md`, written from the tables and from the command line itself; the test below keeps it up to date, and
//! holds that no flag of `testdata/flags` is unknown.

use super::docker::{Meaning, VERBS};
use super::foreign::{self, Told};
use super::words::{Does, Flag};
use super::{Cli, buildah, buildctl, compose, docker, kaniko};
use clap::{Command, CommandFactory};
use std::collections::BTreeMap;
use std::fmt::Write;

const DOCUMENT: &str = "docs/docker-cli.md";
const HEAD: &str = "docs/docker-cli.head.md";

/// What becomes of a flag, as a cell of a table.
fn cell(does: Does) -> String {
    match does {
        Does::Is(ours) => format!("`{ours}`"),
        Does::Own(does) => does.to_string(),
        Does::Ignored(why) => format!("*ignored*: {why}"),
        Does::Refused(why) => format!("**refused**: {why}"),
    }
}

type Rows = BTreeMap<String, (String, String)>;

fn table(out: &mut String, rows: &Rows) {
    if rows.is_empty() {
        out.push_str("No flags.\n");
        return;
    }
    out.push_str("| flag | |\n|---|---|\n");
    for (name, (short, does)) in rows {
        let _ = writeln!(out, "| {short}`--{name}` | {} |", does.replace('|', "\\|"));
    }
}

fn of_table(flags: &[Flag]) -> Rows {
    let row = |flag: &Flag| {
        let short = if flag.short == '\0' { String::new() } else { format!("`-{}`, ", flag.short) };
        (flag.name.to_string(), (short, cell(flag.does)))
    };
    flags.iter().map(row).collect()
}

/// The flags of a verb of ours: what clap knows, and what becomes of those that are not carried out.
fn of_command(command: &Command, foreign: Option<&[foreign::Flag]>) -> Rows {
    let mut rows = Rows::new();
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long() else { continue };
        let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let told = foreign.into_iter().flatten().find(|flag| flag.name() == long).map(foreign::Flag::told);
        let does = match told {
            Some(Told::Ignored(why)) => format!("*ignored*: {why}"),
            Some(Told::Refused(why)) => format!("**refused**: {why}"),
            None => argument.get_help().map(ToString::to_string).unwrap_or_default(),
        };
        // Flags that only the translations of other tools use.
        let only_ours = argument.is_hide_set() && told.is_none() && !does.starts_with("Accepted");
        if !only_ours && long != "help" {
            rows.insert(long.to_string(), (short, does));
        }
    }
    rows
}

/// The verb of ours that these words name.
fn command<'c>(root: &'c Command, words: &str) -> &'c Command {
    words.split(' ').filter(|word| !word.starts_with('-')).fold(root, |command, word| {
        command.find_subcommand(word).unwrap_or_else(|| panic!("there is no verb '{words}'"))
    })
}

fn document() -> String {
    let mut out = std::fs::read_to_string(HEAD).expect("the text before the tables");
    let root = Cli::command();
    out.push_str("\n## Verbs of docker\n\n| docker | |\n|---|---|\n");
    let mut natives: Vec<(&str, &str)> = Vec::new();
    for verb in VERBS {
        let does = match verb.meaning {
            Meaning::Native(native) => {
                let plain = native.split(" --").next().unwrap_or(native);
                if natives.iter().all(|(_, known)| *known != plain) {
                    natives.push((verb.words, plain));
                }
                format!("`dockless {native}`")
            }
            Meaning::Own { does, .. } => does.to_string(),
            Meaning::Compose => "`build`, `push` and `version`; other verbs are **refused**".to_string(),
            Meaning::Unsupported(instead) => format!("**refused**: {instead}"),
        };
        let _ = writeln!(out, "| `{}` | {} |", verb.words, does.replace('|', "\\|"));
    }
    out.push_str("\n## Flags before the verb\n\n");
    table(&mut out, &of_table(docker::GLOBAL));
    for (words, native) in natives {
        let _ = write!(out, "\n## docker {words}\n\n");
        table(&mut out, &of_command(command(&root, native), foreign::of(native)));
    }
    for verb in VERBS {
        if let Meaning::Own { flags, .. } = verb.meaning
            && !flags.is_empty()
        {
            let _ = write!(out, "\n## docker {}\n\n", verb.words);
            table(&mut out, &of_table(flags));
        }
    }
    for (name, flags) in [
        ("docker compose, before the verb", compose::GLOBAL),
        ("docker compose build", compose::BUILD),
        ("docker compose push", compose::PUSH),
        ("/kaniko/executor", kaniko::FLAGS),
        ("buildctl, before the verb", buildctl::GLOBAL),
        ("buildctl build", buildctl::BUILD),
    ] {
        let _ = write!(out, "\n## {name}\n\n");
        table(&mut out, &of_table(flags));
    }
    out.push_str("\n### Keys of `buildctl build --opt`\n\n| key | |\n|---|---|\n");
    for (key, does) in buildctl::OPTIONS {
        let _ = writeln!(out, "| `{key}` | {} |", cell(*does));
    }
    out.push_str("\n## buildah, before the verb\n\n");
    table(&mut out, &of_table(buildah::GLOBAL));
    for (verb, flags, _) in buildah::VERBS {
        let _ = write!(out, "\n## buildah {verb}\n\n");
        table(&mut out, &of_table(flags));
    }
    out
}

/// `UPDATE_DOCS=1 cargo test --lib cli::reference` writes it anew.
#[test]
fn the_documentation_is_that_of_the_tables() {
    let text = document();
    if super::Environment::read().get("UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &text).expect("writable");
    }
    let written = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(written == text, "{DOCUMENT} is out of date: UPDATE_DOCS=1 cargo test --lib cli::reference");
}

/// Whether a verb of ours has a flag under another name, too.
fn is_alias(list: &str, flag: &str) -> bool {
    let root = Cli::command();
    let verb = list.strip_prefix("docker-").and_then(|verb| root.find_subcommand(verb));
    let mut arguments = verb.into_iter().flat_map(Command::get_arguments);
    arguments.any(|argument| argument.get_all_aliases().is_some_and(|names| names.contains(&flag)))
}

/// Every flag that a tool has, as the lists of `testdata/flags` have them, is in its table.
#[test]
fn no_flag_of_another_tool_is_unknown() {
    let root = Cli::command();
    let native = |verb: &str| of_command(command(&root, verb), foreign::of(verb));
    let mut missing = Vec::new();
    for entry in std::fs::read_dir("testdata/flags").expect("testdata/flags") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let known = match name.as_str() {
            "kaniko" => of_table(kaniko::FLAGS),
            "buildctl-build" => of_table(buildctl::BUILD),
            "compose-build" => of_table(compose::BUILD),
            "docker-global" => of_table(docker::GLOBAL),
            _ => match name.split_once('-') {
                Some(("docker", verb)) => native(&verb.replace('-', " ")),
                Some(("buildah", verb)) => {
                    let found = buildah::VERBS.iter().find(|(known, ..)| *known == verb);
                    of_table(found.unwrap_or_else(|| panic!("buildah {verb}")).1)
                }
                _ => panic!("{name}: no such tool"),
            },
        };
        let text = std::fs::read_to_string(&path).expect("readable");
        for flag in text.split_whitespace() {
            if !known.contains_key(flag) && !is_alias(&name, flag) {
                missing.push(format!("{name}: --{flag}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Each verb that is said to be one of ours is one.
#[test]
fn native_verbs_exist() {
    let root = Cli::command();
    for verb in VERBS {
        if let Meaning::Native(native) = verb.meaning {
            command(&root, native);
        }
    }
}
