//! The text layers: parser, typed instructions, word expansion and the small tables.

use dockless::dockerfile::expand::Expander;
use dockless::dockerfile::mount::{Device, Mount, MountKind, Sharing};
use dockless::dockerfile::syntax::{self, Args, Node};
use dockless::dockerfile::{self, ParseErrorKind, directive, expose, git_ref, heredoc, instruction::*, lint};
use serde_json::{Map, Value, json};

use super::{Case, Check, difference, run};

#[test]
fn text_layers_do_as_buildkit_does() {
    run::<Check>(&[
        ("parse-ok", parse_ok),
        ("parse-error", parse_error),
        ("shell-lex", shell_lex),
        ("heredoc-word", heredoc_word),
        ("directive", directive_case),
        ("expose-port", expose_port),
        ("git-ref", git_ref),
        ("lint-secret-key", lint_secret_key),
    ]);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn truth(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

/// The Dockerfile of a case.
fn source(case: &Case) -> Vec<u8> {
    use base64::Engine;
    match case.input["dockerfile_b64"].as_str() {
        Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64"),
        None => text(&case.input["dockerfile"]).as_bytes().to_vec(),
    }
}

fn parse_ok(case: &Case) -> Result<(), String> {
    let bytes = source(case);
    let text = String::from_utf8_lossy(&bytes);
    let syntax = syntax::read(&text, '\\').map_err(|error| format!("refused: {error}"))?;
    let nodes: Vec<Value> = syntax.nodes.iter().map(node_json).collect();
    let dump: Vec<String> = syntax.nodes.iter().map(|node| format!("({})", dump(node))).collect();
    let ast = json!({ "nodes": nodes, "escape": syntax.escape.to_string(), "dump": dump.join("\n") });
    difference(&case.expect["ast"], &ast, "ast")?;
    let file = dockerfile::parse_bytes(&bytes).map_err(|error| format!("refused: {error}"))?;
    let mut expected = case.expect["program"].clone();
    strip_scripts(&mut expected);
    difference(&expected, &program(&file), "program")?;
    let check = file.directives.check.as_ref().map(|(value, _)| json!(value)).unwrap_or_default();
    difference(&case.expect["check"], &check, "check")?;
    let syntax = directive::detect(&text, "syntax", true)
        .map(|found| json!({ "ref": found.value, "cmdline": found.line_value, "line": found.line }));
    difference(&case.expect["syntax"], &syntax.unwrap_or_default(), "syntax")?;
    lints(case, &file)
}

/// The lints that BuildKit's parser gives; those of its later steps come with the kind `lint`.
fn lints(case: &Case, file: &Dockerfile) -> Result<(), String> {
    const EARLY: [&str; 3] = ["FromAsCasing", "MaintainerDeprecated", "StageNameCasing"];
    let line = |warning: &lint::Warning| json!({ "line": warning.span.line });
    let empty = file.warnings.iter().filter(|warning| warning.rule == "NoEmptyContinuation");
    let strip = |warning: &Value| json!({ "line": warning["line"] });
    let expected = case.expect["parse_warnings"].as_array().into_iter().flatten().map(strip);
    difference(&expected.collect(), &empty.map(line).collect(), "parse_warnings")?;
    let check = file.directives.check.as_ref().map_or("", |(value, _)| value);
    let options = lint::Options::parse(check).map_err(|error| error.to_string())?;
    let early = file.warnings.iter().filter(|warning| EARLY.contains(&warning.rule) && options.wants(warning.rule));
    let triple = |rule: &str, line: u64, text: &str| (line, rule.to_string(), text.to_string());
    let mut actual: Vec<_> = early.map(|w| triple(w.rule, w.span.line.into(), &w.detail)).collect();
    let expected = case.expect["parse_lints"].as_array().into_iter().flatten();
    let mut expected: Vec<_> = expected
        .map(|lint| triple(text(&lint["rule"]), lint["line"].as_u64().unwrap_or_default(), text(&lint["msg"])))
        .collect();
    actual.sort();
    expected.sort();
    difference(&json!(expected), &json!(actual), "parse_lints")
}

/// Strips the tabs of RUN's `<<-` where it is the whole command; BuildKit does so one step later.
fn strip_scripts(program: &mut Value) {
    for stage in program["stages"].as_array_mut().into_iter().flatten() {
        for command in stage["commands"].as_array_mut().into_iter().flatten() {
            let line = text(&command["cmd_line"][0]).to_string();
            let whole = truth(&command["prepend_shell"]) && heredoc::parse_word(&line).is_ok_and(|word| word.is_some());
            match command["files"].as_array_mut() {
                Some(files) if whole && files.len() == 1 && truth(&files[0]["chomp"]) => {
                    files[0]["data"] = json!(heredoc::strip_tabs(text(&files[0]["data"])));
                }
                _ => {}
            }
        }
    }
}

fn node_json(node: &Node) -> Value {
    let mut out = Map::new();
    out.insert("cmd".into(), json!(node.command.text));
    out.insert("original".into(), json!(node.original()));
    out.insert("start".into(), json!(node.first()));
    out.insert("end".into(), json!(node.last));
    args_json(&node.args, node.original(), &mut out);
    if !node.flags.is_empty() {
        out.insert("flags".into(), node.flags.iter().map(|flag| flag.text.clone()).collect());
    }
    if !node.comments.is_empty() {
        out.insert("prev_comment".into(), json!(node.comments));
    }
    if !node.heredocs.is_empty() {
        let heredoc = |h: &Heredoc| json!({ "chomp": h.strip_tabs, "content": h.body, "expand": h.expand, "fd": h.fd, "name": h.name });
        out.insert("heredocs".into(), node.heredocs.iter().map(heredoc).collect());
    }
    Value::Object(out)
}

fn args_json(args: &Args, original: &str, out: &mut Map<String, Value>) {
    let list: Vec<Value> = match args {
        Args::Trigger(part) => {
            let mut inner = Map::new();
            inner.insert("cmd".into(), json!(part.command.text));
            inner.insert("original".into(), json!(&original[part.range.clone()]));
            inner.insert("start".into(), json!(0));
            inner.insert("end".into(), json!(0));
            args_json(&part.args, original, &mut inner);
            if !known(&part.command.text) {
                inner.insert("args".into(), json!([""]));
            }
            if !part.flags.is_empty() {
                inner.insert("flags".into(), part.flags.iter().map(|flag| flag.text.clone()).collect());
            }
            vec![Value::Object(inner)]
        }
        other => flat(other).into_iter().map(Value::String).collect(),
    };
    out.insert("args".into(), Value::Array(list));
    let in_json = match args {
        Args::Typed(_, command) => matches!(**command, Args::Json(..)),
        args => matches!(args, Args::Json(..)),
    };
    if in_json {
        out.insert("json".into(), json!(true));
    }
}

/// Arguments as BuildKit's list of strings; a pair is three of them.
fn flat(args: &Args) -> Vec<String> {
    match args {
        Args::Words(words) => words.iter().map(|word| word.text.clone()).collect(),
        Args::Json(strings, _) => strings.clone(),
        Args::Typed(kind, command) => std::iter::once(kind.text.clone()).chain(flat(command)).collect(),
        Args::Pairs(pairs) => {
            let triple = |pair: &syntax::Pair| {
                [pair.key.clone(), pair.value.clone(), if pair.legacy { "" } else { "=" }.to_string()]
            };
            pairs.iter().flat_map(triple).collect()
        }
        Args::Trigger(_) => Vec::new(),
    }
}

fn known(command: &str) -> bool {
    dockerfile::INSTRUCTIONS.contains(&command.to_uppercase().as_str())
}

/// BuildKit's s-expression.
fn dump(node: &Node) -> String {
    let flags: Vec<String> = node.flags.iter().map(|flag| flag.text.clone()).collect();
    dump_parts(&node.command.text, &flags, &node.args)
}

fn dump_parts(command: &str, flags: &[String], args: &Args) -> String {
    let mut out = command.to_lowercase();
    if !flags.is_empty() {
        let quoted: Vec<String> = flags.iter().map(|flag| go_quote(flag)).collect();
        out.push_str(&format!(" [{}]", quoted.join(" ")));
    }
    if let Args::Trigger(part) = args {
        let flags: Vec<String> = part.flags.iter().map(|flag| flag.text.clone()).collect();
        out.push_str(&format!(" ({})", dump_parts(&part.command.text, &flags, &part.args)));
    }
    let args = if known(command) { flat(args) } else { vec![String::new()] };
    for arg in args {
        out.push(' ');
        out.push_str(&go_quote(&arg));
    }
    out
}

fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            '\u{80}'..='\u{a0}' | '\u{feff}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn program(file: &Dockerfile) -> Value {
    let metas: Vec<Value> = file
        .global_args
        .iter()
        .map(|arg| instruction_json(&Instruction::Arg(arg.value.clone()), arg.span.line))
        .collect();
    json!({ "meta_args": metas, "stages": file.stages.iter().map(stage_json).collect::<Vec<_>>() })
}

fn stage_json(stage: &Stage) -> Value {
    let commands: Vec<Value> =
        stage.instructions.iter().map(|located| instruction_json(&located.value, located.span.line)).collect();
    let mut out = Map::new();
    out.insert("base".into(), json!(stage.base));
    out.insert("commands".into(), json!(commands));
    out.insert("lines".into(), json!([stage.span.line, stage.span.line]));
    set(&mut out, "name", stage.name.as_deref());
    set(&mut out, "platform", stage.platform.as_deref());
    set(&mut out, "doc_comment", stage.doc_comment.as_deref());
    Value::Object(out)
}

fn set(out: &mut Map<String, Value>, key: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        out.insert(key.into(), json!(value));
    }
}

fn set_true(out: &mut Map<String, Value>, key: &str, value: bool) {
    if value {
        out.insert(key.into(), json!(true));
    }
}

fn set_list<T: serde::Serialize>(out: &mut Map<String, Value>, key: &str, list: &[T]) {
    if !list.is_empty() {
        out.insert(key.into(), json!(list));
    }
}

fn instruction_json(instruction: &Instruction, line: u32) -> Value {
    let mut out = Map::new();
    out.insert("lines".into(), json!([line, line]));
    let name = match instruction {
        Instruction::Add(add) => {
            paths_json(&add.paths, &mut out);
            set(&mut out, "chown", add.chown.as_deref());
            set(&mut out, "chmod", add.chmod.as_deref());
            set(&mut out, "checksum", add.checksum.as_deref());
            set_true(&mut out, "link", add.link);
            set_list(&mut out, "exclude_patterns", &add.exclude);
            if let Some(keep) = add.keep_git_dir {
                out.insert("keep_git_dir".into(), json!(keep));
            }
            if let Some(unpack) = add.unpack {
                out.insert("unpack".into(), json!(unpack));
            }
            "ADD"
        }
        Instruction::Arg(arg) => {
            let arg_json = |arg: &ArgDefinition| {
                let mut out = Map::new();
                out.insert("key".into(), json!(arg.name));
                if let Some(default) = &arg.default {
                    out.insert("value".into(), json!(default));
                }
                set(&mut out, "doc_comment", arg.doc_comment.as_deref());
                Value::Object(out)
            };
            out.insert("args".into(), arg.args.iter().map(arg_json).collect());
            "ARG"
        }
        Instruction::Cmd(command) => {
            command_json(command, &mut out);
            "CMD"
        }
        Instruction::Copy(copy) => {
            paths_json(&copy.paths, &mut out);
            set(&mut out, "from", copy.from.as_deref());
            set(&mut out, "chown", copy.chown.as_deref());
            set(&mut out, "chmod", copy.chmod.as_deref());
            set_true(&mut out, "link", copy.link);
            set_true(&mut out, "parents", copy.parents);
            set_list(&mut out, "exclude_patterns", &copy.exclude);
            "COPY"
        }
        Instruction::Entrypoint(command) => {
            command_json(command, &mut out);
            "ENTRYPOINT"
        }
        Instruction::Env(pairs) => {
            out.insert("env".into(), pairs_json(pairs));
            "ENV"
        }
        Instruction::Expose(ports) => {
            let mut sorted = ports.clone();
            sorted.sort();
            out.insert("ports".into(), json!(sorted));
            "EXPOSE"
        }
        Instruction::Healthcheck(healthcheck) => {
            out.insert("health".into(), health_json(healthcheck));
            "HEALTHCHECK"
        }
        Instruction::Label(pairs) => {
            out.insert("labels".into(), pairs_json(pairs));
            "LABEL"
        }
        Instruction::Maintainer(name) => {
            out.insert("maintainer".into(), json!(name));
            "MAINTAINER"
        }
        Instruction::Onbuild(trigger) => {
            out.insert("expression".into(), json!(trigger));
            "ONBUILD"
        }
        Instruction::Run(command) => {
            run_json(command, &mut out);
            "RUN"
        }
        Instruction::Shell(shell) => {
            out.insert("shell".into(), json!(shell));
            "SHELL"
        }
        Instruction::Stopsignal(signal) => {
            out.insert("signal".into(), json!(signal));
            "STOPSIGNAL"
        }
        Instruction::User(user) => {
            out.insert("user".into(), json!(user));
            "USER"
        }
        Instruction::Volume(volumes) => {
            out.insert("volumes".into(), json!(volumes));
            "VOLUME"
        }
        Instruction::Workdir(path) => {
            out.insert("path".into(), json!(path));
            "WORKDIR"
        }
    };
    out.insert("instruction".into(), json!(name));
    Value::Object(out)
}

fn paths_json(paths: &SourcesAndDest, out: &mut Map<String, Value>) {
    set(out, "dest_path", Some(&paths.dest));
    set_list(out, "source_paths", &paths.sources);
    let content = |heredoc: &Heredoc| {
        let mut out = Map::new();
        out.insert("data".into(), json!(heredoc.body));
        out.insert("path".into(), json!(heredoc.name));
        set_true(&mut out, "expand", heredoc.expand);
        Value::Object(out)
    };
    set_list(out, "source_contents", &paths.heredocs.iter().map(content).collect::<Vec<_>>());
}

fn command_json(command: &CommandLine, out: &mut Map<String, Value>) {
    let (words, shell) = match command {
        CommandLine::Shell(text) if text.is_empty() => (Vec::new(), true),
        CommandLine::Shell(text) => (vec![text.clone()], true),
        CommandLine::Exec(words) => (words.clone(), false),
    };
    out.insert("cmd_line".into(), json!(words));
    out.insert("prepend_shell".into(), json!(shell));
}

fn pairs_json(pairs: &[KeyValue]) -> Value {
    let pair = |pair: &KeyValue| {
        let mut out = Map::new();
        out.insert("key".into(), json!(pair.key));
        out.insert("value".into(), json!(pair.value));
        set_true(&mut out, "no_delim", pair.legacy);
        Value::Object(out)
    };
    pairs.iter().map(pair).collect()
}

fn health_json(healthcheck: &Healthcheck) -> Value {
    let (test, times, retries) = match healthcheck {
        Healthcheck::None => (vec!["NONE".to_string()], [0; 4], 0),
        Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                CommandLine::Shell(text) => vec!["CMD-SHELL".to_string(), text.clone()],
                CommandLine::Exec(words) => std::iter::once("CMD".to_string()).chain(words.iter().cloned()).collect(),
            };
            (test, [*interval, *timeout, *start_period, *start_interval], *retries)
        }
    };
    json!({ "test": test, "interval": times[0], "timeout": times[1], "start_period": times[2],
            "start_interval": times[3], "retries": retries })
}

fn run_json(run: &RunInstruction, out: &mut Map<String, Value>) {
    command_json(&run.command, out);
    let file = |heredoc: &Heredoc| {
        let mut out = Map::new();
        out.insert("data".into(), json!(heredoc.body));
        out.insert("name".into(), json!(heredoc.name));
        set_true(&mut out, "chomp", heredoc.strip_tabs);
        Value::Object(out)
    };
    set_list(out, "files", &run.heredocs.iter().map(file).collect::<Vec<_>>());
    set(out, "network", run.network.as_deref().filter(|network| *network != "default"));
    set(out, "security", run.security.as_deref().filter(|security| *security != "sandbox"));
    let mut used: Vec<&str> = Vec::new();
    for (name, given) in [
        ("device", !run.devices.is_empty()),
        ("mount", !run.mounts.is_empty()),
        ("network", run.network.is_some()),
        ("security", run.security.is_some()),
    ] {
        if given {
            used.push(name);
        }
    }
    set_list(out, "flags_used", &used);
    let device = |value: &String| {
        let device = Device::parse(value).expect("checked by the parser");
        let mut out = Map::new();
        set(&mut out, "name", Some(&device.name));
        set_true(&mut out, "required", device.required);
        Value::Object(out)
    };
    set_list(out, "devices", &run.devices.iter().map(device).collect::<Vec<_>>());
    let mounts: Result<Vec<Mount>, _> =
        run.mounts.iter().map(|value| Mount::parse(value, |value| Ok(value.to_string()))).collect();
    match mounts {
        Ok(mounts) => set_list(out, "mounts", &mounts.iter().map(mount_json).collect::<Vec<_>>()),
        Err(error) => set(out, "mounts_error", Some(&error.to_string())),
    }
}

fn mount_json(mount: &Mount) -> Value {
    let mut out = Map::new();
    out.insert("type".into(), json!(mount.kind.name()));
    set(&mut out, "from", mount.from.as_deref());
    set(&mut out, "source", mount.source.as_deref());
    set(&mut out, "target", mount.target.as_deref());
    set(&mut out, "cache_id", mount.id.as_deref());
    set(&mut out, "env", mount.env.as_deref().filter(|_| mount.kind == MountKind::Secret));
    set_true(&mut out, "read_only", mount.read_only);
    set_true(&mut out, "required", mount.required);
    let sharing = mount.sharing.map(|sharing| match sharing {
        Sharing::Shared => "shared",
        Sharing::Private => "private",
        Sharing::Locked => "locked",
    });
    set(&mut out, "cache_sharing", sharing);
    for (key, value) in [("uid", mount.uid), ("gid", mount.gid), ("mode", mount.mode)] {
        if let Some(value) = value {
            out.insert(key.into(), json!(value));
        }
    }
    if let Some(size) = mount.size {
        out.insert("size_limit".into(), json!(size));
    }
    Value::Object(out)
}

/// What errors are about, in words that both sides use. The first that is found counts.
const GISTS: &[&str] = &[
    "file with no instructions",
    "max allowed size",
    "parser directive can be used",
    "invalid escape token",
    "unterminated heredoc",
    "arrays must be comprised of strings only",
    "must have two arguments",
    "can't find =",
    "unknown instruction",
    "no build stage",
    "requires exactly one",
    "requires at least one",
    "requires at least two",
    "requires either one or three",
    "invalid name for build stage",
    "names can not be blank",
    "unknown flag",
    "duplicate flag",
    "missing a value on flag",
    "expecting boolean value",
    "in json form",
    "can not be an empty string",
    "heredoc as a destination",
    "healthcheck none takes no",
    "in healthcheck (try cmd)",
    "missing command after healthcheck",
    "missing unit",
    "unknown unit",
    "invalid duration",
    "cannot be less than 1ms",
    "invalid syntax",
    "cannot be negative",
    "chaining onbuild",
    "isn't allowed as an onbuild trigger",
    "invalid network mode",
    "is not valid",
    "doesn't support variable expansion",
    "looking for matching",
];

fn gist(message: &str) -> String {
    let lower = message.to_lowercase();
    GISTS.iter().find(|gist| lower.contains(*gist)).map_or(lower.clone(), |gist| gist.to_string())
}

fn parse_error(case: &Case) -> Result<(), String> {
    let bytes = source(case);
    let error = match dockerfile::parse_bytes(&bytes) {
        Ok(_) => return Err(format!("accepted; expected: {}", text(&case.expect["error"]))),
        Err(error) => error,
    };
    let expected = text(&case.expect["error"]);
    if gist(expected) != gist(&error.to_string()) {
        return Err(format!("expected: {expected}, got: {error}"));
    }
    // Words that cannot be told apart show while reading, before any instruction is typed.
    let stage = if syntax::read(&String::from_utf8_lossy(&bytes), '\\').is_err() { "parse" } else { "instruction" };
    difference(&case.expect["error_stage"], &json!(stage), "stage")?;
    if expected.contains("did you mean") != error.suggestion.is_some() {
        return Err(format!("suggestion: expected: {expected}, got: {error}"));
    }
    // BuildKit counts these from the line before; ours name the line itself.
    let early = matches!(
        *error.kind,
        ParseErrorKind::DuplicateDirective { .. } | ParseErrorKind::InvalidEscape { .. } | ParseErrorKind::LineTooLong
    );
    let line = error.span.line - u32::from(early);
    difference(&case.expect["error_lines"][0], &json!(line), "line")
}

fn shell_lex(case: &Case) -> Result<(), String> {
    let (input, expect) = (&case.input, &case.expect);
    let expander = Expander {
        escape: text(&input["escape"]).chars().next().unwrap_or('\\'),
        raw_quotes: truth(&input["raw_quotes"]),
        raw_escapes: truth(&input["raw_escapes"]),
        skip_process_quotes: truth(&input["skip_process_quotes"]),
        skip_unset_env: truth(&input["skip_unset_env"]),
    };
    let pair = |pair: &Value| (text(&pair[0]).to_string(), text(&pair[1]).to_string());
    let env: Vec<(String, String)> = input["env"].as_array().into_iter().flatten().map(pair).collect();
    let word = text(&input["word"]);
    let actual = if truth(&input["single"]) {
        expander.expand_word(word, &env[..]).map(
            |expanded| json!({ "result": expanded.word, "matched": expanded.matched, "unmatched": expanded.unmatched }),
        )
    } else {
        expander.expand_words(word, &env[..]).map(|words| json!({ "words": words }))
    };
    match (actual, expect["error"].as_str()) {
        (Ok(actual), _) => difference(expect, &actual, "result"),
        (Err(error), None) => Err(format!("refused: {error}")),
        // The word itself is quoted in another way.
        (Err(error), Some(expected)) if expected.ends_with(&format!(": {}", error.kind)) => Ok(()),
        (Err(error), Some(expected)) => Err(format!("expected: {expected}, got: {error}")),
    }
}

fn heredoc_word(case: &Case) -> Result<(), String> {
    match (heredoc::parse_word(text(&case.input["src"])), case.expect["error"].as_str()) {
        (Ok(found), None) => {
            let found = found
                .map(|h| json!({ "chomp": h.strip_tabs, "expand": h.expand, "fd": h.fd, "name": h.name }))
                .unwrap_or_default();
            difference(&case.expect["heredoc"], &found, "heredoc")
        }
        (Err(error), Some(expected)) if expected.ends_with(&format!(": {}", error.kind)) => Ok(()),
        (outcome, expected) => Err(format!("expected error {expected:?}, got {outcome:?}")),
    }
}

fn directive_case(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let found = directive::detect(text(&input["dockerfile"]), text(&input["key"]), truth(&input["any_format"]));
    let actual = match found {
        Some(d) => json!({ "found": true, "value": d.value, "cmdline": d.line_value, "line": d.line }),
        None => json!({ "found": false }),
    };
    difference(&case.expect, &actual, "directive")
}

fn expose_port(case: &Case) -> Result<(), String> {
    let actual = match expose::parse(text(&case.input["port"])) {
        Ok(exposed) => json!({ "ports": exposed.ports }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    difference(&case.expect, &actual, "expose")
}

fn git_ref(case: &Case) -> Result<(), String> {
    match git_ref::parse(text(&case.input["ref"])) {
        Ok(found) => {
            let mut out = Map::new();
            set(&mut out, "remote", Some(&found.remote));
            set(&mut out, "short_name", Some(&found.short_name));
            set(&mut out, "ref", found.reference.as_deref());
            set(&mut out, "checksum", found.checksum.as_deref());
            set(&mut out, "sub_dir", found.subdir.as_deref());
            set(&mut out, "mtime", found.mtime.map(git_ref::Mtime::name));
            set_true(&mut out, "indistinguishable_from_local", found.indistinguishable_from_local);
            set_true(&mut out, "unencrypted_tcp", found.unencrypted);
            set_true(&mut out, "fetch_by_commit", found.fetch_by_commit);
            for (key, value) in [("keep_git_dir", found.keep_git_dir), ("submodules", found.submodules)] {
                if let Some(value) = value {
                    out.insert(key.into(), json!(value));
                }
            }
            difference(&case.expect, &json!({ "gitref": out, "is_git": true }), "git-ref")
        }
        Err(error) => {
            difference(&case.expect["is_git"], &json!(error.is_git()), "is_git")?;
            let (expected, actual) = (text(&case.expect["error"]), error.to_string());
            // Which of two wishes comes first is BuildKit's order of reading.
            let same = |what: &str| expected.starts_with(what) && actual.starts_with(what);
            if actual.starts_with(expected) && !expected.is_empty() || same("ref conflicts") || same("subdir conflicts")
            {
                return Ok(());
            }
            Err(format!("expected {expected:?}, got {actual:?}"))
        }
    }
}

fn lint_secret_key(case: &Case) -> Result<(), String> {
    let warn = lint::is_secret_key(text(&case.input["key"]));
    difference(&case.expect, &json!({ "warn": warn }), "secret")
}
