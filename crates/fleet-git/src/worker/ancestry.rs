//! Was history rewritten?

use fleet_model::CommitId;
use gix::Repository;

use super::classify;
use crate::error::{GitError, GitErrorKind};

/// The gix name of a commit of ours.
pub(crate) fn gix_id(commit: &CommitId) -> Result<gix::ObjectId, GitError> {
    gix::ObjectId::from_hex(commit.as_str().as_bytes())
        .map_err(|_| GitError::new(GitErrorKind::RefMissing, format!("{commit} is not the id of a SHA-1 commit")))
}

/// Whether `base` is not an ancestor of `commit`. A base that the mirror does not know counts as not.
pub(super) fn is_forced(repo: &Repository, base: Option<&CommitId>, commit: gix::ObjectId) -> Result<bool, GitError> {
    let Some(base) = base else { return Ok(false) };
    let base = gix_id(base)?;
    if base == commit {
        return Ok(false);
    }
    if !repo.has_object(base) {
        return Ok(true);
    }
    let best =
        repo.merge_base(base, commit).map_err(|error| classify::local(&error, "walk the history in the mirror"))?;
    Ok(best.map(gix::Id::detach) != Some(base))
}
