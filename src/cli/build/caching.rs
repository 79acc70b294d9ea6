//! Caches beside the local store: `--cache-from` and `--cache-to` as buildx has them, `--cache`, `--cache-repo` and
//! `--cache-ttl` as kaniko has them.

use crate::build::cache::options::{SIZE, TTL};
use crate::build::{CacheSource, CacheTarget, Caching};
use crate::cli::environment::Environment;
use crate::cli::output::fields;
use crate::cli::{Outcome, usage};
use crate::oci::Reference;
use clap::Args;

/// Where `--cache=auto` keeps the cache of a GitLab project.
const PROJECT: &str = "CI_REGISTRY_IMAGE";

/// Flags about caches.
#[derive(Args, Debug)]
pub struct CachingArgs {
    /// Take steps from an image that dockless built or from a cache: REF, type=registry,ref=REF or type=local,src=DIR
    #[arg(long, value_name = "SPEC")]
    cache_from: Vec<String>,
    /// Keep a cache: type=registry,ref=REF or type=local,dest=DIR, with mode=min|max, ttl=TIME and size=BYTES;
    /// type=inline is always done
    #[arg(long, value_name = "SPEC")]
    cache_to: Vec<String>,
    /// Keep a cache in the registry and take steps from it: true, false or auto
    /// [auto: $CI_REGISTRY_IMAGE/cache]
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cache: Option<String>,
    /// Where --cache keeps it, a directory as oci:DIR [default: the first name's repository, with /cache]
    #[arg(long, value_name = "REPO")]
    cache_repo: Option<String>,
    /// Drop records of caches that were of no use for as long [default: 336h]
    #[arg(long, value_name = "TIME")]
    cache_ttl: Option<String>,
}

impl CachingArgs {
    /// The caches that a build asks and fills, and warnings; `tags` are the image's names.
    pub fn caching(&self, tags: &[Reference], environment: &Environment) -> Outcome<(Caching, Vec<String>)> {
        let ttl = self.cache_ttl.as_deref().map_or(Ok(TTL), |text| time("--cache-ttl", text))?;
        let (mut caching, mut warnings) = (Caching::default(), Vec::new());
        for text in &self.cache_from {
            caching.from.push(source(text, environment)?);
        }
        for text in &self.cache_to {
            caching.to.extend(target(text, ttl, environment)?);
        }
        if let Some(place) = self.implied(tags, environment, &mut warnings)? {
            caching.implied.push(place.clone());
            if !caching.from.contains(&place) {
                caching.from.push(place.clone());
            }
            if caching.to.iter().all(|target| target.place != place) {
                caching.to.push(CacheTarget { place, all_stages: true, ttl, size: SIZE });
            }
        }
        Ok((caching, warnings))
    }

    /// Where `--cache` keeps it.
    fn implied(
        &self,
        tags: &[Reference],
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Outcome<Option<CacheSource>> {
        let wanted = self.cache.as_deref().unwrap_or("false");
        if !matches!(wanted, "true" | "auto" | "false") {
            return Err(usage(format!("--cache={wanted}: expected true, false or auto")));
        }
        if wanted == "false" {
            return Ok(None);
        }
        if let Some(repository) = &self.cache_repo {
            return Ok(Some(match repository.strip_prefix("oci:") {
                Some(dir) => CacheSource::Directory(environment.absolute(dir)),
                None => CacheSource::Registry(reference("--cache-repo", repository)?),
            }));
        }
        let project = environment.text(PROJECT).filter(|text| !text.is_empty());
        let repository = match (wanted, project, tags.first()) {
            ("auto", Some(project), _) => format!("{project}/cache"),
            ("auto", None, _) => {
                warnings.push(format!("--cache=auto: ${PROJECT} is not set: only the local store is asked and filled"));
                return Ok(None);
            }
            (_, _, Some(first)) => format!("{}/{}/cache", first.registry(), first.repository()),
            _ => return Err(usage("--cache needs a place: --cache-repo REGISTRY/REPOSITORY, or a name with -t")),
        };
        Ok(Some(CacheSource::Registry(reference("--cache", &repository)?)))
    }
}

fn reference(flag: &str, text: &str) -> Outcome<Reference> {
    text.parse().map_err(|error| usage(format!("{flag} {text}: {error}")))
}

fn time(flag: &str, text: &str) -> Outcome<u64> {
    let wrong = |_| usage(format!("{flag}={text}: expected a time such as 336h or 14d"));
    humantime::parse_duration(text).map(|time| time.as_secs()).map_err(wrong)
}

fn bytes(text: &str) -> Outcome<u64> {
    super::size(&format!("--cache-to size={text}"), text)
}

/// The pairs of a SPEC, names in lower case.
fn pairs(flag: &str, text: &str) -> Outcome<Vec<(String, String)>> {
    let parts = fields(text).map_err(|_| usage(format!("{flag} '{text}' has a quote that does not end")))?;
    let pair = |part: &String| match part.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_ascii_lowercase(), value.to_string())),
        None => Err(usage(format!("{flag} '{text}': '{part}' is not of the form key=value"))),
    };
    parts.iter().map(pair).collect()
}

/// What is said of a type that is not there.
fn unknown_type(flag: &str, kind: &str) -> Box<crate::ui::Diagnostic> {
    let what = match kind {
        "gha" => {
            "the cache of GitHub Actions, whose service is not spoken to: keep a directory with type=local and actions/cache"
        }
        "s3" | "azblob" => "a cache in a cloud's storage: keep it in the registry with type=registry",
        _ => "no kind of cache",
    };
    usage(format!("{flag} type={kind} is not supported: it is {what}"))
}

fn source(text: &str, environment: &Environment) -> Outcome<CacheSource> {
    let flag = "--cache-from";
    if !text.contains('=') {
        return Ok(CacheSource::Registry(reference(flag, text)?));
    }
    let (mut kind, mut place, mut dir) = (None, None, None);
    for (name, value) in pairs(flag, text)? {
        match name.as_str() {
            "type" => kind = Some(value),
            "ref" => place = Some(value),
            "src" => dir = Some(value),
            // Which of several caches in a directory: there is one.
            "tag" | "digest" => {}
            _ if matches!(kind.as_deref(), Some("gha" | "s3" | "azblob")) => {}
            _ => return Err(usage(format!("{flag} '{text}': unexpected key '{name}': expected type, ref or src"))),
        }
    }
    match (kind.as_deref(), place, dir) {
        (None | Some("registry"), Some(place), None) => Ok(CacheSource::Registry(reference(flag, &place)?)),
        (Some("local"), None, Some(dir)) => Ok(CacheSource::Directory(environment.absolute(dir))),
        (Some("registry"), ..) => Err(usage(format!("{flag} '{text}': type=registry needs ref=REF"))),
        (Some("local"), ..) => Err(usage(format!("{flag} '{text}': type=local needs src=DIR"))),
        (Some(kind), ..) => Err(unknown_type(flag, kind)),
        (None, ..) => Err(usage(format!("{flag} '{text}' has no type: expected type=registry or type=local"))),
    }
}

/// A target; `None` for records in the image itself, which are always there.
fn target(text: &str, ttl: u64, environment: &Environment) -> Outcome<Option<CacheTarget>> {
    let flag = "--cache-to";
    if !text.contains('=') {
        let (place, all_stages) = (CacheSource::Registry(reference(flag, text)?), false);
        return Ok(Some(CacheTarget { place, all_stages, ttl, size: SIZE }));
    }
    let (mut kind, mut place, mut dir, mut all_stages, mut ttl, mut size) = (None, None, None, false, ttl, SIZE);
    for (name, value) in pairs(flag, text)? {
        match (name.as_str(), value.as_str()) {
            ("type", _) => kind = Some(value),
            ("ref", _) => place = Some(value),
            ("dest", _) => dir = Some(value),
            ("mode", "min" | "max") => all_stages = value == "max",
            ("ttl", _) => ttl = time("--cache-to ttl", &value)?,
            ("size", _) => size = bytes(&value)?,
            // The form of what is written is dockless's own, and a cache never fails a build.
            ("image-manifest" | "oci-mediatypes" | "ignore-error" | "tag", _) => {}
            ("compression", "gzip") | ("force-compression", "false") => {}
            _ if matches!(kind.as_deref(), Some("gha" | "s3" | "azblob")) => {}
            _ => {
                return Err(usage(format!(
                    "{flag} '{text}': '{name}={value}' is not supported: expected type, ref, dest, mode=min|max, ttl or size"
                )));
            }
        }
    }
    let place = match (kind.as_deref(), place, dir) {
        (Some("inline"), ..) => return Ok(None),
        (None | Some("registry"), Some(place), None) => CacheSource::Registry(reference(flag, &place)?),
        (Some("local"), None, Some(dir)) => CacheSource::Directory(environment.absolute(dir)),
        (Some("registry"), ..) => return Err(usage(format!("{flag} '{text}': type=registry needs ref=REF"))),
        (Some("local"), ..) => return Err(usage(format!("{flag} '{text}': type=local needs dest=DIR"))),
        (Some(kind), ..) => return Err(unknown_type(flag, kind)),
        (None, ..) => {
            return Err(usage(format!(
                "{flag} '{text}' has no type: expected type=registry, type=local or type=inline"
            )));
        }
    };
    match &place {
        CacheSource::Registry(reference) if reference.digest().is_some() => {
            Err(usage(format!("{flag} '{text}': a digest comes from the content, it cannot be chosen")))
        }
        _ => Ok(Some(CacheTarget { place, all_stages, ttl, size })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn args(from: &[&str], to: &[&str], cache: Option<&str>, repo: Option<&str>) -> CachingArgs {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        CachingArgs {
            cache_from: texts(from),
            cache_to: texts(to),
            cache: cache.map(String::from),
            cache_repo: repo.map(String::from),
            cache_ttl: Some("1h".into()),
        }
    }

    fn registry(text: &str) -> CacheSource {
        CacheSource::Registry(text.parse().unwrap())
    }

    fn environment() -> Environment {
        Environment::of(&[(PROJECT, "r.example/group/app")], Path::new("/cwd"))
    }

    #[test]
    fn what_buildx_and_kaniko_take() {
        let (environment, tags) = (environment(), ["r.io/a/b:1".parse().unwrap()]);
        let from = ["r.io/a:1", "type=registry,ref=r.io/c", "type=local,src=dir"];
        let to = ["type=inline", "type=registry,ref=r.io/c,mode=max,ttl=2h,size=1g", "type=local,dest=/out"];
        let (caching, _) = args(&from, &to, None, None).caching(&tags, &environment).unwrap();
        let dir = |path: &str| CacheSource::Directory(PathBuf::from(path));
        assert_eq!(caching.from, [registry("r.io/a:1"), registry("r.io/c:latest"), dir("/cwd/dir")]);
        let expected = [
            CacheTarget { place: registry("r.io/c:latest"), all_stages: true, ttl: 7200, size: 1 << 30 },
            CacheTarget { place: dir("/out"), all_stages: false, ttl: 3600, size: SIZE },
        ];
        assert_eq!(caching.to, expected);
        let table = [
            (Some("auto"), None, Some(registry("r.example/group/app/cache"))),
            (Some("true"), None, Some(registry("r.io/a/b/cache"))),
            (Some("true"), Some("r.io/kaniko"), Some(registry("r.io/kaniko"))),
            (Some("true"), Some("oci:store"), Some(dir("/cwd/store"))),
            (Some("false"), Some("r.io/kaniko"), None),
            (None, None, None),
        ];
        for (cache, repo, expected) in table {
            let (caching, warnings) = args(&[], &[], cache, repo).caching(&tags, &environment).unwrap();
            assert_eq!(caching.from.first(), expected.as_ref(), "{cache:?} {repo:?}");
            assert_eq!(caching.to.first().map(|to| (&to.place, to.ttl)), expected.as_ref().map(|place| (place, 3600)));
            assert_eq!(warnings, [""; 0]);
        }
        let nowhere = Environment::of(&[], Path::new("/cwd"));
        let (caching, warnings) = args(&[], &[], Some("auto"), None).caching(&tags, &nowhere).unwrap();
        assert_eq!((caching, warnings.len()), (Caching::default(), 1));
    }

    #[test]
    fn what_is_refused_by_name() {
        let table = [
            (args(&["type=gha,scope=x"], &[], None, None), "--cache-from type=gha is not supported"),
            (args(&[], &["type=gha,mode=max,url=x"], None, None), "--cache-to type=gha is not supported"),
            (args(&[], &["type=s3,bucket=x"], None, None), "--cache-to type=s3 is not supported"),
            (args(&["type=boat"], &[], None, None), "no kind of cache"),
            (args(&["type=registry"], &[], None, None), "needs ref=REF"),
            (args(&[], &["type=local,src=x"], None, None), "'src=x' is not supported"),
            (args(&[], &["type=registry,ref=a,mode=mid"], None, None), "'mode=mid' is not supported"),
            (args(&[], &["type=registry,ref=a,compression=zstd"], None, None), "'compression=zstd' is not supported"),
            (args(&[], &[], Some("maybe"), None), "--cache=maybe: expected"),
            (args(&[], &[], Some("true"), None), "--cache needs a place"),
        ];
        for (args, expected) in table {
            let error = args.caching(&[], &environment()).unwrap_err().message;
            assert!(error.contains(expected), "{error}");
        }
    }
}
