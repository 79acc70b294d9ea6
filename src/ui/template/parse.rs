//! From the text of a template to its nodes.

use super::{Base, Node, Operand, Pipe, TemplateError};
use serde_json::Value;
use std::iter::Peekable;
use std::vec::IntoIter;

/// A stretch of the text: words, or what stands between `{{` and `}}`.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// `.`, alone or with fields after it: `.a.b`.
    Fields(Vec<String>),
    Variable(String),
    Word(String),
    Literal(Value),
    Open,
    Close,
    Bar,
    Comma,
    Set,
}

/// Why a list of nodes ended.
enum Stop {
    Text,
    End,
    /// `else`, with the rest of its action: the condition of `else if`.
    Else(Vec<Token>),
}

type Pieces = Peekable<IntoIter<Piece>>;

/// Reads a whole template.
pub(super) fn nodes(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut pieces = pieces(text)?.into_iter().peekable();
    match list(&mut pieces)? {
        (nodes, Stop::Text) => Ok(nodes),
        (_, Stop::End) => Err(TemplateError::Alone("end".into())),
        (_, Stop::Else(_)) => Err(TemplateError::Alone("else".into())),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let (mut out, mut rest, mut trim) = (Vec::new(), text, false);
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let mut before = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            out.push(Piece::Text(before.to_string()));
            return Ok(out);
        };
        let body = match after.strip_prefix("- ") {
            Some(body) => {
                before = before.trim_end();
                body
            }
            None => after,
        };
        out.push(Piece::Text(before.to_string()));
        let (tokens, after, trims) = action(body)?;
        out.push(Piece::Action(tokens));
        (rest, trim) = (after, trims);
    }
}

/// The tokens up to `}}`, what follows it, and whether it was written ` -}}`.
fn action(text: &str) -> Result<(Vec<Token>, &str, bool), TemplateError> {
    if text.trim_start().starts_with("/*") {
        let (_, rest) = text.split_once("*/").ok_or_else(|| TemplateError::Open(text.to_string()))?;
        let (_, rest) = rest.split_once("}}").ok_or_else(|| TemplateError::Open(text.to_string()))?;
        return Ok((Vec::new(), rest, false));
    }
    let (mut tokens, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((tokens, after, false));
        }
        if let Some(after) = rest.strip_prefix("-}}") {
            return Ok((tokens, after, true));
        }
        let (token, after) = token(rest).ok_or_else(|| match rest.chars().next() {
            None => TemplateError::Open(text.to_string()),
            Some('"' | '`') => TemplateError::OpenString(rest.to_string()),
            Some(c) => TemplateError::Unexpected(c.to_string()),
        })?;
        tokens.push(token);
        rest = after;
    }
}

fn token(text: &str) -> Option<(Token, &str)> {
    let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let first = text.chars().next()?;
    match first {
        '(' => Some((Token::Open, &text[1..])),
        ')' => Some((Token::Close, &text[1..])),
        '|' => Some((Token::Bar, &text[1..])),
        ',' => Some((Token::Comma, &text[1..])),
        ':' | '=' => Some((Token::Set, text.strip_prefix(":=").or_else(|| text.strip_prefix('='))?)),
        '"' => quoted(text),
        '`' => text[1..].split_once('`').map(|(text, rest)| (Token::Literal(text.into()), rest)),
        '.' => {
            let (mut fields, mut rest) = (Vec::new(), text);
            while let Some(after) = rest.strip_prefix('.') {
                let end = name(after);
                if end == 0 {
                    // `.` alone is the value itself.
                    return fields.is_empty().then_some((Token::Fields(fields), after));
                }
                fields.push(after[..end].to_string());
                rest = &after[end..];
            }
            Some((Token::Fields(fields), rest))
        }
        '$' => {
            let end = 1 + name(&text[1..]);
            Some((Token::Variable(text[..end].to_string()), &text[end..]))
        }
        '-' | '+' | '0'..='9' => {
            let end = 1 + text[1..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len() - 1);
            let number: Value = text[..end].trim_start_matches('+').parse::<serde_json::Number>().ok()?.into();
            Some((Token::Literal(number), &text[end..]))
        }
        c if c.is_alphabetic() || c == '_' => {
            let end = name(text);
            let token = match &text[..end] {
                "true" => Token::Literal(true.into()),
                "false" => Token::Literal(false.into()),
                "nil" => Token::Literal(Value::Null),
                word => Token::Word(word.to_string()),
            };
            Some((token, &text[end..]))
        }
        _ => None,
    }
}

/// A string in double quotes: Go's escapes that JSON has too.
fn quoted(text: &str) -> Option<(Token, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => {
                let value: String = serde_json::from_str(&text[..=at]).ok()?;
                return Some((Token::Literal(value.into()), &text[at + 1..]));
            }
            _ => escaped = c == '\\' && !escaped,
        }
    }
    None
}

fn list(pieces: &mut Pieces) -> Result<(Vec<Node>, Stop), TemplateError> {
    let mut out = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                if !text.is_empty() {
                    out.push(Node::Text(text));
                }
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let word = match tokens.first() {
            Some(Token::Word(word)) => word.as_str(),
            _ => "",
        };
        match word {
            "end" => return Ok((out, Stop::End)),
            "else" => return Ok((out, Stop::Else(tokens[1..].to_vec()))),
            "if" => out.push(condition(tokens[1..].to_vec(), pieces)?),
            "range" => {
                let (pipe, body, otherwise) = block("range", &tokens[1..], pieces)?;
                out.push(Node::Range(pipe, body, otherwise));
            }
            "with" => {
                let (pipe, body, otherwise) = block("with", &tokens[1..], pieces)?;
                out.push(Node::With(pipe, body, otherwise));
            }
            "define" | "template" | "block" | "break" | "continue" => {
                return Err(TemplateError::Unsupported(word.to_string()));
            }
            // A comment.
            _ if tokens.is_empty() => {}
            _ => out.push(Node::Output(pipe(&tokens)?)),
        }
    }
    Ok((out, Stop::Text))
}

fn condition(tokens: Vec<Token>, pieces: &mut Pieces) -> Result<Node, TemplateError> {
    let (mut cases, mut tokens) = (Vec::new(), tokens);
    loop {
        let asked = pipe(&tokens)?;
        let (body, end) = list(pieces)?;
        cases.push((asked, body));
        match end {
            Stop::Text => return Err(TemplateError::NoEnd("if")),
            Stop::End => return Ok(Node::If(cases, Vec::new())),
            Stop::Else(rest) => match rest.split_first() {
                None => return Ok(Node::If(cases, last(pieces, "if")?)),
                Some((Token::Word(word), rest)) if word == "if" => tokens = rest.to_vec(),
                Some(_) => return Err(TemplateError::Alone("else".into())),
            },
        }
    }
}

fn block(
    what: &'static str,
    tokens: &[Token],
    pieces: &mut Pieces,
) -> Result<(Pipe, Vec<Node>, Vec<Node>), TemplateError> {
    let over = pipe(tokens)?;
    let (body, end) = list(pieces)?;
    let otherwise = match end {
        Stop::Text => return Err(TemplateError::NoEnd(what)),
        Stop::End => Vec::new(),
        Stop::Else(_) => last(pieces, what)?,
    };
    Ok((over, body, otherwise))
}

/// What stands between `else` and `end`.
fn last(pieces: &mut Pieces, what: &'static str) -> Result<Vec<Node>, TemplateError> {
    match list(pieces)? {
        (nodes, Stop::End) => Ok(nodes),
        (_, Stop::Else(_)) => Err(TemplateError::Alone("else".into())),
        (_, Stop::Text) => Err(TemplateError::NoEnd(what)),
    }
}

fn pipe(tokens: &[Token]) -> Result<Pipe, TemplateError> {
    let mut rest = tokens;
    let mut variables = Vec::new();
    if let Some(at) = tokens.iter().position(|token| *token == Token::Set) {
        for token in &tokens[..at] {
            match token {
                Token::Variable(name) => variables.push(name.clone()),
                Token::Comma => {}
                _ => return Err(TemplateError::Unexpected(":=".into())),
            }
        }
        rest = &tokens[at + 1..];
    }
    let commands = commands(&mut rest)?;
    match rest.first() {
        None => Ok(Pipe { variables, commands }),
        Some(_) => Err(TemplateError::Unexpected(")".into())),
    }
}

/// Commands up to the end or a `)` that closes more than was opened.
fn commands(tokens: &mut &[Token]) -> Result<Vec<Vec<Operand>>, TemplateError> {
    let (mut commands, mut command) = (Vec::new(), Vec::<Operand>::new());
    while let Some((token, rest)) = tokens.split_first() {
        if *token == Token::Close {
            break;
        }
        *tokens = rest;
        match token {
            Token::Bar if command.is_empty() => return Err(TemplateError::Empty),
            Token::Bar => commands.push(std::mem::take(&mut command)),
            Token::Open => {
                let group = self::commands(tokens)?;
                let Some((Token::Close, rest)) = tokens.split_first() else {
                    return Err(TemplateError::Open("(".into()));
                };
                *tokens = rest;
                let base = Base::Group(Pipe { variables: Vec::new(), commands: group });
                command.push(Operand { base, fields: fields(tokens) });
            }
            Token::Fields(fields) => command.push(Operand { base: Base::Dot, fields: fields.clone() }),
            Token::Variable(name) => {
                command.push(Operand { base: Base::Variable(name.clone()), fields: fields(tokens) });
            }
            Token::Word(name) => command.push(Operand { base: Base::Function(name.clone()), fields: Vec::new() }),
            Token::Literal(value) => command.push(Operand { base: Base::Literal(value.clone()), fields: Vec::new() }),
            Token::Comma => return Err(TemplateError::Unexpected(",".into())),
            Token::Set | Token::Close => return Err(TemplateError::Unexpected(":=".into())),
        }
    }
    if command.is_empty() {
        return Err(TemplateError::Empty);
    }
    commands.push(command);
    Ok(commands)
}

/// The fields asked of what stands before: `$x.a` and `(f).a`. After a variable they are its own only without a space, which
/// the tokens do not tell; nobody writes two operands so.
fn fields(tokens: &mut &[Token]) -> Vec<String> {
    match tokens.split_first() {
        Some((Token::Fields(fields), rest)) if !fields.is_empty() => {
            *tokens = rest;
            fields.clone()
        }
        _ => Vec::new(),
    }
}
