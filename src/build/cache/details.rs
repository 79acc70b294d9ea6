//! What a document says of its steps beyond their results: what they were made of ([`Makings`]), and what they saw of the
//! tree below them ([`Sight`]). Steps of one file say much the same, so all of it is packed as one.
//!
//! Details help and are not needed: where they are too large, names of files are left out first, and then all.

use super::document::KnownStep;
use super::makings::Makings;
use crate::build::record::Sight;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Bytes that the details of an image may have, packed.
pub const OF_IMAGE: usize = 256 << 10;
/// The same of a cache, with the steps of many builds.
pub const OF_CACHE: usize = 4 << 20;
/// Bytes that they may unpack to.
const UNPACKED: u64 = 32 << 20;
/// One that takes no time: what is alike is close together.
const LEVEL: i32 = 3;

/// The details of one step.
#[derive(Serialize)]
struct Detail<'a> {
    #[serde(rename = "s")]
    step: usize,
    #[serde(rename = "m", skip_serializing_if = "Option::is_none")]
    makings: Option<&'a Makings>,
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    saw: Option<&'a Sight>,
}

/// The same as it is read.
#[derive(Deserialize)]
struct Found {
    #[serde(rename = "s")]
    step: usize,
    #[serde(rename = "m", default)]
    makings: Option<Makings>,
    #[serde(rename = "o", default)]
    saw: Option<Sight>,
}

/// The details of `steps` in at most `limit` bytes of text; `None` where there are none, or too many.
pub fn pack(steps: &[KnownStep], limit: usize) -> Option<String> {
    packed(steps, limit).or_else(|| {
        let mut steps = steps.to_vec();
        steps.iter_mut().filter_map(|step| step.makings.as_mut()).for_each(Makings::without_names);
        packed(&steps, limit)
    })
}

fn packed(steps: &[KnownStep], limit: usize) -> Option<String> {
    let detailed = steps.iter().enumerate().filter(|(_, known)| known.makings.is_some() || known.saw.is_some());
    let all = detailed.map(|(step, KnownStep { makings, saw, .. })| (step, makings.as_ref(), saw.as_ref()));
    let all: Vec<Detail> = all.map(|(step, makings, saw)| Detail { step, makings, saw }).collect();
    if all.is_empty() {
        return None;
    }
    let bytes = serde_json::to_vec(&all).ok().filter(|bytes| (bytes.len() as u64) < UNPACKED)?;
    seal(&bytes).filter(|text| text.len() <= limit)
}

/// Bytes in the form that stands in a document.
pub fn seal(bytes: &[u8]) -> Option<String> {
    Some(STANDARD.encode(zstd::encode_all(bytes, LEVEL).ok()?))
}

/// Gives `steps` the details in `text`; `None` where it is not what [`pack`] makes.
pub fn unpack(text: &str, steps: &mut [KnownStep]) -> Option<()> {
    let packed = STANDARD.decode(text).ok()?;
    let mut bytes = Vec::new();
    zstd::Decoder::new(&packed[..]).ok()?.take(UNPACKED).read_to_end(&mut bytes).ok()?;
    let all: Vec<Found> = serde_json::from_slice(&bytes).ok()?;
    for Found { step, makings, saw } in all {
        let step = steps.get_mut(step)?;
        (step.makings, step.saw) = (makings, saw);
    }
    Some(())
}
