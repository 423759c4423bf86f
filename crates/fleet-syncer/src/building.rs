//! From a commit's manifests to rows: with all that they take from elsewhere, for a source's next commit and for pull
//! requests alike.

use std::collections::{BTreeSet, HashMap};

use fleet_git::GitError;
use fleet_lint::{PlacedManifest, TreeReport};
use fleet_model::Diagnostic;
use fleet_store::StoreError;

use crate::desired::{self, BuildError, Desired};
use crate::errand::Errand;
use crate::inputs::{ContentCache, InputReader};
use crate::pins::LastPins;
use crate::repositories::Repositories;
use crate::restored::PositionPins;
use crate::snapshot::{Mirror, Snapshot};
use crate::source::Shared;
use crate::values::{Subjects, any_value, device_labels};

/// Why rows could not be made this time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildFailure {
    /// Our own reading of the commit failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A commit without errors in its files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Building<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) source: &'a str,
    pub(crate) report: &'a TreeReport,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) mirror: Mirror<'a>,
    /// Hosts that kept this look waiting.
    pub(crate) errand: &'a Errand,
    /// Nothing is read from elsewhere, see [`InputReader::only_in_force`].
    pub(crate) only_in_force: bool,
}

impl Building<'_> {
    /// The rows, or why the commit is refused. `contents` is what was read before, and grows.
    ///
    /// # Errors
    /// When the mirror or the database fails: it is to be tried again.
    pub(crate) async fn run(
        self,
        contents: &mut ContentCache,
    ) -> Result<Result<Desired, Vec<Diagnostic>>, BuildFailure> {
        self.run_with(contents, None).await
    }

    /// The same for a commit that was in force before desired state was dropped, with what it had from elsewhere then.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) async fn run_again(
        self,
        contents: &mut ContentCache,
    ) -> Result<Result<Desired, Vec<Diagnostic>>, BuildFailure> {
        let pins = PositionPins::read(&self.shared.store, self.shared.config.org, self.source).await?;
        self.run_with(contents, Some(&pins)).await
    }

    async fn run_with(
        self,
        contents: &mut ContentCache,
        restored: Option<&PositionPins>,
    ) -> Result<Result<Desired, Vec<Diagnostic>>, BuildFailure> {
        let (shared, org, local) = (self.shared, self.shared.config.org, self.shared.config.allow_local_repositories);
        let own = || self.report.manifests.iter().map(PlacedManifest::manifest);
        let mut transaction = shared.store.begin().await?;
        let mut repositories = Repositories::stored(&mut transaction, org, local, Some(self.source)).await?;
        let subjects = match any_value(own()) {
            true => Subjects::read(&mut transaction, org, self.source, device_labels(own())).await?,
            false => Subjects::nobody(&mut transaction, org, self.source).await?,
        };
        drop(transaction);
        let last = LastPins::read(&shared.store, org, self.source).await?;
        repositories.add(own(), local);
        let mut reader = InputReader {
            git: &shared.git,
            mirror: self.mirror,
            snapshot: self.snapshot,
            dependencies: &shared.dependencies,
            web: &shared.web,
            secrets: &shared.secrets,
            repositories: &repositories,
            subjects: &subjects,
            last: &last,
            errand: self.errand,
            contents,
            only_in_force: self.only_in_force,
            restored,
            pinned: HashMap::new(),
            unreadable: BTreeSet::new(),
        };
        match desired::build(self.report, self.source, &mut reader).await {
            Ok(desired) => Ok(Ok(desired)),
            Err(BuildError::Refused(findings)) => Ok(Err(findings)),
            Err(BuildError::Retry(error)) => Err(error.into()),
        }
    }
}
