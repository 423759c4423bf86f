//! What there is to say about the update: the `Updating` condition and the versions.

use fleet_model::{ConditionStatus, RenderedVersion};

use crate::failure::{Failure, MAX_MESSAGE, Recurrence, bounded};
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
    /// Whether the device is not like the newest version: it could not be brought there, or does not stay there.
    pub failed: bool,
}

/// What came of the last look at the managed files, if there is something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Drift {
    /// Changed by hand, and put back.
    PutBack(String),
    /// Not as they should be.
    NotPutBack(String),
}

impl Drift {
    fn note(&self) -> &str {
        match self {
            Self::PutBack(note) | Self::NotPutBack(note) => note,
        }
    }
}

/// What is cut from a failure so that a note after it can be read.
fn with_note(failure: &Failure, drift: Option<&Drift>) -> String {
    let failure = failure.to_string();
    match drift {
        None | Some(Drift::PutBack(_)) => failure,
        Some(drift @ Drift::NotPutBack(_)) => {
            let start: String = failure.chars().take(MAX_MESSAGE / 2).collect();
            format!("{start}; {}", drift.note())
        }
    }
}

impl Progress {
    pub(crate) fn of(state: &State, drift: Option<&Drift>) -> Self {
        let not_put_back = matches!(drift, Some(Drift::NotPutBack(_)));
        let (updating, reason, message) = match (&state.stage, &state.failure) {
            (Stage::Applying { target }, _) => {
                let message = format!("Updating to renderedVersion: {}", target.version);
                (ConditionStatus::True, "ApplyingUpdate", message)
            }
            (Stage::RollingBack { failure, .. }, _) => (ConditionStatus::True, "RollingBack", failure.to_string()),
            (Stage::Settled, Some(failure)) => match failure.recurrence {
                Recurrence::Transient => (ConditionStatus::True, "Retrying", with_note(failure, drift)),
                Recurrence::Permanent | Recurrence::Waiting => {
                    (ConditionStatus::False, "Error", with_note(failure, drift))
                }
            },
            (Stage::Settled, None) => {
                let done = format!("Updated to desired renderedVersion: {}", state.current.version);
                let message = drift.map_or(done.clone(), |drift| format!("{done}; {}", drift.note()));
                (ConditionStatus::False, if not_put_back { "Error" } else { "Updated" }, message)
            }
        };
        Self {
            current: state.current.version,
            desired: state.desired.version,
            updating,
            reason,
            message: bounded(&message),
            failed: state.failure.is_some() || not_put_back,
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
