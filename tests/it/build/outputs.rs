//! Where the result goes: outputs, ID files, the local store.

use super::place::{Caller, Place, tool};
use crate::support::registry::Registry;
use serde_json::Value;
use std::fs;

const DOCKERFILE: &str = "FROM scratch\nCOPY f /dir/f\nCMD [\"x\"]\n";

#[test]
fn writes_every_kind_of_output() {
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", DOCKERFILE).file("f", "content\n");
    let id = place.dockless("build -q -t app:1 context").succeeded().text().trim().to_string();
    let out = |name: &str| place.path("out").join(name);
    let at = |name: &str| out(name).display().to_string();
    let words = format!(
        "build -t app:1 -o type=oci,dest={} -o type=docker,dest={} -o type=tar,dest={} -o type=local,dest={} \
         --iidfile {} --metadata-file {} context",
        at("oci.tar"),
        at("docker.tar"),
        at("tree.tar"),
        at("tree"),
        at("iid"),
        at("meta.json")
    );
    assert_eq!(place.dockless(&words).succeeded().text(), "");
    assert_eq!(fs::read_to_string(out("iid")).unwrap(), id);
    assert_eq!(fs::read_to_string(out("tree/dir/f")).unwrap(), "content\n");
    assert!(tool("tar", ["-tf", &at("tree.tar")]).lines().any(|line| line == "dir/f"));
    // skopeo reads both archives, and they are the image.
    for archive in [format!("oci-archive:{}", at("oci.tar")), format!("docker-archive:{}", at("docker.tar"))] {
        let config: Value = serde_json::from_str(&tool("skopeo", ["inspect", "--config", &archive])).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "x", "{archive}");
        let layout = format!("oci:{}:latest", at("copied"));
        tool("skopeo", ["copy", "--quiet", "--insecure-policy", &archive, &layout]);
    }
    let raw = tool("skopeo", ["inspect", "--config", "--raw", &format!("oci-archive:{}", at("oci.tar"))]);
    assert_eq!(dockless::oci::Digest::sha256(&raw).to_string(), id);
    let metadata: Value = serde_json::from_slice(&fs::read(out("meta.json")).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id.as_str());
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");

    // The same through standard output.
    for (kind, file) in [("oci", "oci.tar"), ("docker", "docker.tar"), ("tar", "tree.tar")] {
        let ran = place.dockless(&format!("build -t app:1 -o type={kind},dest=- context")).succeeded();
        assert!(ran.stdout == fs::read(out(file)).unwrap(), "{kind} differs on standard output");
    }
    // A failure leaves no output.
    let words = format!("build -o type=oci,dest={} --iidfile {} context", at("no/such/dir.tar"), at("iid2"));
    place.dockless(&words).failed(1, &["no/such"]);
    assert!(!out("iid2").exists());
}

#[test]
fn keeps_images_under_their_names() {
    let place = Place::new(Caller::Own);
    place.file("Dockerfile", DOCKERFILE).file("f", "content\n");
    assert_eq!(place.dockless("images").succeeded().text().lines().count(), 1);
    place.dockless("build -t app:1 -t registry.example.com/team/app context").succeeded();
    let images = place.dockless("images").succeeded();
    let rows: Vec<Vec<&str>> = images.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[1][0], rows[1][1]), ("app", "1"));
    assert_eq!((rows[2][0], rows[2][1]), ("registry.example.com/team/app", "latest"));
    // Other tools read the store itself.
    let store = format!("oci:{}:docker.io/library/app:1", place.state().display());
    assert_eq!(serde_json::from_str::<Value>(&tool("skopeo", ["inspect", &store])).unwrap()["Os"], "linux");
    place.dockless("run app:1").failed(127, &["\"x\""]);
}

#[test]
fn pushes_with_dockers_types() {
    let place = Place::new(Caller::Own);
    let registry = Registry::start();
    place.file("Dockerfile", DOCKERFILE).file("f", "content\n");
    let name = format!("{}/app:1", registry.host());
    let digest = place.dockless(&format!("build --format docker -t {name} --push context")).succeeded();
    let manifest = registry.manifest("app:1");
    assert_eq!(digest.text(), format!("{}\n", dockless::oci::Digest::sha256(&manifest)));
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    // A base by digest, and a FROM of what the local store built.
    place.file("Dockerfile", format!("FROM {}/app@{}\nCOPY f /g\n", registry.host(), digest.text().trim()));
    place.dockless("build -t second context").succeeded();
    place.file("Dockerfile", "FROM second\nCOPY f /h\n");
    place.dockless("build -t third context").succeeded();
}
