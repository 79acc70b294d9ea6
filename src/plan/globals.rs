//! What is known before the first FROM: build arguments, the platform's variables, global ARGs.

use super::env::Env;
use super::error::{PlanError, PlanErrorKind};
use super::options::PlanOptions;
use super::words::Words;
use crate::dockerfile::instruction::Dockerfile;
use crate::oci::Platform;

/// The argument that says which time stands for now.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Predefined proxy variables; usable in RUN without an ARG, in either case.
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The global scope.
pub(super) struct Globals {
    /// Names and values that FROM sees, and that an ARG without a default takes.
    pub(super) env: Env,
    /// Names of global ARGs without a value.
    pub(super) unset: Vec<String>,
    /// `--build-arg`, the last of each name.
    pub(super) build_args: Env,
}

impl Globals {
    /// The scope below `args`, for the build arguments of `options`.
    pub(super) fn new(dockerfile: &Dockerfile, options: &PlanOptions, words: &Words) -> Result<Self, PlanError> {
        let mut build_args = Env::default();
        for (name, value) in &options.build_args {
            if let Some(value) = value {
                build_args.set(name, value.clone());
            }
        }
        Globals::with(dockerfile, options, words, build_args)
    }

    /// The scope as it would be without build arguments.
    pub(super) fn defaults(dockerfile: &Dockerfile, options: &PlanOptions, words: &Words) -> Result<Self, PlanError> {
        Globals::with(dockerfile, options, words, Env::default())
    }

    fn with(dockerfile: &Dockerfile, options: &PlanOptions, words: &Words, build_args: Env) -> Result<Self, PlanError> {
        let last = dockerfile.stages.last().and_then(|stage| stage.name.as_deref());
        let target = options.target.as_deref().or(last).unwrap_or("default");
        let mut env = Env::default();
        for (name, value) in platform_variables(options, target) {
            env.set(name, build_args.get(name).cloned().unwrap_or(value));
        }
        let mut unset = Vec::new();
        for located in &dockerfile.global_args {
            for arg in &located.value.args {
                let value = match (build_args.get(&arg.name), &arg.default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => Some(
                        words.expand(default, &env).map_err(|error| PlanErrorKind::from(error).at(located.span))?.word,
                    ),
                    (None, None) => None,
                };
                match value {
                    Some(value) => env.set(&arg.name, value),
                    None => unset.push(arg.name.clone()),
                }
            }
        }
        Ok(Globals { env, unset, build_args })
    }

    /// Names that FROM may use.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.env.names().chain(self.unset.iter().map(String::as_str))
    }

    /// Proxy variables given as build arguments, each in both cases.
    pub(super) fn proxies(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for name in PROXIES {
            let mut given = self.build_args.entries().iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            if let Some((_, value)) = given.next_back().filter(|(_, value)| !value.is_empty()) {
                out.push((name.to_string(), value.clone()));
                out.push((name.to_lowercase(), value.clone()));
            }
        }
        out
    }

    /// Puts `seconds` in the place of a `SOURCE_DATE_EPOCH` that names where the time is to be had; where there is none to
    /// be had, it is empty.
    pub(super) fn settle_epoch(&mut self, seconds: Option<i64>) {
        let number = seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
        for scope in [&mut self.build_args, &mut self.env] {
            if scope.value(EPOCH).is_some_and(|value| value.parse::<i64>().is_err()) {
                scope.set(EPOCH, number.clone());
            }
        }
    }
}

/// The automatic variables; they reach a stage only by an ARG.
fn platform_variables(options: &PlanOptions, target: &str) -> Vec<(&'static str, String)> {
    let of = |names: [&'static str; 5], platform: &Platform| {
        let version = platform.os_version.clone().unwrap_or_default();
        let variant = platform.variant.clone().unwrap_or_default();
        let values = [platform.to_string(), platform.os.clone(), version, platform.architecture.clone(), variant];
        names.into_iter().zip(values).collect::<Vec<_>>()
    };
    let build = ["BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT"];
    let wanted = ["TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT"];
    let mut out = of(build, &options.build_platform);
    out.extend(of(wanted, &options.platform));
    out.push(("TARGETSTAGE", target.to_string()));
    out
}
