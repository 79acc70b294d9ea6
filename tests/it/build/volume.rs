//! A state directory whose file system cannot carry overlays, as in a container's own root: the job's volume does.

use crate::support::registry::Registry;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs the binary in `cwd`, in a mount namespace where `dir` holds `root`, an overlay, and `volume`, a mount point.
fn dockless(dir: &Path, cwd: &str, arguments: &[&str]) -> String {
    let script = r#"set -e; cd "$0"
        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay root
        mount --bind volume volume
        cd "$1"; shift; exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(dir).arg(cwd).arg(env!("CARGO_BIN_EXE_dockless")).args(arguments);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("DOCKLESS_HOME", dir.join("root/state"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn trees_are_made_on_the_jobs_volume() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    // Where overlays can be had, which a tmpfs for /tmp may be too old for.
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let dir = dir.path();
    for name in ["lower", "upper", "work", "root", "volume/group/project"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let steps =
        "COPY . /context\nRUN rm -r /etc; mkdir /etc; echo x > /etc/y; test -z \"$(ls -A /context | grep dockless)\"";
    let more = "RUN --mount=from=other,target=/o,rw echo more > /o/etc/more; echo done > /done";
    let text = format!("FROM {base} AS other\nRUN echo other > /other\nFROM {base}\n{steps}\n{more}\n");
    fs::write(dir.join("volume/group/project/Dockerfile"), text).unwrap();

    let trees = dir.join("volume/.dockless-trees-0");
    let layers = |of: &Path| fs::read_dir(of.join("layers")).map_or(0, Iterator::count);
    let project = "volume/group/project";
    assert!(dockless(dir, project, &["info"]).contains(&format!("overlay, in {}", trees.display())));
    assert!(dockless(dir, project, &["doctor"]).contains(&format!("overlay in {}: works", trees.display())));
    let build = [
        "build",
        "-q",
        "--no-cache",
        "--isolation=namespaces",
        "--build-arg",
        "SOURCE_DATE_EPOCH=1",
        "--rewrite-timestamp",
        ".",
    ];
    let on_volume = dockless(dir, project, &build);
    assert!(layers(&trees) >= 3, "{}", layers(&trees));
    assert_eq!(layers(&dir.join("upper/state")), 0);
    // Nothing but finished layers is left there.
    let left = fs::read_dir(trees.join("tmp")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(left.count(), 0);

    // They are cache as what is in the state directory is.
    let listed = dockless(dir, project, &["cache", "ls", "-q", "--type=layer"]);
    assert_eq!(listed.lines().count(), layers(&trees), "{listed}");
    dockless(dir, project, &["cache", "prune", "--all", "--type=layer"]);
    assert_eq!(layers(&trees), 0);

    // In the volume itself one would work among the trees: each stage copies its base then, and the image is the same.
    assert!(dockless(dir, "volume", &["info"]).contains("copy, because an overlay does not work"));
    let moved = [&build[..build.len() - 1], &["group/project"]].concat();
    assert_eq!(dockless(dir, "volume", &moved), on_volume);
    assert!(layers(&dir.join("upper/state")) >= 3);
}
