//! A built image as the recordings describe one, read from its layers' tar streams.

use dockless::oci::Descriptor;
use dockless::store::Store;
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use tar::{Archive, Entry, EntryType};

const DOCUMENT_MAX: u64 = 1 << 20;

/// An image.
pub struct Image {
    /// Its config document.
    pub config: Value,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
}

/// Paths in one layer and what they are.
pub type Layer = BTreeMap<String, Node>;

/// One entry of a layer.
pub struct Node {
    /// As recorded: type, mode, uid, gid, mtime, target, dev.
    pub fields: Map<String, Value>,
    /// Bytes of a file.
    pub content: Vec<u8>,
    /// The path that holds the same inode, of a hard link.
    pub link: Option<String>,
}

/// Reads the images, one a platform, that `--metadata-file` describes.
pub fn read(store: &Store, metadata: &[u8]) -> Result<Vec<Image>, String> {
    let metadata: Value = serde_json::from_slice(metadata).map_err(|error| failed(&error))?;
    let target: Descriptor =
        serde_json::from_value(metadata["containerimage.descriptor"].clone()).map_err(|error| failed(&error))?;
    let target = document(store, target.digest().as_ref())?;
    match target["manifests"].as_array() {
        Some(entries) => entries
            .iter()
            .map(|entry| {
                let image = image(store, &document(store, entry["digest"].as_str().unwrap_or_default())?)?;
                for part in ["os", "architecture", "variant"] {
                    super::super::difference(&entry["platform"][part], &image.config[part], part)?;
                }
                Ok(image)
            })
            .collect(),
        None => Ok(vec![image(store, &target)?]),
    }
}

fn failed(error: &dyn std::fmt::Display) -> String {
    format!("the image cannot be read: {error}")
}

fn document(store: &Store, digest: &str) -> Result<Value, String> {
    let digest = digest.parse().map_err(|error| failed(&error))?;
    let bytes = store.read_blob(&digest, DOCUMENT_MAX).map_err(|error| failed(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(&error))
}

fn image(store: &Store, manifest: &Value) -> Result<Image, String> {
    let config = document(store, manifest["config"]["digest"].as_str().unwrap_or_default())?;
    let mut layers = Vec::new();
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let digest = layer["digest"].as_str().unwrap_or_default().parse().map_err(|error| failed(&error))?;
        let blob = store.open_blob(&digest).map_err(|error| failed(&error))?;
        let gzip = layer["mediaType"].as_str().is_some_and(|name| name.ends_with("gzip"));
        let stream: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(blob)) } else { Box::new(blob) };
        layers.push(entries(stream).map_err(|error| failed(&error))?);
    }
    Ok(Image { config, layers })
}

fn entries(stream: Box<dyn Read>) -> std::io::Result<Layer> {
    let mut layer = Layer::new();
    for entry in Archive::new(stream).entries()? {
        let mut entry = entry?;
        let path = format!("/{}", String::from_utf8_lossy(&entry.path_bytes()).trim_matches('/'));
        let mut node = node(&mut entry)?;
        entry.read_to_end(&mut node.content)?;
        layer.insert(path, node);
    }
    Ok(layer)
}

fn node(entry: &mut Entry<impl Read>) -> std::io::Result<Node> {
    let mut mtime = entry.header().mtime()?;
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let (Ok("mtime"), Ok(value)) = (extension.key(), extension.value()) {
            mtime = value.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
        }
    }
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Directory => "dir",
        EntryType::Symlink => "symlink",
        EntryType::Fifo => "fifo",
        EntryType::Char => "chardev",
        EntryType::Block => "blockdev",
        _ => "file",
    };
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_string(), value);
    set("type", kind.into());
    set("mode", format!("{:04o}", header.mode()? & 0o7777).into());
    set("uid", header.uid()?.into());
    set("gid", header.gid()?.into());
    set("mtime", mtime.into());
    if kind.ends_with("dev") {
        set("dev", json!([header.device_major()?, header.device_minor()?]));
    }
    let target = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
    let mut link = None;
    match (header.entry_type(), target) {
        (EntryType::Symlink, Some(target)) => drop(set("target", target.into())),
        (EntryType::Link, Some(target)) => link = Some(format!("/{}", target.trim_matches('/'))),
        _ => {}
    }
    Ok(Node { fields, content: Vec::new(), link })
}

/// The merged result of layers: each path's entry, and a whiteout where something was deleted.
pub fn merge(layers: Vec<Layer>) -> BTreeMap<String, Node> {
    let mut merged: BTreeMap<String, Node> = BTreeMap::new();
    for layer in layers {
        let (whiteouts, rest): (Vec<_>, Vec<_>) =
            layer.into_iter().partition(|(path, _)| path.rsplit('/').next().is_some_and(|n| n.starts_with(".wh.")));
        for (path, _) in whiteouts {
            let (dir, name) = path.rsplit_once('/').unwrap_or_default();
            let gone = match name {
                ".wh..wh..opq" => dir.to_string(),
                _ => format!("{dir}/{}", name.trim_start_matches(".wh.")),
            };
            merged.retain(|path, _| !path.starts_with(&format!("{gone}/")));
            if gone != dir {
                let fields = Map::from_iter([("type".to_string(), "whiteout".into())]);
                merged.insert(gone, Node { fields, content: Vec::new(), link: None });
            }
        }
        for (path, node) in rest {
            if node.fields["type"] != "dir" {
                merged.retain(|other, _| !other.starts_with(&format!("{path}/")));
            }
            let node = match &node.link {
                // What the first name says holds for all names.
                Some(first) => match merged.get(first) {
                    Some(first_node) => Node {
                        fields: first_node.fields.clone(),
                        content: first_node.content.clone(),
                        link: Some(first.clone()),
                    },
                    None => node,
                },
                None => node,
            };
            merged.insert(path, node);
        }
    }
    merged
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
