//! The verbs of Docker's command line, as data.

use super::{Call, GLOBAL, buildx, context, daemon, imagetools, networks, prune, unsupported};
use crate::cli::Outcome;
use crate::cli::words::{Does, Flag};
use crate::ui::{Diagnostic, Kind};
use std::process::ExitCode;

/// A verb, in all its words.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// `image ls`
    pub words: &'static str,
    /// What becomes of it.
    pub meaning: Meaning,
}

/// What carries a verb out.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// This verb of dockless, with its flags.
    Native(&'static str),
    /// Code of this module, with these flags; the text says what it does.
    Own {
        /// The flags.
        flags: &'static [Flag],
        /// The code.
        run: fn(&Call<'_>) -> Outcome<ExitCode>,
        /// One line.
        does: &'static str,
    },
    /// `docker compose`, which has verbs of its own.
    Compose,
    /// Nothing; the text says what dockless does instead.
    Unsupported(&'static str),
}

impl std::fmt::Debug for Meaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Meaning::Native(verb) => write!(f, "Native({verb})"),
            Meaning::Own { does, .. } => write!(f, "Own({does})"),
            Meaning::Compose => f.write_str("Compose"),
            Meaning::Unsupported(instead) => write!(f, "Unsupported({instead})"),
        }
    }
}

const fn native(words: &'static str, verb: &'static str) -> Verb {
    Verb { words, meaning: Meaning::Native(verb) }
}

const fn own(
    words: &'static str,
    flags: &'static [Flag],
    run: fn(&Call<'_>) -> Outcome<ExitCode>,
    does: &'static str,
) -> Verb {
    Verb { words, meaning: Meaning::Own { flags, run, does } }
}

const fn none(words: &'static str, instead: &'static str) -> Verb {
    Verb { words, meaning: Meaning::Unsupported(instead) }
}

const NO_CLUSTER: &str = "dockless builds, ships and runs images on one machine; it orchestrates nothing";
const NO_PLUGINS: &str = "dockless is one binary and takes no plugins";
const NO_TRUST: &str = "dockless signs nothing; `dockless registry referrers` lists the signatures that others made";
const ONE_PROCESS: &str =
    "a container is a process of this job: `docker ps`, `logs`, `stop` and `kill` are what there is";
const NO_RECORDS: &str = "a build tells where its time went when it runs: see `--progress=rawjson`";

/// Every verb that Docker's command line has, buildx and compose with it.
pub const VERBS: &[Verb] = &[
    native("build", "build"),
    native("builder build", "build"),
    native("buildx b", "build"),
    native("buildx build", "build"),
    native("image build", "build"),
    native("pull", "pull"),
    native("image pull", "pull"),
    native("push", "push"),
    native("image push", "push"),
    native("tag", "tag"),
    native("image tag", "tag"),
    native("images", "images"),
    native("image ls", "images"),
    native("image list", "images"),
    native("rmi", "rmi"),
    native("image rm", "rmi"),
    native("image remove", "rmi"),
    native("history", "history"),
    native("image history", "history"),
    native("save", "save"),
    native("image save", "save"),
    native("load", "load"),
    native("image load", "load"),
    native("inspect", "inspect"),
    native("image inspect", "inspect --type=image"),
    native("login", "login"),
    native("logout", "logout"),
    native("manifest annotate", "manifest annotate"),
    native("manifest create", "manifest create"),
    native("manifest inspect", "manifest inspect"),
    native("manifest push", "manifest push"),
    native("manifest rm", "manifest rm"),
    native("run", "run"),
    native("container run", "run"),
    native("attach", "attach"),
    native("container attach", "attach"),
    native("commit", "commit"),
    native("container commit", "commit"),
    native("cp", "cp"),
    native("container cp", "cp"),
    native("create", "create"),
    native("container create", "create"),
    native("diff", "diff"),
    native("container diff", "diff"),
    native("exec", "exec"),
    native("container exec", "exec"),
    native("export", "export"),
    native("container export", "export"),
    native("kill", "kill"),
    native("container kill", "kill"),
    native("logs", "logs"),
    native("container logs", "logs"),
    native("rename", "rename"),
    native("container rename", "rename"),
    native("restart", "restart"),
    native("container restart", "restart"),
    native("rm", "rm"),
    native("container rm", "rm"),
    native("start", "start"),
    native("container start", "start"),
    native("stop", "stop"),
    native("container stop", "stop"),
    native("top", "top"),
    native("container top", "top"),
    native("wait", "wait"),
    native("container wait", "wait"),
    native("ps", "ps"),
    native("container ps", "ps"),
    native("container ls", "ps"),
    native("container list", "ps"),
    native("container remove", "rm"),
    native("container inspect", "container inspect"),
    native("container prune", "container prune"),
    own("version", daemon::FLAGS, daemon::version, "The versions of client and server, which are one program"),
    own("info", daemon::FLAGS, daemon::info, "What is known of the machine, in Docker's words"),
    own("system info", daemon::FLAGS, daemon::info, "The same as `info`"),
    own("buildx create", buildx::CREATE, buildx::create, "Sets nothing up, and prints the name"),
    own("buildx use", buildx::USE, buildx::choose, "Does nothing"),
    own("buildx inspect", buildx::INSPECT, buildx::inspect, "Describes the one builder"),
    own("buildx ls", buildx::LIST, buildx::list, "Lists the one builder"),
    own("buildx rm", buildx::REMOVE, buildx::remove, "Removes nothing"),
    own("buildx stop", &[], buildx::stop, "Does nothing"),
    own("buildx version", &[], buildx::version, "A version, in buildx's form"),
    own("buildx imagetools create", imagetools::CREATE, imagetools::create, "Makes an index in a registry"),
    own("buildx imagetools inspect", imagetools::INSPECT, imagetools::inspect, "Describes what a name stands for"),
    own("context create", context::CREATE, context::create, "Sets nothing up, and prints the name"),
    own("context use", &[], context::choose, "Does nothing"),
    own("context ls", context::LIST, context::list, "Lists the one context"),
    own("context list", context::LIST, context::list, "The same"),
    own("context show", &[], context::show, "Prints `default`"),
    own("context inspect", context::INSPECT, context::inspect, "Describes the one context"),
    own("context rm", context::REMOVE, context::remove, "Removes nothing"),
    own("context update", context::CREATE, context::create, "Sets nothing up"),
    own("network create", networks::NETWORK_CREATE, networks::create_network, "Keeps a name in mind"),
    own("network ls", networks::LIST, networks::list_networks, "Lists the names"),
    own("network list", networks::LIST, networks::list_networks, "The same"),
    own("network inspect", networks::INSPECT, networks::inspect_networks, "Describes a name"),
    own("network rm", networks::REMOVE, networks::remove_networks, "Forgets a name"),
    own("network remove", networks::REMOVE, networks::remove_networks, "The same"),
    own("network connect", networks::CONNECT, networks::connect, "Does nothing"),
    own("network disconnect", networks::REMOVE, networks::connect, "Does nothing"),
    own("network prune", networks::PRUNE, networks::prune_networks, "Forgets all names"),
    own("volume create", networks::VOLUME_CREATE, networks::create_volume, "Makes a directory"),
    own("volume ls", networks::LIST, networks::list_volumes, "Lists them"),
    own("volume list", networks::LIST, networks::list_volumes, "The same"),
    own("volume inspect", networks::INSPECT, networks::inspect_volumes, "Describes one"),
    own("volume rm", networks::REMOVE, networks::remove_volumes, "Removes one"),
    own("volume prune", networks::VOLUME_PRUNE, networks::prune_volumes, "Removes those that no container has"),
    own("volume remove", networks::REMOVE, networks::remove_volumes, "The same"),
    own("builder prune", prune::BUILDER, prune::builder, "`dockless cache prune`"),
    own("buildx prune", prune::BUILDER, prune::builder, "`dockless cache prune`"),
    own("buildx du", prune::USAGE, prune::usage_of, "`dockless cache du`"),
    own("image prune", prune::IMAGE, prune::images, "`dockless cache prune` of layers"),
    native("system df", "cache df"),
    own(
        "system prune",
        prune::SYSTEM,
        prune::system,
        "Removes containers that ended, forgets networks, and cleans the cache",
    ),
    Verb { words: "compose", meaning: Meaning::Compose },
    none("buildx bake", "`docker compose build` reads compose files; a bake file's targets are `docker build` lines"),
    none("buildx dap", "`dockless build --progress=plain` tells each step's output"),
    none(
        "buildx debug",
        "`docker run` starts an image of any stage: `docker build --target STAGE -t x . && docker run -it x`",
    ),
    none("buildx dial-stdio", "there is no daemon to be reached"),
    none("buildx history", NO_RECORDS),
    none("buildx install", "`docker build` is the builder already"),
    none("buildx policy", "policies are not evaluated"),
    none("buildx uninstall", "`docker build` is the builder already"),
    none("checkpoint", ONE_PROCESS),
    none("config", NO_CLUSTER),
    none("container pause", ONE_PROCESS),
    none("container port", ONE_PROCESS),
    none("container stats", ONE_PROCESS),
    none("container unpause", ONE_PROCESS),
    none("container update", ONE_PROCESS),
    none("context export", "there is one context: this machine"),
    none("context import", "there is one context: this machine"),
    none("events", "there is no daemon that sees events"),
    none("image import", "`FROM scratch` and `ADD files.tar /` make the same image"),
    none("import", "`FROM scratch` and `ADD files.tar /` make the same image"),
    none("node", NO_CLUSTER),
    none("pause", ONE_PROCESS),
    none("plugin", NO_PLUGINS),
    none("port", "containers share the network of the machine: a port of theirs is a port of the machine"),
    none("sbom", "no attestation is made yet"),
    none("scan", "dockless looks for no weaknesses: give the image to a scanner with `docker save`"),
    none("scout", "dockless looks for no weaknesses: give the image to a scanner with `docker save`"),
    none("search", "registries have no common way to search; `dockless registry tags` lists the tags of a repository"),
    none("secret", NO_CLUSTER),
    none("service", NO_CLUSTER),
    none("stack", NO_CLUSTER),
    none("stats", ONE_PROCESS),
    none("swarm", NO_CLUSTER),
    none("system dial-stdio", "there is no daemon to be reached"),
    none("system events", "there is no daemon that sees events"),
    none("trust", NO_TRUST),
    none("unpause", ONE_PROCESS),
    none("update", ONE_PROCESS),
    none("volume update", NO_CLUSTER),
];

/// The verb that a command line begins with, the longest that fits, and how many of its words that takes.
pub fn find(words: &[&str]) -> Outcome<(&'static Verb, usize)> {
    let fits = |verb: &&Verb| {
        let mut own = verb.words.split(' ');
        words.len() >= verb.words.split(' ').count() && words.iter().zip(own.by_ref()).all(|(word, own)| *word == own)
    };
    let length = |verb: &&'static Verb| verb.words.split(' ').count();
    if let Some(verb) = VERBS.iter().filter(fits).max_by_key(length) {
        return Ok((verb, length(&verb)));
    }
    let begins = |verb: &&Verb| verb.words.starts_with(&format!("{} ", words[0]));
    let group: Vec<&str> = VERBS.iter().filter(begins).map(|verb| &verb.words[words[0].len() + 1..]).collect();
    if group.is_empty() {
        let message = format!("docker: '{}' is not a docker command", words[0]);
        return Err(Box::new(Diagnostic::new(Kind::Usage, message).hint("docker --help lists them").exit(1)));
    }
    let known = format!("docker {}: {}", words[0], group.join(", "));
    Err(unsupported(&words[..words.len().min(2)].join(" "), &known))
}

/// `docker --help`.
pub fn help() -> String {
    let mut text =
        "Usage: docker [OPTIONS] COMMAND\n\nThis is dockless: Docker's command line without a daemon.\n\n".to_string();
    text += "Commands:\n";
    for verb in VERBS {
        let does = match verb.meaning {
            Meaning::Native(native) => format!("dockless {native}"),
            Meaning::Own { does, .. } => does.to_string(),
            Meaning::Compose => "Builds and pushes what a compose file names".to_string(),
            Meaning::Unsupported(_) => continue,
        };
        text += &format!("  {:<28}{does}\n", verb.words);
    }
    text + "\nOptions:\n" + &flags(GLOBAL) + "\n`docker COMMAND --help` tells more.\n"
}

/// `docker VERB --help`, of a verb whose flags are a table.
pub fn help_of(verb: &Verb) -> String {
    let Meaning::Own { flags: table, does, .. } = verb.meaning else { return help() };
    format!("Usage: docker {} [OPTIONS]\n\n{does}\n\nOptions:\n{}", verb.words, flags(table))
}

fn flags(table: &[Flag]) -> String {
    let line = |flag: &Flag| {
        let short = if flag.short == '\0' { "   ".to_string() } else { format!("-{},", flag.short) };
        let name = format!("{}{}", flag.name, if flag.value { " VALUE" } else { "" });
        let does = match flag.does {
            Does::Is(ours) => format!("dockless's {ours}"),
            Does::Own(does) => does.to_string(),
            Does::Ignored(why) => format!("ignored: {why}"),
            Does::Refused(why) => format!("not supported: {why}"),
        };
        format!("  {short} --{name:<26}{does}\n")
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_verb_counts() {
        let found = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            find(&words).map(|(verb, taken)| (verb.words, taken)).map_err(|error| (error.message, error.exit))
        };
        assert_eq!(found("build ."), Ok(("build", 1)));
        assert_eq!(found("buildx build ."), Ok(("buildx build", 2)));
        assert_eq!(found("buildx imagetools create -t x y"), Ok(("buildx imagetools create", 3)));
        assert_eq!(found("compose build"), Ok(("compose", 1)));
        let expected = ("docker: 'foo' is not a docker command".to_string(), 1);
        assert_eq!(found("foo"), Err(expected));
        assert_eq!(found("image foo").unwrap_err().0, "docker: 'image foo' is not something dockless does");
    }
}
