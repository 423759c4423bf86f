//! The commits between two, as bytes: for whoever judges their signatures.

use std::collections::HashSet;

use fleet_model::CommitId;
use gix::Repository;

use super::activity::Activity;
use super::ancestry::gix_id;
use super::classify;
use crate::error::{GitError, GitErrorKind};
use crate::wire::{History, HistoryCommit};

/// A commit's bytes beyond this are left out.
const MAX_RAW: usize = 1 << 20;
/// The bytes of all commits together.
const MAX_RAW_TOTAL: usize = 16 << 20;

/// The commits from `tip` along first parents down to what `base` has in its history, newest first. Without a base, or
/// with one that the mirror does not know, down to the root.
pub(crate) fn history(
    repo: &Repository,
    base: Option<&CommitId>,
    tip: &CommitId,
    max: usize,
    activity: &Activity,
) -> Result<History, GitError> {
    let tip_id = gix_id(tip)?;
    if !repo.has_object(tip_id) {
        let message = format!("commit {tip} is not in the mirror; fetch it first");
        return Err(GitError::new(GitErrorKind::RefMissing, message));
    }
    let base = base.map(gix_id).transpose()?.filter(|base| repo.has_object(*base));
    // All of it: a walk that leaves out what base has goes wrong where the clocks of committers were not in order, and a commit
    // that is left out is one that nobody judges.
    let known: HashSet<gix::ObjectId> = match base {
        Some(base) => super::ancestry::history(repo, base, activity)?.collect::<Result<_, _>>()?,
        None => HashSet::new(),
    };
    let mut history = History { commits: Vec::new(), complete: true };
    let (mut at, mut total) = (Some(tip_id), 0);
    while let Some(id) = at {
        if known.contains(&id) {
            break;
        }
        if history.commits.len() >= max || total > MAX_RAW_TOTAL {
            history.complete = false;
            break;
        }
        activity.moved(1);
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
    Ok(history)
}
