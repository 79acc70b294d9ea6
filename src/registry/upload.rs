//! Blobs on their way out: is it there, can it be mounted, else upload it.
//!
//! Spec: OCI distribution-spec, "Pushing blobs" and "Mounting a blob from another repository". A blob lies in the store, so
//! it goes out as POST and one PUT with its length. Never in chunks: registries disagree on them too much. Where a PUT is
//! refused, one streamed PATCH is tried (JFrog's wants it). An upload that broke off starts again at POST: registries
//! differ on whether one can resume, and what was sent can be read again.

use super::blob::short;
use super::scopes::Scopes;
use super::session::Session;
use super::supply::Supply;
use super::transfer::Transfer;
use super::{RegistryClient, RegistryError};
use crate::http::{Body, HeaderValue, HttpError, Method, Request, Response, Url, header};
use crate::oci::{Digest, Reference};
use crate::progress::{Outcome, Progress};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};

/// How the bytes go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One PUT.
    Put,
    /// One PATCH without a length, closed by an empty PUT.
    Patch,
}

impl RegistryClient {
    /// Sees to it that the repository of `session` has the blob `digest` of `size` bytes; `asked` is what came of a mount
    /// that was tried already.
    pub(super) fn push_blob(
        &self,
        session: &Session<'_>,
        supply: &dyn Supply,
        (digest, size): (&Digest, u64),
        asked: Option<Mount>,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        if session.knows_blob(digest) {
            return Ok(());
        }
        let transfer = self.transfer(progress, format!("push {}", short(digest)), size);
        let upload = Upload { session, supply, digest, size, transfer: &transfer };
        let outcome = upload.bring(asked)?;
        session.note_blob(digest);
        transfer.finish(outcome);
        Ok(())
    }

    /// Asks for each of `blobs` from a repository of the same registry that has it, up to `most` at once and from one
    /// thread: in the usual case that is all there is to do. After a refusal no more of them are asked for.
    pub(super) fn mount_blobs(
        &self,
        session: &Session<'_>,
        supply: &dyn Supply,
        blobs: &[Digest],
        most: usize,
    ) -> Result<HashMap<Digest, Mount>, RegistryError> {
        let (mut begun, mut answers) = (VecDeque::new(), HashMap::new());
        let mut rest = blobs.iter().filter(|digest| !session.knows_blob(digest));
        let mut going_well = true;
        loop {
            while going_well
                && begun.len() < most
                && let Some(digest) = rest.next()
            {
                let origins = supply.origins(digest)?;
                if !session.is_among(&origins)
                    && let Some(mounting) = session.mounting(digest, &origins)?
                {
                    let answer = session.begin(mounting.request, mounting.scopes);
                    begun.push_back((digest, mounting.from, answer));
                }
            }
            let Some((digest, from, answer)) = begun.pop_front() else { return Ok(answers) };
            let mount = mounted(answer.and_then(|begun| session.end(begun, &[])), from)?;
            going_well &= matches!(mount, Mount::Done(_));
            answers.insert(digest.clone(), mount);
        }
    }
}

/// What came of asking for a blob from another repository.
#[derive(Clone)]
pub(super) enum Mount {
    /// The blob is there now, from this repository.
    Done(String),
    /// The registry began an upload instead.
    UploadAt(Url),
    No,
}

struct Upload<'a> {
    session: &'a Session<'a>,
    supply: &'a dyn Supply,
    digest: &'a Digest,
    size: u64,
    transfer: &'a Transfer<'a>,
}

impl Upload<'_> {
    /// It is there, it is mounted, or it travels.
    fn bring(&self, asked: Option<Mount>) -> Result<Outcome, RegistryError> {
        let origins = self.supply.origins(self.digest)?;
        // Each order gives the same result; the better one takes a round trip less.
        let asked = match asked {
            None if !self.session.is_among(&origins) => self.mount(&origins)?,
            asked => asked,
        };
        if !matches!(asked, Some(Mount::Done(_))) && self.exists()? {
            return Ok(Outcome::Cached("already there".into()));
        }
        let mount = match asked {
            None => self.mount(&origins)?,
            asked => asked,
        };
        let place = match mount {
            Some(Mount::Done(from)) => return Ok(Outcome::Cached(format!("mounted from {from}"))),
            Some(Mount::UploadAt(place)) => Some(place),
            Some(Mount::No) | None => None,
        };
        let _slot = self.session.client.slots.take();
        // A layer that nobody has read yet is still at its source.
        self.supply.prepare(self.digest)?;
        self.run(place)?;
        Ok(Outcome::Done)
    }

    fn exists(&self) -> Result<bool, RegistryError> {
        let request = Request::new(Method::HEAD, self.session.url(&format!("blobs/{}", self.digest))?);
        Ok(self.session.head(request, None)?.is_some())
    }

    /// Asks for the blob from another repository of this registry, if one has it.
    fn mount(&self, origins: &[Reference]) -> Result<Option<Mount>, RegistryError> {
        let Some(mounting) = self.session.mounting(self.digest, origins)? else { return Ok(None) };
        let answer = self.session.send_scoped(&mounting.request, &[], &mounting.scopes);
        mounted(answer, mounting.from).map(Some)
    }

    fn run(&self, mut place: Option<Url>) -> Result<(), RegistryError> {
        let policy = self.session.client.http.settings().retry.clone();
        let mut backoff = policy.start();
        let (mut way, mut fell_back, mut restarted) = (Way::Put, false, false);
        loop {
            self.transfer.restart();
            let error = match self.once(place.take(), way, restarted || fell_back) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passing = match &error {
                RegistryError::Http(error) => passing(error),
                _ => Passing::No,
            };
            match passing {
                // The answer may have been lost on its way: the blob can be there all the same.
                Passing::Yes(retry_after) if backoff.again_after(retry_after) => {
                    if self.exists()? {
                        return Ok(());
                    }
                }
                // The upload is gone: start at POST.
                Passing::Gone if backoff.again_after(None) => {}
                Passing::Damaged if !restarted => restarted = true,
                Passing::Refused if !fell_back => (way, fell_back) = (Way::Patch, true),
                _ => return Err(error),
            }
        }
    }

    /// Sends it once. The registry verifies what it gets. Only where that was refused the sender does, too (`verified`): it
    /// tells whether the bytes lie so in the store.
    fn once(&self, place: Option<Url>, way: Way, verified: bool) -> Result<(), RegistryError> {
        let place = place.map_or_else(|| self.session.start_upload(), Ok)?;
        let open = || -> io::Result<Box<dyn Read + '_>> {
            self.transfer.restart();
            let blob = self.supply.open(self.digest, self.size, verified)?;
            Ok(Box::new(self.transfer.counting(blob)))
        };
        let place = match way {
            Way::Put => {
                let body = Body::Stream { length: Some(self.size), open: &open };
                return self.session.send_part(Method::PUT, closing(place, self.digest), body).map(drop);
            }
            Way::Patch => {
                let body = Body::Stream { length: None, open: &open };
                let response = self.session.send_part(Method::PATCH, place.clone(), body)?;
                response.location()?.unwrap_or(place)
            }
        };
        self.session.send_part(Method::PUT, closing(place, self.digest), Body::Bytes(bytes::Bytes::new())).map(drop)
    }
}

/// A mount that is to be asked for.
struct Mounting {
    from: String,
    request: Request<'static>,
    scopes: Scopes,
}

/// What an answer to a mount says. Whatever went wrong, an upload still can do.
fn mounted(answer: Result<Response, RegistryError>, from: String) -> Result<Mount, RegistryError> {
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%error, from, "not mounted");
            return Ok(Mount::No);
        }
    };
    Ok(match (response.status().as_u16(), response.location()?) {
        (201, _) => Mount::Done(from),
        (_, Some(place)) => Mount::UploadAt(place),
        _ => Mount::No,
    })
}

impl Session<'_> {
    /// Whether this repository is one of `origins`.
    pub(super) fn is_among(&self, origins: &[Reference]) -> bool {
        origins.iter().any(|o| o.registry() == self.registry.name && o.repository() == self.repository)
    }

    /// The mount of `digest` from the first of `origins` that is another repository of this registry.
    fn mounting(&self, digest: &Digest, origins: &[Reference]) -> Result<Option<Mounting>, RegistryError> {
        let near = |o: &&Reference| o.registry() == self.registry.name && o.repository() != self.repository;
        let Some(from) = origins.iter().find(near).map(|origin| origin.repository().to_string()) else {
            return Ok(None);
        };
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", &from);
        let scopes = self.scopes.clone().union(&Scopes::pull(&from));
        Ok(Some(Mounting { from, request: Request::new(Method::POST, url), scopes }))
    }

    /// Begins an upload; where it goes on comes back.
    pub(super) fn start_upload(&self) -> Result<Url, RegistryError> {
        let request = Request::new(Method::POST, self.url("blobs/uploads/")?);
        let response = self.send(&request, &[])?;
        let registry = self.registry.name.clone();
        let what = "it began an upload without saying where";
        response.location()?.ok_or(RegistryError::Protocol { registry, what })
    }

    /// Sends a part of an upload.
    pub(super) fn send_part(&self, method: Method, url: Url, body: Body<'_>) -> Result<Response, RegistryError> {
        let mut request = Request::new(method, url);
        let kind = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(header::CONTENT_TYPE, kind);
        request.body = body;
        self.send(&request, &[])
    }
}

/// The upload's URL with the digest that closes it. The rest of its query is the registry's and is kept as it came.
pub(super) fn closing(mut place: Url, digest: &Digest) -> Url {
    let digest = format!("digest={digest}");
    let query = place.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&{digest}"));
    place.set_query(Some(&query.unwrap_or(digest)));
    place
}

/// What a failed upload calls for.
enum Passing {
    /// Wait, and try again.
    Yes(Option<std::time::Duration>),
    /// The registry no longer knows the upload.
    Gone,
    /// The bytes did not arrive as they were sent.
    Damaged,
    /// The registry may not like this way of uploading.
    Refused,
    /// Nothing helps.
    No,
}

fn passing(error: &HttpError) -> Passing {
    match error.status().map(|status| status.as_u16()) {
        _ if error.is_transient() => Passing::Yes(error.retry_after()),
        // What was handed on from another registry did not come as it should.
        _ if is_damaged(error) => Passing::Damaged,
        // There is no such repository: asking again makes none.
        _ if error.has_code("NAME_UNKNOWN") => Passing::No,
        _ if error.has_code("DIGEST_INVALID") => Passing::Damaged,
        Some(404 | 416) => Passing::Gone,
        Some(400..=499 | 501) => Passing::Refused,
        _ => Passing::No,
    }
}

/// Whether what was to be sent turned out to have another digest.
fn is_damaged(error: &HttpError) -> bool {
    let HttpError::Source { source, .. } = error else { return false };
    let cause = source.get_ref().and_then(|cause| cause.downcast_ref::<RegistryError>());
    matches!(cause, Some(RegistryError::Digest { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_query_is_kept() {
        let digest = Digest::sha256(b"x");
        for (place, expected) in [
            ("http://r/u/1", format!("http://r/u/1?digest={digest}")),
            ("http://r/u/1?_state=a%2Fb%3D", format!("http://r/u/1?_state=a%2Fb%3D&digest={digest}")),
            ("http://r/u/1?", format!("http://r/u/1?digest={digest}")),
        ] {
            assert_eq!(closing(Url::parse(place).unwrap(), &digest).as_str(), expected);
        }
    }
}
