//! One device in one state: labels, owner, and what it should be.

use std::borrow::Cow;
use std::sync::Arc;

use fleet_model::{LabelSelector, Labels};

use super::{DeviceView, InventoryDevice, Outcome, Revision, State, Target};
use crate::ownership::{Ownership, SelectorIndex, decide_owner, labels_in_force};

/// The fleets of a state, to be found by what they select.
pub(super) struct Index<'a> {
    fleets: Vec<(&'a str, Option<&'a LabelSelector>)>,
    selectors: SelectorIndex,
}

impl<'a> Index<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        let fleets: Vec<_> =
            state.fleets.iter().map(|(name, fleet)| (name.as_str(), fleet.selector.as_ref())).collect();
        let selectors = SelectorIndex::new(fleets.iter().map(|(_, selector)| *selector));
        Self { fleets, selectors }
    }
}

/// A state with its index.
#[derive(Clone, Copy)]
pub(super) struct Indexed<'a> {
    pub(super) state: &'a State,
    pub(super) index: &'a Index<'a>,
}

/// One device in one state.
pub(super) struct Side<'a> {
    pub(super) labels: Labels,
    pub(super) ownership: Ownership,
    pub(super) holder: Holder<'a>,
    pub(super) want: Want<'a>,
}

/// What decides about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder<'a> {
    Fleet(&'a str),
    /// Its own specification.
    Itself,
    Nobody,
}

/// As [`Outcome`], borrowed.
pub(super) enum Want<'a> {
    Document(&'a Arc<Revision>),
    /// What it has, or the last good revision of its fleet.
    Waits {
        reason: Cow<'a, str>,
        last: Option<&'a Arc<Revision>>,
    },
    Elsewhere,
    Nothing,
}

impl<'a> Side<'a> {
    /// What `state` says of a device, or `None` when it is not known there. `present` is the fleet that owns it so far;
    /// fleets that wait fall back to what they are in `previous`.
    pub(super) fn new(
        state: Indexed<'a>,
        previous: Option<&'a State>,
        known: Option<&InventoryDevice>,
        name: &str,
        present: Option<&str>,
    ) -> Option<Self> {
        let manifest = state.state.devices.get(name);
        if manifest.is_none() && !known.is_some_and(|device| device.enrolled) {
            return None;
        }
        let none = Labels::new();
        let labels =
            labels_in_force(known.map_or(&none, |device| &device.labels), manifest.map(|device| &device.labels));
        let candidates = state.index.selectors.candidates(&labels);
        let fleets = candidates.into_iter().map(|place| state.index.fleets[place]);
        let ownership = decide_owner(&labels, fleets, present);
        let fleet = ownership.owner.as_ref().and_then(|owner| state.state.fleets.get_key_value(owner));
        let own = manifest.and_then(|device| device.target.as_ref());
        let (holder, target) = match (fleet, own) {
            (Some((name, fleet)), _) => (Holder::Fleet(name), Some(&fleet.target)),
            (None, Some(own)) => (Holder::Itself, Some(own)),
            (None, None) => (Holder::Nobody, None),
        };
        let waits = |reason, last| Want::Waits { reason: Cow::Borrowed(reason), last };
        let want = match (ownership.conflict(), target) {
            (Some(reason), _) => Want::Waits { reason: Cow::Owned(reason), last: None },
            (None, Some(Target::Revision(revision))) => Want::Document(revision),
            (None, Some(Target::Keeps { revision, reason })) => waits(reason, Some(revision)),
            (None, Some(Target::Waits(reason))) => waits(reason, previous.and_then(|state| last_good(state, holder))),
            (None, Some(Target::Elsewhere)) => Want::Elsewhere,
            (None, None) => Want::Nothing,
        };
        Some(Self { labels, ownership, holder, want })
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.ownership.owner.as_deref()
    }

    /// The revision that its document is made from.
    pub(super) fn revision(&self) -> Option<&'a Arc<Revision>> {
        match &self.want {
            Want::Document(revision) => Some(revision),
            Want::Waits { last, .. } => *last,
            Want::Elsewhere | Want::Nothing => None,
        }
    }

    pub(super) fn reason(&self) -> Option<&str> {
        match &self.want {
            Want::Waits { reason, .. } => Some(reason),
            Want::Document(_) | Want::Elsewhere | Want::Nothing => None,
        }
    }

    pub(super) fn view(self) -> DeviceView {
        let outcome = match self.want {
            Want::Document(revision) => Outcome::Document(Arc::clone(revision)),
            Want::Waits { reason, last: None } => Outcome::Waits(reason.into_owned()),
            Want::Waits { reason, last: Some(revision) } => {
                Outcome::Keeps { revision: Arc::clone(revision), reason: reason.into_owned() }
            }
            Want::Elsewhere => Outcome::Elsewhere,
            Want::Nothing => Outcome::Nothing,
        };
        DeviceView { labels: self.labels, ownership: self.ownership, outcome }
    }
}

/// The revision that a fleet has there. A device's own specification has none to fall back to: the device keeps its
/// document.
fn last_good<'a>(previous: &'a State, holder: Holder<'_>) -> Option<&'a Arc<Revision>> {
    let Holder::Fleet(name) = holder else { return None };
    match &previous.fleets.get(name)?.target {
        Target::Revision(revision) | Target::Keeps { revision, .. } => Some(revision),
        Target::Waits(_) | Target::Elsewhere => None,
    }
}
