//! Carries out what the state machine decides: the only owner of the state and of managed files.

use std::collections::BTreeSet;
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
use crate::progress::Progress;
use crate::services::Services;
use crate::state::{self, Loaded, ManagedFile, Original, Release, Stage, State};

const NOT_PUT_BACK: &str = "could not put back";

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
    drift: Option<String>,
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
                error!(file = %paths::state_file(), why, "The state is damaged; it is set aside and the device starts anew");
                state::set_aside(disk.as_ref())?;
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
        let mut outcome = Ok(());
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
                    Action::RollBack => {
                        let event = self.roll_back();
                        if let Err(failure) = &event {
                            outcome = Err(failure.clone());
                        }
                        next_event = Some(event.unwrap_or(Event::RollBackFailed));
                    }
                    Action::CollectGarbage => self.collect_garbage(),
                }
            }
            self.take_if_changed(next, next_event.is_none());
        }
        outcome
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
        let progress = Progress::of(&self.state, self.drift.as_deref());
        self.progress.send_if_modified(|old| {
            let changed = *old != progress;
            *old = progress;
            changed
        });
    }

    fn prepare(&mut self, offer: Option<&Offer<'_>>) -> Event {
        let Some(Offer { version, digest, wanted }) = offer else { return Event::Resumed };
        info!(%version, files = wanted.len(), "Preparing a new version");
        let prepared = prepare::prepare(self.disk.as_ref(), wanted, &self.state.current.files);
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

    fn roll_back(&mut self) -> Result<Event, Failure> {
        let Stage::RollingBack { target, .. } = &self.state.stage else { return Ok(Event::RollBackFailed) };
        let current = &self.state.current.files;
        let changed = overlay::converge(self.disk.as_ref(), current, &target.files, Phase::RollingBack).inspect_err(
            |failure| error!(%failure, "The last good version could not be put back; it is tried again"),
        )?;
        if let Err(failure) = self.reload(&differing(&target.files, current, changed), Phase::RollingBack) {
            // The files are back; a unit that will not take them is no reason to try for ever.
            error!(%failure, "A unit did not take up the files of the last good version");
        }
        info!(version = %self.state.current.version, "Put the last good version back");
        Ok(Event::RolledBack)
    }

    fn reload(&self, changed: &[FilePath], phase: Phase) -> Result<(), Failure> {
        if changed.is_empty() {
            return Ok(());
        }
        self.services
            .files_changed(changed)
            .map_err(|failure| Failure::new(phase, Component::Systemd, &failure.unit, failure.reason))
    }

    /// Compares all managed files with what they should be and puts back those that are not. Returns what it put back.
    ///
    /// # Errors
    /// When a file cannot be looked at or put back.
    pub fn check_drift(&mut self) -> Result<Vec<FilePath>, Failure> {
        if self.is_unsettled() {
            return Ok(vec![]);
        }
        let disk = self.disk.clone();
        let found = overlay::drifted(disk.as_ref(), &self.state.current.files, &mut self.known)?;
        if found.is_empty() {
            if self.drift.take_if(|note| note.starts_with(NOT_PUT_BACK)).is_some() {
                self.publish();
            }
            return Ok(vec![]);
        }
        let drifted: Vec<ManagedFile> = found.into_iter().cloned().collect();
        let put_back = overlay::converge(disk.as_ref(), &drifted, &[], Phase::ApplyingUpdate);
        let names = drifted.iter().map(|f| f.path.as_str()).collect::<Vec<_>>().join(", ");
        self.drift = Some(match &put_back {
            Ok(_) => format!("put back {} changed on the device: {names}", drifted.len()),
            Err(failure) => format!("{NOT_PUT_BACK} {names}: {failure}"),
        });
        self.publish();
        let put_back = put_back?;
        warn!(files = names, "Managed files had been changed on the device; put them back");
        if let Err(failure) = self.reload(&put_back, Phase::ApplyingUpdate) {
            error!(%failure, "A unit did not take up files that were put back");
        }
        Ok(put_back)
    }

    /// Forgets contents that neither release refers to. Failures wait for the next time.
    fn collect_garbage(&mut self) {
        let current = &self.state.current.files;
        self.known.retain(|path| current.binary_search_by(|f| f.path.cmp(path)).is_ok());
        let mut files: Vec<&ManagedFile> = current.iter().collect();
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
