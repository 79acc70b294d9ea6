//! `dockless login` and `dockless logout`.

use super::environment::Environment;
use super::network::{Network, ReachArgs};
use super::{Outcome, print, usage};
use crate::http::Secret;
use crate::oci::reference::DOCKER_HUB;
use crate::registry::{RegistryError, normalised};
use crate::store::Store;
use crate::ui::{self, AskError, Diagnostic, Kind, Look};
use clap::Args;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

/// A password is a line, not a file.
const LONGEST: u64 = 64 << 10;

/// Log in to a registry: prove user and password, and keep them
#[derive(Args)]
#[command(args_override_self = true)]
pub struct LoginArgs {
    /// The user
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// The password; seen by everybody who can list processes, so better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    reach: ReachArgs,
    /// The registry [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Shows no password.
impl std::fmt::Debug for LoginArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginArgs").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Forget the login to a registry
#[derive(Args, Debug)]
pub struct LogoutArgs {
    /// The registry [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// The registry that the user names: without scheme, and without a path.
fn registry(text: Option<&str>) -> String {
    let name = normalised(text.unwrap_or(DOCKER_HUB));
    name.split('/').next().unwrap_or_default().to_string()
}

impl LoginArgs {
    /// Logs in.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let registry = registry(self.registry.as_deref());
        let mut network = self.reach.network(environment, state, &[])?;
        if self.password.is_some() {
            ui::notice(
                look,
                "a password on the command line is seen by everybody who can list processes: use --password-stdin",
            );
        }
        let password = self.password.clone().map(Secret::new);
        let password = if self.password_stdin { Some(from_stdin()?) } else { password };
        if self.username.is_none() && password.is_none() && is_known(&network, &registry)? {
            return known(&network, &registry, look);
        }
        // Standard input that held the password has no user in it.
        let user = match &self.username {
            None if self.password_stdin => return Err(usage("the user is missing: give it with --username")),
            None => asked("Username: ", false, "the user is missing")?,
            Some(user) => user.clone(),
        };
        let password = match password {
            Some(password) => password,
            None => Secret::new(asked("Password: ", true, "the password is missing")?),
        };
        if user.is_empty() || password.is_empty() {
            return Err(usage("user and password must not be empty"));
        }
        if user.contains(':') {
            return Err(usage("a user's name holds no ':'"));
        }
        network.log_in(&registry, &user, &password);
        network.client()?.verify_login(&registry).map_err(|error| ui::login_failure(&error, &registry))?;
        // The state directory may be needed, and is made as the store wants it.
        Store::open(state)?;
        let keychain = network.keychain();
        let kept = keychain.keep(&registry, &user, &password)?;
        if let Some(why) = kept.instead_of {
            ui::notice(look, &format!("{why}: the login is kept in {}, which only dockless reads", kept.place));
        } else if kept.clear {
            ui::notice(look, &format!("the password is kept as it is in {}", kept.place));
        }
        let found = Network::plain(environment, state).keychain().lookup(&registry, "")?;
        if let Some(other) = found.credential.filter(|credential| credential.source != kept.place) {
            ui::notice(look, &format!("{} has a login for {registry} too, and comes first", other.source));
        }
        print("Login Succeeded\n")
    }
}

/// Whether there is a login already.
fn is_known(network: &Network, registry: &str) -> Outcome<bool> {
    Ok(network.client()?.lookup(registry, "").map_err(RegistryError::from)?.credential.is_some())
}

/// Asks at the terminal, if there is one; `missing` says what for.
fn asked(question: &str, hidden: bool, missing: &str) -> Outcome<String> {
    ui::ask(question, hidden).map_err(|error| {
        let diagnostic = match &error {
            AskError::NoTerminal => Diagnostic::new(Kind::Usage, format!("{missing}, and {error}"))
                .hint("dockless login -u USER --password-stdin REGISTRY < FILE"),
            AskError::Terminal(_) => Diagnostic::from_error(Kind::Environment, &error),
            // As a shell counts it.
            AskError::Signal(signal) => {
                Diagnostic::new(Kind::Environment, error.to_string()).exit(128 + *signal as u8) // signals end at 64
            }
        };
        Box::new(diagnostic)
    })
}

/// Proves the login that is there already.
fn known(network: &Network, registry: &str, look: Look) -> Outcome<ExitCode> {
    let client = network.client()?;
    let lookup = client.verify_login(registry).map_err(|error| ui::login_failure(&error, registry))?;
    ui::notice(look, &format!("logged in {}", lookup.describe()));
    print("Login Succeeded\n")
}

/// All of standard input, without the end of its line.
fn from_stdin() -> Outcome<Secret> {
    let mut text = String::new();
    match std::io::stdin().take(LONGEST).read_to_string(&mut text) {
        Ok(_) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
        Err(error) => Err(Box::new(Diagnostic::from_error(Kind::Usage, &error))),
    }
}

impl LogoutArgs {
    /// Forgets the login.
    pub fn run(self, environment: &Environment, state: &Path, look: Look) -> Outcome<ExitCode> {
        let registry = registry(self.registry.as_deref());
        let places = Network::plain(environment, state).keychain().forget(&registry)?;
        if places.is_empty() {
            ui::notice(look, &format!("not logged in to {registry}"));
        }
        let shown = if registry == DOCKER_HUB { "https://index.docker.io/v1/" } else { &registry };
        print(&format!("Removing login credentials for {shown}\n"))
    }
}
