//! What goes wrong for one file, one moment or one state must not hold up the rest.

use super::*;

fn engine_with(root: &Path, services: impl Services) -> Engine {
    let mut engine = Engine::open(Arc::new(RealDisk::open(root).unwrap()), Box::new(services)).unwrap();
    engine.start().unwrap();
    engine
}

fn refusing() -> Recorded {
    let services = Recorded::default();
    *services.refuse.lock().unwrap() = Some("does not start".to_owned());
    services
}

fn agree(services: &Recorded) {
    *services.refuse.lock().unwrap() = None;
}

fn progress(engine: &Engine) -> Progress {
    engine.progress().borrow().clone()
}

fn kept(root: &Path, directory: &str, content: &str) -> std::path::PathBuf {
    root.join("var/lib/fleet-agent").join(directory).join(Digest::of(content.as_bytes()).hex().as_str())
}

#[test]
fn a_roll_back_that_cannot_succeed_puts_back_the_rest_and_keeps_no_newer_version_away() {
    let root = tempfile::tempdir().unwrap();
    let services = Recorded::default();
    let mut engine = engine_with(root.path(), services.clone());
    let files = [("/etc/a", "a5", 0o644), ("/etc/b", "b5", 0o644)];
    assert_eq!(engine.offer(&document("5", &files)), Ok(Verdict::Decided));
    fs::remove_file(kept(root.path(), "store", "a5")).unwrap();
    *services.refuse.lock().unwrap() = Some("does not start".to_owned());
    let sixth = document("6", &[("/etc/a", "a6", 0o644), ("/etc/b", "b6", 0o644), ("/etc/c", "c6", 0o644)]);
    assert_eq!(engine.offer(&sixth), Ok(Verdict::Decided));
    assert!(!engine.is_unsettled() && engine.state().blocked(&sixth.digest).is_some());
    let found = tree(root.path());
    assert_eq!((found["/etc/a"].0.as_str(), found["/etc/b"].0.as_str()), ("a6", "b5"));
    assert!(!found.contains_key("/etc/c"));
    let told = progress(&engine);
    assert!(told.message.contains("could not be put back") && told.message.contains("/etc/a"), "{}", told.message);
    assert!(told.message.contains("app.service"), "{}", told.message);
    agree(&services);
    let seventh = [("/etc/a", "a7", 0o644), ("/etc/b", "b7", 0o644)];
    assert_eq!(engine.offer(&document("7", &seventh)), Ok(Verdict::Decided));
    assert_eq!((progress(&engine).reason, engine.state().current.version.get()), ("Updated", 7));
    assert_eq!(tree(root.path())["/etc/a"].0, "a7");
}

#[test]
fn a_user_that_was_removed_on_the_device_does_not_lock_it() {
    let root = tempfile::tempdir().unwrap();
    if !RealDisk::open(root.path()).unwrap().may_chown() {
        tracing::warn!("Not run: files cannot be given away without being root");
        return;
    }
    put(root.path(), "/etc/passwd", "app:x:990:990::/:/bin/false\n", 0o644);
    let services = Recorded::default();
    let mut engine = engine_with(root.path(), services.clone());
    let file = |path: &str, user: &str| json!({"path": path, "content": path, "user": user, "group": "0"});
    let document = |version: &str, files: Value| {
        Document::parse(&body(version, &json!({"config": [{"name": "", "inline": files}]}))).unwrap()
    };
    let fifth = document("5", json!([file("/etc/of-app", "app"), file("/etc/of-root", "root")]));
    assert_eq!(engine.offer(&fifth), Ok(Verdict::Decided));
    put(root.path(), "/etc/passwd", "", 0o644);
    *services.refuse.lock().unwrap() = Some("does not start".to_owned());
    assert_eq!(engine.offer(&document("6", json!([file("/etc/x", "root")]))), Ok(Verdict::Decided));
    assert!(!engine.is_unsettled());
    assert!(progress(&engine).message.contains("user \"app\" does not exist"), "{}", progress(&engine).message);
    assert!(tree(root.path()).contains_key("/etc/of-root") && !tree(root.path()).contains_key("/etc/of-app"));
    assert_eq!(engine.check_drift(), Ok(vec![]));
    assert!(progress(&engine).message.contains("user \"app\" does not exist"), "{}", progress(&engine).message);
    agree(&services);
    assert_eq!(engine.offer(&document("7", json!([file("/etc/y", "root")]))), Ok(Verdict::Decided));
    assert_eq!((progress(&engine).reason, progress(&engine).updated_word()), ("Updated", "UpToDate"));
}

/// Refuses, after it put a directory with something in it in the place of a file.
#[derive(Debug)]
struct Obstructs(std::path::PathBuf);

impl Services for Obstructs {
    fn files_changed(&self, _paths: &[FilePath]) -> Result<(), ServiceFailure> {
        let _ = fs::remove_file(&self.0);
        fs::create_dir_all(self.0.join("by-hand")).unwrap();
        let (unit, reason) = ("app.service".to_owned(), "no".to_owned());
        Err(ServiceFailure { unit, reason, recurrence: Recurrence::Permanent })
    }
}

#[test]
fn what_a_failed_release_left_behind_is_put_back_once_it_can_be() {
    let root = tempfile::tempdir().unwrap();
    let a = after_a(root.path());
    let place = root.path().join("etc/app/new.conf");
    let mut engine = engine_with(root.path(), Obstructs(place.clone()));
    assert_eq!(engine.offer(&release_b()), Ok(Verdict::Decided));
    assert!(!engine.is_unsettled());
    drop(engine);
    let mut engine = open(root.path());
    assert_eq!(engine.state().leftovers.len(), 1);
    assert!(kept(root.path(), "saved", "vendor new").exists());
    assert_eq!(engine.check_drift(), Ok(vec![]));
    assert!(progress(&engine).message.contains("a directory is in its place"), "{}", progress(&engine).message);
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(engine.check_drift().unwrap().len(), 1);
    assert_eq!((tree(root.path()), engine.state().leftovers.len()), (a, 0));
    assert!(!kept(root.path(), "saved", "vendor new").exists());
    assert!(open(root.path()).state().leftovers.is_empty(), "durably");
}

#[test]
fn one_file_that_cannot_be_put_back_keeps_no_other_one_from_it_and_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let a = after_a(root.path());
    let mut engine = open(root.path());
    let place = root.path().join("etc/app/a.conf");
    fs::remove_file(&place).unwrap();
    fs::create_dir_all(place.join("by-hand")).unwrap();
    put(root.path(), "/etc/motd", "motd of X", 0o644);
    let changed: Vec<String> = engine.check_drift().unwrap().into_iter().map(String::from).collect();
    assert_eq!(changed, ["/etc/motd"]);
    let told = progress(&engine);
    assert_eq!((told.reason, told.updated_word()), ("Error", "OutOfDate"));
    assert!(told.message.contains("/etc/app/a.conf") && told.message.contains("a directory"), "{}", told.message);
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(engine.check_drift().unwrap().len(), 1);
    assert_eq!((tree(root.path()), progress(&engine).reason), (a, "Updated"));
}

#[test]
fn wherever_the_power_goes_a_damaged_state_costs_no_saved_original() {
    for fault in Fault::ALL {
        for boundary in 0.. {
            let root = memory_dir();
            after_a(root.path());
            let home = root.path().join("var/lib/fleet-agent");
            fs::write(home.join("state.json"), "{}").unwrap();
            let disk = Arc::new(FaultDisk::open(root.path(), boundary, fault));
            if let Ok(mut engine) = Engine::open(disk.clone(), Box::new(NoServices)) {
                let _ = engine.start();
            }
            let mut engine = open(root.path());
            for content in ["vendor motd", "vendor issue"] {
                let name = Digest::of(content.as_bytes()).hex();
                let holds = |entry: fs::DirEntry| {
                    fs::read_to_string(entry.path().join("saved").join(name.as_str()))
                        .is_ok_and(|found| found == content)
                };
                let mut aside = fs::read_dir(&home).unwrap().map(Result::unwrap);
                assert!(aside.any(holds), "{fault:?} at {boundary}: {content}");
            }
            assert_eq!(engine.offer(&release_b()), Ok(Verdict::Decided), "{fault:?} at {boundary}");
            if !disk.has_struck() {
                assert!(boundary > 5, "{fault:?}: only {boundary} boundaries");
                break;
            }
        }
    }
}

#[test]
fn a_passing_failure_of_a_unit_is_tried_again_before_it_counts() {
    let root = tempfile::tempdir().unwrap();
    after_a(root.path());
    let services = Recorded { passing: true, ..refusing() };
    let mut engine = engine_with(root.path(), services.clone());
    assert_eq!(engine.offer(&release_b()), Ok(Verdict::Again));
    assert_eq!((progress(&engine).reason, engine.state().blocked.len()), ("Retrying", 0));
    agree(&services);
    assert_eq!(engine.offer(&release_b()), Ok(Verdict::Decided));
    assert_eq!(tree(root.path()), after_b());
}

fn files_first() -> [(&'static str, &'static str, u32); 3] {
    [("/etc/foo", "foo", 0o644), ("/etc/bar/x/y", "y", 0o644), ("/etc/bar/z", "z", 0o644)]
}

fn swapped() -> Document {
    document("2", &[("/etc/foo/deep/bar", "foobar", 0o644), ("/etc/bar", "bar", 0o644)])
}

fn before_swap(root: &Path) {
    assert_eq!(open(root).offer(&document("1", &files_first())), Ok(Verdict::Decided));
}

#[test]
fn wherever_the_power_goes_a_file_becomes_a_directory_and_the_reverse() {
    let (first, second) = (memory_dir(), memory_dir());
    before_swap(first.path());
    let mut engine = open(second.path());
    assert_eq!(engine.offer(&swapped()), Ok(Verdict::Decided));
    let (a, b) = (tree(first.path()), tree(second.path()));
    everywhere(&before_swap, &swapped(), &a, &b, &|_, _| false);
}

#[test]
fn a_file_that_became_a_directory_is_one_again_after_a_roll_back() {
    let root = tempfile::tempdir().unwrap();
    before_swap(root.path());
    let a = tree(root.path());
    let mut engine = engine_with(root.path(), refusing());
    assert_eq!(engine.offer(&swapped()), Ok(Verdict::Decided));
    assert_eq!(tree(root.path()), a);
    let told = progress(&engine);
    assert!(told.message.contains("app.service") && !told.message.contains("put back"), "{}", told.message);
}

#[test]
fn a_directory_that_holds_more_or_covers_an_original_does_not_become_a_file() {
    let root = tempfile::tempdir().unwrap();
    before_swap(root.path());
    put(root.path(), "/etc/bar/x/by-hand", "mine", 0o644);
    let before = tree(root.path());
    let mut engine = open(root.path());
    assert_eq!(engine.offer(&swapped()), Ok(Verdict::Decided));
    assert!(progress(&engine).message.contains("a directory is in its place"), "{}", progress(&engine).message);
    assert_eq!(tree(root.path()), before);

    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/etc/foo", "vendor foo", 0o644);
    before_swap(root.path());
    let mut engine = open(root.path());
    assert_eq!(engine.offer(&swapped()), Ok(Verdict::Again));
    assert!(engine.state().blocked.is_empty() && progress(&engine).message.contains("has to be put back"));
}
