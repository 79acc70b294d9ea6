//! The flags of buildah's verbs, and what becomes of each.

use crate::cli::words::{Does, Flag, switch, value};

const STORAGE: Does = Does::Ignored("images are in dockless's own store, see `dockless info`");
const NAMESPACES: Does = Does::Ignored("dockless takes the isolation that works here, see `dockless doctor`");
const RESOURCES: Does = Does::Ignored("dockless sets no resource limits: the job's own hold");
const CAPABILITIES: Does = Does::Refused("capabilities are those of the sandbox");
const RESOLVER: Does = Does::Refused("steps have the resolver of the machine; --add-host names single hosts");
const FROM_BASE: Does = Does::Refused("the image keeps what its base says, as docker build has it");
const RETRIES: Does = Does::Ignored("requests that fail for a passing reason are tried five times anyway");
const COMPRESSION: Does =
    Does::Ignored("layers are compressed at one level, so that they are the same bytes everywhere");
const CERTIFICATES: Does =
    Does::Refused("put the files into /etc/containers/certs.d/HOST/, or name an authority with SSL_CERT_DIR");
const SIGNING: Does = Does::Refused("dockless signs nothing");
const ENCRYPTION: Does = Does::Refused("layers are not encrypted");
const NO_MEANING: Does = Does::Ignored("it has no meaning here");
const ATTESTATION: Does = Does::Ignored("no attestation is made yet");
const AUTHFILE: Does = Does::Own("`REGISTRY_AUTH_FILE`");
const TLS_VERIFY: Does = Does::Own("`false`: `--insecure-registry` of all registries");

/// Flags before the verb.
pub const GLOBAL: &[Flag] = &[
    value("cgroup-manager", NO_MEANING),
    switch("debug", NO_MEANING),
    switch("help", Does::Own("lists the verbs")).short('h'),
    value("log-level", NO_MEANING),
    value("registries-conf", Does::Own("`CONTAINERS_REGISTRIES_CONF`")),
    value("registries-conf-dir", Does::Refused("name one file with --registries-conf")),
    value("root", STORAGE),
    value("runroot", STORAGE),
    value("short-name-alias-conf", Does::Ignored("short names mean Docker Hub")),
    value("storage-driver", STORAGE),
    value("storage-opt", STORAGE),
    value("userns-gid-map", NAMESPACES),
    value("userns-uid-map", NAMESPACES),
    switch("version", Does::Own("the version")).short('v'),
];

/// Flags of `build`, `bud` and `build-using-dockerfile`.
pub const BUILD: &[Flag] = &[
    value("add-host", Does::Is("--add-host")),
    switch("all-platforms", Does::Refused("name the platforms with --platform")),
    value("annotation", Does::Is("--annotation")),
    value("arch", Does::Own("`--platform`'s architecture")),
    value("authfile", AUTHFILE),
    value("build-arg", Does::Is("--build-arg")),
    value("build-arg-file", Does::Own("each line of the file as `--build-arg`")),
    value("build-context", Does::Is("--build-context")),
    value("cache-from", Does::Own("`--cache-from type=registry`")),
    value("cache-to", Does::Own("`--cache-to type=registry`")),
    value("cache-ttl", Does::Is("--cache-ttl")),
    value("cap-add", CAPABILITIES),
    value("cap-drop", CAPABILITIES),
    value("cert-dir", CERTIFICATES),
    value("cgroup-parent", RESOURCES),
    value("cgroupns", NAMESPACES),
    switch("compat-volumes", Does::Refused("what a RUN writes into a VOLUME stays, as docker build has it")),
    switch("compress", COMPRESSION),
    value("compression-format", Does::Own("`gzip`")),
    value("compression-level", COMPRESSION),
    value("cpp-flag", Does::Refused("Dockerfiles go through no preprocessor")),
    value("cpu-period", RESOURCES),
    value("cpu-quota", RESOURCES),
    value("cpu-shares", RESOURCES).short('c'),
    value("cpuset-cpus", RESOURCES),
    value("cpuset-mems", RESOURCES),
    switch("created-annotation", Does::Ignored("no annotation is made unasked")),
    value("creds", Does::Is("--creds")),
    value("cw", Does::Refused("confidential images are not made")),
    value("decryption-key", ENCRYPTION),
    value("device", Does::Refused("devices are those of the sandbox")),
    switch("disable-compression", COMPRESSION).short('D'),
    switch("disable-content-trust", Does::Ignored("content trust is not checked")),
    value("dns", RESOLVER),
    value("dns-option", RESOLVER),
    value("dns-search", RESOLVER),
    value("env", Does::Refused("write ENV into the Dockerfile")),
    value("file", Does::Own("`--file`: seen from the current directory, else from the context; one")).short('f'),
    switch("force-compression", COMPRESSION),
    switch("force-rm", NO_MEANING),
    value("format", Does::Is("--format")),
    value("from", Does::Refused("use ARG in FROM")),
    value("group-add", Does::Refused("groups are those of USER")),
    value("hooks-dir", NO_MEANING),
    switch("http-proxy", Does::Ignored("the proxies of config.json are build arguments, as with docker build")),
    switch("identity-label", Does::Ignored("no label is made unasked")),
    value("ignorefile", Does::Refused("write FILE.dockerignore beside the Dockerfile FILE")),
    value("iidfile", Does::Is("--iidfile")),
    value("iidfile-raw", Does::Refused("--iidfile holds the algorithm, too")),
    switch("inherit-annotations", FROM_BASE),
    switch("inherit-labels", FROM_BASE),
    value("ipc", NAMESPACES),
    value("isolation", NAMESPACES),
    value("jobs", Does::Ignored("stages that do not wait for one another run at the same time")),
    value("label", Does::Is("--label")),
    value("layer-label", Does::Refused("layers have no labels")),
    switch("layers", Does::Ignored("every step is cached")),
    value("logfile", Does::Refused("redirect standard error")),
    switch("logsplit", Does::Refused("redirect standard error")),
    value("manifest", Does::Own("a name of the index, as `--tag`")),
    value("memory", RESOURCES).short('m'),
    value("memory-swap", RESOURCES),
    value("metadata-file", Does::Is("--metadata-file")),
    value("mount", Does::Refused("use RUN --mount")),
    value("network", Does::Own("`host`, `none`; `private` and `slirp4netns` are the machine's")),
    switch("no-cache", Does::Is("--no-cache")),
    switch("no-hostname", NO_MEANING),
    switch("no-hosts", NO_MEANING),
    switch("omit-history", Does::Refused("the history is part of the image")),
    value("os", Does::Own("`--platform`'s system")),
    value("os-feature", Does::Refused("it is of Windows images")),
    value("os-version", Does::Refused("it is of Windows images")),
    value("output", Does::Is("--output")).short('o'),
    value("pid", NAMESPACES),
    value("platform", Does::Is("--platform")),
    switch("pull", Does::Own("`always` is `--pull`; `missing` and `ifnewer` are as it is without; `never` is refused")),
    switch("pull-always", Does::Is("--pull")),
    switch("pull-never", Does::Refused("a base that is not in the store is pulled")),
    switch("quiet", Does::Is("--quiet")).short('q'),
    value("retry", RETRIES),
    value("retry-delay", RETRIES),
    switch("rewrite-timestamp", Does::Is("--rewrite-timestamp")),
    switch("rm", NO_MEANING),
    value("runtime", NAMESPACES),
    value("runtime-flag", NAMESPACES),
    switch("save-stages", Does::Refused("build each stage with --target")),
    value("sbom", ATTESTATION),
    value("sbom-image-output", ATTESTATION),
    value("sbom-image-purl-output", ATTESTATION),
    value("sbom-merge-strategy", ATTESTATION),
    value("sbom-output", ATTESTATION),
    value("sbom-purl-output", ATTESTATION),
    value("sbom-scanner-command", ATTESTATION),
    value("sbom-scanner-image", ATTESTATION),
    value("secret", Does::Is("--secret")),
    value("security-opt", NAMESPACES),
    value("shm-size", Does::Is("--shm-size")),
    value("sign-by", SIGNING),
    switch("skip-unused-stages", Does::Ignored("it is always so")),
    value("source-date-epoch", Does::Own("`SOURCE_DATE_EPOCH`")),
    value("source-policy-file", Does::Refused("policies are not evaluated")),
    switch("squash", Does::Refused("every step is a layer of its own")),
    value("ssh", Does::Is("--ssh")),
    switch("stage-labels", Does::Refused("stages are not kept")),
    switch("stdin", Does::Refused("steps have an empty standard input")),
    value("tag", Does::Is("--tag")).short('t'),
    value("target", Does::Is("--target")),
    value("timestamp", Does::Own("`SOURCE_DATE_EPOCH` with `--rewrite-timestamp`")),
    switch("tls-verify", TLS_VERIFY),
    value("ulimit", Does::Is("--ulimit")),
    value("unsetannotation", FROM_BASE),
    value("unsetenv", FROM_BASE),
    value("unsetlabel", FROM_BASE),
    value("userns", NAMESPACES),
    value("userns-gid-map", NAMESPACES),
    value("userns-gid-map-group", NAMESPACES),
    value("userns-uid-map", NAMESPACES),
    value("userns-uid-map-user", NAMESPACES),
    value("uts", NAMESPACES),
    value("variant", Does::Own("`--platform`'s variant")),
    value("volume", Does::Refused("use RUN --mount")).short('v'),
];

/// Flags of `push`.
pub const PUSH: &[Flag] = &[
    switch("all", Does::Own("all images of an index, which is always so")),
    value("authfile", AUTHFILE),
    value("cert-dir", CERTIFICATES),
    value("compression-format", Does::Own("`gzip`")),
    value("compression-level", COMPRESSION),
    value("creds", Does::Is("--creds")),
    value("digestfile", Does::Own("the digest, in a file")),
    switch("disable-compression", COMPRESSION).short('D'),
    value("encrypt-layer", ENCRYPTION),
    value("encryption-key", ENCRYPTION),
    switch("force-compression", COMPRESSION),
    value("format", Does::Refused("an image is pushed as it was built: `build --format`")).short('f'),
    switch("quiet", Does::Own("prints nothing")).short('q'),
    switch("remove-signatures", Does::Ignored("there are none")),
    value("retry", RETRIES),
    value("retry-delay", RETRIES),
    switch("rm", Does::Own("takes the local name away afterwards")),
    value("sign-by", SIGNING),
    switch("tls-verify", TLS_VERIFY),
];

/// Flags of `pull`.
pub const PULL: &[Flag] = &[
    switch("all-tags", Does::Is("--all-tags")).short('a'),
    value("arch", Does::Own("`--platform`'s architecture")),
    value("authfile", AUTHFILE),
    value("cert-dir", CERTIFICATES),
    value("creds", Does::Is("--creds")),
    value("decryption-key", ENCRYPTION),
    value("os", Does::Own("`--platform`'s system")),
    value("platform", Does::Is("--platform")),
    value("policy", Does::Own("`always`, `newer` and `missing` ask the registry; `never` is refused")),
    switch("quiet", NO_MEANING).short('q'),
    switch("remove-signatures", Does::Ignored("there are none")),
    value("retry", RETRIES),
    value("retry-delay", RETRIES),
    value("shared-size", NO_MEANING),
    switch("tls-verify", TLS_VERIFY),
    value("variant", Does::Own("`--platform`'s variant")),
];

/// Flags of `login` and `logout`.
pub const LOGIN: &[Flag] = &[
    switch("all", Does::Refused("name the registry")).short('a'),
    value("authfile", AUTHFILE),
    value("cert-dir", CERTIFICATES),
    switch("get-login", Does::Refused("`dockless info REGISTRY` tells whose credentials are found")),
    value("password", Does::Is("--password")).short('p'),
    switch("password-stdin", Does::Is("--password-stdin")),
    value("secret", Does::Refused("use --password-stdin")),
    switch("tls-verify", TLS_VERIFY),
    value("username", Does::Is("--username")).short('u'),
    switch("verbose", NO_MEANING).short('v'),
];

/// Flags of `images`.
pub const IMAGES: &[Flag] = &[
    switch("all", Does::Is("--all")).short('a'),
    switch("digests", Does::Is("--digests")),
    value("filter", Does::Is("--filter")).short('f'),
    value("format", Does::Is("--format")),
    switch("history", Does::Refused("use `dockless history`")),
    switch("json", Does::Own("`--format json`")),
    switch("no-trunc", Does::Is("--no-trunc")),
    switch("noheading", Does::Own("no head")).short('n'),
    switch("quiet", Does::Is("--quiet")).short('q'),
];

/// Flags of `rmi`.
pub const RMI: &[Flag] = &[
    switch("all", Does::Own("all images")).short('a'),
    switch("force", Does::Is("--force")).short('f'),
    switch("prune", Does::Refused("use `dockless cache prune`")).short('p'),
];

/// Flags of `inspect`.
pub const INSPECT: &[Flag] =
    &[value("format", Does::Is("--format")).short('f'), value("type", Does::Own("`image`")).short('t')];

/// Flags of `from`.
pub const FROM: &[Flag] = &[
    value("add-host", Does::Is("--add-host")),
    value("arch", Does::Refused("use --platform")),
    value("authfile", AUTHFILE),
    value("cap-add", CAPABILITIES),
    value("cap-drop", CAPABILITIES),
    value("cert-dir", CERTIFICATES),
    value("cidfile", Does::Is("--cidfile")),
    value("creds", Does::Refused("log in with `buildah login`")),
    value("device", Does::Refused("devices are those of the sandbox")),
    value("format", Does::Refused("an image that is committed is of its base's format")),
    value("isolation", NAMESPACES),
    value("memory", RESOURCES).short('m'),
    value("name", Does::Is("--name")),
    value("network", Does::Is("--network")),
    value("platform", Does::Is("--platform")),
    switch("pull", NO_MEANING),
    switch("pull-always", Does::Refused("pull first: `buildah pull`")),
    switch("quiet", NO_MEANING).short('q'),
    value("security-opt", NAMESPACES),
    value("shm-size", Does::Is("--shm-size")),
    switch("tls-verify", TLS_VERIFY),
    value("ulimit", Does::Is("--ulimit")),
    value("userns", NAMESPACES),
    value("volume", Does::Is("--volume")).short('v'),
];

/// Flags of `run`.
pub const RUN: &[Flag] = &[
    switch("add-history", NO_MEANING),
    value("cap-add", CAPABILITIES),
    value("cap-drop", CAPABILITIES),
    value("env", Does::Own("a variable of this command")).short('e'),
    value("hostname", NAMESPACES),
    value("isolation", NAMESPACES),
    value("mount", Does::Refused("name volumes with `from --volume`")),
    value("network", Does::Refused("name the network with `from --network`")),
    value("runtime", NAMESPACES),
    value("security-opt", NAMESPACES),
    switch("terminal", NO_MEANING).short('t'),
    switch("tty", NO_MEANING),
    value("user", Does::Own("the user of this command")).short('u'),
    value("volume", Does::Refused("name volumes with `from --volume`")).short('v'),
    value("workingdir", Does::Own("the directory of this command")),
];

/// Flags of `config`.
pub const CONFIG: &[Flag] = &[
    switch("add-history", NO_MEANING),
    value("annotation", Does::Refused("annotations are made by `build`")).short('a'),
    value("arch", Does::Refused("the platform is the base's")),
    value("author", Does::Refused("use `commit`")),
    value("cmd", Does::Own("CMD")),
    value("comment", Does::Refused("use `commit`")),
    value("created-by", Does::Refused("the history says which command was run")),
    value("domainname", Does::Refused("images have none")),
    value("entrypoint", Does::Own("ENTRYPOINT")),
    value("env", Does::Own("ENV")).short('e'),
    value("healthcheck", Does::Refused("write HEALTHCHECK into a Dockerfile")),
    value("hostname", Does::Refused("images have none")),
    value("label", Does::Own("LABEL")).short('l'),
    value("onbuild", Does::Own("ONBUILD")),
    value("os", Does::Refused("the platform is the base's")),
    value("port", Does::Own("EXPOSE")).short('p'),
    value("shell", Does::Refused("write SHELL into a Dockerfile")),
    value("stop-signal", Does::Own("STOPSIGNAL")),
    value("user", Does::Own("USER")).short('u'),
    value("volume", Does::Own("VOLUME")).short('v'),
    value("workingdir", Does::Own("WORKDIR")),
];

/// Flags of `copy`.
pub const COPY: &[Flag] = &[
    switch("add-history", NO_MEANING),
    value("chmod", Does::Refused("use `run` with chmod")),
    value("chown", Does::Own("the user, by name or number, that what is copied belongs to")),
    value("contextdir", Does::Own("what relative sources start from")),
    value("from", Does::Refused("a Dockerfile's COPY --from does it")),
    value("ignorefile", Does::Refused("name what is to be copied")),
    switch("quiet", NO_MEANING).short('q'),
];

/// Flags of `mount`.
pub const MOUNT: &[Flag] =
    &[switch("json", Does::Refused("a path is printed")), switch("notruncate", Does::Ignored("nothing is cut"))];

/// Flags of `umount`.
pub const UNMOUNT: &[Flag] = &[switch("all", Does::Ignored("nothing needs to be unmounted")).short('a')];

/// Flags of `commit`.
pub const COMMIT: &[Flag] = &[
    value("authfile", AUTHFILE),
    value("cert-dir", CERTIFICATES),
    value("creds", Does::Refused("log in with `buildah login`")),
    switch("disable-compression", COMPRESSION).short('D'),
    value("format", Does::Refused("an image that is committed is of its base's format")).short('f'),
    value("iidfile", Does::Refused("the ID is printed")),
    switch("quiet", NO_MEANING).short('q'),
    switch("rm", Does::Own("removes the container")),
    value("sign-by", SIGNING),
    switch("squash", Does::Refused("what the container changed is one layer on top of its base")),
    switch("tls-verify", TLS_VERIFY),
];

/// Flags of `rm`.
pub const RM: &[Flag] = &[switch("all", Does::Own("all containers")).short('a')];

/// Flags of `containers` and `ps`.
pub const CONTAINERS: &[Flag] = &[
    switch("all", NO_MEANING).short('a'),
    value("filter", Does::Is("--filter")).short('f'),
    value("format", Does::Is("--format")),
    switch("no-trunc", Does::Is("--no-trunc")),
    switch("quiet", Does::Is("--quiet")).short('q'),
];
