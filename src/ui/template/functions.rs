//! The functions of templates.

use super::TemplateError;
use serde_json::Value;
use std::cmp::Ordering;

/// Calls the function `name`.
pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, TemplateError> {
    let argument = |at: usize| arguments.get(at).cloned().unwrap_or_default();
    let string = |function: &'static str, at: usize| match arguments.get(at) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(TemplateError::Call { function, why: "expected text" }),
    };
    let all = || arguments.iter().map(text).collect::<Vec<_>>();
    Ok(match name {
        "json" => argument(0).to_string().into(),
        "index" => index(argument(0), arguments.get(1..).unwrap_or_default())?,
        "slice" => slice(&arguments)?,
        "len" => match argument(0) {
            Value::String(text) => text.len().into(),
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            Value::Null => 0.into(),
            _ => return Err(TemplateError::Call { function: "len", why: "expected text, a list or a map" }),
        },
        "join" => {
            let separator = string("join", 1)?;
            match argument(0) {
                Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(&separator).into(),
                Value::Null => "".into(),
                _ => return Err(TemplateError::Call { function: "join", why: "expected a list" }),
            }
        }
        "split" => string("split", 0)?.split(&string("split", 1)?).map(Value::from).collect(),
        "upper" => string("upper", 0)?.to_uppercase().into(),
        "lower" => string("lower", 0)?.to_lowercase().into(),
        "title" => title(&string("title", 0)?).into(),
        "truncate" => {
            let length = argument(1).as_u64().and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
            string("truncate", 0)?.chars().take(length).collect::<String>().into()
        }
        "pad" => {
            let spaces = |at: usize| " ".repeat(argument(at).as_u64().unwrap_or(0).min(1000) as usize);
            format!("{}{}{}", spaces(1), string("pad", 0)?, spaces(2)).into()
        }
        "print" => print(&arguments).into(),
        "println" => format!("{}\n", all().join(" ")).into(),
        "printf" => printf(&string("printf", 0)?, arguments.get(1..).unwrap_or_default()).into(),
        "not" => (!truth(&argument(0))).into(),
        "and" => arguments.iter().find(|value| !truth(value)).or(arguments.last()).cloned().unwrap_or_default(),
        "or" => arguments.iter().find(|value| truth(value)).or(arguments.last()).cloned().unwrap_or_default(),
        "eq" => arguments.iter().skip(1).any(|other| same(&arguments[0], other)).into(),
        "ne" => (!same(&argument(0), &argument(1))).into(),
        "lt" => (order(&argument(0), &argument(1))? == Ordering::Less).into(),
        "le" => (order(&argument(0), &argument(1))? != Ordering::Greater).into(),
        "gt" => (order(&argument(0), &argument(1))? == Ordering::Greater).into(),
        "ge" => (order(&argument(0), &argument(1))? != Ordering::Less).into(),
        _ => return Err(TemplateError::Function(name.to_string())),
    })
}

/// Whether a value counts as true: not empty, not zero.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go prints a value.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", text(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

fn index(value: Value, keys: &[Value]) -> Result<Value, TemplateError> {
    keys.iter().try_fold(value, |value, key| match (value, key) {
        // Go's nil map gives the empty text for every key.
        (Value::Object(mut map), Value::String(key)) => Ok(map.remove(key).unwrap_or_else(|| "".into())),
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Array(mut items), Value::Number(at)) => {
            let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
            let out_of_range = TemplateError::Call { function: "index", why: "index out of range" };
            at.map(|at| items.swap_remove(at)).ok_or(out_of_range)
        }
        (Value::Null, Value::Number(_)) => Err(TemplateError::Call { function: "index", why: "index out of range" }),
        _ => Err(TemplateError::Call { function: "index", why: "expected a list and a number, or a map and a key" }),
    })
}

fn slice(arguments: &[Value]) -> Result<Value, TemplateError> {
    let wrong = |why| TemplateError::Call { function: "slice", why };
    let at = |at: usize, default: usize| match arguments.get(at) {
        None => Ok(default),
        Some(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or(wrong("expected a number")),
    };
    match arguments.first() {
        Some(Value::String(text)) => {
            let part = text.get(at(1, 0)?..at(2, text.len())?);
            part.map(Value::from).ok_or(wrong("index out of range"))
        }
        Some(Value::Array(items)) => {
            let part = items.get(at(1, 0)?..at(2, items.len())?);
            part.map(|part| part.to_vec().into()).ok_or(wrong("index out of range"))
        }
        _ => Err(wrong("expected text or a list")),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    let upper = |c: char| {
        let out: String = if start { c.to_uppercase().collect() } else { c.to_string() };
        start = !c.is_alphanumeric();
        out
    };
    text.chars().map(upper).collect()
}

/// As Go's: a space between two values of which neither is text.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
            out.push(' ');
        }
        out += &text(value);
    }
    out
}

/// `%s`, `%v`, `%d` and `%q`, with a width; other verbs stand as they are.
fn printf(format: &str, arguments: &[Value]) -> String {
    let (mut out, mut chars, mut next) = (String::new(), format.chars().peekable(), arguments.iter());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut width = String::new();
        while let Some(digit) = chars.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '+')) {
            width.push(digit);
        }
        let size = width.trim_start_matches('-').parse().unwrap_or(0).min(1000);
        let shown = match chars.next() {
            Some('%') => "%".to_string(),
            Some('s' | 'v' | 'd') => next.next().map_or_else(|| "%!(MISSING)".into(), text),
            Some('q') => next.next().map_or_else(|| "%!(MISSING)".into(), |value| Value::from(text(value)).to_string()),
            Some(other) => format!("%{width}{other}"),
            None => format!("%{width}"),
        };
        out += &if width.starts_with('-') { format!("{shown:<size$}") } else { format!("{shown:>size$}") };
    }
    out
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn order(one: &Value, other: &Value) -> Result<Ordering, TemplateError> {
    let numbers = one.as_f64().zip(other.as_f64()).and_then(|(one, other)| one.partial_cmp(&other));
    let texts = one.as_str().zip(other.as_str()).map(|(one, other)| one.cmp(other));
    numbers.or(texts).ok_or(TemplateError::Call { function: "lt", why: "expected two numbers or two texts" })
}
