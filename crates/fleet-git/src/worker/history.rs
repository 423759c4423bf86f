//! The commits between two, as bytes: for whoever judges their signatures.

use std::collections::HashSet;

use fleet_model::CommitId;
use gix::Repository;

use super::ancestry::gix_id;
use super::classify;
use crate::error::{GitError, GitErrorKind};
use crate::wire::{History, HistoryCommit};

/// A commit's bytes beyond this are left out.
const MAX_RAW: usize = 1 << 20;
/// The bytes of all commits together.
const MAX_RAW_TOTAL: usize = 16 << 20;
/// So many commits for each one of the answer are walked, to know which are new.
const WALKED_PER_COMMIT: usize = 20;

/// The commits from `tip` along first parents down to what `base` has in its history, newest first. Without a base, or
/// with one that the mirror does not know, down to the root.
pub(super) fn history(
    repo: &Repository,
    base: Option<&CommitId>,
    tip: &CommitId,
    max: usize,
) -> Result<History, GitError> {
    let broken = |error: &gix::Error| classify::local(error, "walk the history in the mirror");
    let tip_id = gix_id(tip)?;
    if !repo.has_object(tip_id) {
        let message = format!("commit {tip} is not in the mirror; fetch it first");
        return Err(GitError::new(GitErrorKind::RefMissing, message));
    }
    let base = base.map(gix_id).transpose()?.filter(|base| repo.has_object(*base));
    let new = match base {
        None => None,
        Some(base) => {
            let limit = max.saturating_mul(WALKED_PER_COMMIT);
            let walk = repo.rev_walk([tip_id]).with_hidden([base]).all().map_err(|error| broken(&error))?;
            let mut new = HashSet::new();
            for info in walk.take(limit) {
                new.insert(info.map_err(|error| broken(&error))?.id);
            }
            Some(new)
        }
    };
    let mut history = History { commits: Vec::new(), complete: true };
    let (mut at, mut total) = (Some(tip_id), 0);
    // Above the limit of the walk the set lacks commits: then the chain ends early, and is not complete.
    let cut = new.as_ref().is_some_and(|new| new.len() >= max.saturating_mul(WALKED_PER_COMMIT));
    while let Some(id) = at {
        if base == Some(id) || new.as_ref().is_some_and(|new| !new.contains(&id)) {
            break;
        }
        if history.commits.len() >= max || total > MAX_RAW_TOTAL {
            history.complete = false;
            break;
        }
        let commit = repo.find_commit(id).map_err(|error| classify::local(&error, "read a commit in the mirror"))?;
        super::blobs::verify(gix::objs::Kind::Commit, &commit.data, &id)?;
        let parents = commit.parent_ids().map(|parent| parent.detach()).collect::<Vec<_>>();
        let raw = (commit.data.len() <= MAX_RAW).then(|| commit.data.clone());
        total += raw.as_ref().map_or(0, Vec::len);
        let message = commit.message_raw_sloppy().to_string();
        let named = |id: gix::ObjectId| id.to_string().parse().map_err(|error| GitError::other(format!("{error}")));
        history.commits.push(HistoryCommit {
            id: named(id)?,
            first_parent: parents.first().map(|parent| named(*parent)).transpose()?,
            subject: super::ancestry::subject(&message),
            raw,
        });
        at = parents.first().copied();
    }
    history.complete &= !cut;
    Ok(history)
}
