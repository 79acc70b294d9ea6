//! Credential helpers: programs named `docker-credential-NAME`. Spec: docker/docker-credential-helpers, README.

use super::{Identity, KeychainError};
use crate::http::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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
    let call = Call { name, source_name, server };
    let (out, err, status) = call.run("get", server, environment, limit)?;
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
    Err(call.failed(said.map_or_else(|| format!("no answer ({status})"), |text| text.chars().take(300).collect())))
}

/// Has the helper `store` or `erase`; `words` is what it reads.
pub(super) fn tell(
    name: &str,
    action: &str,
    words: &str,
    source_name: &str,
    environment: &BTreeMap<String, String>,
) -> Result<(), KeychainError> {
    let call = Call { name, source_name, server: action };
    let (out, err, status) = call.run(action, words, environment, LIMIT)?;
    if status.success() {
        return Ok(());
    }
    let said = [err, out].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string());
    // What it was told holds the password, and some repeat what they are told.
    let said = said.into_iter().find(|text| !text.is_empty() && !text.contains('{'));
    Err(call.failed(said.unwrap_or_else(|| status.to_string()).chars().take(300).collect()))
}

/// One call of a helper.
struct Call<'a> {
    name: &'a str,
    source_name: &'a str,
    server: &'a str,
}

impl Call<'_> {
    fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn failed(&self, message: String) -> KeychainError {
        KeychainError::HelperFailed {
            program: self.program(),
            source_name: self.source_name.into(),
            server: self.server.into(),
            message,
        }
    }

    fn run(
        &self,
        action: &str,
        words: &str,
        environment: &BTreeMap<String, String>,
        limit: Duration,
    ) -> Result<(Vec<u8>, Vec<u8>, ExitStatus), KeychainError> {
        let program = self.program();
        let run =
            |cause| KeychainError::HelperRun { program: program.clone(), source_name: self.source_name.into(), cause };
        // A slash would name a program of the repository's choice.
        if self.name.contains('/') {
            return Err(run(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let mut command = Command::new(&program);
        command.arg(action).env_clear().envs(environment);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(run)?;
        let output = talk(&mut child, words, limit);
        if let Ok(Some((out, err))) = output {
            // Both outputs have ended: so will it, or it is ended.
            let status = ended(&mut child, limit).map_err(run)?;
            return Ok((out, err, status));
        }
        // Ends it in every case, or finds it ended.
        let killed = child.kill();
        child.wait().map_err(run)?;
        output.map_err(run)?;
        killed.map_err(run)?;
        Err(KeychainError::HelperTimeout {
            program: program.clone(),
            source_name: self.source_name.into(),
            server: self.server.into(),
            seconds: limit.as_secs(),
        })
    }
}

/// The status of a child that has closed its outputs; one that goes on all the same is killed.
fn ended(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()
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
