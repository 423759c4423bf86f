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
        let id = oid.to_gix();
        let broken = |error: gix::Error| classify::local(&error, &format!("read blob {oid} in the mirror"));
        let header = repo.try_find_header(id).map_err(broken)?;
        let header = header.ok_or_else(|| GitError::corrupt(format!("blob {oid} is not in the mirror")))?;
        if header.kind() != gix::objs::Kind::Blob {
            return Err(GitError::other(format!("object {oid} is a {}, not a blob", header.kind())));
        }
        if header.size() > largest {
            return Err(GitError::new(
                GitErrorKind::TooLarge,
                format!("blob {oid} has {} bytes; at most {largest} are allowed", header.size()),
            ));
        }
        total = total.saturating_add(header.size());
        if total > bounds.max_total_bytes {
            return Err(GitError::new(
                GitErrorKind::TooLarge,
                format!("the files together have more than {} bytes (reached at blob {oid})", bounds.max_total_bytes),
            ));
        }
        let blob = repo.find_blob(id).map_err(broken)?;
        output.blob(&blob.data).map_err(|error| GitError::other(format!("cannot hand over blob {oid}: {error}")))?;
    }
    Ok(oids.len())
}
