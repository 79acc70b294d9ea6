//! Archives into the store: what `docker save` writes, now and in the past, and OCI image layouts; compressed or not.
//!
//! Nothing of an archive is believed: its members go to files of our own that are numbered, links among them are followed
//! as text, and each blob is stored under the digest that it has.
//!
//! Spec: moby image-spec v1.2 ("combined image JSON and filesystem changeset format"); OCI image-spec image-layout.md.

use super::archive::{IMAGE_NAME, REF_NAME};
use super::{ImagesError, LoadError};
use crate::oci::json::to_canonical;
use crate::oci::manifest::{
    OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, descriptor, digest_of, is_index, is_manifest,
};
use crate::oci::{Descriptor, Digest, Index, Manifest, Platform, Reference};
use crate::store::image::DOCUMENT_MAX;
use crate::store::{Image, Store, StoreError};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its ID.
    pub id: Digest,
    /// The names that the archive gives it.
    pub names: Vec<Reference>,
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads an archive and keeps its images under their names.
pub fn load(store: &Store, archive: &mut dyn Read) -> Result<Vec<Loaded>, ImagesError> {
    let temp = store.temp_dir()?;
    let members = Members::read(archive, temp.path())?;
    let entries: Vec<Entry> = members.json("manifest.json")?.unwrap_or_default();
    let mut names: HashMap<String, Vec<Reference>> = HashMap::new();
    for entry in &entries {
        let tags = entry.repo_tags.iter().flatten().filter_map(|text| text.parse().ok());
        names.entry(members.canonical(&entry.config)).or_default().extend(tags);
    }
    let index: Option<Index> = members.json("index.json")?;
    let images: Vec<Result<Descriptor, ImagesError>> = match (index, entries.is_empty()) {
        (Some(index), _) => index.manifests().iter().map(|one| members.layout(store, one)).collect(),
        (None, false) => entries.iter().map(|entry| members.docker(store, entry)).collect(),
        (None, true) => return Err(LoadError::NoImages.into()),
    };
    let mut loaded: Vec<Loaded> = Vec::new();
    for target in images {
        let target = target?;
        let id = match Image::load(store, &target, &Platform::host()) {
            Ok(image) => image.id,
            Err(_) if is_index(target.media_type().as_ref()) => digest_of(&target)?,
            Err(error) => return Err(error.into()),
        };
        let annotations = target.annotations().clone().unwrap_or_default();
        let whole = annotations.get(IMAGE_NAME).or(annotations.get(REF_NAME).filter(|name| name.contains('/')));
        let mut own: Vec<Reference> = whole.and_then(|name| name.parse().ok()).into_iter().collect();
        own.extend(names.get(&format!("blobs/{}/{}", id.algorithm().as_str(), id.hex())).cloned().unwrap_or_default());
        own.extend(names.get(&format!("{}.json", id.hex())).cloned().unwrap_or_default());
        own.sort();
        own.dedup();
        let mut plain = target.clone();
        plain.set_annotations(None);
        for name in &own {
            store.tag(name, &plain)?;
        }
        match loaded.iter_mut().find(|known| known.id == id) {
            Some(known) => {
                known.names.extend(own.into_iter().filter(|name| !known.names.contains(name)).collect::<Vec<_>>())
            }
            None => {
                super::remember(store, &id, &plain)?;
                loaded.push(Loaded { id, names: own });
            }
        }
    }
    Ok(loaded)
}

/// The files of an archive, by name.
struct Members {
    files: BTreeMap<String, PathBuf>,
    links: BTreeMap<String, String>,
}

impl Members {
    fn read(archive: &mut dyn Read, into: &std::path::Path) -> Result<Members, LoadError> {
        let mut reader = BufReader::new(archive);
        let start = io::BufRead::fill_buf(&mut reader).map_err(LoadError::Read)?.to_vec();
        let plain: Box<dyn Read + '_> = match start.as_slice() {
            [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(reader)),
            [b'B', b'Z', b'h', ..] => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(lzma_rust2::XzReader::new(reader, true)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(reader).map_err(LoadError::Read)?),
            _ => Box::new(reader),
        };
        let mut members = Members { files: BTreeMap::new(), links: BTreeMap::new() };
        let mut tar = tar::Archive::new(plain);
        for (number, entry) in tar.entries().map_err(LoadError::Read)?.enumerate() {
            let mut entry = entry.map_err(LoadError::Read)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_string();
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target).into_owned();
                let target = if kind.is_symlink() { beside(&name, &target) } else { target };
                members.links.insert(name, target);
            } else if kind.is_file() {
                let path = into.join(number.to_string());
                let mut file = fs_err::File::create(&path).map_err(LoadError::Read)?;
                io::copy(&mut entry, &mut file).map_err(LoadError::Read)?;
                members.files.insert(name, path);
            }
        }
        Ok(members)
    }

    /// The name of the file that `name` is in the end: links are followed as text, a few times.
    fn canonical(&self, name: &str) -> String {
        let mut name = name.to_string();
        for _ in 0..8 {
            match self.links.get(&name) {
                Some(target) => name = target.clone(),
                None => break,
            }
        }
        name
    }

    fn file(&self, name: &str) -> Result<&PathBuf, LoadError> {
        self.files.get(&self.canonical(name)).ok_or_else(|| LoadError::NoMember(name.to_string()))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, LoadError> {
        let mut bytes = Vec::new();
        let file = fs_err::File::open(self.file(name)?).map_err(LoadError::Read)?;
        file.take(DOCUMENT_MAX).read_to_end(&mut bytes).map_err(LoadError::Read)?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LoadError> {
        if !self.files.contains_key(&self.canonical(name)) {
            return Ok(None);
        }
        let wrong = |source| LoadError::Json { name: name.to_string(), source };
        serde_json::from_slice(&self.bytes(name)?).map(Some).map_err(wrong)
    }

    /// An entry of `index.json`, with what it needs. Images of other platforms may be missing.
    fn layout(&self, store: &Store, target: &Descriptor) -> Result<Descriptor, ImagesError> {
        let name = blob(target)?;
        self.keep(store, &name, Some(target))?;
        let media_type = target.media_type().as_ref();
        let wrong = |source| LoadError::Json { name: name.clone(), source };
        if is_index(media_type) {
            let index: Index = serde_json::from_slice(&self.bytes(&name)?).map_err(wrong)?;
            for entry in index.manifests() {
                if self.files.contains_key(&self.canonical(&blob(entry)?)) {
                    self.layout(store, entry)?;
                }
            }
        } else if is_manifest(media_type) {
            let manifest: Manifest = serde_json::from_slice(&self.bytes(&name)?).map_err(wrong)?;
            for part in manifest.layers().iter().chain([manifest.config()]) {
                self.keep(store, &blob(part)?, Some(part))?;
            }
        }
        Ok(target.clone())
    }

    /// An image of `manifest.json`: its manifest is made here, because the archive has none.
    fn docker(&self, store: &Store, entry: &Entry) -> Result<Descriptor, ImagesError> {
        let config = self.keep(store, &entry.config, None)?;
        let config = descriptor(OCI_CONFIG, &config.0, config.1);
        let mut layers = Vec::new();
        for name in &entry.layers {
            let (digest, size) = self.keep(store, name, None)?;
            layers.push(descriptor(self.layer_type(name)?, &digest, size));
        }
        let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers });
        let wrong = |source| LoadError::Json { name: entry.config.clone(), source };
        let bytes = to_canonical(&manifest).map_err(wrong)?;
        Ok(descriptor(OCI_MANIFEST, &store.put_blob(&bytes)?, bytes.len() as u64))
    }

    fn layer_type(&self, name: &str) -> Result<&'static str, LoadError> {
        let mut start = [0; 4];
        let mut file = fs_err::File::open(self.file(name)?).map_err(LoadError::Read)?;
        let _ = file.read(&mut start).map_err(LoadError::Read)?;
        Ok(match start {
            [0x1f, 0x8b, ..] => OCI_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => OCI_LAYER_ZSTD,
            _ => OCI_LAYER,
        })
    }

    /// Puts a file into the store; where `expected` says what it must be, other bytes are an error.
    fn keep(&self, store: &Store, name: &str, expected: Option<&Descriptor>) -> Result<(Digest, u64), ImagesError> {
        let expected = expected.map(|one| Ok::<_, ImagesError>((digest_of(one)?, one.size()))).transpose()?;
        if let Some((digest, size)) = &expected
            && store.has_blob(digest)?.is_some()
        {
            return Ok((digest.clone(), *size));
        }
        let mut file = fs_err::File::open(self.file(name)?).map_err(LoadError::Read)?;
        let mut writer = store.blob_writer()?;
        io::copy(&mut file, &mut writer).and_then(|_| writer.flush()).map_err(StoreError::from)?;
        match expected {
            Some((digest, size)) => {
                writer.finish_as(&digest, Some(size))?;
                Ok((digest, size))
            }
            None => Ok(writer.finish()?),
        }
    }
}

fn blob(descriptor: &Descriptor) -> Result<String, ImagesError> {
    let digest = digest_of(descriptor)?;
    Ok(format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex()))
}

/// What the target of a symbolic link at `name` is called in the archive.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
