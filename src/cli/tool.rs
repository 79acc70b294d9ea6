//! Which tool's command line is spoken: by the name that the program is called by (a link to it), or by the first argument.

use crate::ui::{Diagnostic, Kind};
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::path::Path;

/// A tool whose command line is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// dockless itself.
    Dockless,
    /// `docker`, and `docker-compose` as `docker compose`.
    Docker,
    /// kaniko's `executor`.
    Kaniko,
    /// BuildKit's `buildctl` and `buildctl-daemonless.sh`.
    Buildctl,
    /// `buildah`
    Buildah,
}

impl Tool {
    /// Takes the tool off a command line; what stays are its own arguments, after the program's name.
    pub fn called(mut arguments: Vec<OsString>) -> (Tool, Vec<OsString>) {
        let program = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        let tool = match program.to_str().unwrap_or_default() {
            "docker" => Tool::Docker,
            "docker-compose" => {
                arguments.insert(1, "compose".into());
                Tool::Docker
            }
            "executor" => Tool::Kaniko,
            "buildctl" | "buildctl-daemonless.sh" => Tool::Buildctl,
            "buildah" => Tool::Buildah,
            _ => {
                let tool = match arguments.get(1).and_then(|word| word.to_str()) {
                    Some("docker") => Tool::Docker,
                    Some("kaniko") => Tool::Kaniko,
                    Some("buildctl") => Tool::Buildctl,
                    Some("buildah") => Tool::Buildah,
                    _ => return (Tool::Dockless, arguments),
                };
                arguments.remove(1);
                tool
            }
        };
        (tool, arguments)
    }

    /// Its name, as usage lines have it.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Dockless => "dockless",
            Tool::Docker => "docker",
            Tool::Kaniko => "executor",
            Tool::Buildctl => "buildctl",
            Tool::Buildah => "buildah",
        }
    }

    /// The exit code of a command line that cannot be read. Docker's: 125 for a flag, 1 for a number of arguments.
    pub fn misread(self, error: ErrorKind, runs: bool) -> u8 {
        let arguments = matches!(error, ErrorKind::MissingRequiredArgument | ErrorKind::TooManyValues);
        match self {
            _ if runs => 125,
            Tool::Dockless => 2,
            Tool::Docker if arguments => 1,
            Tool::Docker | Tool::Buildah => 125,
            Tool::Kaniko | Tool::Buildctl => 1,
        }
    }

    /// The exit code of a failure.
    pub fn exit(self, diagnostic: &Diagnostic, runs: bool) -> u8 {
        let usage = diagnostic.kind == Kind::Usage && diagnostic.exit == 2;
        match self {
            // `docker run` leaves the low codes to the container.
            _ if runs => 125,
            Tool::Docker if usage => 125,
            Tool::Kaniko | Tool::Buildctl if usage => 1,
            Tool::Buildah if usage || diagnostic.exit == 1 => 125,
            _ => diagnostic.exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_called() {
        let table: &[(&str, Tool, &[&str])] = &[
            ("dockless build .", Tool::Dockless, &["build", "."]),
            ("/usr/bin/docker build .", Tool::Docker, &["build", "."]),
            ("dockless docker build .", Tool::Docker, &["build", "."]),
            ("docker-compose build", Tool::Docker, &["compose", "build"]),
            ("/kaniko/executor -c x", Tool::Kaniko, &["-c", "x"]),
            ("x kaniko -c x", Tool::Kaniko, &["-c", "x"]),
            ("buildctl-daemonless.sh build", Tool::Buildctl, &["build"]),
            ("buildah bud", Tool::Buildah, &["bud"]),
            ("docker docker", Tool::Docker, &["docker"]),
            ("", Tool::Dockless, &[]),
        ];
        for (line, tool, rest) in table {
            let (found, arguments) = Tool::called(line.split_whitespace().map(OsString::from).collect());
            let rest: Vec<OsString> = rest.iter().map(OsString::from).collect();
            assert_eq!((found, arguments.get(1..).unwrap_or_default()), (*tool, &rest[..]), "{line}");
        }
    }
}
