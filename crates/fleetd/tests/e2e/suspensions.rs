//! A suspension counts from its answer on, whatever the source was doing: fetching, planning, or writing.

use std::time::Duration;

use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};
use fleet_test::TestDatabase;

const SETTINGS: &str = "{pollInterval: 500ms, deletionGracePeriod: 0s}";

fn applied(there: &Installation) -> String {
    there.sql("select coalesce(applied_commit, '') from desired.sources where name = 'main'")
}

/// Changes a file. Returns the commit.
fn change(there: &Installation, text: &str) -> String {
    there.repo.write("config/kiosk/etc/motd", text);
    there.repo.commit(text)
}

#[test]
fn nothing_is_applied_after_a_suspension_was_answered_though_a_commit_is_being_written() {
    let there = Installation::start_with(FILES, Database::Own(TestDatabase::create()), SETTINGS);
    let first = there.repo.head();
    there.wait_applied(&first);
    std::thread::scope(|scope| {
        // Whoever notes an applied commit waits, after it asked whether the source is suspended.
        let lock = scope.spawn(|| {
            there.sql("begin; lock table desired.commits in share mode; select pg_sleep(240); rollback");
        });
        eventually("the lock", || {
            let locks =
                "select count(*) from pg_locks where relation = 'desired.commits'::regclass and mode = 'ShareLock'";
            (there.sql(locks) == "1").then_some(())
        });
        let second = change(&there, "second\n");
        eventually("the commit to be written", || {
            let waiting = "select count(*) from pg_locks where relation = 'desired.commits'::regclass and not granted";
            (there.sql(waiting) == "1").then_some(())
        });
        let suspended = scope.spawn(|| {
            there.fleetctl_ok(&["source", "suspend", "main", "--reason", "a test"]);
            applied(&there)
        });
        eventually("the suspension to wait for the writer", || {
            let waiting = "select count(*) from pg_stat_activity
                           where wait_event_type = 'Lock' and query like 'select from desired.sources % for share'
                             and datname = current_database()";
            (there.sql(waiting) == "1").then_some(())
        });
        assert!(!suspended.is_finished(), "it is not answered before the commit is written");
        there.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where query like 'begin; lock table desired.commits%' and pid <> pg_backend_pid()",
        );
        assert!(lock.join().is_err(), "the lock was taken away");
        let when_answered = suspended.join().unwrap();
        let third = change(&there, "third\n");
        eventually("the third commit to be seen", || {
            (there.object("sources", "main")?["status"]["observedCommit"] == third.as_str()).then_some(())
        });
        assert_eq!(applied(&there), when_answered);
        assert_eq!(when_answered, second, "who waited was told of what was written meanwhile");
        there.fleetctl_ok(&["source", "resume", "main"]);
        there.wait_applied(&third);
    });
}

#[test]
fn a_suspension_at_any_moment_of_a_look_stops_it_and_ends_by_itself() {
    let there = Installation::start_with(FILES, Database::Own(TestDatabase::create()), SETTINGS);
    there.wait_applied(&there.repo.head());
    for (round, moment) in [0, 20, 60, 120, 200, 320].into_iter().enumerate() {
        let commit = change(&there, &format!("round {round}\n"));
        std::thread::sleep(Duration::from_millis(moment));
        there.fleetctl_ok(&["source", "suspend", "main", "--reason", "a test"]);
        let when_answered = applied(&there);
        let told = |commit: &str| {
            let source = there.object("sources", "main")?;
            (source["status"]["state"] == "Suspended" && source["status"]["observedCommit"] == commit).then_some(())
        };
        eventually("the suspended source to see its newest commit", || told(&commit));
        assert_eq!(applied(&there), when_answered, "round {round}");
        // What was seen of it was seen for sure, however long that took: only now its end comes near.
        match round {
            5 => there.fleetctl_ok(&["source", "suspend", "main", "--reason", "a test", "--for", "5s"]),
            _ => there.fleetctl_ok(&["source", "resume", "main"]),
        };
        there.wait_applied(&commit);
    }
    eventually("the suspension to be over", || {
        let over = "select count(*) from events where reason = 'SourceSuspensionExpired'";
        (there.sql(over) == "1").then_some(())
    });
    assert_eq!(there.sql("select count(*) from events where kind = 'Source' and type = 'Warning'"), "0");
    // A busy machine may cost the service its lease for a moment; that is another matter.
    let log = there.service_log();
    let failure = log.lines().find(|line| line.contains("Cannot write a source") && !line.contains("lease"));
    assert_eq!(failure, None, "being suspended is no failure");
}
