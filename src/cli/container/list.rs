//! `ps`: the containers of the state directory.

use super::work::{failed, has_label};
use crate::cli::{Outcome, print, usage};
use crate::run::{Container, Containers, State, Status, VolumeSource};
use crate::ui::template;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// List containers
#[derive(Args, Debug, Serialize, Deserialize)]
#[command(args_override_self = true)]
pub struct PsArgs {
    /// Those that do not run, too
    #[arg(short, long)]
    all: bool,
    /// Print only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Print whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only those that KEY=VALUE holds for: id, name, label, status, ancestor, exited, volume
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print each in this form: `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// At most so many, the newest, running or not
    #[arg(short = 'n', long, value_name = "COUNT", allow_hyphen_values = true)]
    last: Option<i64>,
    /// The newest one, running or not
    #[arg(short, long)]
    latest: bool,
    /// Print how much they take on disk
    #[arg(short, long)]
    size: bool,
}

/// What is printed of each without another format.
const TABLE: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// A container, and what it is doing.
pub struct Row {
    /// The container.
    pub container: Container,
    /// What it is doing.
    pub status: Status,
    /// How its last run went.
    pub state: State,
}

impl Row {
    /// All containers, the newest first.
    pub fn all(all: &Containers) -> Outcome<Vec<Row>> {
        let row = |container: Container| {
            let (status, state) = all.status(&container.id).map_err(failed)?;
            Ok(Row { container, status, state })
        };
        all.list().map_err(failed)?.into_iter().map(row).collect()
    }

    fn id(&self, whole: bool) -> String {
        if whole { self.container.id.clone() } else { self.container.short_id().to_string() }
    }

    /// The row under the names that templates of `docker ps` use, with `size` as its size; `whole` without cuts.
    pub fn value(&self, size: &str, whole: bool) -> Value {
        let Row { container, status, state } = self;
        let settings = &container.settings;
        let words: Vec<String> =
            settings.args().iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let command = words.join(" ");
        let short: String = match command.chars().count() > 20 && !whole {
            true => command.chars().take(19).chain(['…']).collect(),
            false => command,
        };
        let labels: Vec<String> = settings.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mounts: Vec<String> = settings.mounts.iter().map(|mount| mount.target.display().to_string()).collect();
        let volumes =
            settings.mounts.iter().filter(|mount| matches!(mount.source, VolumeSource::Volume { .. })).count();
        json!({
            "ID": self.id(whole),
            "Names": container.name,
            "Image": container.image,
            "Command": format!("\"{short}\""),
            "CreatedAt": container.created,
            "RunningFor": ago(&container.created) + " ago",
            "State": status.word(),
            "Status": told(*status, state),
            "Ports": "",
            "Size": size,
            "Labels": labels.join(","),
            "Mounts": mounts.join(","),
            "Networks": settings.network,
            "LocalVolumes": volumes.to_string(),
        })
    }
}

impl PsArgs {
    /// Whether it can be told only where files of any owner can be looked at.
    pub fn looks_at_files(&self) -> bool {
        let asked = self.format.as_ref().is_some_and(|format| format.contains(".Size"));
        (self.size || asked) && !self.quiet
    }

    /// Prints the list; `size` tells how much a container takes.
    pub fn run(&self, state: &Path, size: &dyn Fn(&Container) -> Outcome<String>) -> Outcome<ExitCode> {
        let last = if self.latest { Some(1) } else { self.last.and_then(|last| usize::try_from(last).ok()) };
        let any = self.all || last.is_some() || self.filter.iter().any(|filter| filter.starts_with("status="));
        let mut rows = Vec::new();
        for row in Row::all(&Containers::of(state))? {
            if (any || row.status == Status::Running) && self.matches(&row)? {
                rows.push(row);
            }
        }
        rows.truncate(last.unwrap_or(usize::MAX));
        if self.quiet {
            return print(&rows.iter().map(|row| row.id(self.no_trunc) + "\n").collect::<String>());
        }
        let value = |row: &Row| Ok(row.value(&size(&row.container)?, self.no_trunc));
        let values = rows.iter().map(value).collect::<Outcome<Vec<Value>>>()?;
        let format = match self.format.as_deref() {
            None | Some("" | "table") if self.size => TABLE.to_string() + "\t{{.Size}}",
            None | Some("" | "table") => TABLE.to_string(),
            Some(format) => format.to_string(),
        };
        let heads = json!({
            "ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
            "RunningFor": "CREATED", "State": "STATE", "Status": "STATUS", "Ports": "PORTS", "Size": "SIZE",
            "Labels": "LABELS", "Mounts": "MOUNTS", "Networks": "NETWORKS", "LocalVolumes": "LOCAL VOLUMES",
        });
        let text = template::list(&format, &heads, &values);
        print(&text.map_err(|error| usage(format!("--format {format}: {error}")))?)
    }

    fn matches(&self, row: &Row) -> Outcome<bool> {
        let container = &row.container;
        for filter in &self.filter {
            let (key, value) =
                filter.split_once('=').ok_or_else(|| usage(format!("--filter {filter}: expected KEY=VALUE")))?;
            let holds = match key {
                "id" => container.id.starts_with(value),
                // Docker matches a regular expression; plain names, also anchored, are what scripts have.
                "name" => match value.trim_start_matches('^').trim_start_matches('/') {
                    text if text.ends_with('$') => {
                        let text = &text[..text.len() - 1];
                        if value.starts_with('^') { container.name == text } else { container.name.ends_with(text) }
                    }
                    text if value.starts_with('^') => container.name.starts_with(text),
                    text => container.name.contains(text),
                },
                "label" => has_label(container, value),
                "status" => row.status.word() == value,
                "ancestor" => {
                    let id = container.image_id.hex();
                    container.image == value
                        || container.image.split_once(':').is_some_and(|(name, _)| name == value)
                        || id.starts_with(value.trim_start_matches("sha256:"))
                }
                "exited" => row.status == Status::Exited && row.state.exit_code.to_string() == value,
                "volume" => container
                    .settings
                    .mounts
                    .iter()
                    .any(|mount| mount.target == Path::new(value) || crate::run::uses_volume(container, value)),
                other => {
                    return Err(usage(format!(
                        "--filter {other}=…: expected id, name, label, status, ancestor, exited or volume"
                    )));
                }
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// `Up 2 minutes`, `Exited (0) 3 hours ago`, `Created`.
fn told(status: Status, state: &State) -> String {
    let since = |time: &Option<String>| time.as_deref().map(ago).unwrap_or_default();
    match status {
        Status::Created => "Created".into(),
        Status::Running => format!("Up {}", since(&state.started)),
        Status::Exited if state.finished.is_none() => format!("Exited ({})", state.exit_code),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished)),
    }
}

/// How long ago an RFC 3339 time was, in Docker's words.
fn ago(time: &str) -> String {
    let then = humantime::parse_rfc3339(time).unwrap_or(SystemTime::UNIX_EPOCH);
    in_words(SystemTime::now().duration_since(then).unwrap_or_default())
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dockers_words() {
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (72 * 3600, "3 days"),
            (21 * 86400, "3 weeks"),
            (100 * 86400, "3 months"),
        ];
        for (seconds, words) in table {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
