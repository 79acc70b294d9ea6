//! `--cache-from IMAGE`: what an image carries.

use super::{Count, Job, Project};
use crate::build::place::{Caller, Place, tool};
use crate::support::registry::Registry;
use crate::support::throttle::long_line;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Two stages; what the first makes is not the same twice, what is copied from it is.
fn project(base: &str) -> Project {
    let dockerfile = format!(
        "FROM {base} AS builder\n\
         ARG FLAVOUR=plain\n\
         COPY src /src\n\
         RUN cat /src/main > /out && cat /proc/sys/kernel/random/uuid > /noise\n\
         FROM {base}\n\
         ENV A=b\n\
         RUN echo dependency > /dependency\n\
         WORKDIR /app\n\
         COPY --from=builder /out /app/out\n\
         COPY late /app/late\n\
         CMD [\"x\"]\n"
    );
    Project::default().with("Dockerfile", dockerfile).with("src/main", "one").with("late", "1")
}

#[test]
fn an_image_carries_what_the_next_job_needs() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let app = format!("{}/group/app", registry.host());
    let project = project(&base);
    let first = Job::new(&project).build(&format!("-t {app}:latest --push"));
    assert_eq!(first.missed().len(), 6, "{}", first.0.stderr);

    // Nothing changed: no step runs, no layer moves, the other stage is not looked at, the image is the same.
    let count = Count::of(&registry);
    let again = Job::new(&project).build(&format!("--cache-from {app}:latest -t {app}:again --push"));
    assert_eq!(again.missed(), [""; 0], "{}", again.0.stderr);
    assert!(again.found().contains(&format!("from {app}:latest")), "{:?}", again.found());
    again.says("not needed");
    assert_eq!(again.digest(), first.digest());
    assert_eq!((count.blob_bytes("library/busybox", 10_000), count.blob_bytes("group/app", 10_000)), (0, 0));
    let asked = count.asked();
    assert!(asked.len() <= 10, "{} requests: {asked:#?}", asked.len());
    assert!(asked.iter().all(|asked| asked.method != "POST"), "{asked:#?}");

    // The last COPY changed: it alone is made.
    let late = Job::new(&project.with("late", "2"));
    assert_eq!(late.build(&format!("--cache-from {app}:latest")).missed(), ["COPY late /app/late"]);
    // The other stage changed: it starts over, and what is copied from it; before that nothing, after it the same file
    // again on another tree.
    let edited = Job::new(&project.with("src/main", "two")).build(&format!("--cache-from {app}:latest"));
    let missed = edited.missed();
    assert_eq!(missed.len(), 4, "{missed:?}");
    assert!(!missed.iter().any(|step| step.starts_with("RUN echo") || step.starts_with("WORKDIR")), "{missed:?}");
    // It changed to no effect.
    let touched = Job::new(&project.with("src/other", "no part of it")).build(&format!("--cache-from {app}:latest"));
    let missed = touched.missed();
    assert_eq!(missed.len(), 2, "{missed:?}");
    assert!(missed[0].starts_with("COPY src") && missed[1].starts_with("RUN cat"), "{missed:?}");
}

/// A project of which the changed steps must look at what is below them: a link, a directory, a file that is there already,
/// and a user's name.
fn project_with_ground(base: &str) -> Project {
    let dockerfile = format!(
        "FROM {base}\n\
         RUN mkdir -p /srv/real /app/kept && ln -s /srv/real /link && echo 'app:x:77:78::/:/bin/sh' > /etc/passwd \
             && echo k > /app/kept/k && head -c 300000 /dev/zero > /dependency\n\
         WORKDIR /app\n\
         COPY first /app/\n\
         COPY --chown=app src /link/src\n\
         COPY src first /app/\n\
         COPY late /app/kept/late\n"
    );
    let project = Project::default().with("Dockerfile", dockerfile).with("src/main", "one").with("late", "1");
    project.with("first", "f")
}

/// Whatever was changed in files that are copied, the image is made without its other layers, and is the one that a machine
/// makes which has them.
#[test]
fn a_changed_copy_needs_no_layer_below() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let app = format!("{}/app", registry.host());
    let build = |project: &Project, flags: &str| {
        let job = Job::new(project);
        let mut command =
            job.place.command(&format!("build --progress=plain --rewrite-timestamp {flags} context"), [""; 0]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        super::Log(job.place.finish(command.output().unwrap()).succeeded())
    };
    let project = project_with_ground(&base);
    build(&project, &format!("-t {app}:1 --push"));
    let edited = |text: &str, with: &str| {
        let dockerfile = project.text("Dockerfile");
        assert!(dockerfile.contains(text));
        project.with("Dockerfile", dockerfile.replace(text, with))
    };
    let cases = [
        ("the last one", project.with("late", "2"), 1),
        ("all after the first", project.with("src/main", "two").with("src/new", "n"), 3),
        ("all", project.with("first", "another"), 4),
        ("another directory, which nobody saw before", project.with("src/kept/deep/new", "n"), 3),
        ("another owner", edited("--chown=app", "--chown=77:app"), 3),
        ("another place in a directory that was seen", edited("/link/src", "/link/there"), 3),
        ("one of them gone", edited("COPY --chown=app src /link/src\n", ""), 2),
    ];
    for (number, (what, changed, missed)) in cases.iter().enumerate() {
        let count = Count::of(&registry);
        let log = build(changed, &format!("--cache-from {app}:1 -t {app}:2-{number} --push"));
        assert_eq!(log.missed().len(), *missed, "{what}: {}", log.0.stderr);
        let layers = ["library/busybox", "app"].map(|name| count.blob_bytes(name, 20_000));
        assert_eq!(layers, [0, 0], "{what}: {}", log.0.stderr);
        let whole = build(changed, &format!("-t {app}:3-{number} --push"));
        assert_eq!(log.digest(), whole.digest(), "{what}: {}", log.0.stderr);
        // And the image of that job serves the next one as well.
        let count = Count::of(&registry);
        let later = changed.with("late", "3");
        let log = build(&later, &format!("--cache-from {app}:2-{number} -t {app}:4 --push"));
        assert_eq!((log.missed().len(), count.blob_bytes("library/busybox", 20_000)), (1, 0), "{what}");
    }
    // Where nobody looked before the layers are fetched, and the image is the right one.
    let elsewhere = edited("/app/kept/late", "/bin/late");
    let count = Count::of(&registry);
    let log = build(&elsewhere, &format!("--cache-from {app}:1 -t {app}:5 --push"));
    assert!(count.blob_bytes("library/busybox", 20_000) > 0);
    assert_eq!(log.digest(), build(&elsewhere, &format!("-t {app}:6 --push")).digest());
}

/// Requests that do not wait for one another are one round trip: the time that they take is what counts.
#[test]
fn a_changed_copy_costs_ten_round_trips() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let port = |host: &str| host.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let project = project_with_ground(&base);
    Job::new(&project).build(&format!("-t {}/app:1 --push", registry.host()));
    let delay = Duration::from_millis(300);
    let seconds = |late: &str, delay: Duration| {
        let far = format!("127.0.0.1:{}", long_line(port(registry.host()), delay));
        let changed = project.with("late", late);
        let changed = changed.with("Dockerfile", project.text("Dockerfile").replace(registry.host(), &far));
        let (job, begin) = (Job::new(&changed), Instant::now());
        let log = job.build(&format!("--cache-from {far}/app:1 -t {far}/app:2 --push"));
        assert_eq!(log.missed(), ["COPY late /app/kept/late"], "{}", log.0.stderr);
        begin.elapsed()
    };
    let near = seconds("2", Duration::ZERO);
    let trips = (seconds("3", delay).saturating_sub(near)).as_secs_f64() / delay.as_secs_f64();
    // Ten, and what it takes here to hand them on.
    assert!(trips < 11.0, "{trips} round trips");
}

#[test]
fn the_usual_job_pulls_and_builds() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let app = format!("{}/app", registry.host());
    let project = project(&base);
    let first = Job::new(&project);
    // There is none yet.
    assert_ne!(first.place.dockless(&format!("pull {app}:latest")).code, Some(0));
    let log = first.build(&format!("--cache-from {app}:latest -t {app}:latest --push"));
    log.says(&format!("warning: --cache-from {app}:latest: "));
    let job = Job::new(&project);
    job.place.dockless(&format!("pull {app}:latest")).succeeded();
    let again = job.build(&format!("--cache-from {app}:latest -t {app}:2 --push"));
    assert_eq!((again.missed(), again.digest()), (vec![], log.digest()), "{}", again.0.stderr);
}

/// The records go where the config goes.
#[test]
fn records_survive_other_peoples_tools() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let app = format!("{}/app", registry.host());
    let project = project(&base);
    Job::new(&project).build(&format!("-t {app}:1 --push"));
    let place = Place::new(Caller::Own);
    let layout = format!("oci:{}:x", place.path("out/layout").display());
    let plain = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tool("skopeo", plain.into_iter().chain([&format!("docker://{app}:1"), &layout].map(|s| s.as_str())));
    // Into another form, in another repository.
    let other = format!("{}/other/place", registry.host());
    let to = format!("docker://{other}:1");
    tool("skopeo", plain.into_iter().chain(["--format=v2s2", &layout, &to]));
    let log = Job::new(&project).build(&format!("--cache-from {other}:1"));
    assert_eq!(log.missed(), [""; 0], "{}", log.0.stderr);
}

/// The same input gives the same bytes, records and all, although the stage that the image does not have came out otherwise.
#[test]
fn records_do_not_make_images_differ() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let project = project(&base);
    let build = |flags: &str| {
        let job = Job::new(&project);
        let mut command = job.place.command(&format!("build -q {flags} context"), [""; 0]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        job.place.finish(command.output().unwrap()).succeeded().text().to_string()
    };
    let first = build("--rewrite-timestamp");
    assert_eq!(build("--rewrite-timestamp"), first);
    assert_ne!(build("--rewrite-timestamp --build-arg FLAVOUR=other"), first, "a key is another one");
}

/// A machine that built nothing before says what differs from what the image was made of.
#[test]
fn a_fresh_machine_says_what_changed() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let app = format!("{}/app", registry.host());
    let dockerfile = format!(
        "FROM {base} AS final\nARG VERSION=1.2\nARG API_TOKEN=none\nENV A=b\nRUN echo dependency > /dependency\n\
         COPY src /src\nRUN echo last > /last\n"
    );
    let project = Project::default().with("Dockerfile", dockerfile).with("src/main", "one").with("src/other", "x");
    Job::new(&project).build(&format!("-t {app}:1 --push"));
    let edited = |text: &str, with: &str| {
        let dockerfile = project.text("Dockerfile");
        assert!(dockerfile.contains(text));
        project.with("Dockerfile", dockerfile.replace(text, with))
    };
    let cases = [
        (project.clone(), "--build-arg VERSION=1.3", "ARG VERSION changed"),
        (project.clone(), "--build-arg API_TOKEN=hush", "API_TOKEN changed, of which the cache keeps nothing"),
        (edited("ENV A=b", "ENV A=c"), "", "ENV A changed"),
        (edited("ENV A=b", "ENV A=b B=c"), "", "ENV B is new"),
        (edited("echo dependency", "echo dependencies"), "", "the command changed"),
        (edited("RUN echo dep", "WORKDIR /w\nRUN echo dep"), "", "what it is built on changed"),
        (project.with("src/main", "two"), "", "file src/main changed\n"),
        (project.with("src/main", "two").with("src/new", ""), "", "file src/main changed, and 1 more"),
    ];
    for (project, flags, words) in cases {
        let log = Job::new(&project).build(&format!("--cache-from {app}:1 {flags}"));
        log.says(&format!("MISS {words}"));
        assert!(!log.0.stderr.contains("1.3") || flags.is_empty(), "{}", log.0.stderr);
    }
    Job::new(&project).build("--build-arg VERSION=1.3").says("MISS nothing like it was made before");
}

/// No value of an argument is in what leaves the machine, but where the image's own history says it.
#[test]
fn values_stay_here() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let app = format!("{}/app", registry.host());
    let dockerfile = format!(
        "FROM {base} AS builder\nARG TOKEN\nRUN --mount=type=secret,id=s echo x > /x\nFROM {base}\nCOPY --from=builder /x /\n"
    );
    let job = Job::new(&Project::default().with("Dockerfile", dockerfile).with("s", "very-secret"));
    let cache = format!("--cache-to type=registry,ref={app}:cache,mode=max");
    job.build(&format!("{cache} --secret id=s,src=context/s --build-arg TOKEN=hush-hush -t {app}:1 --push"));
    let blobs = registry.data().join("docker/registry/v2/blobs/sha256");
    let found = tool(
        "sh",
        [
            "-c",
            &format!("grep -rlaE 'hush-hush|very-secret|{}' {} || true", job.place.path("").display(), blobs.display()),
        ],
    );
    assert_eq!(found, "");
}

#[test]
fn what_is_no_source_is_named_and_passed_over() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let project = project(&base);
    let job = Job::new(&project);
    let host = registry.host();
    let log =
        job.build(&format!("--cache-from {base} --cache-from {host}/no/such:1 --cache-from type=local,src=nowhere"));
    log.says(&format!("warning: --cache-from {base}: it holds no records of dockless"));
    log.says(&format!("warning: --cache-from {host}/no/such:1: "));
    log.says("warning: --cache-from ");
    assert_eq!(log.missed().len(), 6);
}

/// Images with records of BuildKit, and its caches in registries in both forms that they have.
#[test]
fn what_buildkit_wrote_is_named() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let place = Place::new(Caller::Own);
    let put = |name: &str, media_type: &str, document: &str| {
        let file = place.path("document");
        std::fs::write(&file, document).unwrap();
        let url = format!("http://{}/v2/cache/{name}", registry.host());
        let data = format!("@{}", file.display());
        let header = format!("Content-Type: {media_type}");
        tool("curl", ["-sSf", "-X", "PUT", "-H", &header, "--data-binary", &data, &url]);
    };
    let blob = |document: &str| {
        let digest = dockless::oci::Digest::sha256(document).to_string();
        let begin = format!("http://{}/v2/cache/blobs/uploads/", registry.host());
        let told = tool("curl", ["-sSf", "-i", "-X", "POST", &begin]);
        let location = told.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim().to_string();
        let url = format!("{location}&digest={digest}");
        let plain = "Content-Type: application/octet-stream";
        tool("curl", ["-sSf", "-X", "PUT", "-H", plain, "--data-binary", document, &url]);
        json!({"digest": digest, "size": document.len()})
    };
    let described = |document: &str, media_type: &str| {
        let mut descriptor = blob(document);
        descriptor["mediaType"] = media_type.into();
        descriptor
    };
    let oci = |kind: &str| format!("application/vnd.oci.image.{kind}.v1+json");
    let records = described(r#"{"layers":[],"records":[]}"#, "application/vnd.buildkit.cacheconfig.v0");
    let image = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"moby.buildkit.cache.v0":"eyJ9"}"#;
    let image = described(image, &oci("config"));
    let manifest =
        |config: &Value| json!({"schemaVersion": 2, "mediaType": oci("manifest"), "config": config, "layers": []});
    let index = json!({"schemaVersion": 2, "mediaType": oci("index"), "manifests": [&records]});
    for (tag, document) in [("inline", manifest(&image)), ("image", manifest(&records)), ("index", index)] {
        let media_type = document["mediaType"].as_str().unwrap();
        put(&format!("manifests/{tag}"), media_type, &document.to_string());
        let log = Job::new(&project(&base)).build(&format!("--cache-from {}/cache:{tag}", registry.host()));
        log.says(&format!("warning: --cache-from {}/cache:{tag}: its records are BuildKit's", registry.host()));
        assert_eq!(log.missed().len(), 6);
    }
}

/// What is copied from one stage in two steps is of one run of it, although only one of the steps was in the cache.
#[test]
fn an_image_has_parts_of_one_run_only() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let app = format!("{}/app:1", registry.host());
    let dockerfile = |to: &str| {
        format!(
            "FROM {base} AS builder\nRUN cat /proc/sys/kernel/random/uuid > /a && cp /a /b\n\
             FROM {base}\nCOPY --from=builder /a /a\nCOPY --from=builder /b {to}\n"
        )
    };
    let project = |to: &str| Project::default().with("Dockerfile", dockerfile(to));
    Job::new(&project("/b")).build(&format!("-t {app} --push"));
    let job = Job::new(&project("/c"));
    let log = job.build(&format!("--cache-from {app} -o type=local,dest=out"));
    let read = |name: &str| std::fs::read_to_string(job.place.path(format!("out/{name}"))).unwrap();
    assert_eq!(read("a"), read("c"), "{}", log.0.stderr);
    log.says("begin anew");
    // Where the stage is to be made anew, nothing of it is taken from memory.
    let job = Job::new(&project("/b"));
    job.build(&format!("--cache-from {app} --no-cache-filter builder -o type=local,dest=out"));
    let read = |name: &str| std::fs::read_to_string(job.place.path(format!("out/{name}"))).unwrap();
    assert_eq!(read("a"), read("b"));
    let first = job.place.path("first");
    job.place.dockless(&format!("build --cache-from {app} -o type=local,dest={} context", first.display())).succeeded();
    assert_eq!(std::fs::read_to_string(first.join("a")).unwrap(), read("a"), "what was made last is what is known");
}
