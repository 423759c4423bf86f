//! What there is to say about the update: the `Updating` condition and the versions.

use fleet_model::{ConditionStatus, RenderedVersion};

use crate::failure::{Recurrence, bounded};
use crate::state::{Stage, State};

/// What the status tells of the update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The version that is applied.
    pub current: RenderedVersion,
    /// The newest version that was decided on.
    pub desired: RenderedVersion,
    /// Whether an update is under way.
    pub updating: ConditionStatus,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in one sentence of at most 250 characters.
    pub message: String,
    /// Whether the device could not be brought to the newest version.
    pub failed: bool,
}

impl Progress {
    pub(crate) fn of(state: &State, drift: Option<&str>) -> Self {
        let (updating, reason, message) = match (&state.stage, &state.failure) {
            (Stage::Applying { target }, _) => {
                let message = format!("Updating to renderedVersion: {}", target.version);
                (ConditionStatus::True, "ApplyingUpdate", message)
            }
            (Stage::RollingBack { failure, .. }, _) => (ConditionStatus::True, "RollingBack", failure.to_string()),
            (Stage::Settled, Some(failure)) => match failure.recurrence {
                Recurrence::Transient => (ConditionStatus::True, "Retrying", failure.to_string()),
                Recurrence::Permanent | Recurrence::Waiting => (ConditionStatus::False, "Error", failure.to_string()),
            },
            (Stage::Settled, None) => {
                let done = format!("Updated to desired renderedVersion: {}", state.current.version);
                let message = drift.map_or(done.clone(), |drift| format!("{done}; {drift}"));
                (ConditionStatus::False, "Updated", message)
            }
        };
        Self {
            current: state.current.version,
            desired: state.desired.version,
            updating,
            reason,
            message: bounded(&message),
            failed: state.failure.is_some(),
        }
    }

    /// The word of the status field `updated`.
    pub fn updated_word(&self) -> &'static str {
        match (self.updating, self.failed) {
            (ConditionStatus::True, _) => "Updating",
            (ConditionStatus::False | ConditionStatus::Unknown, true) => "OutOfDate",
            (ConditionStatus::False | ConditionStatus::Unknown, false) => "UpToDate",
        }
    }
}
