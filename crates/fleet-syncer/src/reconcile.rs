//! Brings devices in line with fleets: labels, owner, rendered document. Looks at the whole truth in the database,
//! so it can run any number of times.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fleet_model::{Digest, Labels, OrgId, RenderedVersion};
use fleet_render::ownership::{Ownership, SelectorIndex, decide_owner_in_grace, labels_in_force};
use fleet_render::{InputKey, Problem, Subject};
use fleet_store::{
    Channel, DeviceManifest, DeviceRow, DeviceScope, DeviceUpdate, FleetRow, PgConnection, Presence, StoreError, Ts,
    device_manifests, devices_in_scope, fleets_in_force, input_values, insert_rendered, update_devices,
    want_input_values,
};
use tracing::debug;

use crate::laps::Laps;
use crate::planning::blocking;
use crate::revisions::{Ready, ReadyRevisions, RevisionCache, RevisionKey, ready_revisions, stand_alone_owner};

/// How many devices are rendered before their documents are written out.
const CHUNK: usize = 2_000;
/// With more devices, all manifests of devices are read: looking names up costs more than what is left out.
const MAX_NAMED: usize = 1_000;

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReconcileOutcome {
    /// Devices that were looked at.
    pub devices: usize,
    /// Documents that were rendered; devices with the same inputs share one.
    pub renders: usize,
    /// Devices whose document, and with it version, changed.
    pub new_versions: usize,
    /// Device rows that were written.
    pub rows: usize,
}

/// Everything that decides about devices, read in one transaction.
struct Truth {
    fleets: Vec<FleetRow>,
    /// Those that left Git and whose grace is not over.
    leaving: BTreeSet<String>,
    selectors: SelectorIndex,
    inventory: HashMap<String, DeviceManifest>,
}

impl Truth {
    async fn read(connection: &mut PgConnection, org: OrgId, devices: &[DeviceRow]) -> Result<Self, StoreError> {
        let in_force = fleets_in_force(connection, org).await?;
        let leaving = in_force.iter().filter(|(_, leaving)| *leaving).map(|(fleet, _)| fleet.name.clone()).collect();
        let fleets: Vec<FleetRow> = in_force.into_iter().map(|(fleet, _)| fleet).collect();
        let selectors = SelectorIndex::new(fleets.iter().map(|fleet| fleet.selector.as_ref()));
        let few = devices.len() <= MAX_NAMED;
        let names = few.then(|| devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>());
        let manifests = device_manifests(connection, org, names.as_deref(), Presence::InForce).await?;
        let inventory = manifests.into_iter().map(|manifest| (manifest.name.clone(), manifest)).collect();
        Ok(Self { fleets, leaving, selectors, inventory })
    }

    /// Labels, owner and revision of a device.
    fn decide(&self, device: &DeviceRow) -> Decision {
        let manifest_labels = self.inventory.get(&device.name).map(|entry| &entry.labels);
        let labels = labels_in_force(&device.enrolled_labels, manifest_labels);
        let candidates = self.selectors.candidates(&labels).into_iter().map(|place| &self.fleets[place]);
        let fleets = candidates.map(|fleet| (fleet.name.as_str(), fleet.selector.as_ref()));
        let ownership =
            decide_owner_in_grace(&labels, fleets, |name| self.leaving.contains(name), device.owner_fleet.as_deref());
        let target = self.target(device, &ownership);
        Decision { labels, ownership, target }
    }

    /// The revision a device should be at.
    fn target(&self, device: &DeviceRow, ownership: &Ownership) -> Target {
        if let Some(conflict) = ownership.conflict() {
            return Target::Keep(Some(conflict));
        }
        if let Some(owner) = &ownership.owner {
            let fleet = self.fleets.iter().find(|fleet| &fleet.name == owner);
            return match fleet.and_then(|fleet| fleet.revision.clone()) {
                Some(revision) => Target::Revision { owner: owner.clone(), revision },
                None => Target::Keep(fleet.and_then(|fleet| fleet.problem.clone())),
            };
        }
        match self.inventory.get(&device.name) {
            Some(DeviceManifest { revision: Some(revision), .. }) => {
                Target::Revision { owner: stand_alone_owner(&device.name), revision: revision.clone() }
            }
            Some(DeviceManifest { problem, .. }) => Target::Keep(problem.clone()),
            None => Target::Keep(None),
        }
    }
}

/// What is decided about a device before anything is rendered.
struct Decision {
    labels: Labels,
    ownership: Ownership,
    target: Target,
}

/// What a device should be rendered from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// This revision.
    Revision { owner: String, revision: String },
    /// Nothing new; its last document stays. With the reason, when there is one.
    Keep(Option<String>),
}

impl Target {
    fn key(&self) -> Option<RevisionKey> {
        match self {
            Self::Revision { owner, revision } => Some((owner.clone(), revision.clone())),
            Self::Keep(_) => None,
        }
    }
}

/// Looks at the devices of a scope and writes what has to change, in the caller's transaction, which must hold the
/// lock of device changes. With `force` everything is rendered again, also where nothing can have changed. `fresh` are
/// revisions that the same transaction brings.
///
/// # Errors
/// When the database fails, or holds what it cannot hold.
pub(crate) async fn reconcile_devices(
    connection: &mut PgConnection,
    org: OrgId,
    scope: &DeviceScope,
    force: bool,
    now: Ts,
    fresh: &HashMap<RevisionKey, Arc<Ready>>,
    cache: &RevisionCache,
) -> Result<ReconcileOutcome, StoreError> {
    let mut laps = Laps::start();
    let devices = devices_in_scope(connection, org, scope).await?;
    laps.lap("devices");
    let mut outcome = ReconcileOutcome { devices: devices.len(), ..ReconcileOutcome::default() };
    if devices.is_empty() {
        return Ok(outcome);
    }
    let truth = Truth::read(connection, org, &devices).await?;
    laps.lap("truth");
    // Both are work for the processor: done where it holds nobody up.
    let (decided, wanted) = blocking("deciding", move || {
        let decide = |device: DeviceRow| {
            let decision = truth.decide(&device);
            (device, decision)
        };
        let decided: Vec<(DeviceRow, Decision)> = devices.into_iter().map(decide).collect();
        let wanted: BTreeSet<RevisionKey> = decided.iter().filter_map(|(_, decision)| decision.target.key()).collect();
        (decided, wanted)
    })
    .await?;
    let ready = ready_revisions(connection, org, wanted, fresh, cache).await?;
    laps.lap("revisions");
    let missing = input_values(connection, org, None).await?;
    let missing = missing.into_iter().map(|row| ((row.fleet, row.provider, row.value), row.reason)).collect();
    let mut draw = Draw { ready, force, drawn: HashMap::new(), missing, wanted: BTreeSet::new() };
    let mut decided = decided;
    let mut updates = Vec::new();
    while !decided.is_empty() {
        let chunk: Vec<(DeviceRow, Decision)> = decided.drain(..decided.len().min(CHUNK)).collect();
        let (back, sheet) = blocking("rendering", move || {
            let sheet = draw.sheet(chunk);
            (draw, sheet)
        })
        .await?;
        draw = back;
        laps.lap("render");
        insert_rendered(connection, &sheet.documents).await?;
        laps.lap("documents");
        updates.extend(sheet.updates);
    }
    // Rows last, all at once: reports of devices wait for no rendering.
    outcome.new_versions = updates.iter().filter(|update| update.provenance.is_some()).count();
    outcome.rows = updates.len();
    update_devices(connection, org, now, &updates).await?;
    laps.lap("rows");
    debug!(devices = outcome.devices, took = %laps, "Brought devices in line");
    outcome.renders = draw.drawn.len();
    let wanted: Vec<_> = std::mem::take(&mut draw.wanted).into_iter().collect();
    if !wanted.is_empty() && want_input_values(connection, org, &wanted).await? {
        // The source of the fleet has them looked up.
        Channel::Sources.notify(connection, "").await?;
    }
    if outcome.rows > 0 {
        Channel::Devices.notify(connection, "").await?;
    }
    Ok(outcome)
}

/// Everything that rendering needs; no database, no waiting.
struct Draw {
    ready: ReadyRevisions,
    force: bool,
    /// Documents by revision and inputs: each is made once.
    drawn: HashMap<(String, String, InputKey), Result<Digest, String>>,
    /// Values of placeholders for which nothing is pinned, and why.
    missing: HashMap<Value, Option<String>>,
    /// Those that nobody has looked up yet.
    wanted: BTreeSet<Value>,
}

/// Fleet, provider and value.
type Value = (String, String, String);

/// What has to be written for some devices.
#[derive(Default)]
struct Sheet {
    documents: Vec<(Digest, Vec<u8>)>,
    updates: Vec<DeviceUpdate>,
}

impl Draw {
    fn sheet(&mut self, devices: Vec<(DeviceRow, Decision)>) -> Sheet {
        let mut sheet = Sheet::default();
        for (device, decision) in devices {
            let drawn = self.draw(&device, &decision, &mut sheet.documents);
            sheet.updates.extend(update(&device, decision.labels, decision.ownership, drawn));
        }
        sheet
    }

    fn draw(&mut self, device: &DeviceRow, decision: &Decision, documents: &mut Vec<(Digest, Vec<u8>)>) -> Drawn {
        let (owner, revision) = match &decision.target {
            Target::Keep(reason) => return Drawn::Keep(reason.clone()),
            Target::Revision { owner, revision } => (owner, revision),
        };
        let unchanged_inputs = !self.force
            && !device.dirty
            && decision.labels == device.labels
            && device.render_error.is_none()
            && device.rendered_digest.is_some()
            && device.owner_fleet == decision.ownership.owner
            && device.fleet_revision.as_ref() == Some(revision);
        if unchanged_inputs {
            return Drawn::Same;
        }
        let ready = match self.ready.get(&(owner.clone(), revision.clone())) {
            Some(Ok(ready)) => Arc::clone(ready),
            Some(Err(reason)) => return Drawn::Keep(Some(reason.clone())),
            None => return Drawn::Keep(Some(format!("revision {revision} of {owner} was not read"))),
        };
        let subject = Subject { name: &device.name, labels: &decision.labels };
        let key = (owner.clone(), revision.clone(), ready.revision.prepared.input_key(&subject));
        let (missing, wanted) = (&self.missing, &mut self.wanted);
        let result = self.drawn.entry(key).or_insert_with(|| match ready.revision.prepared.render(&subject) {
            Ok(document) => {
                documents.push((document.digest, document.body));
                Ok(document.digest)
            }
            Err(error) => {
                let mut sentence = error.to_string();
                if let (Problem::ValueNotPinned { value, .. }, Some(provider)) = (&*error.problem, error.place.provider)
                {
                    let value = (owner.clone(), provider, value.clone());
                    match missing.get(&value) {
                        Some(Some(reason)) => sentence = format!("{sentence}: {reason}"),
                        Some(None) => {}
                        None => {
                            wanted.insert(value);
                        }
                    }
                }
                Err(sentence)
            }
        });
        match result {
            Ok(digest) => Drawn::Document {
                digest: *digest,
                revision: revision.clone(),
                provenance: (ready.source.clone(), ready.commit.clone()),
            },
            Err(reason) => Drawn::Keep(Some(reason.clone())),
        }
    }
}

/// What rendering says about one device.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Drawn {
    /// The inputs are those of its present document.
    Same,
    /// This document.
    Document { digest: Digest, revision: String, provenance: (String, String) },
    /// No new document; why, if somebody should know.
    Keep(Option<String>),
}

/// The row to write, or `None` when the device is as it should be. A pure decision.
fn update(device: &DeviceRow, labels: Labels, ownership: Ownership, drawn: Drawn) -> Option<DeviceUpdate> {
    let present = RenderedVersion::try_from(device.rendered_version.max(0)).unwrap_or_default();
    let (digest, version, revision, provenance, error) = match drawn {
        Drawn::Same => (device.rendered_digest, present, device.fleet_revision.clone(), None, None),
        Drawn::Keep(reason) => (device.rendered_digest, present, device.fleet_revision.clone(), None, reason),
        Drawn::Document { digest, revision, .. } if device.rendered_digest == Some(digest) => {
            (Some(digest), present, Some(revision), None, None)
        }
        Drawn::Document { digest, revision, provenance } => {
            let next = device.rendered_version.max(device.reported_version).saturating_add(1);
            let version = RenderedVersion::try_from(next).unwrap_or(present);
            (Some(digest), version, Some(revision), Some(provenance), None)
        }
    };
    // The device is ahead of us: the database was restored. It gets its document under a version it does not know yet.
    let version = match digest {
        Some(_) if device.reported_version > version.get() => {
            RenderedVersion::try_from(device.reported_version.saturating_add(1)).unwrap_or(version)
        }
        Some(_) | None => version,
    };
    let visible = version != present
        || labels != device.labels
        || ownership.owner != device.owner_fleet
        || error != device.render_error;
    let same_row = !visible
        && !device.dirty
        && revision == device.fleet_revision
        && ownership.contenders == device.conflicting_fleets;
    (!same_row).then_some(DeviceUpdate {
        name: device.name.clone(),
        labels,
        owner_fleet: ownership.owner,
        conflicting_fleets: ownership.contenders,
        fleet_revision: revision,
        render_error: error,
        rendered_digest: digest,
        rendered_version: version,
        provenance,
        visible,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceRow {
        DeviceRow {
            name: "d".to_owned(),
            enrolled_labels: Labels::new(),
            labels: Labels::new(),
            owner_fleet: Some("f".to_owned()),
            conflicting_fleets: Vec::new(),
            fleet_revision: Some("r-1".to_owned()),
            rendered_version: 7,
            rendered_digest: Some(Digest::of(b"old")),
            render_error: None,
            reported_version: 7,
            dirty: false,
        }
    }

    fn owned() -> Ownership {
        Ownership { owner: Some("f".to_owned()), contenders: Vec::new() }
    }

    fn document(content: &[u8], revision: &str) -> Drawn {
        Drawn::Document {
            digest: Digest::of(content),
            revision: revision.to_owned(),
            provenance: ("s".to_owned(), "c".to_owned()),
        }
    }

    #[test]
    fn a_device_that_is_as_it_should_be_is_not_touched() {
        assert_eq!(update(&device(), Labels::new(), owned(), Drawn::Same), None);
        assert_eq!(update(&device(), Labels::new(), owned(), document(b"old", "r-1")), None);
    }

    #[test]
    fn the_same_document_from_a_new_revision_wakes_nobody() {
        let update = update(&device(), Labels::new(), owned(), document(b"old", "r-2")).unwrap();
        assert_eq!((update.visible, update.rendered_version.get(), update.provenance), (false, 7, None));
        assert_eq!(update.fleet_revision.as_deref(), Some("r-2"));
    }

    #[test]
    fn a_new_document_takes_the_next_version_also_after_a_restore() {
        let fresh = update(&device(), Labels::new(), owned(), document(b"new", "r-2")).unwrap();
        assert_eq!((fresh.visible, fresh.rendered_version.get()), (true, 8));
        let restored = DeviceRow { rendered_version: 2, ..device() };
        let fresh = update(&restored, Labels::new(), owned(), document(b"new", "r-2")).unwrap();
        assert_eq!(fresh.rendered_version.get(), 8, "the device reported 7");
        let same = update(&restored, Labels::new(), owned(), document(b"old", "r-1")).unwrap();
        assert_eq!(
            (same.rendered_version.get(), same.visible),
            (8, true),
            "the same document, but not an older version"
        );
    }

    #[test]
    fn a_failure_keeps_the_last_document() {
        let update = update(&device(), Labels::new(), owned(), Drawn::Keep(Some("no label".to_owned()))).unwrap();
        assert_eq!(update.rendered_digest, Some(Digest::of(b"old")));
        assert_eq!((update.rendered_version.get(), update.render_error.as_deref()), (7, Some("no label")));
        assert_eq!(update.fleet_revision.as_deref(), Some("r-1"));
    }
}
