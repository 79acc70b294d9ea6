//! Every request of a pull and of a push, with everything that can go wrong with it.

use super::{Quiet, client, impatient, linux, store, told};
use crate::support::faulty::{Fault, Faulty, Habits, SECRET, Seen};
use dockless::http::{RetryPolicy, Secret, Settings, Timeouts};
use dockless::oci::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST};
use dockless::oci::{Descriptor, Digest, Reference, manifest};
use dockless::registry::{Keychain, RegistryClient, RegistryError};
use dockless::store::Store;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

const TAG: &str = "1";
/// Bytes of the larger layer: more than one read, one packet or one chunk takes.
const LARGE: usize = 300_000;
/// More requests than any operation here may need, whatever goes wrong.
const BOUND: usize = 120;

/// The image's parts.
struct Image {
    layers: Vec<Vec<u8>>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

/// Made once: there are a thousand runs.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(make_image)
}

fn make_image() -> Image {
    let noise = |seed: u32, len: usize| -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
    };
    let layers = vec![noise(1, LARGE), noise(2, 5)];
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
        linux().architecture,
        Digest::sha256("a"),
        Digest::sha256("b")
    );
    let config = config.into_bytes();
    let part = |kind: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, Digest::sha256(bytes), bytes.len())
    };
    let parts: Vec<String> = layers.iter().map(|layer| part(OCI_LAYER_GZIP, layer)).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{},"layers":[{}]}}"#,
        part(OCI_CONFIG, &config),
        parts.join(",")
    );
    let manifest = manifest.into_bytes();
    let platform = format!(r#","platform":{{"os":"linux","architecture":"{}"}}}}"#, linux().architecture);
    let entry = part(OCI_MANIFEST, &manifest).replacen('}', &platform, 1);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}"#);
    Image { layers, config, manifest, index: index.into_bytes() }
}

impl Image {
    fn put_into(&self, registry: &Faulty) {
        for blob in self.layers.iter().chain([&self.config]) {
            registry.put_blob(blob);
        }
        registry.put_manifest(OCI_MANIFEST, &self.manifest, None);
        registry.put_manifest(OCI_INDEX, &self.index, Some(TAG));
    }

    fn put_into_store(&self, store: &Store) -> Descriptor {
        for blob in self.layers.iter().chain([&self.config, &self.manifest]) {
            store.put_blob(blob).unwrap();
        }
        manifest::descriptor(OCI_MANIFEST, &Digest::sha256(&self.manifest), self.manifest.len() as u64)
    }

    /// What is in the store is right; whether all of it is there.
    fn is_in_store(&self, store: &Store) -> bool {
        let parts = self.layers.iter().chain([&self.config, &self.manifest, &self.index]);
        let mut there = true;
        for part in parts {
            let digest = Digest::sha256(part);
            match store.has_blob(&digest).unwrap() {
                Some(_) => assert_eq!(store.read_blob(&digest, 1 << 20).unwrap(), *part),
                None => there = false,
            }
        }
        there
    }

    /// A registry that knows the tag has everything, as it was sent.
    fn is_in(&self, registry: &Faulty) -> bool {
        let Some(found) = registry.manifest(TAG) else { return false };
        assert_eq!(found, self.manifest);
        for blob in self.layers.iter().chain([&self.config]) {
            assert_eq!(registry.blob(&Digest::sha256(blob)).as_ref(), Some(blob));
        }
        true
    }
}

/// One transfer at a time, so that requests come in the same order in every run.
fn orderly(registry: &Faulty, settings: Settings) -> RegistryClient {
    orderly_with(Keychain::anonymous().with(&registry.host(), "me", Secret::new(SECRET), "--creds"), settings)
}

fn orderly_with(keychain: Keychain, settings: Settings) -> RegistryClient {
    let one = dockless::registry::Settings { parallel: 1, early: 100_000, ..Default::default() };
    RegistryClient::new(Arc::new(dockless::http::Http::new(settings)), keychain, one)
}

fn brisk() -> Settings {
    let short = Duration::from_millis(300);
    Settings { timeouts: Timeouts { connect: short, idle: short, commit: short }, ..impatient() }
}

fn reference(registry: &Faulty) -> Reference {
    format!("{}/team/app:{TAG}", registry.host()).parse().unwrap()
}

/// What is done to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Pull,
    Push,
    /// To another registry.
    CopyFrom,
    /// From another registry.
    CopyTo,
    /// To another repository of the same registry.
    CopyWithin,
    /// The same, by somebody without a credential: the first request is no greeting.
    CopyNameless,
    /// A push whose layer is sent while it is written.
    Early,
    Preflight,
    Login,
    Tags,
    Referrers,
    Delete,
}

use Operation::*;

impl Operation {
    fn habits(self) -> Habits {
        Habits { open: self == CopyNameless, ..Habits::default() }
    }
}

fn perform(operation: Operation, registry: &Faulty, store: &Store) -> Result<(), RegistryError> {
    let image = image();
    let client = match operation {
        CopyNameless => orderly_with(Keychain::anonymous(), brisk()),
        _ => orderly(registry, brisk()),
    };
    let here = reference(registry);
    match operation {
        Pull => {
            image.put_into(registry);
            let (resolved, _) = client.pull_image(store, &here, &linux(), &Quiet)?;
            client.ensure_blobs(store, &resolved.origin, resolved.manifest.layers(), &Quiet)?;
            assert!(image.is_in_store(store));
        }
        Push => {
            let what = image.put_into_store(store);
            client.push_image(store, &what, &here, &Quiet)?;
            assert!(image.is_in(registry));
        }
        CopyFrom => {
            image.put_into(registry);
            let other = Faulty::start_with(Habits { open: true, ..Habits::default() }, |_, _| None);
            client.copy_image(&here, &reference(&other), Some(&linux()), &Quiet)?;
            assert!(image.is_in(&other));
        }
        CopyTo => {
            let other = Faulty::start_with(Habits { open: true, ..Habits::default() }, |_, _| None);
            image.put_into(&other);
            client.copy_image(&reference(&other), &here, Some(&linux()), &Quiet)?;
            assert!(image.is_in(registry));
        }
        CopyWithin | CopyNameless => {
            image.put_into(registry);
            let there: Reference = format!("{}/team/other:far", registry.host()).parse().unwrap();
            client.copy_image(&here, &there, Some(&linux()), &Quiet)?;
            assert_eq!(registry.manifest("far").as_ref(), Some(&image.manifest));
        }
        Early => {
            let large = &image.layers[0];
            let digest = client.upload_early(
                &here,
                &Quiet,
                |_| true,
                |watch| {
                    let mut blob = store.blob_writer().unwrap();
                    watch(blob.follow().unwrap());
                    large.chunks(50_000).for_each(|part| blob.write_all(part).unwrap());
                    blob.finish().unwrap().0
                },
            );
            let config = store.put_blob(&image.config).unwrap();
            let document = serde_json::json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST,
                "config": manifest::descriptor(OCI_CONFIG, &config, image.config.len() as u64),
                "layers": [manifest::descriptor(OCI_LAYER_GZIP, &digest, large.len() as u64)],
            });
            let bytes = document.to_string().into_bytes();
            let what = manifest::descriptor(OCI_MANIFEST, &store.put_blob(&bytes).unwrap(), bytes.len() as u64);
            client.push_image(store, &what, &here, &Quiet)?;
            assert_eq!(registry.blob(&digest).as_ref(), Some(large));
        }
        Preflight => client.preflight(&[here]).map_err(|(_, error)| error)?,
        Login => drop(client.verify_login(&registry.host())?),
        Tags => {
            image.put_into(registry);
            assert_eq!(client.tags(&here)?, [TAG]);
        }
        Referrers => {
            image.put_into(registry);
            assert_eq!(client.referrers(&here, None)?, []);
        }
        Delete => {
            image.put_into(registry);
            client.delete(&here)?;
            assert_eq!(registry.manifest(TAG), None);
        }
    }
    Ok(())
}

/// The requests of an operation that nothing disturbs.
fn undisturbed(operation: Operation) -> Vec<Seen> {
    let registry = Faulty::start_with(operation.habits(), |_, _| None);
    run(&registry, operation).unwrap();
    registry.seen()
}

/// Runs the operation and holds what must hold whatever happens.
fn run(registry: &Faulty, operation: Operation) -> Result<(), RegistryError> {
    let (_dir, store) = store();
    let result = perform(operation, registry, &store);
    if let Err(error) = &result {
        image().is_in_store(&store);
        let text = format!("{} {error:?}", told(error));
        assert!(text.contains(&registry.host()) && !text.contains(SECRET), "{text}");
    }
    assert!(registry.seen().len() <= BOUND, "{} requests", registry.seen().len());
    result
}

fn faults() -> Vec<Fault> {
    let statuses = [400, 401, 403, 404, 405, 408, 413, 416, 429, 499, 500, 502, 503, 504];
    let others = [
        Fault::Reset,
        Fault::LostAnswer,
        Fault::ResetInBody,
        Fault::Short,
        Fault::Corrupt,
        Fault::Long,
        Fault::Hang,
        Fault::Garbage,
        Fault::Trickle,
        Fault::Huge,
        Fault::Loop,
        Fault::Redirect("http://169.254.169.254".into()),
        Fault::Code(400, "DIGEST_INVALID"),
        Fault::Code(400, "MANIFEST_BLOB_UNKNOWN"),
    ];
    statuses.into_iter().map(Fault::Status).chain(others).collect()
}

/// Whether `fault`, happening once to `request`, must not be noticed at all.
fn passes(operation: Operation, fault: &Fault, request: &Seen) -> bool {
    let kind = request.kind();
    // Whatever becomes of an early upload, or of giving one up: the operation itself does not need it.
    if operation == Early && kind == "PATCH blobs/uploads/" {
        return true;
    }
    if operation == Preflight && kind == "DELETE blobs/uploads/" {
        return true;
    }
    match fault {
        // Somebody without a credential has nothing to show.
        Fault::Status(401) => !kind.contains("token") && operation != CopyNameless,
        Fault::Status(404 | 416) if operation == Preflight => false,
        Fault::Status(404 | 416) => kind == "PUT blobs/uploads/" || kind == "POST blobs/uploads/",
        Fault::Status(status) => matches!(status, 408 | 429 | 499 | 500 | 502..=504),
        // The second DELETE finds nothing to remove, which is told as it is.
        Fault::LostAnswer | Fault::Garbage => kind != "DELETE manifests",
        Fault::Reset | Fault::Hang | Fault::Trickle => true,
        Fault::ResetInBody => true,
        Fault::Short | Fault::Corrupt => kind == "GET blobs" || kind == "GET manifests",
        Fault::Code(_, "DIGEST_INVALID") => kind == "PUT blobs/uploads/",
        Fault::Code(_, "MANIFEST_BLOB_UNKNOWN") => kind == "PUT manifests",
        _ => false,
    }
}

/// For every request and every fault, once and for ever: it succeeds, or ends with a clear error.
fn disturb(operation: Operation) {
    let mut wrong = Vec::new();
    for (number, request) in undisturbed(operation).into_iter().enumerate() {
        for fault in faults() {
            let (once, kind) = (fault.clone(), request.kind());
            let registry = Faulty::start_with(operation.habits(), move |n, _| (n == number).then(|| once.clone()));
            if let Err(error) = run(&registry, operation)
                && passes(operation, &fault, &request)
            {
                wrong.push(format!("{kind} with {fault:?} once: {}", told(&error)));
            }
            // A hang or a trickle for ever takes five timeouts for each request; once shows the same path.
            if matches!(fault, Fault::Hang | Fault::Trickle) {
                continue;
            }
            let always = fault.clone();
            let registry = Faulty::start_with(operation.habits(), move |n, seen| {
                (n >= number && seen.kind() == kind).then(|| always.clone())
            });
            // What must hold is held in `run`; that it fails is not asked for, since some faults harm no request of a kind.
            let _ = run(&registry, operation);
        }
    }
    assert!(wrong.is_empty(), "{} must pass unnoticed:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_pull_survives_or_fails_clearly() {
    disturb(Pull);
}

#[test]
fn a_push_survives_or_fails_clearly() {
    disturb(Push);
}

#[test]
fn a_copy_survives_or_fails_clearly() {
    disturb(CopyFrom);
    disturb(CopyTo);
}

#[test]
fn a_copy_inside_a_registry_survives_or_fails_clearly() {
    disturb(CopyWithin);
    disturb(CopyNameless);
}

#[test]
fn an_early_upload_survives_or_fails_clearly() {
    disturb(Early);
}

#[test]
fn proofs_and_lists_survive_or_fail_clearly() {
    for operation in [Preflight, Login, Tags, Referrers, Delete] {
        disturb(operation);
    }
}

/// The undisturbed operations take no request that is not needed.
#[test]
fn requests_are_few() {
    let kinds = |operation| undisturbed(operation).iter().map(Seen::kind).collect::<Vec<_>>();
    let pulled = ["GET ping", "GET token", "GET manifests", "GET manifests", "GET blobs", "GET blobs", "GET blobs"];
    assert_eq!(kinds(Pull), pulled);
    let blob = ["HEAD blobs", "POST blobs/uploads/", "PUT blobs/uploads/"];
    let head = ["GET ping", "GET token", "HEAD manifests"];
    let pushed: Vec<_> = head.into_iter().chain(blob).chain(blob).chain(blob).chain(["PUT manifests"]).collect();
    assert_eq!(kinds(Push), pushed);
    assert_eq!(kinds(Preflight), ["GET ping", "GET token", "POST blobs/uploads/", "DELETE blobs/uploads/"]);
    assert_eq!(kinds(Login), ["GET ping", "GET token", "GET ping"]);
    // Without a credential nobody is greeted.
    let copied = ["GET manifests", "GET manifests", "HEAD manifests"];
    let copied = copied.into_iter().chain(["POST blobs/uploads/"; 3]).chain(["PUT manifests"]);
    assert_eq!(kinds(CopyNameless), copied.collect::<Vec<_>>());
    // One pass: the layer goes out as it is written, and is not even looked for afterwards.
    let early = ["GET ping", "GET token", "POST blobs/uploads/", "PATCH blobs/uploads/", "PUT blobs/uploads/"];
    let early: Vec<_> = early.into_iter().chain(["HEAD manifests"]).chain(blob).chain(["PUT manifests"]).collect();
    assert_eq!(kinds(Early), early);
}

#[test]
fn habits_of_registries() {
    for habits in [
        Habits { relative: true, ..Habits::default() },
        Habits { no_monolithic: true, ..Habits::default() },
        Habits { no_monolithic: true, patch_created: true, relative: true, ..Habits::default() },
        Habits { no_head: true, ..Habits::default() },
        Habits { no_ranges: true, ..Habits::default() },
        Habits { token_uses: Some(1), ..Habits::default() },
        Habits { token_uses: Some(3), ..Habits::default() },
        // ECR: a password with every request, a PATCH that says 201 and never moves its range, no mounts.
        Habits { basic: true, patch_created: true, stuck_range: true, no_mount: true, ..Habits::default() },
        // GHCR: an upload cannot be given up. GAR: relative locations.
        Habits { no_delete: true, ..Habits::default() },
        Habits { relative: true, no_delete: true, no_referrers: true, page: Some(1), ..Habits::default() },
    ] {
        for operation in [Pull, Push, CopyFrom, CopyTo, CopyWithin, Early, Preflight, Login, Tags, Referrers, Delete] {
            let registry = Faulty::start_with(habits.clone(), |_, _| None);
            run(&registry, operation).unwrap_or_else(|error| panic!("{habits:?} {operation:?}: {}", told(&error)));
        }
    }
}

/// ECR makes no repositories by itself.
#[test]
fn a_repository_that_must_be_made_first_is_explained() {
    let habits = Habits { basic: true, unknown_repository: true, ..Habits::default() };
    for operation in [Push, Preflight] {
        let registry = Faulty::start_with(habits.clone(), |_, _| None);
        let error = run(&registry, operation).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("create")), "{}", told(&error));
    }
}

/// The name stands for this very image already, or the repository has it under another tag: nothing but a few small
/// requests goes out.
#[test]
fn an_unchanged_push_takes_three_round_trips_and_a_retag_five() {
    let registry = Faulty::start();
    let (_dir, store) = store();
    let what = image().put_into_store(&store);
    orderly(&registry, brisk()).push_image(&store, &what, &reference(&registry), &Quiet).unwrap();
    let kinds = |to: &Reference| {
        let before = registry.seen().len();
        orderly(&registry, brisk()).push_image(&store, &what, to, &Quiet).unwrap();
        registry.seen()[before..].iter().map(Seen::kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&reference(&registry)), ["GET ping", "GET token", "HEAD manifests"]);
    let retag = ["GET ping", "GET token", "HEAD manifests", "HEAD manifests", "PUT manifests"];
    assert_eq!(kinds(&reference(&registry).with_tag("2")), retag);
}

/// Inside a registry no blob moves: one request for each, and none where the repository is the same.
#[test]
fn a_copy_asks_for_no_more_than_it_needs() {
    let registry = Faulty::start();
    image().put_into(&registry);
    let kinds = |to: &str| {
        let before = registry.seen().len();
        let to = format!("{}/{to}", registry.host()).parse().unwrap();
        orderly(&registry, brisk()).copy_image(&reference(&registry), &to, None, &Quiet).unwrap();
        let mut kinds: Vec<_> = registry.seen()[before..].iter().map(Seen::kind).collect();
        kinds.retain(|kind| kind != "GET token");
        kinds.sort();
        kinds
    };
    // An index, and one image in it.
    let copied = [&["GET manifests"; 2][..], &["GET ping", "HEAD manifests"], &["POST blobs/uploads/"; 3]];
    assert_eq!(kinds("team/other:far"), [&copied.concat()[..], &["PUT manifests"; 2]].concat());
    let questions = ["GET manifests", "GET ping", "HEAD manifests"];
    assert_eq!(kinds("team/app:near"), [&questions[..], &["PUT manifests"]].concat());
    assert_eq!(kinds("team/app:near"), questions);
}

/// A signature points at an image; where the registry keeps no list of such, a tag does.
#[test]
fn referrers_are_listed_by_the_registry_or_by_a_tag() {
    for no_referrers in [false, true] {
        let registry = Faulty::start_with(Habits { no_referrers, ..Habits::default() }, |_, _| None);
        image().put_into(&registry);
        let client = orderly(&registry, brisk());
        let (_dir, store) = store();
        let size = image().manifest.len() as u64;
        let subject = manifest::descriptor(OCI_MANIFEST, &Digest::sha256(&image().manifest), size);
        let empty = store.put_blob(b"{}").unwrap();
        for name in ["signature", "sbom"] {
            let document = serde_json::json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": format!("application/{name}"),
                "config": manifest::descriptor("application/vnd.oci.empty.v1+json", &empty, 2),
                "layers": [], "subject": subject,
            });
            let bytes = document.to_string().into_bytes();
            let what = manifest::descriptor(OCI_MANIFEST, &store.put_blob(&bytes).unwrap(), bytes.len() as u64);
            client.push_image(&store, &what, &reference(&registry).with_tag(name), &Quiet).unwrap();
        }
        let here = reference(&registry).at_digest(Digest::sha256(&image().manifest));
        let kinds = |wanted| {
            let found = client.referrers(&here, wanted).unwrap();
            let mut kinds: Vec<_> = found.iter().map(|d| d.artifact_type().clone().unwrap().to_string()).collect();
            kinds.sort();
            kinds
        };
        assert_eq!(kinds(None), ["application/sbom", "application/signature"], "{no_referrers}");
        assert_eq!(kinds(Some("application/sbom")), ["application/sbom"]);
        let by_tag = registry.manifest(&format!("sha256-{}", Digest::sha256(&image().manifest).hex()));
        assert_eq!(by_tag.is_some(), no_referrers);
    }
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    for no_ranges in [false, true] {
        let habits = Habits { no_ranges, ..Habits::default() };
        let breaks = AtomicUsize::new(0);
        let large = Digest::sha256(&image().layers[0]).to_string();
        let registry = Faulty::start_with(habits, move |_, seen| {
            let again = seen.target.ends_with(&large) && breaks.fetch_add(1, Ordering::SeqCst) < 3;
            again.then_some(Fault::ResetInBody)
        });
        run(&registry, Pull).unwrap();
        let ranges: Vec<_> = registry.seen().into_iter().filter_map(|seen| seen.range).collect();
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert!(no_ranges || ranges[0] < ranges[1], "{ranges:?}");
    }
}

#[test]
fn storage_elsewhere_is_told_no_credentials() {
    // Another name for this machine, hence another host.
    let storage = Faulty::start_with(Habits { open: true, ..Habits::default() }, |_, _| None);
    let elsewhere = storage.url().replace("127.0.0.1", "localhost");
    let image = image();
    image.put_into(&storage);

    let habits = Habits { blobs_at: Some(elsewhere.clone()), ..Habits::default() };
    let registry = Faulty::start_with(habits, |_, _| None);
    run(&registry, Pull).unwrap();
    let reads = storage.seen();
    assert_eq!(reads.iter().filter(|seen| seen.kind() == "GET blobs").count(), 3);
    assert!(reads.iter().all(|seen| !seen.authorized), "{reads:?}");

    // Uploads end up in the storage, so the registry then misses the blobs: what counts is who was told what.
    let habits = Habits { upload_at: Some(elsewhere), ..Habits::default() };
    let registry = Faulty::start_with(habits, |_, _| None);
    let (_dir, store) = store();
    let error = perform(Push, &registry, &store).unwrap_err();
    assert!(told(&error).contains("MANIFEST_BLOB_UNKNOWN"), "{}", told(&error));
    let writes = storage.seen().split_off(reads.len());
    assert!(writes.iter().any(|seen| seen.method == "PUT") && writes.iter().all(|seen| !seen.authorized), "{writes:?}");
}

#[test]
fn a_mount_asks_for_both_repositories_and_may_become_an_upload() {
    for no_mount in [false, true] {
        // The registry here keeps the blobs of all repositories together, so HEAD must say that this one has none.
        let nothing = |_, seen: &Seen| (seen.kind() == "HEAD blobs").then_some(Fault::Status(404));
        let registry = Faulty::start_with(Habits { no_mount, ..Habits::default() }, nothing);
        image().put_into(&registry);
        let (_dir, store) = store();
        let client = orderly(&registry, brisk());
        let from: Reference = format!("{}/team/base:{TAG}", registry.host()).parse().unwrap();
        let (resolved, _) = client.pull_image(&store, &from, &linux(), &Quiet).unwrap();
        let to: Reference = format!("{}/team/app:2", registry.host()).parse().unwrap();
        client.push_image(&store, &resolved.descriptor, &to, &Quiet).unwrap();
        assert_eq!(registry.manifest("2").unwrap(), image().manifest);

        let seen = registry.seen();
        let count =
            |kind: &str, part: &str| seen.iter().filter(|s| s.kind() == kind && s.target.contains(part)).count();
        assert_eq!(count("POST blobs/uploads/", "from=team%2Fbase"), 3);
        assert_eq!(count("POST blobs/uploads/", ""), 3, "an upload goes on where the mount began it");
        assert_eq!(count("PUT blobs/uploads/", ""), if no_mount { 3 } else { 0 });
        assert_eq!(count("GET token", "team%2Fapp%3Apull%2Cpush&scope=repository%3Ateam%2Fbase%3Apull"), 1, "{seen:?}");
    }
}

#[test]
fn corruption_is_an_error_and_nothing_is_stored() {
    for (fault, words) in [(Fault::Corrupt, "expected sha256:"), (Fault::Short, "bytes"), (Fault::Long, "bytes")] {
        let always = fault.clone();
        let registry =
            Faulty::start_with(Habits::default(), move |_, seen| (seen.kind() == "GET blobs").then(|| always.clone()));
        let image = image();
        image.put_into(&registry);
        let (_dir, store) = store();
        let layer = manifest::descriptor(OCI_LAYER_GZIP, &Digest::sha256(&image.layers[0]), LARGE as u64);
        let client = orderly(&registry, brisk());
        let error = client.ensure_blob(&store, &reference(&registry), &layer, &Quiet).unwrap_err();
        let text = told(&error);
        assert!(text.contains(words) && text.contains("team/app"), "{fault:?}: {text}");
        assert_eq!(store.has_blob(&Digest::sha256(&image.layers[0])).unwrap(), None);
    }
}

#[test]
fn docker_hubs_limit_is_not_waited_for() {
    let limit = "toomanyrequests: You have reached your pull rate limit";
    let registry = Faulty::start_with(Habits::default(), move |_, seen| {
        (seen.kind() == "GET manifests").then_some(Fault::Code(429, limit))
    });
    let error = run(&registry, Pull).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("--registry-mirror")), "{}", told(&error));
    assert_eq!(registry.seen().iter().filter(|seen| seen.kind() == "GET manifests").count(), 1);
}

/// The time that a registry names, in seconds or as a date, is waited for.
#[test]
fn retry_after_is_waited_for() {
    let date = |seconds| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
    // A date has whole seconds: of two, more than one is left.
    let cases: [(&dyn Fn() -> String, _, _); 3] =
        [(&|| "1".to_string(), 1000, 3000), (&|| date(2), 900, 3000), (&|| date(0), 0, 900)];
    for (when, least, most) in cases {
        let when = when();
        let once = when.clone();
        let registry = Faulty::start_with(Habits::default(), move |n, _| (n == 3).then(|| Fault::Later(once.clone())));
        image().put_into(&registry);
        let (_dir, store) = store();
        let retry = RetryPolicy { tries: 5, first: Duration::ZERO, longest: Duration::from_secs(10) };
        let client = orderly(&registry, Settings { retry, ..Settings::default() });
        let began = Instant::now();
        client.pull_image(&store, &reference(&registry), &linux(), &Quiet).unwrap();
        let waited = began.elapsed().as_millis();
        assert!((least..most).contains(&waited), "{when}: {waited} ms");
    }
}

#[test]
fn a_refused_push_names_account_and_reason() {
    let registry =
        Faulty::start_with(Habits::default(), |_, seen| (seen.method == "POST").then_some(Fault::Code(403, "DENIED")));
    let text = told(&run(&registry, Push).unwrap_err());
    for part in ["user 'me' from --creds", "403", "DENIED: as scripted", "team/app"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let stranger = client(brisk(), Keychain::anonymous());
    let (_dir, store) = store();
    let what = image().put_into_store(&store);
    let text = told(&stranger.push_image(&store, &what, &reference(&registry), &Quiet).unwrap_err());
    assert!(text.contains("no credentials found") && text.contains("401"), "{text}");
}
