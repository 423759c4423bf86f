//! What leaves Git stays in force for its grace: undone, replaced, moved, over, and through power cuts.

use std::time::Duration;

use fleet_test::{GitRepo, TestDatabase};

use crate::commits::FILES;
use crate::harness::{Database, Device, Installation, eventually};
use crate::holds::fleet;

/// All that a device could notice.
const STATE: &str = "select owner_fleet, labels, rendered_version, encode(rendered_digest, 'hex'), fleet_revision, change_seq from devices";
const LEFT: &str = "select kind || '/' || name from tombstones order by 1";

fn start(git_settings: &str, files: &[(&str, &str)]) -> (Installation, Device) {
    let database = Database::Own(TestDatabase::create());
    let there = Installation::start_with(files, database, git_settings);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    eventually("the first version to be reported", || {
        (there.sql("select reported_version from devices") == "1").then_some(())
    });
    (there, device)
}

fn wait_gone(there: &Installation, fleet: &str) {
    eventually("the grace to be over", || there.is_gone("fleets", fleet).then_some(()));
}

#[test]
fn a_revert_within_the_grace_touches_no_device() {
    let (there, device) = start("{}", FILES);
    let (seen, object) = (there.sql(STATE), there.object("fleets", "kiosks").unwrap());
    there.repo.remove("fleets/kiosks.yaml");
    let gone = there.repo.commit("oops");
    there.wait_applied(&gone);
    assert_eq!(there.sql(LEFT), "Fleet/kiosks");
    let leaving = there.object("fleets", "kiosks").unwrap();
    assert_eq!(leaving["metadata"]["annotations"]["shorebase/removed-by"], gone.as_str(), "{leaving:#}");
    assert!(leaving["metadata"]["deletionTimestamp"].is_string(), "{leaving:#}");
    let table = there.fleetctl_ok(&["get", "fleets"]);
    assert!(["58m", "59m", "60m"].iter().any(|left| table.contains(&format!("Terminating ({left} left)"))), "{table}");
    eventually("the tombstone to be counted", || there.http_get("/metrics")?.contains("tombstones 1\n").then_some(()));
    // Somebody who plans the revert, or anything else, sees what Git says.
    let plan = there.offline(&["plan", &format!("{gone}^..{gone}")]);
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("stays in force for a grace"), "{plan}");
    assert_eq!(there.sql(STATE), seen);
    there.repo.git(&["revert", "--no-edit", "HEAD"]);
    there.wait_applied(&there.repo.head());
    assert_eq!((there.sql(LEFT), there.sql(STATE)), (String::new(), seen));
    assert_eq!(there.object("fleets", "kiosks").unwrap()["metadata"]["generation"], object["metadata"]["generation"]);
    assert_eq!(there.sql("select count(*) from desired.fleet_revisions"), "1");
    assert_eq!(device.file("/etc/motd").as_deref(), Some("first\n"));
}

#[test]
fn a_suspended_source_says_what_it_keeps_and_gives_it_up_when_it_is_resumed() {
    let gates = fleet("gates", "gate");
    let files = [FILES, &[("fleets/gates.yaml", gates.as_str())]].concat();
    let there = Installation::start_with(&files, Database::Own(TestDatabase::create()), "{pollInterval: 1s}");
    there.wait_applied(&there.repo.head());
    there.repo.remove("fleets/gates.yaml");
    there.wait_applied(&there.repo.commit("no gates"));
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "stocktaking"]);
    let told = "1 object that left Git stays in force until the source is resumed";
    assert!(!there.fleetctl_ok(&["describe", "source", "main"]).contains(told), "the grace is not over");
    there.sql("update tombstones set expires_at = now() - interval '1 second'");
    let described = there.fleetctl_ok(&["describe", "source", "main"]);
    assert!(described.contains(told) && described.contains("overdueRemovals: 1"), "{described}");
    assert!(there.object("fleets", "gates").is_some());
    there.fleetctl_ok(&["source", "resume", "main"]);
    wait_gone(&there, "gates");
    assert!(!there.fleetctl_ok(&["describe", "source", "main"]).contains("left Git"));
}

#[test]
fn a_renamed_fleet_has_its_devices_at_once_and_they_notice_nothing() {
    let (there, _device) = start("{}", FILES);
    let versions = "select rendered_version, encode(rendered_digest, 'hex') from devices";
    let seen = there.sql(versions);
    there.repo.write("fleets/kiosks.yaml", FILES[0].1.replace("name: kiosks", "name: tills"));
    let renamed = there.repo.commit("kiosks are tills");
    there.wait_applied(&renamed);
    assert_eq!(there.sql("select owner_fleet, conflicting_fleets from devices"), "tills|{}");
    assert_eq!((there.sql(versions), there.sql(LEFT)), (seen, "Fleet/kiosks".to_owned()));
}

#[test]
fn a_fleet_moves_to_another_source_and_its_devices_notice_nothing() {
    let team = GitRepo::init();
    team.write("README.md", "nothing yet\n").commit("nothing yet");
    let simple = FILES[0].1.replace(
        "\x20         gitRef:\n\x20           repository: .\n\x20           path: config/kiosk\n",
        "\x20         inline:\n\x20           - {path: /etc/motd, content: \"first\\n\"}\n",
    );
    let sync = sync(&team);
    let mut files = FILES.to_vec();
    files[0].1 = &simple;
    files.push(("team.yaml", &sync));
    let (there, _device) = start("{allowLocalRepositories: true, pollInterval: 1s}", &files);
    let seen = there.sql(STATE);
    team.write("kiosks.yaml", &simple);
    let early = team.commit("ours now");
    eventually("the early definition to be refused", || {
        let text = there.object("sources", "team")?["status"].to_string();
        (text.contains("OwnershipConflict") && text.contains(&early)).then_some(())
    });
    there.repo.remove("fleets/kiosks.yaml");
    there.wait_applied(&there.repo.commit("theirs now"));
    eventually("the team's fleet", || {
        (there.sql("select source, leaving from desired.fleets") == "team|f").then_some(())
    });
    assert_eq!((there.sql(STATE), there.sql(LEFT)), (seen, String::new()));
}

fn sync(team: &GitRepo) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata: {{name: team}}\nspec: {{type: git, url: '{}'}}\n---\n\
         apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata: {{name: team}}\n\
         spec: {{repository: team, targetRevision: main, path: /}}\n",
        team.url()
    )
}

#[test]
fn a_resource_sync_that_comes_back_finds_its_source_as_it_was_also_after_a_drop() {
    let team = GitRepo::init();
    for (path, content) in &FILES[..3] {
        team.write(path, content);
    }
    team.commit("kiosks");
    let sync = sync(&team);
    let files = [FILES[3], ("team.yaml", sync.as_str())];
    let (mut there, device) = start("{allowLocalRepositories: true, pollInterval: 1s}", &files);
    let seen = there.sql(STATE);
    there.repo.remove("team.yaml");
    let gone = there.repo.commit("no team");
    there.wait_applied(&gone);
    assert_eq!(there.sql(LEFT), "Repository/team\nResourceSync/team");
    team.write("config/kiosk/etc/motd", "second\n");
    team.commit("while the team rests");
    let known = there.sql("select encode(rendered_digest, 'hex'), rendered_version, owner_fleet from devices");
    there.stop_service();
    assert_eq!(there.sql(STATE), seen);
    there.sql("drop schema desired cascade");
    there.start_service();
    there.wait_applied(&gone);
    eventually("the team's fleet to be back", || {
        (there.sql("select name, source, leaving from desired.fleets") == "kiosks|team|t").then_some(())
    });
    eventually("devices to be looked at", || {
        (there.sql("select count(*) from devices where dirty") == "0").then_some(())
    });
    assert_eq!(there.sql("select encode(rendered_digest, 'hex'), rendered_version, owner_fleet from devices"), known);
    there.repo.git(&["revert", "--no-edit", "HEAD"]);
    there.wait_applied(&there.repo.head());
    device.wait_file("/etc/motd", "second\n");
    assert_eq!(there.sql("select owner_fleet, rendered_version from devices"), "kiosks|2");
    // And away for good.
    there.repo.write("README.md", "x").remove("team.yaml");
    there.wait_applied(&there.repo.commit("no team"));
    there.sql("update tombstones set expires_at = now()");
    wait_gone(&there, "kiosks");
    eventually("the source to go", || (there.sql("select name from desired.sources") == "main").then_some(()));
    eventually("the device to be free", || {
        (there.sql("select owner_fleet is null, rendered_version from devices") == "t|2").then_some(())
    });
    assert_eq!(device.file("/etc/motd").as_deref(), Some("second\n"), "it keeps its last document");
}

#[test]
fn a_grace_outlives_a_dropped_schema_and_ends_when_it_should() {
    let (mut there, device) = start("{}", FILES);
    there.repo.remove("fleets/kiosks.yaml");
    let gone = there.repo.commit("no kiosks");
    there.wait_applied(&gone);
    let versions = "select rendered_version, encode(rendered_digest, 'hex') from devices";
    let (seen, until) = (there.sql(versions), there.sql("select expires_at from tombstones"));
    there.stop_service();
    there.sql("drop schema desired cascade");
    there.start_service();
    there.wait_applied(&gone);
    eventually("devices to be looked at", || {
        (there.sql("select count(*) from devices where dirty") == "0").then_some(())
    });
    assert_eq!(there.sql("select owner_fleet, render_error from devices"), "kiosks|");
    assert_eq!((there.sql(versions), there.sql("select expires_at from tombstones")), (seen.clone(), until));
    assert!(there.fleetctl_ok(&["get", "fleets"]).contains("Terminating"));
    there.sql("update tombstones set expires_at = now()");
    wait_gone(&there, "kiosks");
    eventually("the device to be free", || (there.sql("select owner_fleet is null from devices") == "t").then_some(()));
    assert_eq!(there.sql(versions), seen);
    assert_eq!(device.file("/etc/motd").as_deref(), Some("first\n"));
    there.repo.git(&["revert", "--no-edit", "HEAD"]);
    there.wait_applied(&there.repo.head());
    assert_eq!(there.sql("select owner_fleet from devices"), "kiosks");
    assert_eq!(there.sql(versions), seen, "the same content is no new version");
}

#[test]
fn a_service_killed_while_objects_leave_or_go_converges() {
    let (mut there, device) = start("{deletionGracePeriod: 1s}", FILES);
    let versions = "select rendered_version, encode(rendered_digest, 'hex') from devices";
    let seen = there.sql(versions);
    for round in 0..5_u64 {
        there.repo.remove("fleets/kiosks.yaml");
        let gone = there.repo.commit("no kiosks");
        // Another moment each time: before the commit is seen, while it is applied, and around the end of the grace.
        std::thread::sleep(Duration::from_millis(round * 300));
        there.kill_service();
        // What it had committed when it died may still be on its way.
        there.wait_disconnected();
        let applied = there.sql("select applied_commit from desired.sources") == gone;
        let (left, fleets) = (there.sql(LEFT), there.sql("select name, leaving from desired.fleets"));
        let owner = there.sql("select coalesce(owner_fleet, '-') from devices");
        let whole = match (applied, left.as_str(), fleets.as_str()) {
            (false, "", "kiosks|f") | (true, "Fleet/kiosks", "kiosks|t") => owner == "kiosks",
            (true, "", "") => owner == "-",
            _ => false,
        };
        assert!(whole, "round {round}: applied {applied}, tombstones {left:?}, fleets {fleets:?}, owner {owner}");
        there.start_service();
        there.wait_applied(&gone);
        wait_gone(&there, "kiosks");
        eventually("the device to be free", || {
            (there.sql("select owner_fleet is null from devices") == "t").then_some(())
        });
        let told = there.sql(&format!(
            "select count(*) from events where reason = 'ResourceDeleted' and message like '%{}%'",
            &gone[..12]
        ));
        assert_eq!(told, "1", "each end is told once");
        there.repo.git(&["revert", "--no-edit", "HEAD"]);
        there.wait_applied(&there.repo.head());
        assert_eq!(there.sql("select owner_fleet from devices"), "kiosks");
    }
    assert_eq!(there.sql(versions), seen, "no round was worth a version");
    assert_eq!(device.file("/etc/motd").as_deref(), Some("first\n"));
}
