//! The flags of kaniko's executor, and what becomes of each.

use crate::cli::words::{Does, Flag, switch, value};

const OWN_ROOT: Does = Does::Ignored("dockless never unpacks an image over its own root");
const RETRIES: Does = Does::Ignored("requests that fail for a passing reason are tried five times anyway");
const ALWAYS: Does = Does::Ignored("it is always so");
const NO_MEANING: Does = Does::Ignored("it has no meaning here");
const CACHED: Does = Does::Ignored("every step is cached, COPY and RUN alike, and compressed");

/// Every flag.
pub const FLAGS: &[Flag] = &[
    value("annotation", Does::Is("--annotation")),
    value("bucket", Does::Own("the bucket of the context: `gs://BUCKET`, or a URL")).short('b'),
    value("build-arg", Does::Is("--build-arg")),
    switch("cache", Does::Own("`--cache`; with `--no-push` or `--no-push-cache` it is read only")),
    switch("cache-copy-layers", CACHED),
    value("cache-dir", Does::Ignored("bases are kept in the state directory: keep $DOCKLESS_HOME between jobs instead")),
    value("cache-repo", Does::Own("the cache's repository; `oci:DIR` is a directory. `REPOSITORY/cache` of the first destination without it")),
    switch("cache-run-layers", CACHED),
    value("cache-ttl", Does::Is("--cache-ttl")),
    switch("cleanup", OWN_ROOT),
    switch("compressed-caching", CACHED),
    value("compression", Does::Own("`gzip`; others are `--output`'s `compression=`")),
    value("compression-level", Does::Ignored("layers are compressed at one level, so that they are the same bytes everywhere")),
    value("context", Does::Own("`dir://`, `tar://` (`tar://stdin` too), `git://`, `https://HOST/PATH.git`, an archive at `https://`, `s3://`, `gs://`")).short('c'),
    value("context-sub-path", Does::Own("the part of the context that is meant")),
    value("credential-helpers", Does::Ignored("all sources of credentials are asked, see docs/registries.md")),
    value("custom-platform", Does::Is("--platform")),
    value("customPlatform", Does::Is("--platform")),
    value("destination", Does::Own("`--tag`, and pushed unless `--no-push`")).short('d'),
    value("digest-file", Does::Is("--digest-file")),
    value("dockerfile", Does::Own("`--file`: seen from the current directory, else from the context; or a URL")).short('f'),
    switch("dryrun", Does::Own("`--call=outline`: what the build takes, and nothing is built")),
    switch("force", OWN_ROOT),
    switch("force-build-metadata", NO_MEANING),
    value("git", Does::Own("`branch=`, `recurse-submodules=`; `single-branch=` and `depth=` are always so; `insecure-skip-tls=`")),
    switch("help", Does::Own("lists the flags")).short('h'),
    value("ignore-path", OWN_ROOT),
    switch("ignore-var-run", OWN_ROOT),
    value("image-download-retry", RETRIES),
    value("image-format", Does::Own("`--format`; `docker` without it, as kaniko")),
    value("image-fs-extract-retry", RETRIES),
    value("image-name-tag-with-digest-file", Does::Is("--name-tag-digest-file")),
    value("image-name-with-digest-file", Does::Is("--name-digest-file")),
    switch("insecure", Does::Own("`--insecure-registry` of the destinations")),
    switch("insecure-pull", Does::Own("`--insecure-registry` of all registries")),
    value("insecure-registry", Does::Is("--insecure-registry")),
    value("kaniko-dir", OWN_ROOT),
    value("label", Does::Is("--label")),
    value("log-format", Does::Own("`json` is `--progress=rawjson`; `text` and `color` are as they are")),
    switch("log-timestamp", Does::Ignored("each line has its time since the start where it counts")),
    switch("materialize", OWN_ROOT),
    switch("no-push", Does::Own("nothing is pushed")),
    switch("no-push-cache", Does::Own("the cache is read and not written")),
    value("oci-layout-path", Does::Own("`--output type=oci,tar=false`")),
    switch("pre-cleanup", OWN_ROOT),
    switch("preserve-context", OWN_ROOT),
    switch("push-ignore-immutable-tag-errors", Does::Is("--ignore-immutable-tags")),
    value("push-retry", RETRIES),
    value("registry-certificate", Does::Own("`--registry-ca` of the file; it is trusted for all registries")),
    value("registry-client-cert", Does::Refused("put NAME.cert and NAME.key into /etc/docker/certs.d/HOST/")),
    value("registry-map", Does::Own("`--registry-map`, each of a list")),
    value("registry-mirror", Does::Is("--registry-mirror")),
    switch("reproducible", Does::Own("`SOURCE_DATE_EPOCH=0`, unless there is one, with `--rewrite-timestamp`")),
    value("secret", Does::Is("--secret")),
    switch("single-snapshot", Does::Ignored("each step has a layer of its own; the files are the same")),
    switch("skip-default-registry-fallback", Does::Refused("`blocked` in registries.conf keeps a registry from being asked")),
    switch("skip-push-permission-check", Does::Own("`--no-preflight`")),
    switch("skip-tls-verify", Does::Own("`--insecure-registry` of the destinations")),
    switch("skip-tls-verify-pull", Does::Own("`--insecure-registry` of all registries")),
    value("skip-tls-verify-registry", Does::Is("--insecure-registry")),
    switch("skip-unused-stages", ALWAYS),
    value("snapshot-mode", Does::Ignored("changes are found without reading what did not change")),
    value("snapshotMode", Does::Ignored("changes are found without reading what did not change")),
    value("tar-path", Does::Own("`--output type=docker`")),
    value("tarPath", Does::Own("`--output type=docker`")),
    value("target", Does::Own("`--target`; one")),
    switch("use-new-run", Does::Ignored("changes are found without reading what did not change")),
    value("verbosity", Does::Own("`panic`, `fatal` and `error` show failures only; others are as they are")).short('v'),
    switch("whitelist-var-run", OWN_ROOT),
];

/// Variables that say what flags say, or that have no meaning here.
pub const IGNORED_VARIABLES: [&str; 5] =
    ["KANIKO_DIR", "KANIKO_PRE_CLEANUP", "KANIKO_CLEANUP", "KANIKO_PRESERVE_CONTEXT", "KANIKO_TELEMETRY_ENDPOINT"];
