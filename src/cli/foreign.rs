//! Flags of other tools that dockless does not carry out: each is refused by name, or ignored with a warning where what
//! it asks for has no bearing on the image. None is dropped in silence.

use super::words::warning;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// What happens when the flag is given.
#[derive(Debug, Clone, Copy)]
pub enum Treatment {
    /// The command fails; the text says what is missing.
    Refused(&'static str),
    /// A warning with the text, and the command goes on.
    Ignored(&'static str),
}
use Treatment::{Ignored, Refused};

/// One flag. `value` is whether it takes one; a flag without may still be given as `--flag=false`, which asks for nothing.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    name: &'static str,
    short: Option<char>,
    value: bool,
    treatment: Treatment,
}

const fn flag(name: &'static str, value: bool, treatment: Treatment) -> Flag {
    Flag { name, short: None, value, treatment }
}

const fn short(name: &'static str, short: char, value: bool, treatment: Treatment) -> Flag {
    Flag { name, short: Some(short), value, treatment }
}

const RESOURCES: Treatment = Ignored("dockless sets no resource limits: the job's own hold");
const ATTESTATION: Treatment = Ignored("no attestation is made yet");
const ONE_PROCESS: Treatment = Ignored("there is no intermediate container to keep, compress or remove");

/// Flags of `docker build` and `docker buildx build`.
pub const BUILD: &[Flag] = &[
    flag("attest", true, ATTESTATION),
    flag("builder", true, Ignored("there is one builder: this process")),
    flag("cgroup-parent", true, RESOURCES),
    flag("compress", false, ONE_PROCESS),
    flag("cpu-period", true, RESOURCES),
    flag("cpu-quota", true, RESOURCES),
    short("cpu-shares", 'c', true, RESOURCES),
    flag("cpuset-cpus", true, RESOURCES),
    flag("cpuset-mems", true, RESOURCES),
    short("debug", 'D', false, Ignored("it has no meaning here")),
    flag("disable-content-trust", false, Ignored("content trust is not checked")),
    flag("force-rm", false, ONE_PROCESS),
    short("memory", 'm', true, RESOURCES),
    flag("memory-swap", true, RESOURCES),
    flag("policy", true, Refused("policies are not evaluated")),
    flag("provenance", true, ATTESTATION),
    flag("resource", true, RESOURCES),
    flag("rm", false, ONE_PROCESS),
    flag("sbom", true, ATTESTATION),
    flag("security-opt", true, Ignored("it is a daemon's option")),
    flag("squash", false, Refused("every step is a layer of its own")),
];

const SANDBOX: Treatment = Ignored("a container has the rights that the sandbox gives it, no more and no fewer");
const HEALTH: Treatment = Ignored("nobody looks after a container's health: there is no daemon");
const WINDOWS: Treatment = Ignored("it is for containers of Windows");
const KEYS: Treatment = Ignored("a container in the foreground stays there");
const ONE_NETWORK: Treatment = Ignored("the container shares the network of the machine");
const PORTS: Treatment = Ignored(
    "the container shares the network of the machine: a port that it opens is open there, under its own number",
);

/// Flags of `docker run` and `docker create`.
pub const RUN: &[Flag] = &[
    flag("annotation", true, Ignored("there is no runtime that reads it")),
    short("attach", 'a', true, Ignored("output is always the caller's, input is with -i")),
    flag("blkio-weight", true, RESOURCES),
    flag("blkio-weight-device", true, RESOURCES),
    flag("cap-add", true, SANDBOX),
    flag("cap-drop", true, SANDBOX),
    flag("cgroup-parent", true, RESOURCES),
    flag("cgroupns", true, SANDBOX),
    flag("cpu-count", true, WINDOWS),
    flag("cpu-percent", true, WINDOWS),
    flag("cpu-period", true, RESOURCES),
    flag("cpu-quota", true, RESOURCES),
    flag("cpu-rt-period", true, RESOURCES),
    flag("cpu-rt-runtime", true, RESOURCES),
    short("cpu-shares", 'c', true, RESOURCES),
    flag("cpus", true, RESOURCES),
    flag("cpuset-cpus", true, RESOURCES),
    flag("cpuset-mems", true, RESOURCES),
    flag("detach-keys", true, KEYS),
    flag("device", true, Refused("devices are those of the sandbox")),
    flag("device-cgroup-rule", true, SANDBOX),
    flag("device-read-bps", true, RESOURCES),
    flag("device-read-iops", true, RESOURCES),
    flag("device-write-bps", true, RESOURCES),
    flag("device-write-iops", true, RESOURCES),
    flag("disable-content-trust", false, Ignored("content trust is not checked")),
    flag("dns", true, Refused("names are looked up as the machine does")),
    flag("dns-opt", true, Refused("names are looked up as the machine does")),
    flag("dns-option", true, Refused("names are looked up as the machine does")),
    flag("dns-search", true, Refused("names are looked up as the machine does")),
    flag("domainname", true, Ignored("it has no meaning here")),
    flag("gpus", true, Refused("devices are those of the sandbox")),
    flag("group-add", true, Refused("groups are those of the image's user")),
    flag("health-cmd", true, HEALTH),
    flag("health-interval", true, HEALTH),
    flag("health-retries", true, HEALTH),
    flag("health-start-interval", true, HEALTH),
    flag("health-start-period", true, HEALTH),
    flag("health-timeout", true, HEALTH),
    flag("init", false, Ignored("a first process that reaps is always there")),
    flag("io-maxbandwidth", true, WINDOWS),
    flag("io-maxiops", true, WINDOWS),
    flag("ip", true, ONE_NETWORK),
    flag("ip6", true, ONE_NETWORK),
    flag("ipc", true, SANDBOX),
    flag("kernel-memory", true, RESOURCES),
    flag("link", true, Refused("the container shares the network of the machine: use 127.0.0.1, or --add-host")),
    flag("link-local-ip", true, ONE_NETWORK),
    flag("log-driver", true, Ignored("logs are files in the state directory")),
    flag("log-opt", true, Ignored("logs are files in the state directory")),
    flag("mac-address", true, ONE_NETWORK),
    short("memory", 'm', true, RESOURCES),
    flag("memory-reservation", true, RESOURCES),
    flag("memory-swap", true, RESOURCES),
    flag("memory-swappiness", true, RESOURCES),
    flag("net-alias", true, ONE_NETWORK),
    flag("network-alias", true, ONE_NETWORK),
    flag("no-healthcheck", false, HEALTH),
    flag("oom-kill-disable", false, RESOURCES),
    flag("oom-score-adj", true, RESOURCES),
    flag("pid", true, SANDBOX),
    flag("pids-limit", true, RESOURCES),
    flag("privileged", false, Ignored("a container never has more rights than the process that starts it")),
    short("publish-all", 'P', false, PORTS),
    flag("restart", true, Ignored("nobody starts a container again: there is no daemon")),
    flag("runtime", true, Ignored("there is one runtime: this process")),
    flag("security-opt", true, Ignored("it is a daemon's option")),
    flag("sig-proxy", true, Ignored("signals are always passed on")),
    flag("storage-opt", true, Ignored("it is a daemon's option")),
    flag("sysctl", true, Refused("the kernel's settings are the machine's")),
    flag("use-api-socket", false, Refused("there is no daemon, and no socket of one")),
    flag("userns", true, SANDBOX),
    flag("uts", true, SANDBOX),
    flag("volume-driver", true, Refused("volumes are directories of the state directory")),
    flag("volumes-from", true, Refused("name the volumes with -v")),
];

/// What is said of `-p`.
pub const PUBLISH: &str =
    "the container shares the network of the machine: a port that it opens is open there, under its own number";

/// Flags of `docker images`.
pub const IMAGES: &[Flag] = &[flag("tree", false, Refused("platforms are listed by `docker manifest inspect`"))];

/// Which table a command has.
pub trait Table {
    /// The flags.
    const FLAGS: &'static [Flag];
}

/// Flags of `docker start`.
pub const START: &[Flag] = &[
    flag("checkpoint", true, Refused("the memory of a container is not kept")),
    flag("checkpoint-dir", true, Refused("the memory of a container is not kept")),
    flag("detach-keys", true, KEYS),
];

/// Flags of `docker attach`.
pub const ATTACH: &[Flag] =
    &[flag("detach-keys", true, KEYS), flag("sig-proxy", true, Ignored("signals are not passed on"))];

/// Flags of `docker exec`.
pub const EXEC: &[Flag] = &[flag("detach-keys", true, KEYS), flag("privileged", false, SANDBOX)];

/// Flags of `docker commit`.
pub const COMMIT: &[Flag] = &[
    flag("no-pause", false, Ignored("a container that runs goes on")),
    short("pause", 'p', false, Ignored("a container that runs goes on")),
];

/// Flags of `docker logs`.
pub const LOGS: &[Flag] = &[flag("details", false, Ignored("logs have no details"))];

/// Flags of `docker load`.
pub const LOAD: &[Flag] = &[flag("platform", true, Ignored("everything in the archive is read"))];

/// Flags of `docker rmi`.
pub const RMI: &[Flag] = &[flag("platform", true, Refused("a name stands for all platforms of its image"))];

/// Flags of `docker rm`.
pub const REMOVE: &[Flag] =
    &[short("link", 'l', false, Refused("containers share the network of the machine: there are no links"))];

/// `docker start`'s.
#[derive(Debug)]
pub struct OfStart;
impl Table for OfStart {
    const FLAGS: &'static [Flag] = START;
}

/// `docker attach`'s.
#[derive(Debug)]
pub struct OfAttach;
impl Table for OfAttach {
    const FLAGS: &'static [Flag] = ATTACH;
}

/// `docker exec`'s.
#[derive(Debug)]
pub struct OfExec;
impl Table for OfExec {
    const FLAGS: &'static [Flag] = EXEC;
}

/// `docker commit`'s.
#[derive(Debug)]
pub struct OfCommit;
impl Table for OfCommit {
    const FLAGS: &'static [Flag] = COMMIT;
}

/// `docker logs`'.
#[derive(Debug)]
pub struct OfLogs;
impl Table for OfLogs {
    const FLAGS: &'static [Flag] = LOGS;
}

/// `docker load`'s.
#[derive(Debug)]
pub struct OfLoad;
impl Table for OfLoad {
    const FLAGS: &'static [Flag] = LOAD;
}

/// `docker rmi`'s.
#[derive(Debug)]
pub struct OfRmi;
impl Table for OfRmi {
    const FLAGS: &'static [Flag] = RMI;
}

/// `docker rm`'s.
#[derive(Debug)]
pub struct OfRemove;
impl Table for OfRemove {
    const FLAGS: &'static [Flag] = REMOVE;
}

/// `docker build`'s.
#[derive(Debug)]
pub struct OfBuild;
impl Table for OfBuild {
    const FLAGS: &'static [Flag] = BUILD;
}

/// `docker run`'s.
#[derive(Debug)]
pub struct OfRun;
impl Table for OfRun {
    const FLAGS: &'static [Flag] = RUN;
}

/// `docker images`'.
#[derive(Debug)]
pub struct OfImages;
impl Table for OfImages {
    const FLAGS: &'static [Flag] = IMAGES;
}

/// The foreign flags that were given.
#[derive(Debug)]
pub struct Foreign<T> {
    given: Vec<Flag>,
    table: std::marker::PhantomData<T>,
}

impl<T> Foreign<T> {
    /// The warnings, one for each reason, or the message of the first flag that is refused.
    pub fn judge(&self) -> Result<Vec<String>, String> {
        let mut ignored: Vec<(&str, Vec<String>)> = Vec::new();
        for flag in &self.given {
            let name = format!("--{}", flag.name);
            match flag.treatment {
                Refused(why) => return Err(format!("flag {name} is not supported yet: {why}")),
                Ignored(why) => match ignored.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, names)) => names.push(name),
                    None => ignored.push((why, vec![name])),
                },
            }
        }
        Ok(ignored.iter().map(|(why, names)| warning(why, names)).collect())
    }
}

impl<T: Table> FromArgMatches for Foreign<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let asks = |flag: &&Flag| {
            let mut values = matches.get_many::<String>(flag.name).into_iter().flatten();
            values.next_back().is_some_and(|last| last != "false")
        };
        Ok(Foreign { given: T::FLAGS.iter().filter(asks).copied().collect(), table: std::marker::PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Table> Args for Foreign<T> {
    fn augment_args(command: Command) -> Command {
        T::FLAGS.iter().fold(command, |command, flag| {
            let mut arg = Arg::new(flag.name).long(flag.name).hide(true).action(ArgAction::Append);
            if let Some(short) = flag.short {
                arg = arg.short(short);
            }
            if !flag.value {
                arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What is told of a flag, for the documentation.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub enum Told {
    /// It is ignored, for this reason.
    Ignored(&'static str),
    /// It is refused, for this reason.
    Refused(&'static str),
}

#[cfg(test)]
impl Flag {
    /// Without its dashes.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What becomes of it.
    pub fn told(&self) -> Told {
        match self.treatment {
            Refused(why) => Told::Refused(why),
            Ignored(why) => Told::Ignored(why),
        }
    }
}

/// The table of a verb.
#[cfg(test)]
pub fn of(verb: &str) -> Option<&'static [Flag]> {
    match verb {
        "build" => Some(BUILD),
        "run" | "create" => Some(RUN),
        "images" => Some(IMAGES),
        "start" => Some(START),
        "attach" => Some(ATTACH),
        "exec" => Some(EXEC),
        "commit" => Some(COMMIT),
        "rm" => Some(REMOVE),
        "logs" => Some(LOGS),
        "load" => Some(LOAD),
        "rmi" => Some(RMI),
        _ => None,
    }
}
