//! Names and IDs for containers and volumes that were given none.

use super::RunError;
use std::io;

const FIRST: [&str; 24] = [
    "amber", "brave", "brisk", "calm", "clever", "crisp", "eager", "fair", "gentle", "golden", "happy", "honest",
    "jolly", "keen", "lively", "lucky", "mellow", "nimble", "proud", "quiet", "rapid", "sunny", "tidy", "witty",
];
const SECOND: [&str; 24] = [
    "acorn", "badger", "birch", "bison", "comet", "crane", "falcon", "fern", "finch", "harbor", "heron", "lark",
    "lynx", "maple", "meadow", "otter", "pebble", "pine", "raven", "river", "robin", "spruce", "thistle", "willow",
];

fn random<const N: usize>() -> Result<[u8; N], RunError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("cannot get random numbers: {error}")))?;
    Ok(bytes)
}

/// An ID for a container that is to be made: 64 hexadecimal digits.
pub fn id() -> Result<String, RunError> {
    Ok(random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A name like `brave_otter` that is free; with a number behind it where such names run out.
pub(super) fn free(is_free: impl Fn(&str) -> bool) -> Result<String, RunError> {
    loop {
        let [first, second, number @ ..] = random::<4>()?;
        let name = format!("{}_{}", FIRST[first as usize % FIRST.len()], SECOND[second as usize % SECOND.len()]);
        let numbered = format!("{name}{}", u16::from_ne_bytes(number));
        for name in [name, numbered] {
            if is_free(&name) {
                return Ok(name);
            }
        }
    }
}
