//! From the nodes of a template and a value to text.

use super::functions::{self, truth};
use super::{Base, Node, Operand, Pipe, TemplateError};
use serde_json::Value;

pub(super) fn render(nodes: &[Node], value: &Value) -> Result<String, TemplateError> {
    let mut renderer = Renderer { variables: vec![("$".to_string(), value.clone())], out: String::new() };
    renderer.nodes(nodes, value, true)?;
    Ok(renderer.out)
}

struct Renderer {
    variables: Vec<(String, Value)>,
    out: String,
}

impl Renderer {
    /// `outermost`: `dot` is the value that the template is rendered for.
    fn nodes(&mut self, nodes: &[Node], dot: &Value, outermost: bool) -> Result<(), TemplateError> {
        let known = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Output(pipe) => {
                    let value = self.pipe(pipe, dot, outermost)?;
                    if pipe.variables.is_empty() {
                        self.out.push_str(&functions::text(&value));
                    }
                }
                Node::If(cases, otherwise) => self.choose(cases, otherwise, dot, outermost)?,
                Node::With(pipe, body, otherwise) => {
                    let value = self.pipe(pipe, dot, outermost)?;
                    match truth(&value) {
                        true => self.nodes(body, &value, false)?,
                        false => self.nodes(otherwise, dot, outermost)?,
                    }
                }
                Node::Range(pipe, body, otherwise) => {
                    let over = self.value(pipe, dot, outermost)?;
                    if !self.range(&pipe.variables, &over, body)? {
                        self.nodes(otherwise, dot, outermost)?;
                    }
                }
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn choose(
        &mut self,
        cases: &[(Pipe, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
        outermost: bool,
    ) -> Result<(), TemplateError> {
        for (condition, body) in cases {
            let value = self.pipe(condition, dot, outermost)?;
            if truth(&value) {
                return self.nodes(body, dot, outermost);
            }
        }
        self.nodes(otherwise, dot, outermost)
    }

    /// Renders `body` for each element; gives whether there was one.
    fn range(&mut self, names: &[String], over: &Value, body: &[Node]) -> Result<bool, TemplateError> {
        let elements: Vec<(Value, &Value)> = match over {
            Value::Array(items) => items.iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect(),
            Value::Object(map) => map.iter().map(|(key, item)| (Value::from(key.as_str()), item)).collect(),
            Value::Null => Vec::new(),
            _ => return Err(TemplateError::Call { function: "range", why: "expected a list or a map" }),
        };
        for (key, item) in &elements {
            let known = self.variables.len();
            match names {
                [] => {}
                [value] => self.variables.push((value.clone(), (*item).clone())),
                [index, value, ..] => {
                    self.variables.push((index.clone(), key.clone()));
                    self.variables.push((value.clone(), (*item).clone()));
                }
            }
            self.nodes(body, item, false)?;
            self.variables.truncate(known);
        }
        Ok(!elements.is_empty())
    }

    /// The value of a pipeline, kept under its variable where it has one.
    fn pipe(&mut self, pipe: &Pipe, dot: &Value, outermost: bool) -> Result<Value, TemplateError> {
        let value = self.value(pipe, dot, outermost)?;
        if let [name, ..] = &pipe.variables[..] {
            self.variables.push((name.clone(), value.clone()));
        }
        Ok(value)
    }

    fn value(&mut self, pipe: &Pipe, dot: &Value, outermost: bool) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last, dot, outermost)?);
        }
        last.ok_or(TemplateError::Empty)
    }

    fn command(
        &mut self,
        command: &[Operand],
        piped: Option<Value>,
        dot: &Value,
        outermost: bool,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = command.split_first() else { return Err(TemplateError::Empty) };
        let Base::Function(name) = &first.base else {
            return match (rest, piped) {
                ([], None) => self.operand(first, dot, outermost),
                _ => Err(TemplateError::Unsupported("an argument for what is no function".into())),
            };
        };
        let mut arguments = rest
            .iter()
            .map(|operand| match &operand.base {
                // A function among arguments is called without any.
                Base::Function(name) => functions::call(name, Vec::new()),
                _ => self.operand(operand, dot, outermost),
            })
            .collect::<Result<Vec<_>, _>>()?;
        arguments.extend(piped);
        functions::call(name, arguments)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value, outermost: bool) -> Result<Value, TemplateError> {
        let (base, whole) = match &operand.base {
            Base::Dot => (dot.clone(), outermost),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = known.ok_or_else(|| TemplateError::Variable(name.clone()))?;
                (value.clone(), name == "$")
            }
            Base::Literal(value) => (value.clone(), false),
            Base::Group(pipe) => (self.value(pipe, dot, outermost)?, false),
            Base::Function(name) => (functions::call(name, Vec::new())?, false),
        };
        let mut value = base;
        for (depth, field) in operand.fields.iter().enumerate() {
            value = match value {
                Value::Object(mut map) => match map.remove(field) {
                    Some(value) => value,
                    None if whole && depth == 0 => return Err(TemplateError::Field(field.clone())),
                    None => Value::Null,
                },
                Value::Null => Value::Null,
                _ => return Err(TemplateError::Field(field.clone())),
            };
        }
        Ok(value)
    }
}
