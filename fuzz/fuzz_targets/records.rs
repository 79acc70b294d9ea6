//! Any bytes are a record or none: what images and caches carry, what the store keeps of steps and of a context's files. What
//! is read is written as it was.
#![no_main]

use dockless::build::cache::document::{Document, FIELD};
use dockless::build::record::StepRecord;
use dockless::context::Stats;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(document)) = Document::decode(bytes) {
        let config = serde_json::to_vec(&serde_json::json!({ FIELD: document })).unwrap();
        assert_eq!(Document::decode(&config).unwrap(), Some(document));
    }
    if let Some(record) = StepRecord::decode(bytes) {
        assert_eq!(StepRecord::decode(&record.encode()), Some(record));
    }
    // Nothing was learnt, so there is nothing to write.
    assert_eq!(Stats::decode(bytes).encode(), None);
});
