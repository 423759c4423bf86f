//! Rendered documents in memory, by digest: devices that should have the same share one, and one read of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use fleet_model::Digest;
use fleet_store::{Store, StoreError, rendered_body};
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tracing::error;

/// A rendered document.
#[derive(Debug)]
pub(crate) struct Spec {
    /// The JSON text, as it was rendered.
    pub(crate) body: Box<RawValue>,
    /// The operating-system image it asks for.
    pub(crate) os_image: Option<String>,
}

#[derive(Deserialize)]
struct Glance {
    #[serde(default)]
    os: Option<OsGlance>,
}

#[derive(Deserialize)]
struct OsGlance {
    #[serde(default)]
    image: Option<String>,
}

impl Spec {
    /// A stored document, if it is what its digest says.
    fn check(digest: Digest, stored: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(stored).ok().filter(|text| Digest::of(text.as_bytes()) == digest)?;
        let os_image = serde_json::from_str::<Glance>(&text).ok()?.os.and_then(|os| os.image);
        Some(Self { body: RawValue::from_string(text).ok()?, os_image })
    }
}

/// Why a document cannot be had.
#[derive(Debug)]
pub(crate) enum SpecError {
    /// It is not in the database now: desired state is being made again.
    Missing,
    /// The database failed.
    Store(StoreError),
}

type Cell = Arc<OnceCell<Arc<Spec>>>;

#[derive(Default)]
struct Entries {
    cells: HashMap<Digest, Cell>,
    /// What was read, the oldest first.
    order: VecDeque<(Digest, usize)>,
    bytes: usize,
}

/// Documents that were read lately, up to a number of bytes.
pub(crate) struct SpecCache {
    entries: Mutex<Entries>,
    limit: usize,
}

impl SpecCache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Mutex::default(), limit }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document with this digest. However many ask at once, it is read once; `statements` counts that.
    pub(crate) async fn get(
        &self,
        store: &Store,
        digest: Digest,
        statements: &Counter,
    ) -> Result<Arc<Spec>, SpecError> {
        let cell = Arc::clone(self.entries().cells.entry(digest).or_default());
        if let Some(spec) = cell.get() {
            return Ok(Arc::clone(spec));
        }
        let read = cell
            .get_or_try_init(|| async {
                statements.inc();
                let stored = rendered_body(store.pool(), digest).await.map_err(SpecError::Store)?;
                let stored = stored.ok_or(SpecError::Missing)?;
                let size = stored.len();
                let Some(spec) = Spec::check(digest, stored) else {
                    error!(%digest, "A rendered document in the database is not what its digest says");
                    return Err(SpecError::Missing);
                };
                self.keep(digest, size);
                Ok(Arc::new(spec))
            })
            .await;
        match read {
            Ok(spec) => Ok(Arc::clone(spec)),
            Err(failure) => {
                // Whoever comes later starts anew; whoever waits on this cell tries in turn.
                self.entries().cells.remove(&digest);
                Err(failure)
            }
        }
    }

    fn keep(&self, digest: Digest, size: usize) {
        let mut entries = self.entries();
        entries.bytes += size;
        entries.order.push_back((digest, size));
        while entries.bytes > self.limit {
            let Some((oldest, size)) = entries.order.pop_front() else { break };
            entries.bytes = entries.bytes.saturating_sub(size);
            entries.cells.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_not_what_its_digest_says_is_never_served() {
        let body = br#"{"os":{"image":"quay.io/a:1"}}"#.to_vec();
        let digest = Digest::of(&body);
        assert_eq!(Spec::check(digest, body.clone()).unwrap().os_image.as_deref(), Some("quay.io/a:1"));
        assert!(Spec::check(digest, b"{}".to_vec()).is_none());
        assert!(Spec::check(Digest::of(b""), Vec::new()).is_none());
    }
}
