//! Was history rewritten, and which commits are lost with it?

use std::collections::HashSet;

use fleet_model::CommitId;
use gix::Repository;

use super::activity::Activity;
use super::classify;
use crate::error::{GitError, GitErrorKind};
use crate::wire::CommitSubject;

/// Characters of a commit's first line that are told.
const MAX_SUBJECT: usize = 120;

/// The gix name of a commit of ours.
pub(crate) fn gix_id(commit: &CommitId) -> Result<gix::ObjectId, GitError> {
    gix::ObjectId::from_hex(commit.as_str().as_bytes())
        .map_err(|_| GitError::new(GitErrorKind::RefMissing, format!("{commit} is not the id of a SHA-1 commit")))
}

/// Whether `base` is not an ancestor of `commit`. A base that the mirror does not know counts as not.
pub(super) fn is_forced(
    repo: &Repository,
    base: Option<&CommitId>,
    commit: gix::ObjectId,
    activity: &Activity,
) -> Result<bool, GitError> {
    let Some(base) = base else { return Ok(false) };
    let base = gix_id(base)?;
    if base == commit {
        return Ok(false);
    }
    if !repo.has_object(base) {
        return Ok(true);
    }
    // Not by merge bases: those go wrong where the clocks of committers were not in order.
    for id in history(repo, commit, activity)? {
        if id? == base {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All commits of a history, the newest first as far as their dates tell. Each is a sign of life.
pub(super) fn history<'a>(
    repo: &'a Repository,
    tip: gix::ObjectId,
    activity: &'a Activity,
) -> Result<impl Iterator<Item = Result<gix::ObjectId, GitError>> + 'a, GitError> {
    let broken = |error: &gix::Error| classify::local(error, "walk the history in the mirror");
    let walk = repo.rev_walk([tip]).sorting(newest_first()).all().map_err(|error| broken(&error))?;
    Ok(walk.map(move |info| {
        activity.moved(1);
        info.map(|info| info.id).map_err(|error| broken(&error))
    }))
}

fn newest_first() -> gix::revision::walk::Sorting {
    gix::revision::walk::Sorting::ByCommitTime(Default::default())
}

/// The first line of a commit's message.
pub(super) fn subject(message: &str) -> String {
    let line = message.trim_start().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect()
}

/// The newest commits, at most `max`, that `from` has in its history and `to` has not.
pub(super) fn lost(
    repo: &Repository,
    from: &CommitId,
    to: &CommitId,
    max: usize,
    activity: &Activity,
) -> Result<Vec<CommitSubject>, GitError> {
    let (tip, kept) = (gix_id(from)?, gix_id(to)?);
    if let Some(missing) = [(from, tip), (to, kept)].into_iter().find(|(_, id)| !repo.has_object(*id)) {
        let message = format!("commit {} is not in the mirror; fetch it first", missing.0);
        return Err(GitError::new(GitErrorKind::RefMissing, message));
    }
    let broken = |error: &gix::Error| classify::local(error, "walk the history in the mirror");
    let kept: HashSet<gix::ObjectId> = history(repo, kept, activity)?.collect::<Result<_, _>>()?;
    // What is kept has all its ancestors kept, so that nothing behind it need be walked.
    let is_lost = move |id: &gix::oid| !kept.contains(id);
    let walk = repo.rev_walk([tip]).sorting(newest_first()).selected(is_lost).map_err(|error| broken(&error))?;
    let mut commits = Vec::new();
    for info in walk.take(max) {
        activity.moved(1);
        let info = info.map_err(|error| broken(&error))?;
        let commit = info.object().map_err(|error| broken(&error))?;
        let message = commit.message_raw_sloppy().to_string();
        let subject = subject(&message);
        let id = info.id.to_string().parse().map_err(|error| GitError::other(format!("{error}")))?;
        commits.push(CommitSubject { id, subject });
    }
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::history;

    #[test]
    fn every_commit_of_a_walk_is_a_sign_of_life() {
        const COMMITS: usize = 30;
        let repo = fleet_test::GitRepo::init();
        let ids: Vec<CommitId> = (0..COMMITS).map(|_| repo.commit("more").parse().unwrap()).collect();
        let (first, last) = (&ids[0], &ids[COMMITS - 1]);
        let other: CommitId =
            repo.force(repo.git(&["commit-tree", "-m", "other", "HEAD^{tree}"]).as_str()).head().parse().unwrap();
        let opened = gix::open(repo.path()).unwrap();
        let counted = |work: &dyn Fn(&Activity)| {
            let activity = Activity::default();
            work(&activity);
            gix::Count::step(&activity)
        };
        let tip = gix_id(last).unwrap();
        assert_eq!(counted(&|activity| assert!(!is_forced(&opened, Some(first), tip, activity).unwrap())), COMMITS);
        let walked =
            counted(&|activity| assert_eq!(lost(&opened, last, &other, 100, activity).unwrap().len(), COMMITS));
        assert_eq!(walked, COMMITS + 1);
        let walk = |activity: &Activity| history::history(&opened, Some(&other), last, 100, activity).unwrap();
        assert_eq!(counted(&|activity| assert_eq!(walk(activity).commits.len(), COMMITS)), COMMITS + 1);
    }
}
