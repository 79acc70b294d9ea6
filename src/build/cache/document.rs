//! The form in which records of steps leave this machine.
//!
//! A [`Document`] is the field [`FIELD`] of an image config: of every image that dockless builds, where it holds what an
//! unchanged build needs to find the image's layers again, and of caches, which are images too (`cache::carrier`). The config
//! is what stays with an image on every way it can go: registries, `docker save`, and tools that copy manifest, config
//! and layers and nothing else.
//!
//! It holds digests, times and names of layers. A value that went into a key is in it by the key's digest alone; there is
//! no host path, no argument and no secret in it. Layers are named by their DiffID, because whoever pushes an image may
//! compress them anew; the manifest beside the config says which blob that is.
//!
//! Whatever is wrong with a document makes it an error here and a warning above: nothing is taken from it.

use super::details;
use super::makings::Makings;
use crate::build::record::Sight;
use crate::oci::{ContentDigest, DiffId, Digest};
use serde::{Deserialize, Serialize};

/// The field of an image config that holds a document.
pub const FIELD: &str = "dockless.cache";
/// What this version writes and reads. Raised when a reader of an earlier version could take a record for another.
pub const VERSION: u32 = 1;
/// Bytes that a config with a document may have.
pub const BYTES: usize = 16 << 20;
/// Entries that each list of a document may have.
pub const ENTRIES: usize = 50_000;
/// Bytes that a text in it may have.
const TEXT: usize = 512;

/// Why there is nothing to be had from a document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// More bytes than one may have.
    #[error("it has {0} bytes, more than a cache's record may have")]
    TooLong(usize),
    /// More entries than one may have.
    #[error("it has {0} entries, more than a cache's record may have")]
    TooMany(usize),
    /// Not JSON, or not of this form.
    #[error("it cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// Of a later version.
    #[error("it was written by a later version of dockless (format {0}, this one reads {VERSION})")]
    Newer(u32),
    /// A time that is none.
    #[error("'{0}' is no time")]
    Time(String),
    /// The details of its steps.
    #[error("the details of its steps cannot be read")]
    Details,
    /// A text that is longer than any that is written.
    #[error("it holds a text of {0} bytes")]
    Text(usize),
}

/// What a document is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// An image that somebody built.
    Image,
    /// A cache, which may be written anew.
    Cache,
}

/// What is known of steps, of the trees they read and of what they keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`] of whoever wrote it.
    pub version: u32,
    /// What it is part of.
    pub carrier: Carrier,
    /// Results of steps, by their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<KnownStep>,
    /// What was selected in trees that need not be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selections: Vec<KnownSelection>,
    /// Lists of layers' files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<KnownList>,
    /// What cache mounts held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<KnownMount>,
    /// Details of the steps, packed: only while it is read.
    #[serde(default, skip_serializing)]
    details: Option<String>,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownStep {
    /// Digest of its cache key.
    pub key: Digest,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What it made; `None` for an instruction that changes the config alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<KnownLayer>,
    /// When it was last of use, in seconds since 1970; in caches alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<i64>,
    /// What it was made of; packed with the others' in [`Document::encode`].
    #[serde(skip)]
    pub makings: Option<Makings>,
    /// What it saw of the tree below; packed too.
    #[serde(skip)]
    pub saw: Option<Sight>,
}

/// A layer that is one of the carrier's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLayer {
    /// Which one.
    pub diff_id: DiffId,
    /// Digest of its content without times.
    pub content: ContentDigest,
}

/// What a COPY or a mount selects in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSelection {
    /// Digest of the tree's definition and of what is selected in it.
    pub key: Digest,
    /// What stands for it in a step's key.
    pub selected: String,
    /// As in [`KnownStep::used`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<i64>,
    /// Steps that made the tree: as long as what is selected in it is of use, so are they.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Digest>,
}

/// Where the list of a layer's files is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownList {
    /// The layer, which need not be one of the carrier's.
    pub of: DiffId,
    /// The carrier's layer that holds the list.
    pub holder: DiffId,
    /// As in [`KnownStep::used`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<i64>,
}

/// What a cache mount held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownMount {
    /// Digest of what makes it another one than others.
    pub key: Digest,
    /// The carrier's layers that hold its pieces, in order.
    pub pieces: Vec<DiffId>,
    /// As in [`KnownStep::used`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<i64>,
}

impl Document {
    /// One without anything in it.
    pub fn new(carrier: Carrier) -> Self {
        let (steps, selections) = (Vec::new(), Vec::new());
        let (lists, mounts, details) = (Vec::new(), Vec::new(), None);
        Document { version: VERSION, carrier, steps, selections, lists, mounts, details }
    }

    /// The document as the value of its field.
    pub fn encode(&self) -> serde_json::Value {
        // Digests, times and numbers: always JSON.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        let limit = match self.carrier {
            Carrier::Image => details::OF_IMAGE,
            Carrier::Cache => details::OF_CACHE,
        };
        if let (Some(details), Some(fields)) = (details::pack(&self.steps, limit), value.as_object_mut()) {
            fields.insert("details".to_string(), details.into());
        }
        value
    }

    /// The document in the bytes of an image config; `None` where the config has none.
    pub fn decode(config: &[u8]) -> Result<Option<Document>, DocumentError> {
        if config.len() > BYTES {
            return Err(DocumentError::TooLong(config.len()));
        }
        let Config { field } = serde_json::from_slice(config)?;
        let Some(field) = field else { return Ok(None) };
        // A later version may have another form: its number is looked at before anything else is.
        let Version { version } = serde_json::from_str(field.get())?;
        if version > VERSION {
            return Err(DocumentError::Newer(version));
        }
        let mut document: Document = serde_json::from_str(field.get())?;
        document.check()?;
        if let Some(text) = document.details.take() {
            details::unpack(&text, &mut document.steps).ok_or(DocumentError::Details)?;
        }
        Ok(Some(document))
    }

    fn check(&self) -> Result<(), DocumentError> {
        let pieces = self.mounts.iter().map(|mount| mount.pieces.len()).sum();
        let makers = self.selections.iter().map(|selection| selection.steps.len()).sum();
        for entries in [self.steps.len(), self.selections.len(), self.lists.len(), self.mounts.len(), pieces, makers] {
            if entries > ENTRIES {
                return Err(DocumentError::TooMany(entries));
            }
        }
        for step in &self.steps {
            if humantime::parse_rfc3339(&step.created).is_err() {
                return Err(DocumentError::Time(step.created.chars().take(40).collect()));
            }
        }
        match self.selections.iter().find(|selection| selection.selected.len() > TEXT) {
            Some(long) => Err(DocumentError::Text(long.selected.len())),
            None => Ok(()),
        }
    }
}

/// The one field of a config that counts here, unread.
#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow, default, rename = "dockless.cache")]
    field: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Document {
        let digest = |text: &str| Digest::sha256(text);
        let layer = KnownLayer { diff_id: DiffId::new(digest("diff")), content: ContentDigest::new(digest("content")) };
        let created = "2026-01-02T03:04:05Z".to_string();
        Document {
            steps: vec![KnownStep {
                key: digest("key"),
                created,
                layer: Some(layer),
                used: Some(5),
                makings: None,
                saw: None,
            }],
            selections: vec![KnownSelection {
                key: digest("s"),
                selected: "x".into(),
                used: None,
                steps: vec![digest("key")],
            }],
            lists: vec![KnownList { of: DiffId::new(digest("a")), holder: DiffId::new(digest("b")), used: None }],
            mounts: vec![KnownMount { key: digest("m"), pieces: vec![DiffId::new(digest("p"))], used: Some(1) }],
            ..Document::new(Carrier::Cache)
        }
    }

    fn config(document: &str) -> Vec<u8> {
        format!(r#"{{"os":"linux","{FIELD}":{document}}}"#).into_bytes()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let text = serde_json::to_string(&full()).unwrap();
        assert_eq!(Document::decode(&config(&text)).unwrap(), Some(full()));
        assert_eq!(Document::decode(br#"{"os":"linux"}"#).unwrap(), None);
        assert_eq!(Document::decode(&config("null")).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let text = serde_json::to_string(&full()).unwrap();
        // Torn anywhere.
        let whole = config(&text);
        for length in 0..whole.len() {
            assert!(Document::decode(&whole[..length]).is_err(), "{length}");
        }
        let many = format!(r#"{{"version":1,"carrier":"cache","selections":[{}]}}"#, {
            let one = format!(r#"{{"key":"{}","selected":""}}"#, Digest::sha256(""));
            vec![one; ENTRIES + 1].join(",")
        });
        let cases = [
            ("5", "cannot be read"),
            ("{}", "cannot be read"),
            (r#"{"version":2,"shape":"unknown"}"#, "later version"),
            (r#"{"version":1,"carrier":"boat"}"#, "cannot be read"),
            (&text.replace("2026-01-02", "2026-13-02"), "no time"),
            (&text.replace("sha256:", "md5:"), "cannot be read"),
            (&text.replace(r#""x""#, &format!(r#""{}""#, "x".repeat(TEXT + 1))), "text of 513 bytes"),
            (&many, "50001 entries"),
        ];
        for (document, expected) in cases {
            let error = Document::decode(&config(document)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}: {}", &document[..document.len().min(100)]);
        }
        assert!(matches!(Document::decode(&vec![b' '; BYTES + 1]), Err(DocumentError::TooLong(_))));
    }
}
