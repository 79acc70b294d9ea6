use super::*;
use crate::cli::words;

fn line(text: &str, variables: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let words: Vec<String> = text.split_whitespace().map(String::from).collect();
    let work = || {
        let given = words::read(&[FLAGS], &words, false)?;
        let environment = Environment::of(variables, Path::new("/"));
        let own = [outputs(&given, &environment)?, cache(&given)?, trust(&given)?, rest(&given, &environment)?];
        Ok([own.concat(), given.ours].concat())
    };
    work().map_err(|error: Box<crate::ui::Diagnostic>| error.message)
}

#[test]
fn flags_become_ours() {
    let table: &[(&str, &[&str])] = &[
        ("-d r.io/a:1 --destination=r.io/a:2", &["--tag=r.io/a:1", "--tag=r.io/a:2", "--push", "--format=docker"]),
        ("--no-push", &["--format=docker"]),
        ("-d r.io/a:1 --cache=true", &["--tag=r.io/a:1", "--push", "--format=docker", "--cache=true"]),
        ("--no-push --cache --cache-repo oci:/c", &["--format=docker", "--cache-from=type=local,src=/c"]),
        (
            "-d h:5000/a --insecure --skip-tls-verify-pull --registry-map=a=b;c=d",
            &[
                "--tag=h:5000/a",
                "--push",
                "--format=docker",
                "--insecure-registry=h:5000",
                "--insecure-registry=*",
                "--registry-map=a=b",
                "--registry-map=c=d",
            ],
        ),
        (
            "-d a --no-push --tarPath=x,y.tar --image-format oci --reproducible --digest-file d",
            &[
                "--tag=a",
                "--output=type=docker,\"dest=x,y.tar\"",
                "--format=oci",
                "--rewrite-timestamp",
                "--build-arg=SOURCE_DATE_EPOCH=0",
                "--digest-file",
                "d",
            ],
        ),
        ("--no-push --verbosity error --target x", &["--format=docker", "--target=x", "--progress=quiet"]),
    ];
    for (text, expected) in table {
        assert_eq!(
            line(text, &[]).as_deref(),
            Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{text}"
        );
    }
    assert_eq!(line("-d a", &[("KANIKO_NO_PUSH", "true")]).unwrap(), ["--tag=a", "--format=docker"]);
    assert_eq!(line("--no-push --annotation a=b", &[]).unwrap(), ["--format=oci", "--annotation", "a=b"]);
}

#[test]
fn what_cannot_be_done_is_named() {
    for (text, message) in [
        ("", "you must provide --destination, or use --no-push"),
        ("--no-push --tar-path x", "--tar-path needs the name that the image has in the archive: --destination"),
        ("--no-push --compression=zstd", "--compression=zstd is not supported: layers are compressed with gzip"),
        ("--no-push --target a,b", "--target: one stage is built at a time"),
        ("--no-push --cache", "--cache needs a place: --cache-repo, or --destination"),
    ] {
        assert_eq!(line(text, &[]), Err(message.to_string()), "{text}");
    }
}
