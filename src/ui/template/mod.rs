//! `--format` in the words of Go's templates, over JSON: fields, variables, pipelines, `if`, `range`, `with`, and the functions
//! that Docker's formats have. Spec: pkg.go.dev/text/template; docs.docker.com/engine/cli/formatting.
//!
//! A format is parsed once ([`Template::parse`]) and rendered for each value ([`Template::render`]). A field that the
//! outermost value does not have is an error, so that a mistyped one is not printed as nothing; a deeper one is `<no value>`.

mod functions;
mod parse;
mod render;

use serde_json::Value;

/// What is wrong with a format, or with what it asks of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An action without its `}}`.
    #[error("an action has no end: '{0}'")]
    Open(String),
    /// A string without its end.
    #[error("a string has no end: '{0}'")]
    OpenString(String),
    /// A character that nothing begins with.
    #[error("unexpected '{0}'")]
    Unexpected(String),
    /// `if`, `range` or `with` without `end`.
    #[error("'{0}' has no 'end'")]
    NoEnd(&'static str),
    /// `end` or `else` without what they end.
    #[error("'{0}' stands alone")]
    Alone(String),
    /// A function that there is not.
    #[error("function \"{0}\" not defined")]
    Function(String),
    /// A variable that was not set.
    #[error("undefined variable '{0}'")]
    Variable(String),
    /// A field that is not there.
    #[error("there is no field '{0}'")]
    Field(String),
    /// A function called with what it cannot take.
    #[error("{function}: {why}")]
    Call {
        /// The function.
        function: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// An action that is not in the language.
    #[error("'{0}' is not supported")]
    Unsupported(String),
    /// An action without anything in it.
    #[error("an action is empty")]
    Empty,
}

/// A format, parsed.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

/// A part of a template.
#[derive(Debug)]
enum Node {
    Text(String),
    Output(Pipe),
    /// Each condition with its part, then what holds else.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
}

/// `$a, $b := first | second`.
#[derive(Debug, Default)]
struct Pipe {
    variables: Vec<String>,
    commands: Vec<Vec<Operand>>,
}

/// One word of a command; the fields are those asked of it.
#[derive(Debug)]
struct Operand {
    base: Base,
    fields: Vec<String>,
}

#[derive(Debug)]
enum Base {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Group(Pipe),
}

impl Template {
    /// Reads a format.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        Ok(Template { nodes: parse::nodes(text)? })
    }

    /// The text for `value`.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        render::render(&self.nodes, value)
    }
}

/// The lines for `rows` by a format of Docker's lists: `json`, `table TEMPLATE` with the heads of `heads` above the columns,
/// or a template; `\t` and `\n` may be written as such.
pub fn list(format: &str, heads: &Value, rows: &[Value]) -> Result<String, TemplateError> {
    if format == "json" || format == "{{json .}}" {
        return Ok(rows.iter().map(|row| format!("{row}\n")).collect());
    }
    let text = format.replace("\\t", "\t").replace("\\n", "\n");
    let Some(columns) = text.strip_prefix("table ") else {
        let template = Template::parse(&text)?;
        return rows.iter().map(|row| Ok(template.render(row)? + "\n")).collect();
    };
    let template = Template::parse(columns)?;
    let lines = std::iter::once(heads).chain(rows).map(|row| {
        let line = template.render(row)?;
        Ok(line.split('\t').map(str::to_string).collect())
    });
    Ok(super::table(&lines.collect::<Result<Vec<Vec<String>>, TemplateError>>()?))
}

#[cfg(test)]
mod tests;
