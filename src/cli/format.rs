//! `--format` of the verbs that list or describe.

use super::Outcome;
use super::inspect::pretty;
use crate::ui::template::{self, Template, TemplateError};
use crate::ui::{Diagnostic, Kind};
use serde_json::Value;

fn wrong(error: &TemplateError) -> Box<Diagnostic> {
    Box::new(Diagnostic::new(Kind::Usage, format!("template parsing error: {error}")).exit(1))
}

/// What `inspect` prints of `found`: JSON, or a line each by the template.
pub fn formatted(format: Option<&str>, found: &[Value]) -> Outcome<String> {
    match format {
        None | Some("") => Ok(pretty(&found.into())),
        Some("json") => Ok(format!("{}\n", Value::from(found))),
        Some(text) => {
            let template = Template::parse(text).map_err(|error| wrong(&error))?;
            let lines = found.iter().map(|value| Ok(template.render(value)? + "\n"));
            lines.collect::<Result<String, TemplateError>>().map_err(|error| wrong(&error))
        }
    }
}

/// What a list prints: by the format, or else by `plain`.
pub fn list(format: Option<&str>, plain: &str, heads: &Value, rows: &[Value]) -> Outcome<String> {
    let format = match format {
        None | Some("" | "table") => plain,
        Some(format) => format,
    };
    template::list(format, heads, rows).map_err(|error| wrong(&error))
}
