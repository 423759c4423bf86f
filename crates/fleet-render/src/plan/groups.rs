//! Puts devices with the same change together.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::faces::Delta;
use super::{ApplicationChange, Cause, Group, Reassigned, Unmanaged, Waiting};

/// So many groups may differ in contents only; more become one.
const MAX_ALIKE: usize = 16;

/// What a group has in common besides the change of its documents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) owner_before: Option<String>,
    pub(super) owner_after: Option<String>,
    pub(super) causes: Vec<Cause>,
    pub(super) before_known: bool,
    pub(super) after_known: bool,
}

/// Devices by what becomes of them.
#[derive(Default)]
pub(super) struct Grouping {
    /// Each change once, with its number.
    deltas: BTreeMap<Rc<Delta>, usize>,
    changed: BTreeMap<(GroupKey, usize), Vec<String>>,
    waiting: BTreeMap<(String, bool), Vec<String>>,
    unmanaged: BTreeMap<Option<String>, Vec<String>>,
    reassigned: BTreeMap<(Option<String>, Option<String>), Vec<String>>,
}

type Finished = (Vec<Group>, Vec<Waiting>, Vec<Unmanaged>, Vec<Reassigned>);

impl Grouping {
    pub(super) fn changed(&mut self, key: GroupKey, delta: Rc<Delta>, device: String) {
        let next = self.deltas.len();
        let number = *self.deltas.entry(delta).or_insert(next);
        self.changed.entry((key, number)).or_default().push(device);
    }

    pub(super) fn waits(&mut self, reason: &str, already: bool, device: &str) {
        self.waiting.entry((reason.to_owned(), already)).or_default().push(device.to_owned());
    }

    pub(super) fn unmanaged(&mut self, owner_before: Option<&str>, device: &str) {
        self.unmanaged.entry(owner_before.map(str::to_owned)).or_default().push(device.to_owned());
    }

    pub(super) fn reassigned(&mut self, before: Option<&str>, after: Option<&str>, device: &str) {
        let key = (before.map(str::to_owned), after.map(str::to_owned));
        self.reassigned.entry(key).or_default().push(device.to_owned());
    }

    pub(super) fn finish(self) -> Finished {
        let mut deltas: Vec<(usize, Rc<Delta>)> =
            self.deltas.into_iter().map(|(delta, number)| (number, delta)).collect();
        deltas.sort_unstable_by_key(|(number, _)| *number);
        let mut shapes: BTreeMap<Shape, Vec<Group>> = BTreeMap::new();
        for ((key, number), devices) in self.changed {
            let group = group(key, &deltas[number].1, sorted(devices));
            shapes.entry(Shape::of(&group)).or_default().push(group);
        }
        let mut groups: Vec<Group> = Vec::new();
        for alike in shapes.into_values() {
            if alike.len() > MAX_ALIKE {
                groups.extend(fold(alike));
            } else {
                groups.extend(alike);
            }
        }
        groups.sort_by(|left, right| {
            right.devices.len().cmp(&left.devices.len()).then_with(|| left.devices.cmp(&right.devices))
        });
        let waiting = self.waiting.into_iter();
        let unmanaged = self.unmanaged.into_iter();
        let reassigned = self.reassigned.into_iter();
        (
            groups,
            waiting.map(|((reason, already), devices)| Waiting { reason, already, devices: sorted(devices) }).collect(),
            unmanaged.map(|(owner_before, devices)| Unmanaged { owner_before, devices: sorted(devices) }).collect(),
            reassigned
                .map(|((owner_before, owner_after), devices)| Reassigned {
                    owner_before,
                    owner_after,
                    devices: sorted(devices),
                })
                .collect(),
        )
    }
}

fn sorted(mut devices: Vec<String>) -> Vec<String> {
    devices.sort_unstable();
    devices
}

fn group(key: GroupKey, delta: &Delta, devices: Vec<String>) -> Group {
    let GroupKey { owner_before, owner_after, causes, before_known, after_known } = key;
    let Delta { files, os, applications, others } = delta.clone();
    Group { devices, owner_before, owner_after, causes, before_known, after_known, files, os, applications, others }
}

/// A group without contents.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    owners: (Option<String>, Option<String>),
    causes: Vec<Cause>,
    known: (bool, bool),
    files: Vec<(String, bool, bool)>,
    os: Option<(bool, bool)>,
    applications: Vec<ApplicationChange>,
    others: Vec<String>,
}

impl Shape {
    fn of(group: &Group) -> Self {
        let file = |file: &super::FileChange| (file.path.clone(), file.before.is_some(), file.after.is_some());
        Self {
            owners: (group.owner_before.clone(), group.owner_after.clone()),
            causes: group.causes.clone(),
            known: (group.before_known, group.after_known),
            files: group.files.iter().map(file).collect(),
            os: group.os.as_ref().map(|os| (os.before.is_some(), os.after.is_some())),
            applications: group.applications.clone(),
            others: group.others.clone(),
        }
    }
}

/// One group of several with one shape. The one with the first device lends its facts.
fn fold(mut alike: Vec<Group>) -> Option<Group> {
    alike.sort_by(|left, right| left.devices.cmp(&right.devices));
    let mut groups = alike.into_iter();
    let mut first = groups.next()?;
    let mut devices: BTreeSet<String> = first.devices.iter().cloned().collect();
    for group in groups {
        for (file, other) in first.files.iter_mut().zip(&group.files) {
            file.varies |= (&file.before, &file.after) != (&other.before, &other.after);
        }
        if let (Some(os), Some(other)) = (&mut first.os, &group.os) {
            os.varies |= (&os.before, &os.after) != (&other.before, &other.after);
        }
        devices.extend(group.devices);
    }
    first.devices = devices.into_iter().collect();
    Some(first)
}
