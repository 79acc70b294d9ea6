//! The steps that make layers: RUN, COPY and ADD, WORKDIR.

use super::Build;
use super::cache::selections::Naming;
use super::error::StepError;
use super::explain::{Selection, makings};
use super::key::Encoder;
use super::options::Entitlement;
use super::record::Sight;
use super::schedule::Results;
use super::stage::{Made, StageResult, StageState};
use crate::oci::{Layer, Platform};
use crate::plan::{Network, PlannedStage, RunStep};
use crate::progress::{Event, Outcome, StepId};
use crate::rootfs::{Compression, LayerOptions};
use crate::sandbox::{self, Exit, Mount, MountSource, RunSpec, Stdio};
use crate::store::{BlobWriter, TempDir};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::PoisonError;

/// The same of a step that another stage of the build has made.
const THIS_BUILD: &str = "this build";

/// The name of the machine in a RUN step: BuildKit's, so that what a step writes down does not depend on where it ran.
const HOSTNAME: &str = "buildkitsandbox";

/// The build argument that says another one.
const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Where a step sees the certificates of `--inject-ca`.
const AUTHORITIES: &str = "/run/dockless/ca-certificates.crt";
/// Variables by which programs are told of them: OpenSSL and Go, curl, Python's requests and pip, Node, git, Cargo.
const AUTHORITIES_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

impl Build<'_> {
    /// The remembered result of the step whose key is in `key`, or `make`'s layer, which is remembered then. `files` are
    /// those that the step selects.
    pub(super) fn cached_or(
        &self,
        state: &StageState,
        key: Encoder,
        files: Option<Selection<'_>>,
        results: &Results<StageResult>,
        id: StepId,
        make: impl FnOnce() -> Result<(Layer, Option<Sight>), StepError>,
    ) -> Result<(Made, Outcome), StepError> {
        let (key, parts) = key.finish_with_parts();
        let makings = makings(state, &parts, files);
        let mut outcome = Outcome::Done;
        let (record, now) = self.flights.once(&key, || {
            if let Some((record, place)) = self.cached(state, &key)? {
                outcome = Outcome::Cached(place);
                return Ok::<_, StepError>(record);
            }
            let why = self.why(state, &parts, files, &makings)?;
            self.services.progress.emit(Event::Missed { id, why });
            self.prove_destinations()?;
            self.want_rest(state, results);
            let (layer, saw) = make()?;
            let record = self.remember(&key, Some(layer), saw)?;
            self.keep_parts(state, &parts, files)?;
            Ok(record)
        })?;
        if !now {
            outcome = Outcome::Cached(THIS_BUILD.into());
        }
        if let Some(layer) = &record.layer
            && self.services.store.has_blob(&layer.digest)?.is_some()
        {
            self.uploads.layer(layer, state.shipped);
        }
        Ok((Made { key, record, makings: Some(makings) }, outcome))
    }

    /// How the build's layers are written.
    pub(super) fn layer_options(&self) -> LayerOptions {
        LayerOptions { compression: Compression::default(), threads: self.services.threads, epoch: self.clamp }
    }

    /// A blob for a layer. Those that will be pushed are shown to whoever uploads them while they are written.
    pub(super) fn layer_blob(&self, state: &StageState) -> Result<BlobWriter, StepError> {
        let mut blob = self.services.store.blob_writer()?;
        if let Some(watch) = self.services.watch.filter(|_| state.shipped) {
            watch(blob.follow()?);
        }
        Ok(blob)
    }

    /// Proves, before the first step that is carried out, that what is built can be pushed. Where all are known nothing is
    /// proved: the push itself is next.
    fn prove_destinations(&self) -> Result<(), StepError> {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if !*proved {
            let refused = |(to, source)| StepError::Preflight { to, source: Box::new(source) };
            self.services.registry.preflight(self.services.destinations).map_err(refused)?;
            *proved = true;
        }
        Ok(())
    }

    /// RUN.
    pub(super) fn run(
        &self,
        state: &StageState,
        step: &RunStep,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<(Made, Outcome), StepError> {
        self.check_allowed(step)?;
        let mut key = self.encoder("run", state);
        self.encode_run(&mut key, state.stage, step, Naming::Content(results))?;
        self.cached_or(state, key, None, results, id, || {
            let (host, wanted) = (Platform::host(), state.stage.platform.clone());
            if host.os != wanted.os {
                return Err(StepError::Platform { host, wanted });
            }
            let foreign = host.architecture != wanted.architecture;
            // Only the kernel knows what it can start: files about emulators are not to be seen in most containers.
            let layer = self.execute(state, step, results, id);
            self.uploads.mounts(&self.cache_keys(step, results)?);
            layer.map(|layer| (layer, None)).map_err(|error| match error {
                StepError::Sandbox(error) if foreign && error.is_foreign_program() => {
                    StepError::Emulator { host, wanted, source: error }
                }
                error => error,
            })
        })
    }

    /// Puts all of a RUN but its parent into `key`.
    pub(super) fn encode_run(
        &self,
        key: &mut Encoder,
        stage: &PlannedStage,
        step: &RunStep,
        naming: Naming<'_>,
    ) -> Result<(), StepError> {
        key.field("platform", stage.platform.to_string());
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
        key.field("hostname", self.hostname());
        key.field("shm size", format!("{:?}", self.options.steps.shm_size));
        key.list("limits", self.options.steps.limits.iter().map(|limit| format!("{limit:?}")));
        encode_script(key, step);
        self.encode_mounts(key, step, naming)
    }

    /// Runs the command on top of the stage's tree and takes the difference.
    fn execute(
        &self,
        state: &StageState,
        step: &RunStep,
        results: &Results<StageResult>,
        id: StepId,
    ) -> Result<Layer, StepError> {
        let mut prepared = self.prepare_mounts(state, step, results, id)?;
        let snapshot = self.snapshots.prepare(&state.layers, &|layer| self.fetch(layer))?;
        let temp = self.services.store.temp_dir()?;
        let mut spec = RunSpec::new(snapshot.root(), &step.args);
        spec.env =
            step.env.iter().chain(&step.proxy_env).chain(&prepared.env).map(|(k, v)| (k.into(), v.into())).collect();
        spec.cwd = PathBuf::from(&step.cwd);
        spec.user.clone_from(&step.user);
        spec.hosts.clone_from(&self.options.add_hosts);
        spec.network = self.network(step);
        spec.hostname = Some(self.hostname().to_string());
        spec.shm_size = self.options.steps.shm_size;
        spec.limits.clone_from(&self.options.steps.limits);
        spec.secret_env.append(&mut prepared.secret_env);
        spec.stdio = Stdio::Capture;
        spec.mounts.extend(script_mount(step, &temp)?);
        if let Some(authorities) = &self.options.steps.authorities {
            spec.mounts.push(authorities_mount(authorities, &temp)?);
            let own = |name: &str| spec.env.iter().any(|(known, _)| known == name);
            let named: Vec<_> = AUTHORITIES_VARIABLES.iter().filter(|name| !own(name)).collect();
            spec.env.extend(named.into_iter().map(|name| (name.into(), AUTHORITIES.into())));
        }
        spec.mounts.append(&mut prepared.mounts);
        let mut output = |stream, data: &[u8]| {
            self.services.progress.emit(Event::Output { id, stream, data: data.to_vec() });
        };
        let command = step.args.join(" ");
        let sandbox = self.services.sandbox.ok_or(StepError::NoSandbox)?;
        match sandbox.run(&spec, &mut output)? {
            Exit::Code(0) => {}
            Exit::Code(code) => return Err(StepError::Exit { code, command }),
            Exit::Signal(signal) => return Err(StepError::Signal { signal, command }),
        }
        let (layer, left_out) = snapshot.commit(self.layer_blob(state)?, self.layer_options(), &[])?;
        for path in left_out {
            self.services.progress.emit(Event::Note { id: Some(id), text: path.to_string() });
        }
        Ok(layer)
    }

    /// The host name that steps see.
    fn hostname(&self) -> &str {
        let mut args = self.options.build_args.iter().rev();
        let given = args.find(|(name, _)| name == HOSTNAME_ARG).and_then(|(_, value)| value.as_deref());
        given.filter(|name| !name.is_empty()).unwrap_or(HOSTNAME)
    }

    /// Whether the build may do what the step asks for beyond the ordinary.
    fn check_allowed(&self, step: &RunStep) -> Result<(), StepError> {
        let allowed = |what| self.options.steps.allowed.contains(&what);
        let denied = |what: &'static str| Err(StepError::NotAllowed { what });
        if step.network == Some(Network::Host) && !allowed(Entitlement::NetworkHost) {
            return denied("network.host");
        }
        if step.insecure {
            if !allowed(Entitlement::SecurityInsecure) {
                return denied("security.insecure");
            }
            return Err(StepError::Insecure);
        }
        match step.devices.first() {
            Some(device) => Err(StepError::Device { device: device.clone() }),
            None => Ok(()),
        }
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

fn encode_script(key: &mut Encoder, step: &RunStep) {
    let script = step.script.iter().flat_map(|script| [&script.path, &script.content]);
    key.list("script", script);
}

/// Certificates of authorities, shown to the command as a file.
fn authorities_mount(authorities: &[u8], temp: &TempDir) -> Result<Mount, StepError> {
    let file = temp.path().join("authorities");
    fs_err::write(&file, authorities)?;
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    Ok(Mount { source: MountSource::Bind(file), target: PathBuf::from(AUTHORITIES), readonly: true })
}

/// A heredoc that is a program of its own, shown to the command as a file.
fn script_mount(step: &RunStep, temp: &TempDir) -> Result<Option<Mount>, StepError> {
    let Some(script) = &step.script else { return Ok(None) };
    let file = temp.path().join("script");
    fs_err::write(&file, &script.content)?;
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(Some(Mount { source: MountSource::Bind(file), target: PathBuf::from(&script.path), readonly: true }))
}
