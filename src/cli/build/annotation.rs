//! `--annotation`: `[PLACE[,PLACE]:]NAME=VALUE`, as buildx reads it.

use crate::build::{AnnotatedPlace, Annotation};
use crate::cli::{Outcome, usage};

/// One `--annotation`: an [`Annotation`] for each place that it names; the manifest where it names none.
pub(super) fn annotations(text: &str) -> Outcome<Vec<Annotation>> {
    let wrong = |why: &str| usage(format!("--annotation '{text}': {why}"));
    let (head, value) = text.split_once('=').ok_or_else(|| wrong("expected NAME=VALUE"))?;
    // A name may hold a colon itself; what stands before one is a list of places only where each of them is one.
    let (places, name) = match head.split_once(':') {
        Some((list, name)) if list.split(',').all(|word| is_place(bare(word))) => (list, name),
        _ => ("manifest", head),
    };
    if name.is_empty() {
        return Err(wrong("expected NAME=VALUE"));
    }
    let annotation = |word: &str| {
        let place = match bare(word) {
            "manifest" => AnnotatedPlace::Manifest,
            "index" => AnnotatedPlace::Index,
            "manifest-descriptor" => AnnotatedPlace::ManifestDescriptor,
            _ => return Err(wrong("nothing points at an index here: expected manifest, index or manifest-descriptor")),
        };
        let platform = word.split_once('[').map(|(_, rest)| rest.trim_end_matches(']'));
        let platform = platform.map(|text| text.parse().map_err(|error| wrong(&format!("{error}")))).transpose()?;
        if place == AnnotatedPlace::Index && platform.is_some() {
            return Err(wrong("an index has no platform"));
        }
        Ok(Annotation { place, platform, name: name.to_string(), value: value.to_string() })
    };
    places.split(',').map(annotation).collect()
}

/// A place without the platform in brackets.
fn bare(word: &str) -> &str {
    word.split('[').next().unwrap_or(word)
}

fn is_place(word: &str) -> bool {
    matches!(word, "manifest" | "index" | "manifest-descriptor" | "index-descriptor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_platforms() {
        let read = |text: &str| {
            let read = annotations(text).map_err(|diagnostic| diagnostic.message)?;
            let shown = |one: Annotation| {
                let platform = one.platform.map(|platform| platform.to_string()).unwrap_or_default();
                format!("{:?} {platform} {}={}", one.place, one.name, one.value)
            };
            Ok::<_, String>(read.into_iter().map(shown).collect::<Vec<_>>().join("; "))
        };
        for (text, expected) in [
            ("a.b=c=d", "Manifest  a.b=c=d"),
            ("manifest:a=b", "Manifest  a=b"),
            ("index,manifest-descriptor:a=b", "Index  a=b; ManifestDescriptor  a=b"),
            ("manifest[linux/arm]:a=b", "Manifest linux/arm/v7 a=b"),
            ("urn:x=b", "Manifest  urn:x=b"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected));
        }
        for (text, expected) in [
            ("a", "--annotation 'a': expected NAME=VALUE"),
            ("index:=b", "--annotation 'index:=b': expected NAME=VALUE"),
            ("index[linux/arm]:a=b", "--annotation 'index[linux/arm]:a=b': an index has no platform"),
            (
                "index-descriptor:a=b",
                "--annotation 'index-descriptor:a=b': nothing points at an index here: expected manifest, index or \
                 manifest-descriptor",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
    }
}
