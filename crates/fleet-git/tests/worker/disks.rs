//! Damaged mirrors and bad disks: healthy within two polls, with the right commit and the right contents.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fleet_git::{GitErrorKind, Known, Limits, ObjectId, Remote, WorkerCommand, WorkerPool};
use fleet_model::CommitId;
use fleet_test::git_server::GitServer;
use fleet_test::{GitRepo, wait_for};

use crate::front::{Front, Spoil, Stage};
use crate::support::{Place, WORKER, cat_file, id, local, packs, pool, pool_with_pid_file};

fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = u32::try_from(seed).unwrap();
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A history with deltas, directories and files that do not compress.
fn repo_with_history() -> GitRepo {
    let repo = GitRepo::init();
    for number in 0..20 {
        repo.write(&format!("d/{number}"), format!("{number}: {}\n", "x".repeat(200 + number)));
        repo.write("changing", format!("{}{number}\n", "the same line again\n".repeat(60)));
        repo.write(&format!("noise/{}", number % 4), noise(number, 3_000)).commit("more");
    }
    repo
}

/// What a poll does when the host says `head`: fetch, list, read everything.
async fn poll(
    pool: &WorkerPool,
    mirror: &Path,
    remote: &Remote,
    repo: &GitRepo,
    head: &CommitId,
) -> Result<(), String> {
    let told = |error: fleet_git::GitError| format!("{:?}: {error}", error.kind);
    let outcome = pool.fetch_seen(mirror, remote, "main", Some(head), Some(head)).await.map_err(told)?;
    assert_eq!((&outcome.commit, outcome.forced), (head, false));
    let entries = pool.list_tree(mirror, head, "").await.map_err(told)?;
    let listed: Vec<String> = entries.iter().map(|entry| entry.path.clone()).collect();
    let oids: Vec<ObjectId> = entries.iter().map(|entry| entry.oid).collect();
    let blobs = pool.read_blobs(mirror, &oids, 1 << 22, 1 << 26).await.map_err(told)?;
    let mut theirs: Vec<String> =
        repo.git(&["ls-tree", "-r", "--name-only", "HEAD"]).lines().map(ToOwned::to_owned).collect();
    theirs.sort();
    assert_eq!(listed, theirs);
    for (oid, blob) in oids.iter().zip(blobs) {
        assert_eq!(blob[..], cat_file(repo, *oid)[..], "wrong contents were handed out for {oid}");
    }
    Ok(())
}

async fn heals(what: &str, pool: &WorkerPool, mirror: &Path, remote: &Remote, repo: &GitRepo) {
    let head = id(&repo.head());
    let mut said = Vec::new();
    for _poll in 0..2 {
        match poll(pool, mirror, remote, repo, &head).await {
            Ok(()) => return,
            Err(error) => said.push(error),
        }
    }
    // The first poll may find the damage and the second may begin to mend it; what counts is that it is mended then.
    let last = poll(pool, mirror, remote, repo, &head).await;
    assert!(last.is_ok() && said.len() <= 2, "{what}: {said:?}, {last:?}");
}

fn index(mirror: &Path) -> PathBuf {
    packs(mirror)[0].with_extension("idx")
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn own_reference(mirror: &Path) -> PathBuf {
    fs::read_dir(mirror.join("refs/shorebase")).unwrap().next().unwrap().unwrap().path()
}

type Damage = (&'static str, Box<dyn Fn(&Path)>);

fn damages() -> Vec<Damage> {
    let mut damages: Vec<Damage> = vec![
        (
            "stale locks",
            Box::new(|mirror| {
                fs::create_dir_all(mirror.join("refs/heads/a/b")).unwrap();
                for lock in ["shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock", "refs/heads/a/b/c.lock"] {
                    fs::write(mirror.join(lock), "left behind").unwrap();
                }
                fs::write(own_reference(mirror).with_extension("lock"), "").unwrap();
            }),
        ),
        (
            "orphan temporary packs",
            Box::new(|mirror| {
                for name in [".tmpAbCd", "tmp_pack_1", "tmp_idx_1", "pack-00.keep"] {
                    fs::write(mirror.join("objects/pack").join(name), "PACK").unwrap();
                }
            }),
        ),
        ("truncated pack", Box::new(|mirror| edit(&packs(mirror)[0], |bytes| bytes.truncate(bytes.len() / 2)))),
        ("empty pack", Box::new(|mirror| edit(&packs(mirror)[0], Vec::clear))),
        ("missing pack", Box::new(|mirror| fs::remove_file(&packs(mirror)[0]).unwrap())),
        ("missing index", Box::new(|mirror| fs::remove_file(index(mirror)).unwrap())),
        ("truncated index", Box::new(|mirror| edit(&index(mirror), |bytes| bytes.truncate(bytes.len() - 30)))),
        ("missing objects", Box::new(|mirror| fs::remove_dir_all(mirror.join("objects")).unwrap())),
        ("empty HEAD", Box::new(|mirror| fs::write(mirror.join("HEAD"), "").unwrap())),
        ("garbage in HEAD", Box::new(|mirror| fs::write(mirror.join("HEAD"), [0xff, 0, 7]).unwrap())),
        ("garbage in a reference", Box::new(|mirror| fs::write(own_reference(mirror), "not an id\n").unwrap())),
        ("an empty reference", Box::new(|mirror| fs::write(own_reference(mirror), "").unwrap())),
        (
            "a reference to nothing",
            Box::new(|mirror| fs::write(own_reference(mirror), format!("{}\n", "5".repeat(40))).unwrap()),
        ),
        ("garbage in packed-refs", Box::new(|mirror| fs::write(mirror.join("packed-refs"), [0xff; 99]).unwrap())),
        ("garbage in the configuration", Box::new(|mirror| fs::write(mirror.join("config"), "[core\n=").unwrap())),
        (
            "alternates that lead nowhere",
            Box::new(|mirror| {
                fs::create_dir_all(mirror.join("objects/info")).unwrap();
                fs::write(mirror.join("objects/info/alternates"), "/nonexistent/objects\n").unwrap();
            }),
        ),
        (
            "a file in its place",
            Box::new(|mirror| {
                fs::remove_dir_all(mirror).unwrap();
                fs::write(mirror, "x").unwrap();
            }),
        ),
    ];
    for part in [2_usize, 10, 25, 40, 60, 75, 90, 98] {
        damages.push((
            "a flipped bit in the pack",
            Box::new(move |mirror| {
                edit(&packs(mirror)[0], |bytes| {
                    let at = bytes.len() * part / 100;
                    bytes[at] ^= 4;
                });
            }),
        ));
        damages.push((
            "a flipped bit in the index",
            Box::new(move |mirror| {
                edit(&index(mirror), |bytes| {
                    let at = bytes.len() * part / 100;
                    bytes[at] ^= 4;
                });
            }),
        ));
    }
    damages
}

#[tokio::test]
async fn whatever_is_damaged_is_mended_within_two_polls_and_nothing_wrong_is_handed_out() {
    let repo = repo_with_history();
    let (pool, remote) = (pool(), local(&repo));
    for (what, damage) in damages() {
        let place = Place::new();
        let mirror = place.mirror();
        pool.fetch(&mirror, &remote, "main", None).await.unwrap();
        damage(&mirror);
        heals(what, &pool, &mirror, &remote, &repo).await;
        let left: Vec<_> = fs::read_dir(place.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{what}: {left:?}");
    }
}

#[tokio::test]
async fn a_pack_truncated_under_a_reader_kills_that_worker_only() {
    let repo = GitRepo::init();
    for number in 0..40 {
        repo.write(&format!("noise/{number}"), noise(number, 50_000));
    }
    let head = id(&repo.commit("large"));
    let (place, remote) = (Place::new(), local(&repo));
    let (mirror, pid_file) = (place.mirror(), place.directory().join("pid"));
    let mut killed = false;
    for _attempt in 0..10 {
        let pool = pool_with_pid_file(&pid_file);
        pool.fetch(&mirror, &remote, "main", None).await.unwrap();
        let oids: Vec<ObjectId> = pool.list_tree(&mirror, &head, "").await.unwrap().iter().map(|e| e.oid).collect();
        // Again and again, so that it is still reading when its pack goes.
        let oids = oids.repeat(100);
        let pid: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        let pack = packs(&mirror)[0].clone();
        let (read, maps, truncated) = (pool.clone(), format!("/proc/{pid}/maps"), pack.clone());
        // On another thread, since the worker is quick.
        let cut = std::thread::spawn(move || {
            let started = std::time::Instant::now();
            while started.elapsed() < Duration::from_secs(5) {
                if fs::read_to_string(&maps).unwrap_or_default().contains(".pack") {
                    fs::set_permissions(&truncated, fs::Permissions::from_mode(0o644)).unwrap();
                    fs::File::options().write(true).open(&truncated).unwrap().set_len(20).unwrap();
                    return;
                }
            }
        });
        let result = read.read_blobs(&mirror, &oids, 1 << 20, 1 << 30).await;
        cut.join().unwrap();
        if let Err(error) = &result
            && error.kind == GitErrorKind::WorkerDied
        {
            assert!(error.message.contains("signal: 7") || error.message.contains("SIGBUS"), "{error}");
            killed = true;
        }
        assert_eq!(pool.observe(&remote, "main").await.unwrap(), head, "the pool goes on");
        fs::remove_file(&pid_file).unwrap();
        heals("truncated under a reader", &pool, &mirror, &remote, &repo).await;
        if killed {
            break;
        }
    }
    assert!(killed, "the worker was quicker ten times");
}

/// A small disk of its own, where that may be made.
struct Disk {
    at: tempfile::TempDir,
}

impl Disk {
    fn new(size: &str) -> Result<Self, String> {
        let at = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { at }),
            other => Err(format!("a disk of its own needs the right to mount a tmpfs: {other:?}")),
        }
    }

    fn remount(&self, how: &str) {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.at.path()).status().unwrap();
        assert!(status.success(), "remount {how}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a worker that is being killed may still have something open.
        Command::new("umount").arg("--lazy").arg(self.at.path()).status().ok();
    }
}

fn temporary_files(mirror: &Path) -> Vec<String> {
    let names =
        fs::read_dir(mirror.join("objects/pack")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("pack-")).collect()
}

#[tokio::test]
async fn a_full_disk_is_named_leaves_nothing_behind_and_is_forgotten_when_there_is_room() {
    let disk = match Disk::new("4m") {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let repo = repo_with_history();
    let (pool, remote) = (pool(), local(&repo));
    let mirror = disk.at.path().join("mirror.git");
    let first = id(&repo.head());
    let filler = disk.at.path().join("filler");
    let fill = |bytes: usize| {
        // The last write may end early: the disk is full then, as it shall be.
        fs::write(&filler, vec![1; bytes]).ok();
    };
    fill(8 << 20);
    let error = pool.fetch(&mirror, &remote, "main", None).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::DiskFull, "{error}");
    assert!(!mirror.exists());
    fs::remove_file(&filler).unwrap();
    assert_eq!(pool.fetch(&mirror, &remote, "main", None).await.unwrap().commit, first);

    // Room for the beginning of the next pack only.
    let large = id(&repo.write("large", noise(3, 1_500_000)).commit("large"));
    fill(3 << 20);
    for _poll in 0..3 {
        let error = pool.fetch_seen(&mirror, &remote, "main", Some(&first), Some(&large)).await.unwrap_err();
        assert_eq!(error.kind, GitErrorKind::DiskFull, "{error}");
        assert!(error.message.contains("free space"), "{error}");
        assert_eq!(temporary_files(&mirror), Vec::<String>::new());
        assert_eq!(pool.list_tree(&mirror, &first, "d").await.unwrap().len(), 20, "what was there is still readable");
    }
    fs::remove_file(&filler).unwrap();
    heals("there is room again", &pool, &mirror, &remote, &repo).await;
}

#[tokio::test]
async fn a_read_only_disk_is_an_error_and_its_end_is_noticed() {
    let disk = match Disk::new("8m") {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let repo = repo_with_history();
    let (pool, remote) = (pool(), local(&repo));
    let mirror = disk.at.path().join("mirror.git");
    let first = pool.fetch(&mirror, &remote, "main", None).await.unwrap().commit;
    let second = id(&repo.write("d/1", "new").commit("two"));
    disk.remount("ro");
    let error = pool.fetch_seen(&mirror, &remote, "main", Some(&first), Some(&second)).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::Other, "{error}");
    assert!(error.message.to_lowercase().contains("read-only"), "{error}");
    assert_eq!(pool.list_tree(&mirror, &first, "d").await.unwrap().len(), 20);
    disk.remount("rw");
    heals("written to again", &pool, &mirror, &remote, &repo).await;
}

#[tokio::test]
async fn readers_and_fetches_at_the_same_time_do_not_harm_each_other() {
    let repo = GitRepo::init();
    let first = id(&repo.write("a", "1").commit("one"));
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    let done = std::cell::Cell::new(false);
    let reading = async {
        let mut reads = 0;
        while !done.get() {
            assert_eq!(pool.list_tree(&mirror, &first, "").await.unwrap().len(), 1);
            reads += 1;
        }
        reads
    };
    let fetching = async {
        let mut rebuilt = 0;
        for number in 0..45 {
            let commit = id(&repo.write("a", format!("{number}")).commit("more"));
            let outcome = pool.fetch(&mirror, &remote, "main", Some(&first)).await.unwrap();
            assert_eq!((outcome.commit, outcome.forced), (commit, false));
            rebuilt += usize::from(outcome.rebuilt.is_some());
        }
        done.set(true);
        rebuilt
    };
    let (reads, rebuilt) = tokio::join!(reading, fetching);
    assert!(reads > 0 && rebuilt == 2, "{reads} reads, {rebuilt} times put together");
}

#[tokio::test]
async fn packs_are_put_together_without_the_host_and_keep_what_it_lost() {
    let repo = GitRepo::init();
    let base = repo.write("a", "1").commit("one");
    let lost = id(&repo.write("a", "2").commit("two"));
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    repo.force(&base);
    let mut last = id(&base);
    let mut rebuilt = false;
    for number in 0..30 {
        last = id(&repo.write("b", format!("{number}")).commit("after the rewrite"));
        let outcome = pool.fetch(&mirror, &remote, "main", Some(&lost)).await.unwrap();
        assert!(outcome.forced);
        rebuilt |= outcome.rebuilt.is_some_and(|why| why.contains("packs"));
    }
    assert!(rebuilt && packs(&mirror).len() <= 21);
    let named = pool.lost_commits(&mirror, &lost, &last, 10).await.unwrap();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(pool.list_tree(&mirror, &lost, "").await.unwrap().len(), 1);
    // Thrown away altogether, the host is asked for what its branches do not hold any more.
    fs::remove_dir_all(&mirror).unwrap();
    assert!(pool.fetch(&mirror, &remote, "main", Some(&lost)).await.unwrap().forced);
    assert_eq!(pool.lost_commits(&mirror, &lost, &last, 10).await.unwrap(), named);
    wait_for("nothing left beside the mirror", Duration::from_secs(60), || async {
        (fs::read_dir(place.directory()).unwrap().count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mirror_that_is_built_anew_has_what_each_of_those_who_share_it_is_at() {
    let repo = GitRepo::init();
    let base = repo.write("a", "1").commit("one");
    let mine = id(&repo.write("a", "2").commit("two"));
    repo.force(&base);
    let theirs = id(&repo.write("a", "3").commit("three"));
    repo.force(&base);
    let last = id(&repo.write("b", "1").commit("after two rewrites"));
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    let others = [id(&base), theirs.clone(), id(&"1".repeat(40))];
    let known = Known { base: Some(&mine), others: &others, seen: None };
    let outcome = pool.fetch_known(&mirror, &remote, "main", known).await.unwrap();
    assert!(outcome.forced && outcome.commit == last);
    for kept in [&mine, &theirs] {
        assert_eq!(pool.lost_commits(&mirror, kept, &last, 10).await.unwrap().len(), 1);
        assert_eq!(pool.list_tree(&mirror, kept, "").await.unwrap().len(), 1);
    }
    // A fetch that finds a rewritten history keeps what others are at, too, also when packs are put together.
    let mut named = 0;
    for number in 0..30 {
        repo.force(&base);
        repo.write("c", format!("{number}")).commit("rewritten");
        let known = Known { base: Some(&mine), others: std::slice::from_ref(&last), seen: None };
        let outcome = pool.fetch_known(&mirror, &remote, "main", known).await.unwrap();
        named += pool.lost_commits(&mirror, &last, &outcome.commit, 10).await.unwrap().len();
    }
    assert!(named == 30 && packs(&mirror).len() <= 21, "{named}");
}

/// Workers on a machine without the git program.
fn pool_without_git() -> WorkerPool {
    let mut command = WorkerCommand::new(WORKER, Vec::<OsString>::new());
    command.env.push(("PATH".into(), "/nonexistent".into()));
    WorkerPool::new(command, Limits::default())
}

#[tokio::test]
async fn without_the_git_program_packs_are_put_together_from_the_host_and_keep_what_it_lost() {
    let repo = GitRepo::init();
    let base = repo.write("a", "1").commit("one");
    let lost = id(&repo.write("a", "2").write("d/e", "3").commit("two"));
    let bare = repo.bare_clone();
    let server = GitServer::start(bare.scratch(), None).unwrap();
    let front = Front::start(server.http_port());
    let remote = Remote::anonymous(front.url("bare.git"));
    let (pool, place) = (pool_without_git(), Place::new());
    let mirror = place.mirror();
    let error = pool.observe(&local(&repo), "main").await.unwrap_err();
    assert!(error.message.contains("install Git"), "{error}");
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    repo.force(&base);
    repo.push(&bare, "main", true);
    let mut last = id(&base);
    for number in 0..20 {
        last = id(&repo.write("b", format!("{number}")).commit("after the rewrite"));
        repo.push(&bare, "main", false);
        let outcome = pool.fetch(&mirror, &remote, "main", Some(&lost)).await.unwrap();
        assert_eq!((outcome.forced, outcome.rebuilt, outcome.not_repacked), (true, None, None));
    }
    assert_eq!(packs(&mirror).len(), 21);
    // While the host fails the mirror stays, that is told once, and a fetch works.
    front.set(Stage::Pack, Spoil::Status(503));
    let fetch = || pool.fetch_seen(&mirror, &remote, "main", Some(&lost), Some(&last));
    let outcome = fetch().await.unwrap();
    let why = outcome.not_repacked.unwrap();
    assert!(outcome.rebuilt.is_none() && why.contains("install Git") && why.contains("503"), "{why}");
    front.set(Stage::Pack, Spoil::Nothing);
    assert_eq!(fetch().await.unwrap().not_repacked, None, "it is left alone for a while");
    let mark = fs::File::options().write(true).open(mirror.join("shorebase-repacking")).unwrap();
    mark.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let outcome = fetch().await.unwrap();
    assert!(outcome.rebuilt.is_some_and(|why| why.contains("packs")) && outcome.not_repacked.is_none());
    assert_eq!(packs(&mirror).len(), 1);
    let named = pool.lost_commits(&mirror, &lost, &last, 10).await.unwrap();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(pool.list_tree(&mirror, &lost, "").await.unwrap().len(), 2);
    assert!(!mirror.join("shorebase-repacking").exists());
}
