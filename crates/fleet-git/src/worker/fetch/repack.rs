//! What outlives a mirror: commits that a rewritten history lost, and, when its packs are put together, everything it holds.

use std::fs;
use std::path::Path;

use fleet_model::CommitId;
use gix::Repository;
use gix::refs::transaction::PreviousValue;

use super::super::activity::Activity;
use super::super::ancestry::{gix_id, is_forced};
use super::super::classify;
use super::super::mirror::Fresh;
use super::super::session::Session;
use super::{Revision, Wanted, receive};
use crate::error::GitError;
use crate::remote::Remote;
use crate::wire::FetchOutcome;

/// Where our references are.
const OURS: &str = "refs/shorebase/";
/// Begins the names of references to commits that no history of the host holds any more, but somebody's base is at.
const KEPT: &str = "kept-";
/// The most commits that are kept so; the one that nobody asked for the longest goes first.
const MAX_KEPT: usize = 64;

/// So many commits of others are looked after in one fetch.
const MAX_OTHERS: usize = 16;

/// The commits of others that the history of `commit` does not hold.
pub(super) fn apart<'a>(repo: &Repository, commit: gix::ObjectId, wanted: &Wanted<'a>) -> Vec<&'a CommitId> {
    let others = wanted.known.others.iter().take(MAX_OTHERS);
    // What cannot be told counts as apart: keeping a commit too many does no harm.
    others.filter(|other| is_forced(repo, Some(other), commit).unwrap_or(true)).collect()
}

/// Keeps a commit, when the mirror holds it.
pub(super) fn keep(repo: &Repository, commit: &CommitId) -> Result<(), GitError> {
    let id = gix_id(commit)?;
    if !repo.has_object(id) {
        return Ok(());
    }
    let doing = "write a reference of the mirror";
    repo.reference(format!("{OURS}{KEPT}{id}"), id, PreviousValue::Any, "keep")
        .map_err(|error| classify::local(&error, doing))?;
    let file = repo.git_dir().join(OURS).join(format!("{KEPT}{id}"));
    // An unchanged reference is not written again, and its age says who goes first.
    touch(&file);
    forget_oldest(&repo.git_dir().join(OURS));
    Ok(())
}

fn touch(file: &Path) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // One that is thought too old may go a little early.
    let _ =
        rustix::fs::utimensat(CWD, file, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty());
}

fn forget_oldest(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut kept: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(KEPT)))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort();
    let excess = kept.len().saturating_sub(MAX_KEPT);
    for (_, path) in kept.into_iter().take(excess) {
        // A reference too many does no harm.
        let _ = fs::remove_file(path);
    }
}

/// Asks the host for a commit that its branches may have lost, for a fresh mirror. Returns whether it is there now.
pub(super) fn bring_back(repo: &Repository, commit: &CommitId, wanted: &Wanted<'_>, activity: &Activity) -> bool {
    let Ok(id) = gix_id(commit) else { return false };
    if repo.has_object(id) {
        return keep(repo, commit).is_ok();
    }
    let revision = Revision::Commit(commit.clone());
    let Ok(mut session) = Session::open(wanted.remote, wanted.timeouts, activity) else { return false };
    if receive(repo, &mut session, id, &revision, wanted.max_pack_bytes, activity).is_err() {
        return false;
    }
    session.close();
    keep(repo, commit).is_ok()
}

/// Puts the packs of the mirror at `path` together: all that its references hold goes into a fresh one, without asking
/// the host. A mirror for which that fails stays as it is, and the next fetch tries again.
pub(super) fn repack(
    path: &Path,
    crowded: &Repository,
    wanted: &Wanted<'_>,
    outcome: FetchOutcome,
    activity: &Activity,
) -> Result<FetchOutcome, GitError> {
    match copy(path, crowded, wanted, activity).and_then(|fresh| fresh.install(path)) {
        Ok(()) => Ok(FetchOutcome { rebuilt: Some("it had too many packs".to_owned()), ..outcome }),
        Err(error) => {
            tracing::info!(mirror = %path.display(), %error, "Cannot put the packs of a mirror together");
            Ok(outcome)
        }
    }
}

fn copy(path: &Path, crowded: &Repository, wanted: &Wanted<'_>, activity: &Activity) -> Result<Fresh, GitError> {
    let doing = "read the references of the mirror";
    let broken = |error: &gix::Error| classify::local(error, doing);
    let mut held = Vec::new();
    let references = crowded.references().map_err(|error| broken(&error))?;
    for reference in references.prefixed(OURS).map_err(|error| broken(&error))? {
        let reference = reference.map_err(|error| GitError::other(format!("cannot {doing}: {error}")))?;
        if let Some(id) = reference.try_id() {
            held.push((reference.name().as_bstr().to_string(), id.detach()));
        }
    }
    // What the revision points at comes first, and with it most of the rest.
    held.sort_by_key(|(name, _)| name.contains(KEPT));
    let here = path.to_str().ok_or_else(|| GitError::other("the mirror's path is not UTF-8"))?;
    let here = Remote::anonymous(here);
    let fresh = Fresh::create(path)?;
    for (name, id) in held {
        if !fresh.repo.has_object(id) {
            let mut session = Session::open(&here, wanted.timeouts, activity)?;
            let revision = Revision::Refs(vec![name.clone()]);
            receive(&fresh.repo, &mut session, id, &revision, u64::MAX, activity)
                .map_err(super::Failure::into_error)?;
            session.close();
        }
        fresh
            .repo
            .reference(name, id, PreviousValue::Any, "repack")
            .map_err(|error| classify::local(&error, "write a reference of the mirror"))?;
    }
    Ok(fresh)
}
