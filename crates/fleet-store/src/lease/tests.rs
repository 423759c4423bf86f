//! Leases change hands at once when a session ends, else when they run out, and whoever is late writes nothing.

use std::time::{Duration, Instant};

use fleet_test::TestDatabase;
use sqlx::PgConnection;

use super::session::LeaseSession;
use super::*;
use crate::{ConnectOptions, lock_device_changes};

/// Longer than any test: nothing here runs out by itself.
const LONG: Duration = Duration::from_secs(300);
/// Well below [`LONG`]: who waited less did not wait for the end of the lease.
const SOON: Duration = Duration::from_secs(30);

async fn store(database: &TestDatabase) -> Store {
    let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 4 }).await.unwrap();
    store.migrate().await.unwrap();
    store
}

async fn session(store: &Store, holder: &str) -> LeaseSession {
    LeaseSession::connect(store, LeaseName::Syncer, holder).await.unwrap()
}

/// A holder and its session.
async fn holder(store: &Store, name: &str, ttl: Duration) -> (LeaseSession, Lease) {
    let mut session = session(store, name).await;
    let lease = session.acquire(ttl).await.unwrap().expect("nobody holds it");
    (session, lease)
}

/// Asks until the lease is had.
async fn insist(mut session: LeaseSession, ttl: Duration) -> (LeaseSession, Lease) {
    let began = Instant::now();
    loop {
        if let Some(lease) = session.acquire(ttl).await.unwrap() {
            return (session, lease);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the lease never comes");
    }
}

async fn number(store: &Store, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}

/// Waits until so many sessions wait for the lock.
async fn wait_waiting(store: &Store, sessions: i64) {
    let began = Instant::now();
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
                   and application_name = 'fleetd lease' and wait_event_type = 'Lock'";
    while number(store, waiting).await != sessions {
        assert!(began.elapsed() < Duration::from_secs(60), "{sessions} sessions should wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends the session of a holder, as the database does when its process died.
async fn end(store: &Store, session: &mut LeaseSession) {
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(session.connection()).await.unwrap();
    let ended: bool =
        sqlx::query_scalar("select pg_terminate_backend($1)").bind(pid).fetch_one(store.pool()).await.unwrap();
    assert!(ended);
}

async fn write(transaction: &mut PgConnection) {
    let insert = "insert into orgs (id, name) values (gen_random_uuid(), 'written')";
    sqlx::query(insert).execute(transaction).await.unwrap();
}

async fn written(store: &Store) -> i64 {
    number(store, "select count(*) from orgs where name = 'written'").await
}

#[tokio::test]
async fn a_writer_with_an_old_token_is_refused_inside_its_transaction() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    let (mut first, old) = holder(&store, "a", LONG).await;
    let mut late = old.begin(&store).await.unwrap();
    write(&mut late).await;
    old.fence(&mut late).await.unwrap();
    late.rollback().await.unwrap();

    end(&store, &mut first).await;
    let (second, new) = holder(&store, "b", LONG).await;
    let mut late = old.begin(&store).await.unwrap();
    lock_device_changes(&mut late).await.unwrap();
    write(&mut late).await;
    let refused = old.fence(&mut late).await.unwrap_err();
    assert!(matches!(refused, StoreError::Fenced { .. }), "{refused}");
    drop(late);
    assert_eq!(written(&store).await, 0);
    assert!(first.renew(&old, LONG).await.is_err(), "its session has ended");
    let mut back = session(&store, "a").await;
    assert!(!back.renew(&old, LONG).await.unwrap(), "what was taken over cannot be renewed");
    back.release(&old).await.unwrap();
    let mut good = new.begin(&store).await.unwrap();
    lock_device_changes(&mut good).await.unwrap();
    new.fence(&mut good).await.unwrap();
    write(&mut good).await;
    good.commit().await.unwrap();
    assert_eq!(written(&store).await, 1);

    // The same holder after a restart is another holder.
    drop(second);
    let (_again, again) = holder(&store, "b", LONG).await;
    let mut late = new.begin(&store).await.unwrap();
    assert!(new.fence(&mut late).await.is_err());
    drop(late);
    let mut good = again.begin(&store).await.unwrap();
    again.fence(&mut good).await.unwrap();
}

#[tokio::test]
async fn a_new_holder_does_not_wait_for_locks_of_one_that_stands_still() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    let (first, old) = holder(&store, "a", LONG).await;
    let mut stuck = old.begin(&store).await.unwrap();
    lock_device_changes(&mut stuck).await.unwrap();
    old.fence(&mut stuck).await.unwrap();
    write(&mut stuck).await;
    drop(first);
    let (_second, new) = holder(&store, "b", LONG).await;
    let mut own = new.begin(&store).await.unwrap();
    assert_eq!(new.end_predecessors(store.pool()).await.unwrap(), 1);
    let locked = tokio::time::timeout(Duration::from_secs(20), lock_device_changes(&mut own)).await;
    locked.expect("the lock is free").unwrap();
    new.fence(&mut own).await.unwrap();
    own.commit().await.unwrap();
    let error: StoreError = stuck.commit().await.unwrap_err().into();
    assert!(error.is_unavailable(), "its work is tried again or given up: {error}");
    assert_eq!(written(&store).await, 0);
    assert_eq!(new.end_predecessors(store.pool()).await.unwrap(), 0, "its own name is gone with its transaction");
}

#[tokio::test]
async fn a_holder_whose_session_ends_is_replaced_at_once_and_a_live_one_is_not() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    let (mut first, old) = holder(&store, "a", LONG).await;
    let mut waiting = session(&store, "b").await;
    for _ in 0..2 {
        // Renewed while b waits, as holders do.
        let (asked, ()) = tokio::join!(waiting.acquire(Duration::from_secs(2)), async {
            wait_waiting(&store, 1).await;
            assert!(first.renew(&old, LONG).await.unwrap());
        });
        assert!(asked.unwrap().is_none(), "a lives");
    }
    let (next, ended) = tokio::join!(insist(waiting, LONG), async {
        wait_waiting(&store, 1).await;
        end(&store, &mut first).await;
        Instant::now()
    });
    assert!(ended.elapsed() < SOON, "it had 300 s left, and b had it after {:?}", ended.elapsed());
    let (mut second, new) = next;
    assert_eq!(new.token, old.token + 1);
    assert!(first.renew(&old, LONG).await.is_err());
    assert!(second.renew(&new, LONG).await.unwrap());

    // Given back, the next one that waits has it at once, too.
    let waiting = session(&store, "c").await;
    let (next, released) = tokio::join!(insist(waiting, LONG), async {
        wait_waiting(&store, 1).await;
        second.release(&new).await.unwrap();
        Instant::now()
    });
    assert_eq!(next.1.token, new.token + 1);
    assert!(released.elapsed() < SOON);
}

#[tokio::test]
async fn writers_plan_for_the_tables_as_they_are() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    let (_session, lease) = holder(&store, "a", LONG).await;
    let mode = "select current_setting('plan_cache_mode')";
    let mut transaction = lease.begin(&store).await.unwrap();
    let inside: String = sqlx::query_scalar(mode).fetch_one(&mut *transaction).await.unwrap();
    let connection = "select pg_backend_pid()";
    let writer: i32 = sqlx::query_scalar(connection).fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(inside, "force_custom_plan");
    transaction.commit().await.unwrap();
    // The others who use the connection afterwards are not concerned.
    let mut others = Vec::new();
    loop {
        let mut after = store.begin().await.expect("the writer's connection is among those of the pool");
        assert_eq!(sqlx::query_scalar::<_, String>(mode).fetch_one(&mut *after).await.unwrap(), "auto");
        if sqlx::query_scalar::<_, i32>(connection).fetch_one(&mut *after).await.unwrap() == writer {
            break;
        }
        others.push(after);
    }
}

#[tokio::test]
async fn a_holder_that_stands_still_is_replaced_when_its_lease_runs_out() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    let ttl = Duration::from_secs(2);
    let began = Instant::now();
    let (mut silent, old) = holder(&store, "a", ttl).await;
    let sessions = [session(&store, "b").await, session(&store, "c").await, session(&store, "d").await];
    let mut waiting: tokio::task::JoinSet<_> = sessions
        .into_iter()
        .map(|mut session| async move {
            let lease = session.acquire(ttl).await.expect("nobody's session was ended by mistake");
            if let Some(lease) = &lease {
                assert!(session.renew(lease, LONG).await.unwrap());
            }
            (lease, session)
        })
        .collect();
    let mut leases = Vec::new();
    while let Some(asked) = waiting.join_next().await {
        if let (Some(lease), session) = asked.unwrap() {
            leases.push((lease, session));
        }
    }
    let [(new, session)] = leases.as_mut_slice() else { panic!("one of three has it: {leases:?}") };
    assert!(began.elapsed() >= ttl, "not before: {:?}", began.elapsed());
    assert_eq!(new.token, old.token + 1);
    assert!(silent.renew(&old, ttl).await.is_err(), "its session was ended");
    assert!(session.renew(new, LONG).await.unwrap());
    let holds = "select count(*) from pg_locks join pg_stat_activity using (pid) where locktype = 'advisory' and granted \
                 and application_name = 'fleetd lease' and datname = current_database()";
    assert_eq!(number(&store, holds).await, 1, "and the new one has the lock");
}

#[tokio::test]
async fn after_all_locks_are_lost_one_of_two_holds_the_lease() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    for round in 0..2 {
        let (mut first, old) = holder(&store, "a", LONG).await;
        // As a restart of the database does: no session is left, and the lease has not run out.
        end(&store, &mut first).await;
        let race = |name: &'static str| {
            let store = &store;
            async move {
                let mut session = session(store, name).await;
                let lease = session.acquire(Duration::from_secs(2)).await.unwrap();
                if let Some(lease) = &lease {
                    assert!(session.renew(lease, LONG).await.unwrap());
                }
                (lease, session)
            }
        };
        let (one, two) = tokio::join!(race("a"), race("b"));
        let held: Vec<_> = [&one.0, &two.0].into_iter().flatten().collect();
        assert_eq!(held.len(), 1, "round {round}: {held:?}");
        assert_eq!(held[0].token, old.token + 1, "round {round}");
    }
}

#[tokio::test]
async fn a_lock_that_the_session_had_before_counts_for_nothing() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    let (first, old) = holder(&store, "a", LONG).await;
    drop(first);
    // As behind a pooler: the server process of another client has the lock and stays.
    let mut pooled = session(&store, "b").await;
    let key = LeaseName::Syncer.key();
    sqlx::query("select pg_advisory_lock($1)").bind(key).execute(pooled.connection()).await.unwrap();
    assert!(pooled.acquire(LONG).await.unwrap().is_none(), "the lease has not run out");
    sqlx::query("update leases set expires_at = now()").execute(store.pool()).await.unwrap();
    let (mut pooled, new) = insist(pooled, LONG).await;
    assert_eq!(new.token, old.token + 1, "it ran out");
    assert!(pooled.renew(&new, LONG).await.unwrap());
}

#[tokio::test]
async fn who_waits_leaves_nothing_open_for_long_and_nothing_in_the_table() {
    let database = TestDatabase::create();
    let store = store(&database).await;
    let (_first, _old) = holder(&store, "a", LONG).await;
    let row = "select (xmin::text || xmax::text)::bigint from leases";
    let before = number(&store, row).await;
    let mut waiting = session(&store, "b").await;
    let began = Instant::now();
    assert!(waiting.acquire(Duration::from_secs(1)).await.unwrap().is_none());
    assert!(began.elapsed() >= Duration::from_millis(900), "it waits in the database, not here");
    let open = "select count(*) from pg_stat_activity where datname = current_database() \
                and application_name = 'fleetd lease' and (state <> 'idle' or backend_xmin is not null)";
    assert_eq!(number(&store, open).await, 0);
    assert_eq!(number(&store, row).await, before, "it has not written");
    let lock_timeout: String = sqlx::query_scalar("show lock_timeout").fetch_one(waiting.connection()).await.unwrap();
    assert_eq!(lock_timeout, "0", "the limit ends with the wait");
}
