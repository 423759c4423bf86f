//! What the revisions in force have pinned elsewhere: used again while a host is away, also after a restart.

use std::sync::Arc;

use fleet_model::{Digest, OrgId};
use fleet_render::{PinnedFile, PinnedTree, Seal};
use fleet_store::{InputKind, PinnedInput, Store, StoreError, TreeContent, load_trees, source_dependencies};
use tracing::warn;

/// Where contents are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) kind: InputKind,
    /// The Repository's name.
    pub(crate) repository: &'a str,
    /// The URL, without credentials.
    pub(crate) url: Option<&'a str>,
    /// Revision, suffix or secret.
    pub(crate) revision: &'a str,
    /// What part of it.
    pub(crate) path: &'a str,
    /// The files that were read there last, if that is known: where several are pinned, those.
    pub(crate) tree: Option<Digest>,
}

/// What was pinned last.
#[derive(Debug, Default)]
pub(crate) struct LastPins {
    records: Vec<PinnedInput>,
    store: Option<Store>,
}

impl LastPins {
    /// Reads what a source has pinned elsewhere. Contents are read when they are needed.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn read(store: &Store, org: OrgId, source: &str) -> Result<Self, StoreError> {
        let mut transaction = store.begin().await?;
        let records = source_dependencies(&mut transaction, org, source).await?;
        Ok(Self { records, store: Some(store.clone()) })
    }

    /// The contents of this place as they were pinned last, if they were.
    pub(crate) async fn find(&self, asked: &Asked<'_>) -> Option<(&PinnedInput, PinnedTree)> {
        let same = |record: &&PinnedInput| {
            record.kind == asked.kind
                && record.repository == asked.repository
                && record.revision == asked.revision
                && record.path == asked.path
                && (record.url.is_none() || record.url.as_deref() == asked.url)
        };
        let record = self.records.iter().filter(same).max_by_key(|record| Some(record.tree) == asked.tree)?;
        match self.load(record).await {
            Ok(tree) => Some((record, tree?)),
            Err(error) => {
                warn!(repository = asked.repository, %error, "Cannot read what was pinned last");
                None
            }
        }
    }

    async fn load(&self, record: &PinnedInput) -> Result<Option<PinnedTree>, StoreError> {
        let Some(store) = &self.store else { return Ok(None) };
        let mut transaction = store.begin().await?;
        let mut trees = load_trees(&mut transaction, &[record.tree]).await?;
        Ok(trees.remove(&record.tree).and_then(|files| pinned_tree(&files)))
    }
}

fn pinned_tree(files: &[TreeContent]) -> Option<PinnedTree> {
    PinnedTree::new(files.iter().map(pinned_file).collect()).ok()
}

/// A stored file, as it was pinned.
pub(crate) fn pinned_file(file: &TreeContent) -> PinnedFile {
    PinnedFile {
        path: file.path.clone(),
        mode: file.mode,
        content: Arc::clone(&file.content),
        seal: file.seal.map(|seal| Seal::new(*seal.as_bytes())),
    }
}
