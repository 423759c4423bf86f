//! What a pull request is once it is merged: a merge of its newest commit into the commit in force, made in the mirror of pull
//! requests and pushed nowhere. Where that cannot be made, the newest commit as it is, and a sentence that says so.

use fleet_forge::Pull;
use fleet_git::{GitError, GitErrorKind, Merge, Merged, Remote};
use fleet_model::CommitId;
use fleet_store::SourceDefinition;
use tracing::info;

use crate::snapshot::Mirror;

/// What is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Landing {
    /// The commit that stands for the pull request.
    pub(super) commit: CommitId,
    /// What people should know of it, without a full stop; nothing where the newest commit follows what is in force.
    pub(super) told: Option<String>,
    /// Whether the mirror holds the commit in force.
    pub(super) has_base: bool,
}

/// Asks for the commit in force where the mirror lacks it, and merges.
///
/// # Errors
/// When the host cannot be asked, or the mirror is damaged.
pub(super) async fn land(
    mirror: Mirror<'_>,
    remote: &Remote,
    definition: &SourceDefinition,
    pull: &Pull,
    applied: &CommitId,
) -> Result<Landing, GitError> {
    mirror.git.fetch_seen(mirror.path, remote, &definition.revision, None, Some(applied)).await?;
    match mirror.git.merge(mirror.path, applied, &pull.head).await {
        Ok(merge) => Ok(told(merge, &pull.head, applied)),
        Err(error) if [GitErrorKind::Corrupt, GitErrorKind::DiskFull].contains(&error.kind) => Err(error),
        Err(error) if error.kind == GitErrorKind::RefMissing => {
            // The pull request itself was fetched; were it gone, the mirror was made anew meanwhile.
            mirror.git.history(mirror.path, None, &pull.head, 1).await?;
            Ok(as_it_is(&pull.head, "the branch has lost the commit in force", false))
        }
        Err(error) => {
            // Everybody reads the comment: the error itself may name places on this machine.
            info!(pull = pull.number, %error, "Cannot merge a pull request to plan it");
            let why = match [GitErrorKind::DeadlineExceeded, GitErrorKind::WorkerDied].contains(&error.kind) {
                true => "the merge takes too much time or memory",
                false => "it cannot be merged with the commit in force",
            };
            Ok(as_it_is(&pull.head, why, true))
        }
    }
}

fn as_it_is(head: &CommitId, why: &str, has_base: bool) -> Landing {
    let told = format!(
        "not planned as a merge: {why}; this plan is of the pull request as it is, and takes back what came since"
    );
    Landing { commit: head.clone(), told: Some(told), has_base }
}

fn told(merge: Merge, head: &CommitId, applied: &CommitId) -> Landing {
    let Merge { behind, merged } = merge;
    let commits = if behind == 1 { "1 commit".to_owned() } else { format!("{behind} commits") };
    let (commit, told) = match merged {
        Merged::Commit(commit) if behind == 0 => (commit, None),
        Merged::Commit(commit) => {
            let told = format!(
                "it is {commits} behind {}; this plan is of a merge of the two, which keeps what came since",
                applied.short()
            );
            (commit, Some(told))
        }
        Merged::Conflicts(files) => {
            let told = format!(
                "it is {commits} behind {} and conflicts with it ({}); this plan is of the pull request as it is, and takes \
                 back what came since: merge or rebase first",
                applied.short(),
                files.join(", ")
            );
            (head.clone(), Some(told))
        }
    };
    Landing { commit, told, has_base: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> CommitId {
        digit.repeat(40).parse().unwrap()
    }

    #[test]
    fn what_stands_for_a_pull_request_is_told_where_it_is_not_its_newest_commit() {
        let (head, applied, merge) = (id("a"), id("b"), id("c"));
        let of = |behind: usize, merged: Merged| told(Merge { behind, merged }, &head, &applied);
        assert_eq!(of(0, Merged::Commit(head.clone())).told, None);
        let merged = of(1, Merged::Commit(merge.clone()));
        assert_eq!(merged.commit, merge);
        assert!(merged.told.unwrap().starts_with("it is 1 commit behind bbbbbbbbbbbb; this plan is of a merge"));
        let conflict = of(3, Merged::Conflicts(vec!["a.yaml".to_owned(), "b.yaml".to_owned()]));
        assert_eq!(conflict.commit, head);
        let told = conflict.told.unwrap();
        assert!(
            told.contains("3 commits behind") && told.contains("(a.yaml, b.yaml)") && told.contains("rebase first")
        );
    }
}
