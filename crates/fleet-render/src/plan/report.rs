//! What a plan says. Stored and shown, so it holds no contents: digests and sizes only.

use fleet_model::{Digest, Kind};
use serde::{Deserialize, Serialize};

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The identity of what changes: objects (kind, name, change, digest after) and devices (name, owner after,
    /// document after, or why none). Does not depend on commits, files, lines and what stays.
    pub digest: Digest,
    /// Counts.
    pub summary: Summary,
    /// Objects that change, by kind and name.
    pub objects: Vec<ObjectChange>,
    /// Devices that get another document, those with the same change together; the largest group first.
    pub groups: Vec<Group>,
    /// Devices that get nothing new although a fleet or a specification is meant for them, by reason.
    pub waiting: Vec<Waiting>,
    /// Devices that lose their fleet and keep their last document, by fleet.
    pub unmanaged: Vec<Unmanaged>,
    /// Devices that go to another fleet and keep their document, because it is the same there.
    pub reassigned: Vec<Reassigned>,
    /// How far the change reaches.
    pub radius: Radius,
}

/// Counts of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Of objects.
    pub objects: ObjectCounts,
    /// Of devices.
    pub devices: DeviceCounts,
}

/// How many objects change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectCounts {
    /// New ones.
    pub added: usize,
    /// Those with another content.
    pub changed: usize,
    /// Those that are gone.
    pub removed: usize,
    /// Those with the same content in another file.
    pub moved: usize,
}

/// What becomes of devices. Every device that is known afterwards is counted once, in `total` and in one other count
/// except `removed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceCounts {
    /// Known afterwards.
    pub total: usize,
    /// Get another document.
    pub changed: usize,
    /// Keep their document and what it comes from.
    pub unchanged: usize,
    /// Keep their document and wait, see [`Plan::waiting`].
    pub waiting: usize,
    /// Keep their document and lose their fleet, see [`Plan::unmanaged`].
    pub unmanaged: usize,
    /// Were not known before, and do not wait.
    pub new: usize,
    /// Are not known any more: their manifest is gone and they are not enrolled.
    pub removed: usize,
}

/// How something changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// It is new.
    Added,
    /// Its content is another.
    Changed,
    /// It is gone.
    Removed,
    /// Only the file it is written in is another.
    Moved,
}

/// An object that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// How it changes.
    pub change: Change,
    /// Where it is; where it was, when it is removed.
    pub file: String,
    /// The line there, from 1.
    pub line: u32,
    /// Where it was, when that was another file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ObjectPlace>,
}

/// Where an object was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPlace {
    /// The file, from the repository's root.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

/// Devices with the same change. Where more than 16 groups would differ in contents only (a file with the device's name
/// in it), they are one group, and what differs says so (`varies`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The devices' names, sorted; the first one serves as the example.
    pub devices: Vec<String>,
    /// The fleet that owns them now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_before: Option<String>,
    /// The fleet that owns them afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_after: Option<String>,
    /// What makes their documents change; never empty.
    pub causes: Vec<Cause>,
    /// Whether it is known what they have now. When it is not, everything they get is listed as added.
    pub before_known: bool,
    /// Whether it is known what they get. When it is not (it comes from another source), nothing is listed.
    pub after_known: bool,
    /// Files that change, by path.
    pub files: Vec<FileChange>,
    /// The operating-system image, when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<OsChange>,
    /// Applications that change, by name.
    pub applications: Vec<ApplicationChange>,
    /// Other fields of the specification that change: `systemd`, `resources`, `updatePolicy` and so on.
    pub others: Vec<String>,
}

/// What makes a document change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Cause {
    /// The fleet's template.
    Template,
    /// The device's own specification.
    Specification,
    /// Files in a repository that a configuration provider takes.
    Input {
        /// The provider.
        provider: String,
        /// The name of the Repository, or `.`.
        repository: String,
        /// The commit that was pinned, when the provider was there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The commit that is pinned now, when the provider is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Labels of the device that a placeholder or a selector looks at.
    Label {
        /// Their keys, sorted.
        keys: Vec<String>,
    },
    /// Another fleet, or its own specification, decides about the device.
    Owner,
    /// The device was waiting, and does not wait any more.
    Unblocked {
        /// What it was waiting for.
        reason: String,
    },
    /// The device was not known before.
    New,
}

/// A file that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Its path on the device.
    pub path: String,
    /// What it is now; absent when it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<FileFacts>,
    /// What it becomes; absent when it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileFacts>,
    /// Whether the facts differ from device to device; they are those of the group's first device then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub varies: bool,
}

/// A file on a device, without its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFacts {
    /// The digest of its content; of a secret a keyed one, which says only whether it is the same.
    pub digest: Digest,
    /// Unix permission bits.
    pub mode: u32,
    /// Its owner.
    pub user: String,
    /// Its group.
    pub group: String,
    /// Its size in bytes; 0 for a secret.
    pub size: u64,
    /// Whether its content is a secret, which is never shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// The operating system: an image reference, or canonical JSON where it is named otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OsChange {
    /// What it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether it differs from device to device; it is that of the group's first device then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub varies: bool,
}

/// An application that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationChange {
    /// Its name; its image where it has none.
    pub name: String,
    /// How it changes; never [`Change::Moved`].
    pub change: Change,
}

/// Devices that get nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Why, in one sentence.
    pub reason: String,
    /// Whether they waited for the same reason before the change.
    pub already: bool,
    /// Their names, sorted.
    pub devices: Vec<String>,
}

/// Devices that lose their fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unmanaged {
    /// The fleet that owned them; absent for devices that lose a specification of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_before: Option<String>,
    /// Their names, sorted.
    pub devices: Vec<String>,
}

/// Devices with another owner and the same document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reassigned {
    /// The fleet that owned them; absent for devices with a specification of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_before: Option<String>,
    /// The fleet that owns them afterwards; absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_after: Option<String>,
    /// Their names, sorted.
    pub devices: Vec<String>,
}

/// How far a change reaches, in numbers that limits are set for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Radius {
    /// Objects before the change; 0 at the first sync of a source.
    pub objects_before: usize,
    /// Objects that are gone afterwards.
    pub objects_removed: usize,
    /// Fleets among the objects before the change.
    pub fleets_before: usize,
    /// Fleets that are gone afterwards.
    pub fleets_removed: usize,
    /// Devices that were known before the change.
    pub devices_before: usize,
    /// Devices that lose their fleet or specification.
    pub devices_unmanaged: usize,
    /// Devices that get another document.
    pub devices_changed: usize,
    /// Those of them that no rollout policy protects.
    pub devices_changed_without_rollout: usize,
    /// Those of `devices_changed_without_rollout` in fleets of fewer than 20 devices.
    pub devices_changed_in_small_fleets: usize,
}

/// A limit that a change exceeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exceeded {
    /// The limit's name in a SyncPolicy.
    pub limit: String,
    /// How many objects or devices.
    pub count: usize,
    /// How many are allowed.
    pub allowed: usize,
    /// One sentence for people.
    pub sentence: String,
}

impl Plan {
    /// Whether nothing changes: no object and no device, and nobody starts to wait.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.groups.is_empty()
            && self.unmanaged.is_empty()
            && self.reassigned.is_empty()
            && self.waiting.iter().all(|waiting| waiting.already)
    }
}
