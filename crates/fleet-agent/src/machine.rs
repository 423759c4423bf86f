//! The update as a pure state machine: what to remember and what to do next, given what happened.
//!
//! It knows neither files nor time: when to try again is for the caller, which offers the document again.

use fleet_model::{Digest, RenderedVersion};

use crate::failure::{Component, Failure, Phase, Recurrence};
use crate::path::FilePath;
use crate::state::{Attempts, Desired, ManagedFile, Release, Stage, State};

/// After so many attempts that end in a passing failure, contents count as failed.
pub const MAX_ATTEMPTS: u32 = 3;
/// After so many attempts that never came to an end, because the device stopped, contents count as failed.
pub const MAX_INTERRUPTIONS: u32 = 5;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent started with the state it had saved.
    Started,
    /// Something that was begun in this process and could not go on is to be taken up again.
    Resumed,
    /// The service offers a document.
    Offered {
        /// Its version.
        version: RenderedVersion,
        /// Digest of its specification.
        digest: Digest,
        /// Why it cannot be carried out as it is.
        refusal: Option<Failure>,
    },
    /// There is room, and contents and originals are kept.
    Prepared {
        /// What to go to.
        target: Release,
    },
    /// Nothing was touched, because this is missing.
    PrepareFailed {
        /// Version of the document.
        version: RenderedVersion,
        /// Digest of its specification.
        digest: Digest,
        /// Why.
        failure: Failure,
    },
    /// The device is like the target.
    Applied,
    /// The device is between the current release and the target.
    ApplyFailed {
        /// Why.
        failure: Failure,
    },
    /// The device is like the current release again, as far as that could be done.
    RolledBack {
        /// Files of the target that could not be taken away.
        left: Vec<ManagedFile>,
    },
    /// These leftovers are gone.
    PutBack {
        /// Their paths.
        paths: Vec<FilePath>,
    },
    /// The service had lost the device and enrolled it anew: its count of versions starts again.
    Reenrolled,
}

/// What to do, in order. When a save fails, the rest is left undone and the new state is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make the new state durable.
    Save,
    /// Make the new state durable if possible; what follows is done in any case.
    TrySave,
    /// Check for room and keep contents and originals of the document at hand.
    Prepare,
    /// Make the device like the target.
    Apply,
    /// Make the device like the current release.
    RollBack,
    /// Forget contents that nothing refers to.
    CollectGarbage,
}

/// The state after `event`, and what to do.
#[must_use]
pub fn step(state: &State, event: Event) -> (State, Vec<Action>) {
    let mut next = state.clone();
    let actions = match event {
        Event::Started => started(&mut next),
        Event::Resumed => match next.stage {
            Stage::Settled => vec![],
            Stage::Applying { .. } => vec![Action::Apply],
            Stage::RollingBack { .. } => vec![Action::RollBack],
        },
        Event::Offered { version, digest, refusal } => offered(&mut next, version, digest, refusal),
        Event::Prepared { target } => prepared(&mut next, target),
        Event::PrepareFailed { version, digest, failure } => {
            if failure.recurrence == Recurrence::Transient {
                next.attempts = Some(counted(&next, digest));
            }
            gave_up_or_waits(&mut next, version, digest, failure);
            vec![Action::TrySave, Action::CollectGarbage]
        }
        Event::Applied => applied(&mut next),
        Event::ApplyFailed { failure } => match std::mem::take(&mut next.stage) {
            Stage::Applying { target } => {
                next.stage = Stage::RollingBack { target, failure };
                vec![Action::TrySave, Action::RollBack]
            }
            other @ (Stage::Settled | Stage::RollingBack { .. }) => {
                next.stage = other;
                vec![]
            }
        },
        Event::RolledBack { left } => rolled_back(&mut next, left),
        Event::PutBack { paths } => {
            next.leftovers.retain(|file| !paths.contains(&file.path));
            vec![Action::TrySave, Action::CollectGarbage]
        }
        Event::Reenrolled => {
            next.current.version = RenderedVersion::ZERO;
            next.desired = Desired::default();
            vec![Action::Save]
        }
    };
    (next, actions)
}

fn counted(state: &State, digest: Digest) -> Attempts {
    let before = state.attempts.filter(|a| a.digest == digest).map_or(0, |a| a.count);
    Attempts { digest, count: before.saturating_add(1) }
}

/// Forgets what another version of the agent refused, so that the service is asked for it again.
fn forget_outdated(next: &mut State) -> bool {
    let refused = |next: &State, digest| next.blocked.iter().any(|b| b.digest == digest && b.is_outdated());
    let decided = next.desired.digest.is_some_and(|digest| refused(next, digest));
    if decided {
        next.desired = Desired { version: next.current.version, digest: next.current.digest };
        next.failure = None;
    }
    next.blocked.retain(|b| !b.is_outdated());
    decided
}

fn started(next: &mut State) -> Vec<Action> {
    let forgotten = forget_outdated(next);
    match std::mem::take(&mut next.stage) {
        Stage::Settled if forgotten => vec![Action::TrySave, Action::CollectGarbage],
        Stage::Settled => vec![Action::CollectGarbage],
        Stage::RollingBack { target, failure } => {
            next.stage = Stage::RollingBack { target, failure };
            vec![Action::RollBack]
        }
        Stage::Applying { target } => {
            let attempts = next.attempts.map_or(1, |a| a.count);
            if let Some(known) = &mut next.attempts {
                known.count = known.count.saturating_add(1);
            }
            if attempts >= MAX_INTERRUPTIONS {
                let reason = format!("the device stopped {attempts} times while this was applied");
                let failure = Failure::new(Phase::ApplyingUpdate, Component::State, "update", reason);
                next.stage = Stage::RollingBack { target, failure };
                vec![Action::TrySave, Action::RollBack]
            } else {
                next.stage = Stage::Applying { target };
                vec![Action::TrySave, Action::Apply]
            }
        }
    }
}

/// Whether a document is newer than what was decided on, or why it is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Newer,
    /// It is what was decided on last.
    Known,
    /// It is older.
    Older,
    /// It has the version that was decided on last, and other contents.
    Altered,
}

/// How a document stands to what was decided on.
#[must_use]
pub fn standing(state: &State, version: RenderedVersion, digest: Digest) -> Standing {
    match version.cmp(&state.desired.version.max(state.current.version)) {
        std::cmp::Ordering::Greater => Standing::Newer,
        std::cmp::Ordering::Less => Standing::Older,
        std::cmp::Ordering::Equal if state.desired.digest == Some(digest) => Standing::Known,
        std::cmp::Ordering::Equal => Standing::Altered,
    }
}

fn offered(next: &mut State, version: RenderedVersion, digest: Digest, refusal: Option<Failure>) -> Vec<Action> {
    if next.stage != Stage::Settled || standing(next, version, digest) != Standing::Newer {
        return vec![];
    }
    let failed_before = next.blocked(&digest).map(|blocked| {
        let reason = format!("the same contents failed as version {}: {}", blocked.version, blocked.failure.reason);
        Failure::new(blocked.failure.phase, blocked.failure.component, &blocked.failure.element, reason)
    });
    match (failed_before, refusal) {
        (Some(failure), _) => {
            next.desired = Desired { version, digest: Some(digest) };
            next.attempts = None;
            next.failure = Some(failure);
            vec![Action::Save]
        }
        (None, Some(failure)) => {
            gave_up_or_waits(next, version, digest, failure);
            vec![Action::Save]
        }
        (None, None) => vec![Action::Prepare],
    }
}

/// Blocks the contents, or leaves them to be offered again.
fn gave_up_or_waits(next: &mut State, version: RenderedVersion, digest: Digest, failure: Failure) {
    let attempts = next.attempts.filter(|a| a.digest == digest).map_or(0, |a| a.count);
    let final_failure = match failure.recurrence {
        Recurrence::Permanent => true,
        Recurrence::Transient => attempts >= MAX_ATTEMPTS,
        Recurrence::Waiting => false,
    };
    if final_failure {
        let failure = failure.that_is(Recurrence::Permanent);
        next.block(digest, version, failure.clone());
        next.desired = Desired { version, digest: Some(digest) };
        next.attempts = None;
        next.failure = Some(failure);
    } else {
        next.failure = Some(failure);
    }
}

fn prepared(next: &mut State, target: Release) -> Vec<Action> {
    let Some(digest) = target.digest else { return vec![] };
    next.attempts = Some(counted(next, digest));
    next.failure = None;
    next.stage = Stage::Applying { target };
    vec![Action::Save, Action::Apply]
}

fn applied(next: &mut State) -> Vec<Action> {
    match std::mem::take(&mut next.stage) {
        Stage::Applying { target } => {
            next.desired = Desired { version: target.version, digest: target.digest };
            forget_leftovers(next, &target.files);
            next.current = target;
            next.attempts = None;
            next.failure = None;
            vec![Action::Save, Action::CollectGarbage]
        }
        other @ (Stage::Settled | Stage::RollingBack { .. }) => {
            next.stage = other;
            vec![]
        }
    }
}

/// What a release holds is no leftover of an earlier one.
fn forget_leftovers(next: &mut State, files: &[ManagedFile]) {
    next.leftovers.retain(|left| files.binary_search_by(|file| file.path.cmp(&left.path)).is_err());
}

fn rolled_back(next: &mut State, left: Vec<ManagedFile>) -> Vec<Action> {
    match std::mem::take(&mut next.stage) {
        Stage::RollingBack { target, failure } => {
            forget_leftovers(next, &target.files);
            next.leftovers.extend(left);
            if failure.recurrence == Recurrence::Waiting
                && let Some(attempts) = &mut next.attempts
            {
                // Waiting is no attempt.
                attempts.count = attempts.count.saturating_sub(1);
            }
            if let Some(digest) = target.digest {
                gave_up_or_waits(next, target.version, digest, failure);
            }
            vec![Action::Save, Action::CollectGarbage]
        }
        other @ (Stage::Settled | Stage::Applying { .. }) => {
            next.stage = other;
            vec![]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: i64) -> RenderedVersion {
        RenderedVersion::try_from(number).unwrap()
    }

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn release(number: i64, name: &str) -> Release {
        Release { version: version(number), digest: Some(digest(name)), files: vec![] }
    }

    fn offer(number: i64, name: &str) -> Event {
        Event::Offered { version: version(number), digest: digest(name), refusal: None }
    }

    fn failure(recurrence: Recurrence) -> Failure {
        Failure::new(Phase::ApplyingUpdate, Component::Config, "/etc/x", "no").that_is(recurrence)
    }

    fn at(number: i64, name: &str) -> State {
        let (applying, actions) = step(&State::default(), Event::Prepared { target: release(number, name) });
        assert_eq!(actions, [Action::Save, Action::Apply]);
        let (state, actions) = step(&applying, Event::Applied);
        assert_eq!(actions, [Action::Save, Action::CollectGarbage]);
        state
    }

    #[test]
    fn only_newer_versions_are_looked_at() {
        let state = at(5, "a");
        assert_eq!(step(&state, offer(6, "b")).1, [Action::Prepare]);
        for (number, name, expected) in
            [(4, "b", Standing::Older), (5, "a", Standing::Known), (5, "b", Standing::Altered)]
        {
            assert_eq!(standing(&state, version(number), digest(name)), expected);
            assert_eq!(step(&state, offer(number, name)), (state.clone(), vec![]));
        }
    }

    #[test]
    fn a_permanent_failure_rolls_back_and_blocks_the_contents_under_any_version() {
        let state = at(5, "a");
        let (state, _) = step(&state, Event::Prepared { target: release(6, "b") });
        let (state, actions) = step(&state, Event::ApplyFailed { failure: failure(Recurrence::Permanent) });
        assert_eq!(actions, [Action::TrySave, Action::RollBack]);
        let (state, actions) = step(&state, Event::RolledBack { left: vec![] });
        assert_eq!(actions, [Action::Save, Action::CollectGarbage]);
        assert_eq!((state.current.version, state.desired.version), (version(5), version(6)));
        let (state, actions) = step(&state, offer(7, "b"));
        assert_eq!((actions.as_slice(), state.desired.version), ([Action::Save].as_slice(), version(7)));
        assert!(state.failure.as_ref().unwrap().reason.contains("failed as version 6"));
        assert_eq!(step(&state, offer(8, "a")).1, [Action::Prepare]);
    }

    #[test]
    fn a_passing_failure_is_tried_again_a_bounded_number_of_times() {
        let mut state = at(5, "a");
        for attempt in 1..=MAX_ATTEMPTS {
            assert_eq!(step(&state, offer(6, "b")).1, [Action::Prepare], "{attempt}");
            state = step(&state, Event::Prepared { target: release(6, "b") }).0;
            state = step(&state, Event::ApplyFailed { failure: failure(Recurrence::Transient) }).0;
            state = step(&state, Event::RolledBack { left: vec![] }).0;
        }
        assert_eq!((state.desired.version, state.blocked.len()), (version(6), 1));
        assert_eq!(state.failure.unwrap().recurrence, Recurrence::Permanent);
    }

    #[test]
    fn waiting_for_room_never_blocks() {
        let mut state = at(5, "a");
        for _ in 0..20 {
            let failure = failure(Recurrence::Waiting);
            state = step(&state, Event::PrepareFailed { version: version(6), digest: digest("b"), failure }).0;
        }
        assert!(state.blocked.is_empty() && state.failure.is_some());
        assert_eq!(step(&state, offer(6, "b")).1, [Action::Prepare]);
    }

    #[test]
    fn a_disk_that_is_full_while_files_change_never_blocks_and_counts_as_no_attempt() {
        let mut state = at(5, "a");
        let full = std::io::Error::from_raw_os_error(28);
        let failure = Failure::of_io(Phase::ApplyingUpdate, Component::Config, "/etc/x", &full);
        let quota = std::io::Error::from(std::io::ErrorKind::QuotaExceeded);
        let quota = Failure::of_io(Phase::ApplyingUpdate, Component::Config, "/etc/x", &quota);
        assert_eq!((failure.recurrence, quota.recurrence), (Recurrence::Waiting, Recurrence::Waiting));
        for _ in 0..20 {
            state = step(&state, Event::Prepared { target: release(6, "b") }).0;
            state = step(&state, Event::ApplyFailed { failure: failure.clone() }).0;
            state = step(&state, Event::RolledBack { left: vec![] }).0;
        }
        assert!(state.blocked.is_empty() && state.attempts.is_none_or(|a| a.count == 0), "{state:?}");
        assert_eq!(step(&state, offer(6, "b")).1, [Action::Prepare]);
    }

    #[test]
    fn what_another_agent_did_not_support_is_asked_for_again() {
        let refusal = Some(Failure::new(Phase::Preparing, Component::Os, "os", "not supported by this agent"));
        let event = Event::Offered { version: version(6), digest: digest("b"), refusal };
        let (mut state, _) = step(&at(5, "a"), event);
        state.block(digest("c"), version(4), failure(Recurrence::Permanent));
        assert_eq!(step(&state, Event::Started), (state.clone(), vec![Action::CollectGarbage]));
        for blocked in &mut state.blocked {
            blocked.agent = "0.0.0-other".to_owned();
        }
        assert_eq!(step(&state, offer(7, "b")).1, [Action::Prepare]);
        assert_eq!(step(&state, offer(7, "c")).1, [Action::Save], "what failed on the device stays blocked");
        let (state, actions) = step(&state, Event::Started);
        assert_eq!(actions, [Action::TrySave, Action::CollectGarbage]);
        assert_eq!((state.desired.version, state.failure.is_none()), (version(5), true));
        assert_eq!(step(&state, offer(6, "b")).1, [Action::Prepare]);
        assert!(state.blocked(&digest("c")).is_some());
    }

    #[test]
    fn an_interrupted_update_goes_on_until_it_was_interrupted_too_often() {
        let (mut state, _) = step(&at(5, "a"), Event::Prepared { target: release(6, "b") });
        for _ in 1..MAX_INTERRUPTIONS {
            let (next, actions) = step(&state, Event::Started);
            assert_eq!(actions, [Action::TrySave, Action::Apply]);
            state = next;
        }
        let (next, actions) = step(&state, Event::Started);
        assert_eq!(actions, [Action::TrySave, Action::RollBack]);
        assert_eq!(step(&next, Event::Started).1, [Action::RollBack]);
        assert!(step(&next, Event::RolledBack { left: vec![] }).0.blocked(&digest("b")).is_some());
    }

    #[test]
    fn events_out_of_place_change_nothing() {
        let settled = at(5, "a");
        let late = [
            Event::Applied,
            Event::RolledBack { left: vec![] },
            Event::Resumed,
            Event::ApplyFailed { failure: failure(Recurrence::Permanent) },
        ];
        for event in late {
            assert_eq!(step(&settled, event.clone()), (settled.clone(), vec![]), "{event:?}");
        }
        let (busy, _) = step(&settled, Event::Prepared { target: release(6, "b") });
        assert_eq!(step(&busy, offer(7, "c")), (busy.clone(), vec![]));
        assert_eq!(step(&busy, Event::Resumed).1, [Action::Apply]);
    }

    #[test]
    fn after_enrolling_anew_versions_count_from_the_start_and_files_stay() {
        let (state, actions) = step(&at(5, "a"), Event::Reenrolled);
        assert_eq!((actions.as_slice(), state.current.digest), ([Action::Save].as_slice(), Some(digest("a"))));
        assert_eq!(step(&state, offer(1, "b")).1, [Action::Prepare]);
    }

    #[test]
    fn a_refused_document_is_decided_on_without_touching_the_device() {
        let refusal = Some(failure(Recurrence::Permanent));
        let event = Event::Offered { version: version(6), digest: digest("b"), refusal };
        let (state, actions) = step(&at(5, "a"), event);
        assert_eq!(actions, [Action::Save]);
        assert_eq!(
            (state.desired.version, state.current.version, state.stage),
            (version(6), version(5), Stage::Settled)
        );
    }
}
