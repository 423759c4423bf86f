//! The requests and answers that travel between the pool and a worker, and the public types inside them.

use std::path::PathBuf;

use fleet_model::CommitId;
use serde::{Deserialize, Serialize};

use crate::error::GitError;
use crate::object_id::ObjectId;
use crate::remote::Remote;
use crate::remote::pipe::RemoteOnThePipe;

/// What a tree entry is. Directories are walked into and never listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryMode {
    /// A regular file.
    File,
    /// A regular file with the executable bit.
    Executable,
    /// A symbolic link; its blob holds the target.
    Symlink,
    /// A commit of another repository.
    Submodule,
}

/// One file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEntry {
    /// The path from the root of the repository, `/` between the parts.
    pub path: String,
    /// What it is.
    pub mode: EntryMode,
    /// The blob, or for a submodule the commit.
    pub oid: ObjectId,
}

/// How a path differs between two commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It is new, with this content.
    Added {
        /// The new mode.
        mode: EntryMode,
        /// The new object.
        oid: ObjectId,
    },
    /// Its content or its mode differs.
    Modified {
        /// The new mode.
        mode: EntryMode,
        /// The new object.
        oid: ObjectId,
    },
    /// It is gone.
    Deleted,
}

/// One path that differs between two commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The path from the root of the repository.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What the callers of a fetch know already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The commit that the caller is at: what is fetched is compared with it.
    pub base: Option<&'a CommitId>,
    /// The commits that others are at who use the mirror. They are kept, and a mirror that has to be built anew asks the
    /// host for those that no branch holds; at most 16 of them.
    pub others: &'a [CommitId],
    /// What the revision pointed at a moment ago: when the mirror holds it, the host is not asked again.
    pub seen: Option<&'a CommitId>,
}

/// What a fetch found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOutcome {
    /// The commit that the revision points at; the mirror holds it now.
    pub commit: CommitId,
    /// A base was given and is not an ancestor of `commit`: history was rewritten, or the base is unknown to a mirror that
    /// had to be built anew.
    pub forced: bool,
    /// Why the mirror was built anew, if it was: damage, or too many packs.
    pub rebuilt: Option<String>,
    /// Why the many packs of the mirror could not be put together, when that was tried just now. The mirror is good all the
    /// same, and the next try comes in an hour.
    pub not_repacked: Option<String>,
}

/// A commit and the first line of its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitSubject {
    /// The commit.
    pub id: CommitId,
    /// The first line, at most 120 characters; bytes that are not text are replaced.
    pub subject: String,
}

/// The commits that a branch got since another commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Along first parents, newest first.
    pub commits: Vec<HistoryCommit>,
    /// Whether these are all of them: there may be more than were asked for.
    pub complete: bool,
}

/// A commit with its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryCommit {
    /// The commit.
    pub id: CommitId,
    /// Its first parent; a root has none.
    pub first_parent: Option<CommitId>,
    /// The first line of its message, as in [`CommitSubject`].
    pub subject: String,
    /// The bytes of the commit object, signature and all; `None` above 1 MiB.
    #[serde(with = "hex")]
    pub raw: Option<Vec<u8>>,
}

/// What a merge of one commit into another would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// How many commits the one that is merged into has and the other lacks; 0 when there is nothing to merge.
    pub behind: usize,
    /// The result.
    pub merged: Merged,
}

/// The result of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merged {
    /// A commit that the mirror holds for now: nobody signed it, and no branch points at it. Where nothing is behind, the
    /// commit that was to be merged.
    Commit(CommitId),
    /// Files that both sides change, at most ten of them.
    Conflicts(Vec<String>),
}

/// Bytes as hexadecimal digits: JSON has no bytes.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
        let text = |bytes: &Vec<u8>| bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect::<String>();
        bytes.as_ref().map(text).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Some).ok_or_else(|| serde::de::Error::custom("not hexadecimal digits"))
    }
}

/// A request to a worker, complete in itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) op: Op,
    /// Milliseconds to wait for a connection.
    pub(crate) connect_ms: u64,
    /// Milliseconds to wait for a sign of life on a connection.
    pub(crate) no_progress_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    ObserveRef {
        #[serde(with = "RemoteOnThePipe")]
        remote: Remote,
        revision: String,
        /// Without the quick question.
        long_way: bool,
    },
    Fetch {
        mirror: PathBuf,
        #[serde(with = "RemoteOnThePipe")]
        remote: Remote,
        revision: String,
        base: Option<CommitId>,
        /// What others know who use the mirror.
        others: Vec<CommitId>,
        /// What the revision pointed at a moment ago: the host is not asked when the mirror holds it.
        seen: Option<CommitId>,
        max_pack_bytes: u64,
    },
    ListTree {
        mirror: PathBuf,
        commit: CommitId,
        path: String,
        max_entries: usize,
    },
    ListPlaces {
        mirror: PathBuf,
        commit: CommitId,
        paths: Vec<String>,
        max_entries: usize,
    },
    Diff {
        mirror: PathBuf,
        from: CommitId,
        to: CommitId,
        path: String,
        max_entries: usize,
    },
    DiffPlaces {
        mirror: PathBuf,
        from: CommitId,
        to: CommitId,
        paths: Vec<String>,
        max_entries: usize,
    },
    LostCommits {
        mirror: PathBuf,
        from: CommitId,
        to: CommitId,
        max: usize,
    },
    History {
        mirror: PathBuf,
        base: Option<CommitId>,
        tip: CommitId,
        max: usize,
    },
    Merge {
        mirror: PathBuf,
        ours: CommitId,
        theirs: CommitId,
    },
    ReadBlobs {
        mirror: PathBuf,
        oids: Vec<ObjectId>,
        max_blob_bytes: u64,
        max_total_bytes: u64,
    },
}

impl Op {
    /// The host that the request needs, if it needs one.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        match self {
            Self::ObserveRef { remote, .. } | Self::Fetch { remote, .. } => Some(remote),
            Self::ListTree { .. }
            | Self::ListPlaces { .. }
            | Self::Diff { .. }
            | Self::DiffPlaces { .. }
            | Self::LostCommits { .. }
            | Self::History { .. }
            | Self::Merge { .. }
            | Self::ReadBlobs { .. } => None,
        }
    }
}

/// The last frame of an answer; blobs and signs of progress come before it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Observed { commit: CommitId },
    Fetched(FetchOutcome),
    Tree { entries: Vec<TreeEntry> },
    Changes { changes: Vec<Change> },
    Lost { commits: Vec<CommitSubject> },
    History(History),
    Merged(Merge),
    BlobsEnd { count: usize },
    Failed(GitError),
}
