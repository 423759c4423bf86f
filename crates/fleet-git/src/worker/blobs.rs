//! Contents of files.

use gix::Repository;

use super::classify;
use super::output::Output;
use crate::error::{GitError, GitErrorKind};
use crate::frame::MAX_BLOB_BYTES;
use crate::object_id::ObjectId;

/// How much a reader takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) max_blob_bytes: u64,
    pub(super) max_total_bytes: u64,
}

/// Writes the blobs to `output` in the order of `oids` and returns their number. Sizes are looked at before contents are
/// unpacked, so that a huge blob costs nothing.
pub(super) fn read(repo: &Repository, oids: &[ObjectId], bounds: Bounds, output: &Output) -> Result<usize, GitError> {
    let mut total = 0_u64;
    let largest = bounds.max_blob_bytes.min(u64::try_from(MAX_BLOB_BYTES).unwrap_or(u64::MAX));
    for oid in oids {
        let size = size(repo, *oid, largest)?;
        total = total.saturating_add(size);
        if total > bounds.max_total_bytes {
            return Err(GitError::new(
                GitErrorKind::TooLarge,
                format!("the files together have more than {} bytes (reached at blob {oid})", bounds.max_total_bytes),
            ));
        }
        let content = content(repo, *oid)?;
        output.blob(&content).map_err(|error| GitError::other(format!("cannot hand over blob {oid}: {error}")))?;
    }
    Ok(oids.len())
}

/// The size of a blob that has at most `largest` bytes, without unpacking it.
pub(crate) fn size(repo: &Repository, oid: ObjectId, largest: u64) -> Result<u64, GitError> {
    let header = repo.try_find_header(oid.to_gix()).map_err(|error| broken(&error, oid))?;
    let header = header.ok_or_else(|| GitError::corrupt(format!("blob {oid} is not in the repository")))?;
    if header.kind() != gix::objs::Kind::Blob {
        return Err(GitError::other(format!("object {oid} is a {}, not a blob", header.kind())));
    }
    if header.size() > largest {
        return Err(GitError::new(
            GitErrorKind::TooLarge,
            format!("blob {oid} has {} bytes; at most {largest} are allowed", header.size()),
        ));
    }
    Ok(header.size())
}

/// The contents of a blob. Ask for its [`size`] first.
pub(crate) fn content(repo: &Repository, oid: ObjectId) -> Result<Vec<u8>, GitError> {
    let mut blob = repo.find_blob(oid.to_gix()).map_err(|error| broken(&error, oid))?;
    verify(gix::objs::Kind::Blob, &blob.data, &oid.to_gix())?;
    Ok(std::mem::take(&mut blob.data))
}

/// Whether an object is what its name says: a damaged index of a pack may hand out another one.
pub(crate) fn verify(kind: gix::objs::Kind, data: &[u8], id: &gix::ObjectId) -> Result<(), GitError> {
    match gix::objs::compute_hash(id.kind(), kind, data) {
        Ok(found) if found == *id => Ok(()),
        Ok(_) | Err(_) => Err(GitError::corrupt(format!("{kind} {id} is damaged: its contents do not have that name"))),
    }
}

fn broken(error: &gix::Error, oid: ObjectId) -> GitError {
    classify::local(error, &format!("read blob {oid}"))
}
