//! Flags that the command lines of other tools are translated to; hidden, because people have no use for them.

use super::{Outcome, usage};
use crate::cli::environment::Environment;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct ToolArgs {
    /// Exit with the code of the RUN step that failed
    #[arg(long, hide = true)]
    run_exit_code: bool,
    /// Write the image's digest to a file
    #[arg(long, value_name = "FILE", hide = true)]
    digest_file: Option<PathBuf>,
    /// Write REPOSITORY@DIGEST of each name to a file
    #[arg(long, value_name = "FILE", hide = true)]
    name_digest_file: Option<PathBuf>,
    /// Write REPOSITORY:TAG@DIGEST of each name to a file
    #[arg(long, value_name = "FILE", hide = true)]
    name_tag_digest_file: Option<PathBuf>,
    /// Write the names and digests to the file `images` of this directory, as JSON lines
    #[arg(long, value_name = "DIR", hide = true)]
    images_file_in: Option<PathBuf>,
    /// A name whose tag the registry does not let be changed is pushed already
    #[arg(long, hide = true)]
    ignore_immutable_tags: bool,
    /// The part of the context that is meant
    #[arg(long, value_name = "DIR", hide = true)]
    pub(super) context_subdir: Option<String>,
}

/// What is done for other tools beside building.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolOptions {
    /// The exit code is that of the RUN step that failed.
    pub run_exit_code: bool,
    /// A tag that cannot be changed is no failure.
    pub ignore_immutable_tags: bool,
    /// The registries of the names may speak plain http or show any certificate.
    pub insecure: bool,
    /// Files that hold the digest.
    pub digest_files: Vec<DigestFile>,
}

/// A file with the image's digest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestFile {
    /// Where.
    pub path: PathBuf,
    /// How.
    pub form: DigestForm,
}

/// What stands in a [`DigestFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestForm {
    /// The digest alone.
    Digest,
    /// A line `REPOSITORY@DIGEST` for each name.
    Name,
    /// A line `REPOSITORY:TAG@DIGEST` for each name.
    NameAndTag,
    /// A line `{"name": …, "digest": …}` for each name.
    Json,
}

impl ToolArgs {
    pub(super) fn options(&self, insecure: bool, environment: &Environment) -> ToolOptions {
        let images = self.images_file_in.as_ref().map(|dir| dir.join("images"));
        let files = [
            (&self.digest_file, DigestForm::Digest),
            (&self.name_digest_file, DigestForm::Name),
            (&self.name_tag_digest_file, DigestForm::NameAndTag),
            (&images, DigestForm::Json),
        ];
        let file = |(path, form): (&Option<PathBuf>, DigestForm)| {
            path.as_ref().map(|path| DigestFile { path: environment.absolute(path), form })
        };
        ToolOptions {
            run_exit_code: self.run_exit_code,
            ignore_immutable_tags: self.ignore_immutable_tags,
            insecure,
            digest_files: files.into_iter().filter_map(file).collect(),
        }
    }

    /// The part of the context, which lies in it.
    pub(super) fn subdir(&self) -> Outcome<Option<String>> {
        let inside = |dir: &String| dir.split('/').all(|part| part != "..");
        match &self.context_subdir {
            Some(dir) if !inside(dir) => Err(usage(format!("the part '{dir}' of the context leads out of it"))),
            other => Ok(other.clone().filter(|dir| !dir.is_empty())),
        }
    }
}
