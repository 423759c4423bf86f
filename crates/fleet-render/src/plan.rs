//! What a change of desired state does to devices, before it is made: which objects change, which devices get another
//! document and why, which wait and which lose their fleet.
//!
//! [`plan`] decides with the same functions as the service does when it applies a commit, and is pure: equal
//! arguments give an equal plan with an equal digest. It reads no clock, no files and no database, and it does not
//! say when devices will follow.
//!
//! Devices are compared by what their documents say, file by file, without writing the documents. Devices that share
//! revision and inputs are looked at once, and devices whose revision and inputs stay are not looked at at all: one of
//! them that could not be rendered before still cannot be, and is not told again.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_model::{DeviceSpec, Digest, Kind, LabelSelector, Labels};

mod causes;
mod decide;
mod documents;
mod effects;
mod faces;
mod groups;
mod objects;
mod radius;
mod report;
mod seal;
mod sides;

#[cfg(test)]
mod tests;

pub use report::{
    ApplicationChange, Cause, Change, DeviceCounts, Exceeded, FileChange, FileFacts, Group, ObjectChange, ObjectCounts,
    ObjectPlace, OsChange, Plan, Radius, Reassigned, Summary, Unmanaged, Waiting,
};

use crate::document::{Outline, Prepared, RenderError};
use crate::ownership::Ownership;
use crate::revision::{revision_digest, revision_name};
use crate::template::Subject;

/// Desired state: everything that decides about devices.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The objects that are compared, by kind and name. Of one source only, when the plan is for one source.
    pub objects: BTreeMap<(Kind, String), ObjectState>,
    /// All fleets by name, also those of other sources: every selector counts.
    pub fleets: BTreeMap<String, FleetState>,
    /// All Device manifests by the device's name.
    pub devices: BTreeMap<String, DeviceState>,
}

/// An object in Git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectState {
    /// The digest of the canonical document, see [`crate::canonical`].
    pub digest: Digest,
    /// The file, from the repository's root.
    pub file: String,
    /// The line its document starts at, from 1.
    pub line: u32,
}

/// A fleet.
#[derive(Debug, Clone)]
pub struct FleetState {
    /// The devices it selects; none without.
    pub selector: Option<LabelSelector>,
    /// What its devices should be.
    pub target: Target,
    /// Whether a rollout policy brings the change to devices step by step.
    pub has_rollout_policy: bool,
}

/// A Device manifest.
#[derive(Debug, Clone, Default)]
pub struct DeviceState {
    /// The labels of the manifest.
    pub labels: Labels,
    /// Its own specification, when it has one: followed while no fleet selects the device.
    pub target: Option<Target>,
}

/// What devices should be.
#[derive(Debug, Clone)]
pub enum Target {
    /// This revision.
    Revision(Arc<Revision>),
    /// Nothing new, for this reason (one sentence); devices keep what they have. A fleet that had a revision keeps that,
    /// as with [`Target::Keeps`]: [`plan`] takes it from the state before.
    Waits(String),
    /// The last good revision of a fleet, because a newer one cannot be had.
    Keeps {
        /// The last good one.
        revision: Arc<Revision>,
        /// Why there is no newer one, in one sentence.
        reason: String,
    },
    /// Something that is not known here: the fleet of another source.
    Elsewhere,
}

/// A template, or a device's own specification, with its pinned inputs.
#[derive(Debug, Clone)]
pub struct Revision {
    /// The identity of template and inputs: [`revision_digest`].
    pub digest: Digest,
    /// The name: `r-` and 12 hex digits.
    pub name: String,
    /// Ready to render. [`Prepared::new`] for fleets, [`Prepared::stand_alone`] for devices.
    pub prepared: Arc<Prepared>,
    /// The pinned inputs.
    pub inputs: Vec<InputFacts>,
    /// The identity of the template without its inputs.
    pub template: Digest,
}

impl Revision {
    /// The revision of a template and its pinned inputs.
    pub fn new(template: &DeviceSpec, prepared: Arc<Prepared>, inputs: Vec<InputFacts>) -> Self {
        let trees: Vec<(&str, Option<&str>, Digest)> =
            inputs.iter().map(|input| (input.provider.as_str(), input.value.as_deref(), input.tree)).collect();
        let digest = revision_digest(template, &trees);
        let name = String::from(revision_name(digest));
        Self { digest, name, prepared, inputs, template: revision_digest(template, &[]) }
    }
}

/// A pinned input: where the files of one provider come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFacts {
    /// The configuration provider's name.
    pub provider: String,
    /// The value of its placeholders that these files are for, see [`InputValue`](crate::InputValue).
    pub value: Option<String>,
    /// The name of the Repository, or `.`; of secrets `Secret`.
    pub repository: String,
    /// What was asked for: branch, tag or commit; the suffix of the URL; the secret.
    pub revision: String,
    /// The commit that it is pinned at, where there is one. Told to people; never compared.
    pub commit: String,
    /// The digest of the files: [`crate::tree_digest`]; of secrets one that says nothing to others.
    pub tree: Digest,
}

/// The devices that are known besides those with a manifest, by name.
pub type Inventory = BTreeMap<String, InventoryDevice>;

/// A device that the service knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryDevice {
    /// Whether it is enrolled. A device that is not stays known only as long as it has a manifest.
    pub enrolled: bool,
    /// The labels of its enrolment.
    pub labels: Labels,
    /// The fleet that owns it now.
    pub owner: Option<String>,
    /// The digest of the document it has now. Used where `current` does not say what that document is.
    pub document: Option<Digest>,
}

/// One device in one state.
#[derive(Debug, Clone)]
pub struct DeviceView {
    /// The labels in force.
    pub labels: Labels,
    /// Who owns it.
    pub ownership: Ownership,
    /// What it should be.
    pub outcome: Outcome,
}

impl DeviceView {
    /// The revision that the device's document is made from, when that is known.
    pub fn revision(&self) -> Option<&Arc<Revision>> {
        match &self.outcome {
            Outcome::Document(revision) | Outcome::Keeps { revision, .. } => Some(revision),
            Outcome::Waits(_) | Outcome::Elsewhere | Outcome::Nothing => None,
        }
    }

    /// What the document says, with contents; `None` without a revision. `name` is the device's.
    ///
    /// # Errors
    /// As [`Prepared::outline`]: the device waits for that reason.
    pub fn outline(&self, name: &str) -> Option<Result<Outline, RenderError>> {
        Some(self.revision()?.prepared.outline(&Subject { name, labels: &self.labels }))
    }
}

/// What a device should be in one state. Rendering may still fail: the device waits then, with that error as reason.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The document of this revision.
    Document(Arc<Revision>),
    /// What it has; with the reason.
    Waits(String),
    /// The document of the fleet's last good revision; with the reason why there is no newer one.
    Keeps {
        /// The last good one.
        revision: Arc<Revision>,
        /// Why there is no newer one, in one sentence.
        reason: String,
    },
    /// Not known here.
    Elsewhere,
    /// What it has: no fleet selects it, and it has no specification of its own.
    Nothing,
}

/// What `incoming` does to the devices and objects of `current`.
pub fn plan(current: &State, incoming: &State, inventory: &Inventory) -> Plan {
    decide::plan(current, incoming, inventory)
}

/// One device before and after the change; `None` where it is not known. For showing what [`Plan`] leaves out:
/// [`Prepared::outline`] gives the contents.
pub fn views(
    current: &State,
    incoming: &State,
    inventory: &Inventory,
    device: &str,
) -> (Option<DeviceView>, Option<DeviceView>) {
    decide::views(current, incoming, inventory, device)
}
