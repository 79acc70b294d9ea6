//! Where the store is. The answer depends on the environment and on what can be written, so that the next command of the
//! same job finds the image again: `$DOCKLESS_HOME`, else `$XDG_DATA_HOME/dockless`, else `~/.local/share/dockless`, else
//! `$TMPDIR/dockless-UID`. A home that is unset, `/` or cannot be written (pods, hardened containers) is passed over.

use super::environment::Environment;
use rustix::fs::{Access, AtFlags, CWD};
use std::path::{Path, PathBuf};

/// The state directory, absolute; it need not exist yet.
pub fn directory(environment: &Environment) -> PathBuf {
    if let Some(chosen) = environment.get("DOCKLESS_HOME") {
        return environment.absolute(chosen);
    }
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").map(|path| path.join("dockless"));
    let home = absolute("HOME").filter(|path| path != Path::new("/")).map(|path| path.join(".local/share/dockless"));
    let temporary = absolute("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    [data, home]
        .into_iter()
        .flatten()
        .find(|path| can_be_made(path))
        .unwrap_or_else(|| temporary.join(format!("dockless-{}", environment.uid())))
}

/// Whether the nearest ancestor that exists (or `path` itself) is a directory that we may write.
fn can_be_made(path: &Path) -> bool {
    let Some(nearest) = path.ancestors().find(|ancestor| ancestor.exists()) else { return false };
    let access = Access::WRITE_OK | Access::EXEC_OK;
    nearest.is_dir() && rustix::fs::accessat(CWD, nearest, access, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_can_be_written() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name).to_str().unwrap().to_string();
        std::fs::write(at("file"), "").unwrap();
        let (good, file) = (at("good"), at("file"));
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("DOCKLESS_HOME", "/x/y"), ("HOME", &good)], "/x/y"),
            (&[("DOCKLESS_HOME", "rel")], "/cwd/rel"),
            (&[("DOCKLESS_HOME", ""), ("HOME", &good)], &at("good/.local/share/dockless")),
            (&[("XDG_DATA_HOME", &good), ("HOME", "/nowhere")], &at("good/dockless")),
            (&[("XDG_DATA_HOME", "relative"), ("HOME", &good)], &at("good/.local/share/dockless")),
            (&[("XDG_DATA_HOME", &file), ("HOME", &good)], &at("good/.local/share/dockless")),
            (&[("HOME", "/")], "/tmp/dockless-1000"),
            (&[("HOME", "/proc/self")], "/tmp/dockless-1000"),
            (&[("HOME", &file), ("TMPDIR", &good)], &at("good/dockless-1000")),
            (&[], "/tmp/dockless-1000"),
        ];
        for (vars, expected) in cases {
            assert_eq!(directory(&Environment::of(vars, Path::new("/cwd"))), Path::new(expected), "{vars:?}");
        }
    }
}
