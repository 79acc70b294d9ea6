//! Why a step was not in the cache.

use super::place::{Caller, Place};
use crate::support::registry::Registry;

/// What the log of a build says of its misses, each with its step's number left out.
#[track_caller]
fn misses(place: &Place, words: &str) -> Vec<String> {
    let ran = place.dockless(&format!("build --progress=plain {words} context")).succeeded();
    ran.stderr.lines().filter_map(|line| line.split_once(" MISS ")).map(|(_, why)| why.to_string()).collect()
}

#[test]
fn the_first_thing_that_differs_is_named() {
    let (registry, place) = (Registry::start(), Place::new(Caller::Own));
    let base = registry.put_base("busybox");
    let file = |args: &str, run: &str, env: &str| {
        let text = format!("FROM {base}\n{args}\nCOPY src /src\nENV {env}\nRUN {run}\nCOPY late /late\n");
        place.file("Dockerfile", text);
    };
    place.file("src/a", "1").file("src/b", "2").file("late", "");
    file("ARG V=1.2\nARG TOKEN", "echo $V", "E=1");
    let nothing = "nothing like it was made before";
    assert_eq!(misses(&place, ""), [nothing; 3]);
    assert_eq!(misses(&place, ""), [""; 0]);
    // A changed file; the step after it runs on another tree.
    place.file("src/b", "3");
    let below = "what it is built on changed";
    assert_eq!(misses(&place, ""), ["file src/b changed", below, below]);
    place.file("src/c", "").file("src/a", "x");
    assert_eq!(misses(&place, "")[0], "file src/a changed, and 1 more");
    // An argument, a variable, the command; a secret's value stays unsaid. Their results are the same: what follows hits.
    assert_eq!(misses(&place, "--build-arg V=1.3"), ["ARG V: 1.2 -> 1.3"]);
    let secret = misses(&place, "--build-arg V=1.3 --build-arg TOKEN=hush-hush");
    assert_eq!(secret, ["ARG TOKEN changed"]);
    file("ARG V=1.2\nARG TOKEN", "echo $V", "E=2");
    assert_eq!(misses(&place, ""), ["ENV E: 1 -> 2"]);
    file("ARG V=1.2\nARG TOKEN", "echo $V again", "E=2");
    let command = "the command changed from `/bin/sh -c echo $V` to `/bin/sh -c echo $V again`";
    assert_eq!(misses(&place, ""), [command]);
    assert_eq!(misses(&place, "--no-cache"), ["the cache was not asked (--no-cache)"; 3]);
    // A step before it moves its place, not its words.
    file("ARG V=1.2\nARG TOKEN\nCOPY late /new", "echo $V again", "E=2");
    assert_eq!(misses(&place, "")[1..], [below, below, below]);
    // The same as JSON.
    place.file("late", "new");
    let ran = place.dockless("build --progress=rawjson context").succeeded();
    let missed: Vec<serde_json::Value> = ran
        .stderr
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "missed")
        .collect();
    let why: Vec<&str> = missed.iter().filter_map(|event| event["why"].as_str()).collect();
    assert_eq!(why, ["file late changed", below, below, below]);
}
