//! Decides for every device what becomes of it. Rendering is put off until all devices are sorted, so that each pair of
//! documents is compared once for all devices that share it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use fleet_model::Digest;

use super::causes::causes;
use super::documents::{DocumentId, Documents};
use super::faces::Delta;
use super::groups::{GroupKey, Grouping};
use super::sides::{Holder, Index, Indexed, Side, Want};
use super::{Cause, DeviceCounts, DeviceView, Inventory, Plan, State, Summary, objects, radius, seal};

pub(super) fn plan(current: &State, incoming: &State, inventory: &Inventory) -> Plan {
    let objects = objects::changes(current, incoming);
    let (before, after) = (Index::new(current), Index::new(incoming));
    let (before, after) = (Indexed { state: current, index: &before }, Indexed { state: incoming, index: &after });
    let mut run = Run::new(before, after, inventory);
    let enrolled = inventory.iter().filter(|(_, device)| device.enrolled).map(|(name, _)| name);
    let names: BTreeSet<&String> = enrolled.chain(current.devices.keys()).chain(incoming.devices.keys()).collect();
    for name in names {
        run.device(name);
    }
    run.compare();
    let Run { grouping, reach, devices, seal, .. } = run;
    let (groups, waiting, unmanaged, reassigned) = grouping.finish();
    let radius = reach.finish(current, incoming);
    let digest = seal.finish(&objects, incoming);
    let summary = Summary { objects: objects::count(&objects), devices };
    Plan { digest, summary, objects, groups, waiting, unmanaged, reassigned, radius }
}

pub(super) fn views(
    current: &State,
    incoming: &State,
    inventory: &Inventory,
    device: &str,
) -> (Option<DeviceView>, Option<DeviceView>) {
    let (before, after) = (Index::new(current), Index::new(incoming));
    let (before, after) = (Indexed { state: current, index: &before }, Indexed { state: incoming, index: &after });
    let (before, after) = sides(before, after, inventory, device);
    (before.map(Side::view), after.map(Side::view))
}

/// A device before and after.
fn sides<'a>(
    current: Indexed<'a>,
    incoming: Indexed<'a>,
    inventory: &Inventory,
    device: &str,
) -> (Option<Side<'a>>, Option<Side<'a>>) {
    let known = inventory.get(device);
    let present = known.and_then(|known| known.owner.as_deref());
    let before = Side::new(current, None, known, device, present);
    let present = before.as_ref().map_or(present, Side::owner);
    let after = Side::new(incoming, Some(current.state), known, device, present);
    (before, after)
}

/// Whether something that is not known here can be taken to be the same.
fn is_as_it_was(before: &Side<'_>, after: &Side<'_>) -> bool {
    matches!(before.want, Want::Elsewhere) && before.holder == after.holder && before.labels == after.labels
}

/// A device whose documents have to be compared.
struct Pending {
    name: String,
    key: GroupKey,
    is_new: bool,
    /// Why it waits for something newer than what it is compared with, and whether it did before.
    waits: Option<(String, bool)>,
    /// What it has, where that is not known otherwise.
    document: Option<Digest>,
    reason_before: Option<String>,
}

struct Run<'a> {
    current: Indexed<'a>,
    incoming: Indexed<'a>,
    inventory: &'a Inventory,
    documents: Documents<'a>,
    /// By the document before, when it is known, and the one after.
    pending: BTreeMap<(Option<DocumentId>, DocumentId), Vec<Pending>>,
    grouping: Grouping,
    reach: radius::Reach,
    devices: DeviceCounts,
    seal: seal::Seal,
}

impl<'a> Run<'a> {
    fn new(current: Indexed<'a>, incoming: Indexed<'a>, inventory: &'a Inventory) -> Self {
        Self {
            current,
            incoming,
            inventory,
            documents: Documents::default(),
            pending: BTreeMap::new(),
            grouping: Grouping::default(),
            reach: radius::Reach::default(),
            devices: DeviceCounts::default(),
            seal: seal::Seal::default(),
        }
    }

    fn device(&mut self, name: &str) {
        let (before, after) = sides(self.current, self.incoming, self.inventory, name);
        if let Some(before) = &before {
            self.reach.known_before(before.owner());
        }
        let Some(after) = after else {
            self.devices.removed += 1;
            return;
        };
        self.devices.total += 1;
        let before_id = before.as_ref().and_then(|side| self.documents.id(side, name));
        let after_id = self.documents.id(&after, name);
        let already = after.reason().is_some() && before.as_ref().and_then(Side::reason) == after.reason();
        let key = || GroupKey {
            owner_before: before.as_ref().and_then(Side::owner).map(str::to_owned),
            owner_after: after.owner().map(str::to_owned),
            causes: causes(name, before.as_ref(), &after, self.current.state, self.incoming.state),
            before_known: before_id.is_some(),
            after_known: after_id.is_some(),
        };
        match (&after.want, after_id) {
            (Want::Waits { reason, .. }, None) => self.waits(name, after.owner(), reason, already),
            (Want::Waits { reason, .. }, Some(_)) if before_id == after_id => {
                self.waits(name, after.owner(), reason, already);
            }
            (Want::Document(_), Some(_)) if before_id == after_id => {
                self.keeps(name, before.as_ref().and_then(Side::owner), after.owner());
            }
            (Want::Document(_) | Want::Waits { .. }, Some(after_id)) => {
                let known = self.inventory.get(name);
                let pending = Pending {
                    name: name.to_owned(),
                    key: key(),
                    is_new: before.is_none(),
                    waits: after.reason().map(|reason| (reason.to_owned(), already)),
                    document: known.and_then(|known| known.document),
                    reason_before: before.as_ref().and_then(Side::reason).map(str::to_owned),
                };
                self.pending.entry((before_id, after_id)).or_default().push(pending);
            }
            (Want::Elsewhere, _) if before.as_ref().is_some_and(|before| is_as_it_was(before, &after)) => {
                self.devices.unchanged += 1;
            }
            (Want::Elsewhere, _) => {
                let key = key();
                self.seal.device(name, after.owner(), "elsewhere", "");
                self.changes(name.to_owned(), key, before.is_none(), Rc::default());
            }
            (Want::Nothing | Want::Document(_), _) => self.nothing(name, before.as_ref()),
        }
    }

    /// No fleet and no specification of its own: it keeps what it has.
    fn nothing(&mut self, name: &str, before: Option<&Side<'_>>) {
        let Some(before) = before else {
            self.devices.new += 1;
            self.seal.device(name, None, "new", "");
            return;
        };
        if before.holder == Holder::Nobody {
            self.devices.unchanged += 1;
            return;
        }
        self.devices.unmanaged += 1;
        self.reach.unmanaged();
        self.seal.device(name, None, "unmanaged", "");
        self.grouping.unmanaged(before.owner(), name);
    }

    fn waits(&mut self, name: &str, owner: Option<&str>, reason: &str, already: bool) {
        self.devices.waiting += 1;
        if !already {
            self.seal.device(name, owner, "waits", reason);
        }
        self.grouping.waits(reason, already, name);
    }

    /// The same document, maybe from another owner.
    fn keeps(&mut self, name: &str, owner_before: Option<&str>, owner_after: Option<&str>) {
        self.devices.unchanged += 1;
        if owner_before != owner_after {
            self.seal.device(name, owner_after, "reassigned", "");
            self.grouping.reassigned(owner_before, owner_after, name);
        }
    }

    fn changes(&mut self, name: String, key: GroupKey, is_new: bool, delta: Rc<Delta>) {
        if is_new {
            self.devices.new += 1;
        } else {
            self.devices.changed += 1;
            let fleet = key.owner_after.as_deref();
            let has_policy = fleet
                .and_then(|fleet| self.incoming.state.fleets.get(fleet))
                .is_some_and(|fleet| fleet.has_rollout_policy);
            self.reach.changed(fleet, has_policy);
        }
        self.grouping.changed(key, delta, name);
    }

    /// Compares the documents of all devices that were put off.
    fn compare(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for (before, after) in pending.keys() {
            before.iter().chain([after]).for_each(|id| self.documents.reserve(*id));
        }
        for ((before, after_id), devices) in pending {
            let before = before.map(|id| self.documents.take(id));
            let after = self.documents.take(after_id);
            let (known, failed) = match before.as_deref() {
                Some(Ok(face)) => (Some(face), None),
                Some(Err(reason)) => (None, Some(reason.as_str())),
                None => (None, None),
            };
            let face = match after.as_ref() {
                Ok(face) => face,
                Err(reason) => {
                    devices.into_iter().for_each(|device| self.fails(&device, failed, reason));
                    continue;
                }
            };
            let is_same = known.is_some_and(|known| known.digest == face.digest);
            let mut pair = Pair {
                is_known: known.is_some(),
                failed,
                delta: (!is_same).then(|| Rc::new(Delta::between(known, face))),
                after: after_id,
                digest: face.digest.hex(),
                rendered: None,
            };
            devices.into_iter().for_each(|device| self.settle(device, &mut pair));
        }
    }

    fn fails(&mut self, device: &Pending, failed: Option<&str>, reason: &str) {
        let already = failed.or(device.reason_before.as_deref()) == Some(reason);
        self.waits(&device.name, device.key.owner_after.as_deref(), reason, already);
    }

    /// What becomes of a device whose documents were compared.
    fn settle(&mut self, mut device: Pending, pair: &mut Pair<'_>) {
        let owner = device.key.owner_after.clone();
        // What it really has counts where that is not known otherwise.
        let has_it = match device.document {
            Some(document) if !pair.is_known => {
                let documents = &self.documents;
                *pair.rendered.get_or_insert_with(|| documents.rendered(pair.after)) == Some(document)
            }
            Some(_) | None => false,
        };
        match (&pair.delta, device.waits) {
            (Some(delta), _) if !has_it => {
                device.key.before_known = pair.is_known;
                if let Some(reason) = pair.failed {
                    device.key.causes.push(Cause::Unblocked { reason: reason.to_owned() });
                    device.key.causes.sort();
                    device.key.causes.dedup();
                }
                self.seal.device(&device.name, owner.as_deref(), "document", &pair.digest);
                self.changes(device.name, device.key, device.is_new, Rc::clone(delta));
            }
            (_, Some((reason, already))) => self.waits(&device.name, owner.as_deref(), &reason, already),
            (_, None) => self.keeps(&device.name, device.key.owner_before.as_deref(), owner.as_deref()),
        }
    }
}

/// Two documents that were compared.
struct Pair<'f> {
    /// Whether it is known what the devices have.
    is_known: bool,
    /// Why the document before cannot be rendered.
    failed: Option<&'f str>,
    /// What differs; `None` when they are the same.
    delta: Option<Rc<Delta>>,
    after: DocumentId,
    /// Of what the document after says.
    digest: String,
    /// Of the written document after, once somebody asked.
    rendered: Option<Option<Digest>>,
}
