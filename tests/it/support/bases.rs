//! Base images: made once by `scripts/make-bases`, kept in `$DOCKLESS_TEST_BASES`, else under `target/`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

/// The OCI layout (tag `latest`) of the base `name`: `busybox` or `debian`. Made at the first call on a machine, which
/// takes a second or a minute; the tests of several processes wait for one another.
pub fn layout(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let dir = std::env::var_os("DOCKLESS_TEST_BASES").map_or_else(|| root.join("target/bases"), PathBuf::from);
    if dir.join(name).is_dir() {
        return dir.join(name);
    }
    fs::create_dir_all(&dir).expect("the directory of the bases is writable");
    let lock = File::create(dir.join(".lock")).expect("the directory of the bases is writable");
    lock.lock().expect("files can be locked");
    if !dir.join(name).is_dir() {
        let output = Command::new(root.join("scripts/make-bases")).arg(&dir).arg(name).output();
        let output = output.expect("scripts/make-bases can be started");
        assert!(output.status.success(), "make-bases {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    dir.join(name)
}
