//! Keys, gates and the disk. That all share one poll is shown with a real host in `fleetd/tests/e2e/mirrors.rs`.

use std::fs;

use fleet_forge::{Forge, ForgeKind, ForgeSettings};
use fleet_git::{GitErrorKind, HttpsOptions, SshOptions};

use super::*;
use crate::credentials::GitCredential;
use crate::outbox::ForgeConfig;
use crate::planning::tests::definition;

fn mirrors(directory: &Path, max_mirror_bytes: u64) -> Mirrors {
    let credential = GitCredential {
        name: None,
        url_prefix: "https://git.test/ops/".to_owned(),
        https: HttpsOptions::default(),
        ssh: SshOptions::default(),
    };
    let config = SyncerConfig {
        mirrors: directory.to_owned(),
        credentials: vec![credential].into(),
        max_mirror_bytes,
        poll_interval: Duration::from_secs(15),
        ..SyncerConfig::for_tests()
    };
    Mirrors::new(Arc::new(config), SyncerMetrics::default())
}

#[test]
fn urls_that_certainly_mean_one_repository_share_a_mirror() {
    let all = mirrors(Path::new("/m"), u64::MAX);
    let path = |url: &str, revision: &str| all.of(url, revision, None).path().to_owned();
    for (one, other) in [
        ("https://git.test/a.git", "HTTPS://Git.Test:443/a.git/"),
        ("ssh://git@h/a", "ssh://git@H:22/a"),
        ("file:///srv/a", "/srv/a/"),
        ("file://localhost/srv/a", "/srv/a"),
        ("git@h:a.git", "git@h:a.git/"),
    ] {
        assert_eq!(path(one, "main"), path(other, " main "), "{one} {other}");
    }
    assert_eq!(path("/srv/a", ""), path("/srv/a", "HEAD"));
    for (one, other) in [
        ("https://git.test/a.git", "https://git.test/a"),
        ("https://git.test/a", "https://git.test/A"),
        ("https://git.test/a", "http://git.test/a"),
        ("https://git.test/a", "https://git.test:444/a"),
        ("ssh://one@h/a", "ssh://two@h/a"),
        ("file:///srv/%41", "/srv/%41"),
        ("/", "file://"),
    ] {
        assert_ne!(path(one, "main"), path(other, "main"), "{one} {other}");
    }
    assert_ne!(path("/srv/a", "main"), path("/srv/a", "next"));
    // The same place with another credential is another mirror: who may read it is another question.
    assert_ne!(path("https://git.test/ops/a", "main"), path("https://GIT.test/ops/a", "main"));
}

fn failure(retry_after: Option<u64>) -> GitError {
    let mut error = GitError::new(GitErrorKind::RateLimited, "slow down");
    error.retry_after = retry_after.map(Duration::from_secs);
    error
}

#[test]
fn a_pause_of_ours_ends_early_for_who_was_woken_and_one_of_the_host_does_not() {
    let mut gate = Gate::new(LONGEST_PAUSE);
    let began = Instant::now();
    assert_eq!(gate.closed(None, began), None);
    gate.note(began, began, Some(&failure(None)));
    let soon = began + Duration::from_millis(50);
    assert!(gate.closed(None, soon).is_some() && gate.closed(Some(began), soon).is_some());
    assert_eq!(gate.closed(Some(soon), soon), None, "woken after the failure");
    assert_eq!(gate.closed(None, began + Duration::from_secs(2)), None, "the first pause is one second at most");

    gate.note(began, began, Some(&failure(Some(60))));
    assert!(gate.closed(Some(soon), soon).is_some(), "the host's word binds everybody");
    assert!(gate.closed(None, began + Duration::from_secs(59)).is_some());
    assert_eq!(gate.closed(None, began + Duration::from_secs(61)), None);
    assert!(gate.opens_at().is_some_and(|at| at >= began + Duration::from_secs(60)));
    gate.note(began, began, None);
    assert_eq!((gate.closed(None, soon), gate.opens_at()), (None, None));
}

/// A mirror on the disk as far as the disk is concerned.
fn lay_down(mirror: &Path, bytes: usize, age: Duration) {
    let pack = mirror.join("objects/pack");
    fs::create_dir_all(&pack).unwrap();
    fs::write(pack.join("pack-1.pack"), vec![1; bytes]).unwrap();
    let guard = mirror.with_extension("guard");
    fs::write(&guard, "").unwrap();
    let then = now() - age;
    for path in [guard.as_path(), mirror] {
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn the_least_recently_used_mirrors_go_first_and_those_in_use_stay() {
    let place = tempfile::tempdir().unwrap();
    let all = mirrors(place.path(), 250_000);
    let [a, b, c] = ["/srv/a", "/srv/b", "/srv/c"].map(|url| all.of(url, "main", None));
    for (mirror, age) in [(&a, 30), (&b, 20), (&c, 10)] {
        lay_down(mirror.path(), 100_000, Duration::ZERO);
        lock(&mirror.usage).used = now() - Duration::from_secs(age);
    }
    let hold = a.in_use();
    all.tidy(DAY).await.unwrap();
    assert!(a.path().exists() && !b.path().exists() && c.path().exists(), "the oldest is in use, the next one goes");
    assert!(all.metrics.mirror_bytes.get() < 250_000 && all.metrics.mirror_bytes.get() > 190_000);
    assert_eq!(all.metrics.mirror_evictions.get(), 1);
    lay_down(b.path(), 100_000, Duration::ZERO);
    drop(hold);
    c.in_use_for(DAY);
    lock(&b.usage).used = now() - Duration::from_secs(1);
    let _fetching = b.fetching.lock().await;
    all.tidy(DAY).await.unwrap();
    assert!(!a.path().exists() && b.path().exists() && c.path().exists());
    assert!(!place.path().read_dir().unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("evicted")));
}

#[tokio::test]
async fn mirrors_that_nobody_asks_for_go_after_a_while() {
    let place = tempfile::tempdir().unwrap();
    let all = mirrors(place.path(), u64::MAX);
    let (held, asked) = (all.of("/srv/held", "main", None), all.of("/srv/asked", "main", None).path().to_owned());
    let strange = place.path().join("repository-0123456789abcdef01234567");
    let young = place.path().join("repository-89abcdef0123456701234567");
    let old_layout = place.path().join("source-0123456789abcdef01234567");
    for (mirror, age) in
        [(held.path(), 9 * DAY), (&asked, 9 * DAY), (&strange, 2 * DAY), (&young, DAY / 2), (&old_layout, DAY / 2)]
    {
        lay_down(mirror, 10, age);
    }
    fs::write(place.path().join("somebody-elses"), "x").unwrap();
    all.tidy(DAY).await.unwrap();
    assert!(held.path().exists() && asked.exists() && young.exists());
    assert!(!strange.exists() && !strange.with_extension("guard").exists() && !old_layout.exists());
    assert!(place.path().join("somebody-elses").exists());
    all.tidy(Duration::ZERO).await.unwrap();
    assert!(held.path().exists(), "a source has it");
    assert!(!asked.exists() && !young.exists());
}

#[test]
fn a_mirror_knows_what_each_of_those_is_at_who_share_it() {
    let all = mirrors(Path::new("/m"), u64::MAX);
    let commit = |n: char| n.to_string().repeat(40).parse::<CommitId>().unwrap();
    let [a, b] = [commit('a'), commit('b')];
    let mirror = all.of("/srv/a", "main", None);
    let [one, two, three] = [(); 3].map(|()| all.of("/srv/a/", "main", None).standing());
    one.at(Some(&b));
    two.at(Some(&a));
    three.at(Some(&a));
    assert_eq!(mirror.others(None), [a.clone(), b.clone()]);
    assert_eq!(mirror.others(Some(&b)), std::slice::from_ref(&a));
    two.at(Some(&b));
    assert_eq!(mirror.others(Some(&a)), std::slice::from_ref(&b));
    drop((one, two));
    assert_eq!(mirror.others(None), [a]);
    three.at(None);
    assert!(mirror.others(Some(&b)).is_empty());
}

#[tokio::test]
async fn mirrors_of_pull_requests_go_with_the_last_one_and_first_when_the_disk_is_full() {
    let place = tempfile::tempdir().unwrap();
    let mut config = SyncerConfig { mirrors: place.path().to_owned(), ..SyncerConfig::for_tests() };
    let token_file = place.path().join("token");
    fs::write(&token_file, "unsaid").unwrap();
    let settings = ForgeSettings {
        kind: ForgeKind::GitHub,
        url_prefix: "https://git.test/".to_owned(),
        api_url: "https://git.test/api".to_owned(),
        token_file,
        ca_pem: None,
    };
    let forge = Arc::new(Forge::new(settings).unwrap());
    let forge = ForgeConfig { forge, commit_statuses: false, plan_comments: true, target_url: None };
    config.forges = vec![forge];
    config.max_mirror_bytes = 250_000;
    let all = Mirrors::new(Arc::new(config.clone()), SyncerMetrics::default());
    let source = |name: &str| definition(name);
    let (one, other, gone) = (source("one"), source("other"), source("gone"));
    let path = |source| all.of_pulls(source, "https://git.test/").path().to_owned();
    let [open, closed, left] = [&one, &other, &gone].map(path);
    let own = all.of("/srv/a", "main", None);
    for mirror in [&open, &closed, &left, &own.path().to_owned()] {
        lay_down(mirror, 10_000, Duration::ZERO);
    }
    all.tidy(DAY).await.unwrap();
    assert!(closed.exists() && left.exists(), "not all sources were looked at yet");

    all.keep_pulls("https://git.test/", &[&one]);
    let reading = all.of_pulls(&gone, "https://git.test/").in_use();
    all.keep_pulls("https://git.test/", &[&one]);
    all.tidy(DAY).await.unwrap();
    assert!(open.exists() && !closed.exists() && left.exists(), "one that is being read stays until that is over");
    drop(reading);
    all.tidy(DAY).await.unwrap();
    assert!(open.exists() && !left.exists() && own.path().exists());

    lay_down(&open, 200_000, Duration::ZERO);
    lay_down(own.path(), 100_000, Duration::ZERO);
    lock(&own.usage).used = now() - Duration::from_secs(60);
    all.tidy(DAY).await.unwrap();
    assert!(!open.exists() && own.path().exists(), "that of the source stays, though it was used before the other");

    // Of one that was woken it is known by itself; the others stay as they were.
    lay_down(&open, 10, Duration::ZERO);
    all.keep_some_pulls("https://git.test/", &[&other], &[&other]);
    all.tidy(DAY).await.unwrap();
    assert!(open.exists());
    all.keep_some_pulls("https://git.test/", &[&one], &[]);
    all.tidy(DAY).await.unwrap();
    assert!(!open.exists());

    // Without the feature none is wanted.
    lay_down(&open, 10, Duration::ZERO);
    config.forges.clear();
    Mirrors::new(Arc::new(config), SyncerMetrics::default()).tidy(DAY).await.unwrap();
    assert!(!open.exists());
}

#[tokio::test]
async fn a_push_does_not_wait_behind_polls_of_its_host() {
    let place = tempfile::tempdir().unwrap();
    let config = SyncerConfig {
        mirrors: place.path().to_owned(),
        poll_interval: Duration::from_secs(15),
        polls_per_second_per_host: 1,
        ..SyncerConfig::for_tests()
    };
    let all = Mirrors::new(Arc::new(config), SyncerMetrics::default());
    // No worker can be started, which is as good as an answer here.
    let arguments: [&str; 0] = [];
    let git = WorkerPool::new(fleet_git::WorkerCommand::new("/nonexistent", arguments), fleet_git::Limits::default());
    let look = |name: &str, woken: Option<Instant>| {
        let (mirror, git) = (all.of(&format!("https://git.test/{name}"), "main", None), git.clone());
        async move { mirror.observe(&git, mirror.poll(woken)).await }
    };
    look("first", None).await.unwrap_err();
    let mut tasks = tokio::task::JoinSet::new();
    let polls = ["a", "b", "c", "pushed"].map(|name| tasks.spawn(look(name, None)));
    tokio::task::yield_now().await;
    assert_eq!(all.metrics.host_looks.get(), 1, "the others wait");
    // The look at it that waits already goes first now, and its answer serves both.
    look("pushed", Some(Instant::now())).await.unwrap_err();
    assert_eq!((all.metrics.host_looks.get(), all.metrics.shared_looks.get()), (2, 1));
    assert!(polls[3].is_finished() && !polls[..3].iter().any(tokio::task::AbortHandle::is_finished));
}
