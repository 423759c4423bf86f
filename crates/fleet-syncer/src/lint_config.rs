//! Which lint configuration judges a commit: that of the commit applied before it, so that no commit can excuse itself.
//! The first commit of a source is judged by its own.

use std::sync::Arc;

use fleet_git::{GitError, GitErrorKind, ObjectId};
use fleet_lint::{CONFIG_FILE, LintConfig, MAX_FILE_BYTES, codes};
use fleet_model::{CommitId, Diagnostic};
use fleet_store::SourcePosition;

use crate::desired::finding_in_file;
use crate::snapshot::{Entry, Mirror, Snapshot, is_regular};

/// So many configurations are kept.
const KEEP: usize = 4;

/// The configuration of a commit, and what is wrong in it.
pub(crate) type ReadConfig = Arc<(LintConfig, Vec<Diagnostic>)>;

/// Configurations that were read, by commit.
#[derive(Debug, Default)]
pub(crate) struct LintConfigs(Vec<(CommitId, ReadConfig)>);

impl LintConfigs {
    /// The configuration of the commit that a snapshot was made of.
    ///
    /// # Errors
    /// When the worker fails.
    pub(crate) async fn of_snapshot(
        &mut self,
        mirror: Mirror<'_>,
        snapshot: &Snapshot,
    ) -> Result<ReadConfig, GitError> {
        if let Some(known) = self.known(&snapshot.commit) {
            return Ok(known);
        }
        let read = read(mirror, snapshot.entries.get(CONFIG_FILE).copied()).await?;
        Ok(self.keep(&snapshot.commit, read))
    }

    /// The configuration of another commit of the mirror; `None` when the mirror does not have it any more.
    ///
    /// # Errors
    /// When the worker fails.
    pub(crate) async fn of_commit(
        &mut self,
        mirror: Mirror<'_>,
        commit: &CommitId,
    ) -> Result<Option<ReadConfig>, GitError> {
        if let Some(known) = self.known(commit) {
            return Ok(Some(known));
        }
        let entry = match mirror.git.list_tree(mirror.path, commit, CONFIG_FILE).await {
            Ok(entries) => entries.into_iter().find(|entry| entry.path == CONFIG_FILE),
            Err(error) if error.kind == GitErrorKind::PathMissing => None,
            Err(error) if error.kind == GitErrorKind::RefMissing => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = read(mirror, entry.map(|entry| Entry { mode: entry.mode, oid: entry.oid })).await?;
        Ok(Some(self.keep(commit, read)))
    }

    fn known(&self, commit: &CommitId) -> Option<ReadConfig> {
        self.0.iter().find(|(known, _)| known == commit).map(|(_, config)| Arc::clone(config))
    }

    fn keep(&mut self, commit: &CommitId, read: (LintConfig, Vec<Diagnostic>)) -> ReadConfig {
        if self.0.len() >= KEEP {
            self.0.remove(0);
        }
        let read = Arc::new(read);
        self.0.push((commit.clone(), Arc::clone(&read)));
        read
    }
}

async fn read(mirror: Mirror<'_>, entry: Option<Entry>) -> Result<(LintConfig, Vec<Diagnostic>), GitError> {
    let Some(Entry { mode, oid }) = entry else { return Ok((LintConfig::default(), Vec::new())) };
    if !is_regular(mode) {
        let message = format!("{CONFIG_FILE} is a symbolic link or a submodule; it must be a regular file");
        return Ok((LintConfig::default(), vec![finding_in_file(CONFIG_FILE, codes::NOT_A_FILE, message)]));
    }
    match blob(mirror, oid).await {
        Ok(bytes) => Ok(LintConfig::parse(&bytes)),
        Err(error) if error.kind == GitErrorKind::TooLarge => {
            let finding = finding_in_file(CONFIG_FILE, codes::LINT_CONFIG, error.message);
            Ok((LintConfig::default(), vec![finding]))
        }
        Err(error) => Err(error),
    }
}

async fn blob(mirror: Mirror<'_>, oid: ObjectId) -> Result<bytes::Bytes, GitError> {
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    Ok(mirror.git.read_blobs(mirror.path, &[oid], limit, limit).await?.pop().unwrap_or_default())
}

/// The commit whose configuration judges `commit`; `None` when that is its own. `applied` is what the database holds,
/// `position` what it held before desired state was dropped. A commit that is looked at again is judged as it was.
pub(crate) fn judge(
    commit: &CommitId,
    applied: Option<&CommitId>,
    position: Option<&SourcePosition>,
) -> Option<CommitId> {
    match position {
        Some(position) if position.commit == *commit => position.lint_commit.clone(),
        _ => applied.or(position.map(|position| &position.commit)).filter(|base| *base != commit).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_judged_by_the_one_before_it_and_again_in_the_same_way() {
        let id = |digit: &str| digit.repeat(40).parse::<CommitId>().unwrap();
        let (one, two, three) = (id("1"), id("2"), id("3"));
        let position = |commit: &CommitId, lint_commit: Option<&CommitId>| SourcePosition {
            commit: commit.clone(),
            lint_commit: lint_commit.cloned(),
            place: None,
            path: None,
            manifests: 1,
        };
        assert_eq!(judge(&one, None, None), None, "the first one");
        assert_eq!(judge(&two, Some(&one), Some(&position(&one, None))), Some(one.clone()));
        let at_two = position(&two, Some(&one));
        assert_eq!(judge(&two, Some(&two), Some(&at_two)), Some(one.clone()), "looked at again");
        assert_eq!(judge(&two, None, Some(&at_two)), Some(one), "after desired state was dropped");
        assert_eq!(judge(&three, None, Some(&at_two)), Some(two), "a newer one, too");
    }
}
