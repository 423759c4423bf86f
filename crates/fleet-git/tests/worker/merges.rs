//! What a merge would be is what `git merge-tree` says it is, and nothing of the repositories is run for it.

use std::process::Command;

use fleet_git::{GitErrorKind, Merged, WorkerPool};
use fleet_test::GitRepo;

use crate::support::{Place, id, local, pool};

/// What Git makes of it: the tree, or the names of the files in conflict.
fn git_says(repo: &GitRepo, ours: &str, theirs: &str) -> Result<String, Vec<String>> {
    let mut command = Command::new("git");
    command.args(["merge-tree", "--write-tree", "--no-messages", "--name-only", ours, theirs]);
    let output = command.current_dir(repo.path()).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::to_owned);
    let tree = lines.next().unwrap();
    if output.status.success() { Ok(tree) } else { Err(lines.filter(|line| !line.is_empty()).collect()) }
}

/// The same by the pool, with the listing of what was merged compared with Git's.
async fn compare(pool: &WorkerPool, repo: &GitRepo, ours: &str, theirs: &str, what: &str) -> bool {
    let place = Place::new();
    let mirror = place.mirror();
    pool.fetch(&mirror, &local(repo), ours, None).await.unwrap();
    pool.fetch(&mirror, &local(repo), theirs, None).await.unwrap();
    let found = pool.merge(&mirror, &id(ours), &id(theirs)).await.unwrap();
    let range = format!("{theirs}..{ours}");
    assert_eq!(found.behind.to_string(), repo.git(&["rev-list", "--count", &range]), "{what}");
    match (found.merged, git_says(repo, ours, theirs)) {
        (Merged::Commit(commit), Ok(tree)) => {
            let listed = pool.list_tree(&mirror, &commit, "").await.unwrap();
            let listed: Vec<String> = listed.iter().map(|entry| format!("{} {}", entry.oid, entry.path)).collect();
            let mut expected: Vec<String> = repo
                .git(&["ls-tree", "-r", "--format=%(objectname) %(path)", &tree])
                .lines()
                .map(str::to_owned)
                .collect();
            expected.sort_by(|a, b| a[41..].cmp(&b[41..]));
            assert_eq!(listed, expected, "{what}");
            let again = pool.merge(&mirror, &id(ours), &id(theirs)).await.unwrap();
            assert_eq!(again.merged, Merged::Commit(commit), "{what}: the same merge is the same commit");
            true
        }
        (Merged::Conflicts(files), Err(expected)) => {
            assert!(
                !files.is_empty() && files.iter().all(|file| expected.contains(file)),
                "{what}: {files:?}, {expected:?}"
            );
            false
        }
        (found, expected) => panic!("{what}: {found:?}, but Git says {expected:?}"),
    }
}

#[tokio::test]
async fn a_branch_that_is_behind_is_merged_as_git_merges_it() {
    let repo = GitRepo::init();
    let lines: String = (0..40).map(|line| format!("line {line}\n")).collect();
    repo.write("fleets/a.yaml", &lines).write("fleets/b.yaml", "b\n").write("gone", "x\n");
    let base = repo.commit("base");
    repo.branch("theirs").write("fleets/a.yaml", lines.replace("line 3\n", "line three\n"));
    repo.write("new", "1\n").remove("gone").commit("one");
    repo.git(&["mv", "fleets/b.yaml", "fleets/c.yaml"]);
    let theirs = repo.commit("two");
    repo.switch("main").write("fleets/a.yaml", lines.replace("line 33\n", "line thirty-three\n"));
    repo.commit("elsewhere in the file");
    // A rename on one side and a change on the other.
    let ours = repo.write("fleets/b.yaml", "b\nmore\n").commit("ours");
    let pool = pool();
    assert!(compare(&pool, &repo, &ours, &base, "nothing new").await);
    assert!(compare(&pool, &repo, &ours, &theirs, "both").await);
    // What follows is itself.
    let place = Place::new();
    pool.fetch(&place.mirror(), &local(&repo), "theirs", None).await.unwrap();
    let ahead = pool.merge(&place.mirror(), &id(&base), &id(&theirs)).await.unwrap();
    assert_eq!((ahead.behind, ahead.merged), (0, Merged::Commit(id(&theirs))));
    // A file that both changed, and one that one changed and the other removed.
    repo.write("fleets/a.yaml", lines.replace("line 3\n", "line 3!\n")).write("gone", "y\n");
    let clash = repo.commit("clash");
    assert!(!compare(&pool, &repo, &clash, &theirs, "clash").await);
    let missing = pool.merge(&place.mirror(), &id(&clash), &id(&theirs)).await.unwrap_err();
    assert_eq!(missing.kind, GitErrorKind::RefMissing);
    // Nothing in common.
    repo.git(&["switch", "--quiet", "--orphan", "other"]);
    let other = repo.write("z", "z").commit("another beginning");
    pool.fetch(&place.mirror(), &local(&repo), "other", None).await.unwrap();
    let error = pool.merge(&place.mirror(), &id(&other), &id(&theirs)).await.unwrap_err();
    assert!(error.message.contains("no commit in common"), "{error}");
}

#[tokio::test]
async fn attributes_and_drivers_of_a_repository_run_nothing() {
    let repo = GitRepo::init();
    let mark = repo.scratch().join("ran");
    repo.write(".gitattributes", "* merge=evil filter=evil diff=evil\n")
        .write("a", "1\n2\n3\n4\n5\n6\n7\n")
        .commit("base");
    repo.branch("theirs").write("a", "one\n2\n3\n4\n5\n6\n7\n");
    let theirs = repo.commit("theirs");
    let ours = repo.switch("main").write("a", "1\n2\n3\n4\n5\n6\nseven\n").commit("ours");
    for key in ["merge.evil.driver", "filter.evil.clean", "filter.evil.smudge", "diff.evil.textconv"] {
        repo.git(&["config", key, &format!("touch {}", mark.display())]);
    }
    let (pool, place) = (pool(), Place::new());
    pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap();
    pool.fetch(&place.mirror(), &local(&repo), "theirs", None).await.unwrap();
    let merge = pool.merge(&place.mirror(), &id(&ours), &id(&theirs)).await.unwrap();
    let Merged::Commit(commit) = merge.merged else { panic!("{merge:?}") };
    let listed = pool.list_tree(&place.mirror(), &commit, "a").await.unwrap();
    let content = pool.read_blobs(&place.mirror(), &[listed[0].oid], 1 << 20, 1 << 20).await.unwrap();
    assert_eq!(&content[0][..], b"one\n2\n3\n4\n5\n6\nseven\n");
    assert!(!mark.exists());
}

#[tokio::test]
async fn random_changes_on_both_sides_merge_as_git_merges_them() {
    use std::hash::{BuildHasher as _, Hasher as _};
    let given = std::env::var("SHOREBASE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    println!("SHOREBASE_SEED={seed}");
    let mut state = seed | 1;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let pool = pool();
    let (mut clean, mut conflicts) = (0, 0);
    for round in 0..12 {
        let repo = GitRepo::init();
        let text = |marks: &[(u64, u64)]| -> String {
            (0..60)
                .map(|at| match marks.iter().find(|(line, _)| *line == at) {
                    Some((_, mark)) => format!("line {at} is {mark}\n"),
                    None => format!("line {at}\n"),
                })
                .collect()
        };
        for file in 0..6 {
            repo.write(&format!("d{}/f{file}", file % 3), text(&[]));
        }
        repo.commit("base");
        let mut side = |name: &str| {
            repo.git(&["switch", "--quiet", "-C", name, "main"]);
            for _ in 0..=next(3) {
                let file = next(6);
                let path = format!("d{}/f{file}", file % 3);
                match next(6) {
                    0 => _ = repo.write(&format!("new{}", next(3)), format!("{}\n", next(2))),
                    1 if repo.path().join(&path).exists() => _ = repo.remove(&path),
                    _ => _ = repo.write(&path, text(&[(next(60), next(9)), (next(60), next(9))])),
                }
                repo.commit("step");
            }
            repo.head()
        };
        let (ours, theirs) = (side("ours"), side("theirs"));
        match compare(&pool, &repo, &ours, &theirs, &format!("seed {seed}, round {round}")).await {
            true => clean += 1,
            false => conflicts += 1,
        }
    }
    println!("{clean} clean, {conflicts} in conflict");
}
