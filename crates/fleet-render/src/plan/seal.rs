//! The digest of a plan.

use std::collections::BTreeMap;

use fleet_model::Digest;
use serde_json::{Value, json};

use super::{Change, ObjectChange, State};
use crate::canonical;

/// Part of every digest. Grows when the same change is to have another digest.
const FORMAT: u32 = 1;

/// Collects what becomes of devices.
#[derive(Default)]
pub(super) struct Seal {
    devices: BTreeMap<String, Value>,
}

impl Seal {
    /// A device that does not stay as it is: its owner afterwards, what becomes of it, and the document or the reason.
    pub(super) fn device(&mut self, name: &str, owner: Option<&str>, what: &str, detail: &str) {
        self.devices.insert(name.to_owned(), json!([owner, what, detail]));
    }

    /// Objects that only moved are left out, and so is where objects lie.
    pub(super) fn finish(self, objects: &[ObjectChange], incoming: &State) -> Digest {
        let objects = objects.iter().filter(|object| object.change != Change::Moved).map(|object| {
            let after = incoming.objects.get(&(object.kind, object.name.clone()));
            json!([object.kind.as_str(), object.name, object.change, after.map(|after| after.digest.hex())])
        });
        let objects: Vec<Value> = objects.collect();
        let devices: Vec<Value> = self.devices.into_iter().map(|(name, fate)| json!([name, fate])).collect();
        Digest::of(&canonical::to_vec(&json!({"format": FORMAT, "objects": objects, "devices": devices})))
    }
}
