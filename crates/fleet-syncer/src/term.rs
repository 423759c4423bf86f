//! The lease that this process writes under now, for those who outlive it. What they note is of no consequence, yet what a
//! former holder saw must not be shown over what the present one knows.

use std::sync::{Mutex, PoisonError};

use fleet_store::{Lease, Postgres, Store, StoreError, Transaction};

/// Nobody's until [`Term::begins`].
#[derive(Debug, Default)]
pub(crate) struct Term(Mutex<Option<Lease>>);

impl Term {
    /// From now on this lease counts.
    pub(crate) fn begins(&self, lease: &Lease) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease.clone());
    }

    /// A transaction that is fenced by the lease.
    ///
    /// # Errors
    /// `Fenced` when somebody else holds it by now, and when nobody did here yet; otherwise when the database fails.
    pub(crate) async fn begin(&self, store: &Store) -> Result<Transaction<'static, Postgres>, StoreError> {
        let lease = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(lease) = lease else {
            return Err(StoreError::Fenced { name: "syncer".to_owned() });
        };
        let mut transaction = lease.begin(store).await?;
        lease.fence(&mut transaction).await?;
        Ok(transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::tests::World;

    #[tokio::test]
    async fn who_lost_the_lease_or_never_had_it_notes_nothing() {
        let world = World::new().await;
        let term = Term::default();
        let fenced = |result: Result<_, StoreError>| matches!(result, Err(StoreError::Fenced { .. }));
        assert!(fenced(term.begin(&world.store).await.map(drop)), "nobody's");
        term.begins(&world.lease);
        term.begin(&world.store).await.unwrap().rollback().await.unwrap();
        world.sql("update leases set token = token + 1, holder = 'another'");
        assert!(fenced(term.begin(&world.store).await.map(drop)), "another's");
    }
}
