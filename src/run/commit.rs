//! What a container has changed: listed, or made an image of.

use super::container::{Container, image_settings, now};
use super::{RunError, Services, keep};
use crate::context::SourceTree;
use crate::dockerfile;
use crate::oci::json::to_canonical;
use crate::oci::manifest::{self, ImageFormat};
use crate::oci::{Descriptor, Digest, History, ImageConfig, Platform, Reference};
use crate::plan::{BaseImage, PlanOptions, Planner};
use crate::rootfs::{Compression, LayerOptions};
use crate::store::{Image, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;

/// Instructions that a commit can apply.
const CHANGES: [&str; 10] =
    ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

/// How an image is made of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitOptions {
    /// `--author`
    pub author: Option<String>,
    /// `--message`
    pub message: Option<String>,
    /// `--change`: instructions of a Dockerfile.
    pub changes: Vec<String>,
    /// Its name, if it is to have one.
    pub name: Option<Reference>,
}

/// Something that a container has changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Its path in the container, with a slash before it.
    pub path: Vec<u8>,
    /// What was done to it.
    pub kind: ChangeKind,
}

/// What was done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was there, as something else.
    Changed,
    /// It is gone.
    Deleted,
}

/// Paths that are not the container's own doing: what is mounted or made for it while it runs.
fn excluded(container: &Container) -> Vec<Vec<u8>> {
    let own = ["proc", "sys", "dev", "etc/hosts", "etc/resolv.conf"].map(|path| path.as_bytes().to_vec());
    let mounts = container.settings.mounts.iter();
    let mounts = mounts.map(|mount| mount.target.as_os_str().as_bytes().trim_ascii().to_vec());
    let trim = |path: Vec<u8>| {
        let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
        let end = path.iter().rposition(|b| *b != b'/').map_or(start, |at| at + 1);
        path[start..end].to_vec()
    };
    own.into_iter().chain(mounts.map(trim)).filter(|path| !path.is_empty()).collect()
}

/// Makes an image of a container as it is, and gives what names it and its ID.
pub fn commit(
    container: &Container,
    options: &CommitOptions,
    services: &Services<'_>,
) -> Result<(Descriptor, Digest), RunError> {
    let store = services.store;
    let image = Image::load(store, &container.manifest, &container.platform)?;
    let mut config = image.config.clone();
    config.config = image_settings(&image.config, &container.settings);
    let mut config = apply(config, &options.changes, &container.platform)?;
    let excluded = excluded(container);
    let excluded: Vec<&[u8]> = excluded.iter().map(Vec::as_slice).collect();
    let tree = keep::tree(container, services)?;
    let (writer, _) = tree.changes(store.blob_writer()?, LayerOptions::default(), &excluded)?;
    let layer = writer.finish()?;
    let created = now();
    config.rootfs.diff_ids = image.layers.iter().chain([&layer]).map(|layer| layer.diff_id.clone()).collect();
    config.created = Some(created.clone());
    if options.author.is_some() {
        config.author.clone_from(&options.author);
    }
    let words: Vec<String> =
        container.settings.args().iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    config.history.push(History {
        created: Some(created),
        created_by: Some(words.join(" ")),
        author: options.author.clone(),
        comment: options.message.clone(),
        ..History::default()
    });
    let format = match image.descriptor.media_type().as_ref() {
        manifest::DOCKER_MANIFEST => ImageFormat::Docker,
        _ => ImageFormat::Oci,
    };
    let mut layers = image.manifest.layers().clone();
    layers.push(manifest::descriptor(format.layer_gzip(), &layer.digest, layer.size));
    let (config, id) = put(store, format.config(), &config)?;
    let document = json!({
        "schemaVersion": 2,
        "mediaType": format.manifest(),
        "config": config,
        "layers": layers,
    });
    let (target, _) = put(store, format.manifest(), &document)?;
    if let Some(name) = &options.name {
        store.tag(name, &target)?;
    }
    Ok((target, id))
}

fn put(store: &Store, media_type: &str, document: &impl Serialize) -> Result<(Descriptor, Digest), RunError> {
    // Configs and manifests are made of strings, numbers and string-keyed maps: always JSON.
    let bytes = to_canonical(document).unwrap_or_default();
    let digest = store.put_blob(&bytes)?;
    Ok((manifest::descriptor(media_type, &digest, bytes.len() as u64), digest))
}

/// Applies instructions to a config, as a Dockerfile that begins with that image would.
fn apply(config: ImageConfig, changes: &[String], platform: &Platform) -> Result<ImageConfig, RunError> {
    if changes.is_empty() {
        return Ok(config);
    }
    for change in changes {
        let word = change.split_whitespace().next().unwrap_or_default().to_uppercase();
        if !CHANGES.contains(&word.as_str()) || change.contains('\n') {
            return Err(RunError::Change(change.clone()));
        }
    }
    let text = format!("FROM container\n{}\n", changes.join("\n"));
    let dockerfile = dockerfile::parse(&text)?;
    let options = PlanOptions {
        target: None,
        build_args: Vec::new(),
        labels: Vec::new(),
        platform: platform.clone(),
        platform_is_explicit: true,
        build_platform: Platform::host(),
        source_date_epoch: None,
        named_contexts: Default::default(),
    };
    let mut planner = Planner::new(&dockerfile, &options)?;
    let (history, mut base) = (config.history.clone(), config);
    // Triggers are for images that are built on this one.
    let triggers = base.config.on_build.take();
    for request in planner.wanted() {
        let image = BaseImage { digest: Digest::sha256(b""), config: base.clone() };
        planner.supply(&request, image)?;
    }
    let plan = planner.finish()?;
    let Some(stage) = plan.stages.last() else { return Ok(base) };
    let mut config = stage.config.clone();
    config.history = history;
    let new = config.config.on_build.take();
    let all: Vec<String> = triggers.into_iter().chain(new).flatten().collect();
    config.config.on_build = (!all.is_empty()).then_some(all);
    Ok(config)
}

/// What a container has changed, sorted by path.
pub fn changes(container: &Container, services: &Services<'_>) -> Result<Vec<Change>, RunError> {
    let tree = keep::tree(container, services)?;
    let excluded = excluded(container);
    let excluded: Vec<&[u8]> = excluded.iter().map(Vec::as_slice).collect();
    let options = LayerOptions { compression: Compression::none(), threads: 1, epoch: None };
    let (writer, _) = tree.changes(tempfile::tempfile_in(services.store.temp_dir()?.path())?, options, &excluded)?;
    let (mut layer, _, _) = writer.finish_into()?;
    layer.rewind()?;
    let parent = tree.parent()?;
    let mut found = Vec::new();
    let mut archive = tar::Archive::new(&mut layer as &mut dyn Read);
    for entry in archive.entries()? {
        let path = entry?.path_bytes().into_owned();
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let (path, kind) = match path[at..].strip_prefix(b".wh.") {
            Some(name) => ([&path[..at], name].concat(), ChangeKind::Deleted),
            None if parent.metadata(path)?.is_some() => (path.to_vec(), ChangeKind::Changed),
            None => (path.to_vec(), ChangeKind::Added),
        };
        found.push(Change { path: [b"/", &path[..]].concat(), kind });
    }
    found.sort();
    Ok(found)
}
