//! `docker buildx du`, and what prunes: the cache, images, everything. The local store is cleaned by `dockless cache`.

use super::{Call, networks};
use crate::cli::words::{Does, Flag, switch, value};
use crate::cli::{Outcome, usage};
use crate::store::Store;
use std::process::ExitCode;

const ONE_BUILDER: Does = Does::Ignored("there is one builder: this process");
const NOT_ASKED: Does = Does::Ignored("nothing is asked anyway");
const UNTIL: Does = Does::Own("`until=TIME`: only what was not used for so long; others are refused");

pub const BUILDER: &[Flag] = &[
    switch("all", Does::Is("--all")).short('a'),
    value("builder", ONE_BUILDER),
    value("filter", UNTIL),
    switch("force", NOT_ASKED).short('f'),
    value("keep-storage", Does::Is("--keep-bytes")),
    value("max-used-space", Does::Is("--keep-bytes")),
    value("min-free-space", Does::Refused("say how much is kept: --max-used-space")),
    value("reserved-space", Does::Refused("say how much is kept: --max-used-space")),
    value("timeout", ONE_BUILDER),
    switch("verbose", Does::Ignored("what is dropped is listed anyway")),
];
pub const IMAGE: &[Flag] = &[
    switch("all", Does::Own("takes all names away first")).short('a'),
    value("filter", UNTIL),
    switch("force", NOT_ASKED).short('f'),
];
pub const SYSTEM: &[Flag] = &[
    switch("all", Does::Own("takes all images' names away, and drops the whole cache")).short('a'),
    value("filter", UNTIL),
    switch("force", NOT_ASKED).short('f'),
    switch("volumes", Does::Own("removes volumes that no container has, too")),
];
pub const USAGE: &[Flag] = &[
    value("builder", ONE_BUILDER),
    value("filter", Does::Refused("everything is told")),
    value("format", Does::Refused("use `dockless cache ls`")),
    value("timeout", ONE_BUILDER),
    switch("verbose", Does::Own("each entry")).short('v'),
];

/// `until=TIME` of the filters: what was used in this time is kept.
fn until(call: &Call<'_>) -> Outcome<Option<String>> {
    let mut found = None;
    for filter in call.given.all("filter") {
        match filter.split_once('=') {
            Some(("until", time)) => found = Some(format!("--keep-for={time}")),
            // Nothing that is kept is dangling.
            Some(("dangling", _)) => {}
            _ => return Err(usage(format!("--filter {filter}: expected until=TIME"))),
        }
    }
    Ok(found)
}

fn prune(call: &Call<'_>, flags: &[String]) -> Outcome<ExitCode> {
    let mut line = vec!["cache".to_string(), "prune".to_string()];
    let until = until(call)?;
    // A time says what goes: all of it that is older.
    line.extend(flags.iter().filter(|flag| until.is_none() || !flag.starts_with("--all")).cloned());
    line.extend(until);
    call.native(&line)
}

pub fn builder(call: &Call<'_>) -> Outcome<ExitCode> {
    prune(call, &call.given.ours)
}

pub fn images(call: &Call<'_>) -> Outcome<ExitCode> {
    let mut flags = vec!["--type=blob".to_string(), "--type=layer".to_string()];
    if call.given.is("all") {
        forget(call)?;
        flags.push("--all".into());
    }
    prune(call, &flags)
}

/// Takes all names away.
fn forget(call: &Call<'_>) -> Outcome<()> {
    if !call.state.exists() {
        return Ok(());
    }
    let store = Store::open(&call.state)?;
    for (name, _) in store.names()? {
        store.untag(&name)?;
    }
    Ok(())
}

pub fn system(call: &Call<'_>) -> Outcome<ExitCode> {
    call.native(&["container", "prune", "--force"].map(String::from))?;
    if call.given.is("volumes") {
        networks::prune_volumes(call)?;
    }
    networks::prune_networks(call)?;
    if call.given.is("all") {
        forget(call)?;
        return prune(call, &["--all".to_string()]);
    }
    prune(call, &[])
}

pub fn usage_of(call: &Call<'_>) -> Outcome<ExitCode> {
    let verb = if call.given.is("verbose") { "ls" } else { "du" };
    call.native(&["cache", verb].map(String::from))
}
