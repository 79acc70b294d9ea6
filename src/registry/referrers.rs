//! What points at an image (signatures, attestations), which tags a repository has, and removing them.
//!
//! Spec: OCI distribution-spec 1.1, "Listing Referrers", "Pushing manifests with subject" (with the tag schema where a
//! registry knows no referrers), "Listing Tags", "Deleting manifests".

use super::manifest::MANIFEST_LIMIT;
use super::session::Session;
use super::sources::digest_of;
use super::{RegistryClient, RegistryError};
use crate::http::{Method, Request, Response, Url, header};
use crate::oci::manifest::{self, OCI_INDEX};
use crate::oci::{Descriptor, Digest, Index, Manifest, Reference};
use serde::Deserialize;

/// What a registry sends back when it keeps the list of referrers itself.
const SUBJECT: &str = "oci-subject";
/// Pages that are read at most: a registry that always names a next one must not hold us for ever.
const PAGES: usize = 1000;

#[derive(Deserialize)]
struct Tags {
    // Some write null for none.
    tags: Option<Vec<String>>,
}

impl RegistryClient {
    /// The tags of the repository of `reference`, sorted.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let session = self.session(reference, false)?;
        let mut all = Vec::new();
        session.pages(session.url("tags/list")?, reference, |bytes| {
            let page: Tags = serde_json::from_slice(bytes)?;
            all.extend(page.tags.unwrap_or_default());
            Ok(())
        })?;
        // The spec's order; not every registry keeps it.
        all.sort();
        Ok(all)
    }

    /// Descriptors of what names the manifest of `reference` as its subject; by `artifact_type` where one is given.
    pub fn referrers(
        &self,
        reference: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let session = self.session(reference, false)?;
        let digest = match reference.digest() {
            Some(digest) => digest.clone(),
            None => session.manifest(reference)?.digest,
        };
        let mut url = session.url(&format!("referrers/{digest}"))?;
        if let Some(kind) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", kind);
        }
        let mut all = Vec::new();
        let listed = session.pages(url, reference, |bytes| {
            let index: Index = serde_json::from_slice(bytes)?;
            all.extend(index.manifests().iter().cloned());
            Ok(())
        });
        match listed {
            Ok(()) => {}
            // No referrers API here: a tag holds the list.
            Err(error) if matches!(error.status(), Some(404 | 405)) => all = session.tagged(reference, &digest)?,
            Err(error) => return Err(error),
        }
        // A registry need not filter.
        let wanted = |d: &Descriptor| {
            artifact_type.is_none_or(|kind| d.artifact_type().as_ref().is_some_and(|t| t.to_string() == kind))
        };
        all.retain(wanted);
        Ok(all)
    }

    /// Removes the manifest that `reference` names, and with it every tag that stands for it.
    pub fn delete(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        let mut session = self.session(reference, true)?;
        session.scopes = session.scopes.union(&super::scopes::Scopes::delete(reference.repository()));
        let digest = match reference.digest() {
            Some(digest) => digest.clone(),
            None => session.manifest(reference)?.digest,
        };
        let request = Request::new(Method::DELETE, session.url(&format!("manifests/{digest}"))?);
        session.send_retrying(&request, &[]).map_err(|error| session.missing(reference, error))?;
        Ok(digest)
    }

    /// After the manifest `bytes` was put: adds it to its subject's list, where the registry does not do so itself.
    pub(super) fn refer(
        &self,
        session: &Session<'_>,
        reference: &Reference,
        what: &Descriptor,
        bytes: &[u8],
        response: &Response,
    ) -> Result<(), RegistryError> {
        let Ok(image) = serde_json::from_slice::<Manifest>(bytes) else { return Ok(()) };
        let Some(subject) = image.subject() else { return Ok(()) };
        if response.header(SUBJECT).is_some() {
            return Ok(());
        }
        let subject = digest_of(subject, reference)?;
        let digest = digest_of(what, reference)?;
        let mut entry = manifest::descriptor(what.media_type().as_ref(), &digest, bytes.len() as u64);
        entry.set_artifact_type(image.artifact_type().clone().or_else(|| Some(image.config().media_type().clone())));
        entry.set_annotations(image.annotations().clone());
        let mut list = session.tagged(reference, &subject)?;
        if list.iter().any(|known| known.digest() == entry.digest()) {
            return Ok(());
        }
        list.push(entry);
        let mut index = Index::default();
        index.set_media_type(Some(OCI_INDEX.into()));
        index.set_manifests(list);
        let unreadable = |cause| RegistryError::Manifest { origin: session.origin(), digest: subject.clone(), cause };
        let bytes = crate::oci::json::to_canonical(&index).map_err(unreadable)?;
        session.put_manifest(&tag_of(&subject), OCI_INDEX, &bytes).map(drop)
    }
}

/// The tag that holds the list of what refers to `digest`.
fn tag_of(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

impl Session<'_> {
    /// The list kept under a tag; empty where there is none.
    fn tagged(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        match self.manifest(&reference.with_tag(&tag_of(digest))) {
            Ok(document) => {
                let index: Index = serde_json::from_slice(&document.bytes).map_err(|cause| {
                    RegistryError::Manifest { origin: reference.to_string(), digest: document.digest, cause }
                })?;
                Ok(index.manifests().clone())
            }
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Reads all pages of a list: each names the next one in `Link` (RFC 8288).
    fn pages(
        &self,
        first: Url,
        reference: &Reference,
        mut take: impl FnMut(&[u8]) -> Result<(), serde_json::Error>,
    ) -> Result<(), RegistryError> {
        let mut next = Some(first);
        for _ in 0..PAGES {
            let Some(url) = next.take() else { return Ok(()) };
            let mut request = Request::new(Method::GET, url.clone());
            request.headers.insert(header::ACCEPT, super::manifest::accept());
            let read = || {
                let response = self.send(&request, &[])?;
                let link = response.header("link").and_then(next_page).map(String::from);
                Ok::<_, RegistryError>((link, response.into_bytes(MANIFEST_LIMIT)?))
            };
            let (link, bytes) =
                self.client.http.settings().retry.run(read).map_err(|error| self.missing(reference, error))?;
            take(&bytes).map_err(|cause| RegistryError::Manifest {
                origin: reference.to_string(),
                digest: Digest::sha256(&bytes),
                cause,
            })?;
            next = link.map(|link| crate::http::follow(&url, &link)).transpose()?;
            // A list goes on in the registry that it is of, which alone is told who we are.
            next = next.filter(|next| next.origin() == url.origin());
        }
        let what = "a list has no end";
        Err(RegistryError::Protocol { registry: self.registry.name.clone(), what })
    }

    /// A 404 as what was not found.
    fn missing(&self, reference: &Reference, error: RegistryError) -> RegistryError {
        match error {
            RegistryError::Http(answer) if answer.status().is_some_and(|status| status.as_u16() == 404) => {
                RegistryError::NotFound { reference: Box::new(reference.clone()), answer }
            }
            other => other,
        }
    }
}

/// The target of `rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (target, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn links() {
        assert_eq!(next_page(r#"</v2/a/tags/list?last=x&n=2>; rel="next""#), Some("/v2/a/tags/list?last=x&n=2"));
        assert_eq!(next_page(r#"</a>; rel="prev", </b>; rel=next"#), Some("/b"));
        assert_eq!(next_page(r#"</a>; rel="prev""#), None);
    }
}
