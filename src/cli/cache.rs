//! `dockless cache`: what the local store keeps beside images.
//!
//! What is in unpacked layers and cache mounts may belong to ids that only the namespaces have, so all but the arguments is
//! done inside them.

use super::disk::DiskArgs;
use super::environment::Environment;
use super::{Outcome, usage};
use crate::build::Lookup;
use crate::build::cache::portable::{Moved, PortableError, export, import};
use crate::git::Ssh;
use crate::progress::{Event, Progress};
use crate::registry::RegistryClient;
use crate::store::{Dropped, Item, ItemKind, Keep, Store, StoreError, Usage};
use crate::ui::{self, Diagnostic, Kind, Screen};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the local store keeps what is of no use.
const TTL: &str = "DOCKLESS_CACHE_TTL";
/// How much it keeps.
const SIZE: &str = "DOCKLESS_CACHE_SIZE";

/// Show, clean and move the cache of the local store
#[derive(Args, Debug)]
pub struct CacheArgs {
    #[command(subcommand)]
    verb: CacheVerb,
}

#[derive(Subcommand, Debug)]
enum CacheVerb {
    /// List what is kept, the least lately used first
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show how much is kept
    Du,
    Df(DiskArgs),
    /// Write the records of steps and their layers to a directory, for another machine; --cache-from type=local,src=DIR
    /// reads it, too
    Export(DirArgs),
    /// Take up what was exported, or what --cache-to type=local,dest=DIR wrote; each layer is verified
    Import(DirArgs),
    /// Drop what was not used lately; with --all everything that no build is using
    Prune(PruneArgs),
}

#[derive(Args, Debug)]
struct LsArgs {
    /// Print only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    kinds: Vec<Type>,
}

#[derive(Args, Debug)]
struct DirArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Args, Debug)]
struct PruneArgs {
    /// Drop everything, however lately it was used
    #[arg(short, long)]
    all: bool,
    /// Do not ask, which is never done
    #[arg(short, long)]
    force: bool,
    /// Keep what was used in this time, such as 24h [default: 14d, or $DOCKLESS_CACHE_TTL]
    #[arg(long, value_name = "TIME", visible_alias = "keep-duration", conflicts_with = "all")]
    keep_for: Option<String>,
    /// Keep as much at most, the last used, such as 5g [default: 20g, or $DOCKLESS_CACHE_SIZE]
    #[arg(long, value_name = "BYTES", visible_aliases = ["max-used-space", "keep-storage"], conflicts_with = "all")]
    keep_bytes: Option<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    kinds: Vec<Type>,
    /// Say what would be dropped
    #[arg(long)]
    dry_run: bool,
}

/// A type of things that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
enum Type {
    /// Layers as they are pushed
    Blob,
    /// Unpacked layers
    Layer,
    /// Records of steps and of what they read
    Record,
    /// Cache mounts of RUN steps
    Mount,
}

impl Type {
    fn of(item: &Item) -> Type {
        match item.kind {
            ItemKind::Blob => Type::Blob,
            ItemKind::Layer => Type::Layer,
            ItemKind::Record => Type::Record,
            ItemKind::CacheMount => Type::Mount,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Type::Blob => "blob",
            Type::Layer => "layer",
            Type::Record => "record",
            Type::Mount => "mount",
        }
    }
}

/// What is asked of the cache.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTask {
    what: What,
    /// All where there is none.
    kinds: Vec<Type>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    List { quiet: bool },
    Usage,
    Disk(DiskArgs),
    Export(PathBuf),
    Import(PathBuf),
    Drop { all: bool, limits: Limits, dry_run: bool },
}

/// What people say of the local store's size; the usual where they say nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    lately: Option<Duration>,
    bytes: Option<u64>,
}

impl Limits {
    /// Those of the environment.
    pub fn read(environment: &Environment) -> Outcome<Limits> {
        let text = |name| environment.text(name).filter(|text| !text.is_empty());
        Ok(Limits {
            lately: text(TTL).map(|text| time(&format!("{TTL}={text}"), text)).transpose()?,
            bytes: text(SIZE).map(|text| super::build::size(&format!("{SIZE}={text}"), text)).transpose()?,
        })
    }

    fn keep(self, store: &Store) -> Result<Keep, StoreError> {
        let usual = store.usual()?;
        Ok(Keep { lately: self.lately.or(usual.lately), bytes: self.bytes.or(usual.bytes) })
    }
}

fn time(said: &str, text: &str) -> Outcome<Duration> {
    humantime::parse_duration(text).map_err(|_| usage(format!("{said}: expected a time such as 336h or 14d")))
}

impl CacheArgs {
    /// What is to be done.
    pub fn task(self, environment: &Environment) -> Outcome<CacheTask> {
        Ok(match self.verb {
            CacheVerb::Ls(LsArgs { quiet, kinds }) => CacheTask { what: What::List { quiet }, kinds },
            CacheVerb::Du => CacheTask { what: What::Usage, kinds: Vec::new() },
            CacheVerb::Df(args) => CacheTask { what: What::Disk(args), kinds: Vec::new() },
            CacheVerb::Export(DirArgs { dir }) => {
                CacheTask { what: What::Export(environment.absolute(dir)), kinds: Vec::new() }
            }
            CacheVerb::Import(DirArgs { dir }) => {
                CacheTask { what: What::Import(environment.absolute(dir)), kinds: Vec::new() }
            }
            CacheVerb::Prune(PruneArgs { all, keep_for, keep_bytes, kinds, dry_run, force: _ }) => {
                let mut limits = Limits::read(environment)?;
                if let Some(text) = keep_for {
                    limits.lately = Some(time(&format!("--keep-for={text}"), &text)?);
                }
                if let Some(text) = keep_bytes {
                    limits.bytes = Some(super::build::size(&format!("--keep-bytes={text}"), &text)?);
                }
                CacheTask { what: What::Drop { all, limits, dry_run }, kinds }
            }
        })
    }
}

impl CacheTask {
    /// Does it, and says what is to be printed. `trees` is the store of the trees on a job's volume, where there is one: what
    /// is there is listed and dropped as well, by limits of its own, since it is another file system.
    pub fn perform(
        &self,
        store: &Store,
        trees: Option<&Store>,
        registry: &RegistryClient,
        screen: &Screen,
    ) -> Outcome<String> {
        let wanted = |item: &Item| self.kinds.is_empty() || self.kinds.contains(&Type::of(item));
        let moved = |moved: Moved| {
            moved.left_out.iter().for_each(|text| screen.emit(Event::Warning { text: format!("left out: {text}") }));
            format!("{} steps, {} layers\n", moved.steps, moved.layers)
        };
        Ok(match &self.what {
            What::Export(dir) => {
                let ssh = Ssh::default();
                let exported = export(&Lookup { ssh: &ssh, store, registry, progress: screen }, dir);
                moved(exported.map_err(|error| failed(dir, &error))?)
            }
            What::Import(dir) => moved(import(store, dir).map_err(|error| failed(dir, &error))?),
            &What::List { quiet } => {
                let items = all_of(store, trees)?.items.into_iter().filter(|item| wanted(item)).collect::<Vec<_>>();
                if quiet { items.iter().map(|item| format!("{}\n", item.id)).collect() } else { listed(&items) }
            }
            What::Usage => sums(&all_of(store, trees)?),
            What::Disk(args) => args.text(store)?,
            &What::Drop { all, limits, dry_run } => {
                let mut dropped = Dropped::default();
                for store in [store].into_iter().chain(trees) {
                    let keep = if all { Keep::NOTHING } else { limits.keep(store)? };
                    let more = if dry_run { store.would_drop(keep, &wanted)? } else { store.clean(keep, &wanted)? };
                    dropped.items.extend(more.items);
                    dropped.in_use += more.in_use;
                }
                let in_use = match dropped.in_use {
                    0 => String::new(),
                    n => format!("{n} more are in use\n"),
                };
                let word = if dry_run { "Would be freed" } else { "Total reclaimed space" };
                format!("{}{in_use}{word}: {}\n", listed(&dropped.items), ui::bytes(dropped.size()))
            }
        })
    }
}

fn failed(dir: &Path, error: &PortableError) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::from_error(Kind::Environment, error);
    diagnostic.message = format!("{}: {}", dir.display(), diagnostic.message);
    Box::new(diagnostic)
}

fn listed(items: &[Item]) -> String {
    let mut rows = vec![["TYPE", "ID", "SIZE", "LAST USED"].map(String::from).to_vec()];
    rows.extend(items.iter().map(|item| {
        let kind = item.bucket.as_ref().map_or(Type::of(item).name().to_string(), |bucket| format!("record {bucket}"));
        let used = humantime::format_rfc3339_seconds(item.used).to_string();
        vec![kind, item.id.chars().take(12).collect(), ui::bytes(item.size), used]
    }));
    ui::table(&rows)
}

/// What both stores hold, the least lately used first.
fn all_of(store: &Store, trees: Option<&Store>) -> Outcome<Usage> {
    let mut usage = store.usage()?;
    if let Some(trees) = trees {
        usage.items.extend(trees.usage()?.items);
        usage.items.sort_by_key(|item| item.used);
    }
    Ok(usage)
}

/// How much there is of each type.
fn sums(usage: &Usage) -> String {
    let mut sums: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for item in &usage.items {
        let sum = sums.entry(Type::of(item).name()).or_default();
        *sum = (sum.0 + 1, sum.1 + item.size);
    }
    let row = |name: &str, (count, size): (usize, u64)| vec![name.to_string(), count.to_string(), ui::bytes(size)];
    let mut rows = vec![["TYPE", "COUNT", "SIZE"].map(String::from).to_vec()];
    rows.extend(sums.iter().map(|(name, sum)| row(name, *sum)));
    rows.push(row("all of the cache", (usage.items.len(), usage.size())));
    rows.push(row("blobs of images", usage.named));
    ui::table(&rows)
}

/// Cleans the store after a build, if that was not done lately; a failure is a warning.
pub fn clean_after(store: &Store, limits: Limits, screen: &Screen) {
    let cleaned = limits.keep(store).and_then(|keep| store.clean_at_times(keep));
    match cleaned {
        Ok(Some(Dropped { items, .. })) if !items.is_empty() => {
            let text = format!("cache: dropped {} items that were not used lately or too many", items.len());
            screen.emit(Event::Note { id: None, text });
        }
        Ok(_) => {}
        Err(error) => screen.emit(Event::Warning { text: format!("the cache cannot be cleaned: {error}") }),
    }
}
