//! `--output`: `type=oci,dest=image.tar`, a bare directory, or `-`, as `docker build` reads it.

use super::environment::Environment;
use crate::build::ExportEpoch;
use crate::oci::ImageFormat;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What to write beside the image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// In which form.
    pub kind: OutputKind,
    /// Where to.
    pub dest: Destination,
}

/// The form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// An OCI image layout in a tar archive.
    Oci,
    /// An OCI image layout in a directory.
    Layout,
    /// An archive that `docker load` takes.
    Docker,
    /// The files of the image, in a directory.
    Local,
    /// The files of the image, in a tar archive.
    Tar,
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// A file, or a directory for `local`; absolute.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// One `--output`, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// An output to write, if it is one that writes.
    pub output: Option<Output>,
    /// Push: `type=registry`, or `type=image,push=true`.
    pub push: bool,
    /// `registry.insecure=`: the names' registries may speak plain http or show any certificate.
    pub insecure: bool,
    /// `annotation.NAME=`, as `--annotation` has them.
    pub annotations: Vec<String>,
    /// `name=`: more names for the image.
    pub names: Vec<String>,
    /// `oci-mediatypes=`.
    pub format: Option<ImageFormat>,
    /// `rewrite-timestamp=true`.
    pub rewrite_timestamp: bool,
    /// `source-date-epoch=`; empty is none.
    pub export_epoch: Option<ExportEpoch>,
}

/// Why an `--output` cannot be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// No `type=`.
    #[error("--output '{0}' has no type: expected type=oci, docker, local, tar, image or registry")]
    NoType(String),
    /// An unknown type.
    #[error("--output type '{0}' is unknown: expected oci, docker, local, tar, image or registry")]
    UnknownType(String),
    /// A part without `=`.
    #[error("--output: '{0}' is not of the form key=value")]
    NotAPair(String),
    /// A key that is not there yet, or a value of it.
    #[error("--output {0} is not supported yet: it would change the result, so it is not ignored")]
    NotYet(String),
    /// A value that is not true or false.
    #[error("--output {0}={1}: expected true or false")]
    NotABool(String, String),
    /// A time that is none.
    #[error("--output source-date-epoch={0}: expected seconds since 1970")]
    NotATime(String),
    /// An output that writes, without a place to write to.
    #[error("--output type={0} needs dest=PATH")]
    NoDestination(String),
    /// `dest` where nothing is written, or a directory to standard output.
    #[error("--output type={0} cannot write to '{1}'")]
    WrongDestination(String, String),
    /// A quoted part that does not end.
    #[error("--output '{0}' has a quote that does not end")]
    OpenQuote(String),
}

/// Reads the value of one `--output`.
pub fn parse(text: &str, environment: &Environment) -> Result<Request, OutputError> {
    let parts = fields(text)?;
    if let [only] = parts.as_slice()
        && !only.contains('=')
    {
        let (kind, dest) = match only.as_str() {
            "-" => (OutputKind::Tar, Destination::Stdout),
            path => (OutputKind::Local, Destination::Path(environment.absolute(path))),
        };
        return Ok(Request { output: Some(Output { kind, dest }), ..Request::default() });
    }
    let (mut request, mut kind, mut dest, mut tar) = (Request::default(), None, None, true);
    for part in &parts {
        let (key, value) = part.split_once('=').ok_or_else(|| OutputError::NotAPair(part.clone()))?;
        let flag = || value.parse::<bool>().map_err(|_| OutputError::NotABool(key.into(), value.into()));
        match key.trim().to_ascii_lowercase().as_str() {
            "type" => kind = Some(value.to_string()),
            "dest" => dest = Some(value.to_string()),
            "name" => request.names = value.split(',').map(str::to_string).collect(),
            "push" => request.push = flag()?,
            "oci-mediatypes" => {
                request.format = Some(if flag()? { ImageFormat::Oci } else { ImageFormat::Docker });
            }
            "rewrite-timestamp" => request.rewrite_timestamp = flag()?,
            "source-date-epoch" => request.export_epoch = Some(export_epoch(value)?),
            "tar" => tar = flag()?,
            // Names in the local store are always given.
            "unpack" | "store" => _ = flag()?,
            "registry.insecure" => request.insecure = flag()?,
            key if key.starts_with("annotation") => {
                let (place, name) = key.split_once('.').ok_or_else(|| OutputError::NotYet(part.clone()))?;
                let place = place.strip_prefix("annotation").unwrap_or_default();
                request
                    .annotations
                    .push(format!("{}{name}={value}", annotated(place).ok_or(OutputError::NotYet(part.clone()))?));
            }
            "compression" if value == "gzip" => {}
            "force-compression" if !flag()? => {}
            _ => return Err(OutputError::NotYet(part.clone())),
        }
    }
    let kind = kind.ok_or_else(|| OutputError::NoType(text.into()))?;
    let writes = match kind.as_str() {
        "oci" if tar => OutputKind::Oci,
        "oci" => OutputKind::Layout,
        _ if !tar => return Err(OutputError::NotYet("tar=false".into())),
        "docker" => OutputKind::Docker,
        "local" => OutputKind::Local,
        "tar" => OutputKind::Tar,
        "image" | "registry" => {
            request.push |= kind == "registry";
            return match dest {
                Some(dest) => Err(OutputError::WrongDestination(kind, dest)),
                None => Ok(request),
            };
        }
        _ => return Err(OutputError::UnknownType(kind)),
    };
    let dest = match (dest.as_deref(), writes) {
        // `type=docker` alone loads into the local store, where the image is anyway.
        (None, OutputKind::Docker) => return Ok(request),
        (None, _) => return Err(OutputError::NoDestination(kind)),
        (Some("-"), OutputKind::Local | OutputKind::Layout) => {
            return Err(OutputError::WrongDestination(kind, "-".into()));
        }
        (Some("-"), _) => Destination::Stdout,
        (Some(path), _) => Destination::Path(environment.absolute(path)),
    };
    request.output = Some(Output { kind: writes, dest });
    Ok(request)
}

/// What `--annotation` calls the place of `annotation[…].NAME`, or `annotation-PLACE.NAME`.
fn annotated(place: &str) -> Option<String> {
    if let Some(platform) = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(format!("manifest[{platform}]:"));
    }
    match place {
        "" => Some(String::new()),
        "-index" => Some("index:".into()),
        "-manifest" => Some("manifest:".into()),
        "-manifest-descriptor" => Some("manifest-descriptor:".into()),
        _ => None,
    }
}

fn export_epoch(value: &str) -> Result<ExportEpoch, OutputError> {
    match value.parse() {
        Ok(seconds) if seconds >= 0 => Ok(ExportEpoch::Seconds(seconds)),
        _ if value.is_empty() => Ok(ExportEpoch::None),
        _ => Err(OutputError::NotATime(value.into())),
    }
}

/// The fields of one line of CSV (RFC 4180): a field in double quotes may hold commas, a doubled quote is a quote.
pub(super) fn fields(text: &str) -> Result<Vec<String>, OutputError> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(OutputError::OpenQuote(text.into()));
    }
    out.push(field);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Request, OutputError> {
        parse(text, &Environment::of(&[], Path::new("/cwd")))
    }

    fn writes(kind: OutputKind, dest: Destination) -> Request {
        Request { output: Some(Output { kind, dest }), ..Request::default() }
    }

    #[test]
    fn reads_what_docker_reads() {
        let file = |path: &str| Destination::Path(PathBuf::from(path));
        let cases = [
            ("out", writes(OutputKind::Local, file("/cwd/out"))),
            ("-", writes(OutputKind::Tar, Destination::Stdout)),
            ("type=oci,dest=a.tar", writes(OutputKind::Oci, file("/cwd/a.tar"))),
            ("type=docker,dest=-", writes(OutputKind::Docker, Destination::Stdout)),
            ("type=docker", Request::default()),
            ("type=oci,tar=false,dest=dir", writes(OutputKind::Layout, file("/cwd/dir"))),
            (
                "type=image,annotation.a=b,annotation-index.c=d,registry.insecure=true,unpack=true",
                Request { insecure: true, annotations: vec!["a=b".into(), "index:c=d".into()], ..Request::default() },
            ),
            ("type=local,dest=/abs", writes(OutputKind::Local, file("/abs"))),
            ("type=tar,\"dest=a,b.tar\"", writes(OutputKind::Tar, file("/cwd/a,b.tar"))),
            ("type=registry", Request { push: true, ..Request::default() }),
            (
                "type=image,\"name=a,b\",push=true,oci-mediatypes=false,rewrite-timestamp=true,source-date-epoch=",
                Request {
                    push: true,
                    names: vec!["a".into(), "b".into()],
                    format: Some(ImageFormat::Docker),
                    rewrite_timestamp: true,
                    export_epoch: Some(ExportEpoch::None),
                    ..Request::default()
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let cases = [
            ("dest=x", "--output 'dest=x' has no type: expected type=oci, docker, local, tar, image or registry"),
            ("type=zip,dest=x", "--output type 'zip' is unknown: expected oci, docker, local, tar, image or registry"),
            ("type=oci", "--output type=oci needs dest=PATH"),
            ("type=oci,x", "--output: 'x' is not of the form key=value"),
            ("type=local,dest=-", "--output type=local cannot write to '-'"),
            ("type=image,dest=x", "--output type=image cannot write to 'x'"),
            ("type=image,source-date-epoch=x", "--output source-date-epoch=x: expected seconds since 1970"),
            ("type=image,push=yes", "--output push=yes: expected true or false"),
            (
                "type=image,compression=zstd",
                "--output compression=zstd is not supported yet: it would change the result, so it is not ignored",
            ),
            ("type=oci,\"dest=x", "--output 'type=oci,\"dest=x' has a quote that does not end"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        }
    }
}
