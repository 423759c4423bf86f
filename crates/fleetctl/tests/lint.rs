//! `fleetctl lint` on directories as people have them.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use fleet_runtime::SystemClock;
use fleetctl::{Io, Terminal};

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let code = fleetctl::run(std::iter::once("fleetctl").chain(args.iter().copied()).map(OsString::from), &mut io);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const GOOD: &str = "apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: pos
spec:
  selector:
    matchLabels:
      site: berlin
  template:
    spec:
      config:
      - name: motd
        inline:
        - path: /etc/motd
          content: hello
";

#[test]
fn a_good_repository_has_no_findings() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "fleets/pos.yaml", GOOD);
    write(dir.path(), "README.md", "not: [a, manifest");
    let (code, out, err) = run(&["lint", dir.path().to_str().unwrap()]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "checked 1 file: no findings\n", ""));
}

#[test]
fn findings_are_shown_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "fleets/pos.yaml", &GOOD.replace("selector", "selctor"));
    let (code, out, _) = run(&["lint", dir.path().to_str().unwrap()]);
    let out = out.replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!("finding", out);
    assert_eq!(code, 1);
}

#[test]
fn the_same_findings_come_as_json() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pos.yaml", &GOOD.replace("selector", "selctor"));
    let (code, out, _) = run(&["lint", "-o", "json", dir.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["files"], &report["errors"]),
        (&1.into(), &report["diagnostics"].as_array().unwrap().len().into())
    );
    let first = &report["diagnostics"][0];
    assert!(first["code"].as_str().unwrap().starts_with("SB"), "{first}");
    assert_eq!((first["severity"].as_str(), first["line"].as_u64()), (Some("error"), Some(6)));
}

#[test]
fn a_part_of_a_git_repository_is_checked_with_paths_from_its_root() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    write(dir.path(), "config/etc/motd", "hello");
    write(dir.path(), "broken.yaml", "kind: [");
    let with_config = GOOD.replace(
        "      config:\n",
        "      config:\n      - name: git\n        gitRef:\n          repository: \".\"\n          path: config\n",
    );
    write(dir.path(), "fleets/pos.yaml", &with_config);
    let (root, fleets) = (dir.path().to_str().unwrap(), dir.path().join("fleets"));
    let part = ["lint", "--root", root, fleets.to_str().unwrap()];
    let (code, out, err) = run(&part);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "checked 1 file: no findings\n", ""));
    // From the root the broken file counts too.
    assert_eq!(run(&["lint", root]).0, 1);
    // A path that is not there is found, counted from the root; without the root nobody can tell.
    fs::remove_dir_all(dir.path().join("config")).unwrap();
    let (code, out, _) = run(&part);
    assert_eq!(code, 1);
    assert!(out.contains("fleets/pos.yaml:"), "{out}");
    let (code, _, err) = run(&["lint", fleets.to_str().unwrap()]);
    assert!(code == 0 && err.contains("name the root with --root"), "{err}");
    let (code, _, err) = run(&["lint", "--root", fleets.to_str().unwrap(), root]);
    assert!(code == 2 && err.contains("does not lie in"), "{err}");
}

#[test]
fn single_files_can_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.yaml", GOOD);
    write(dir.path(), "b.yaml", "nonsense: true\n");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(run(&["lint", &path("a.yaml")]).0, 0);
    assert_eq!(run(&["lint", &path("a.yaml"), &path("b.yaml")]).0, 1);
}

#[test]
fn what_cannot_be_read_is_not_taken_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let (code, out, err) = run(&["lint", missing.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("cannot read") && err.contains("missing"), "{err}");
    let (_, out, _) = run(&["lint", dir.path().to_str().unwrap()]);
    assert!(out.contains("there is no manifest here"), "{out}");
}

#[test]
fn symbolic_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "evil.yaml", "kind: [");
    write(dir.path(), "pos.yaml", GOOD);
    std::os::unix::fs::symlink(outside.path(), dir.path().join("dir")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("evil.yaml"), dir.path().join("evil.yaml")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let (code, out, err) = run(&["lint", dir.path().to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (0, "checked 1 file: no findings\n"));
    assert_eq!(err, "note: evil.yaml is a symbolic link; it is not followed\n");
}

/// A pipe whose reader went away.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_ends_the_program_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pos.yaml", "kind: [");
    for args in [
        vec!["fleetctl", "lint", dir.path().to_str().unwrap()],
        vec!["fleetctl", "lint", "-o", "json", dir.path().to_str().unwrap()],
        vec!["fleetctl", "completion", "bash"],
        vec!["fleetctl", "version", "--client"],
        vec!["fleetctl", "--help"],
    ] {
        let mut err = Vec::new();
        let mut io = Io { out: &mut Closed, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
        fleetctl::run(args.iter().map(OsString::from), &mut io);
        assert_eq!(String::from_utf8(err).unwrap(), "", "{args:?}");
    }
}
