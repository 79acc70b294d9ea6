//! `dockless images`: what the local store holds under a name.

use super::environment::Environment;
use super::foreign::{Foreign, OfImages};
use super::{Outcome, format, usage};
use crate::images::{self, Listed};
use crate::oci::Reference;
use crate::oci::manifest::digest_of;
use crate::store::{Image, Store};
use crate::ui;
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::time::SystemTime;

/// List the images of the local store
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct ImagesArgs {
    /// Accepted: images without a name are not listed
    #[arg(short, long, hide = true)]
    all: bool,
    /// Print the digests, too
    #[arg(long)]
    digests: bool,
    /// Only what fits: reference=PATTERN, label=NAME[=VALUE], before=IMAGE, since=IMAGE, dangling=false
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// How lines are printed: a Go template, 'json' or 'table …'
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Print only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Print the whole IDs
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    foreign: Foreign<OfImages>,
    /// Only this repository, or this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// One `--filter`.
enum Filter {
    Reference(String),
    Label(String, Option<String>),
    /// Made before, or since, this time.
    Before(String),
    Since(String),
    /// Images without a name: there are none here.
    Dangling,
}

impl ImagesArgs {
    /// What to print about the store at `state`, and a warning for each image that cannot be read. A store that is not
    /// there yet is empty, and is not made.
    pub fn text(&self, state: &Path, _: &Environment) -> Outcome<(String, Vec<String>)> {
        let mut warnings = self.foreign.judge().map_err(usage)?;
        let store = state.exists().then(|| Store::open(state)).transpose()?;
        let listed = store.as_ref().map(images::list).transpose()?.unwrap_or_default();
        let filters = self.filter.iter().map(|text| filter(text, &listed)).collect::<Outcome<Vec<_>>>()?;
        let dangling = filters.iter().any(|filter| matches!(filter, Filter::Dangling));
        let (mut rows, mut ids) = (Vec::new(), Vec::<String>::new());
        for Listed { reference, image, target } in listed.into_iter().filter(|_| !dangling) {
            let image = match image {
                Ok(image) => image,
                Err(error) => {
                    warnings.push(format!("{}: {error}", reference.familiar()));
                    continue;
                }
            };
            let wanted = self.repository.as_ref().is_none_or(|pattern| named(&reference, pattern));
            if !wanted || !filters.iter().all(|filter| filter.fits(&reference, &image)) {
                continue;
            }
            let id = image.id.to_string();
            let id = if self.no_trunc { id } else { image.id.hex().chars().take(12).collect() };
            if !ids.contains(&id) {
                ids.push(id.clone());
            }
            let digest = digest_of(&target).map_or_else(|_| "<none>".to_string(), |digest| digest.to_string());
            rows.push(row(&reference, &image, id, digest));
        }
        if self.quiet {
            return Ok((ids.iter().map(|id| format!("{id}\n")).collect(), warnings));
        }
        let heads = json!({
            "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedSince": "CREATED",
            "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "SharedSize": "SHARED SIZE",
            "UniqueSize": "UNIQUE SIZE", "VirtualSize": "SIZE",
        });
        let digest = if self.digests { r"\t{{.Digest}}" } else { "" };
        let plain = format!(
            r"table {{{{.Repository}}}}\t{{{{.Tag}}}}{digest}\t{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
        );
        Ok((format::list(self.format.as_deref(), &plain, &heads, &rows)?, warnings))
    }
}

fn row(reference: &Reference, image: &Image, id: String, digest: String) -> Value {
    let created = image.config.created.clone().unwrap_or_default();
    let size = ui::bytes_in(image.size(), 3);
    json!({
        "Repository": reference.familiar_repository(), "Tag": reference.tag().unwrap_or("<none>"), "Digest": digest,
        "ID": id, "CreatedSince": ui::since(&created, SystemTime::now()), "CreatedAt": created, "Size": size,
        "VirtualSize": size, "Containers": "N/A", "SharedSize": "N/A", "UniqueSize": "N/A",
    })
}

fn filter(text: &str, listed: &[Listed]) -> Outcome<Filter> {
    let wrong = || usage(format!("--filter {text}: expected reference=, label=, before=, since= or dangling="));
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let made = || {
        let known = listed.iter().find(|one| {
            let id = one.image.as_ref().map(|image| image.id.hex().to_string()).unwrap_or_default();
            value.parse().is_ok_and(|name: Reference| name == one.reference)
                || (value.len() >= 4 && id.starts_with(value))
        });
        let image = known.and_then(|known| known.image.as_ref().ok());
        let created = image.and_then(|image| image.config.created.clone());
        created.ok_or_else(|| usage(format!("--filter {text}: there is no such image")))
    };
    Ok(match key {
        "reference" => Filter::Reference(value.to_string()),
        "label" => match value.split_once('=') {
            Some((name, value)) => Filter::Label(name.to_string(), Some(value.to_string())),
            None => Filter::Label(value.to_string(), None),
        },
        "before" => Filter::Before(made()?),
        "since" => Filter::Since(made()?),
        "dangling" if value == "true" || value == "1" => Filter::Dangling,
        "dangling" => Filter::Reference("*".into()),
        _ => return Err(wrong()),
    })
}

impl Filter {
    fn fits(&self, reference: &Reference, image: &Image) -> bool {
        let created = image.config.created.as_deref().unwrap_or_default();
        match self {
            Filter::Reference(pattern) => named(reference, pattern),
            Filter::Label(name, value) => {
                let labels = image.config.config.labels.as_ref();
                let found = labels.and_then(|labels| labels.get(name));
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
            Filter::Before(time) => created < time.as_str(),
            Filter::Since(time) => created > time.as_str(),
            Filter::Dangling => false,
        }
    }
}

/// Whether a name fits a pattern of Go's `path.Match`, as Docker takes it: with the tag or without, the registry of short
/// names left out; `*` stands for anything but a `/`.
fn named(reference: &Reference, pattern: &str) -> bool {
    let (name, repository) = (reference.familiar(), reference.familiar_repository());
    let whole = reference.to_string();
    pattern == "*" || [name, repository, whole].iter().any(|text| fits(text.as_bytes(), pattern.as_bytes()))
}

fn fits(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=end).any(|taken| fits(&text[taken..], rest))
        }
        (Some((b'?', rest)), Some((byte, text))) if *byte != b'/' => fits(text, rest),
        (Some((one, rest)), Some((other, text))) if one == other => fits(text, rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_pattern() {
        let reference: Reference = "registry.io/team/app:1.2".parse().unwrap();
        for (pattern, expected) in [
            ("registry.io/team/app", true),
            ("registry.io/team/app:1.2", true),
            ("registry.io/*/app", true),
            ("*/*/*:1.*", true),
            ("app", false),
            ("*app", false),
            ("registry.io/team/ap?", true),
        ] {
            assert_eq!(named(&reference, pattern), expected, "{pattern}");
        }
        assert!(named(&"busybox:1".parse().unwrap(), "busybox"));
    }
}
