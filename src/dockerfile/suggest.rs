//! The nearest name to one that does not exist.

/// More edits than this are a different word.
const MAX_DISTANCE: usize = 2;

/// The candidate with the fewest edits to `word`, at most two; of several the first. `None` where `word` is a candidate
/// itself: then something else is wrong.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    let mut best = None;
    for candidate in candidates {
        let other: Vec<char> = candidate.chars().collect();
        if other.len().abs_diff(word.len()) > MAX_DISTANCE {
            continue;
        }
        match distance(&word, &other) {
            0 => return None,
            edits if edits <= best.map_or(MAX_DISTANCE, |(fewest, _)| fewest - 1) => best = Some((edits, candidate)),
            _ => {}
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// [`nearest`] without regard to case; the answer is in lower or upper case if all of `word` is.
pub fn nearest_ignoring_case<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = word.to_lowercase();
    let lowered: Vec<String> = candidates.into_iter().map(str::to_lowercase).collect();
    let found = nearest(&lower, lowered.iter().map(String::as_str))?;
    Some(if word == word.to_uppercase() { found.to_uppercase() } else { found.to_string() })
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_within_two_edits() {
        let names = ["RUN", "COPY", "CMD"];
        assert_eq!(nearest("RUM", names), Some("RUN"));
        assert_eq!(nearest("COPPY", names), Some("COPY"));
        assert_eq!(nearest("COP", names), Some("COPY"));
        assert_eq!(nearest("XCOPPYX", names), None);
        assert_eq!(nearest("RUN", names), None, "not a spelling mistake");
        assert_eq!(nearest_ignoring_case("coppy", names), Some("copy".to_string()));
        assert_eq!(nearest_ignoring_case("CoPPY", names), Some("copy".to_string()));
    }
}
