//! Caches in registries.

use super::{Count, Job, Project};
use crate::support::registry::{Options, Registry};

/// Two stages of which a layer each is large enough to be counted.
fn project(base: &str) -> Project {
    let dockerfile = format!(
        "FROM {base} AS builder\n\
         COPY src /src\n\
         RUN head -c 200000 /dev/urandom > /lib && cat /src/main > /out\n\
         FROM {base}\n\
         RUN head -c 300000 /dev/urandom > /dependency\n\
         WORKDIR /app\n\
         COPY --from=builder /out /app/out\n\
         COPY late /app/late\n"
    );
    Project::default().with("Dockerfile", dockerfile).with("src/main", "one").with("late", "1")
}

/// Bytes of blobs that came, less configs, manifests and lists of files.
const LAYER: u64 = 100_000;

#[test]
fn two_jobs_have_only_the_registry_in_common() {
    for mode in ["min", "max"] {
        let registry = Registry::start();
        let base = registry.put_base("busybox");
        let (app, cache) = (format!("{}/app", registry.host()), format!("{}/app/cache", registry.host()));
        let project = project(&base);
        let flags = |tag: &str| {
            format!(
                "--cache-from type=registry,ref={cache} --cache-to type=registry,ref={cache},mode={mode} -t {app}:{tag} --push"
            )
        };
        let first = Job::new(&project).build(&flags("1"));
        assert_eq!(first.missed().len(), 6, "{}", first.0.stderr);

        // Nothing changed.
        let count = Count::of(&registry);
        let again = Job::new(&project).build(&flags("2"));
        assert_eq!((again.missed(), again.digest()), (vec![], first.digest()), "{}", again.0.stderr);
        let layers = |count: &Count| ["library/busybox", "app", "app/cache"].map(|name| count.blob_bytes(name, LAYER));
        assert_eq!(layers(&count), [0, 0, 0]);
        let asked = count.asked();
        assert!(asked.len() <= 10, "{mode}: {} requests: {asked:#?}", asked.len());

        // The last COPY changed.
        let count = Count::of(&registry);
        let late = Job::new(&project.with("late", "2")).build(&flags("3"));
        assert_eq!(late.missed(), ["COPY late /app/late"], "{}", late.0.stderr);
        assert_eq!(layers(&count), [0, 0, 0], "a file list is enough: {}", late.0.stderr);
        let sent =
            count.asked().iter().filter(|asked| asked.method == "PUT" && asked.target.contains("/blobs/")).count();
        assert!(sent <= 4, "the layer, its list, two configs: {:#?}", count.asked());

        // The other stage was edited: with all stages in the cache what is before the edit comes back.
        let edited = project.with("Dockerfile", project.text("Dockerfile").replace("cat /src/main", "cat /src/./main"));
        let missed = Job::new(&edited).build(&flags("4")).missed();
        let (copied, ran) = (
            missed.iter().any(|s| s.starts_with("COPY src")),
            missed.iter().any(|s| s.starts_with("RUN head -c 200000")),
        );
        assert_eq!((copied, ran), (mode == "min", true), "{mode}: {missed:?}");
        assert!(!missed.iter().any(|step| step.starts_with("RUN head -c 300000")), "{missed:?}");
        // And all of it is in the cache for the next one, and so is what was there before.
        for project in [&edited, &project, &project.with("late", "2")] {
            let log = Job::new(project).build(&flags("5"));
            assert_eq!(log.missed(), [""; 0], "{mode}: {}", log.0.stderr);
        }
    }
}

/// What the last job made is copied from by nobody, but the last layer stands on all others: a step that reads them gets them.
#[test]
fn layers_come_when_a_step_reads_them() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let cache = format!("{}/cache", registry.host());
    let flags = format!("--cache-from type=registry,ref={cache} --cache-to type=registry,ref={cache},mode=max");
    let project = project(&base);
    Job::new(&project).build(&flags);
    let count = Count::of(&registry);
    let more = project.text("Dockerfile") + "RUN test $(wc -c < /dependency) = 300000 && cp /app/late /app/later\n";
    let log = Job::new(&project.with("Dockerfile", more)).build(&flags);
    assert_eq!(log.missed().len(), 1, "{}", log.0.stderr);
    assert!(count.blob_bytes("cache", LAYER) >= 300_000);
}

/// Eight jobs of eight projects write one cache at once; all of what they made is there afterwards.
#[test]
fn those_that_write_at_once_lose_nothing() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let cache = format!("{}/cache:all", registry.host());
    let flags = format!("--cache-from type=registry,ref={cache} --cache-to type=registry,ref={cache},mode=max");
    let projects: Vec<Project> = (0..8)
        .map(|n| {
            Project::default()
                .with("Dockerfile", format!("FROM {base}\nCOPY f /\nRUN echo {n} > /n\n"))
                .with("f", n.to_string())
        })
        .collect();
    let jobs: Vec<Job> = projects.iter().map(Job::new).collect();
    std::thread::scope(|scope| {
        for job in &jobs {
            scope.spawn(|| job.build(&flags));
        }
    });
    for project in &projects {
        let log = Job::new(project).build(&format!("--cache-from type=registry,ref={cache}"));
        assert_eq!(log.missed(), [""; 0], "{}", log.0.stderr);
    }
}

#[test]
fn kanikos_flags_and_the_projects_own_place() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let project = project(&base);
    let kaniko = format!("--cache=true --cache-repo={}/kaniko/cache --cache-ttl=24h", registry.host());
    let first = Job::new(&project).build(&kaniko);
    assert!(!first.0.stderr.contains("warning:"), "{}", first.0.stderr);
    assert_eq!(Job::new(&project).build(&kaniko).missed(), [""; 0]);
    let auto = |job: &Job| {
        let mut command = job.place.command("build --progress=plain --cache=auto context", [""; 0]);
        command.env("CI_REGISTRY_IMAGE", format!("{}/group/project", registry.host()));
        super::Log(job.place.finish(command.output().unwrap()).succeeded())
    };
    assert_eq!(auto(&Job::new(&project)).missed().len(), 6);
    let log = auto(&Job::new(&project));
    assert_eq!(log.missed(), [""; 0]);
    assert!(log.found().iter().any(|place| place.ends_with("/group/project/cache:latest")), "{:?}", log.found());
}

/// What was of no use for long goes at the next write, and what is too much.
#[test]
fn a_cache_cleans_itself() {
    let registry = Registry::start();
    let base = registry.put_base("busybox");
    let cache = format!("{}/cache", registry.host());
    let one = |n: u32| {
        Project::default().with("Dockerfile", format!("FROM {base}\nRUN head -c 400000 /dev/urandom > /f{n}\n"))
    };
    let missed = |n: u32, to: &str| {
        let from = format!("--cache-from type=registry,ref={cache}");
        let to = if to.is_empty() { String::new() } else { format!("--cache-to type=registry,ref={cache},{to}") };
        Job::new(&one(n)).build(&format!("{from} {to}")).missed().len()
    };
    assert_eq!(missed(1, "size=1g"), 1);
    assert_eq!(missed(2, "size=1g"), 1);
    assert_eq!((missed(1, ""), missed(2, "")), (0, 0));
    // There is room for one of that size.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(missed(3, "size=600k"), 1);
    assert_eq!((missed(3, ""), missed(1, "") + missed(2, "")), (0, 2));
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(missed(4, "ttl=1s"), 1);
    assert_eq!((missed(4, ""), missed(3, "")), (0, 1));
}

/// A cache that cannot be written or read, and a name that is an image's, are warnings.
#[test]
fn a_failing_cache_fails_no_build() {
    let registry = Registry::start();
    let locked = Registry::start_with(Options { login: Some(("me".into(), "hunter2".into())), ..Options::default() });
    let base = registry.put_base("busybox");
    let project = project(&base);
    let (app, cache) = (format!("{}/app:1", registry.host()), format!("{}/cache", locked.host()));
    let log = Job::new(&project)
        .build(&format!("--cache-from type=registry,ref={cache} --cache-to type=registry,ref={cache} -t {app} --push"));
    log.says(&format!("warning: --cache-from {cache}:latest: access to"))
        .says(&format!("warning: --cache-to {cache}:latest: access to"));
    let log = Job::new(&project)
        .build(&format!("--cache-to type=registry,ref={app} --cache-to type=registry,ref=127.0.0.1:1/x"));
    log.says(&format!("--cache-to {app}: {app} is an image, not a cache")).says("--cache-to 127.0.0.1:1/x");
    // The image is still there.
    assert_eq!(Job::new(&project).build(&format!("--cache-from {app}")).missed(), [""; 0]);
}
