//! Credential helpers: programs named `docker-credential-NAME`. Spec: docker/docker-credential-helpers, README.

use super::{Identity, KeychainError};
use crate::http::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A helper that asks a person, or a cloud that is not there, must not hold a build up for ever.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// The user name that says that the secret is a refresh token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: Secret,
}

/// Asks the helper `name` about `server`, with `environment` and nothing else. `None` if it does not know the server.
pub(super) fn get(
    name: &str,
    server: &str,
    source_name: &str,
    environment: &BTreeMap<String, String>,
    limit: Duration,
) -> Result<Option<Identity>, KeychainError> {
    let program = format!("docker-credential-{name}");
    let run = |cause| KeychainError::HelperRun { program: program.clone(), source_name: source_name.into(), cause };
    let failed = |message: String| KeychainError::HelperFailed {
        program: program.clone(),
        source_name: source_name.into(),
        server: server.into(),
        message,
    };
    // A slash would name a program of the repository's choice.
    if name.contains('/') {
        return Err(run(io::Error::from(io::ErrorKind::InvalidInput)));
    }
    let mut command = Command::new(&program);
    command.arg("get").env_clear().envs(environment);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(run)?;
    let output = talk(&mut child, server, limit);
    // Ends it in every case, or finds it ended.
    let killed = child.kill();
    let status = child.wait().map_err(run)?;
    let Some((out, err)) = output.map_err(run)? else {
        return Err(KeychainError::HelperTimeout {
            program: program.clone(),
            source_name: source_name.into(),
            server: server.into(),
            seconds: limit.as_secs(),
        });
    };
    killed.map_err(run)?;
    if let Ok(answer) = serde_json::from_slice::<Answer>(&out) {
        let Answer { username, secret } = answer;
        let empty = secret.is_empty();
        let identity = match username.as_str() {
            TOKEN_USER => Identity::RefreshToken(secret),
            _ => Identity::Password { user: username, password: secret },
        };
        return Ok((!empty).then_some(identity));
    }
    let words = [out, err].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string());
    if words.iter().any(|text| text.contains("credentials not found")) {
        return Ok(None);
    }
    let said = words.into_iter().find(|text| !text.is_empty() && !text.starts_with('{'));
    Err(failed(said.map_or_else(|| format!("no answer ({status})"), |text| text.chars().take(300).collect())))
}

type Outputs = (Vec<u8>, Vec<u8>);

/// Writes the question and reads both outputs; `None` if they do not end in time.
fn talk(child: &mut Child, server: &str, limit: Duration) -> io::Result<Option<Outputs>> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may end without reading.
        let _ = stdin.write_all(server.as_bytes());
    }
    let (sender, receiver) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    // Not joined: a grandchild that keeps a pipe open must not hold us up.
    std::thread::Builder::new().name("credential helper".into()).spawn(move || {
        let (mut read, mut said) = (Vec::new(), Vec::new());
        let result = out.map_or(Ok(0), |pipe| pipe.take(1 << 20).read_to_end(&mut read));
        let result = result.and_then(|_| err.map_or(Ok(0), |pipe| pipe.take(1 << 14).read_to_end(&mut said)));
        // The receiver is gone only after the time is up.
        let _ = sender.send(result.map(|_| (read, said)));
    })?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result.map(Some),
        Err(_) => Ok(None),
    }
}
