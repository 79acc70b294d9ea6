//! Proofs before the work: that a registry takes a login, that a push may be made.

use super::session::Session;
use super::{Lookup, RegistryClient, RegistryError};
use crate::http::{Method, Request};
use crate::oci::Reference;
use std::collections::BTreeSet;
use std::sync::Mutex;

impl RegistryClient {
    /// Proves that `registry` takes the credential that is found for it; says which one that is.
    pub fn verify_login(&self, registry: &str) -> Result<Lookup, RegistryError> {
        let session = self.session_for(registry, "", super::scopes::Scopes::default())?;
        let url = session.registry.base().join("v2/").map_err(|_| RegistryError::Name(registry.to_string()))?;
        session.send_retrying(&Request::new(Method::GET, url), &[404])?;
        session.lookup()
    }

    /// Proves, for all of `destinations` at the same time, that a push would be let in: an upload is begun and given up.
    /// The first that would not comes back with the reason.
    pub fn preflight(&self, destinations: &[Reference]) -> Result<(), (Box<Reference>, RegistryError)> {
        let mut seen = BTreeSet::new();
        let places: Vec<&Reference> =
            destinations.iter().filter(|to| seen.insert((to.registry(), to.repository()))).collect();
        let failed = Mutex::new(None);
        let try_one = |to: &Reference| {
            if let Err(error) = self.session(to, true).and_then(|session| session.try_push()) {
                let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                failed.get_or_insert((Box::new(to.clone()), error));
            }
        };
        std::thread::scope(|scope| {
            let Some((first, others)) = places.split_first() else { return };
            for to in others {
                scope.spawn(|| try_one(to));
            }
            try_one(first);
        });
        failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Session<'_> {
    fn try_push(&self) -> Result<(), RegistryError> {
        let request = Request::new(Method::POST, self.url("blobs/uploads/")?);
        let response = self.send_retrying(&request, &[])?;
        // It ends by itself after a while where it cannot be given up.
        if let Ok(Some(place)) = response.location()
            && let Err(error) = self.send(&Request::new(Method::DELETE, place), &[])
        {
            tracing::debug!(%error, "an upload that was only tried is left to the registry");
        }
        Ok(())
    }
}
