//! Builds in this process: a store, base images in it, and nobody to ask over the network.

use crate::build::place::is_root;
use crate::support::bases;
use dockless::build::{
    self, BuildError, BuildOptions, Built, ContextSource, DockerfileSource, ExportEpoch, Lookup, Services, StepOptions,
};
use dockless::git::Ssh;
use dockless::http::{Http, Settings};
use dockless::oci::manifest::{self, ImageFormat, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use dockless::oci::{Descriptor, Digest, Platform, Reference};
use dockless::progress::{Event, Outcome, Progress, StepId};
use dockless::registry::{Keychain, RegistryClient};
use dockless::rootfs::SnapshotterKind;
use dockless::sandbox::{Sandbox, Tier};
use dockless::store::{Image, Store};
use rustix::fs::XattrFlags;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// What a build told.
#[derive(Default)]
pub struct Log(Mutex<Vec<Event>>);

impl Progress for Log {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Log {
    /// The steps that were carried out, and those that were found, by what they are called.
    pub fn steps(&self) -> (Vec<String>, Vec<String>) {
        let (mut names, mut done, mut cached) = (BTreeMap::<StepId, String>::new(), Vec::new(), Vec::new());
        let is_step = |name: &str| !name.contains("FROM") && name != "exporting to image";
        for event in &*self.0.lock().unwrap() {
            match event {
                Event::Started { id, name, .. } => drop(names.insert(*id, name.clone())),
                Event::Finished { id, outcome, .. } => match (outcome, names.get(id)) {
                    (Outcome::Cached(_), Some(name)) if is_step(name) => cached.push(name.clone()),
                    (Outcome::Done, Some(name)) if is_step(name) => done.push(name.clone()),
                    _ => {}
                },
                _ => {}
            }
        }
        (done, cached)
    }

    /// All warnings.
    pub fn warnings(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let warning = |event: &Event| match event {
            Event::Warning { text } => Some(text.clone()),
            _ => None,
        };
        events.iter().filter_map(warning).collect()
    }

    /// Everything, for a failure.
    pub fn text(&self) -> String {
        format!("{:?}", self.0.lock().unwrap())
    }
}

/// Who builds.
pub struct Workshop {
    registry: RegistryClient,
    runs: bool,
}

impl Workshop {
    /// RUN steps are carried out in namespaces of this process's own, which only root can make.
    pub fn new(what: &str) -> Workshop {
        let http = Http::new(Settings::default());
        let registry = RegistryClient::new(Arc::new(http), Keychain::anonymous(), Default::default());
        Workshop { registry, runs: is_root(&format!("RUN steps of {what}")) }
    }

    /// Whether RUN steps can be carried out.
    pub fn runs(&self) -> bool {
        self.runs
    }

    /// Builds.
    pub fn build(&self, store: &Store, options: &BuildOptions, log: &Log) -> Result<Built, BuildError> {
        let lookup = Lookup { ssh: &options.ssh, store, registry: &self.registry, progress: log };
        let inputs = build::open(options, || Ok(lookup))?;
        // A failure stops one for good.
        let sandbox = self.runs.then(|| Sandbox::new(env!("CARGO_BIN_EXE_dockless"), Tier::Namespaces).unwrap());
        let services = Services {
            ssh: &options.ssh,
            store: store.clone(),
            registry: &self.registry,
            sandbox: sandbox.as_ref(),
            snapshots: SnapshotterKind::Overlay,
            trees: None,
            progress: log,
            threads: 1,
            watch: None,
            destinations: &[],
        };
        build::build(options, &inputs, &services)
    }
}

/// A build of the context `dir` with the Dockerfile in it.
pub fn options(dir: &Path) -> BuildOptions {
    BuildOptions {
        context: ContextSource::Directory(dir.to_path_buf()),
        context_subdir: None,
        dockerfile: DockerfileSource::File { path: dir.join("Dockerfile"), name: "Dockerfile".into() },
        tags: Vec::new(),
        target: None,
        build_args: Vec::new(),
        labels: Vec::new(),
        platforms: Vec::new(),
        build_contexts: Vec::new(),
        no_cache: false,
        no_cache_stages: Vec::new(),
        pull: false,
        network: None,
        add_hosts: Vec::new(),
        ssh: Ssh::default(),
        steps: StepOptions::default(),
        annotations: Vec::new(),
        format: ImageFormat::Oci,
        source_date_epoch: None,
        rewrite_timestamp: false,
        export_epoch: ExportEpoch::AsBuilt,
        caching: build::Caching::default(),
    }
}

/// The documents of the busybox base.
pub struct Busybox {
    blobs: Vec<Vec<u8>>,
    manifest: Value,
}

impl Busybox {
    /// Reads them once.
    pub fn read() -> Busybox {
        let layout = bases::layout("busybox");
        let read = |path: &Path| fs::read(path).unwrap();
        let blobs =
            fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|blob| read(&blob.unwrap().path())).collect();
        let index: Value = serde_json::from_slice(&read(&layout.join("index.json"))).unwrap();
        Busybox { blobs, manifest: index["manifests"][0].clone() }
    }

    /// Puts the image into `store`, with one more layer of `files` on top (path and content; a content that starts with
    /// `->` is a symbolic link's target, `/` at the end of a path is a directory), and gives its descriptor.
    pub fn put(&self, store: &Store, files: &[(&str, &str)]) -> Descriptor {
        self.blobs.iter().for_each(|blob| drop(store.put_blob(blob).unwrap()));
        let base: Descriptor = serde_json::from_value(self.manifest.clone()).unwrap();
        if files.is_empty() {
            return base;
        }
        let image = Image::load(store, &base, &Platform::host()).unwrap();
        let tar = tar_of(files);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut config = serde_json::to_value(&image.config).unwrap();
        config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(Digest::sha256(&tar)));
        config["history"] = json!([]);
        let (config, layer) = (serde_json::to_vec(&config).unwrap(), store.put_blob(&gzip).unwrap());
        let describe = |kind: &str, digest: &Digest, size: usize| manifest::descriptor(kind, digest, size as u64);
        let mut layers: Vec<Value> = image
            .layers
            .iter()
            .map(|one| json!(manifest::descriptor(&one.media_type, &one.digest, one.size)))
            .collect();
        layers.push(json!(describe(OCI_LAYER_GZIP, &layer, gzip.len())));
        let document = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
            "config": describe(OCI_CONFIG, &store.put_blob(&config).unwrap(), config.len()),
        });
        let bytes = serde_json::to_vec(&document).unwrap();
        describe(OCI_MANIFEST, &store.put_blob(&bytes).unwrap(), bytes.len())
    }
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(1_500_000_000);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        let content = match content.strip_prefix("->") {
            _ if path.ends_with('/') => {
                header.set_entry_type(tar::EntryType::Directory);
                ""
            }
            Some(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(target).unwrap();
                ""
            }
            None => content,
        };
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The name of a base in a store.
pub fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A directory for stores: in memory where such a file system takes the attributes that overlays need (from Linux 6.6),
/// because a disk waits for every blob.
pub fn place() -> TempDir {
    let in_memory = || {
        let dir = tempfile::tempdir_in("/dev/shm").ok()?;
        let file = dir.path().join("file");
        fs::write(&file, "").ok()?;
        rustix::fs::setxattr(&file, "user.overlay.origin", b"", XattrFlags::empty()).ok()?;
        fs::remove_file(&file).ok()?;
        Some(dir)
    };
    in_memory().unwrap_or_else(|| tempfile::tempdir().unwrap())
}
