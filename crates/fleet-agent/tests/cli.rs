//! The program's surface: help, version, status, and what it says when it cannot start.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-agent"));
    command.args(arguments).env_remove("FLEET_AGENT_ROOT").output().expect("the program was built with this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program prints UTF-8")
}

#[test]
fn help_shows_examples_and_every_command() {
    let help = text(&run(&["--help"]).stdout);
    for part in ["Examples:", "--once --deadline 120", "--root", "status", "version", "Exit status"] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    assert_eq!(text(&run(&["version"]).stdout), format!("fleet-agent {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn status_of_a_new_device_is_told_for_people_and_programs() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    let shown = run(&["status", "--root", root]);
    assert!(shown.status.success() && text(&shown.stdout).contains("Enrolled:  no"));
    let shown = run(&["status", "--output", "json", "--root", root]);
    let value: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&value["appliedVersion"], &value["device"]), (&"0".into(), &serde_json::Value::Null));
}

#[test]
fn a_missing_or_bad_configuration_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let failed = run(&["--root", path, "--once"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("/etc/fleet-agent/config.yaml"), "{}", text(&failed.stderr));
    std::fs::create_dir_all(root.path().join("etc/fleet-agent")).unwrap();
    std::fs::write(root.path().join("etc/fleet-agent/config.yaml"), "log-levle: x\n").unwrap();
    let told = text(&run(&["run", "--root", path]).stderr);
    assert!(told.contains("log-levle is not a known key") && told.contains("enrollment-service is missing"), "{told}");
    assert_eq!(run(&["--wrong"]).status.code(), Some(2));
}
