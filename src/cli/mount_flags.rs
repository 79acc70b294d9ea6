//! `-v`, `--mount` and `--tmpfs` of `docker run`.

use super::build::shm_size;
use super::environment::Environment;
use super::{Outcome, usage};
use crate::run::{VolumeMount, VolumeSource};
use crate::ui::{Diagnostic, Kind};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `-v [SOURCE:]TARGET[:OPTIONS]`. A source with a slash, or a dot at its beginning, is a path, made as a directory if it is
/// not there; another one is a volume.
pub fn bind(text: &OsString, environment: &Environment) -> Outcome<VolumeMount> {
    let wrong = |why: &str| usage(format!("--volume '{}': {why}", text.to_string_lossy()));
    let parts: Vec<&OsStr> = text.as_bytes().split(|b| *b == b':').map(OsStr::from_bytes).collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, OsStr::new("")),
        // Options are never absolute, targets always are.
        [target, options] if !options.as_bytes().starts_with(b"/") => (None, target, options),
        [source, target] => (Some(source), target, OsStr::new("")),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(wrong("expected [SOURCE:]TARGET[:OPTIONS]")),
    };
    let target = absolute(target).ok_or_else(|| wrong("the path in the container must be absolute"))?;
    let (mut readonly, mut seed) = (false, true);
    for option in options.to_string_lossy().split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "nocopy" => seed = false,
            // About labels, consistency and propagation that there are none of here.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "private" | "rprivate" => {}
            other => return Err(wrong(&format!("the option '{other}' is not supported"))),
        }
    }
    let source = match source {
        None => VolumeSource::Volume { name: String::new(), seed, anonymous: true },
        Some(source) if source.is_empty() => return Err(wrong("the source is empty")),
        Some(source) if source.as_bytes().contains(&b'/') || source.as_bytes().starts_with(b".") => {
            VolumeSource::Path(directory(environment.absolute(source))?)
        }
        Some(name) => VolumeSource::Volume { name: name.to_string_lossy().into_owned(), seed, anonymous: false },
    };
    Ok(VolumeMount { source, target, readonly })
}

/// `path`, made as a directory if it is not there.
fn directory(path: PathBuf) -> Outcome<PathBuf> {
    if !path.exists() {
        fs_err::create_dir_all(&path).map_err(|error| Diagnostic::from_error(Kind::Environment, &error))?;
    }
    Ok(path)
}

fn absolute(path: &OsStr) -> Option<PathBuf> {
    let path: PathBuf = Path::new(path).components().collect();
    (path.is_absolute() && path != Path::new("/")).then_some(path)
}

/// `--mount type=bind|volume|tmpfs,source=…,target=…[,readonly]`.
pub fn mount(text: &str, environment: &Environment) -> Outcome<VolumeMount> {
    let wrong = |why: &str| usage(format!("--mount '{text}': {why}"));
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let (mut readonly, mut seed, mut size) = (false, true, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let switch = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(wrong(&format!("'{field}': expected true or false"))),
        };
        match key {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "dst" | "destination" => target = Some(value),
            "readonly" | "ro" => readonly = switch()?,
            "volume-nocopy" => seed = !switch()?,
            "tmpfs-size" => size = Some(shm_size(value)?),
            // About propagation and consistency that there are none of here; files of a tmpfs are everybody's.
            "bind-propagation" if matches!(value, "private" | "rprivate") => {}
            "consistency" => {}
            "tmpfs-mode" if matches!(value, "1777" | "01777") => {}
            other => return Err(wrong(&format!("'{other}' is not supported"))),
        }
    }
    let target = target.ok_or_else(|| wrong("it has no target"))?;
    let target = absolute(OsStr::new(target)).ok_or_else(|| wrong("the target must be an absolute path"))?;
    let source = match (kind, source) {
        ("bind", None) => return Err(wrong("it has no source")),
        ("bind", Some(source)) => {
            let path = environment.absolute(source);
            if !path.exists() {
                return Err(wrong(&format!("bind source path does not exist: {}", path.display())));
            }
            VolumeSource::Path(path)
        }
        ("volume", None | Some("")) => VolumeSource::Volume { name: String::new(), seed, anonymous: true },
        ("volume", Some(name)) => VolumeSource::Volume { name: name.to_string(), seed, anonymous: false },
        ("tmpfs", None) => VolumeSource::Tmpfs(size),
        ("tmpfs", Some(_)) => return Err(wrong("a tmpfs has no source")),
        (other, _) => {
            return Err(wrong(&format!("the type '{other}' is not supported: expected bind, volume or tmpfs")));
        }
    };
    Ok(VolumeMount { source, target, readonly })
}

/// `--tmpfs TARGET[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Outcome<VolumeMount> {
    let wrong = |why: &str| usage(format!("--tmpfs '{text}': {why}"));
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = absolute(OsStr::new(target)).ok_or_else(|| wrong("the path must be absolute"))?;
    let (mut readonly, mut size) = (false, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("ro", "") => readonly = true,
            ("size", text) => size = Some(shm_size(text)?),
            // What it is anyway.
            ("rw" | "exec" | "nosuid" | "suid" | "dev" | "nodev" | "noexec" | "relatime" | "noatime", "") => {}
            ("mode", "1777" | "01777") => {}
            _ => return Err(wrong(&format!("the option '{option}' is not supported"))),
        }
    }
    Ok(VolumeMount { source: VolumeSource::Tmpfs(size), target, readonly })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(dir: &Path) -> Environment {
        Environment::of(&[], dir)
    }

    #[test]
    fn reads_what_docker_reads() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| VolumeSource::Path(dir.path().join(name));
        let volume = |name: &str, seed| VolumeSource::Volume { name: name.into(), seed, anonymous: name.is_empty() };
        for (text, source, target, readonly) in [
            ("./made:/x", at("made"), "/x", false),
            (&*format!("{}/a:/y/:ro,z", dir.path().display()), at("a"), "/y", true),
            ("data:/d", volume("data", true), "/d", false),
            ("data:/d:nocopy", volume("data", false), "/d", false),
            ("/only", volume("", true), "/only", false),
            ("/only:ro", volume("", true), "/only", true),
        ] {
            let got = bind(&text.into(), &here(dir.path())).unwrap();
            assert_eq!(got, VolumeMount { source, target: target.into(), readonly }, "{text}");
        }
        assert!(dir.path().join("made").is_dir());
        for text in ["a:b", "a:/b:rslave", ":/b", "a:/b:ro:x", "x:/"] {
            assert!(bind(&text.into(), &here(dir.path())).is_err(), "{text}");
        }
        let got = mount("type=bind,src=made,dst=/m,readonly", &here(dir.path())).unwrap();
        assert_eq!(got, VolumeMount { source: at("made"), target: "/m".into(), readonly: true });
        let got = mount("type=tmpfs,target=/t,tmpfs-size=1m", &here(dir.path())).unwrap();
        assert_eq!(got.source, VolumeSource::Tmpfs(Some(1 << 20)));
        for text in ["type=bind,src=none,dst=/m", "type=npipe,dst=/m", "type=bind,dst=/m", "src=a", "dst=/a,x=y"] {
            assert!(mount(text, &here(dir.path())).is_err(), "{text}");
        }
        assert_eq!(tmpfs("/t:size=64k,noexec").unwrap().source, VolumeSource::Tmpfs(Some(64 << 10)));
        assert!(tmpfs("/t:uid=5").is_err());
    }
}
