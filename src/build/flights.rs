//! Steps that are being made: stages that hold the same step (of two platforms, say) make it once.

use super::key::CacheKey;
use super::record::StepRecord;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The steps of one build, by key.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<CacheKey, Arc<Flight>>>);

type Flight = Mutex<Option<StepRecord>>;

impl Flights {
    /// What this build made of `key`, or `make`'s result, which others who ask for `key` wait for; and whether it was made
    /// now. Where `make` fails, the next one that asks makes it.
    pub fn once<E>(
        &self,
        key: &CacheKey,
        make: impl FnOnce() -> Result<StepRecord, E>,
    ) -> Result<(StepRecord, bool), E> {
        let flight = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key.clone()).or_default())
        };
        let mut made = flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = &*made {
            return Ok((record.clone(), false));
        }
        let record = make()?;
        *made = Some(record.clone());
        Ok((record, true))
    }
}
