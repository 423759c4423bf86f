//! Objects that change.

use std::collections::BTreeSet;

use fleet_model::Kind;

use super::{Change, ObjectChange, ObjectCounts, ObjectPlace, ObjectState, State};

/// The objects that differ, by kind and name. Another line alone is no difference.
pub(super) fn changes(current: &State, incoming: &State) -> Vec<ObjectChange> {
    let keys: BTreeSet<&(Kind, String)> = current.objects.keys().chain(incoming.objects.keys()).collect();
    keys.into_iter().filter_map(|key| change(key, current.objects.get(key), incoming.objects.get(key))).collect()
}

fn change(key: &(Kind, String), before: Option<&ObjectState>, after: Option<&ObjectState>) -> Option<ObjectChange> {
    let moved = |before: &ObjectState, after: &ObjectState| {
        (before.file != after.file).then(|| ObjectPlace { file: before.file.clone(), line: before.line })
    };
    let (change, place, previous) = match (before, after) {
        (None, Some(after)) => (Change::Added, after, None),
        (Some(before), None) => (Change::Removed, before, None),
        (Some(before), Some(after)) if before.digest != after.digest => (Change::Changed, after, moved(before, after)),
        (Some(before), Some(after)) => (Change::Moved, after, Some(moved(before, after)?)),
        (None, None) => return None,
    };
    let (kind, name) = key.clone();
    Some(ObjectChange { kind, name, change, file: place.file.clone(), line: place.line, previous })
}

/// How many of each.
pub(super) fn count(changes: &[ObjectChange]) -> ObjectCounts {
    let count = |wanted| changes.iter().filter(|object| object.change == wanted).count();
    ObjectCounts {
        added: count(Change::Added),
        changed: count(Change::Changed),
        removed: count(Change::Removed),
        moved: count(Change::Moved),
    }
}
