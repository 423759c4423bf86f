//! The plan of a commit: what it changes, made from the database and the commit's rows before they are written.
//!
//! Only devices that the commit can concern are read and compared: those that a changed fleet selects, before or
//! after, and those whose own manifest changes. All others keep what they have, and are counted.
//!
//! A plan tells what Git says: what a commit removes is gone in it, and what an earlier one removed is gone before, though
//! both stay in force until their grace is over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_model::{Kind, LabelSelector, Labels, OrgId};
use fleet_render::ownership::labels_in_force;
use fleet_render::plan::{
    DeviceState, FleetState, Inventory, InventoryDevice, ObjectState, Plan, Revision, State, Target, plan,
};
use fleet_store::{
    DeviceManifest, EnrolledDevice, FleetRow, ManifestRow, ManifestStates, PgConnection, Presence, StoreError,
    count_known_devices, count_tombstones, device_manifests, enrolled_devices,
};
use tracing::debug;

mod stored;
#[cfg(test)]
pub(crate) mod tests;

use crate::desired::Desired;
use crate::laps::Laps;
use crate::revisions::{RevisionCache, RevisionKey, ready_revisions, stand_alone_owner};
pub(crate) use stored::{is_empty, stored_plan, stored_summary};

/// With more changed fleets or devices, or fleets that those belong to, all devices are compared.
const MAX_TOUCHED: usize = 16;

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planner<'a> {
    /// The organisation.
    pub(crate) org: OrgId,
    /// The source that has a new commit.
    pub(crate) source: &'a str,
    /// Its manifests so far.
    pub(crate) stored: &'a ManifestStates,
    /// All fleets so far, also those of other sources.
    pub(crate) fleets: &'a [FleetRow],
    /// What the commit says.
    pub(crate) desired: &'a Desired,
    /// Prepared revisions.
    pub(crate) cache: &'a RevisionCache,
}

impl Planner<'_> {
    /// Starts the plan. Reads only, and all that it needs: what is written afterwards makes no difference to it.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn start(self, connection: &mut PgConnection) -> Result<Planning, StoreError> {
        let mut laps = Laps::start();
        let known = count_known_devices(connection, self.org).await?;
        let mut delta = self.delta();
        // While something leaves, devices may be with other fleets than those that Git gives them to.
        if !delta.is_empty() && count_tombstones(connection, self.org).await? > 0 {
            delta.selects_others = true;
        }
        laps.lap("delta");
        let mut ground = self.ground(connection, &delta).await?;
        laps.lap("ground");
        // With many changes, sorting devices out costs more than comparing all.
        if delta.fleets.len() <= MAX_TOUCHED && delta.devices.len() <= MAX_TOUCHED {
            let filter = self.filter(&delta, &ground);
            let names = blocking("planning", move || filter.names()).await?;
            ground.keep(&names);
        }
        laps.lap("filter");
        let others = known.saturating_sub(ground.known_before());
        let ready = self.revisions(connection, &ground).await?;
        laps.lap("revisions");
        let same = self.same_objects();
        let (current, incoming) = (self.current(&same, &ground, &ready), self.incoming(&same, &ground, &ready));
        let inventory = ground.inventory();
        laps.lap("states");
        let same_fleets = same.iter().filter(|(kind, _)| *kind == Kind::Fleet).count();
        let (same, source) = (same.len(), self.source.to_owned());
        Ok(Planning(tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let mut plan = plan(&current, &incoming, &inventory);
            plan.summary.devices.total += others;
            plan.summary.devices.unchanged += others;
            plan.radius.devices_before += others;
            plan.radius.objects_before += same;
            plan.radius.fleets_before += same_fleets;
            laps.lap("compare");
            debug!(source, took = %laps, "Made a plan");
            (plan, started.elapsed())
        })))
    }

    /// What differs between the commit and what is stored, as far as devices depend on it.
    fn delta(&self) -> Delta {
        let mut delta = Delta::default();
        let own = self.fleets.iter().filter(|fleet| fleet.source == self.source);
        let mut before: BTreeMap<&str, &FleetRow> = own.map(|fleet| (fleet.name.as_str(), fleet)).collect();
        for fleet in &self.desired.fleets {
            let old = before.remove(fleet.name.as_str());
            if old.is_none_or(|old| old.selector != fleet.selector) {
                delta.selects_others = true;
            }
            if old.is_none_or(|old| old.selector != fleet.selector || content(old) != content(fleet)) {
                delta.fleets.insert(fleet.name.clone());
            }
        }
        delta.selects_others |= !before.is_empty();
        delta.fleets.extend(before.into_keys().map(str::to_owned));
        let is_device = |kind: Kind| kind == Kind::Device;
        let mut stored: BTreeMap<&str, _> = self
            .stored
            .iter()
            .filter(|((kind, _), _)| is_device(*kind))
            .map(|((_, name), state)| (name.as_str(), state))
            .collect();
        for row in self.desired.manifests.iter().filter(|row| is_device(row.kind)) {
            let same = stored.remove(row.name.as_str()).is_some_and(|old| {
                (old.digest, &old.revision, &old.problem) == (row.digest, &row.revision, &row.problem)
            });
            if !same {
                delta.devices.insert(row.name.clone());
            }
        }
        delta.devices.extend(stored.into_keys().map(str::to_owned));
        delta
    }

    /// Objects that stay as they are, where they are. They are counted only.
    fn same_objects(&self) -> HashSet<(Kind, &str)> {
        let stays = |row: &&ManifestRow| {
            let stored = self.stored.get(&(row.kind, row.name.clone()));
            stored.is_some_and(|stored| stored.digest == row.digest && stored.file == row.file)
        };
        self.desired.manifests.iter().filter(stays).map(|row| (row.kind, row.name.as_str())).collect()
    }

    /// Reads the devices that may be concerned, and their manifests.
    async fn ground(&self, connection: &mut PgConnection, delta: &Delta) -> Result<Ground, StoreError> {
        if delta.is_empty() {
            return Ok(Ground::default());
        }
        let (enrolled, manifests) = if delta.reaches_all() {
            let enrolled = enrolled_devices(connection, self.org, None).await?;
            (enrolled, device_manifests(connection, self.org, None, Presence::InGit).await?)
        } else {
            let fleets: Vec<String> = delta.fleets.iter().cloned().collect();
            let enrolled = enrolled_devices(connection, self.org, Some(&fleets)).await?;
            let names: Vec<String> = enrolled.iter().map(|device| device.name.clone()).collect();
            (enrolled, device_manifests(connection, self.org, Some(&names), Presence::InGit).await?)
        };
        let mut ground = Ground::default();
        for manifest in manifests {
            let elsewhere = manifest.source != self.source;
            // Where no manifest of this source changes, the stored ones are those of the commit.
            if elsewhere || !delta.reaches_all() {
                ground.after.insert(manifest.name.clone(), manifest.clone());
            }
            ground.before.insert(manifest.name.clone(), manifest);
        }
        if delta.reaches_all() {
            for row in self.desired.manifests.iter().filter(|row| row.kind == Kind::Device) {
                let labels = self.desired.device_labels.get(&row.name).cloned().unwrap_or_default();
                let manifest = DeviceManifest {
                    name: row.name.clone(),
                    source: self.source.to_owned(),
                    labels,
                    revision: row.revision.clone(),
                    problem: row.problem.clone(),
                };
                ground.after.insert(row.name.clone(), manifest);
            }
        }
        ground.enrolled = enrolled.into_iter().map(|device| (device.name.clone(), device)).collect();
        Ok(ground)
    }

    /// Finds, among the devices that were read, those that the commit can concern.
    fn filter(&self, delta: &Delta, ground: &Ground) -> Filter {
        let devices: BTreeMap<String, (Labels, Labels)> =
            ground.names().map(|name| (name.to_owned(), ground.labels(name))).collect();
        let others = self.fleets.iter().filter(|fleet| fleet.source != self.source).chain(&self.desired.fleets);
        let all = self.fleets.iter().chain(&self.desired.fleets);
        let touched: Vec<LabelSelector> =
            all.filter(|fleet| delta.fleets.contains(&fleet.name)).filter_map(|fleet| fleet.selector.clone()).collect();
        let untouched = others.filter(|fleet| !delta.fleets.contains(&fleet.name));
        let untouched = match delta.devices.is_empty() {
            true => Vec::new(),
            false => untouched.filter_map(|fleet| fleet.selector.clone()).collect(),
        };
        Filter { devices, changed: delta.devices.clone(), touched, untouched }
    }

    /// The revisions of this source: those that the commit brings, and those it is at.
    async fn revisions(&self, connection: &mut PgConnection, ground: &Ground) -> Result<Revisions, StoreError> {
        let fleets = self.fleets.iter().filter(|fleet| fleet.source == self.source);
        let fleets = fleets.filter_map(|fleet| Some((fleet.name.clone(), fleet.revision.clone()?)));
        let devices = ground.before.values().filter(|device| device.source == self.source);
        let devices = devices.filter_map(|device| Some((stand_alone_owner(&device.name), device.revision.clone()?)));
        let wanted: BTreeSet<RevisionKey> =
            fleets.chain(devices).filter(|key| !self.desired.prepared.contains_key(key)).collect();
        let ready = ready_revisions(connection, self.org, wanted, &HashMap::new(), self.cache).await?;
        let own = self.desired.prepared.iter().map(|(key, revision)| (key.clone(), Ok(Arc::clone(revision))));
        let read = ready.into_iter().map(|(key, ready)| (key, ready.map(|ready| Arc::clone(&ready.revision))));
        Ok(own.chain(read).collect())
    }

    fn current(&self, same: &HashSet<(Kind, &str)>, ground: &Ground, ready: &Revisions) -> State {
        let stored = self.stored.iter().filter(|((kind, name), _)| !same.contains(&(*kind, name.as_str())));
        let objects = stored.map(|(key, state)| {
            let object = ObjectState { digest: state.digest, file: state.file.clone(), line: state.line };
            (key.clone(), object)
        });
        State {
            objects: objects.collect(),
            fleets: self.fleets.iter().map(|fleet| self.fleet(fleet, ready)).collect(),
            devices: ground.before.values().map(|device| device_state(device, ready)).collect(),
        }
    }

    fn incoming(&self, same: &HashSet<(Kind, &str)>, ground: &Ground, ready: &Revisions) -> State {
        let rows = self.desired.manifests.iter().filter(|row| !same.contains(&(row.kind, row.name.as_str())));
        let objects = rows.map(|row| {
            let object = ObjectState { digest: row.digest, file: row.file.clone(), line: row.line };
            ((row.kind, row.name.clone()), object)
        });
        let elsewhere = self.fleets.iter().filter(|fleet| fleet.source != self.source);
        State {
            objects: objects.collect(),
            fleets: elsewhere.chain(&self.desired.fleets).map(|fleet| self.fleet(fleet, ready)).collect(),
            devices: ground.after.values().map(|device| device_state(device, ready)).collect(),
        }
    }

    fn fleet(&self, fleet: &FleetRow, ready: &Revisions) -> (String, FleetState) {
        let state = FleetState {
            selector: fleet.selector.clone(),
            target: target(&fleet.name, fleet.revision.as_deref(), fleet.problem.as_deref(), ready),
            // Of another source's fleet it makes no difference: its revision does not change here.
            has_rollout_policy: fleet.source == self.source && self.desired.rollout_policies.contains(&fleet.name),
        };
        (fleet.name.clone(), state)
    }
}

/// What devices of a fleet get. With a problem that is what they have.
fn content(fleet: &FleetRow) -> (Option<&str>, Option<&str>) {
    let revision = fleet.revision.as_deref().filter(|_| fleet.problem.is_none());
    (revision, fleet.problem.as_deref())
}

type Revisions = HashMap<RevisionKey, Result<Arc<Revision>, String>>;

fn device_state(device: &DeviceManifest, ready: &Revisions) -> (String, DeviceState) {
    let owner = stand_alone_owner(&device.name);
    let has_own = device.revision.is_some() || device.problem.is_some();
    let own = has_own.then(|| target(&owner, device.revision.as_deref(), device.problem.as_deref(), ready));
    (device.name.clone(), DeviceState { labels: device.labels.clone(), target: own })
}

fn target(owner: &str, revision: Option<&str>, problem: Option<&str>, ready: &Revisions) -> Target {
    let known = revision.and_then(|revision| ready.get(&(owner.to_owned(), revision.to_owned())));
    match (problem, known) {
        (Some(problem), Some(Ok(revision))) => {
            Target::Keeps { revision: Arc::clone(revision), reason: problem.to_owned() }
        }
        (Some(problem), _) => Target::Waits(problem.to_owned()),
        (None, Some(Ok(revision))) => Target::Revision(Arc::clone(revision)),
        (None, Some(Err(reason))) => Target::Waits(reason.clone()),
        (None, None) if revision.is_none() => Target::Waits(format!("{owner} has no revision yet")),
        // Of another source: somebody who plans with this source's repository alone gets the same digest.
        (None, None) => Target::Elsewhere,
    }
}

/// Work for the processor, done where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
}

/// A plan that is being made from what was read: the transaction goes on meanwhile. Dropped, it is made for nobody.
#[derive(Debug)]
pub(crate) struct Planning(tokio::task::JoinHandle<(Plan, Duration)>);

impl Planning {
    /// The plan, and how long it took to compare documents for it.
    ///
    /// # Errors
    /// When comparing panicked.
    pub(crate) async fn finish(self) -> Result<(Plan, Duration), StoreError> {
        self.0.await.map_err(|error| StoreError::Corrupt { what: "planning", reason: error.to_string() })
    }
}

/// What differs, as far as devices depend on it.
#[derive(Debug, Default)]
struct Delta {
    /// Fleets of the source that are new, gone, or have another selector, revision or problem.
    fleets: BTreeSet<String>,
    /// Some of them may select other devices than before.
    selects_others: bool,
    /// Devices whose manifest in this source is new, gone or another.
    devices: BTreeSet<String>,
}

impl Delta {
    fn is_empty(&self) -> bool {
        self.fleets.is_empty() && self.devices.is_empty()
    }

    /// Whether devices may be concerned that no changed fleet owns now.
    fn reaches_all(&self) -> bool {
        self.selects_others || !self.devices.is_empty()
    }
}

/// The devices that are looked at.
#[derive(Debug, Default)]
struct Ground {
    enrolled: BTreeMap<String, EnrolledDevice>,
    before: BTreeMap<String, DeviceManifest>,
    after: BTreeMap<String, DeviceManifest>,
}

impl Ground {
    fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.enrolled.keys().chain(self.before.keys()).chain(self.after.keys());
        all.map(String::as_str).collect::<BTreeSet<_>>().into_iter()
    }

    /// Labels in force, before and after.
    fn labels(&self, name: &str) -> (Labels, Labels) {
        let none = Labels::new();
        let enrolled = self.enrolled.get(name).map_or(&none, |device| &device.labels);
        let of = |manifests: &BTreeMap<String, DeviceManifest>| {
            labels_in_force(enrolled, manifests.get(name).map(|manifest| &manifest.labels))
        };
        (of(&self.before), of(&self.after))
    }

    fn keep(&mut self, names: &BTreeSet<String>) {
        self.enrolled.retain(|name, _| names.contains(name));
        self.before.retain(|name, _| names.contains(name));
        self.after.retain(|name, _| names.contains(name));
    }

    fn known_before(&self) -> usize {
        self.before.keys().chain(self.enrolled.keys()).collect::<BTreeSet<_>>().len()
    }

    fn inventory(&self) -> Inventory {
        let device = |device: &EnrolledDevice| InventoryDevice {
            enrolled: true,
            labels: device.labels.clone(),
            owner: device.owner_fleet.clone(),
            document: device.rendered_digest,
        };
        self.enrolled.values().map(|known| (known.name.clone(), device(known))).collect()
    }
}

/// Finds the devices that a commit can concern. A pure decision.
#[derive(Debug)]
struct Filter {
    /// Labels before and after.
    devices: BTreeMap<String, (Labels, Labels)>,
    /// Devices with another manifest.
    changed: BTreeSet<String>,
    /// Selectors of fleets that change, before and after.
    touched: Vec<LabelSelector>,
    /// Selectors of the other fleets. Those that changed devices belong to count, too: how large a fleet is, is told.
    untouched: Vec<LabelSelector>,
}

impl Filter {
    fn names(mut self) -> BTreeSet<String> {
        let selects = |selector: &LabelSelector, labels: &(Labels, Labels)| {
            selector.matches(&labels.0) || selector.matches(&labels.1)
        };
        let moving: Vec<&(Labels, Labels)> = self.changed.iter().filter_map(|name| self.devices.get(name)).collect();
        let reached =
            self.untouched.into_iter().filter(|selector| moving.iter().any(|labels| selects(selector, labels)));
        self.touched.extend(reached);
        if self.touched.len() > MAX_TOUCHED {
            return self.devices.into_keys().collect();
        }
        let touched = &self.touched;
        let concerned = |(name, labels): &(String, (Labels, Labels))| {
            self.changed.contains(name) || touched.iter().any(|selector| selects(selector, labels))
        };
        self.devices.into_iter().filter(concerned).map(|(name, _)| name).collect()
    }
}
