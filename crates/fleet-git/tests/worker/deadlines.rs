//! Hosts that do not answer and workers that die: the caller gets an error in time and the pool stays usable.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fleet_git::{GitErrorKind, Limits, Remote, WorkerCommand, WorkerPool};
use fleet_test::{BadHost, Badness, GitRepo, ReservedPort, wait_for};

use crate::support::{Place, WORKER, id, impatient_pool, local, pool, pool_with_pid_file};

/// A port that accepts connections (the kernel does) and never answers.
fn black_hole() -> (TcpListener, Remote) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.git", listener.local_addr().unwrap());
    (listener, Remote::anonymous(url))
}

#[tokio::test]
async fn a_host_that_never_answers_costs_one_deadline_and_no_more() {
    let repo = GitRepo::init();
    let commit = repo.commit("one");
    let (_listener, hole) = black_hole();
    for (no_progress, total) in
        [(Duration::from_millis(700), Duration::from_secs(60)), (Duration::from_secs(60), Duration::from_millis(700))]
    {
        let pool = impatient_pool(no_progress, total);
        let started = Instant::now();
        let error = pool.observe(&hole, "main").await.unwrap_err();
        assert_eq!(error.kind, GitErrorKind::DeadlineExceeded, "{error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        let pool = WorkerPool::clone(&pool);
        let started = Instant::now();
        let again = pool.observe(&local(&repo), "main").await;
        // The tight total may not suffice for a new worker on a busy machine; the worker must be free in any case.
        match again {
            Ok(found) => assert_eq!(found, id(&commit)),
            Err(error) => assert_eq!(error.kind, GitErrorKind::DeadlineExceeded, "{error}"),
        }
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_are_told_apart() {
    let pool = impatient_pool(Duration::from_secs(15), Duration::from_secs(30));
    let nobody = ReservedPort::take().unwrap();
    let url = format!("http://{}/x", nobody.address());
    let error = pool.observe(&Remote::anonymous(url), "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable);
    assert!(error.message.contains("refused"), "{error}");
    let error = pool.observe(&Remote::anonymous("http://no-such-host.invalid/x"), "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable, "{error}");
    assert!(error.message.contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_killed_worker_is_an_error_once() {
    let (repo, place) = (GitRepo::init(), Place::new());
    let commit = repo.commit("one");
    let (_listener, hole) = black_hole();
    let pid_file = place.directory().join("pid");
    let pool = pool_with_pid_file(&pid_file);
    let kill = async {
        let pid = pid_of(&pid_file).await;
        rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    };
    let (result, ()) = tokio::join!(pool.observe(&hole, "main"), kill);
    let error = result.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::WorkerDied, "{error}");
    assert!(error.message.contains("signal"), "{error}");
    assert_eq!(pool.observe(&local(&repo), "main").await.unwrap(), id(&commit));
}

#[tokio::test]
async fn dropping_the_future_ends_the_worker() {
    let place = Place::new();
    let (_listener, hole) = black_hole();
    let pid_file = place.directory().join("pid");
    let pool = pool_with_pid_file(&pid_file);
    let pid = {
        let request = pool.observe(&hole, "main");
        tokio::select! {
            result = request => panic!("a black hole answered: {result:?}"),
            pid = pid_of(&pid_file) => pid,
        }
    };
    wait_for("the end of the worker", Duration::from_secs(60), || async {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_ends_when_its_pool_does() {
    let (repo, place) = (GitRepo::init(), Place::new());
    repo.commit("one");
    let pid_file = place.directory().join("pid");
    let pool = pool_with_pid_file(&pid_file);
    pool.observe(&local(&repo), "main").await.unwrap();
    let first = pid_of(&pid_file).await;
    pool.observe(&local(&repo), "HEAD").await.unwrap();
    assert_eq!(pid_of(&pid_file).await, first, "a healthy worker is used again");
    drop(pool);
    wait_for("the end of the worker", Duration::from_secs(60), || async {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", first.as_raw_nonzero())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn programs_that_are_no_workers_are_found_out() {
    let (repo, place) = (GitRepo::init(), Place::new());
    repo.commit("one");
    for (program, args, says) in [
        ("/bin/echo", vec!["hello, I am not a worker"], "nonsense"),
        ("/bin/sh", vec!["-c", "echo out of luck >&2; exit 3"], "out of luck"),
        ("/nonexistent/worker", vec![], "cannot start"),
        ("/bin/sh", vec!["-c", "printf 'J\\377\\377\\377\\377'; sleep 60"], "nonsense"),
    ] {
        let pool = WorkerPool::new(WorkerCommand::new(program, args), Limits::default());
        let error = pool.list_tree(&place.mirror(), &id(&repo.head()), "").await.unwrap_err();
        assert_eq!(error.kind, GitErrorKind::WorkerDied, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    let silent = Limits { no_progress: Duration::from_millis(200), ..Limits::default() };
    let pool = WorkerPool::new(WorkerCommand::new("/bin/sleep", ["60"]), silent);
    let error = pool.list_tree(&place.mirror(), &id(&repo.head()), "").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::DeadlineExceeded, "{error}");
}

#[tokio::test]
async fn a_worker_over_its_memory_limit_dies_alone() {
    let repo = GitRepo::init();
    // Unpacked it is far larger than the worker may be; packed it is small.
    repo.write("zeros", vec![0_u8; 96 << 20]).commit("one");
    let limits = Limits { memory: 64 << 20, ..Limits::default() };
    let pool = WorkerPool::new(WorkerCommand::new(crate::support::WORKER, Vec::<OsString>::new()), limits);
    let place = Place::new();
    let error = pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap_err();
    assert!(
        matches!(
            error.kind,
            GitErrorKind::WorkerDied | GitErrorKind::Other | GitErrorKind::TooLarge | GitErrorKind::HostUnreachable
        ),
        "{error}"
    );
    let small = GitRepo::init();
    let commit = small.commit("one");
    assert_eq!(pool.observe(&local(&small), "main").await.unwrap(), id(&commit));
}

async fn pid_of(file: &Path) -> rustix::process::Pid {
    wait_for("the worker's process id", Duration::from_secs(60), || async {
        let text = std::fs::read_to_string(file).ok()?;
        rustix::process::Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    })
    .await
}

#[tokio::test]
async fn hosts_that_never_answer_do_not_keep_a_good_one_waiting() {
    let repo = GitRepo::init();
    let first = id(&repo.write("a.yaml", "a: 1\n").commit("one"));
    // The good one is served before the first of the others is given up, however busy the machine.
    let limits = Limits { no_progress: Duration::from_secs(60), total: Duration::from_secs(120), ..Limits::default() };
    let pool = WorkerPool::new(WorkerCommand::new(WORKER, Vec::<OsString>::new()), limits);
    assert_eq!(pool.observe(&local(&repo), "main").await.unwrap(), first);
    let holes: Vec<TcpListener> = (0..12).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    let stuck = holes.iter().map(|hole| {
        let url = format!("http://127.0.0.1:{}/a.git", hole.local_addr().unwrap().port());
        let pool = pool.clone();
        async move { pool.observe(&Remote::anonymous(url), "main").await }
    });
    let place = Place::new();
    let good = async {
        for _ in 0..3 {
            let outcome = pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap();
            assert_eq!(outcome.commit, first);
            assert_eq!(pool.list_tree(&place.mirror(), &first, "").await.unwrap().len(), 1);
        }
    };
    tokio::select! {
        first = futures_util::future::select_all(stuck.map(Box::pin)) => panic!("given up before the good one was served: {:?}", first.0),
        () = good => {}
    }
}

#[tokio::test]
async fn a_pack_above_the_limit_is_refused_by_size() {
    let repo = GitRepo::init();
    let noise: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    repo.write("big.bin", noise).commit("one");
    let limits = Limits { pack: 100_000, ..Limits::default() };
    let pool = WorkerPool::new(WorkerCommand::new(WORKER, Vec::<OsString>::new()), limits);
    let place = Place::new();
    let error = pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::TooLarge, "{error}");
    assert!(!place.mirror().exists(), "nothing half-fetched stays");
}

#[tokio::test]
async fn a_pack_without_end_is_stopped_at_the_limit_and_holds_up_nobody() {
    let repo = GitRepo::init();
    let commit = id(&repo.write("a.yaml", "a: 1\n").commit("one"));
    let host = BadHost::start(Badness::Endless).unwrap();
    let limit = 32 << 20;
    let limits = Limits { pack: limit, ..Limits::default() };
    let pool = WorkerPool::new(WorkerCommand::new(WORKER, Vec::<OsString>::new()), limits);
    let (place, good) = (Place::new(), Place::new());
    let (remote, mirror) = (Remote::anonymous(host.url()), place.mirror());
    let first = pool.observe(&remote, "main").await.unwrap();
    assert_ne!(pool.observe(&remote, "main").await.unwrap(), first, "it always has something new");
    let (good_mirror, good_remote) = (good.mirror(), local(&repo));
    let endless = pool.fetch(&mirror, &remote, "main", None);
    tokio::pin!(endless);
    // It has not sent all before somebody else was served.
    host.allow(limit / 2 + (1 << 20));
    let mut served = 0;
    let error = loop {
        tokio::select! {
            result = &mut endless => break result.unwrap_err(),
            outcome = pool.fetch(&good_mirror, &good_remote, "main", None) => {
                assert_eq!(outcome.unwrap().commit, commit);
                served += 1;
                host.allow(u64::MAX);
            }
        }
    };
    assert_eq!(error.kind, GitErrorKind::TooLarge, "{error}");
    assert!(served > 0, "nobody else was served meanwhile");
    // What was sent beyond the limit waits in sockets and buffers.
    assert!(host.sent() > limit / 2 && host.sent() < limit + (16 << 20), "{} bytes", host.sent());
    let left: Vec<_> = std::fs::read_dir(place.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mirror.git.guard"], "nothing of it stays on the disk");
    // The next request is served as if nothing had been.
    assert_eq!(pool.observe(&local(&repo), "main").await.unwrap(), commit);
}

/// Commits without changes, as many as it takes to walk for longer than a worker may be silent.
const LONG: usize = 50_000;

#[tokio::test]
async fn a_history_is_walked_to_its_end_however_long_that_takes() {
    let repo = GitRepo::init();
    let stream: String = (0..LONG)
        .map(|n| format!("commit refs/heads/long\ncommitter a <a@b> {} +0000\ndata 0\n", 1_700_000_000 + n))
        .collect();
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(repo.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    let root = id(repo.git(&["rev-list", "--max-parents=0", "long"]).trim());
    let tip = id(repo.git(&["rev-parse", "long"]).trim());
    let other = id(&repo.commit("another history"));
    let place = Place::new();
    let pool = pool();
    for revision in ["long", "main"] {
        pool.fetch(&place.mirror(), &local(&repo), revision, None).await.unwrap();
    }
    let began = Instant::now();
    let fetch = async |pool: &WorkerPool| {
        pool.fetch_seen(&place.mirror(), &local(&repo), "long", Some(&root), Some(&tip)).await.unwrap()
    };
    fetch(&pool).await;
    // Half of what a walk takes on this machine, and enough for a worker to start.
    let silence = (began.elapsed() / 2).max(Duration::from_millis(1_500));
    let hurried = impatient_pool(silence, Duration::from_secs(120));
    let fetched = fetch(&hurried).await;
    assert_eq!((&fetched.commit, fetched.forced), (&tip, false));
    let lost = hurried.lost_commits(&place.mirror(), &other, &tip, 10).await.unwrap();
    assert_eq!(lost.len(), 1);
    let history = hurried.history(&place.mirror(), Some(&tip), &other, 10).await.unwrap();
    assert!(history.complete && history.commits.len() == 1, "{history:?}");
}
