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
fn a_file_that_no_device_can_have_is_one_finding() {
    let dir = tempfile::tempdir().unwrap();
    let files = "gitRef:\n          repository: .\n          path: config";
    let from = "inline:\n        - path: /etc/motd\n          content: hello";
    write(dir.path(), "fleets/pos.yaml", &GOOD.replace(from, files));
    write(dir.path(), "config/var/lib/flightctl/x", "x");
    let (code, out, _) = run(&["lint", "-o", "github", dir.path().to_str().unwrap()]);
    assert_eq!((code, out.matches("::error").count()), (1, 1), "{out}");
    assert!(out.contains("SB0509"), "{out}");
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
    let path = dir.path().to_str().unwrap();
    for args in [
        vec!["fleetctl", "lint", path],
        vec!["fleetctl", "lint", "-o", "json", path],
        vec!["fleetctl", "lint", "-o", "sarif", path],
        vec!["fleetctl", "lint", "-o", "github", path],
        vec!["fleetctl", "lint", "-o", "gitlab", path],
        vec!["fleetctl", "lint", "-o", "junit", path],
        vec!["fleetctl", "explain"],
        vec!["fleetctl", "explain", "SB0103"],
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

#[test]
fn warnings_are_negative_only_when_strict() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    write(dir.path(), "pos.yaml", &GOOD.replace("content: hello", "content: hello\n          mode: 644"));
    assert_eq!(run(&["lint", path]).0, 0);
    assert_eq!(run(&["lint", "--strict", path]).0, 1);
    write(dir.path(), ".fleetlint.yaml", "severity:\n  SB0418: error\n");
    assert_eq!(run(&["lint", path]).0, 1);
    assert_eq!(run(&["lint", "--no-lint-config", path]).0, 0);
}

#[test]
fn the_configuration_of_the_repository_is_heeded_and_another_can_be_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    let path = dir.path().to_str().unwrap();
    let pos = dir.path().join("fleets/pos.yaml");
    write(dir.path(), "fleets/pos.yaml", GOOD);
    write(dir.path(), "values/app.yaml", "colour: red\n");
    assert_eq!(run(&["lint", path]).0, 1);
    write(dir.path(), ".fleetlint.yaml", "exclude: [/values]\n");
    let (code, out, _) = run(&["lint", path]);
    assert_eq!((code, out.as_str()), (0, "checked 1 file: no findings\n"));
    // Also of files that are named one by one, wherever they are named from.
    let app = dir.path().join("values/app.yaml");
    assert_eq!(run(&["lint", app.to_str().unwrap()]).0, 0);
    assert_eq!(run(&["lint", "--no-lint-config", app.to_str().unwrap()]).0, 1);
    write(dir.path(), "other.yml.txt", "severty: {}\n");
    let other = dir.path().join("other.yml.txt");
    let (code, out, _) = run(&["lint", "--lint-config", other.to_str().unwrap(), pos.to_str().unwrap()]);
    assert!(code == 1 && out.contains("other.yml.txt:1:1") && out.contains("severity"), "{out}");
    let (code, _, err) = run(&["lint", "--lint-config", "/nowhere.yaml", path]);
    assert!(code == 2 && err.contains("/nowhere.yaml"), "{err}");
}

#[test]
fn many_findings_do_not_flood_people_and_errors_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let files: String = (0..300).map(|n| format!("        - {{path: /etc/{n}, content: x, mode: 644}}\n")).collect();
    let text = GOOD.replace("        - path: /etc/motd\n          content: hello\n", &files) + "extra: 1\n";
    write(dir.path(), "pos.yaml", &text);
    let path = dir.path().to_str().unwrap();
    let shown = |args: &[&str]| run(args).1.matches("[SB").count();
    let (code, out, _) = run(&["lint", path]);
    assert_eq!((code, out.matches("[SB").count()), (1, 200));
    assert!(out.contains("… and 101 more; --max 0 shows all") && out.contains("1 error, 300 warnings"), "{out}");
    assert!(out.contains("error[SB0301]"), "{out}");
    assert_eq!(shown(&["lint", "--max", "0", path]), 301);
    assert_eq!(shown(&["lint", "--max", "3", path]), 3);
    let json = |args: &[&str]| serde_json::from_str::<serde_json::Value>(&run(args).1).unwrap();
    assert_eq!(json(&["lint", "-o", "json", path])["diagnostics"].as_array().unwrap().len(), 301);
    let few = json(&["lint", "-o", "json", "--max", "1", path]);
    assert_eq!((few["diagnostics"].as_array().unwrap().len(), few["warnings"].as_u64()), (1, Some(300)));
}

#[test]
fn a_revision_is_checked_instead_of_the_files_on_disk() {
    let repo = fleet_test::GitRepo::init();
    repo.write("fleets/pos.yaml", GOOD).commit("good");
    write(repo.path(), "fleets/pos.yaml", "kind: [");
    let path = repo.path().to_str().unwrap();
    assert_eq!(run(&["lint", path]).0, 1);
    let (code, out, err) = run(&["lint", "--rev", "HEAD", path]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "checked 1 file: no findings\n", ""));
    let (code, _, err) = run(&["lint", "--rev", "nonsense", path]);
    assert!(code == 2 && err.contains("nonsense"), "{err}");
}

/// Runs the program itself, with something to read.
fn pipe(args: &[&str], input: &str) -> (i32, String) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn standard_input_is_one_document_under_the_name_that_is_given() {
    assert_eq!(pipe(&["lint", "-"], GOOD), (0, "checked 1 file: no findings\n".to_owned()));
    let (code, out) = pipe(&["lint", "-", "--stdin-path", "fleets/new.yaml"], &GOOD.replace("selector", "selctor"));
    assert!(code == 1 && out.contains("--> fleets/new.yaml:6:3"), "{out}");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    write(dir.path(), ".fleetlint.yaml", "exclude: [/values]\n");
    write(dir.path(), "values/here", "");
    let draft = dir.path().join("values/draft.yaml");
    assert_eq!(pipe(&["lint", "-", "--stdin-path", draft.to_str().unwrap()], "colour: red\n").0, 0);
    assert_eq!(run(&["lint", "-", "."]).0, 2);
}

#[test]
fn colours_come_when_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pos.yaml", "kind: [");
    let path = dir.path().to_str().unwrap();
    assert!(!run(&["lint", path]).1.contains('\u{1b}'));
    assert!(run(&["lint", "--color", "always", path]).1.contains('\u{1b}'));
    assert!(run(&["--color=always", "explain", "SB0103"]).1.contains('\u{1b}'));
}

#[test]
fn codes_are_explained() {
    insta::assert_snapshot!("explain", run(&["explain", "sb0103"]).1);
    let (code, out, _) = run(&["explain"]);
    assert!(code == 0 && out.lines().count() > 70 && out.contains("SB0103  error     a key is given twice"), "{out}");
    let (code, out, err) = run(&["explain", "SB0013"]);
    assert!(code == 2 && out.is_empty() && err.contains("did you mean SB0003"), "{err}");
    let pages: serde_json::Value = serde_json::from_str(&run(&["explain", "-o", "json", "103", "SB0301"]).1).unwrap();
    assert_eq!((&pages[0]["code"], &pages[1]["severity"]), (&"SB0103".into(), &"error".into()));
    assert!(pages[1]["page"].as_str().unwrap().starts_with("# SB0301: "));
}
