//! Reading a clone in process gives what the `git` program gives.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::path::Path;

use fleet_git::local::LocalRepository;
use fleet_git::{EntryMode, GitErrorKind};
use fleet_test::GitRepo;
use proptest::prelude::*;

fn open(path: &Path) -> LocalRepository {
    LocalRepository::discover(path).unwrap()
}

/// Three branches with a merge, a tag that is an object, modes of all kinds, and names that are not ASCII.
fn history() -> GitRepo {
    let repo = GitRepo::init();
    repo.write("a/b/c.yaml", "x: 1\n").write("run.sh", "#!/bin/sh\n").write("ü ü/ß", "é").commit("one");
    std::os::unix::fs::symlink("a/b", repo.path().join("link")).unwrap();
    let runnable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(repo.path().join("run.sh"), runnable).unwrap();
    repo.commit("mode");
    repo.git(&["tag", "-a", "v1", "-m", "the first"]);
    repo.git(&["tag", "light"]);
    repo.git(&["switch", "--quiet", "-c", "side/one", "HEAD~1"]);
    repo.write("side", "s").commit("side");
    repo.switch("main").write("main", "m").commit("main");
    repo.git(&["merge", "--quiet", "--no-edit", "side/one"]);
    repo.write("after", "x").commit("after");
    repo
}

fn listed_by_git(repo: &GitRepo, revision: &str) -> Vec<(String, String, String)> {
    let mut rows: Vec<_> = repo
        .git(&["-c", "core.quotePath=false", "ls-tree", "-r", revision])
        .lines()
        .map(|line| {
            let (facts, path) = line.split_once('\t').unwrap();
            let mut facts = facts.split(' ');
            let (mode, _, oid) = (facts.next().unwrap(), facts.next(), facts.next().unwrap());
            (path.to_owned(), mode.to_owned(), oid.to_owned())
        })
        .collect();
    rows.sort();
    rows
}

fn listed(repo: &LocalRepository, revision: &str) -> Vec<(String, String, String)> {
    let mode = |mode| match mode {
        EntryMode::File => "100644",
        EntryMode::Executable => "100755",
        EntryMode::Symlink => "120000",
        EntryMode::Submodule => "160000",
    };
    let entries = repo.list_tree(&repo.resolve(revision).unwrap()).unwrap();
    entries.into_iter().map(|e| (e.path, mode(e.mode).to_owned(), e.oid.to_string())).collect()
}

#[test]
fn revisions_trees_and_merge_bases_are_those_of_git() {
    let repo = history();
    let local = open(repo.path());
    let head = repo.head();
    let revisions =
        ["HEAD", "main", "side/one", "v1", "light", "HEAD~1", "HEAD^^2", "refs/heads/main", "refs/tags/v1", &head[..8]];
    for revision in revisions {
        let expected = repo.git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")]);
        assert_eq!(local.resolve(revision).unwrap().as_str(), expected, "{revision}");
        assert_eq!(listed(&local, revision), listed_by_git(&repo, revision), "{revision}");
    }
    for (one, two) in [("main", "side/one"), ("HEAD~2", "side/one"), ("v1", "HEAD"), ("HEAD", "HEAD")] {
        let base = local.merge_base(&local.resolve(one).unwrap(), &local.resolve(two).unwrap()).unwrap();
        assert_eq!(base.as_str(), repo.git(&["merge-base", one, two]), "{one} {two}");
    }
}

#[test]
fn contents_are_bounded_before_they_are_unpacked() {
    let repo = GitRepo::init();
    repo.write("small", "hello").write("big", vec![b'x'; 100_000]).commit("one");
    repo.git(&["gc", "--quiet"]);
    let local = open(repo.path());
    let entries = local.list_tree(&local.resolve("HEAD").unwrap()).unwrap();
    assert_eq!(local.read_blob(entries[1].oid, 5).unwrap(), b"hello");
    let error = local.read_blob(entries[0].oid, 99_999).unwrap_err();
    assert_eq!(error.kind, GitErrorKind::TooLarge);
    assert!(error.message.contains("has 100000 bytes; at most 99999"), "{error}");
}

#[test]
fn it_is_found_from_below_from_linked_work_trees_and_when_it_is_bare() {
    let repo = history();
    let head = repo.head();
    let below = open(&repo.path().join("a/b"));
    assert_eq!(below.resolve("HEAD").unwrap().as_str(), head);
    assert_eq!(below.below_root(&repo.path().join("a/b")).unwrap(), "a/b");
    assert_eq!(below.below_root(repo.path()).unwrap(), "");
    assert_eq!(below.below_root(repo.scratch()).map_err(|e| e.kind), Err(GitErrorKind::PathMissing));

    let other = repo.scratch().join("other");
    repo.git(&["worktree", "add", "--quiet", "--detach", other.to_str().unwrap(), "v1"]);
    let linked = open(&other.join("a"));
    assert_eq!(linked.resolve("HEAD").unwrap().as_str(), repo.git(&["rev-parse", "v1^{commit}"]));
    assert_eq!(linked.resolve("main").unwrap().as_str(), head);
    assert_eq!(linked.below_root(&other.join("a/b")).unwrap(), "a/b");

    let bare = repo.bare_clone();
    let bare = open(bare.path());
    assert_eq!(bare.workdir(), None);
    assert_eq!(bare.resolve("main").unwrap().as_str(), head);
    assert_eq!(listed(&bare, "main"), listed_by_git(&repo, "main"));
}

#[test]
fn what_is_not_a_revision_says_what_to_do() {
    let repo = history();
    repo.git(&["remote", "add", "origin", &repo.url()]);
    let local = open(repo.path());
    for (revision, said) in [
        ("origin/main", "fetch it: git fetch origin +main:refs/remotes/origin/main"),
        ("release", "fetch it and name it origin/release: git fetch origin +release:refs/remotes/origin/release"),
        ("--upload-pack=x", "name a branch"),
        ("a b; c", "name a branch"),
        ("", "is not a revision"),
        ("HEAD~99", "name a branch"),
        ("main:side", "is a blob"),
        ("main..HEAD", "name a branch"),
    ] {
        let error = local.resolve(revision).unwrap_err();
        assert_eq!(error.kind, GitErrorKind::RefMissing, "{revision}");
        assert!(error.message.contains(said), "{revision}: {error}");
    }
    let empty = GitRepo::init();
    let error = open(empty.path()).resolve("HEAD").unwrap_err();
    assert_eq!(error.kind, GitErrorKind::RefMissing);
    assert!(error.message.contains("no commit yet"), "{error}");
    let nowhere = tempfile::tempdir().unwrap();
    let error = LocalRepository::discover(nowhere.path()).unwrap_err();
    assert!(error.message.contains("does not lie in a Git repository"), "{error}");
    let error = LocalRepository::discover(&nowhere.path().join("missing")).unwrap_err();
    assert!(error.message.contains("cannot read"), "{error}");
}

#[test]
fn a_shallow_clone_says_how_to_get_the_rest() {
    let repo = history();
    let clone = repo.scratch().join("shallow");
    let to = clone.to_str().unwrap();
    repo.git(&["clone", "--quiet", "--depth=1", "--no-single-branch", &repo.url(), to]);
    let local = open(&clone);
    assert!(local.is_shallow());
    assert_eq!(local.default_branch().unwrap(), "origin/HEAD");
    assert_eq!(listed(&local, "HEAD"), listed_by_git(&repo, "HEAD"));
    let side = local.resolve("origin/side/one").unwrap();
    for error in [
        local.merge_base(&local.resolve("HEAD").unwrap(), &side).unwrap_err(),
        local.resolve("HEAD~1").unwrap_err(),
        local.resolve("origin/release").unwrap_err(),
    ] {
        assert_eq!(error.kind, GitErrorKind::RefMissing);
        assert!(error.message.contains("fetch-depth: 0"), "{error}");
    }
}

#[test]
fn histories_without_anything_in_common_have_no_merge_base() {
    let repo = history();
    repo.git(&["switch", "--quiet", "--orphan", "other"]);
    repo.write("x", "y").commit("other");
    let local = open(repo.path());
    let error = local.merge_base(&local.resolve("main").unwrap(), &local.resolve("other").unwrap()).unwrap_err();
    assert!(error.message.contains("no common ancestor"), "{error}");
    let error = local.default_branch().unwrap_err();
    assert!(error.message.contains("no remote named origin; name what to compare with"), "{error}");
    repo.git(&["remote", "add", "origin", &repo.url()]);
    let error = open(repo.path()).default_branch().unwrap_err();
    assert!(error.message.contains("git fetch origin +main:refs/remotes/origin/main"), "{error}");
    repo.git(&["fetch", "--quiet", "origin", "+main:refs/remotes/origin/main"]);
    assert_eq!(open(repo.path()).default_branch().unwrap(), "origin/main");
}

#[test]
fn a_partial_clone_says_how_to_get_the_rest() {
    let repo = history();
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    let clone = repo.scratch().join("partial");
    let to = clone.to_str().unwrap();
    repo.git(&["clone", "--quiet", "--no-checkout", "--filter=blob:none", &repo.url(), to]);
    let local = open(&clone);
    let entries = local.list_tree(&local.resolve("HEAD").unwrap()).unwrap();
    let error = local.read_blob(entries[0].oid, 1 << 20).unwrap_err();
    assert!(error.message.contains("--filter"), "{error}");
}

/// What `git check-ignore` says of a path: nothing of what is tracked.
fn is_ignored_by_git(repo: &GitRepo, path: &str) -> bool {
    std::process::Command::new("git")
        .args(["-c", "core.excludesFile=", "check-ignore", "--quiet", path])
        .current_dir(repo.path())
        .status()
        .unwrap()
        .success()
}

#[test]
fn what_git_ignores_is_told_as_git_tells_it() {
    let repo = GitRepo::init();
    repo.write(".gitignore", "*.swp\n/build/\n!keep.swp\n").write("a/.gitignore", "local\n!b.swp\n");
    repo.write("kept/tracked.swp", "x").write("build/tracked", "x");
    repo.git(&["add", "--force", "kept/tracked.swp", "build/tracked"]);
    repo.commit("one");
    std::fs::write(repo.path().join(".git/info/exclude"), "private\n").unwrap();
    for file in
        ["x.swp", "keep.swp", "build/new", "a/local/deep", "a/b.swp", "a/c.swp", "private", "kept/new", "z/build/x"]
    {
        repo.write(file, "x");
    }
    let local = open(repo.path());
    let mut ignored = local.ignored().unwrap().unwrap();
    for (path, is_directory) in [
        ("a", true),
        ("a/.gitignore", false),
        ("a/b.swp", false),
        ("a/c.swp", false),
        ("a/local", true),
        ("a/local/deep", false),
        ("build", true),
        ("build/new", false),
        ("build/tracked", false),
        ("keep.swp", false),
        ("kept", true),
        ("kept/new", false),
        ("kept/tracked.swp", false),
        ("private", false),
        ("x.swp", false),
        ("z", true),
        ("z/build", true),
        ("z/build/x", false),
    ] {
        // Git ignores a directory with tracked files, but not those files.
        let expected = path != "build" && is_ignored_by_git(&repo, path);
        assert_eq!(ignored.is_ignored(path, is_directory).unwrap(), expected, "{path}");
    }
    assert!(open(repo.bare_clone().path()).ignored().unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_listed_and_read_as_git_does(
        files in prop::collection::btree_map("[a-c]{1,2}(/[a-c.é]{1,2}x){0,3}", prop::collection::vec(any::<u8>(), 0..60), 1..12),
        packed in any::<bool>(),
    ) {
        let repo = GitRepo::init();
        for (path, content) in &files {
            let file = repo.path().join(path);
            // A name may be a directory already, or lie below a file.
            if std::fs::create_dir_all(file.parent().unwrap()).is_ok() {
                let _ = std::fs::write(&file, content);
            }
        }
        repo.commit("one");
        if packed {
            repo.git(&["gc", "--quiet"]);
        }
        let local = open(repo.path());
        prop_assert_eq!(listed(&local, "HEAD"), listed_by_git(&repo, "HEAD"));
        for entry in local.list_tree(&local.resolve("HEAD").unwrap()).unwrap() {
            let there = std::fs::read(repo.path().join(&entry.path)).unwrap();
            prop_assert_eq!(local.read_blob(entry.oid, 1 << 20).unwrap(), there);
        }
    }

    #[test]
    fn no_text_makes_resolving_panic(text in "\\PC{0,30}") {
        let repo = GitRepo::init();
        repo.commit("one");
        let _ = open(repo.path()).resolve(&text);
    }
}
