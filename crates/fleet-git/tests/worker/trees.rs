//! Files, differences and contents, compared with what the git program says.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use fleet_git::{ChangeKind, EntryMode, GitErrorKind};
use fleet_test::GitRepo;

use crate::support::{Place, cat_file, id, local, pool};

#[tokio::test]
async fn all_kinds_of_entries_are_listed_as_git_lists_them() {
    let repo = GitRepo::init();
    repo.write("fleets/a.yaml", "a\n")
        .write("fleets/deep/er/b.yaml", "b\n")
        .write("fleets-2/c", "c")
        .write("run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(repo.path().join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("a.yaml", repo.path().join("fleets/link")).unwrap();
    repo.git(&["add", "--all"]);
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},fleets/module", "1".repeat(40))]);
    repo.git(&["commit", "--quiet", "-m", "one"]);
    let commit = id(&repo.head());
    let (pool, place) = (pool(), Place::new());
    pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap();

    for path in ["", "fleets", "/fleets/deep/", "fleets/a.yaml", "fleets/link"] {
        let listed = pool.list_tree(&place.mirror(), &commit, path).await.unwrap();
        let ours: Vec<String> = listed.iter().map(|e| format!("{} {}\t{}", mode(e.mode), e.oid, e.path)).collect();
        let plain = path.trim_matches('/');
        let plain = if plain.is_empty() { "." } else { plain };
        let theirs = repo.git(&["ls-tree", "-r", "HEAD", "--", plain]);
        let mut theirs: Vec<String> =
            theirs.lines().map(|line| line.replace(" blob ", " ").replace(" commit ", " ")).collect();
        theirs.sort_by(|a, b| a.split('\t').next_back().cmp(&b.split('\t').next_back()));
        assert_eq!(ours, theirs, "{path:?}");
    }
    for missing in ["nothing", "fleets/a.yaml/x", "fleets/dee", "..", "fleets/module/x"] {
        let error = pool.list_tree(&place.mirror(), &commit, missing).await.unwrap_err();
        assert_eq!(error.kind, GitErrorKind::PathMissing, "{missing:?}: {error}");
    }
    let unknown = id(&"2".repeat(40));
    let error = pool.list_tree(&place.mirror(), &unknown, "").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::RefMissing, "{error}");
}

fn mode(mode: EntryMode) -> &'static str {
    match mode {
        EntryMode::File => "100644",
        EntryMode::Executable => "100755",
        EntryMode::Symlink => "120000",
        EntryMode::Submodule => "160000",
    }
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_an_error_only_below_the_wanted_path() {
    let repo = GitRepo::init();
    repo.write("good/a", "1");
    std::fs::create_dir(repo.path().join("bad")).unwrap();
    std::fs::write(repo.path().join("bad").join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    let commit = id(&repo.commit("one"));
    let (pool, place) = (pool(), Place::new());
    pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap();
    assert_eq!(pool.list_tree(&place.mirror(), &commit, "good").await.unwrap().len(), 1);
    let error = pool.list_tree(&place.mirror(), &commit, "").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::NotUtf8Path, "{error}");
    assert!(error.message.contains("bad"), "{error}");
    let listed = pool.list_places(&place.mirror(), &commit, &["good".to_owned(), "lacking".to_owned()]).await.unwrap();
    assert_eq!(listed.len(), 1);
    let error = pool.list_places(&place.mirror(), &commit, &["bad".to_owned()]).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::NotUtf8Path, "{error}");
}

#[tokio::test]
async fn several_places_give_what_each_gives_and_nothing_twice() {
    let repo = GitRepo::init();
    repo.write("a/x", "1").write("a/deep/y", "2").write("ab/z", "3").write("b/old", "4").write("c", "5");
    let one = id(&repo.commit("one"));
    std::fs::remove_dir_all(repo.path().join("b")).unwrap();
    repo.write("a/x", "6").write("d/new", "7").write("ab/z", "8").write("a/deep/more", "9");
    let two = id(&repo.commit("two"));
    let (pool, place) = (pool(), Place::new());
    pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap();
    let places = |places: &[&str]| places.iter().map(|&place| place.to_owned()).collect::<Vec<String>>();
    for (wanted, expected) in [
        (&["a", "c"][..], &["a/deep/y", "a/x", "c"][..]),
        (&["a/deep", "/a/", "a", "a/x"], &["a/deep/y", "a/x"]),
        (&["", "b"], &["a/deep/y", "a/x", "ab/z", "b/old", "c"]),
        (&["b/old/x", "..", "no", "c/x"], &[]),
        (&[], &[]),
    ] {
        let listed = pool.list_places(&place.mirror(), &one, &places(wanted)).await.unwrap();
        let paths: Vec<&str> = listed.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, expected, "{wanted:?}");
        // The difference leads from one list to the other.
        let mut now: BTreeMap<String, _> =
            listed.into_iter().map(|entry| (entry.path, (entry.mode, entry.oid))).collect();
        for change in pool.diff_places(&place.mirror(), &one, &two, &places(wanted)).await.unwrap() {
            match change.kind {
                ChangeKind::Added { mode, oid } | ChangeKind::Modified { mode, oid } => {
                    now.insert(change.path, (mode, oid));
                }
                ChangeKind::Deleted => assert!(now.remove(&change.path).is_some(), "{}", change.path),
            }
        }
        let then = pool.list_places(&place.mirror(), &two, &places(wanted)).await.unwrap();
        assert_eq!(now, then.into_iter().map(|entry| (entry.path, (entry.mode, entry.oid))).collect());
    }
}

#[tokio::test]
async fn differences_equal_those_of_git_diff_tree() {
    let repo = GitRepo::init();
    repo.write("f/keep", "k")
        .write("f/change", "1")
        .write("f/gone", "g")
        .write("f/becomes-dir", "file")
        .write("f/mode", "m");
    repo.write("f/was-dir/x", "x").write("f/was-dir/y", "y").write("other/z", "z").write("f/link", "target");
    let one = repo.commit("one");
    repo.write("f/change", "2").remove("f/gone").remove("f/becomes-dir").write("f/becomes-dir/inner", "i");
    repo.remove("f/was-dir").write("f/was-dir", "now a file").write("other/z", "zz").write("f/new/deep", "n");
    repo.remove("f/link");
    std::os::unix::fs::symlink("keep", repo.path().join("f/link")).unwrap();
    std::fs::set_permissions(repo.path().join("f/mode"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let two = repo.commit("two");
    let three = repo.remove("f").commit("three");
    let (pool, place) = (pool(), Place::new());
    pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap();

    for (from, to, path) in [
        (&one, &two, ""),
        (&one, &two, "f"),
        (&two, &one, "f"),
        (&one, &one, ""),
        (&two, &three, ""),
        (&three, &one, "f"),
        (&one, &two, "f/change"),
    ] {
        let ours = pool.diff(&place.mirror(), &id(from), &id(to), path).await.unwrap();
        let ours: Vec<String> = ours
            .iter()
            .map(|change| match change.kind {
                ChangeKind::Added { mode: m, oid } => format!("{} {oid} A {}", mode(m), change.path),
                ChangeKind::Modified { mode: m, oid } => format!("{} {oid} M {}", mode(m), change.path),
                ChangeKind::Deleted => format!("D {}", change.path),
            })
            .collect();
        let theirs =
            repo.git(&["diff-tree", "-r", "--no-renames", from, to, "--", if path.is_empty() { "." } else { path }]);
        let mut theirs: Vec<(String, String)> = theirs.lines().map(in_our_words).collect();
        theirs.sort();
        let theirs: Vec<String> = theirs.into_iter().map(|(_, line)| line).collect();
        assert_eq!(ours, theirs, "{from} {to} {path:?}");
    }
    let error = pool.diff(&place.mirror(), &id(&two), &id(&three), "f").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::PathMissing, "a missing path is never a deletion: {error}");
}

/// `:100644 100644 <old> <new> M<TAB>path` as (path, the form above). A change of type counts as modified.
fn in_our_words(line: &str) -> (String, String) {
    let (facts, path) = line.split_once('\t').unwrap();
    let facts: Vec<&str> = facts.split(' ').collect();
    let text = match facts[4] {
        "D" => format!("D {path}"),
        "A" => format!("{} {} A {path}", facts[1], facts[3]),
        _ => format!("{} {} M {path}", facts[1], facts[3]),
    };
    (path.to_owned(), text)
}

#[tokio::test]
async fn blobs_are_byte_equal_and_in_the_order_asked_for() {
    let repo = GitRepo::init();
    let noise: Vec<u8> = (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    repo.write("empty", "").write("binary", &noise).write("crlf", "a\r\nb\r\n");
    for number in 0..40 {
        repo.write(&format!("similar/{number}"), format!("{}{number}\n", "the same line again\n".repeat(50)));
    }
    let commit = id(&repo.commit("one"));
    let (pool, place) = (pool(), Place::new());
    pool.fetch(&place.mirror(), &local(&repo), "main", None).await.unwrap();
    let mut oids: Vec<_> = pool.list_tree(&place.mirror(), &commit, "").await.unwrap().iter().map(|e| e.oid).collect();
    oids.reverse();
    oids.push(oids[0]);
    let blobs = pool.read_blobs(&place.mirror(), &oids, 1 << 20, 1 << 22).await.unwrap();
    assert_eq!(blobs.len(), oids.len());
    for (oid, blob) in oids.iter().zip(&blobs) {
        assert_eq!(blob[..], cat_file(&repo, *oid)[..], "{oid}");
    }
    assert!(pool.read_blobs(&place.mirror(), &[], 1, 1).await.unwrap().is_empty());

    let big = pool.list_tree(&place.mirror(), &commit, "binary").await.unwrap()[0].oid;
    let error = pool.read_blobs(&place.mirror(), &oids, 299_999, 1 << 22).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::TooLarge);
    assert!(error.message.contains(&big.to_string()) && error.message.contains("300000"), "{error}");
    let error = pool.read_blobs(&place.mirror(), &oids, 1 << 20, 100_000).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::TooLarge, "{error}");
    let absent = "3".repeat(40).parse().unwrap();
    let error = pool.read_blobs(&place.mirror(), &[absent], 10, 10).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::Corrupt, "{error}");
}
