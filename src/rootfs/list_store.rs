//! Lists of layers' files that come from elsewhere and go there: so that a machine which has no layer can look at a tree.

use super::listing::LayerList;
use super::snapshot::{LISTS, SnapshotError, broken};
use crate::oci::{DiffId, Layer};
use crate::store::Store;

/// The list of a layer's files, as it is kept, if it is here.
pub fn known_list(store: &Store, diff_id: &DiffId) -> Result<Option<Vec<u8>>, SnapshotError> {
    let known = store.record(LISTS, diff_id.digest())?;
    Ok(known.filter(|bytes| LayerList::decode(bytes).is_some()))
}

/// [`known_list`], made now where the layer's blob is in the store and the list is not.
pub fn make_list(store: &Store, layer: &Layer) -> Result<Option<Vec<u8>>, SnapshotError> {
    if let Some(known) = known_list(store, &layer.diff_id)? {
        return Ok(Some(known));
    }
    if store.has_blob(&layer.digest)?.is_none() {
        return Ok(None);
    }
    let list = LayerList::read(store.open_blob(&layer.digest)?, &layer.diff_id)
        .map_err(|source| broken(store, layer, source))?;
    let bytes = list.encode()?;
    store.put_record(LISTS, layer.diff_id.digest(), &bytes)?;
    Ok(Some(bytes))
}

/// Keeps a list that came from elsewhere; false where it is none.
pub fn take_list(store: &Store, diff_id: &DiffId, bytes: &[u8]) -> Result<bool, SnapshotError> {
    if LayerList::decode(bytes).is_none() {
        return Ok(false);
    }
    store.put_record(LISTS, diff_id.digest(), bytes)?;
    Ok(true)
}

/// Which layers of a stack must be fetched to look at its tree, as far as the store knows: none where it is unpacked.
pub fn unlisted<'a>(store: &Store, stack: &'a [Layer]) -> Result<Vec<&'a Layer>, SnapshotError> {
    if super::snapshot::chains(stack).iter().all(|chain| store.layer_dir(chain).is_some()) {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    for layer in stack {
        if store.record(LISTS, layer.diff_id.digest())?.is_none() && store.has_blob(&layer.digest)?.is_none() {
            missing.push(layer);
        }
    }
    Ok(missing)
}
