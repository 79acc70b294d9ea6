//! `dockless run` and `dockless create`: the flags of Docker's to [`CreateOptions`].

use super::build::{add_host, shm_size, ulimit};
use super::container::{ContainerTask, CreateJob, Pull, background};
use super::environment::Environment;
use super::foreign::{Foreign, OfRun, PUBLISH};
use super::isolation::isolation;
use super::job::{self, Job, Task};
use super::mount_flags::{bind, mount, tmpfs};
use super::network::Network;
use super::state::Places;
use super::{Outcome, platform, print, usage};
use crate::run::{self, CreateOptions};
use crate::sandbox::Isolation;
use crate::ui::{self, Diagnostic, Kind, Look, Mode};
use clap::{ArgAction, Args};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `run` and `create` have in common.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
struct ContainerFlags {
    /// Print help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Set an environment variable; without a value, from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Read environment variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Mount a file, a directory or a volume; a relative path begins with a dot
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<OsString>,
    /// Mount something: type=bind|volume|tmpfs,source=...,target=...[,readonly]
    #[arg(long, value_name = "KEY=VALUE,...")]
    mount: Vec<String>,
    /// Mount an empty directory of memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// The directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// The user to start as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Start this instead of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// The container's name
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// Its host name [default: its ID; with --network host, the machine's]
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Remove the container, and volumes without a name, when it ends
    #[arg(long)]
    rm: bool,
    /// Hand standard input to the container
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// none, for a loopback interface alone; the machine's network whatever else is named
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Option<String>,
    /// Add a line to /etc/hosts of the container
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Accepted: the container shares the network of the machine
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// A port to name in the container's config
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Keep the container's tree from being written to; mounts are not concerned
    #[arg(long)]
    read_only: bool,
    /// Size of /dev/shm, such as 128m [default: 64m]
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// A resource limit, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Set a label
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Read labels from a file, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// The signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that it has to do so
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,
    /// Write the container's ID to a file that is not there yet
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Which image of those for several platforms
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: String,
    /// Do not tell of pulling
    #[arg(short, long)]
    quiet: bool,
    /// How the container is isolated: auto, namespaces or chroot; also $DOCKLESS_ISOLATION
    #[arg(long, value_name = "TIER")]
    isolation: Option<String>,
    #[command(flatten)]
    foreign: Foreign<OfRun>,
    /// The image, and the command instead of the image's own
    #[arg(value_name = "IMAGE [COMMAND]", required = true, num_args = 1.., trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true)]
    image: Vec<OsString>,
}

/// Start an image in a container
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct RunArgs {
    /// Run the container in the background, and print its ID
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

/// Make a container without starting it
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct CreateArgs {
    /// The container need have no command: it is given one when it is started
    #[arg(long, hide = true)]
    commandless: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

impl RunArgs {
    /// Carries it out.
    pub fn run(self, environment: &Environment, state: &Path, look: &mut Look) -> Outcome<ExitCode> {
        let (detach, interactive) = (self.detach, self.flags.interactive);
        let prepared = self.flags.prepare(environment, state, look, !detach)?;
        let Prepared { job, id, isolation, network } = prepared;
        let terminal = job.options.tty && interactive && !rustix::termios::isatty(rustix::stdio::stdin());
        if terminal && !detach {
            ui::notice(*look, "standard input is no terminal: the container has one of its own all the same (--tty)");
        }
        let task = |task| Task::Container(Box::new(task));
        if !detach {
            let job = task(ContainerTask::Run { create: job, interactive });
            return job::enter(Job::new(*look, Places::only(state), network, isolation, job));
        }
        let create = task(ContainerTask::Create { create: job, print: false });
        let made = job::enter(Job::new(*look, Places::only(state), network.clone(), isolation, create))?;
        if made != ExitCode::SUCCESS {
            return Ok(made);
        }
        let start = task(ContainerTask::Keep { container: id.clone() });
        background(Job::new(*look, Places::only(state), network, isolation, start), &id)
    }
}

impl CreateArgs {
    /// Carries it out.
    pub fn run(self, environment: &Environment, state: &Path, look: &mut Look) -> Outcome<ExitCode> {
        let Prepared { mut job, isolation, network, .. } = self.flags.prepare(environment, state, look, false)?;
        job.options.commandless = self.commandless;
        let task = Task::Container(Box::new(ContainerTask::Create { create: job, print: true }));
        job::enter(Job::new(*look, Places::only(state), network, isolation, task))
    }
}

/// A container that is to be made, and what the work needs.
struct Prepared {
    job: CreateJob,
    id: String,
    isolation: Isolation,
    network: Network,
}

impl ContainerFlags {
    fn prepare(
        mut self,
        environment: &Environment,
        state: &Path,
        look: &mut Look,
        foreground: bool,
    ) -> Outcome<Prepared> {
        let warnings = self.warnings()?;
        warnings.iter().for_each(|text| ui::notice(*look, text));
        let mode = if self.quiet { Mode::Quiet } else { Mode::Plain };
        *look = Look { mode, ..*look };
        let isolation = isolation(self.isolation.as_deref(), environment)?;
        let platform = platform(self.platform.as_deref(), environment)?;
        let pull = match self.pull.as_str() {
            "always" => Pull::Always,
            "missing" => Pull::Missing,
            "never" => Pull::Never,
            other => return Err(usage(format!("--pull={other}: expected always, missing or never"))),
        };
        let cidfile = self.cidfile.take();
        let options = self.options(environment, isolation)?;
        let id = options.id.clone();
        if let Some(path) = cidfile {
            write_id(&environment.absolute(path), &id)?;
        }
        let network = Network::plain(environment, state);
        let job = CreateJob { options, pull, platform, foreground };
        Ok(Prepared { job, id, isolation, network })
    }

    fn warnings(&self) -> Outcome<Vec<String>> {
        let mut warnings = self.foreign.judge().map_err(usage)?;
        if !self.publish.is_empty() {
            warnings.push(format!("flag --publish is ignored: {PUBLISH}"));
        }
        match self.network.as_deref() {
            None | Some("none" | "host") => {}
            Some(other) => {
                warnings.push(format!("--network={other}: the container shares the network of the machine"));
            }
        }
        Ok(warnings)
    }

    fn options(self, environment: &Environment, isolation: Isolation) -> Outcome<CreateOptions> {
        let mut words = self.image.into_iter().map(OsString::into_vec);
        let image = String::from_utf8_lossy(&words.next().unwrap_or_default()).into_owned();
        // What follows the image may look like anything, so the parser lets a flag that it does not know begin it.
        if image.starts_with('-') {
            return Err(usage(format!("unknown flag: {image}")));
        }
        let entrypoint = self.entrypoint.map(|program| {
            let program = program.into_vec();
            if program.is_empty() { vec![] } else { vec![program] }
        });
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(lines(&environment.absolute(file))?.into_iter().map(|text| variable(text, environment)));
        }
        env.extend(self.env.into_iter().map(|text| variable(text, environment)));
        let mut labels = BTreeMap::new();
        for file in &self.label_file {
            for line in lines(&environment.absolute(file))? {
                label(&line.to_string_lossy(), &mut labels);
            }
        }
        self.label.iter().for_each(|text| label(text, &mut labels));
        let mut mounts = Vec::new();
        for text in &self.volume {
            mounts.push(bind(text, environment)?);
        }
        for text in &self.mount {
            mounts.push(mount(text, environment)?);
        }
        for text in &self.tmpfs {
            mounts.push(tmpfs(text)?);
        }
        Ok(CreateOptions {
            id: run::new_id().map_err(|error| Diagnostic::from(&error))?,
            image,
            name: self.name,
            command: words.collect(),
            entrypoint,
            env,
            workdir: self.workdir.map(OsString::into_vec),
            user: self.user,
            hostname: self.hostname,
            network: self.network,
            add_hosts: self.add_host.iter().map(|host| add_host(host)).collect::<Outcome<Vec<_>>>()?,
            publish: self.publish,
            expose: self.expose.iter().map(|port| with_protocol(port)).collect(),
            mounts,
            readonly: self.read_only,
            shm_size: self.shm_size.as_deref().map(shm_size).transpose()?.filter(|bytes| *bytes > 0),
            limits: self.ulimit.iter().map(|text| ulimit(text)).collect::<Outcome<Vec<_>>>()?,
            tty: self.tty,
            interactive: self.interactive,
            labels,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            auto_remove: self.rm,
            commandless: false,
            isolation,
        })
    }
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_string() } else { format!("{port}/tcp") }
}

fn label(text: &str, labels: &mut BTreeMap<String, String>) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    labels.insert(name.to_string(), value.to_string());
}

/// The lines of an `--env-file` or a `--label-file`, without comments and empty ones.
pub fn lines(path: &Path) -> Outcome<Vec<OsString>> {
    let bytes = fs_err::read(path).map_err(|error| Diagnostic::from_error(Kind::Usage, &error))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let lines = bytes.split(|b| *b == b'\n').map(|line| line.trim_ascii_start());
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let kept = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(kept.map(|line| OsStr::from_bytes(line).to_os_string()).collect())
}

/// Writes the ID into a new file.
fn write_id(path: &Path, id: &str) -> Outcome<()> {
    use std::io::Write;
    let file = fs_err::OpenOptions::new().create_new(true).write(true).open(path);
    file.and_then(|mut file| file.write_all(id.as_bytes())).map_err(|error| {
        let diagnostic = Diagnostic::from_error(Kind::Usage, &error);
        Box::new(match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                diagnostic.hint("the file of --cidfile must not be there: remove it, or name another one")
            }
            _ => diagnostic,
        })
    })
}

/// `NAME=VALUE`, or `NAME` with its value from the environment; where that does not have it, the name alone, which takes it away
/// from the container's.
pub fn variable(text: OsString, environment: &Environment) -> Vec<u8> {
    let bytes = text.into_vec();
    if bytes.contains(&b'=') {
        return bytes;
    }
    match std::str::from_utf8(&bytes).ok().and_then(|name| environment.variable(name)) {
        Some(value) => [&bytes[..], b"=", value.as_bytes()].concat(),
        None => bytes,
    }
}

/// Prints an ID.
pub fn print_id(id: &str) -> Outcome<ExitCode> {
    print(&format!("{id}\n"))
}
