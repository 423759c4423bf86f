//! When hosts answered last, for sources about which nothing else is new: noted together, once a second, so that a poll that
//! finds nothing costs no transaction of its own. A note that is lost is made up for by the next one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fleet_model::OrgId;
use fleet_runtime::CancellationToken;
use fleet_store::{Lease, Store, StoreError, Ts, record_polls};
use jiff::Timestamp;
use tracing::debug;

/// How long notes are collected.
const PERIOD: Duration = Duration::from_secs(1);

/// Notes that are not in the database yet.
#[derive(Debug, Default)]
pub(crate) struct PollNotes {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    names: BTreeSet<String>,
    /// The earliest of their times.
    since: Option<Timestamp>,
}

impl PollNotes {
    /// Notes that the host of a source answered.
    pub(crate) fn add(&self, name: &str, at: Timestamp) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.names.insert(name.to_owned());
        open.since = Some(open.since.map_or(at, |since| since.min(at)));
    }

    fn take(&self) -> Option<(Vec<String>, Timestamp)> {
        let Open { names, since } = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        since.map(|since| (names.into_iter().collect(), since))
    }

    /// Writes notes down until `term` ends.
    pub(crate) async fn write(&self, store: &Store, org: OrgId, lease: &Lease, term: CancellationToken) {
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            if let Err(error) = self.write_once(store, org, lease).await {
                debug!(%error, "Cannot note when hosts answered");
            }
        }
    }

    async fn write_once(&self, store: &Store, org: OrgId, lease: &Lease) -> Result<(), StoreError> {
        let Some((names, at)) = self.take() else { return Ok(()) };
        let mut transaction = lease.begin(store).await?;
        lease.fence(&mut transaction).await?;
        record_polls(&mut transaction, org, &names, Ts::from(at)).await?;
        transaction.commit().await.map_err(StoreError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::tests::{ORG, World};

    #[tokio::test]
    async fn a_former_holder_notes_no_polls() {
        let world = World::new().await;
        world.source("main").await;
        let (notes, at) = (PollNotes::default(), |second| Timestamp::from_second(second).unwrap());
        let noted =
            || world.sql("select extract(epoch from last_polled_at)::bigint from desired.sources").trim().to_owned();
        notes.add("main", at(10));
        notes.write_once(&world.store, ORG, &world.lease).await.unwrap();
        assert_eq!(noted(), "10");
        world.sql("update leases set token = token + 1, holder = 'another'");
        notes.add("main", at(20));
        let refused = notes.write_once(&world.store, ORG, &world.lease).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
        assert_eq!(noted(), "10");
    }

    #[test]
    fn notes_are_taken_once_with_the_earliest_time() {
        let (notes, at) = (PollNotes::default(), |second| Timestamp::from_second(second).unwrap());
        assert_eq!(notes.take(), None);
        notes.add("b", at(11));
        notes.add("a", at(10));
        notes.add("b", at(12));
        assert_eq!(notes.take(), Some((vec!["a".to_owned(), "b".to_owned()], at(10))));
        assert_eq!(notes.take(), None);
    }
}
