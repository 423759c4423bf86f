//! What a killed worker or a bad disk leaves behind does not outlive the next fetch.

use std::fs;

use fleet_git::GitErrorKind;
use fleet_test::GitRepo;

use crate::support::{Place, id, local, packs, pool};

fn repo_with_history() -> GitRepo {
    let repo = GitRepo::init();
    for number in 0..30 {
        repo.write(&format!("d/{number}"), format!("{number}: {}\n", "x".repeat(200 + number))).commit("more");
    }
    repo
}

#[tokio::test]
async fn stale_locks_and_temporary_packs_are_removed() {
    let repo = repo_with_history();
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    let own_refs = mirror.join("refs/shorebase");
    let own_ref = fs::read_dir(&own_refs).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let left = [
        own_refs.join(format!("{own_ref}.lock")),
        mirror.join("HEAD.lock"),
        mirror.join("packed-refs.lock"),
        mirror.join("objects/pack/.tmpAbCdEf"),
        mirror.join("objects/pack/tmp_pack_xyz"),
        mirror.join("objects/pack/pack-0000.keep"),
        place.directory().join(".mirror.git.new-dead/objects"),
    ];
    fs::create_dir_all(left[6].parent().unwrap()).unwrap();
    for file in &left {
        fs::write(file, "left behind").unwrap();
    }
    let second = repo.write("d/1", "new").commit("two");
    let outcome = pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    assert_eq!((outcome.commit, outcome.rebuilt), (id(&second), None));
    for file in &left {
        assert!(!file.exists(), "{} is still there", file.display());
    }
}

#[tokio::test]
async fn a_truncated_pack_is_noticed_and_the_mirror_built_anew() {
    let repo = repo_with_history();
    let head = id(&repo.head());
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    let pack = packs(&mirror).remove(0);
    set_writable(&pack);
    let length = fs::metadata(&pack).unwrap().len();
    fs::File::options().write(true).open(&pack).unwrap().set_len(length / 2).unwrap();
    let error = pool.list_tree(&mirror, &head, "d").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::Corrupt, "{error}");
    let outcome = pool.fetch(&mirror, &remote, "main", Some(&head)).await.unwrap();
    assert_eq!((&outcome.commit, outcome.forced), (&head, false));
    assert!(outcome.rebuilt.is_some_and(|why| why.contains("damaged")));
    assert_eq!(pool.list_tree(&mirror, &head, "d").await.unwrap().len(), 30);
    assert!(pool.fetch(&mirror, &remote, "main", None).await.unwrap().rebuilt.is_none());
}

#[tokio::test]
async fn a_flipped_byte_and_a_missing_pack_heal_within_two_polls() {
    let repo = repo_with_history();
    let head = id(&repo.head());
    for damage in ["flip", "remove the pack", "remove pack and index", "empty HEAD"] {
        let (pool, place, remote) = (pool(), Place::new(), local(&repo));
        let mirror = place.mirror();
        pool.fetch(&mirror, &remote, "main", None).await.unwrap();
        let pack = packs(&mirror).remove(0);
        set_writable(&pack);
        match damage {
            "flip" => {
                let mut bytes = fs::read(&pack).unwrap();
                let end = bytes.len() - 20;
                for byte in &mut bytes[12..end] {
                    *byte ^= 0x5a;
                }
                fs::write(&pack, bytes).unwrap();
            }
            "remove the pack" => fs::remove_file(&pack).unwrap(),
            "remove pack and index" => {
                fs::remove_file(&pack).unwrap();
                fs::remove_file(pack.with_extension("idx")).unwrap();
            }
            _ => fs::write(mirror.join("HEAD"), "").unwrap(),
        }
        let mut healthy = false;
        for _poll in 0..2 {
            let _ = pool.fetch(&mirror, &remote, "main", Some(&head)).await;
            healthy = pool.list_tree(&mirror, &head, "d").await.is_ok_and(|entries| entries.len() == 30);
            if healthy {
                break;
            }
        }
        assert!(healthy, "{damage}");
    }
}

#[tokio::test]
async fn a_mirror_with_many_packs_is_built_anew() {
    let repo = GitRepo::init();
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    let mut rebuilt = 0;
    for number in 0..24 {
        let commit = repo.write("f", format!("{number}")).commit("more");
        let outcome = pool.fetch(&mirror, &remote, "main", None).await.unwrap();
        assert_eq!(outcome.commit, id(&commit));
        rebuilt += u32::from(outcome.rebuilt.is_some());
    }
    assert_eq!(rebuilt, 1);
    assert!(packs(&mirror).len() <= 21);
}

#[tokio::test]
async fn two_fetches_into_one_mirror_take_turns() {
    let repo = repo_with_history();
    let head = id(&repo.head());
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    let (one, two) =
        tokio::join!(pool.fetch(&mirror, &remote, "main", None), pool.fetch(&mirror, &remote, "HEAD", None));
    assert_eq!((one.unwrap().commit, two.unwrap().commit), (head.clone(), head));
}

fn set_writable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}
