//! Finds out which time stands for now, where `SOURCE_DATE_EPOCH` only says where that is to be had.

use super::Lookup;
use super::error::BuildError;
use super::inputs::{self, Inputs};
use super::options::BuildOptions;
use super::planning::plan_options;
use super::remote::{self, FileTree, RemoteError};
use crate::dockerfile::{Dockerfile, git_ref};
use crate::plan::{AddOptions, CopySource, SourceDateEpoch, source_date_epoch};
use crate::store::StoreError;
use std::sync::Mutex;

/// The time in seconds since 1970: the build argument or the Dockerfile's own, else the environment's.
pub(super) fn find<'s>(
    options: &BuildOptions,
    file: &Dockerfile,
    inputs: &Inputs,
    lookup: impl FnOnce() -> Result<Lookup<'s>, StoreError>,
) -> Result<Option<i64>, BuildError> {
    if options.source_date_epoch.is_some() {
        return Ok(options.source_date_epoch);
    }
    // The time does not depend on the platform, but for what an ARG may make of it.
    let plan_options = plan_options(options, options.platforms.first(), None);
    Ok(match source_date_epoch(file, &plan_options)? {
        None => None,
        Some(SourceDateEpoch::Seconds(seconds)) => Some(seconds),
        Some(SourceDateEpoch::Context) => inputs.times.get(inputs::MAIN).copied(),
        Some(SourceDateEpoch::NamedContext(name)) => inputs.times.get(&name).copied(),
        Some(SourceDateEpoch::Source(source, add)) => {
            let time = time_of(&source, &add, &lookup()?);
            time.map_err(|source| BuildError::Epoch { source: Box::new(source) })?
        }
    })
}

/// When a download was made: what its server says, else the newest file of the archive that it is; of a repository, when
/// the commit was made.
fn time_of(source: &CopySource, add: &AddOptions, lookup: &Lookup<'_>) -> Result<Option<i64>, RemoteError> {
    match source {
        CopySource::Path(_) => Ok(None),
        CopySource::Url(url) => {
            let temp = lookup.store.temp_dir()?;
            let path = temp.path().join("download");
            let found = remote::download(lookup.registry.http(), url, add.checksum.as_deref(), &path)?;
            let (name, size) = ("download".to_string(), found.size);
            let file = FileTree { path, name, size, mtime: 0, digest: None, fetch: Mutex::default(), keep: Some(temp) };
            remote::time_of(&found, &file)
        }
        CopySource::Git(url) => {
            let parsed = git_ref::parse(url).map_err(|reason| RemoteError::GitUrl { url: url.clone(), reason })?;
            let (_, time) = remote::checkout(lookup, &parsed, add.keep_git_dir, add.checksum.as_deref())?;
            Ok(Some(time))
        }
    }
}
