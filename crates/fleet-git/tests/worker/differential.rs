//! Generated repositories, read by the worker and by the git program: both say the same.
//!
//! `SHOREBASE_DIFFERENTIAL_CASES` sets how many repositories are made; 4 by default, which takes some seconds.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use fleet_git::{ChangeKind, EntryMode, ObjectId};
use fleet_test::GitRepo;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Place, id, local, pool};

/// One file's fate in a commit.
#[derive(Debug, Clone)]
enum Edit {
    Write { path: usize, content: usize, executable: bool },
    Link { path: usize, target: usize },
    Module { path: usize, commit: u8 },
    Remove { path: usize },
    Rename { from: usize, to: usize },
}

/// One commit: on top of which earlier ones, and with which changes.
#[derive(Debug, Clone)]
struct Step {
    parents: Vec<usize>,
    edits: Vec<Edit>,
}

/// Names that are legal and that somebody will have got wrong somewhere. Some are a file where another is a directory.
const PATHS: [&str; 24] = [
    "a",
    "a.b",
    "a-b",
    "a/b",
    "a/b/c",
    "a0",
    "dir/file",
    "dir.file",
    "dir-file",
    "with space/and more",
    " leading",
    "trailing ",
    "tab\there",
    "new\nline",
    "quote\"s'",
    "back\\slash",
    "*",
    "-dash",
    ":(top)magic",
    "ünï/cödé.yaml",
    "e\u{301}/decomposed",
    "日本/語",
    "deep/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/leaf",
    "#hash;semi$dollar`tick",
];

fn contents(number: usize) -> Vec<u8> {
    match number % 6 {
        0 => Vec::new(),
        1 => b"plain\n".to_vec(),
        2 => b"crlf\r\nno end".to_vec(),
        3 => vec![0, 255, 10, 0],
        4 => format!("line {number}\n").repeat(400).into_bytes(),
        _ => format!("number {number}\n").into_bytes(),
    }
}

fn edits() -> impl Strategy<Value = Edit> {
    let path = || 0..PATHS.len();
    prop_oneof![
        6 => (path(), 0_usize..40, any::<bool>())
            .prop_map(|(path, content, executable)| Edit::Write { path, content, executable }),
        1 => (path(), path()).prop_map(|(path, target)| Edit::Link { path, target }),
        1 => (path(), 1_u8..9).prop_map(|(path, commit)| Edit::Module { path, commit }),
        2 => path().prop_map(|path| Edit::Remove { path }),
        2 => (path(), path()).prop_map(|(from, to)| Edit::Rename { from, to }),
    ]
}

fn histories() -> impl Strategy<Value = Vec<Step>> {
    let step = (proptest::collection::vec(0_usize..1_000, 0..3), proptest::collection::vec(edits(), 0..6))
        .prop_map(|(parents, edits)| Step { parents, edits });
    proptest::collection::vec(step, 2..10)
}

type Files = BTreeMap<String, (&'static str, Vec<u8>)>;

/// Puts a file in place of whatever is there, above and below.
fn put(files: &mut Files, path: &str, file: (&'static str, Vec<u8>)) {
    let below = format!("{path}/");
    files.retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
    files.insert(path.to_owned(), file);
}

fn change(files: &mut Files, edit: &Edit) {
    match edit {
        Edit::Write { path, content, executable } => {
            put(files, PATHS[*path], (if *executable { "100755" } else { "100644" }, contents(*content)));
        }
        Edit::Link { path, target } => put(files, PATHS[*path], ("120000", PATHS[*target].as_bytes().to_vec())),
        Edit::Module { path, commit } => put(files, PATHS[*path], ("160000", vec![*commit])),
        Edit::Remove { path } => {
            files.remove(PATHS[*path]);
        }
        Edit::Rename { from, to } => {
            if let Some(file) = files.remove(PATHS[*from]) {
                put(files, PATHS[*to], file);
            }
        }
    }
}

/// Writes the history with `git fast-import`; the branches `all-N` hold the commits that nothing comes after.
fn build(repo: &GitRepo, steps: &[Step]) -> Vec<String> {
    let mut stream: Vec<u8> = Vec::new();
    let mut states: Vec<Files> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let mut parents: Vec<usize> =
            if number == 0 { Vec::new() } else { step.parents.iter().map(|parent| parent % number).collect() };
        parents.dedup();
        let mut files = parents.first().map(|parent| states[*parent].clone()).unwrap_or_default();
        step.edits.iter().for_each(|edit| change(&mut files, edit));
        let head = format!(
            "commit refs/heads/all-{number}\nmark :{}\nauthor A <a@example.com> {} +0000\ncommitter A <a@example.com> {} +0000\ndata 7\nsubject",
            number + 1,
            // Clocks of committers are not in order.
            1_700_000_000 + (number * 7919) % 1_000,
            1_700_000_000 + (number * 7919) % 1_000,
        );
        stream.extend_from_slice(head.as_bytes());
        stream.push(b'\n');
        for (index, parent) in parents.iter().enumerate() {
            let word = if index == 0 { "from" } else { "merge" };
            stream.extend_from_slice(format!("{word} :{}\n", parent + 1).as_bytes());
        }
        stream.extend_from_slice(b"deleteall\n");
        for (path, (mode, content)) in &files {
            let path = path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            if *mode == "160000" {
                let commit = format!("{:040x}", content[0]);
                stream.extend_from_slice(format!("M 160000 {commit} \"{path}\"\n").as_bytes());
            } else {
                stream.extend_from_slice(format!("M {mode} inline \"{path}\"\ndata {}\n", content.len()).as_bytes());
                stream.extend_from_slice(content);
                stream.push(b'\n');
            }
        }
        stream.push(b'\n');
        states.push(files);
    }
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet", "--done", "--export-marks=marks"])
        .current_dir(repo.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    stream.extend_from_slice(b"done\n");
    import.stdin.take().unwrap().write_all(&stream).unwrap();
    assert!(import.wait().unwrap().success(), "{}", String::from_utf8_lossy(&stream));
    let marks = std::fs::read_to_string(repo.path().join("marks")).unwrap();
    let mut commits = vec![String::new(); steps.len()];
    for line in marks.lines() {
        let (mark, commit) = line.split_once(' ').unwrap();
        commits[mark[1..].parse::<usize>().unwrap() - 1] = commit.to_owned();
    }
    // One branch whose history is all of it.
    let mut all = vec!["commit-tree".to_owned(), format!("{}^{{tree}}", commits[0]), "-m".to_owned(), "all".to_owned()];
    for commit in &commits {
        all.extend(["-p".to_owned(), commit.clone()]);
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let tip = repo.git(&all);
    repo.git(&["update-ref", "refs/heads/main", &tip]);
    commits
}

fn raw_git(repo: &GitRepo, args: &[&str]) -> (bool, Vec<u8>) {
    let output = Command::new("git").args(args).current_dir(repo.path()).output().unwrap();
    (output.status.success(), output.stdout)
}

fn mode_of(mode: &str) -> EntryMode {
    match mode {
        "100644" => EntryMode::File,
        "100755" => EntryMode::Executable,
        "120000" => EntryMode::Symlink,
        "160000" => EntryMode::Submodule,
        other => panic!("git told of mode {other}"),
    }
}

type Listed = BTreeMap<String, (EntryMode, ObjectId)>;

fn listed_by_git(repo: &GitRepo, commit: &str) -> Listed {
    let (_, output) = raw_git(repo, &["ls-tree", "-r", "-z", "--full-tree", commit]);
    let text = String::from_utf8(output).unwrap();
    let entry = |line: &str| {
        let (facts, path) = line.split_once('\t').unwrap();
        let facts: Vec<&str> = facts.split(' ').collect();
        (path.to_owned(), (mode_of(facts[0]), facts[2].parse().unwrap()))
    };
    text.split('\0').filter(|line| !line.is_empty()).map(entry).collect()
}

fn contents_by_git(repo: &GitRepo, oids: &[ObjectId]) -> Vec<Vec<u8>> {
    let mut git = Command::new("git")
        .args(["cat-file", "--batch"])
        .current_dir(repo.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked: String = oids.iter().map(|oid| format!("{oid}\n")).collect();
    let mut stdin = git.stdin.take().unwrap();
    let asking = std::thread::spawn(move || stdin.write_all(asked.as_bytes()).unwrap());
    let output = git.wait_with_output().unwrap().stdout;
    asking.join().unwrap();
    let mut rest = &output[..];
    let mut found = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let length: usize = head.split(' ').nth(2).unwrap().parse().unwrap();
        found.push(rest[end + 1..end + 1 + length].to_vec());
        rest = &rest[end + 2 + length..];
    }
    assert_eq!(found.len(), oids.len());
    found
}

fn compared_by_git(repo: &GitRepo, from: &str, to: &str) -> Vec<(String, ChangeKind)> {
    let (_, output) = raw_git(repo, &["diff-tree", "-r", "-z", "--no-renames", from, to]);
    let text = String::from_utf8(output).unwrap();
    let mut fields = text.split('\0').filter(|field| !field.is_empty());
    let mut changes = Vec::new();
    while let (Some(facts), Some(path)) = (fields.next(), fields.next()) {
        let facts: Vec<&str> = facts.trim_start_matches(':').split(' ').collect();
        let now = || (mode_of(facts[1]), facts[3].parse().unwrap());
        let kind = match facts[4] {
            "D" => ChangeKind::Deleted,
            "A" => {
                let (mode, oid) = now();
                ChangeKind::Added { mode, oid }
            }
            _ => {
                let (mode, oid) = now();
                ChangeKind::Modified { mode, oid }
            }
        };
        changes.push((path.to_owned(), kind));
    }
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

async fn compare(steps: Vec<Step>) {
    let repo = GitRepo::init();
    let commits = build(&repo, &steps);
    let (pool, place, remote) = (pool(), Place::new(), local(&repo));
    let mirror = place.mirror();
    pool.fetch(&mirror, &remote, "main", None).await.unwrap();
    let mut blobs: BTreeMap<ObjectId, ()> = BTreeMap::new();
    for commit in &commits {
        let theirs = listed_by_git(&repo, commit);
        let ours = pool.list_tree(&mirror, &id(commit), "").await.unwrap();
        let ours: Listed = ours.into_iter().map(|entry| (entry.path, (entry.mode, entry.oid))).collect();
        assert_eq!(ours, theirs, "the files of {commit}");
        blobs.extend(theirs.values().filter(|(mode, _)| *mode != EntryMode::Submodule).map(|(_, oid)| (*oid, ())));
    }
    let oids: Vec<ObjectId> = blobs.into_keys().collect();
    let read = pool.read_blobs(&mirror, &oids, 1 << 20, 1 << 26).await.unwrap();
    assert_eq!(read.len(), oids.len());
    let theirs = contents_by_git(&repo, &oids);
    for ((oid, content), theirs) in oids.iter().zip(read).zip(theirs) {
        assert_eq!(content[..], theirs[..], "blob {oid}");
    }
    for (index, from) in commits.iter().enumerate() {
        // Each with a few others, so that the number does not grow with the square.
        for to in [1, 4].map(|step| &commits[(index + step) % commits.len()]) {
            let ours = pool.diff(&mirror, &id(from), &id(to), "").await.unwrap();
            let ours: Vec<(String, ChangeKind)> = ours.into_iter().map(|change| (change.path, change.kind)).collect();
            assert_eq!(ours, compared_by_git(&repo, from, to), "from {from} to {to}");
            let (is_ancestor, _) = raw_git(&repo, &["merge-base", "--is-ancestor", from, to]);
            let outcome = pool.fetch(&mirror, &remote, to, Some(&id(from))).await.unwrap();
            assert_eq!((outcome.commit, outcome.forced), (id(to), !is_ancestor), "from {from} to {to}");
            let (_, theirs) = raw_git(&repo, &["rev-list", from, &format!("^{to}")]);
            let theirs = String::from_utf8(theirs).unwrap();
            let mut theirs: Vec<String> = theirs.lines().map(ToOwned::to_owned).collect();
            let ours = pool.lost_commits(&mirror, &id(from), &id(to), 1_000).await.unwrap();
            let mut ours: Vec<String> = ours.into_iter().map(|commit| commit.id.to_string()).collect();
            theirs.sort();
            ours.sort();
            assert_eq!(ours, theirs, "lost from {from} to {to}");
        }
    }
}

#[test]
fn files_differences_contents_and_histories_are_those_that_git_tells_of() {
    let cases = std::env::var("SHOREBASE_DIFFERENTIAL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runner.run(&histories(), |steps| {
        runtime.block_on(compare(steps));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
