//! Compose files: found, read, merged, their variables replaced. Spec: github.com/compose-spec/compose-spec.

use super::interpolate::{InterpolationError, interpolate};
use crate::cli::environment::Environment;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Names of compose files, best first, each with the name of what is laid over it.
const NAMES: [(&str, &str); 4] = [
    ("compose.yaml", "compose.override.yaml"),
    ("compose.yml", "compose.override.yml"),
    ("docker-compose.yml", "docker-compose.override.yml"),
    ("docker-compose.yaml", "docker-compose.override.yaml"),
];
/// How far `extends` may lead.
const DEPTH: usize = 16;

/// Why a compose file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is none.
    #[error(
        "no compose file here or above: looked for compose.yaml, compose.yml, docker-compose.yml, docker-compose.yaml"
    )]
    NotFound,
    /// It cannot be read; the cause names it.
    #[error("cannot read a compose file")]
    Read(#[from] io::Error),
    /// It is no YAML.
    #[error("{path} cannot be understood: {why}", path = path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        why: String,
    },
    /// A variable.
    #[error("{path}: {source}", path = path.display())]
    Variable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InterpolationError,
    },
    /// A part that is of the wrong form or that dockless does not know.
    #[error("{0}")]
    Form(String),
}

/// A compose file, or several merged.
#[derive(Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// The services, as written.
    pub services: Map<String, Value>,
    /// `secrets:` of the file.
    pub secrets: Map<String, Value>,
    /// What relative paths start from.
    pub directory: PathBuf,
    /// Variables that are not set.
    pub unset: BTreeSet<String>,
}

/// What the command line says of files.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// `-f`
    pub files: Vec<&'a str>,
    /// `--project-directory`
    pub directory: Option<&'a str>,
    /// `-p`
    pub name: Option<&'a str>,
    /// `--env-file`
    pub env_files: Vec<&'a str>,
}

/// Reads the project.
pub fn read(wanted: &Wanted<'_>, environment: &Environment) -> Result<Project, ComposeError> {
    let files = files(wanted, environment)?;
    let beside = files.first().and_then(|file| file.parent()).map(Path::to_path_buf).unwrap_or_default();
    let directory = wanted.directory.map_or(beside, |dir| environment.absolute(dir));
    let defaults = env_files(wanted, environment, &directory)?;
    let variable = |name: &str| environment.text(name).map(String::from).or_else(|| defaults.get(name).cloned());
    let (mut whole, mut unset) = (Value::Object(Map::new()), BTreeSet::new());
    for path in &files {
        let text = fs_err::read_to_string(path)?;
        let mut value = parse(path, &text)?;
        let source = |source| ComposeError::Variable { path: path.clone(), source };
        unset.extend(interpolate(&mut value, &variable).map_err(source)?);
        merge(&mut whole, value);
    }
    if whole.get("include").is_some() {
        return Err(ComposeError::Form("include: is not supported: name the files with -f".into()));
    }
    let name =
        wanted.name.map(String::from).or_else(|| variable("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()));
    let name = name.or_else(|| whole["name"].as_str().map(String::from));
    let last = directory.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = normal(&name.or(last).unwrap_or_default());
    let map = |key: &str| match whole.get(key) {
        Some(Value::Object(map)) => Ok(map.clone()),
        None | Some(Value::Null) => Ok(Map::new()),
        Some(_) => Err(ComposeError::Form(format!("{key}: must be a mapping"))),
    };
    let mut services = map("services")?;
    let raw = services.clone();
    for (name, service) in &mut services {
        extend(name, service, &raw, DEPTH)?;
    }
    Ok(Project { name, services, secrets: map("secrets")?, directory, unset })
}

fn parse(path: &Path, text: &str) -> Result<Value, ComposeError> {
    let parsed: Result<Value, _> = serde_saphyr::from_str(text);
    match parsed {
        Ok(value @ (Value::Object(_) | Value::Null)) => Ok(value),
        Ok(_) => Err(ComposeError::Yaml { path: path.into(), why: "the document is no mapping".into() }),
        Err(error) => Err(ComposeError::Yaml { path: path.into(), why: error.to_string() }),
    }
}

/// `-f`, else `COMPOSE_FILE`, else the usual names here and in the directories above.
fn files(wanted: &Wanted<'_>, environment: &Environment) -> Result<Vec<PathBuf>, ComposeError> {
    if !wanted.files.is_empty() {
        return Ok(wanted.files.iter().map(|file| environment.absolute(file)).collect());
    }
    if let Some(list) = environment.text("COMPOSE_FILE").filter(|list| !list.is_empty()) {
        let separator = environment.text("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty()).unwrap_or(":");
        return Ok(list.split(separator).map(|file| environment.absolute(file)).collect());
    }
    let start = environment.absolute(wanted.directory.unwrap_or("."));
    for directory in start.ancestors() {
        for (name, over) in NAMES {
            let (file, over) = (directory.join(name), directory.join(over));
            if file.is_file() {
                return Ok([file].into_iter().chain(Some(over).filter(|over| over.is_file())).collect());
            }
        }
    }
    Err(ComposeError::NotFound)
}

/// The files of `--env-file`, else `.env` of the project; the last that names a variable counts.
fn env_files(
    wanted: &Wanted<'_>,
    environment: &Environment,
    directory: &Path,
) -> Result<BTreeMap<String, String>, ComposeError> {
    let mut files: Vec<PathBuf> = wanted.env_files.iter().map(|file| environment.absolute(file)).collect();
    if files.is_empty() {
        files.extend(Some(directory.join(".env")).filter(|file| file.is_file()));
    }
    let mut out = BTreeMap::new();
    for file in files {
        for line in fs_err::read_to_string(&file)?.lines() {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                out.insert(name.trim().to_string(), unquoted(value.trim()).to_string());
            }
        }
    }
    Ok(out)
}

/// A value without its quotes, or without the comment after it.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inside;
        }
    }
    value.split(" #").next().unwrap_or_default().trim_end()
}

/// Lays `over` on `value`: mappings are merged, lists go on, anything else is replaced.
fn merge(value: &mut Value, over: Value) {
    match (value, over) {
        (_, Value::Null) => {}
        (Value::Object(known), Value::Object(new)) => {
            for (key, new) in new {
                match known.get_mut(&key) {
                    Some(old) => merge_part(&key, old, new),
                    None => _ = known.insert(key, new),
                }
            }
        }
        (Value::Array(known), Value::Array(new)) => {
            known.extend(new.into_iter().filter(|item| !known.contains(item)).collect::<Vec<_>>());
        }
        (value, over) => *value = over,
    }
}

/// `build: DIR` is `build: {context: DIR}`; a list of arguments is a mapping.
fn merge_part(key: &str, old: &mut Value, new: Value) {
    let context = |value: Value| match value {
        Value::String(dir) => serde_json::json!({ "context": dir }),
        value => value,
    };
    match key {
        "build" => {
            let mut whole = context(old.take());
            merge(&mut whole, context(new));
            *old = whole;
        }
        "args" | "labels" => {
            let mut whole = mapping(old.take());
            merge(&mut whole, mapping(new));
            *old = whole;
        }
        // What is run is replaced whole.
        "command" | "entrypoint" => *old = new,
        _ => merge(old, new),
    }
}

/// `[A=1, B]` as `{A: 1, B: null}`.
pub fn mapping(value: Value) -> Value {
    let Value::Array(items) = value else { return value };
    let pair = |item: &Value| {
        let text = item.as_str().map_or_else(|| item.to_string(), str::to_string);
        match text.split_once('=') {
            Some((name, value)) => (name.to_string(), Value::from(value)),
            None => (text, Value::Null),
        }
    };
    Value::Object(items.iter().map(pair).collect())
}

/// `extends: {service: NAME}` of the same file.
fn extend(name: &str, service: &mut Value, all: &Map<String, Value>, depth: usize) -> Result<(), ComposeError> {
    let Some(extends) = service.as_object_mut().and_then(|service| service.remove("extends")) else { return Ok(()) };
    if extends.get("file").is_some() {
        let message = format!("services.{name}.extends: another file is not supported: name it with -f");
        return Err(ComposeError::Form(message));
    }
    let base = extends.as_str().or_else(|| extends["service"].as_str()).unwrap_or_default();
    let Some(found) = all.get(base).filter(|_| depth > 0) else {
        return Err(ComposeError::Form(format!("services.{name}.extends: there is no service '{base}' to extend")));
    };
    let mut whole = found.clone();
    extend(base, &mut whole, all, depth - 1)?;
    merge(&mut whole, service.take());
    *service = whole;
    Ok(())
}

/// A project's name: lower case, digits, `_` and `-`.
fn normal(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let name: String = name.to_lowercase().chars().filter(allowed).collect();
    name.trim_start_matches(['_', '-']).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_are_merged() {
        let mut value = json!({ "services": { "a": { "build": ".", "image": "x", "ports": [1] } } });
        let over = json!({ "services": { "a": { "build": { "args": ["A=1", "B"] }, "image": "y", "ports": [1, 2] }, "b": {} } });
        merge(&mut value, over);
        let expected = json!({ "services": {
            "a": { "build": { "context": ".", "args": ["A=1", "B"] }, "image": "y", "ports": [1, 2] }, "b": {} } });
        assert_eq!(value, expected);
        assert_eq!(mapping(json!(["A=1", "B"])), json!({ "A": "1", "B": null }));
    }

    #[test]
    fn names() {
        assert_eq!(normal("My.App_1"), "myapp_1");
        assert_eq!(normal("--x"), "x");
        assert_eq!(unquoted("\"a b\" # c"), "a b");
        assert_eq!(unquoted("a # c"), "a");
    }

    #[test]
    fn projects_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("Some.Project/below");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.parent().unwrap().join("compose.yaml");
        let text = "x-base: &base\n  args: {V: 1}\nservices:\n  a:\n    image: r/a:${TAG:-1}\n    build:\n      <<: *base\n      \
                    context: ./a\n  b:\n    extends: {service: a}\n    image: $NAME\n";
        std::fs::write(&file, text).unwrap();
        std::fs::write(file.with_file_name(".env"), "TAG='7'\n# c\nOTHER=x\n").unwrap();
        let project = read(&Wanted::default(), &Environment::of(&[("NAME", "n")], &dir)).unwrap();
        assert_eq!(project.name, "someproject");
        assert_eq!(
            project.services["a"],
            json!({ "image": "r/a:7", "build": { "context": "./a", "args": { "V": 1 } } })
        );
        assert_eq!(project.services["b"]["image"], "n");
        assert_eq!(project.services["b"]["build"], project.services["a"]["build"]);
        std::fs::write(&file, "services: [").unwrap();
        let error = read(&Wanted::default(), &Environment::of(&[], &dir)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{} cannot be understood", file.display())), "{error}");
    }
}
