use super::*;
use crate::build::{ContextSource, DockerfileSource, NamedSource, RemoteUrl};
use clap::Parser;

#[derive(Parser, Debug)]
struct Alone {
    #[command(flatten)]
    build: BuildArgs,
}

/// The job of a command line in a context directory that has a Dockerfile; `CTX` stands for the context.
fn job(vars: &[(&str, &str)], line: &str) -> Result<(BuildJob, Vec<String>), String> {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let environment = Environment::of(vars, temp.path());
    let words = line.split(' ').map(|word| if word == "CTX" { "." } else { word });
    let args = Alone::try_parse_from(std::iter::once("build").chain(words)).map_err(|error| error.to_string())?;
    args.build.job(&environment).map_err(|diagnostic| diagnostic.message)
}

#[test]
fn flags_become_options() {
    let line = "-t app:1 --tag other --build-arg A=1=2 --build-arg=B --build-arg C --label x=y --label bare \
                --target stage --platform linux/arm64 --network none --add-host db:10.0.0.1 --add-host six=[::1] \
                --no-cache --pull --push --format docker CTX";
    let (job, warnings) = job(&[("B", "from env"), ("SOURCE_DATE_EPOCH", "12")], line).unwrap();
    let options = job.options;
    assert_eq!(options.tags.iter().map(Reference::familiar).collect::<Vec<_>>(), ["app:1", "other:latest"]);
    let args = [("A", Some("1=2")), ("B", Some("from env")), ("C", None)];
    let args = args.map(|(name, value)| (name.to_string(), value.map(str::to_string)));
    assert_eq!(options.build_args, args);
    assert_eq!(options.labels, [("x".to_string(), "y".to_string()), ("bare".to_string(), String::new())]);
    assert_eq!(options.target.as_deref(), Some("stage"));
    assert_eq!(options.platforms.iter().map(Platform::to_string).collect::<Vec<_>>(), ["linux/arm64"]);
    assert_eq!(options.network.as_deref(), Some("none"));
    let hosts = [("db".to_string(), "10.0.0.1".to_string()), ("six".to_string(), "::1".to_string())];
    assert_eq!(options.add_hosts, hosts);
    assert_eq!((options.no_cache, options.pull, job.push), (true, true, true));
    assert_eq!((options.format, options.source_date_epoch), (ImageFormat::Docker, Some(12)));
    assert!(warnings.is_empty());
}

#[test]
fn foreign_flags_are_ignored_with_a_warning() {
    let line = "--rm --force-rm=true --memory 2g -m 1g --provenance=false --sbom true CTX";
    let (_, warnings) = job(&[], line).unwrap();
    let expected = [
        "flags --force-rm, --rm are ignored: there is no intermediate container to keep, compress or remove",
        "flag --memory is ignored: dockless sets no resource limits: the job's own hold",
        "flag --sbom is ignored: no attestation is made yet",
    ];
    assert_eq!(warnings, expected);
    let (_, warnings) = job(&[], "--provenance=mode=max --sbom=true --attest type=sbom CTX").unwrap();
    assert_eq!(warnings, ["flags --attest, --provenance, --sbom are ignored: no attestation is made yet"]);
}

#[test]
fn wrong_values_say_what_was_expected() {
    let cases = [
        ("--push CTX", "--push needs a name to push to: -t REGISTRY/REPOSITORY:TAG"),
        ("--squash CTX", "flag --squash is not supported yet: every step is a layer of its own"),
        ("--secret x CTX", "--secret 'x': expected id=ID with src=FILE or env=VARIABLE"),
        ("--allow fs.read=/ CTX", "--allow fs.read=/: unknown entitlement: expected network.host or security.insecure"),
        (
            "--annotation a=b --format docker CTX",
            "--annotation needs --format=oci: Docker's manifests have no annotations",
        ),
        (
            "--platform linux//b CTX",
            "--platform=linux//b: 'linux//b' is not a platform (expected os/architecture[/variant], such as linux/amd64)",
        ),
        (
            "--platform linux/a,linux/b -o type=docker,dest=x CTX",
            "--output type=docker holds one platform: type=oci holds several",
        ),
        ("--annotation index:a=b CTX", "--annotation a: an image of one platform has no index"),
        ("--network bridge CTX", "--network=bridge is not supported: expected default, none or host"),
        ("--add-host db CTX", "--add-host 'db': expected NAME:IP"),
        ("--add-host db:ten CTX", "--add-host 'db:ten': expected NAME:IP"),
        ("--build-arg =x CTX", "--build-arg '=x' has no name: expected NAME=VALUE or NAME"),
        ("--build-context a CTX", "--build-context 'a': expected NAME=DIRECTORY, URL or image"),
        ("--build-context a=- CTX", "--build-context a=-: only the main context can come from standard input"),
        (
            "--build-context a=docker-image://A CTX",
            "--build-context a=docker-image://A: 'A' is not an image reference: a repository name is lower-case",
        ),
        ("-o - -o type=oci,dest=- CTX", "only one --output can write to standard output"),
        ("-f missing CTX", "the Dockerfile 'missing' does not exist"),
        ("-f . CTX", "the Dockerfile '.' is not a file"),
        ("nowhere", "the context 'nowhere' does not exist"),
        ("Dockerfile", "the context 'Dockerfile' is not a directory"),
        ("-f - -", "the context and the Dockerfile cannot both come from standard input"),
        ("https://u:p@x/y.git?z=1", "the context 'https://xxxxx:xxxxx@x/y.git?z=1': unexpected query \"z\""),
    ];
    for (line, expected) in cases {
        assert_eq!(job(&[], line).unwrap_err(), expected, "{line}");
    }
    let wrong = job(&[("SOURCE_DATE_EPOCH", "now")], "CTX").unwrap_err();
    assert_eq!(wrong, "SOURCE_DATE_EPOCH=now: expected seconds since 1970");
}

#[test]
fn contexts_are_told_apart() {
    let context = |line: &str| job(&[], line).unwrap().0.options.context;
    let (url, git) = (|text| ContextSource::Url(RemoteUrl::new(text)), |text| ContextSource::Git(RemoteUrl::new(text)));
    assert_eq!(context("-"), ContextSource::Stdin);
    assert_eq!(context("https://h/c.tar.gz"), url("https://h/c.tar.gz"));
    for text in ["https://h/r.git#v1:d", "git://h/r", "git@h:r.git", "ssh://git@h/r", "github.com/a/b"] {
        assert_eq!(context(text), git(text), "{text}");
    }
    assert_eq!(format!("{:?}", url("https://u:hunter2@h/c")), "Url(\"https://xxxxx:xxxxx@h/c\")");
    let file = |line: &str| job(&[], line).unwrap().0.options.dockerfile;
    assert_eq!(file("-f sub/D https://h/c.tar"), DockerfileSource::InContext(Some("sub/D".into())));
    assert_eq!(file("https://h/c.tar"), DockerfileSource::InContext(None));
    let named = job(&[], "--build-context a=oci-layout:///l:1 --build-context b=oci-layout:///l@sha256:0 CTX").unwrap();
    let layout = |image: &str| NamedSource::Layout { path: "/l".into(), image: Some(image.into()) };
    let named: Vec<NamedSource> = named.0.options.build_contexts.into_iter().map(|(_, source)| source).collect();
    assert_eq!(named, [layout("1"), layout("sha256:0")]);
}

#[test]
fn what_steps_are_given() {
    let line = "--secret id=a,env=TOKEN --allow network.host --shm-size 1m --ulimit nofile=5 --ulimit nofile=6:7 \
                --no-cache-filter one,two --no-cache-filter three --annotation x=y CTX";
    let (job, _) = job(&[("TOKEN", "hush-hush")], line).unwrap();
    let steps = &job.options.steps;
    assert_eq!(steps.secrets["a"].expose(), b"hush-hush");
    assert_eq!((steps.shm_size, steps.limits.len(), steps.limits[0].hard), (Some(1 << 20), 1, Some(7)));
    assert_eq!(steps.allowed, [crate::build::Entitlement::NetworkHost]);
    assert_eq!(job.options.no_cache_stages, ["one", "two", "three"]);
    assert_eq!((job.options.annotations[0].name.as_str(), job.options.annotations[0].value.as_str()), ("x", "y"));
    assert!(!format!("{job:?}").contains("hush-hush"), "Debug shows the secret");
}

#[test]
fn outputs_add_names_and_push() {
    let (job, _) = job(&[], "-o type=registry,name=r:5000/a -o type=oci,dest=/x.tar CTX").unwrap();
    assert!(job.push);
    assert_eq!(job.options.tags[0].familiar(), "r:5000/a:latest");
    assert_eq!(job.outputs.len(), 1);
}

#[test]
fn a_job_travels_as_json() {
    let (job, _) = job(&[], "-t a -o out CTX").unwrap();
    let text = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<BuildJob>(&text).unwrap(), job);
}
