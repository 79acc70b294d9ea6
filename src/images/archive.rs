//! Images as archives: OCI image layouts, and what `docker load` takes. The same image gives the same bytes.
//!
//! Spec: OCI image-spec image-layout.md; moby image-spec v1.2 ("combined image JSON and filesystem changeset format").

use super::sink::{DirectorySink, Sink, Target, at, whole_file};
use super::{SaveError, document};
use crate::oci::json::to_canonical;
use crate::oci::manifest::{digest_of, is_index, is_manifest};
use crate::oci::{Descriptor, Digest, Index, Manifest, Platform, Reference};
use crate::rootfs::layer::TarWriter;
use crate::store::Image;
use crate::store::Store;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A name in an OCI layout: the tag.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, which containerd's and BuildKit's importers read.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";

/// Writes `image` (a manifest or an index, with all it needs) as an OCI image layout under `names`. In a directory that is
/// a layout already, the image is added, and takes names over.
pub fn save_oci(store: &Store, image: &Descriptor, names: &[Reference], to: Target) -> Result<(), SaveError> {
    let blobs = blobs(store, image)?;
    let mut manifests = entries(image, names);
    if let Target::Directory(dir) = &to {
        manifests.splice(0..0, kept(dir, &manifests)?);
    }
    write(to, |sink| {
        layout(store, &blobs, sink)?;
        text(sink, "index.json", &index(&manifests)?)?;
        text(sink, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    })
}

/// An image for [`save_docker`].
#[derive(Debug, Clone)]
pub struct Saved {
    /// The image; of an index only the one for the platform is written, because `docker load` takes one.
    pub target: Descriptor,
    /// Its names.
    pub names: Vec<Reference>,
}

/// Writes images as `docker save` does: an OCI layout and Docker's `manifest.json` in one.
pub fn save_docker(store: &Store, images: &[Saved], platform: &Platform, to: Target) -> Result<(), SaveError> {
    let (mut all, mut manifest, mut listed) = (BTreeMap::new(), Vec::new(), Vec::new());
    // Old readers look for the top layer of each name here.
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Saved { target, names } in images {
        let image = Image::load(store, target, platform)?;
        all.extend(blobs(store, &image.descriptor)?);
        let layers = image.manifest.layers().iter().map(digest_of).collect::<Result<Vec<_>, _>>()?;
        let tagged: Vec<&Reference> = names.iter().filter(|name| name.tag().is_some()).collect();
        manifest.push(json!({
            "Config": blob_path(&image.id),
            "RepoTags": tagged.iter().map(|name| name.familiar()).collect::<Vec<_>>(),
            "Layers": layers.iter().map(blob_path).collect::<Vec<_>>(),
        }));
        listed.extend(entries(&image.descriptor, names));
        for name in tagged {
            if let (Some(tag), Some(top)) = (name.tag(), layers.last()) {
                let tags = repositories.entry(name.familiar_repository()).or_default();
                tags.insert(tag.to_string(), top.hex().to_string());
            }
        }
    }
    write(to, |sink| {
        layout(store, &all, sink)?;
        text(sink, "index.json", &index(&listed)?)?;
        text(sink, "manifest.json", &canonical(&json!(manifest))?)?;
        text(sink, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        text(sink, "repositories", &canonical(&json!(repositories))?)
    })
}

/// Gives `fill` the sink that `to` means.
fn write(to: Target, fill: impl FnOnce(&mut dyn Sink) -> Result<(), SaveError>) -> Result<(), SaveError> {
    match to {
        Target::Directory(dir) => {
            fs_err::create_dir_all(dir)?;
            fill(&mut DirectorySink(dir.to_path_buf()))
        }
        Target::Stream(out) => {
            let mut tar = TarWriter::new(&mut *out, None);
            fill(&mut tar)?;
            tar.finish()?;
            out.flush().map_err(SaveError::from)
        }
        Target::File(path) => whole_file(path, |out| {
            let mut tar = TarWriter::new(out, None);
            fill(&mut tar)?;
            tar.finish().map(drop).map_err(SaveError::from)
        }),
    }
}

/// Every blob that `descriptor` needs, itself included, by path.
fn blobs(store: &Store, descriptor: &Descriptor) -> Result<BTreeMap<String, Digest>, SaveError> {
    let mut found = BTreeMap::new();
    let mut todo = vec![descriptor.clone()];
    while let Some(descriptor) = todo.pop() {
        let digest = digest_of(&descriptor)?;
        if found.insert(blob_path(&digest), digest).is_some() {
            continue;
        }
        let media_type = descriptor.media_type().as_ref();
        if is_index(media_type) {
            let index: Index = document(store, &descriptor, "image index")?;
            todo.extend(index.manifests().iter().cloned());
        } else if is_manifest(media_type) {
            let manifest: Manifest = document(store, &descriptor, "image manifest")?;
            todo.push(manifest.config().clone());
            todo.extend(manifest.layers().iter().cloned());
        }
    }
    Ok(found)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// Writes the blobs and the directories that they are in.
fn layout(store: &Store, blobs: &BTreeMap<String, Digest>, sink: &mut dyn Sink) -> Result<(), SaveError> {
    sink.dir("blobs")?;
    let mut within = "";
    for (path, digest) in blobs {
        if within != digest.algorithm().as_str() {
            within = digest.algorithm().as_str();
            sink.dir(&format!("blobs/{within}"))?;
        }
        let mut blob = store.open_blob(digest)?;
        sink.file(path, blob.size(), &mut blob)?;
    }
    Ok(())
}

/// Entries of an index: one for each name, or one without.
fn entries(image: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    let named = |name: &Reference| {
        let mut annotations: HashMap<String, String> = image.annotations().clone().unwrap_or_default();
        annotations.insert(IMAGE_NAME.into(), name.to_string());
        annotations.insert(REF_NAME.into(), name.tag().map_or_else(|| name.to_string(), str::to_string));
        let mut entry = image.clone();
        entry.set_annotations(Some(annotations));
        entry
    };
    if names.is_empty() { vec![image.clone()] } else { names.iter().map(named).collect() }
}

/// What an index in `dir` holds beside `new`.
fn kept(dir: &Path, new: &[Descriptor]) -> Result<Vec<Descriptor>, SaveError> {
    let path = dir.join("index.json");
    let bytes = match fs_err::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        read => read?,
    };
    let old: Index = serde_json::from_slice(&bytes).map_err(|error| at(&path, error.into()))?;
    let name = |entry: &Descriptor| entry.annotations().as_ref().and_then(|all| all.get(REF_NAME).cloned());
    let replaced = |entry: &&Descriptor| {
        new.iter().any(|new| name(new) == name(entry) && (name(new).is_some() || new.digest() == entry.digest()))
    };
    Ok(old.manifests().iter().filter(|entry| !replaced(entry)).cloned().collect())
}

fn index(manifests: &[Descriptor]) -> Result<Vec<u8>, SaveError> {
    let media_type = crate::oci::manifest::OCI_INDEX;
    canonical(&json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests }))
}

fn canonical(value: &Value) -> Result<Vec<u8>, SaveError> {
    to_canonical(value).map_err(|error| SaveError::Output(error.into()))
}

fn text(sink: &mut dyn Sink, path: &str, bytes: &[u8]) -> Result<(), SaveError> {
    sink.file(path, bytes.len() as u64, &mut &bytes[..])
}
