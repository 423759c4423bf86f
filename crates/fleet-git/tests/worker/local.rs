//! Local repositories: what a revision means, first and later fetches, rewritten history.

use fleet_git::{GitErrorKind, Remote};
use fleet_test::GitRepo;

use crate::support::{Place, id, local, packs, pool};

#[tokio::test]
async fn every_kind_of_revision_names_its_commit() {
    let repo = GitRepo::init();
    let first = repo.write("a", "1").commit("one");
    repo.git(&["tag", "light"]);
    repo.git(&["tag", "-a", "-m", "annotated", "v1.0"]);
    let second = repo.write("a", "2").commit("two");
    repo.git(&["branch", "main-2"]);
    let pool = pool();
    for remote in [local(&repo), Remote::anonymous(repo.url())] {
        for (revision, expected) in [
            ("", &second),
            ("HEAD", &second),
            ("main", &second),
            ("refs/heads/main", &second),
            ("light", &first),
            ("v1.0", &first),
            ("refs/tags/v1.0", &first),
            (first.as_str(), &first),
        ] {
            assert_eq!(pool.observe(&remote, revision).await.unwrap(), id(expected), "{revision:?} of {}", remote.url);
        }
        for missing in ["mai", "main-3", "refs/heads/v1.0", "a..b", &first[..12]] {
            let error = pool.observe(&remote, missing).await.unwrap_err();
            assert_eq!(error.kind, GitErrorKind::RefMissing, "{missing:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_later_fetch_brings_only_what_is_new() {
    let repo = GitRepo::init();
    for number in 0..60 {
        repo.write(&format!("devices/{number}.yaml"), format!("number: {number}\n"));
    }
    let first = repo.commit("one");
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    let outcome = pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    assert_eq!((outcome.commit, outcome.forced, outcome.rebuilt), (id(&first), false, None));
    let whole = std::fs::metadata(&packs(&mirror)[0]).unwrap().len();

    let again = pool.fetch(&mirror, &remote, "main", Some(&id(&first))).await.unwrap();
    assert_eq!((again.commit, again.forced), (id(&first), false));
    assert_eq!(packs(&mirror).len(), 1, "nothing new, no new pack");

    let second = repo.write("devices/7.yaml", "number: 70\n").commit("two");
    let outcome = pool.fetch(&mirror, &remote, "main", Some(&id(&first))).await.unwrap();
    assert_eq!((outcome.commit, outcome.forced, outcome.rebuilt), (id(&second), false, None));
    let sizes: Vec<u64> = packs(&mirror).iter().map(|pack| std::fs::metadata(pack).unwrap().len()).collect();
    assert!(sizes.len() == 2 && sizes.iter().any(|size| *size < whole), "{sizes:?} after {whole}");
    let leftovers: Vec<_> = std::fs::read_dir(place.directory()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(leftovers.len(), 2, "mirror and guard only: {leftovers:?}");
}

#[tokio::test]
async fn rewritten_history_is_reported_and_the_old_commit_stays_readable() {
    let repo = GitRepo::init();
    let base = repo.write("a", "1").commit("one");
    let lost = repo.write("a", "2").commit("two");
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    repo.force(&base);
    let other = repo.write("b", "3").commit("three");
    let outcome = pool.fetch(&mirror, &remote, "main", Some(&id(&lost))).await.unwrap();
    assert_eq!((outcome.commit, outcome.forced), (id(&other), true));
    assert_eq!(pool.list_tree(&mirror, &id(&lost), "").await.unwrap().len(), 1);
    let outcome = pool.fetch(&mirror, &remote, "main", Some(&id(&base))).await.unwrap();
    assert!(!outcome.forced, "an ancestor is not rewritten");

    repo.force(&base);
    let outcome = pool.fetch(&mirror, &remote, "main", Some(&id(&other))).await.unwrap();
    assert_eq!((outcome.commit, outcome.forced), (id(&base), true), "moving back is a rewrite too");
    repo.git(&["checkout", "--quiet", "--orphan", "unrelated"]);
    let unrelated = repo.commit("no parents");
    let outcome = pool.fetch(&mirror, &remote, "unrelated", Some(&id(&base))).await.unwrap();
    assert_eq!((outcome.commit, outcome.forced), (id(&unrelated), true));
    let unknown = id(&"1".repeat(40));
    assert!(pool.fetch(&mirror, &remote, "main", Some(&unknown)).await.unwrap().forced);
}

#[tokio::test]
async fn the_commits_that_a_rewrite_loses_are_named_newest_first() {
    let repo = GitRepo::init();
    let base = repo.write("a", "1").commit("one");
    let two = repo.write("a", "2").commit("two\n\nwith a body");
    let three = repo.write("a", "3").commit("three");
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    repo.force(&base);
    let other = repo.write("b", "4").commit("four");
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    let lost = pool.lost_commits(&mirror, &id(&three), &id(&other), 10).await.unwrap();
    let lost: Vec<(String, String)> = lost.into_iter().map(|one| (one.id.to_string(), one.subject)).collect();
    assert_eq!(lost, [(three.clone(), "three".to_owned()), (two, "two".to_owned())]);
    assert_eq!(pool.lost_commits(&mirror, &id(&three), &id(&other), 1).await.unwrap().len(), 1);
    assert!(pool.lost_commits(&mirror, &id(&base), &id(&three), 10).await.unwrap().is_empty(), "nothing is lost");
    let unknown = pool.lost_commits(&mirror, &id(&"1".repeat(40)), &id(&other), 10).await.unwrap_err();
    assert_eq!(unknown.kind, fleet_git::GitErrorKind::RefMissing, "{unknown}");
}

#[tokio::test]
async fn tags_commits_and_head_can_be_fetched_into_one_mirror() {
    let repo = GitRepo::init();
    let first = repo.write("a", "1").commit("one");
    repo.git(&["tag", "-a", "-m", "annotated", "v1.0"]);
    let second = repo.write("a", "2").commit("two");
    let third = repo.write("a", "3").commit("three");
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    for (revision, expected) in
        [("v1.0", &first), (second.as_str(), &second), ("HEAD", &third), (first.as_str(), &first)]
    {
        let outcome = pool.fetch(&place.mirror(), &remote, revision, None).await.unwrap();
        assert_eq!(outcome.commit, id(expected), "{revision}");
    }
    let absent = "f".repeat(40);
    let error = pool.fetch(&place.mirror(), &remote, &absent, None).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::RefMissing, "{error}");
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    repo.git(&["tag", "a-tree", &tree]);
    let error = pool.fetch(&place.mirror(), &remote, "a-tree", None).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::RefMissing, "{error}");
    assert!(error.message.contains("tree, not a commit"), "{error}");
}

#[tokio::test]
async fn a_repository_of_another_user_can_be_read() {
    let repo = GitRepo::init();
    let commit = repo.write("a", "1").commit("one");
    let bare = repo.bare_clone();
    for owned in [&repo, &bare] {
        let path = owned.path().to_str().unwrap();
        let changed = std::process::Command::new("chown").args(["-R", "12345:12345", path]).status().unwrap();
        if !changed.success() {
            // Only root may give files away; without that there is nothing to test.
            return;
        }
        assert_eq!(pool().observe(&local(owned), "main").await.unwrap(), id(&commit));
    }
}

#[tokio::test]
async fn paths_that_hold_no_repository_are_unreachable_with_a_reason() {
    let place = Place::new();
    let pool = pool();
    let absent = place.directory().join("absent");
    let error = pool.observe(&Remote::anonymous(absent.to_str().unwrap()), "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable, "{error}");
    let empty = Remote::anonymous(place.directory().to_str().unwrap());
    let error = pool.observe(&empty, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable, "{error}");
    assert!(error.message.contains("git says"), "{error}");
    let error = pool.observe(&Remote::anonymous("svn://example.com/x"), "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::UnsupportedScheme, "{error}");
}

#[tokio::test]
async fn an_empty_repository_has_no_head() {
    let repo = GitRepo::init();
    let error = pool().observe(&local(&repo), "HEAD").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::RefMissing, "{error}");
}

#[tokio::test]
async fn the_history_since_a_commit_is_that_of_git_along_first_parents() {
    let repo = GitRepo::init();
    let base = repo.write("a", "1").commit("one");
    let two = repo.write("a", "2").commit("two");
    repo.branch("side").write("b", "1");
    let side = repo.commit("on the side");
    repo.switch("main").write("c", "1");
    let three = repo.commit("three");
    repo.git(&["merge", "--quiet", "--no-ff", "-m", "merged", "side"]);
    let tip = repo.write("d", "1").commit("last");
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    for from in [Some(&base), Some(&two), Some(&side), Some(&three), Some(&tip), None] {
        let range = from.map_or_else(|| tip.clone(), |from| format!("{from}..{tip}"));
        let expected = repo.git(&["rev-list", "--first-parent", &range]);
        let found = pool.history(&mirror, from.map(|from| id(from)).as_ref(), &id(&tip), 100).await.unwrap();
        let names: Vec<String> = found.commits.iter().map(|commit| commit.id.to_string()).collect();
        assert_eq!((names.join("\n"), found.complete), (expected, true), "{range}");
        for commit in &found.commits {
            let name = commit.id.as_str();
            let raw = String::from_utf8(commit.raw.clone().unwrap()).unwrap();
            assert_eq!(raw.trim_end(), repo.git(&["cat-file", "commit", name]));
            let parent = repo.git(&["log", "-1", "--format=%P", name]);
            let first = parent.split(' ').next().filter(|parent| !parent.is_empty());
            assert_eq!(commit.first_parent.as_ref().map(|parent| parent.as_str()), first);
            assert_eq!(commit.subject, repo.git(&["log", "-1", "--format=%s", name]));
        }
    }
    let cut = pool.history(&mirror, Some(&id(&base)), &id(&tip), 2).await.unwrap();
    assert_eq!((cut.commits.len(), cut.complete), (2, false), "there are more");
    // A base that the mirror does not know hides nothing; one on another branch hides what both have.
    let unknown = pool.history(&mirror, Some(&id(&"1".repeat(40))), &id(&tip), 100).await.unwrap();
    assert_eq!(unknown.commits.last().unwrap().id, id(&base));
    let missing = pool.history(&mirror, None, &id(&"1".repeat(40)), 100).await.unwrap_err();
    assert_eq!(missing.kind, GitErrorKind::RefMissing);
}

#[tokio::test]
async fn the_history_since_a_commit_is_whole_whatever_the_clocks_of_committers_said() {
    let repo = GitRepo::init();
    let at = |when: u64, parents: &[&str], message: &str| {
        let tree = repo.git(&["write-tree"]);
        let identity = format!("Ada Author <ada@example.com> {when} +0000");
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let raw = format!("tree {tree}\n{parents}author {identity}\ncommitter {identity}\n\n{message}\n");
        let file = repo.scratch().join("commit");
        std::fs::write(&file, raw).unwrap();
        repo.git(&["hash-object", "-t", "commit", "-w", file.to_str().unwrap()])
    };
    let day = 86_400;
    let now = 1_700_000_000;
    repo.write("a", "1").commit("something to have a tree");
    // What is in force came from a clock a year ahead, and so did some before it; what follows from one a year behind.
    let root = at(now, &[], "root");
    let mut base = root.clone();
    for n in 0..30 {
        base = at(now + if n % 3 == 0 { 365 * day } else { n }, &[&base], &format!("old {n}"));
    }
    let side = at(now - 700 * day, &[&root], "on the side, long ago");
    let mut expected = Vec::new();
    let mut tip = base.clone();
    for n in 0..30 {
        let mut parents = vec![tip.as_str()];
        if n == 12 {
            parents.push(&side);
        }
        tip = at(now - 365 * day + if n % 4 == 0 { 500 * day } else { 0 }, &parents, &format!("new {n}"));
        expected.push(tip.clone());
    }
    expected.reverse();
    repo.git(&["update-ref", "refs/heads/main", &tip]);
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    let found = pool.history(&mirror, Some(&id(&base)), &id(&tip), 100).await.unwrap();
    let names: Vec<String> = found.commits.iter().map(|commit| commit.id.to_string()).collect();
    assert_eq!((names, found.complete), (expected, true));
    let none = pool.history(&mirror, Some(&id(&tip)), &id(&base), 100).await.unwrap();
    assert_eq!((none.commits.len(), none.complete), (0, true), "what is in force has it all");
}
