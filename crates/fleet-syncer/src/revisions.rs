//! Revisions that are ready to render: kept in memory, handed over by the commit that brings them, or read from the
//! database in few queries.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use fleet_model::{DeviceSpec, Digest, OrgId};
use fleet_render::plan::{InputFacts, Revision};
use fleet_render::{PinnedInputs, PinnedTree, Prepared};
use fleet_store::{PgConnection, PinnedInput, RevisionRow, StoreError, TreeContent, find_revisions, load_trees};

use crate::pins::pinned_file;

/// How many revisions are read at a time.
const BATCH: usize = 200;

/// (owner, name): the owner is a fleet's name or [`stand_alone_owner`].
pub(crate) type RevisionKey = (String, String);

/// The name under which a device's own specification has its revisions.
pub(crate) fn stand_alone_owner(device: &str) -> String {
    format!("Device/{device}")
}

/// A revision that is ready to render.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) revision: Arc<Revision>,
    /// The source and the commit that it came from first.
    pub(crate) source: String,
    pub(crate) commit: String,
}

/// Revisions that are ready, or a sentence why one cannot be.
pub(crate) type ReadyRevisions = HashMap<RevisionKey, Result<Arc<Ready>, String>>;

/// Revisions that were prepared before. They are immutable, so an entry is never wrong, only unused.
#[derive(Debug, Default)]
pub(crate) struct RevisionCache(Mutex<HashMap<RevisionKey, Arc<Ready>>>);

impl RevisionCache {
    const KEEP: usize = 256;

    fn get(&self, key: &RevisionKey) -> Option<Arc<Ready>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps revisions that the database holds by now.
    pub(crate) fn keep<'a>(&self, all: impl IntoIterator<Item = (&'a RevisionKey, &'a Arc<Ready>)>) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, ready) in all {
            if cache.len() >= Self::KEEP {
                cache.clear();
            }
            cache.insert(key.clone(), Arc::clone(ready));
        }
    }
}

/// What is kept of a pinned input, as a plan knows it.
pub(crate) fn input_facts(input: &PinnedInput) -> InputFacts {
    InputFacts {
        provider: input.provider.clone(),
        value: input.value.clone(),
        repository: input.repository.clone(),
        revision: input.revision.clone(),
        commit: input.commit.clone(),
        tree: input.tree,
    }
}

/// Revisions ready to render: from `fresh`, which this transaction brings, from the cache, or from the database.
///
/// # Errors
/// When the database fails, or holds what it cannot hold.
pub(crate) async fn ready_revisions(
    connection: &mut PgConnection,
    org: OrgId,
    wanted: BTreeSet<RevisionKey>,
    fresh: &HashMap<RevisionKey, Arc<Ready>>,
    cache: &RevisionCache,
) -> Result<ReadyRevisions, StoreError> {
    let mut ready = ReadyRevisions::with_capacity(wanted.len());
    let mut missing = Vec::new();
    for key in wanted {
        match fresh.get(&key).cloned().or_else(|| cache.get(&key)) {
            Some(known) => {
                ready.insert(key, Ok(known));
            }
            None => missing.push(key),
        }
    }
    for batch in missing.chunks(BATCH) {
        let rows = find_revisions(connection, org, batch).await?;
        let trees: BTreeSet<Digest> = rows.iter().flat_map(|row| &row.inputs).map(|input| input.tree).collect();
        let trees = match trees.is_empty() {
            true => HashMap::new(),
            false => load_trees(connection, &trees.into_iter().collect::<Vec<_>>()).await?,
        };
        let read = tokio::task::spawn_blocking(move || {
            let read = |row: RevisionRow| ((row.fleet.clone(), row.name.clone()), prepare(row, &trees).map(Arc::new));
            rows.into_iter().map(read).collect::<Vec<_>>()
        })
        .await
        .map_err(|error| StoreError::Corrupt { what: "preparing revisions", reason: error.to_string() })?;
        cache.keep(read.iter().filter_map(|(key, result)| Some((key, result.as_ref().ok()?))));
        ready.extend(read);
        for key in batch {
            let (owner, name) = key;
            let reason = || Err(format!("revision {name} of {owner} is not stored yet"));
            ready.entry(key.clone()).or_insert_with(reason);
        }
    }
    Ok(ready)
}

/// Prepares a stored revision; the error is a sentence for its devices.
fn prepare(row: RevisionRow, trees: &HashMap<Digest, Vec<TreeContent>>) -> Result<Ready, String> {
    let RevisionRow { fleet: owner, name, template, inputs, source, commit, .. } = row;
    let mut pinned = PinnedInputs::new();
    for input in &inputs {
        let files = trees.get(&input.tree).ok_or_else(|| format!("files of revision {name} of {owner} are missing"))?;
        let tree = PinnedTree::new(files.iter().map(pinned_file).collect()).map_err(|problem| problem.to_string())?;
        pinned.insert_value(input.provider.clone(), input.value.clone(), tree);
    }
    let spec: DeviceSpec = serde_json::from_value(template)
        .map_err(|error| format!("revision {name} of {owner} cannot be read: {error}"))?;
    let prepared = match owner.starts_with("Device/") {
        true => Prepared::stand_alone(&spec, pinned),
        false => Prepared::new(&spec, pinned),
    };
    let prepared = Arc::new(prepared.map_err(|error| error.to_string())?);
    let revision = Arc::new(Revision::new(&spec, prepared, inputs.iter().map(input_facts).collect()));
    Ok(Ready { revision, source, commit })
}
