//! The key with which digests of secret contents are made.

use crate::{PgConnection, StoreError, StoreResult};

/// The installation's key; `fresh` becomes it where there is none yet. However many ask at once, all get the same.
///
/// # Errors
/// When the database fails.
pub async fn installation_key(connection: &mut PgConnection, fresh: &[u8; 32]) -> StoreResult<[u8; 32]> {
    sqlx::query!("insert into installation_key (key) values ($1) on conflict do nothing", fresh.as_slice())
        .execute(&mut *connection)
        .await?;
    // In a statement of its own: it sees the row also where somebody else was faster.
    let key = sqlx::query_scalar!("select key from installation_key").fetch_one(connection).await?;
    key.try_into().map_err(|_| StoreError::Corrupt { what: "installation_key", reason: "not 32 bytes".to_owned() })
}

#[cfg(test)]
mod tests {
    use fleet_test::TestDatabase;

    use super::*;
    use crate::{ConnectOptions, Store};

    #[tokio::test]
    async fn the_key_that_came_first_stays() {
        let database = TestDatabase::create();
        let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 2 }).await.unwrap();
        store.migrate().await.unwrap();
        for fresh in [[1; 32], [2; 32]] {
            let mut transaction = store.begin().await.unwrap();
            assert_eq!(installation_key(&mut transaction, &fresh).await.unwrap(), [1; 32]);
            transaction.commit().await.unwrap();
        }
        // The rest of desired state is made again; the key is not.
        let mut transaction = store.begin().await.unwrap();
        sqlx::query("drop schema desired cascade").execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        store.migrate().await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        assert_eq!(installation_key(&mut transaction, &[3; 32]).await.unwrap(), [1; 32]);
    }
}
