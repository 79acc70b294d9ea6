//! What the process was started with: environment variables, current directory, user. Read once, passed down as values.

use super::network::Variables;
use crate::ui;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The surroundings of the process. Not `Debug`: variables hold credentials.
pub struct Environment {
    vars: BTreeMap<OsString, OsString>,
    cwd: PathBuf,
    uid: u32,
    stderr_is_terminal: bool,
}

impl Environment {
    /// Reads the surroundings of this process.
    pub fn read() -> Environment {
        Environment {
            vars: std::env::vars_os().collect(),
            // Without a current directory (it was removed) relative paths fail when they are opened, with their name.
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            uid: rustix::process::geteuid().as_raw(),
            stderr_is_terminal: ui::stderr_is_terminal(),
        }
    }

    /// Surroundings made up by a test: standard error is no terminal.
    #[cfg(test)]
    pub fn of(vars: &[(&str, &str)], cwd: &Path) -> Environment {
        let vars = vars.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        Environment { vars, cwd: cwd.to_path_buf(), uid: 1000, stderr_is_terminal: false }
    }

    /// The same surroundings with one variable set.
    pub fn with(mut self, name: &str, value: &str) -> Environment {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// A variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Names of variables that begin so and are set.
    pub fn names(&self, beginning: &str) -> Vec<String> {
        let names = self.vars.keys().filter_map(|name| name.to_str());
        names.filter(|name| name.starts_with(beginning)).map(String::from).collect()
    }

    /// A variable's bytes, empty included.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// A variable's text, empty included; `None` where it is unset or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.vars.get(OsStr::new(name)).and_then(|value| value.to_str())
    }

    /// All variables that are text, for the process that works and for credential helpers.
    pub fn variables(&self) -> Variables {
        let text = |(name, value): (&OsString, &OsString)| Some((name.to_str()?.into(), value.to_str()?.into()));
        Variables::new(self.vars.iter().filter_map(text))
    }

    /// The effective user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// `path` from the current directory, without the `.` components.
    pub fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        self.cwd.join(path).components().collect()
    }

    /// What is known of standard error, for `ui`.
    pub fn terminal(&self) -> ui::Terminal {
        let on = |name: &str| self.get(name).is_some_and(|value| value != "0" && value != "false");
        ui::Terminal {
            is_terminal: self.stderr_is_terminal,
            term: self.text("TERM").map(str::to_string),
            ci: on("CI"),
            no_color: self.get("NO_COLOR").is_some(),
            clicolor_off: self.text("CLICOLOR") == Some("0"),
            clicolor_force: on("CLICOLOR_FORCE"),
        }
    }
}
