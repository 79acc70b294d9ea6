//! Manifests and indexes: resolve a reference to one image.

use super::session::Session;
use super::sources::digest_of;
use super::{RegistryClient, RegistryError, sources};
use crate::http::{HeaderValue, Method, Request, StatusCode, header};
use crate::oci::digest::Hasher;
use crate::oci::manifest::{self, DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use crate::progress::{Event, Progress};
use crate::store::Store;
use serde_json::Value;

/// Bytes that a manifest may have; registries refuse more than four million.
pub(super) const MANIFEST_LIMIT: u64 = 4 << 20;
/// Bytes that a config may have.
pub(super) const CONFIG_LIMIT: u64 = 16 << 20;

/// A manifest or index as it came, verified.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) descriptor: Descriptor,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

/// What a reference stands for: one image of one platform.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Where it was found: the reference asked for, or a mirror's.
    pub origin: Reference,
    /// The image's manifest.
    pub descriptor: Descriptor,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its content.
    pub manifest: Manifest,
    /// The index that led to it, with its bytes, where the reference names one.
    pub index: Option<(Descriptor, Vec<u8>)>,
}

impl Resolved {
    /// Digest of what the reference itself names: the index where there is one. A pinned reference holds this.
    pub fn pinned(&self) -> Result<Digest, RegistryError> {
        self.index.as_ref().map_or(Ok(self.digest.clone()), |(index, _)| digest_of(index, &self.origin))
    }
}

impl RegistryClient {
    /// Finds the image for `platform` behind `reference`: one or two manifests, no blobs. Mirrors are asked first.
    ///
    /// A reference that names a single image gives that one, whatever its platform; [`RegistryClient::fetch_config`] tells.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Resolved, RegistryError> {
        self.at_places(reference, progress, |there| self.resolve_at(there, platform))
    }

    /// What `reference` itself names, index or image, and where it was found.
    pub fn locate(
        &self,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(Reference, Descriptor, Vec<u8>), RegistryError> {
        self.at_places(reference, progress, |there| {
            let document = self.session(there, false)?.manifest(there)?;
            Ok((there.clone(), document.descriptor, document.bytes))
        })
    }

    /// Pulls what `reference` itself names into the store: of an image the manifest and the config, of an index all its
    /// images' manifests. Where their blobs are is remembered.
    pub fn pull_document(
        &self,
        store: &Store,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Descriptor, RegistryError> {
        let (origin, descriptor, bytes) = self.locate(reference, progress)?;
        let digest = digest_of(&descriptor, &origin)?;
        let document = Document { descriptor: descriptor.clone(), digest, bytes };
        let mut entries = Vec::new();
        if manifest::is_index(descriptor.media_type().as_ref()) {
            let index: Index = parse(&origin, &document)?;
            let session = self.session(&origin, false)?;
            for entry in index.manifests() {
                let image = session.manifest(&origin.at_digest(digest_of(entry, &origin)?))?;
                let image = resolved(&origin, image, None)?;
                let blobs = image.manifest.layers().iter().chain([image.manifest.config()]);
                sources::remember(store, &origin, blobs)?;
                put(store, &image.digest, &image.bytes)?;
                entries.push(entry.clone());
            }
            put(store, &document.digest, &document.bytes)?;
        } else {
            self.keep(store, &resolved(&origin, document, None)?)?;
        }
        sources::remember(store, &origin, entries.iter().chain([&descriptor]))?;
        Ok(descriptor)
    }

    /// Tries the mirrors, then the registry itself.
    fn at_places<T>(
        &self,
        reference: &Reference,
        progress: &dyn Progress,
        find: impl Fn(&Reference) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut places = self.settings.places(reference)?;
        let last = places.pop().unwrap_or_else(|| reference.clone());
        for there in places {
            match find(&there) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let mirror = there.registry();
                    let text = format!("mirror {mirror} does not serve {reference}, trying on: {error}");
                    progress.emit(Event::Warning { text });
                }
            }
        }
        find(&last)
    }

    fn resolve_at(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, RegistryError> {
        let session = self.session(reference, false)?;
        let document = session.manifest(reference)?;
        if !manifest::is_index(document.descriptor.media_type().as_ref()) {
            return resolved(reference, document, None);
        }
        let index: Index = parse(reference, &document)?;
        let chosen = choose(reference, &index, platform)?;
        let digest = digest_of(&chosen, reference)?;
        let image = session.manifest(&reference.at_digest(digest))?;
        resolved(reference, image, Some((document.descriptor, document.bytes)))
    }

    /// The config of a resolved image, verified.
    pub fn fetch_config(&self, resolved: &Resolved) -> Result<ImageConfig, RegistryError> {
        let bytes = self.config_bytes(resolved)?;
        parse_config(resolved, &bytes)
    }

    fn config_bytes(&self, resolved: &Resolved) -> Result<Vec<u8>, RegistryError> {
        let descriptor = resolved.manifest.config();
        if descriptor.size() > CONFIG_LIMIT {
            let media_type = format!("{} of {} bytes", descriptor.media_type(), descriptor.size());
            return Err(RegistryError::MediaType { origin: resolved.origin.to_string(), media_type });
        }
        let fetch = || {
            let mut bytes = Vec::new();
            self.fetch_blob(&resolved.origin, descriptor, &mut bytes).map(|()| bytes)
        };
        // As with manifests, a wrong digest is asked for once more.
        match fetch() {
            Err(RegistryError::Digest { .. }) => fetch(),
            result => result,
        }
    }

    /// Pulls manifest and config of `reference` into the store and remembers where the layers are; they come when
    /// something reads them. The name is the caller's to set.
    pub fn pull_image(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<(Resolved, ImageConfig), RegistryError> {
        let resolved = self.resolve(reference, platform, progress)?;
        let parsed = self.keep(store, &resolved)?;
        if let Some((index, bytes)) = &resolved.index {
            // Where the other platforms are, for a push that takes them along.
            let entries: Option<Index> = serde_json::from_slice(bytes).ok();
            let entries = entries.iter().flat_map(|index| index.manifests().iter());
            sources::remember(store, &resolved.origin, entries.chain([index]))?;
        }
        if let Some((descriptor, bytes)) = &resolved.index {
            put(store, &digest_of(descriptor, &resolved.origin)?, bytes)?;
        }
        Ok((resolved, parsed))
    }

    /// Puts config and manifest of an image into the store, and remembers where its parts are.
    fn keep(&self, store: &Store, resolved: &Resolved) -> Result<ImageConfig, RegistryError> {
        let config = digest_of(resolved.manifest.config(), &resolved.origin)?;
        let bytes = match store.has_blob(&config)? {
            Some(_) => store.read_blob(&config, CONFIG_LIMIT)?,
            None => {
                let bytes = self.config_bytes(resolved)?;
                put(store, &config, &bytes)?;
                bytes
            }
        };
        let parsed = parse_config(resolved, &bytes)?;
        let blobs = resolved.manifest.layers().iter().chain([resolved.manifest.config()]);
        sources::remember(store, &resolved.origin, blobs.chain([&resolved.descriptor]))?;
        put(store, &resolved.digest, &resolved.bytes)?;
        Ok(parsed)
    }
}

/// Puts a verified document into the store.
fn put(store: &Store, digest: &Digest, bytes: &[u8]) -> Result<(), RegistryError> {
    let mut writer = store.blob_writer()?;
    std::io::Write::write_all(&mut writer, bytes).map_err(crate::store::StoreError::from)?;
    writer.finish_as(digest, Some(bytes.len() as u64))?;
    Ok(())
}

fn parse_config(resolved: &Resolved, bytes: &[u8]) -> Result<ImageConfig, RegistryError> {
    serde_json::from_slice(bytes).map_err(|cause| RegistryError::Manifest {
        origin: format!("the config of {}", resolved.origin),
        digest: Digest::sha256(bytes),
        cause,
    })
}

fn resolved(
    origin: &Reference,
    document: Document,
    index: Option<(Descriptor, Vec<u8>)>,
) -> Result<Resolved, RegistryError> {
    let media_type = document.descriptor.media_type().to_string();
    if !manifest::is_manifest(&media_type) {
        return Err(RegistryError::MediaType { origin: origin.to_string(), media_type });
    }
    let manifest = parse(origin, &document)?;
    let Document { descriptor, digest, bytes } = document;
    Ok(Resolved { origin: origin.clone(), descriptor, digest, bytes, manifest, index })
}

fn parse<T: serde::de::DeserializeOwned>(origin: &Reference, document: &Document) -> Result<T, RegistryError> {
    serde_json::from_slice(&document.bytes).map_err(|cause| RegistryError::Manifest {
        origin: origin.to_string(),
        digest: document.digest.clone(),
        cause,
    })
}

/// The first entry that fits the platform. Attestations stand in an index as images of platform `unknown/unknown`.
fn choose(origin: &Reference, index: &Index, wanted: &Platform) -> Result<Descriptor, RegistryError> {
    let entries = index.manifests();
    let fits = |d: &&Descriptor| manifest::platform_of(d).is_some_and(|have| wanted.accepts(&have));
    // An index of one image need not say for which platform it is. (BuildKit's caches are indexes of what is no image.)
    let image = |d: &&Descriptor| manifest::is_manifest(d.media_type().as_ref()) && d.platform().is_none();
    let only = || entries.first().filter(|_| entries.len() == 1).filter(image);
    if let Some(chosen) = entries.iter().find(fits).or_else(only) {
        return Ok(chosen.clone());
    }
    let platforms = entries.iter().filter_map(manifest::platform_of).filter(|p| p.os != "unknown");
    let mut names: Vec<String> = platforms.map(|p| p.to_string()).collect();
    names.dedup();
    let available = if names.is_empty() { "none".into() } else { names.join(", ") };
    Err(RegistryError::Platform { origin: origin.to_string(), wanted: Box::new(wanted.clone()), available })
}

impl Session<'_> {
    /// A manifest or index by tag or digest, verified.
    pub(super) fn manifest(&self, reference: &Reference) -> Result<Document, RegistryError> {
        let mut request = Request::new(Method::GET, self.url(&format!("manifests/{}", reference.identifier()))?);
        request.headers.insert(header::ACCEPT, accept());
        // A wrong digest may be the fault of a cache between us and the registry, so it is asked for once more.
        let mut result = self.manifest_once(&request, reference);
        if matches!(result, Err(RegistryError::Digest { .. })) {
            result = self.manifest_once(&request, reference);
        }
        result
    }

    fn manifest_once(&self, request: &Request<'_>, reference: &Reference) -> Result<Document, RegistryError> {
        let read = || {
            let response = self.send(request, &[404])?;
            if response.status() == StatusCode::NOT_FOUND {
                let answer = response.into_error();
                return Err(RegistryError::NotFound { reference: Box::new(reference.clone()), answer });
            }
            let [kind, digest] =
                ["content-type", "docker-content-digest"].map(|name| response.header(name).map(String::from));
            Ok((kind, digest, response.into_bytes(MANIFEST_LIMIT)?))
        };
        let (kind, announced, bytes) = self.client.http.settings().retry.run(read)?;
        let announced = announced.and_then(|text| text.parse::<Digest>().ok());
        let expected = reference.digest().cloned().or(announced);
        let algorithm = expected.as_ref().map_or(crate::oci::digest::Algorithm::Sha256, Digest::algorithm);
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&bytes);
        let digest = hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(RegistryError::Digest { what: "manifest", origin: self.origin(), expected, found: digest });
        }
        let media_type = media_type(reference, &digest, &bytes, kind.as_deref())?;
        let descriptor = manifest::descriptor(&media_type, &digest, bytes.len() as u64);
        Ok(Document { descriptor, digest, bytes })
    }
}

/// What a document says it is, else what the answer's header says. One that could be read as either an image or an index
/// is refused (CVE-2021-41190).
fn media_type(
    origin: &Reference,
    digest: &Digest,
    bytes: &[u8],
    header: Option<&str>,
) -> Result<String, RegistryError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|cause| RegistryError::Manifest {
        origin: origin.to_string(),
        digest: digest.clone(),
        cause,
    })?;
    let (image, index) = (value.get("layers").is_some(), value.get("manifests").is_some());
    let wrong =
        |media_type: &str| RegistryError::MediaType { origin: origin.to_string(), media_type: media_type.to_string() };
    if image && index {
        return Err(wrong("both an image and an index"));
    }
    let header = header.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_string());
    let own = value.get("mediaType").and_then(Value::as_str).map(String::from);
    let media_type = own.or(header).unwrap_or_default();
    match (manifest::is_index(&media_type), manifest::is_manifest(&media_type)) {
        (true, _) if image => Err(wrong(&media_type)),
        (_, true) if index => Err(wrong(&media_type)),
        (false, false) if index => Ok(OCI_INDEX.into()),
        (false, false) if image && value.get("config").is_some() => Ok(OCI_MANIFEST.into()),
        _ => Ok(media_type),
    }
}

pub(super) fn accept() -> HeaderValue {
    let all = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");
    HeaderValue::from_str(&all).expect("media types are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let entry = |platform: &&str| {
            let mut parts = platform.split('/');
            let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
            let variant = parts.next().map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
            let digest = Digest::sha256(platform);
            format!(
                r#"{{"mediaType":"{OCI_MANIFEST}","size":1,"digest":"{digest}",
                    "platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#
            )
        };
        let entries = platforms.iter().map(entry).collect::<Vec<_>>().join(",");
        serde_json::from_str(&format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#)).unwrap()
    }

    #[test]
    fn chooses_by_platform_and_variant() {
        let index = index(&["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown"]);
        let reference: Reference = "r.io/a".parse().unwrap();
        for (wanted, expected) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/s390x", None),
        ] {
            let chosen = choose(&reference, &index, &wanted.parse().unwrap());
            match (chosen, expected) {
                (Ok(chosen), Some(name)) => {
                    assert_eq!(manifest::digest_of(&chosen).unwrap(), Digest::sha256(name), "{wanted}");
                }
                (Err(error), None) => {
                    let text = error.to_string();
                    assert!(text.contains("linux/arm64/v8") && !text.contains("unknown"), "{text}");
                }
                (other, _) => panic!("{wanted}: {other:?}"),
            }
        }
    }

    #[test]
    fn types_of_documents() {
        let reference: Reference = "r.io/a".parse().unwrap();
        let image = r#"{"config":{},"layers":[]}"#;
        for (text, header, expected) in [
            (
                image.to_string(),
                Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
                Some(DOCKER_MANIFEST),
            ),
            (image.to_string(), Some("application/json"), Some(OCI_MANIFEST)),
            (image.to_string(), None, Some(OCI_MANIFEST)),
            (format!(r#"{{"mediaType":"{DOCKER_MANIFEST}","layers":[]}}"#), Some(OCI_MANIFEST), Some(DOCKER_MANIFEST)),
            (r#"{"manifests":[]}"#.into(), None, Some(OCI_INDEX)),
            (r#"{"manifests":[],"layers":[]}"#.into(), Some(OCI_INDEX), None),
            (r#"{"manifests":[]}"#.into(), Some(OCI_MANIFEST), None),
            (image.to_string(), Some(OCI_INDEX), None),
            ("<html>".into(), Some(OCI_MANIFEST), None),
        ] {
            let found = media_type(&reference, &Digest::sha256(&text), text.as_bytes(), header).ok();
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
