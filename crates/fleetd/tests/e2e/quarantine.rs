//! Commits that cannot be worked on: each try ends the worker, as the kernel does when memory runs out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_test::TestDatabase;

use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};
use crate::holds::condition;

/// A `git` that, while there is a file `deadly`, ends whoever has it make a pack, and notes that.
struct DeadlyPacks(tempfile::TempDir);

impl DeadlyPacks {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = String::from_utf8(std::process::Command::new("which").arg("git").output().unwrap().stdout).unwrap();
        let at = dir.path().display();
        let script = |name: &str, text: String| {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("git", format!("#!/bin/sh\nexec {} -c uploadpack.packObjectsHook={at}/hook \"$@\"\n", git.trim()));
        // The hook's parent is `git upload-pack`, and that one's is the worker.
        script(
            "hook",
            format!(
                "#!/bin/sh\nif [ -e {at}/deadly ]; then\n  echo dead >> {at}/deaths\n  \
                 kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)\nfi\nexec \"$@\"\n"
            ),
        );
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn set(&self, deadly: bool) {
        let flag = self.0.path().join("deadly");
        if deadly { fs::write(flag, "").unwrap() } else { fs::remove_file(flag).unwrap() }
    }

    fn deaths(&self) -> usize {
        deaths(self.0.path())
    }
}

fn deaths(dir: &Path) -> usize {
    fs::read_to_string(dir.join("deaths")).unwrap_or_default().lines().count()
}

fn wait_quarantined(there: &Installation, commit: &str) -> String {
    eventually("the commit to be quarantined", || {
        let source = there.object("sources", "main")?;
        if condition(&source, "Ready") != ("False".to_owned(), "Quarantined".to_owned()) {
            return None;
        }
        assert_eq!(source["status"]["observedCommit"], commit, "{source:#}");
        let all = source["status"]["conditions"].as_array()?.clone();
        let ready = all.iter().find(|condition| condition["type"] == "Ready")?;
        Some(ready["message"].as_str()?.to_owned())
    })
}

#[test]
fn a_commit_that_ends_every_worker_rests_also_after_a_kill_and_the_next_one_goes_through() {
    let packs = DeadlyPacks::new();
    let settings = "{pollInterval: 500ms, deletionGracePeriod: 0s}";
    let mut there = Installation::start_with(FILES, Database::Own(TestDatabase::create()), settings);
    let first = there.repo.head();
    there.wait_applied(&first);
    there.stop_service();
    there.programs = Some(packs.path());
    there.start_service();
    packs.set(true);
    there.repo.write("config/kiosk/etc/motd", "second\n");
    let second = there.repo.commit("second");
    let message = wait_quarantined(&there, &second);
    assert!(message.contains(&second[..12]) && message.contains("could not be worked on 3 times"), "{message}");
    assert!(message.contains("fleetctl sync"), "{message}");
    let source = there.object("sources", "main").unwrap();
    assert_eq!(
        (&source["status"]["appliedCommit"], &source["status"]["state"]),
        (&first.as_str().into(), &"Refused".into())
    );
    // Whoever begins to work may look once, also where a busy machine cost the service its lease for a moment.
    let terms = |there: &Installation| there.service_log().matches("Holding the syncer's lease").count();
    let (rested, begun) = (packs.deaths(), terms(&there));
    std::thread::sleep(Duration::from_millis(2_500));
    let tries = packs.deaths() - rested;
    assert!(tries <= terms(&there) - begun, "it rests: {tries} tries");

    // So may one that is started again; it does not begin to count from nothing, however often it happens.
    for round in 1..=2 {
        let rested = packs.deaths();
        there.kill_service();
        there.start_service();
        wait_quarantined(&there, &second);
        std::thread::sleep(Duration::from_millis(2_500));
        let tries = packs.deaths() - rested;
        assert!(tries <= terms(&there), "{tries} tries after kill {round}");
    }
    // Who asks for it gets a try.
    let before = packs.deaths();
    there.fleetctl_ok(&["sync", "main"]);
    eventually("one more try", || (packs.deaths() > before).then_some(()));

    packs.set(false);
    there.repo.write("config/kiosk/etc/motd", "third\n");
    let third = there.repo.commit("third");
    there.wait_applied(&third);
    let source = there.object("sources", "main").unwrap();
    assert_eq!(condition(&source, "Ready").0, "True", "{source:#}");
}
