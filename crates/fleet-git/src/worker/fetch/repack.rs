//! What outlives a mirror: commits that a rewritten history lost, and, when its packs are put together, everything it holds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fleet_model::CommitId;
use gix::Repository;
use gix::objs::Write as _;
use gix::refs::transaction::PreviousValue;

use super::super::activity::Activity;
use super::super::ancestry::{gix_id, is_forced};
use super::super::classify;
use super::super::mirror::Fresh;
use super::super::session::Session;
use super::{Revision, Wanted, fetch_into, receive};
use crate::error::{GitError, GitErrorKind};
use crate::remote::Remote;
use crate::wire::FetchOutcome;

/// Where our references are.
const OURS: &str = "refs/shorebase/";
/// Begins the names of references to commits that no history of the host holds any more, but somebody's base is at.
const KEPT: &str = "kept-";
/// The most commits that are kept so; the one that nobody asked for the longest goes first.
const MAX_KEPT: usize = 64;
/// Says when a mirror's packs were to be put together last. It goes with the mirror.
const TRIED_MARK: &str = "shorebase-repacking";
/// A try that failed, or took so long that the worker was killed, is not made again before: the fetch that it goes with has
/// to come to its end.
const RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// The most objects that only the old mirror holds and that are copied one by one.
const MAX_COPIED: usize = 20_000;

/// So many commits of others are looked after in one fetch.
const MAX_OTHERS: usize = 16;

/// The commits of others that the history of `commit` does not hold.
pub(super) fn apart<'a>(
    repo: &Repository,
    commit: gix::ObjectId,
    wanted: &Wanted<'a>,
    activity: &Activity,
) -> Vec<&'a CommitId> {
    let others = wanted.known.others.iter().take(MAX_OTHERS);
    // What cannot be told counts as apart: keeping a commit too many does no harm.
    others.filter(|other| is_forced(repo, Some(other), commit, activity).unwrap_or(true)).collect()
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
/// the host where the `git` program is installed, and from the host where it is not. A mirror for which that fails stays as
/// it is, and is tried again in an hour.
pub(super) fn repack(
    path: &Path,
    crowded: &Repository,
    revision: &Revision,
    wanted: &Wanted<'_>,
    outcome: FetchOutcome,
    activity: &Activity,
) -> FetchOutcome {
    let mark = path.join(TRIED_MARK);
    let tried = fs::metadata(&mark).and_then(|found| found.modified());
    if tried.is_ok_and(|at| at.elapsed().is_ok_and(|ago| ago < RETRY_AFTER)) {
        return outcome;
    }
    let marked = fs::write(&mark, b"").map_err(|error| GitError::of_disk(&error, "cannot write into the mirror"));
    let done = marked.and_then(|()| {
        let first = match copy(path, crowded, wanted, activity) {
            Ok(fresh) => return fresh.install(path),
            Err(full) if full.kind == GitErrorKind::DiskFull => return Err(full),
            Err(error) => error,
        };
        let again = fetch_again(path, crowded, revision, wanted, activity).and_then(|fresh| fresh.install(path));
        again.map_err(|second| GitError::other(format!("{first}; and from the host: {second}")))
    });
    match done {
        Ok(()) => FetchOutcome { rebuilt: Some("it had too many packs".to_owned()), ..outcome },
        Err(error) => FetchOutcome { not_repacked: Some(error.message), ..outcome },
    }
}

/// A fresh mirror with one pack from the host, and one by one the few objects that the host does not have any more.
fn fetch_again(
    path: &Path,
    crowded: &Repository,
    revision: &Revision,
    wanted: &Wanted<'_>,
    activity: &Activity,
) -> Result<Fresh, GitError> {
    let held = held(crowded)?;
    let fresh = Fresh::create(path)?;
    fetch_into(&fresh.repo, revision, wanted, activity).map_err(super::Failure::into_error)?;
    let mut room = MAX_COPIED;
    for (name, id) in held {
        copy_objects(crowded, &fresh.repo, id, &mut room, activity)?;
        // Also where the host went on meanwhile: the caller was told of the commit that the old mirror has.
        fresh
            .repo
            .reference(name, id, PreviousValue::Any, "repack")
            .map_err(|error| classify::local(&error, "write a reference of the mirror"))?;
    }
    Ok(fresh)
}

/// Copies a commit with all that it needs and `to` lacks. What `to` has it has with all that belongs to it.
fn copy_objects(
    from: &Repository,
    to: &Repository,
    tip: gix::ObjectId,
    room: &mut usize,
    activity: &Activity,
) -> Result<(), GitError> {
    let broken = |error: gix::Error| classify::local(&error, "copy an object of the mirror");
    let mut open = vec![tip];
    while let Some(id) = open.pop() {
        if to.has_object(id) {
            continue;
        }
        *room = room.checked_sub(1).ok_or_else(|| {
            GitError::other(format!("the mirror holds more than {MAX_COPIED} objects that the host has no more"))
        })?;
        let object = from.find_object(id).map_err(broken)?;
        super::super::blobs::verify(object.kind, &object.data, &id)?;
        match object.kind {
            gix::objs::Kind::Commit => {
                let commit = object.clone().into_commit();
                open.push(commit.tree_id().map_err(broken)?.detach());
                open.extend(commit.parent_ids().map(|parent| parent.detach()));
            }
            gix::objs::Kind::Tree => {
                let tree = object.clone().into_tree();
                let entries = tree.decode().map_err(broken)?.entries;
                open.extend(entries.iter().filter(|entry| !entry.mode.is_commit()).map(|entry| entry.oid.to_owned()));
            }
            gix::objs::Kind::Blob | gix::objs::Kind::Tag => {}
        }
        to.objects
            .write_buf(object.kind, &object.data)
            .map_err(|error| classify::local(&error, "write an object of the mirror"))?;
        activity.moved(1);
    }
    Ok(())
}

/// What our references hold, with their names.
fn held(crowded: &Repository) -> Result<Vec<(String, gix::ObjectId)>, GitError> {
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
    Ok(held)
}

fn copy(path: &Path, crowded: &Repository, wanted: &Wanted<'_>, activity: &Activity) -> Result<Fresh, GitError> {
    let held = held(crowded)?;
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
