//! buildah's working containers: `from`, `run`, `copy`, `mount`, `config`, `commit`, `rm` and `containers`. A working container is a
//! container of ours that is not running; `run` starts it with another command, `config` changes what it is started with and
//! what the image that `commit` makes of it says.

use super::Call;
use crate::cli::{Outcome, print, state, usage};
use crate::images;
use crate::oci::{Digest, Platform};
use crate::overrides::Owners;
use crate::rootfs::SnapshotterKind;
use crate::run::{Container, Containers, RunError, Settings};
use crate::store::Store;
use crate::ui::{Diagnostic, Kind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bucket of the store with the instructions that a commit adds, by container.
const CHANGES: &str = "buildah";

fn failed(error: RunError) -> Box<Diagnostic> {
    Box::new(Diagnostic::from(&error))
}

/// The state directory, and the container that the first argument names; the other arguments follow.
struct Working {
    state: PathBuf,
    container: Container,
    rest: Vec<String>,
}

impl Working {
    fn find(call: &Call<'_>) -> Outcome<Working> {
        let state = state::Places::find(&call.environment).state;
        let (name, rest) = call.given.arguments.split_first().ok_or_else(|| usage("name the working container"))?;
        let container = Containers::of(&state).find(name).map_err(failed)?;
        Ok(Working { state, container, rest: rest.to_vec() })
    }

    /// Changes what it is started with from now on.
    fn configure(&self, settings: &Settings) -> Outcome<()> {
        Containers::of(&self.state).configure(&self.container, settings).map_err(failed)
    }

    fn key(&self) -> Digest {
        Digest::sha256(&self.container.id)
    }

    /// The instructions that a commit adds.
    fn changes(&self, store: &Store) -> Outcome<Vec<String>> {
        let found = store.record(CHANGES, &self.key())?;
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }
}

/// Makes a container of an image; prints its ID.
pub fn from(call: &mut Call<'_>, trust: Option<String>) -> Outcome<ExitCode> {
    let [image] = &call.given.arguments[..] else { return Err(usage("name one image")) };
    let mut image = image.strip_prefix("docker://").unwrap_or(image).to_string();
    if image == "scratch" {
        let platform = super::super::platform(call.given.last("platform"), &call.environment)?;
        let store = Store::open(&state::Places::find(&call.environment).state)?;
        image = images::scratch(&store, &platform.unwrap_or_else(Platform::host))?.to_string();
    } else if trust.is_some() {
        call.native(
            &[vec!["pull".into(), "--quiet".into()], trust.into_iter().collect(), vec![image.clone()]].concat(),
        )?;
    }
    let line = [vec!["create".to_string(), "--commandless".into()], call.given.ours.clone(), vec![image]].concat();
    call.native(&line)
}

/// Runs a command in the container; its exit code is the command's.
pub fn run(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let working = Working::find(call)?;
    let words: Vec<Vec<u8>> = working.rest.iter().map(|word| word.clone().into_bytes()).collect();
    let words = if words.first().is_some_and(|word| word == b"--") { words[1..].to_vec() } else { words };
    if words.is_empty() {
        return Err(usage("name the command to run"));
    }
    let mut settings = working.container.settings.clone();
    (settings.entrypoint, settings.cmd) = (Vec::new(), words);
    apply(&mut settings, call)?;
    working.configure(&settings)?;
    let done = call.native(&["start", "--attach", &working.container.id].map(String::from));
    // What is run is no part of what the container is.
    working.configure(&working.container.settings)?;
    done
}

/// `--env`, `--user`, `--workingdir`.
fn apply(settings: &mut Settings, call: &Call<'_>) -> Outcome<()> {
    for text in call.given.all("env") {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_string()),
            None => (text, call.environment.text(text).unwrap_or_default().to_string()),
        };
        let own = format!("{name}=").into_bytes();
        settings.env.retain(|entry| !entry.starts_with(&own));
        settings.env.push([own, value.into_bytes()].concat());
    }
    if let Some(user) = call.given.last("user") {
        settings.user = user.to_string();
    }
    if let Some(dir) = call.given.last("workingdir") {
        settings.workdir = dir.as_bytes().to_vec();
    }
    Ok(())
}

/// A command as `--cmd` and `--entrypoint` have it: a JSON list, else words for a shell to split; empty is none.
fn words(text: &str, shell: bool) -> Vec<Vec<u8>> {
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return list.into_iter().map(String::into_bytes).collect();
    }
    match (text.trim(), shell) {
        ("", _) => Vec::new(),
        // An entrypoint in one piece is a shell's, as ENTRYPOINT has it.
        (text, true) => ["/bin/sh", "-c", text].map(|word| word.as_bytes().to_vec()).to_vec(),
        (text, false) => text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect(),
    }
}

/// Changes what the image will say.
pub fn config(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let working = Working::find(call)?;
    let mut settings = working.container.settings.clone();
    apply(&mut settings, call)?;
    let given = &call.given;
    if let Some(text) = given.last("entrypoint") {
        settings.entrypoint = words(text, true);
    }
    if let Some(text) = given.last("cmd") {
        settings.cmd = words(text, false);
    }
    for text in given.all("label") {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        settings.labels.insert(name.to_string(), value.to_string());
    }
    working.configure(&settings)?;
    let store = Store::open(&working.state)?;
    let mut changes = working.changes(&store)?;
    for (flag, instruction) in
        [("port", "EXPOSE"), ("volume", "VOLUME"), ("stop-signal", "STOPSIGNAL"), ("onbuild", "ONBUILD")]
    {
        changes.extend(given.all(flag).map(|value| format!("{instruction} {value}")));
    }
    // Texts: always JSON.
    store.put_record(CHANGES, &working.key(), &serde_json::to_vec(&changes).unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

/// Copies files of this machine into the container: of a directory what is in it, as COPY does.
pub fn copy(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let working = Working::find(call)?;
    let workdir = String::from_utf8_lossy(&working.container.settings.workdir).into_owned();
    let (sources, dest) = match &working.rest[..] {
        [] => return Err(usage("name what is to be copied")),
        [source] => (vec![source.clone()], ".".to_string()),
        [sources @ .., dest] => (sources.to_vec(), dest.clone()),
    };
    let base = given_base(call);
    let dest = Path::new("/").join(workdir).join(dest).to_string_lossy().into_owned();
    for source in sources {
        if source.contains("://") {
            return Err(usage(format!(
                "'{source}': files of this machine are copied; a Dockerfile's ADD fetches URLs"
            )));
        }
        let path = call.environment.absolute(base.join(&source));
        let from = if path.is_dir() { format!("{}/.", path.display()) } else { path.display().to_string() };
        let mut line = vec!["cp".to_string(), "--parents".into()];
        line.extend(call.given.last("chown").map(|owner| format!("--chown={owner}")));
        line.extend([from, format!("{}:{dest}", working.container.id)]);
        let done = call.native(&line)?;
        if done != ExitCode::SUCCESS {
            return Ok(done);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints where the trees of containers are, to be looked at and changed there.
pub fn mount(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let state = state::Places::find(&call.environment).state;
    let all = Containers::of(&state);
    let names = &call.given.arguments;
    if names.is_empty() {
        return Err(usage("name the working containers whose trees are wanted"));
    }
    let mut text = String::new();
    for name in names {
        let container = all.find(name).map_err(failed)?;
        let tree = all.dir(&container.id).join("tree");
        let refused = |why: &str| {
            let message = format!("the tree of '{name}' cannot be mounted: {why}");
            let hint = "`buildah copy` and `buildah run` change it everywhere; so does a Dockerfile";
            Box::new(Diagnostic::new(Kind::Environment, message).hint(hint))
        };
        if container.snapshots == SnapshotterKind::Overlay {
            let why = "it is layers on one another, which are mounted only while a command runs";
            let hint = "as root, a container made with DOCKLESS_ISOLATION=chroot has a tree that can be";
            return Err(Box::new(refused(why).hint(hint)));
        }
        let owners = Owners::read(&tree).map_err(|error| failed(error.into()))?;
        if !rustix::process::geteuid().is_root() || !owners.is_empty() {
            return Err(refused("the owners of its files are emulated"));
        }
        match &names[..] {
            [_] => text += &format!("{}\n", tree.display()),
            _ => text += &format!("{name} {}\n", tree.display()),
        }
    }
    print(&text)
}

/// Does nothing: what [`mount`] tells of is where it always is. Prints the containers' IDs.
pub fn unmount(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let all = Containers::of(&state::Places::find(&call.environment).state);
    let id = |name: &String| Ok(all.find(name).map_err(failed)?.id + "\n");
    print(&call.given.arguments.iter().map(id).collect::<Outcome<String>>()?)
}

/// `--contextdir`: what relative sources start from.
fn given_base(call: &Call<'_>) -> PathBuf {
    call.given.last("contextdir").map(PathBuf::from).unwrap_or_default()
}

/// Makes an image of the container, and prints its ID; with `docker://` it is pushed, too.
pub fn commit(call: &mut Call<'_>, trust: Option<String>) -> Outcome<ExitCode> {
    let working = Working::find(call)?;
    let store = Store::open(&working.state)?;
    let mut line = vec!["commit".to_string()];
    line.extend(working.changes(&store)?.iter().map(|change| format!("--change={change}")));
    line.push(working.container.id.clone());
    let name = match &working.rest[..] {
        [] => None,
        [name] => Some(name.clone()),
        _ => return Err(usage("name one image")),
    };
    let remote = name.as_deref().and_then(|name| name.strip_prefix("docker://")).map(str::to_string);
    line.extend(remote.clone().or(name));
    let done = call.native(&line)?;
    if done != ExitCode::SUCCESS {
        return Ok(done);
    }
    if let Some(name) = remote {
        let mut line = vec!["push".to_string(), "--quiet".into()];
        line.extend(trust);
        line.push(name);
        let pushed = call.native(&line)?;
        if pushed != ExitCode::SUCCESS {
            return Ok(pushed);
        }
    }
    match call.given.is("rm") {
        true => call.native(&["rm".to_string(), working.container.id]),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Removes containers.
pub fn remove(call: &mut Call<'_>) -> Outcome<ExitCode> {
    let mut line = vec!["rm".to_string()];
    line.extend(call.given.arguments.iter().cloned());
    if call.given.is("all") {
        let state = state::Places::find(&call.environment).state;
        line.extend(Containers::of(&state).list().map_err(failed)?.into_iter().map(|container| container.id));
    }
    match line.len() {
        1 => print(""),
        _ => call.native(&line),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn commands() {
        let texts = |text, shell| words(text, shell).into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
        let found: Vec<Vec<String>> =
            vec![texts(r#"["a b","c"]"#, true), texts("a b", true), texts("a b", false), texts(" ", true)];
        assert_eq!(found, [vec!["a b", "c"], vec!["/bin/sh", "-c", "a b"], vec!["a", "b"], vec![]]);
    }
}
