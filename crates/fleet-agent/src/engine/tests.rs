//! The engine on real files: updates, restoring, drift, failures, and every place where the power can go.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::disk::RealDisk;
use crate::disk::fault::{Fault, FaultDisk};
use crate::document::tests::{any_json, body};
use crate::failure::Recurrence;
use crate::services::{NoServices, ServiceFailure};

#[path = "tests/setbacks.rs"]
mod setbacks;

/// Remembers what it was told, and refuses while told to.
#[derive(Debug, Default, Clone)]
struct Recorded {
    told: Arc<Mutex<Vec<Vec<String>>>>,
    refuse: Arc<Mutex<Option<String>>>,
    passing: bool,
}

impl Services for Recorded {
    fn files_changed(&self, paths: &[FilePath]) -> Result<(), ServiceFailure> {
        self.told.lock().unwrap().push(paths.iter().map(|p| p.as_str().to_owned()).collect());
        match self.refuse.lock().unwrap().clone() {
            Some(reason) => {
                let recurrence = if self.passing { Recurrence::Transient } else { Recurrence::Permanent };
                Err(ServiceFailure { unit: "app.service".to_owned(), reason, recurrence })
            }
            None => Ok(()),
        }
    }
}

fn document(version: &str, files: &[(&str, &str, u32)]) -> Document {
    let files: Vec<Value> = files
        .iter()
        .map(|(path, content, mode)| {
            let ids = rustix::process::geteuid().as_raw().to_string();
            json!({"path": path, "content": content, "mode": mode, "user": ids, "group": ids})
        })
        .collect();
    Document::parse(&body(version, &json!({"config": [{"name": "", "inline": files}]}))).unwrap()
}

fn open(root: &Path) -> Engine {
    let mut engine = Engine::open(Arc::new(RealDisk::open(root).unwrap()), Box::new(NoServices)).unwrap();
    engine.start().unwrap();
    engine
}

/// Every file and link outside the agent's state: path to contents and mode, or to the link's target.
fn tree(root: &Path) -> BTreeMap<String, (String, u32)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("/{}", path.strip_prefix(root).unwrap().display());
            let meta = fs::symlink_metadata(&path).unwrap();
            if name == paths::STATE_DIR {
            } else if meta.is_dir() {
                open.push(path);
            } else if meta.is_symlink() {
                found.insert(name, (fs::read_link(&path).unwrap().display().to_string(), 0));
            } else {
                let mode = meta.permissions().mode() & 0o7777;
                found.insert(name, (fs::read_to_string(&path).unwrap(), mode));
            }
        }
    }
    found
}

fn put(root: &Path, path: &str, content: &str, mode: u32) {
    let path = root.join(&path[1..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory in memory where the machine has one: thousands of synced writes to a disk would take minutes.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A device as it came from the vendor.
fn vendor(root: &Path) {
    put(root, "/etc/motd", "vendor motd", 0o600);
    put(root, "/etc/issue", "vendor issue", 0o644);
    put(root, "/etc/app/new.conf", "vendor new", 0o640);
    symlink("issue", root.join("etc/link")).unwrap();
}

fn release_a() -> Document {
    let files = [
        ("/etc/motd", "motd of A", 0o644),
        ("/etc/issue", "issue of A", 0o644),
        ("/etc/link", "link of A", 0o644),
        ("/etc/app/a.conf", "same in both", 0o644),
        ("/etc/app/gone.conf", "only in A", 0o644),
    ];
    document("1", &files)
}

fn release_b() -> Document {
    let files = [
        ("/etc/motd", "motd of B", 0o644),
        ("/etc/app/a.conf", "same in both", 0o600),
        ("/etc/app/new.conf", "new in B", 0o644),
        ("/srv/deep/er", "first in B", 0o400),
    ];
    document("2", &files)
}

fn after_a(root: &Path) -> BTreeMap<String, (String, u32)> {
    vendor(root);
    assert_eq!(open(root).offer(&release_a()), Ok(Verdict::Decided));
    tree(root)
}

fn after_b() -> BTreeMap<String, (String, u32)> {
    let entries = [
        ("/etc/motd", "motd of B", 0o644),
        ("/etc/issue", "vendor issue", 0o644),
        ("/etc/link", "issue", 0),
        ("/etc/app/a.conf", "same in both", 0o600),
        ("/etc/app/new.conf", "new in B", 0o644),
        ("/srv/deep/er", "first in B", 0o400),
    ];
    entries.into_iter().map(|(path, content, mode)| (path.to_owned(), (content.to_owned(), mode))).collect()
}

#[test]
fn an_update_adds_changes_removes_and_restores() {
    let root = tempfile::tempdir().unwrap();
    after_a(root.path());
    let mut engine = open(root.path());
    assert_eq!(engine.offer(&release_b()), Ok(Verdict::Decided));
    assert_eq!(tree(root.path()), after_b());
    assert_eq!(engine.offer(&release_b()), Ok(Verdict::Known));
    assert_eq!(engine.offer(&release_a()), Ok(Verdict::Again));
    assert_eq!(engine.offer(&document("2", &[])), Ok(Verdict::Again));
    assert_eq!(tree(root.path()), after_b());
    // An empty release leaves the device as the vendor made it, and keeps nothing.
    assert_eq!(engine.offer(&document("3", &[])), Ok(Verdict::Decided));
    let vendored = tempfile::tempdir().unwrap();
    vendor(vendored.path());
    assert_eq!(tree(root.path()), tree(vendored.path()));
    for directory in ["store", "saved"] {
        assert_eq!(fs::read_dir(root.path().join("var/lib/fleet-agent").join(directory)).unwrap().count(), 0);
    }
    let state_dir = fs::metadata(root.path().join("var/lib/fleet-agent")).unwrap();
    assert_eq!(state_dir.permissions().mode() & 0o777, 0o700);
}

#[test]
fn wherever_the_power_goes_the_device_converges_and_no_file_is_half_written() {
    let pristine = memory_dir();
    let a = after_a(pristine.path());
    let vendor_file = |path: &str, found: &(String, u32)| path == "/etc/app/new.conf" && found.0 == "vendor new";
    everywhere(&|root| drop(after_a(root)), &release_b(), &a, &after_b(), &vendor_file);
}

/// From a device as `before` makes it, to `release`, with every fault at every boundary: each file is always as in `a`
/// or as in `b`, and in the end all are as in `b`.
fn everywhere(
    before: &dyn Fn(&Path),
    release: &Document,
    a: &BTreeMap<String, (String, u32)>,
    b: &BTreeMap<String, (String, u32)>,
    also: &dyn Fn(&str, &(String, u32)) -> bool,
) {
    for fault in Fault::ALL {
        let mut boundary = 0;
        loop {
            let root = memory_dir();
            before(root.path());
            let disk = Arc::new(FaultDisk::open(root.path(), boundary, fault));
            let struck = {
                let engine = Engine::open(disk.clone(), Box::new(NoServices));
                if let Ok(mut engine) = engine {
                    let _ = engine.start();
                    let _ = engine.offer(release);
                    if matches!(fault, Fault::Eio | Fault::Enospc) && disk.has_struck() {
                        // The process lives on: it goes on with what was begun and is offered the document again.
                        let _ = engine.resume();
                        assert!(
                            !matches!(engine.offer(release), Err(_) | Ok(Verdict::Again)),
                            "{fault:?} at {boundary}"
                        );
                    }
                }
                disk.has_struck()
            };
            for (path, found) in tree(root.path()) {
                let expected = [a.get(&path), b.get(&path)];
                let temporary = path.contains(crate::path::TEMPORARY_PREFIX);
                assert!(
                    expected.contains(&Some(&found)) || also(&path, &found) || temporary,
                    "{fault:?} at {boundary}: {path} {found:?}"
                );
            }
            let mut engine = open(root.path());
            let verdict = engine.offer(release);
            assert!(matches!(verdict, Ok(Verdict::Decided | Verdict::Known)), "{fault:?} at {boundary}: {verdict:?}");
            assert_eq!(tree(root.path()), *b, "{fault:?} at {boundary}");
            assert_eq!(engine.state().current.version.get(), 2);
            if !struck {
                break;
            }
            boundary += 1;
        }
        assert!(boundary > 20, "{fault:?}: only {boundary} boundaries");
    }
}

#[test]
fn a_failed_reload_rolls_everything_back_and_blocks_the_contents() {
    let root = tempfile::tempdir().unwrap();
    let a = after_a(root.path());
    let services = Recorded::default();
    let disk = Arc::new(RealDisk::open(root.path()).unwrap());
    let mut engine = Engine::open(disk, Box::new(services.clone())).unwrap();
    engine.start().unwrap();
    *services.refuse.lock().unwrap() = Some("does not start".to_owned());
    assert_eq!(engine.offer(&release_b()), Ok(Verdict::Decided));
    assert_eq!(tree(root.path()), a.clone());
    let told = services.told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "once for the update, once for the way back");
    assert!(told[0].contains(&"/etc/app/gone.conf".to_owned()) && !told[0].is_empty());
    let progress = engine.progress().borrow().clone();
    assert_eq!((progress.reason, progress.updated_word()), ("Error", "OutOfDate"));
    assert!(
        progress.message.contains("app.service") && progress.message.contains("does not start"),
        "{}",
        progress.message
    );
    *services.refuse.lock().unwrap() = None;
    let again = Document { version: "3".parse().unwrap(), ..release_b() };
    assert_eq!(engine.offer(&again), Ok(Verdict::Decided));
    assert_eq!(tree(root.path()), a);
    drop(engine);
    assert!(open(root.path()).state().blocked(&again.digest).is_some(), "the block is durable");
}

#[test]
fn what_cannot_be_applied_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let before = after_a(root.path());
    symlink(outside.path(), root.path().join("etc/escape")).unwrap();
    fs::create_dir(root.path().join("etc/dir")).unwrap();
    let mut expected = before;
    expected.insert("/etc/escape".to_owned(), (outside.path().display().to_string(), 0));
    let mut engine = open(root.path());
    for (version, path, part) in
        [("2", "/etc/escape/x", "out of the root"), ("3", "/etc/dir", "a directory is in its place")]
    {
        let refused = document(version, &[("/etc/fine", "x", 0o644), (path, "x", 0o644)]);
        assert_eq!(engine.offer(&refused), Ok(Verdict::Decided));
        let progress = engine.progress().borrow().clone();
        assert!(progress.message.contains(part) && progress.reason == "Error", "{}", progress.message);
        assert_eq!(tree(root.path()), expected);
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let broken = body("4", &json!({"config": [], "applications": [{"name": "web"}]}));
    assert_eq!(engine.offer(&Document::parse(&broken).unwrap()), Ok(Verdict::Decided));
    assert!(engine.progress().borrow().message.contains("applications are not supported by this agent"));
    assert_eq!((tree(root.path()), engine.state().current.version.get()), (expected, 1));
}

#[test]
fn what_is_changed_by_hand_is_put_back_and_reported() {
    let root = tempfile::tempdir().unwrap();
    let a = after_a(root.path());
    let mut engine = open(root.path());
    assert_eq!(engine.check_drift(), Ok(vec![]));
    put(root.path(), "/etc/motd", "motd of X", 0o644);
    fs::remove_file(root.path().join("etc/app/gone.conf")).unwrap();
    fs::set_permissions(root.path().join("etc/issue"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::remove_file(root.path().join("etc/link")).unwrap();
    symlink("/dev/null", root.path().join("etc/link")).unwrap();
    let put_back = engine.check_drift().unwrap();
    assert_eq!(put_back.len(), 4, "{put_back:?}");
    assert_eq!(tree(root.path()), a);
    assert!(engine.progress().borrow().message.contains("put back 4 changed on the device: /etc/app/gone.conf"));
    assert_eq!(engine.check_drift(), Ok(vec![]));
}

#[test]
fn an_idle_drift_check_reads_nothing() {
    let root = tempfile::tempdir().unwrap();
    after_a(root.path());
    let mut engine = open(root.path());
    let state = engine.state.current.files.clone();
    let disk = RealDisk::open(root.path()).unwrap();
    for file in &state {
        let stat = disk.stat(&file.path).unwrap().unwrap();
        engine.known.trust(&file.path, &file.digest, stat);
    }
    let cut = FaultDisk::open(root.path(), usize::MAX, Fault::Eio);
    assert_eq!(overlay::drifted(&cut, &state, &mut engine.known), overlay::Drifted::default());
    assert!(!cut.has_struck());
    assert_eq!(cut.reads(), 0);
}

#[test]
fn a_missing_room_is_told_to_the_byte_and_nothing_is_blocked() {
    let root = tempfile::tempdir().unwrap();
    let a = after_a(root.path());
    let disk = Arc::new(FaultDisk::open(root.path(), usize::MAX, Fault::Eio).with_room(1 << 20));
    let mut engine = Engine::open(disk, Box::new(NoServices)).unwrap();
    engine.start().unwrap();
    assert_eq!(engine.offer(&release_b()), Ok(Verdict::Again));
    let progress = engine.progress().borrow().clone();
    assert!(progress.message.contains("bytes short") && progress.reason == "Error", "{}", progress.message);
    assert_eq!((tree(root.path()), engine.state().blocked.len()), (a, 0));
    drop(engine);
    assert_eq!(open(root.path()).offer(&release_b()), Ok(Verdict::Decided));
    assert_eq!(tree(root.path()), after_b());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_document_makes_it_panic_and_a_refused_one_changes_nothing(spec in any_json(), version in 0_i64..4) {
        let root = memory_dir();
        vendor(root.path());
        let before = tree(root.path());
        let mut engine = open(root.path());
        let document = Document::parse(&body(&version.to_string(), &spec)).unwrap();
        let _ = engine.offer(&document);
        if document.files.is_err() || engine.state().current.version.get() == 0 {
            prop_assert_eq!(tree(root.path()), before);
        }
        prop_assert!(!engine.is_unsettled());
    }
}
