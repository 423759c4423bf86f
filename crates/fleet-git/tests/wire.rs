//! What goes over the wire, counted: on a repository of 50,000 files, 3,000 commits and 12,000 references. Bytes are
//! asserted and times are not; `cargo bench -p fleet-git --bench mirror` prints those.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests may panic, and what was counted is worth to be seen"
)]

#[path = "wire/hosts.rs"]
mod hosts;

use std::ffi::OsString;
use std::time::Duration;

use fleet_git::{Limits, WorkerCommand, WorkerPool};
use fleet_test::Shape;

use hosts::{Hosts, Transport};

const SHAPE: Shape = Shape::LARGE;

fn pool() -> WorkerPool {
    let worker = WorkerCommand::new(env!("CARGO_BIN_EXE_fleet-git-worker"), Vec::<OsString>::new());
    // On a busy machine the hosts take long to begin a pack; times are not what is looked at here.
    let (connect, no_progress, total) = (Duration::from_secs(60), Duration::from_secs(120), Duration::from_secs(600));
    WorkerPool::new(worker, Limits { connect, no_progress, total, ..Limits::default() })
}

/// Counts unchanged polls; the first one makes connections.
async fn polls(hosts: &Hosts, transport: Transport) -> [u64; 8] {
    let (pool, head) = (pool(), hosts.head());
    let mut counts = [0; 8];
    for count in &mut counts {
        let before = hosts.bytes(transport);
        assert_eq!(pool.observe(&hosts.remote(transport), "main").await.unwrap().as_str(), head);
        *count = hosts.bytes(transport) - before;
    }
    eprintln!("{transport:?}: unchanged polls of {} references: {counts:?} bytes", SHAPE.refs + 1);
    counts
}

#[tokio::test]
async fn an_unchanged_poll_of_a_large_repository_is_below_a_kibibyte() {
    let hosts = Hosts::start(SHAPE).await;
    for transport in [Transport::Http, Transport::Daemon] {
        for count in polls(&hosts, transport).await {
            assert!((1..=1_024).contains(&count), "{transport:?}: {count} bytes");
        }
    }
    // Over TLS the first one shakes hands, and the others share its connection.
    let [first, others @ ..] = polls(&hosts, Transport::Https).await;
    assert!(first <= 8 << 10, "{first} bytes");
    for count in others {
        assert!((1..=1_024).contains(&count), "{count} bytes");
    }
    assert_eq!(hosts.connections(Transport::Https), 1);
    // Over SSH the second one opens the connection that is shared from then on. How many packets a server makes of one answer
    // depends on its moments, so it is the mean that counts.
    let [first, second, others @ ..] = polls(&hosts, Transport::Ssh).await;
    assert!(first <= 16 << 10 && second <= 16 << 10, "{first} and {second} bytes");
    let mean = others.iter().sum::<u64>() / 6;
    assert!((1..=1_024).contains(&mean), "{others:?} bytes");
    assert_eq!(hosts.connections(Transport::Ssh), 2);
}

#[tokio::test]
async fn a_commit_of_one_file_in_a_large_repository_is_below_64_kib_and_reads_one_blob() {
    let hosts = Hosts::start(SHAPE).await;
    let place = tempfile::tempdir().unwrap();
    let (pool, mirror) = (pool(), place.path().join("mirror.git"));
    let mut known = pool.fetch(&mirror, &hosts.local(), "main", None).await.unwrap().commit;
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let (path, content) = SHAPE.file(12_345, 1_000_000 + number);
        let commit = hosts.commit(&path, &content);
        let before = hosts.bytes(transport);
        let outcome = pool.fetch(&mirror, &hosts.remote(transport), "main", Some(&known)).await.unwrap();
        let count = hosts.bytes(transport) - before;
        assert_eq!((outcome.commit.as_str(), outcome.forced, outcome.rebuilt), (commit.as_str(), false, None));
        let changes = pool.diff(&mirror, &known, &outcome.commit, "").await.unwrap();
        let [change] = changes.as_slice() else { panic!("{changes:?}") };
        let fleet_git::ChangeKind::Modified { oid, .. } = change.kind else { panic!("{change:?}") };
        let blobs = pool.read_blobs(&mirror, &[oid], 1 << 20, 1 << 20).await.unwrap();
        assert_eq!((change.path.as_str(), &blobs[0][..]), (path.as_str(), content.as_bytes()));
        eprintln!("{transport:?}: a commit of one file: {count} bytes");
        assert!((1..=64 << 10).contains(&count), "{transport:?}: {count} bytes");
        known = outcome.commit;
    }
    // A mirror that knows all is told so in a few bytes.
    let before = hosts.bytes(Transport::Http);
    pool.fetch(&mirror, &hosts.remote(Transport::Http), "main", Some(&known)).await.unwrap();
    let count = hosts.bytes(Transport::Http) - before;
    assert!(count <= 4 << 10, "{count} bytes for nothing");
}

#[tokio::test]
async fn all_files_of_a_large_repository_are_read_in_a_worker_of_bounded_memory() {
    let hosts = Hosts::start(SHAPE).await;
    let place = tempfile::tempdir().unwrap();
    let (pool, mirror) = (pool(), place.path().join("mirror.git"));
    let head = pool.fetch(&mirror, &hosts.remote(Transport::Daemon), "main", None).await.unwrap().commit;
    let entries = pool.list_tree(&mirror, &head, "").await.unwrap();
    assert_eq!(entries.len(), SHAPE.files);
    let oids: Vec<_> = entries.iter().map(|entry| entry.oid).collect();
    let mut bytes = 0;
    for portion in oids.chunks(2_000) {
        let blobs = pool.read_blobs(&mirror, portion, 1 << 20, 1 << 30).await.unwrap();
        bytes += blobs.iter().map(|blob| blob.len()).sum::<usize>();
    }
    assert!(bytes > SHAPE.files * 400, "{bytes} bytes");
    // What the workers of this test took at most, memory that maps the pack included.
    let peak = hosts::peak_memory_of_children();
    eprintln!("read {} files of {bytes} bytes; the largest worker had {} MiB", oids.len(), peak >> 10);
    assert!(peak > 0 && peak <= 384 << 10, "{peak} KiB");
}
