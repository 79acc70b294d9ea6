//! `$NAME` and `${NAME…}` in the values of a compose file. Spec: compose-spec, 12-interpolation.md.

use serde_json::Value;
use std::collections::BTreeSet;

/// What is wrong with a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpolationError {
    /// `${` without its end, or with no name.
    #[error("invalid interpolation format: '{0}'; a dollar sign by itself is written $$")]
    Form(String),
    /// `${NAME?message}` of a variable that is not set.
    #[error("required variable {name} is missing a value: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the file says.
        message: String,
    },
}

/// Replaces variables in all texts of `value`; gives the names that are not set and have no default.
pub fn interpolate(
    value: &mut Value,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeSet<String>, InterpolationError> {
    let mut unset = BTreeSet::new();
    walk(value, variable, &mut unset)?;
    Ok(unset)
}

fn walk(
    value: &mut Value,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut BTreeSet<String>,
) -> Result<(), InterpolationError> {
    match value {
        Value::String(text) => *text = replaced(text, variable, unset)?,
        Value::Array(items) => {
            for item in items {
                walk(item, variable, unset)?;
            }
        }
        Value::Object(map) => {
            for item in map.values_mut() {
                walk(item, variable, unset)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn replaced(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut BTreeSet<String>,
) -> Result<String, InterpolationError> {
    let wrong = || InterpolationError::Form(text.to_string());
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(body) = rest.strip_prefix('{') {
            let end = closing(body).ok_or_else(wrong)?;
            out += &braced(&body[..end], variable, unset)?.ok_or_else(wrong)?;
            rest = &body[end + 1..];
        } else {
            let end = name(rest);
            if end == 0 {
                return Err(wrong());
            }
            out += &known(&rest[..end], variable, unset);
            rest = &rest[end..];
        }
    }
    Ok(out + rest)
}

/// Where the brace that was opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

/// Length of the name at the start of `text`.
fn name(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { 0 } else { end }
}

fn known(name: &str, variable: &dyn Fn(&str) -> Option<String>, unset: &mut BTreeSet<String>) -> String {
    variable(name).unwrap_or_else(|| {
        unset.insert(name.to_string());
        String::new()
    })
}

/// The inside of `${…}`; `None` where it is none.
fn braced(
    body: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut BTreeSet<String>,
) -> Result<Option<String>, InterpolationError> {
    let end = name(body);
    let (name, rest) = body.split_at(end);
    if name.is_empty() {
        return Ok(None);
    }
    // With a colon, empty counts as not set.
    let (colon, operator) = match rest.strip_prefix(':') {
        Some(operator) => (true, operator),
        None => (false, rest),
    };
    let value = variable(name).filter(|value| !colon || !value.is_empty());
    let mut chars = operator.chars();
    let sign = chars.next();
    let word = chars.as_str();
    Ok(match (sign, value) {
        (None, _) if !colon => Some(known(name, variable, unset)),
        (Some('-' | '?'), Some(value)) => Some(value),
        (Some('-'), None) => Some(replaced(word, variable, unset)?),
        (Some('+'), Some(_)) => Some(replaced(word, variable, unset)?),
        (Some('+'), None) => Some(String::new()),
        (Some('?'), None) => {
            let message = replaced(word, variable, unset)?;
            return Err(InterpolationError::Required { name: name.to_string(), message });
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_spec_has_it() {
        let variable = |name: &str| match name {
            "A" => Some("a".to_string()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let table = [
            ("$A-$$A", Ok("a-$A")),
            ("${A}b", Ok("ab")),
            ("${NO:-d}${EMPTY:-e}${EMPTY-f}", Ok("de")),
            ("${NO-${A}x}", Ok("ax")),
            ("${A:+yes}${NO+no}", Ok("yes")),
            ("${A:?must}", Ok("a")),
            ("${NO}|", Ok("|")),
            ("${NO:?is needed}", Err("required variable NO is missing a value: is needed")),
            ("${", Err("invalid interpolation format: '${'; a dollar sign by itself is written $$")),
            ("$1", Err("invalid interpolation format: '$1'; a dollar sign by itself is written $$")),
            ("${A!}", Err("invalid interpolation format: '${A!}'; a dollar sign by itself is written $$")),
        ];
        for (text, expected) in table {
            let mut value = Value::from(vec![text]);
            let done = interpolate(&mut value, &variable).map(|_| value[0].as_str().unwrap_or_default().to_string());
            assert_eq!(done.as_deref().map_err(ToString::to_string), expected.map_err(String::from), "{text}");
        }
        let mut value = serde_json::json!({ "k": ["$B"], "n": 1 });
        assert_eq!(interpolate(&mut value, &variable), Ok(BTreeSet::from(["B".to_string()])));
    }
}
