//! How long Git takes on a repository of 50,000 files, 3,000 commits and 12,000 references, over every transport: a poll, a
//! first mirror, a commit of one file, all files. Prints the best of five of each (of three for mirrors).
//!
//! `cargo bench -p fleet-git --bench mirror`
#![expect(clippy::unwrap_used, reason = "a bench ends at the first thing that does not work")]

#[path = "../tests/wire/hosts.rs"]
#[expect(dead_code, reason = "the tests look at more")]
mod hosts;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write as _;
use std::time::{Duration, Instant};

use fleet_git::{Limits, Remote, WorkerCommand, WorkerPool};
use fleet_test::Shape;

use hosts::{Hosts, Transport};

const SHAPE: Shape = Shape::LARGE;

fn say(what: &str, transport: &str, took: Duration, more: &str) {
    let millis = took.as_secs_f64() * 1_000.0;
    writeln!(std::io::stdout().lock(), "{what:<26} {transport:<7} {millis:>9.1} ms  {more}").unwrap();
}

async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let started = Instant::now();
    let value = work.await;
    (started.elapsed(), value)
}

#[tokio::main]
async fn main() {
    let hosts = Hosts::start(SHAPE).await;
    let worker = WorkerCommand::new(env!("CARGO_BIN_EXE_fleet-git-worker"), Vec::<OsString>::new());
    let pool = WorkerPool::new(worker, Limits::default());
    let place = tempfile::tempdir().unwrap();
    let remotes: Vec<(String, Option<Transport>, Remote)> = Transport::ALL
        .into_iter()
        .map(|transport| (format!("{transport:?}"), Some(transport), hosts.remote(transport)))
        .chain([("Local".to_owned(), None, hosts.local())])
        .collect();
    let bytes = |transport: Option<Transport>| transport.map_or(0, |transport| hosts.bytes(transport));
    for (name, transport, remote) in &remotes {
        let (mut best, mut moved) = (Duration::MAX, 0);
        for _ in 0..5 {
            let before = bytes(*transport);
            best = best.min(timed(pool.observe(remote, "main")).await.0);
            moved = bytes(*transport) - before;
        }
        say("unchanged poll", name, best, &format!("{moved} bytes"));
    }
    for (name, transport, remote) in &remotes {
        let (mut best, mut moved) = (Duration::MAX, 0);
        for number in 0..3 {
            let before = bytes(*transport);
            let mirror = place.path().join(format!("{name}-{number}.git"));
            let (took, fetched) = timed(pool.fetch(&mirror, remote, "main", None)).await;
            fetched.unwrap();
            best = best.min(took);
            moved = bytes(*transport) - before;
        }
        say("first mirror", name, best, &format!("{} KiB", moved >> 10));
    }
    let mirror = place.path().join("Local-0.git");
    let mut known = pool.fetch(&mirror, &hosts.local(), "main", None).await.unwrap().commit;
    for (number, (name, transport, remote)) in remotes.iter().enumerate() {
        let (mut best, mut compared, mut moved) = (Duration::MAX, Duration::MAX, 0);
        for round in 0..3 {
            let (path, content) = SHAPE.file(31_415, 2_000_000 + 10 * number + round);
            hosts.commit(&path, &content);
            let before = bytes(*transport);
            let (took, fetched) = timed(pool.fetch(&mirror, remote, "main", Some(&known))).await;
            let fetched = fetched.unwrap().commit;
            (best, moved) = (best.min(took), bytes(*transport) - before);
            let (took, changes) = timed(pool.diff(&mirror, &known, &fetched, "")).await;
            assert_eq!(changes.unwrap().len(), 1);
            compared = compared.min(took);
            known = fetched;
        }
        let compared = compared.as_secs_f64() * 1_000.0;
        say("commit of one file", name, best, &format!("{moved} bytes; compared in {compared:.1} ms"));
    }
    let (took, entries) = timed(pool.list_tree(&mirror, &known, "")).await;
    let entries = entries.unwrap();
    say("list of all files", "Local", took, &format!("{} files", entries.len()));
    let oids: Vec<_> = entries.iter().map(|entry| entry.oid).collect();
    let mut best = Duration::MAX;
    let mut size = 0;
    for _ in 0..3 {
        size = 0;
        let started = Instant::now();
        for portion in oids.chunks(2_000) {
            let blobs = pool.read_blobs(&mirror, portion, 1 << 20, 1 << 30).await.unwrap();
            size += blobs.iter().map(|blob| blob.len()).sum::<usize>();
        }
        best = best.min(started.elapsed());
    }
    let peak = hosts::peak_memory_of_children() >> 10;
    say("all files read", "Local", best, &format!("{} MiB; the largest worker had {peak} MiB", size >> 20));
}
