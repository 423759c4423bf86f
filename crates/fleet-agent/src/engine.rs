//! Carries out what the state machine decides: the only owner of the state and of managed files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use fleet_model::Digest;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::disk::Disk;
use crate::document::{Document, WantedFile};
use crate::drift::Known;
use crate::failure::{Component, Failure, Phase};
use crate::machine::{Action, Event, Standing, standing, step};
use crate::overlay;
use crate::path::FilePath;
use crate::paths;
use crate::prepare;
use crate::progress::{Drift, Progress};
use crate::services::Services;
use crate::state::{self, Loaded, ManagedFile, Original, Release, Stage, State};

/// What became of an offered document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was decided on: carried out or refused for good. Ask for the next one.
    Decided,
    /// It was decided on before.
    Known,
    /// It is still to be decided on; offer it again later.
    Again,
}

/// The state and what it stands for on the disk.
#[derive(Debug)]
pub struct Engine {
    disk: Arc<dyn Disk>,
    services: Box<dyn Services>,
    state: State,
    known: Known,
    drift: Option<Drift>,
    progress: watch::Sender<Progress>,
}

impl Engine {
    /// Loads the state. A damaged one is set aside and reported; the agent then starts from nothing.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn open(disk: Arc<dyn Disk>, services: Box<dyn Services>) -> io::Result<Self> {
        let state = match state::load(disk.as_ref())? {
            Loaded::Fresh => State::default(),
            Loaded::State(state) => *state,
            Loaded::Damaged(why) => {
                let directory = state::set_aside(disk.as_ref())?;
                error!(file = %paths::state_file(), why, %directory, "The state was damaged; it was set aside with all that was kept, and the device starts anew");
                State::default()
            }
        };
        let progress = watch::Sender::new(Progress::of(&state, None));
        Ok(Self { disk, services, state, known: Known::default(), drift: None, progress })
    }

    /// The state as it is now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Follows what there is to report.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether something that was begun has not come to an end.
    pub fn is_unsettled(&self) -> bool {
        self.state.stage != Stage::Settled
    }

    /// Goes on with whatever was cut off. Call once after [`Engine::open`].
    ///
    /// # Errors
    /// When the device is still between two releases; [`Engine::resume`] tries again.
    pub fn start(&mut self) -> Result<(), Failure> {
        self.run(Event::Started, None)
    }

    /// Tries again what failed in this process and left the device between two releases.
    ///
    /// # Errors
    /// When it still is.
    pub fn resume(&mut self) -> Result<(), Failure> {
        self.run(Event::Resumed, None)
    }

    /// Notes that the service enrolled the device anew and counts its versions from the start.
    ///
    /// # Errors
    /// When that cannot be saved.
    pub fn reenrolled(&mut self) -> Result<(), Failure> {
        self.run(Event::Reenrolled, None)
    }

    /// Takes a document from the service, and carries it out if it is newer than what was decided on.
    ///
    /// # Errors
    /// When the device is left between two releases; [`Engine::resume`] tries again.
    pub fn offer(&mut self, document: &Document) -> Result<Verdict, Failure> {
        let Document { version, digest, files } = document;
        match standing(&self.state, *version, *digest) {
            Standing::Known => return Ok(Verdict::Known),
            Standing::Older => {
                warn!(%version, decided = %self.state.desired.version, "An older version was offered; it is refused");
                return Ok(Verdict::Again);
            }
            Standing::Altered => {
                error!(%version, "The version that was decided on was offered with other contents; it is refused");
                return Ok(Verdict::Again);
            }
            Standing::Newer => {}
        }
        let refusal = files.as_ref().err().cloned();
        let wanted = files.as_deref().unwrap_or_default();
        let target = Offer { version: *version, digest: *digest, wanted };
        self.run(Event::Offered { version: *version, digest: *digest, refusal }, Some(target))?;
        Ok(if self.state.desired.version >= *version { Verdict::Decided } else { Verdict::Again })
    }

    fn run(&mut self, event: Event, offer: Option<Offer<'_>>) -> Result<(), Failure> {
        let mut next_event = Some(event);
        while let Some(event) = next_event.take() {
            let (next, actions) = step(&self.state, event);
            for action in actions {
                match action {
                    Action::Save => {
                        if let Err(error) = state::save(self.disk.as_ref(), &next) {
                            let file = paths::state_file();
                            let failure = Failure::of_io(Phase::Preparing, Component::State, file.as_str(), &error);
                            warn!(%failure, "The state could not be saved");
                            return Err(failure);
                        }
                        self.take(next.clone());
                    }
                    Action::TrySave => {
                        if let Err(error) = state::save(self.disk.as_ref(), &next) {
                            warn!(%error, file = %paths::state_file(), "The state could not be saved");
                        }
                        self.take(next.clone());
                    }
                    Action::Prepare => next_event = Some(self.prepare(offer.as_ref())),
                    Action::Apply => next_event = Some(self.apply()),
                    Action::RollBack => next_event = Some(self.roll_back()),
                    Action::CollectGarbage => self.collect_garbage(),
                }
            }
            self.take_if_changed(next, next_event.is_none());
        }
        Ok(())
    }

    fn take(&mut self, next: State) {
        self.state = next;
        self.publish();
    }

    /// A transition that neither saves nor leads on is taken as it is.
    fn take_if_changed(&mut self, next: State, last: bool) {
        if last && self.state != next {
            self.take(next);
        }
    }

    fn publish(&self) {
        let progress = Progress::of(&self.state, self.drift.as_ref());
        self.progress.send_if_modified(|old| {
            let changed = *old != progress;
            *old = progress;
            changed
        });
    }

    fn prepare(&mut self, offer: Option<&Offer<'_>>) -> Event {
        let Some(Offer { version, digest, wanted }) = offer else { return Event::Resumed };
        info!(%version, files = wanted.len(), "Preparing a new version");
        let prepared = prepare::prepare(self.disk.as_ref(), wanted, &self.state.current.files, &self.state.leftovers);
        match prepared {
            Ok(files) => Event::Prepared { target: Release { version: *version, digest: Some(*digest), files } },
            Err(failure) => {
                warn!(%version, %failure, "A version was not begun");
                Event::PrepareFailed { version: *version, digest: *digest, failure }
            }
        }
    }

    fn apply(&mut self) -> Event {
        let Stage::Applying { target } = &self.state.stage else { return Event::Resumed };
        let current = &self.state.current.files;
        let result = overlay::converge(self.disk.as_ref(), &target.files, current, Phase::ApplyingUpdate)
            .and_then(|changed| self.reload(&differing(current, &target.files, changed), Phase::ApplyingUpdate));
        match result {
            Ok(()) => {
                info!(version = %target.version, files = target.files.len(), "Applied a version");
                self.drift = None;
                Event::Applied
            }
            Err(failure) => {
                warn!(version = %target.version, %failure, "A version failed; rolling back");
                Event::ApplyFailed { failure }
            }
        }
    }

    /// File by file: one that cannot be put back keeps no other one from it, and no newer version. It is left to the
    /// checks for drift.
    fn roll_back(&mut self) -> Event {
        let Stage::RollingBack { target, .. } = &self.state.stage else { return Event::Resumed };
        let current = &self.state.current.files;
        let overlay::Outcome { changed, failures } =
            overlay::put_back(self.disk.as_ref(), current, &target.files, Phase::RollingBack);
        if let Err(failure) = self.reload(&differing(&target.files, current, changed), Phase::RollingBack) {
            // The files are back; a unit that will not take them is no reason to try for ever.
            error!(%failure, "A unit did not take up the files of the last good version");
        }
        let lost = |file: &&ManagedFile| {
            failures.contains_key(&file.path) && current.binary_search_by(|f| f.path.cmp(&file.path)).is_err()
        };
        let left = target.files.iter().filter(lost).cloned().collect();
        self.drift = not_put_back(&failures);
        for failure in failures.values() {
            error!(%failure, "A file could not be put back");
        }
        info!(version = %self.state.current.version, failed = failures.len(), "Put the last good version back");
        Event::RolledBack { left }
    }

    fn reload(&self, changed: &[FilePath], phase: Phase) -> Result<(), Failure> {
        if changed.is_empty() {
            return Ok(());
        }
        self.services
            .files_changed(changed)
            .map_err(|f| Failure::new(phase, Component::Systemd, &f.unit, f.reason).that_is(f.recurrence))
    }

    /// Compares all managed files with what they should be and puts back those that are not. Returns what it put back.
    /// What it could not look at or put back is told in the progress, and tried again the next time.
    ///
    /// # Errors
    /// None so far: no file keeps the others from being looked at.
    pub fn check_drift(&mut self) -> Result<Vec<FilePath>, Failure> {
        if self.is_unsettled() {
            return Ok(vec![]);
        }
        let disk = self.disk.clone();
        let overlay::Drifted { files, mut failures } =
            overlay::drifted(disk.as_ref(), &self.state.current.files, &mut self.known);
        let drifted: Vec<ManagedFile> = files.into_iter().cloned().collect();
        let mut changed = vec![];
        if !(drifted.is_empty() && self.state.leftovers.is_empty()) {
            let outcome = overlay::put_back(disk.as_ref(), &drifted, &self.state.leftovers, Phase::ApplyingUpdate);
            failures.extend(outcome.failures);
            changed = outcome.changed;
        }
        self.note_drift(&changed, &failures);
        if let Err(failure) = self.reload(&changed, Phase::ApplyingUpdate) {
            error!(%failure, "A unit did not take up files that were put back");
        }
        let gone = self.state.leftovers.iter().map(|file| &file.path).filter(|path| !failures.contains_key(path));
        let paths: Vec<FilePath> = gone.cloned().collect();
        if !paths.is_empty() {
            self.run(Event::PutBack { paths }, None)?;
        }
        Ok(changed)
    }

    fn note_drift(&mut self, changed: &[FilePath], failures: &BTreeMap<FilePath, Failure>) {
        for failure in failures.values() {
            warn!(%failure, "A managed file is not as it should be and could not be put back");
        }
        if !changed.is_empty() {
            let names = changed.iter().map(FilePath::as_str).collect::<Vec<_>>().join(", ");
            warn!(files = names, "Managed files had been changed on the device; put them back");
            self.drift = Some(Drift::PutBack(format!("put back {} changed on the device: {names}", changed.len())));
        }
        match not_put_back(failures) {
            Some(drift) => self.drift = Some(drift),
            None => drop(self.drift.take_if(|drift| matches!(drift, Drift::NotPutBack(_)))),
        }
        self.publish();
    }

    /// Forgets contents that neither release refers to. Failures wait for the next time.
    fn collect_garbage(&mut self) {
        let current = &self.state.current.files;
        self.known.retain(|path| current.binary_search_by(|f| f.path.cmp(path)).is_ok());
        let mut files: Vec<&ManagedFile> = current.iter().chain(&self.state.leftovers).collect();
        match &self.state.stage {
            Stage::Settled => {}
            Stage::Applying { target } | Stage::RollingBack { target, .. } => files.extend(&target.files),
        }
        let store: BTreeSet<Digest> = files.iter().map(|f| f.digest).collect();
        let saved = files.iter().filter_map(|f| match &f.original {
            Original::File { digest, .. } => Some(*digest),
            Original::Absent | Original::Symlink { .. } => None,
        });
        for (directory, keep) in [(paths::store_dir(), store), (paths::saved_dir(), saved.collect())] {
            if let Err(error) = sweep(self.disk.as_ref(), &directory, &keep) {
                warn!(%directory, %error, "Contents that are no longer needed could not be removed");
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Offer<'a> {
    version: fleet_model::RenderedVersion,
    digest: Digest,
    wanted: &'a [WantedFile],
}

fn sweep(disk: &dyn Disk, directory: &FilePath, keep: &BTreeSet<Digest>) -> io::Result<()> {
    for name in disk.list(directory)? {
        if !name.parse::<Digest>().is_ok_and(|digest| keep.contains(&digest)) {
            disk.remove(&directory.join(&name))?;
        }
    }
    Ok(())
}

fn not_put_back(failures: &BTreeMap<FilePath, Failure>) -> Option<Drift> {
    let first = failures.values().next()?;
    Some(Drift::NotPutBack(format!("{} managed files could not be put back: {first}", failures.len())))
}

/// Paths that differ between two releases, and those that were changed now: after an interruption the files may be in
/// place while nobody was told.
fn differing(from: &[ManagedFile], to: &[ManagedFile], changed: Vec<FilePath>) -> Vec<FilePath> {
    let mut all: BTreeSet<FilePath> = changed.into_iter().collect();
    let missing_in = |one: &[ManagedFile], other: &[ManagedFile]| -> Vec<FilePath> {
        let same = |f: &ManagedFile| other.binary_search_by(|o| o.path.cmp(&f.path)).is_ok_and(|at| other[at] == *f);
        one.iter().filter(|f| !same(f)).map(|f| f.path.clone()).collect()
    };
    all.extend(missing_in(from, to));
    all.extend(missing_in(to, from));
    all.into_iter().collect()
}

#[cfg(test)]
#[path = "engine/tests.rs"]
mod tests;
