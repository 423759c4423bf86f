//! What a merge of two commits would be, without a work tree and without anybody's drivers or filters: nothing is configured here, so
//! no program is run.

use std::collections::HashSet;

use fleet_model::CommitId;
use gix::Repository;
use gix::bstr::ByteSlice as _;
use gix::merge::blob::builtin_driver::text::Labels;
use gix::merge::tree::TreatAsUnresolved;

use super::activity::Activity;
use super::ancestry::{gix_id, history};
use super::classify;
use crate::error::{GitError, GitErrorKind};
use crate::wire::{Merge, Merged};

/// So many conflicting files are named.
const MAX_CONFLICTS: usize = 10;
/// Who makes the commit. It is the same at any time, so that the same merge is the same commit.
const NOBODY: &str = "a merge that is only looked at";

/// Merges `theirs` into `ours` and writes the result into the mirror, where the next repacking removes it.
///
/// # Errors
/// `RefMissing` when the mirror lacks one of the two; `Other` when they have nothing in common.
pub(super) fn merge(
    repo: &Repository,
    ours: &CommitId,
    theirs: &CommitId,
    activity: &Activity,
) -> Result<Merge, GitError> {
    let (our_id, their_id) = (gix_id(ours)?, gix_id(theirs)?);
    if let Some((missing, _)) = [(ours, our_id), (theirs, their_id)].into_iter().find(|(_, id)| !repo.has_object(*id)) {
        let message = format!("commit {missing} is not in the mirror; fetch it first");
        return Err(GitError::new(GitErrorKind::RefMissing, message));
    }
    let known: HashSet<gix::ObjectId> = history(repo, their_id, activity)?.collect::<Result<_, _>>()?;
    if known.contains(&our_id) {
        return Ok(Merge { behind: 0, merged: Merged::Commit(theirs.clone()) });
    }
    let mut behind = 0;
    let mut is_related = false;
    for id in history(repo, our_id, activity)? {
        if known.contains(&id?) { is_related = true } else { behind += 1 }
    }
    if !is_related {
        let message = format!("{} and {} have no commit in common", ours.short(), theirs.short());
        return Err(GitError::other(message));
    }
    let broken = |error: gix::Error| classify::local(&error, "merge two commits in the mirror");
    let options = repo.tree_merge_options().map_err(broken)?;
    let labels = Labels { ancestor: None, current: Some(b"ours".as_bstr()), other: Some(b"theirs".as_bstr()) };
    let outcome = repo.merge_commits(our_id, their_id, labels, options.into()).map_err(broken)?;
    let mut tree_merge = outcome.tree_merge;
    let unresolved = TreatAsUnresolved::git();
    if tree_merge.has_unresolved_conflicts(unresolved) {
        let conflicts = tree_merge.conflicts.iter().filter(|conflict| conflict.is_unresolved(unresolved));
        let paths = conflicts.map(|conflict| conflict.ours.location().to_str_lossy().into_owned());
        let mut paths: Vec<String> = paths.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        paths.truncate(MAX_CONFLICTS);
        return Ok(Merge { behind, merged: Merged::Conflicts(paths) });
    }
    let tree = tree_merge.tree.write().map_err(broken)?.detach();
    let who = gix::actor::Signature {
        name: NOBODY.into(),
        email: "nobody@invalid".into(),
        time: gix::date::Time { seconds: 0, offset: 0 },
    };
    let commit = gix::objs::Commit {
        tree,
        parents: [our_id, their_id].into_iter().collect(),
        author: who.clone(),
        committer: who,
        encoding: None,
        message: NOBODY.into(),
        extra_headers: Vec::new(),
    };
    let id = repo.write_object(&commit).map_err(broken)?;
    let id = id.to_string().parse().map_err(|error| GitError::other(format!("{error}")))?;
    Ok(Merge { behind, merged: Merged::Commit(id) })
}
