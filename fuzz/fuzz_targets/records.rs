//! Any bytes are a record or none: what images and caches carry, what the store keeps of steps and of a context's files. What
//! is read is written as it was, and of what steps saw a tree can be made.
#![no_main]

use dockless::build::cache::details::seal;
use dockless::build::cache::document::{Document, FIELD};
use dockless::build::record::StepRecord;
use dockless::context::{EmptyTree, SourceTree, Stats};
use dockless::rootfs::{GlimpsedTree, Ground, Watched};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    document(bytes);
    if let Some(details) = seal(bytes) {
        let key = format!("sha256:{}", "5".repeat(64));
        let step = serde_json::json!({"key": key, "created": "2026-01-02T03:04:05Z"});
        let fields = serde_json::json!({"version": 1, "carrier": "image", "steps": [step], "details": details});
        document(&serde_json::to_vec(&serde_json::json!({ FIELD: fields })).unwrap());
    }
    if let Some(record) = StepRecord::decode(bytes) {
        assert_eq!(StepRecord::decode(&record.encode()), Some(record));
    }
    // Nothing was learnt, so there is nothing to write.
    assert_eq!(Stats::decode(bytes).encode(), None);
});

fn document(config: &[u8]) {
    let Ok(Some(document)) = Document::decode(config) else { return };
    let config = serde_json::to_vec(&serde_json::json!({ FIELD: document.encode() })).unwrap();
    assert_eq!(Document::decode(&config).unwrap().as_ref(), Some(&document));
    let glimpses: Vec<_> = document.steps.iter().filter_map(|step| Some(&step.saw.as_ref()?.glimpse)).collect();
    let Ok(Some(tree)) = GlimpsedTree::new(&glimpses, &[], || Ok(Arc::new(EmptyTree) as Arc<dyn SourceTree>)) else {
        return;
    };
    let ground = Ground::Glimpsed(tree);
    let watched = Watched::new(&ground);
    for path in ["app", "app/f", "app/f/g", "srv"] {
        let _ = watched.metadata(path.as_bytes());
    }
    let _ = watched.glimpse();
    for (step, other) in document.steps.iter().zip(document.steps.iter().rev()) {
        if let (Some(step), Some(other)) = (&step.makings, &other.makings) {
            let _ = (step.alike(other), step.difference(other, Some("base")));
        }
    }
}
