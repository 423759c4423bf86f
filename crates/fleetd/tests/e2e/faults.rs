//! Power cuts and absences: everything converges without a hand.

use std::fs;

use crate::commits::FILES;
use crate::harness::{Installation, eventually};

#[test]
fn a_service_killed_at_any_moment_converges() {
    let mut there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    for round in 0..8_u64 {
        let text = format!("round {round}\n");
        there.repo.write("config/kiosk/etc/motd", &text);
        let commit = there.repo.commit("change");
        // Another moment of the way each time: from before the commit is seen to after it is applied.
        std::thread::sleep(std::time::Duration::from_millis(round * 40));
        there.kill_service();
        let halves = there.sql(
            "select count(*) from desired.sources s where s.applied_commit is not null and not exists
             (select from desired.commits c where c.commit_id = s.applied_commit and c.verdict = 'Applied')",
        );
        assert_eq!(halves, "0", "an applied commit is written whole");
        there.start_service();
        there.wait_applied(&commit);
        device.wait_file("/etc/motd", &text);
    }
    let versions = there.sql("select rendered_version from devices");
    assert_eq!(versions, "9", "one version for each content, however often the service died");
}

#[test]
fn a_killed_agent_and_one_whose_service_is_away_catch_up() {
    let mut there = Installation::start(FILES);
    let mut device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    for round in 0..5_u64 {
        let text = format!("round {round}\n");
        there.repo.write("config/kiosk/etc/motd", &text);
        there.repo.commit("change");
        std::thread::sleep(std::time::Duration::from_millis(round * 60));
        device.kill();
        let half = device.file("/etc/motd").expect("a managed file is never missing");
        assert!(half.starts_with("round ") || half == "first\n", "a managed file is never half written: {half:?}");
        device.start();
        device.wait_file("/etc/motd", &text);
    }
    there.stop_service();
    device.kill();
    device.start();
    fs::write(device.path("/etc/motd"), "by hand\n").unwrap();
    device.wait_file("/etc/motd", "round 4\n");
    there.repo.write("config/kiosk/etc/motd", "after the absence\n");
    there.repo.commit("while the service is away");
    assert_eq!(device.file("/etc/motd").as_deref(), Some("round 4\n"));
    there.start_service();
    device.wait_file("/etc/motd", "after the absence\n");
    eventually("the status", || {
        let object = there.device_object("kiosk-1")?;
        (object["status"]["updated"]["status"] == "UpToDate").then_some(())
    });
}

#[test]
fn a_git_host_that_is_away_changes_nothing() {
    let there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    let good = there.repo.head();
    let away = there.repo.scratch().join("away");
    fs::rename(there.repo.path(), &away).unwrap();
    there.fleetctl_ok(&["sync", "main"]);
    eventually("the source to be unreachable", || {
        let source = there.object("sources", "main")?;
        let conditions = source["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|c| c["type"] == "SourceReachable" && c["status"] == "False").then_some(())
    });
    assert_eq!(there.object("sources", "main").unwrap()["status"]["appliedCommit"], good.as_str());
    assert_eq!(device.file("/etc/motd").as_deref(), Some("first\n"));
    fs::rename(&away, there.repo.path()).unwrap();
    there.repo.write("config/kiosk/etc/motd", "back\n");
    there.repo.commit("back");
    there.fleetctl_ok(&["sync", "main"]);
    device.wait_file("/etc/motd", "back\n");
}

#[test]
fn a_database_that_was_restored_gives_no_version_out_twice() {
    let there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    let old = there.sql("select encode(rendered_digest, 'hex') from devices");
    there.repo.write("config/kiosk/etc/motd", "second\n");
    let second = there.repo.commit("second");
    device.wait_file("/etc/motd", "second\n");
    there.wait_applied(&second);
    eventually("the second version to be reported", || {
        (there.sql("select reported_version from devices") == "2").then_some(())
    });
    // What a backup from before the second commit says of the device.
    there.sql(&format!(
        "update devices set rendered_version = 1, rendered_digest = decode('{old}', 'hex'), reported_version = 1,
                            change_seq = nextval('device_change_seq')"
    ));
    there.repo.write("config/kiosk/etc/motd", "third\n");
    there.repo.commit("third");
    device.wait_file("/etc/motd", "third\n");
    eventually("the device to be up to date", || {
        (there.sql("select reported_version = rendered_version and rendered_version > 2 from devices") == "t")
            .then_some(())
    });
}
