//! What a check found, on standard output: for people as `docker buildx build --check` words it, as BuildKit's JSON, and
//! as SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0).

use super::lines::clean;
use crate::build::Source;
use crate::dockerfile::lint::{RULES, Warning, rule};
use crate::dockerfile::span::Span;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// An error that ended a check: its message and where it is.
pub type CheckError<'a> = (&'a str, Option<Span>);

/// For people.
pub fn lint_text(warnings: &[Warning], source: &Source) -> String {
    let mut text = match warnings.len() {
        0 => return "Check complete, no warnings found.\n".to_string(),
        1 => "Check complete, 1 warning has been found!\n".to_string(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        let _ = write!(text, "\nWARNING: {}", warning.rule);
        if let Some(rule) = rule(warning.rule) {
            let _ = write!(text, " - {}", rule.url());
        }
        let _ = writeln!(text, "\n{}", clean(warning.detail.as_bytes()));
        frame(&mut text, source, warning.span);
    }
    text
}

/// The lines of a span and two more above and below, the marked words underlined.
fn frame(text: &mut String, source: &Source, span: Span) {
    const AROUND: usize = 2;
    const RULE: &str = "--------------------";
    let lines: Vec<&str> = source.text.lines().collect();
    let (first, last) = (span.line.max(1) as usize, span.end_line as usize);
    let _ = writeln!(text, "{}:{first}\n{RULE}", source.name);
    let shown = first.saturating_sub(AROUND).max(1)..=(last + AROUND).min(lines.len());
    for (number, line) in shown.filter_map(|number| Some((number, *lines.get(number - 1)?))) {
        let marked = (first..=last).contains(&number);
        let mark = if marked { ">>>" } else { "   " };
        let _ = writeln!(text, "{}", format!(" {number:>3} | {mark} {}", clean(line.as_bytes())).trim_end());
        if marked && !line.trim().is_empty() {
            let start = if number == first && span.column > 0 { span.column as usize - 1 } else { indent(line) };
            let end = if number == last && span.end_column > 0 { span.end_column as usize - 1 } else { usize::MAX };
            let width = number.to_string().len().max(3);
            let _ = writeln!(text, " {:width$} |     {}", "", underline(line, start, end));
        }
    }
    let _ = writeln!(text, "{RULE}");
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// `^` below the bytes from `start` to `end` of a line, as far as it has them; tabs before them stay tabs.
fn underline(line: &str, start: usize, end: usize) -> String {
    let shown = |upto: usize| {
        let upto = (0..=upto.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        clean(&line.as_bytes()[..upto])
    };
    let (before, upto) = (shown(start), shown(end.min(line.trim_end().len())));
    let width = upto.chars().count().saturating_sub(before.chars().count()).max(1);
    let blank: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
    format!("{blank}{}", "^".repeat(width))
}

/// BuildKit's `result.json` of a lint.
pub fn lint_json(warnings: &[Warning], error: Option<CheckError<'_>>, source: &Source) -> String {
    let warning = |warning: &Warning| {
        json!({
            "ruleName": warning.rule,
            "description": warning.description,
            "url": rule(warning.rule).map(|rule| rule.url()),
            "detail": warning.detail,
            "location": location(warning.span),
        })
    };
    let mut document = json!({
        "warnings": warnings.iter().map(warning).collect::<Vec<_>>(),
        "sources": [{
            "fileName": source.name,
            "language": "Dockerfile",
            "data": STANDARD.encode(&source.text),
        }],
    });
    if let Some((message, span)) = error {
        document["buildError"] = json!({ "message": message, "location": span.map_or(json!({}), location) });
    }
    pretty(&document)
}

/// BuildKit's `Location`: lines from 1, columns from 0 and left out where the whole line is meant.
pub(super) fn location(span: Span) -> Value {
    let position = |line: u32, column: u32| match column {
        0 | 1 => json!({ "line": line }),
        column => json!({ "line": line, "character": column - 1 }),
    };
    json!({ "ranges": [{
        "start": position(span.line, span.column),
        "end": position(span.end_line, span.end_column),
    }] })
}

pub(super) fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}

/// SARIF: one run, every rule, one result a warning and one for the error.
pub fn lint_sarif(warnings: &[Warning], error: Option<CheckError<'_>>, source: &Source, version: &str) -> String {
    let descriptor = |rule: &&crate::dockerfile::lint::Rule| {
        json!({
            "id": rule.name,
            "shortDescription": { "text": rule.description },
            "helpUri": rule.url(),
            "defaultConfiguration": { "level": "warning", "enabled": !rule.experimental },
        })
    };
    let place = |span: Span| {
        let mut region = json!({ "startLine": span.line.max(1), "endLine": span.end_line.max(1) });
        if span.column > 0 && span.end_column > 0 {
            let lines: Vec<&str> = source.text.split('\n').collect();
            region["startColumn"] = column(&lines, span.line, span.column).into();
            region["endColumn"] = column(&lines, span.end_line, span.end_column).into();
        }
        json!({ "physicalLocation": { "artifactLocation": { "uri": source.name }, "region": region } })
    };
    let mut results: Vec<Value> = warnings
        .iter()
        .map(|warning| {
            json!({
                "ruleId": warning.rule,
                "ruleIndex": RULES.iter().position(|rule| rule.name == warning.rule),
                "level": "warning",
                "message": { "text": warning.detail },
                "locations": [place(warning.span)],
            })
        })
        .collect();
    if let Some((message, span)) = error {
        let places: Vec<Value> = vec![place(span.unwrap_or(Span::lines(1, 1)))];
        results
            .push(json!({ "ruleId": "error", "level": "error", "message": { "text": message }, "locations": places }));
    }
    pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "dockless",
                "version": version,
                "rules": RULES.iter().map(descriptor).collect::<Vec<_>>(),
            } },
            "columnKind": "utf16CodeUnits",
            "results": results,
        }],
    }))
}

/// A column in UTF-16 units, from one in bytes.
fn column(lines: &[&str], line: u32, column: u32) -> usize {
    let text = lines.get(line.max(1) as usize - 1).copied().unwrap_or_default();
    let before = text.get(..column as usize - 1).unwrap_or(text);
    before.encode_utf16().count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::lint::{MAINTAINER_DEPRECATED, detail};

    fn source(text: &str) -> Source {
        Source { name: "Dockerfile".into(), text: text.into() }
    }

    #[test]
    fn words_are_underlined_where_they_stand() {
        let mut text = String::new();
        let span = Span { line: 2, end_line: 2, column: 8, end_column: 12 };
        frame(&mut text, &source("FROM x\nRUN é wörd\nCMD y\nUSER 1\nUSER 2\n"), span);
        let expected = "Dockerfile:2\n--------------------\n   1 |     FROM x\n   2 | >>> RUN é wörd\n     |           ^^^\n   3 |     CMD y\n   4 |     USER 1\n--------------------\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn sarif_has_a_result_for_warnings_and_for_the_error() {
        let warning = Warning::new(&MAINTAINER_DEPRECATED, detail::maintainer_deprecated(), Span::lines(2, 2));
        let error = ("broken", Some(Span { line: 1, end_line: 1, column: 1, end_column: 5 }));
        let text = lint_sarif(&[warning], Some(error), &source("FROM x\nMAINTAINER me\n"), "1.0");
        let sarif: Value = serde_json::from_str(&text).expect("JSON");
        let results = &sarif["runs"][0]["results"];
        let rules = &sarif["runs"][0]["tool"]["driver"]["rules"];
        assert_eq!(rules.as_array().map(Vec::len), Some(22));
        assert_eq!(rules[results[0]["ruleIndex"].as_u64().unwrap() as usize]["id"], "MaintainerDeprecated");
        assert_eq!(results[1]["level"], "error");
        assert_eq!(results[1]["locations"][0]["physicalLocation"]["region"]["endColumn"], 5);
    }
}
