//! `docker system df`: how much of the disk images, containers, volumes and the cache take, in Docker's words.
//!
//! Images are their blobs: what is unpacked of them can be had again, and is part of the cache.

use super::container::Row;
use super::{Outcome, format};
use crate::oci::{Descriptor, Platform};
use crate::run::{self, Containers, RunError, Status, Volumes};
use crate::store::{Image, ItemKind, Store};
use crate::ui::{self, Diagnostic};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// Show what images, containers, volumes and the cache take on disk, as docker system df does
#[derive(Args, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskArgs {
    /// Each image, container, volume and entry of the cache
    #[arg(short, long)]
    verbose: bool,
    /// How each is printed: a Go template, 'json' or 'table …'; with --verbose one for all
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

const TOTALS: &str = r"table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const IMAGES: &str = r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str =
    r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = r"table {{.Name}}\t{{.Links}}\t{{.Size}}";
const CACHE: &str =
    r"table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";

/// What there is of one type, in numbers and line by line.
#[derive(Debug, Default)]
struct Section {
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
    rows: Vec<Value>,
}

impl Section {
    fn add(&mut self, active: bool, size: u64, row: Value) {
        self.total += 1;
        self.active += usize::from(active);
        self.size += size;
        self.reclaimable += if active { 0 } else { size };
        self.rows.push(row);
    }

    /// Its line, `share` with how much of it can be had back.
    fn line(&self, name: &str, share: bool) -> Value {
        let part = (self.reclaimable * 100).checked_div(self.size).filter(|_| share);
        let part = part.map(|part| format!(" ({part}%)")).unwrap_or_default();
        json!({
            "Type": name, "TotalCount": self.total.to_string(), "Active": self.active.to_string(),
            "Size": size(self.size), "Reclaimable": format!("{}{part}", size(self.reclaimable)),
        })
    }
}

fn size(bytes: u64) -> String {
    ui::bytes_in(bytes, 4)
}

fn failed(error: RunError) -> Box<Diagnostic> {
    Box::new(Diagnostic::from(&error).exit(1))
}

impl DiskArgs {
    /// What is to be printed. To be called where files of any owner can be looked at.
    pub fn text(&self, store: &Store) -> Outcome<String> {
        let rows = Row::all(&Containers::of(store.root()))?;
        let (images, containers) = (images(store, &rows)?, containers(store, &rows)?);
        let (volumes, cache) = (volumes(store, &rows)?, cache(store)?);
        if !self.verbose {
            let lines = [
                images.line("Images", true),
                containers.line("Containers", true),
                volumes.line("Local Volumes", true),
                cache.line("Build Cache", false),
            ];
            let heads = json!({
                "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
            });
            return format::list(self.format.as_deref(), TOTALS, &heads, &lines);
        }
        if let Some(text) = self.format.as_deref().filter(|text| !matches!(*text, "" | "table")) {
            let all = json!({
                "Images": images.rows, "Containers": containers.rows, "Volumes": volumes.rows, "BuildCache": cache.rows,
            });
            return format::list(Some(text), "", &json!({}), &[all]);
        }
        let heads = json!({
            "Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE",
            "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS",
        });
        let mut text = format!("Images space usage:\n\n{}", format::list(None, IMAGES, &heads, &images.rows)?);
        let heads = json!({
            "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "LocalVolumes": "LOCAL VOLUMES", "Size": "SIZE",
            "RunningFor": "CREATED", "Status": "STATUS", "Names": "NAMES",
        });
        let list = format::list(None, CONTAINERS, &heads, &containers.rows)?;
        text += &format!("\nContainers space usage:\n\n{list}");
        let heads = json!({ "Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE" });
        let list = format::list(None, VOLUMES, &heads, &volumes.rows)?;
        text += &format!("\nLocal Volumes space usage:\n\n{list}");
        let heads = json!({
            "ID": "CACHE ID", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED",
            "LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED",
        });
        let list = format::list(None, CACHE, &heads, &cache.rows)?;
        text += &format!("\nBuild cache usage: {}\n\n{list}", size(cache.size));
        Ok(text)
    }
}

/// Named images: each once, however many names it has.
fn images(store: &Store, containers: &[Row]) -> Outcome<Section> {
    let names = store.names()?;
    let targets: BTreeMap<String, &Descriptor> =
        names.iter().map(|(_, target)| (target.digest().to_string(), target)).collect();
    let mut blobs = BTreeMap::new();
    for (digest, target) in &targets {
        blobs.insert(digest.clone(), store.blobs_of(vec![(*target).clone()])?);
    }
    let users = |digest: &String| {
        let own =
            |row: &&Row| blobs[digest].keys().any(|blob| blob.to_string() == *row.container.manifest.digest().as_ref());
        containers.iter().filter(own).count()
    };
    let owners = |blob| blobs.values().filter(|blobs| blobs.contains_key(blob)).count();
    let mut section = Section { total: targets.len(), ..Section::default() };
    let (mut all, mut used) = (BTreeMap::new(), BTreeSet::new());
    for (digest, own) in &blobs {
        all.extend(own.iter());
        if users(digest) > 0 {
            section.active += 1;
            used.extend(own.keys());
        }
    }
    section.size = all.values().copied().sum();
    section.reclaimable = all.iter().filter(|(blob, _)| !used.contains(*blob)).map(|(_, size)| *size).sum();
    for (name, target) in &names {
        let digest = target.digest().to_string();
        let own = &blobs[&digest];
        let unique: u64 = own.iter().filter(|(blob, _)| owners(*blob) == 1).map(|(_, size)| size).sum();
        let whole: u64 = own.values().sum();
        let image = Image::load(store, target, &Platform::host()).ok();
        let created = image.as_ref().and_then(|image| image.config.created.clone()).unwrap_or_default();
        let id =
            image.map_or_else(|| digest.trim_start_matches("sha256:").to_string(), |image| image.id.hex().to_string());
        section.rows.push(json!({
            "Repository": name.familiar_repository(), "Tag": name.tag().unwrap_or("<none>"),
            "ID": id.chars().take(12).collect::<String>(), "CreatedSince": ui::since(&created, SystemTime::now()),
            "Size": size(whole), "SharedSize": size(whole - unique), "UniqueSize": size(unique),
            "Containers": users(&digest).to_string(),
        }));
    }
    Ok(section)
}

fn containers(store: &Store, rows: &[Row]) -> Outcome<Section> {
    let mut section = Section::default();
    for row in rows {
        let bytes = run::changed_bytes(store.root(), &row.container).map_err(failed)?;
        section.add(row.status == Status::Running, bytes, row.value(&size(bytes), false));
    }
    Ok(section)
}

fn volumes(store: &Store, rows: &[Row]) -> Outcome<Section> {
    let volumes = Volumes::of(store.root());
    let mut section = Section::default();
    for volume in volumes.list().map_err(failed)? {
        let links = rows.iter().filter(|row| run::uses_volume(&row.container, &volume.name)).count();
        let bytes = run::volume_bytes(&volumes, &volume.name).map_err(failed)?;
        let row = json!({ "Name": volume.name, "Links": links.to_string(), "Size": size(bytes) });
        section.add(links > 0, bytes, row);
    }
    Ok(section)
}

fn cache(store: &Store) -> Outcome<Section> {
    let mut section = Section::default();
    for item in store.usage()?.items {
        let kind = match item.kind {
            ItemKind::Blob | ItemKind::Layer => "regular",
            ItemKind::Record => "internal",
            ItemKind::CacheMount => "exec.cachemount",
        };
        let used = ui::since(&humantime::format_rfc3339_seconds(item.used).to_string(), SystemTime::now());
        let row = json!({
            "ID": item.id.chars().take(12).collect::<String>(), "CacheType": kind, "Size": size(item.size),
            // When it was made is not kept; how often it was used is not counted.
            "CreatedSince": "N/A", "LastUsedSince": used, "UsageCount": "N/A", "Shared": "false",
            "InUse": "false",
        });
        section.add(false, item.size, row);
    }
    Ok(section)
}
