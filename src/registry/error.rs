//! What can go wrong with a registry.

use super::KeychainError;
use crate::http::{Fault, HttpError};
use crate::oci::digest::DigestError;
use crate::oci::{Digest, Platform, Reference};
use crate::store::StoreError;
use std::io;

/// A registry that says no.
#[derive(Debug)]
pub struct Denial {
    /// What was asked for: a reference or a repository.
    pub target: String,
    /// Which credential was shown, or that none was found and where it was looked for.
    pub credential: String,
    /// The registry's answer.
    pub answer: HttpError,
}

/// An operation on a registry that failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not have it.
    #[error("{reference} not found in registry {}", .reference.registry())]
    NotFound {
        /// What was asked for.
        reference: Box<Reference>,
        /// The registry's answer.
        #[source]
        answer: HttpError,
    },
    /// 401 or 403.
    #[error("access to {} denied, {}", .0.target, .0.credential)]
    Denied(#[source] Box<Denial>),
    /// The registry cannot be reached at all.
    #[error("registry {registry} cannot be reached")]
    Unreachable {
        /// Its name.
        registry: String,
        /// Why.
        #[source]
        cause: HttpError,
    },
    /// A request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Credentials could not be read.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// A name that no URL can hold.
    #[error("'{0}' is not the name of a registry")]
    Name(String),
    /// A registry that the configuration forbids.
    #[error("{0} is blocked by registries.conf")]
    Blocked(String),
    /// The bytes that came are not the ones asked for.
    #[error("{what} from {origin}: expected {expected}, what came has {found}; nothing of it was stored")]
    Digest {
        /// What was asked for.
        what: &'static str,
        /// The repository.
        origin: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("blob {digest} from {origin}: expected {expected} bytes, {found} came; nothing of it was stored")]
    Size {
        /// The repository.
        origin: String,
        /// The blob.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A manifest that is no JSON, or not what its media type says.
    #[error("{origin}: the manifest {digest} cannot be read")]
    Manifest {
        /// The reference.
        origin: String,
        /// Its digest.
        digest: Digest,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// A manifest whose type is not that of an image.
    #[error("{origin} is of type '{media_type}', which is not an image that dockless can read")]
    MediaType {
        /// The reference.
        origin: String,
        /// Its media type.
        media_type: String,
    },
    /// An index or an image without the wanted platform.
    #[error("{origin} has no image for {wanted} (it has: {available})")]
    Platform {
        /// The reference.
        origin: String,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// Those there are.
        available: String,
    },
    /// An index of which too little is at hand.
    #[error("{reference} is an index whose images for {missing} are neither here nor in that registry")]
    Incomplete {
        /// Where it should go.
        reference: String,
        /// What is missing.
        missing: String,
    },
    /// A digest in a manifest that cannot be read.
    #[error("a descriptor in {origin} cannot be used")]
    Descriptor {
        /// The reference.
        origin: String,
        /// Why.
        #[source]
        cause: DigestError,
    },
    /// An answer that breaks the protocol.
    #[error("registry {registry} broke the protocol: {what}")]
    Protocol {
        /// Its name.
        registry: String,
        /// How.
        what: &'static str,
    },
    /// The content store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was fetched could not be written.
    #[error("cannot write what was fetched")]
    Write(#[source] io::Error),
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.answer.fmt(f)
    }
}

impl std::error::Error for Denial {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.answer.source()
    }
}

impl RegistryError {
    /// The failed request underneath, if it was one.
    pub fn as_http(&self) -> Option<&HttpError> {
        match self {
            RegistryError::NotFound { answer, .. } => Some(answer),
            RegistryError::Denied(denial) => Some(&denial.answer),
            RegistryError::Unreachable { cause, .. } => Some(cause),
            RegistryError::Http(error) => Some(error),
            _ => None,
        }
    }

    /// The status of the answer, if there was one.
    pub(super) fn status(&self) -> Option<u16> {
        self.as_http().and_then(HttpError::status).map(|status| status.as_u16())
    }

    /// Whether a push was refused because the tag stands for something already and may not be changed, in the words of ECR and
    /// of Harbor.
    pub fn is_immutable(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if error.to_string().to_lowercase().contains("immutable") {
                return true;
            }
            next = error.source();
        }
        false
    }

    /// What a person can do about it, where there is a usual cause.
    pub fn hint(&self) -> Option<&'static str> {
        let error = self.as_http()?;
        match (self, error.fault()) {
            (_, Some(Fault::Certificate)) => Some(
                "if the registry has a private certificate authority, name its file with --registry-ca or put it into \
                 /etc/docker/certs.d/HOST:PORT/ca.crt",
            ),
            (_, Some(Fault::NotTls)) => {
                Some("if the registry speaks plain http on purpose, name it with --insecure-registry HOST:PORT")
            }
            (_, Some(Fault::UnknownHost)) => {
                Some("is the name right? A name that only some machines know can be given with --add-host NAME:IP")
            }
            _ if error.has_code("NAME_UNKNOWN") => Some(
                "this registry does not make repositories by itself: create it first (ECR: aws ecr create-repository \
                 --repository-name NAME)",
            ),
            (RegistryError::Denied(denial), _) if denial.credential.contains("CI_JOB_TOKEN") => Some(
                "CI_JOB_TOKEN may push to its own project only, or nowhere, as the project's settings say; \
                 CI_REGISTRY_USER with CI_REGISTRY_PASSWORD may push",
            ),
            (RegistryError::Denied(denial), _) if denial.credential.contains("GITHUB_TOKEN") => Some(
                "GITHUB_TOKEN pushes packages of its own repository, where the workflow has 'permissions: packages: write'",
            ),
            (_, None) if self.status() == Some(429) => {
                Some("the registry limits pulls: log in, or name a mirror with --registry-mirror")
            }
            _ => None,
        }
    }
}
