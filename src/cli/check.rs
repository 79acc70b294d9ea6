//! `dockless build --check` and `--call=check|outline|targets`: what a Dockerfile says, with nothing built. No namespace
//! is entered.

use super::network::Network;
use super::{Outcome, print, usage};
use crate::build::check::{self, Checked};
use crate::build::{self, BuildError, BuildOptions, Lookup, Source};
use crate::store::Store;
use crate::ui::{self, Diagnostic, Look, Mode, Screen};
use std::cell::OnceCell;
use std::path::Path;
use std::process::ExitCode;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The warnings.
    Check,
    /// What the build takes from its caller.
    Outline,
    /// The stages.
    Targets,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// BuildKit's JSON.
    Json,
    /// SARIF 2.1.0; of warnings alone.
    Sarif,
}

/// A question about a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    call: Call,
    form: Form,
    /// Warnings leave the exit code alone.
    ignore_status: bool,
}

const FORMS: &str = "expected text, json or sarif";

impl Question {
    /// Reads `--call=METHOD[,format=FORM][,ignorestatus=true]`; `None` for `build`.
    pub fn parse(text: &str) -> Outcome<Option<Question>> {
        let wrong = |what: &str| usage(format!("--call={text}: {what}"));
        let mut fields = text.split(',');
        let call = match fields.next().unwrap_or_default() {
            "build" | "" => None,
            "check" | "lint" => Some(Call::Check),
            "outline" => Some(Call::Outline),
            "targets" => Some(Call::Targets),
            _ => return Err(wrong("expected build, check, outline or targets")),
        };
        let (mut form, mut ignore_status) = (Form::default(), false);
        for field in fields {
            match field.split_once('=').unwrap_or((field, "true")) {
                ("format", name) => form = Form::named(name).ok_or_else(|| wrong(FORMS))?,
                ("ignorestatus", value) => {
                    ignore_status = value.parse().map_err(|_| wrong("ignorestatus is true or false"))?;
                }
                (key, _) => return Err(wrong(&format!("unknown key '{key}': expected format or ignorestatus"))),
            }
        }
        call.map(|call| Question { call, form, ignore_status }.checked()).transpose()
    }

    /// `--check`, with the form that `--format` names.
    pub fn check(form: Option<Form>) -> Question {
        Question { call: Call::Check, form: form.unwrap_or_default(), ignore_status: false }
    }

    /// The same question, answered in another form.
    pub fn in_form(self, form: Form) -> Outcome<Question> {
        Question { form, ..self }.checked()
    }

    fn checked(self) -> Outcome<Question> {
        if self.form == Form::Sarif && self.call != Call::Check {
            return Err(usage("sarif is a form of warnings: expected format=text or format=json"));
        }
        Ok(self)
    }
}

impl Form {
    fn named(name: &str) -> Option<Form> {
        match name {
            "" | "text" => Some(Form::Text),
            "json" => Some(Form::Json),
            "sarif" => Some(Form::Sarif),
            _ => None,
        }
    }
}

/// Answers `question` on standard output.
pub fn answer(
    question: Question,
    options: &BuildOptions,
    state: &Path,
    network: &Network,
    look: Look,
) -> Outcome<ExitCode> {
    let registry = network.client()?;
    let screen = Screen::stderr(Look { mode: Mode::Quiet, ..look });
    let store = OnceCell::new();
    let lookup = || {
        let opened = Store::open(state)?;
        Ok(Lookup { ssh: &options.ssh, store: store.get_or_init(|| opened), registry: &registry, progress: &screen })
    };
    let inputs = build::open_main(options, lookup)?;
    let source = &inputs.dockerfile;
    let failure = |error: BuildError| ui::build_failure(&error, source);
    match question.call {
        Call::Check => {
            let checked = check::check(options, &inputs, lookup);
            checked.iter().flat_map(|checked| &checked.notes).for_each(|text| ui::notice(look, text));
            report(question, checked, source)
        }
        Call::Outline => {
            let outline = check::outline(options, source, lookup).map_err(failure)?;
            print(&match question.form {
                Form::Json => ui::outline_json(&outline, source),
                Form::Text | Form::Sarif => ui::outline_text(&outline),
            })
        }
        Call::Targets => {
            let file = check::targets(source).map_err(failure)?;
            print(&match question.form {
                Form::Json => ui::targets_json(&file, source),
                Form::Text | Form::Sarif => ui::targets_text(&file),
            })
        }
    }
}

/// Writes the warnings; an error is in the document too, where there is one, and ends the command.
fn report(question: Question, checked: Result<Checked, BuildError>, source: &Source) -> Outcome<ExitCode> {
    let (warnings, error) = match checked {
        Ok(Checked { warnings, error: true, .. }) if !warnings.is_empty() => {
            (warnings.clone(), Some(BuildError::lint(warnings)))
        }
        Ok(Checked { warnings, .. }) => (warnings, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let message = error.as_ref().map(|error| (error.to_string(), error.place(&source.text)));
    let message = message.as_ref().map(|(text, span)| (text.as_str(), *span));
    let text = match question.form {
        // Nothing was found because nothing could be looked at: the failure says all.
        Form::Text if error.is_some() && warnings.is_empty() => String::new(),
        Form::Text => ui::lint_text(&warnings, source),
        Form::Json => ui::lint_json(&warnings, message, source),
        Form::Sarif => ui::lint_sarif(&warnings, message, source, super::VERSION),
    };
    let printed = print(&text)?;
    let failed: Option<Box<Diagnostic>> = error.map(|error| ui::build_failure(&error, source));
    match failed {
        Some(failure) => Err(failure),
        None if warnings.is_empty() || question.ignore_status => Ok(printed),
        None => Ok(ExitCode::FAILURE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_calls() {
        let json = Question { call: Call::Check, form: Form::Json, ignore_status: false };
        assert_eq!(Question::parse("check,format=json").ok(), Some(Some(json)));
        assert_eq!(Question::parse("build").ok(), Some(None));
        for (text, message) in [
            ("chek", "--call=chek: expected build, check, outline or targets"),
            ("check,format=xml", "--call=check,format=xml: expected text, json or sarif"),
            ("check,fmt=json", "--call=check,fmt=json: unknown key 'fmt': expected format or ignorestatus"),
            ("targets,format=sarif", "sarif is a form of warnings: expected format=text or format=json"),
        ] {
            assert_eq!(Question::parse(text).unwrap_err().message, message);
        }
    }
}
