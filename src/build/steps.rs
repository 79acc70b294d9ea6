//! The steps that make layers: RUN, COPY and ADD, WORKDIR.

use super::Build;
use super::error::StepError;
use super::key::{CacheKey, Encoder};
use super::record::StepRecord;
use super::stage::StageState;
use crate::oci::{Layer, Platform};
use crate::plan::{Network, RunStep};
use crate::progress::{Event, Outcome, StepId};
use crate::rootfs::{Compression, LayerOptions};
use crate::sandbox::{self, Exit, Mount, MountSource, RunSpec, Stdio};
use crate::store::TempDir;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Where a record of the local store says that it was found.
const LOCAL: &str = "local";

/// The name of the machine in a RUN step: BuildKit's, so that what a step writes down does not depend on where it ran.
const HOSTNAME: &str = "buildkitsandbox";

impl Build<'_> {
    /// The remembered result of `key`, or `make`'s layer, which is remembered then.
    pub(super) fn cached_or(
        &self,
        key: &CacheKey,
        make: impl FnOnce() -> Result<Layer, StepError>,
    ) -> Result<(StepRecord, Outcome), StepError> {
        if let Some(record) = self.cached(key)? {
            return Ok((record, Outcome::Cached(LOCAL.into())));
        }
        let layer = make()?;
        Ok((self.remember(key, Some(layer))?, Outcome::Done))
    }

    /// How the build's layers are written.
    pub(super) fn layer_options(&self) -> LayerOptions {
        let epoch = self.epoch.filter(|_| self.options.rewrite_timestamp);
        LayerOptions { compression: Compression::default(), threads: self.services.threads, epoch }
    }

    /// RUN.
    pub(super) fn run(
        &self,
        state: &StageState,
        step: &RunStep,
        id: StepId,
    ) -> Result<(StepRecord, Outcome), StepError> {
        reject_unsupported(step)?;
        let key = self.run_key(state, step);
        self.cached_or(&key, || {
            let host = Platform::host();
            if !host.accepts(&state.stage.platform) {
                return Err(StepError::Platform { host, wanted: state.stage.platform.clone() });
            }
            self.execute(state, step, id)
        })
    }

    fn run_key(&self, state: &StageState, step: &RunStep) -> CacheKey {
        let mut key = self.encoder("run", state);
        key.list("args", &step.args);
        key.list("env", step.env.iter().map(|(name, value)| format!("{name}={value}")));
        let declared = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        key.list("declared", step.declared_args.iter().map(declared));
        key.field("cwd", &step.cwd);
        key.field("user", &step.user);
        key.field("network", network_name(self.network(step)));
        encode_script(&mut key, step);
        key.finish()
    }

    /// Runs the command on top of the stage's tree and takes the difference.
    fn execute(&self, state: &StageState, step: &RunStep, id: StepId) -> Result<Layer, StepError> {
        let snapshot = self.snapshots.prepare(&state.layers, &|layer| self.fetch(layer))?;
        let temp = self.services.store.temp_dir()?;
        let mut spec = RunSpec::new(snapshot.root(), &step.args);
        spec.env = step.env.iter().chain(&step.proxy_env).map(|(k, v)| (k.into(), v.into())).collect();
        spec.cwd = PathBuf::from(&step.cwd);
        spec.user.clone_from(&step.user);
        spec.hostname = Some(HOSTNAME.into());
        spec.hosts.clone_from(&self.options.add_hosts);
        spec.network = self.network(step);
        spec.stdio = Stdio::Capture;
        spec.mounts.extend(script_mount(step, &temp)?);
        let mut output = |stream, data: &[u8]| {
            self.services.progress.emit(Event::Output { id, stream, data: data.to_vec() });
        };
        let command = step.args.join(" ");
        match self.services.sandbox.run(&spec, &mut output)? {
            Exit::Code(0) => {}
            Exit::Code(code) => return Err(StepError::Exit { code, command }),
            Exit::Signal(signal) => return Err(StepError::Signal { signal, command }),
        }
        let (layer, left_out) = snapshot.commit(self.layer_options(), &[])?;
        for path in left_out {
            self.services.progress.emit(Event::Note { id: Some(id), text: path.to_string() });
        }
        Ok(layer)
    }

    fn network(&self, step: &RunStep) -> sandbox::Network {
        match (step.network, self.options.network.as_deref()) {
            (Some(Network::None), _) | (None | Some(Network::Default), Some("none")) => sandbox::Network::None,
            _ => sandbox::Network::Host,
        }
    }
}

fn network_name(network: sandbox::Network) -> &'static str {
    match network {
        sandbox::Network::Host => "host",
        sandbox::Network::None => "none",
    }
}

fn reject_unsupported(step: &RunStep) -> Result<(), StepError> {
    let unsupported = |what: &str| Err(StepError::Unsupported { what: what.to_string() });
    if !step.mounts.is_empty() {
        return unsupported("RUN --mount");
    }
    if step.insecure {
        return unsupported("RUN --security=insecure");
    }
    if !step.devices.is_empty() {
        return unsupported("RUN --device");
    }
    Ok(())
}

fn encode_script(key: &mut Encoder, step: &RunStep) {
    let script = step.script.iter().flat_map(|script| [&script.path, &script.content]);
    key.list("script", script);
}

/// A heredoc that is a program of its own, shown to the command as a file.
fn script_mount(step: &RunStep, temp: &TempDir) -> Result<Option<Mount>, StepError> {
    let Some(script) = &step.script else { return Ok(None) };
    let file = temp.path().join("script");
    fs_err::write(&file, &script.content)?;
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(Some(Mount { source: MountSource::Bind(file), target: PathBuf::from(&script.path), readonly: true }))
}
