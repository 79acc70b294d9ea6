//! RUN.

use super::error::PlanErrorKind;
use super::fold::Fold;
use super::model::{Network, RunStep, Script, StepKind};
use super::mount::{self, Mount};
use super::planner::Command;
use crate::dockerfile::instruction::{CommandLine, Heredoc, RunInstruction};
use crate::dockerfile::suggest::nearest;
use crate::dockerfile::{self, heredoc};

const NETWORKS: &[(&str, Network)] = &[("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
const SECURITIES: &[&str] = &["sandbox", "insecure"];

impl Fold<'_, '_> {
    pub(super) fn run(&mut self, command: &Command<'_>, run: &RunInstruction) -> Result<(), PlanErrorKind> {
        let mounts = self.mounts(command, run)?;
        let (line, script) = heredocs(run);
        let args = self.state.with_shell(&line);
        let created_by = format!("RUN {} # buildkit", self.run_text(&args));
        let text = self.run_display(command, run);
        let step = RunStep {
            args,
            script,
            env: self.state.env.entries().to_vec(),
            proxy_env: self.planner.globals.proxies(),
            cwd: self.state.cwd(),
            user: self.state.config.config.user.clone(),
            mounts,
            network: run.network.as_deref().map(network).transpose()?,
            insecure: run.security.as_deref().map(is_insecure).transpose()?.unwrap_or(false),
            devices: run.devices.clone(),
            declared_args: self.state.args.entries().to_vec(),
        };
        self.push(command, Some(text), created_by, StepKind::Run(Box::new(step)));
        Ok(())
    }

    fn mounts(&mut self, command: &Command<'_>, run: &RunInstruction) -> Result<Vec<Mount>, PlanErrorKind> {
        let mut mounts = Vec::new();
        for (index, value) in run.mounts.iter().enumerate() {
            let mount = dockerfile::mount::Mount::parse(value, |word| self.expand(command, word))?;
            let from = self.tree(command, index)?;
            let namespace = self.planner.globals.build_args.value("BUILDKIT_CACHE_MOUNT_NS");
            let namespace = namespace.filter(|namespace| !namespace.is_empty());
            mounts.push(mount::resolve(mount, from, &self.state.cwd(), namespace)?);
        }
        Ok(mounts)
    }

    /// `|2 A=x B= /bin/sh -c make`: the declared arguments with the values RUN sees, then the command.
    fn run_text(&self, args: &[String]) -> String {
        let mut words = Vec::new();
        let args_in_scope = self.state.args.entries();
        if !args_in_scope.is_empty() {
            words.push(format!("|{}", args_in_scope.len()));
        }
        for (name, value) in args_in_scope {
            let value = self.state.env.value(name).or(value.as_deref()).unwrap_or_default();
            words.push(format!("{name}={value}"));
        }
        words.extend(args.iter().cloned());
        words.join(" ")
    }

    fn run_display(&self, command: &Command<'_>, run: &RunInstruction) -> String {
        let text = self.planner.words.display(&command.instruction.original, &self.state.env, true);
        let (_, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let mut text = format!("{}RUN {rest}", if command.trigger { "ONBUILD " } else { "" });
        if let (Some(_), Some(heredoc)) = (whole_heredoc(run), run.heredocs.first()) {
            let mut lines = heredoc.body.trim().lines();
            let first = lines.next().unwrap_or_default();
            let more = if lines.next().is_some() { "..." } else { "" };
            text.push_str(&format!(" ({first}{more})"));
        }
        text
    }
}

/// The heredoc that is all of a RUN's argument.
fn whole_heredoc(run: &RunInstruction) -> Option<&Heredoc> {
    match (&run.command, run.heredocs.first()) {
        (CommandLine::Shell(text), Some(heredoc)) if matches!(heredoc::parse_word(text), Ok(Some(_))) => Some(heredoc),
        _ => None,
    }
}

/// The command with its heredocs put in: a script of its own, the shell's text, or for the shell to read.
fn heredocs(run: &RunInstruction) -> (CommandLine, Option<Script>) {
    if let Some(heredoc) = whole_heredoc(run) {
        if !heredoc.body.starts_with("#!") {
            return (CommandLine::Shell(heredoc.body.clone()), None);
        }
        let path = format!("/dev/pipes/{}", heredoc.name);
        let script = Script { path: path.clone(), content: heredoc.body.clone() };
        return (CommandLine::Shell(path), Some(script));
    }
    match &run.command {
        CommandLine::Shell(text) if !run.heredocs.is_empty() => {
            let mut text = text.clone();
            for heredoc in &run.heredocs {
                text.push_str(&format!("\n{}{}", heredoc.body, heredoc.name));
            }
            (CommandLine::Shell(text), None)
        }
        command => (command.clone(), None),
    }
}

fn network(name: &str) -> Result<Network, PlanErrorKind> {
    let known = NETWORKS.iter().find(|(known, _)| *known == name);
    known.map(|(_, network)| *network).ok_or_else(|| PlanErrorKind::Network {
        name: name.to_string(),
        suggestion: nearest(name, NETWORKS.iter().map(|(known, _)| *known)).map(str::to_string),
    })
}

fn is_insecure(name: &str) -> Result<bool, PlanErrorKind> {
    match name {
        "sandbox" => Ok(false),
        "insecure" => Ok(true),
        _ => Err(PlanErrorKind::Security {
            name: name.to_string(),
            suggestion: nearest(name, SECURITIES.iter().copied()).map(str::to_string),
        }),
    }
}
