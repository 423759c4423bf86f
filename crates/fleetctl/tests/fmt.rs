//! `fleetctl fmt` on directories as people have them.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

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

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

const UGLY: &str = "# pos
apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
    name:   pos
spec:
    selector:
        matchLabels: { site: berlin }
    template:
        spec:
            config:
            - name: git
              gitRef:
                  repository: \".\"
                  path: config
";
const NICE: &str = "# pos
apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: pos
spec:
  selector:
    matchLabels: {site: berlin}
  template:
    spec:
      config:
        - name: git
          gitRef:
            repository: \".\"
            path: config
";

#[test]
fn manifests_are_laid_out_and_nothing_else_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir(root.join(".git")).unwrap();
    write(root, "fleets/pos.yaml", UGLY);
    write(root, "fleets/nice.yaml", &NICE.replace("pos", "nice"));
    write(root, "config/etc/app.yaml", "a:   1\n");
    write(root, "charts/values.yaml", "a:   1\n");
    write(root, ".fleetlint.yaml", "exclude:   [\"charts/**\"]\n");
    write(root, "devices/a.json", "{ \"a\":  1 }");
    write(root, "README.md", "a:   1\n");
    fs::set_permissions(root.join("fleets/pos.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    let inode = fs::metadata(root.join("fleets/nice.yaml")).unwrap().ino();
    let shown = root.to_str().unwrap();

    let (code, out, err) = run(&["fmt", "--check", shown]);
    assert_eq!((code, out), (1, format!("{shown}/fleets/pos.yaml\n")), "{err}");
    assert_eq!(read(root, "fleets/pos.yaml"), UGLY);
    let (code, out, _) = run(&["fmt", "--diff", shown]);
    assert!(code == 1 && out.contains("\n-    name:   pos\n") && out.contains("\n+  name: pos\n"), "{out}");
    assert_eq!(read(root, "fleets/pos.yaml"), UGLY);

    let (code, out, err) = run(&["fmt", shown]);
    assert_eq!((code, out, err.as_str()), (0, format!("{shown}/fleets/pos.yaml\n"), "2 files: 1 changed\n"));
    assert_eq!(read(root, "fleets/pos.yaml"), NICE);
    assert_eq!(fs::metadata(root.join("fleets/pos.yaml")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(
        fs::metadata(root.join("fleets/nice.yaml")).unwrap().ino(),
        inode,
        "a file without a change is not written"
    );
    for same in ["config/etc/app.yaml", "charts/values.yaml", "README.md"] {
        assert_eq!(read(root, same), "a:   1\n", "{same}");
    }
    assert_eq!(fs::read_dir(root.join("fleets")).unwrap().count(), 2, "nothing is left behind");
    let (code, out, err) = run(&["fmt", "--check", shown]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "2 files: nothing to change\n"));
}

#[test]
fn a_part_or_a_file_knows_its_repository() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir(root.join(".git")).unwrap();
    write(root, "fleets/pos.yaml", UGLY);
    write(root, "fleets/other.yaml", &UGLY.replace("pos", "other"));
    write(root, "config/etc/app.yaml", "a:   1\n");
    let path = |path: &str| root.join(path).to_str().unwrap().to_owned();
    let (code, out, err) = run(&["fmt", &path("config")]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "0 files: nothing to change\n"));
    let (code, _, err) = run(&["fmt", &path("config/etc/app.yaml")]);
    assert!(code == 0 && err.contains("is content that a gitRef takes; it is left alone"), "{err}");
    assert_eq!(read(root, "config/etc/app.yaml"), "a:   1\n");
    let both = [path("fleets/pos.yaml"), path("fleets")];
    let (code, out, _) = run(&["fmt", &both[0], &both[1]]);
    assert_eq!((code, out.lines().count()), (0, 2), "each once: {out}");
    assert_eq!(read(root, "fleets/pos.yaml"), NICE);
    let (code, _, err) = run(&["fmt", &path("fleets/none.yaml")]);
    assert!(code == 2 && err.contains("cannot read") && err.contains("none.yaml"), "{err}");
}

#[test]
fn a_file_that_cannot_be_laid_out_is_named_and_the_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(root, "a.yaml", "kind: Fleet\nspec: [\n");
    write(root, "b.yaml", "kind: Fleet\n? |\n  odd\n: 1\n");
    write(root, "c.yaml", "kind:   Fleet\n");
    write(root, "d.yaml", "perhaps:   content\n");
    let (code, out, err) = run(&["fmt", root.to_str().unwrap()]);
    assert_eq!(code, 2, "{err}");
    assert!(out.ends_with("c.yaml\n") && out.lines().count() == 1, "{out}");
    assert!(err.contains("a.yaml: line ") && err.contains("b.yaml") && err.contains("could not be laid out"), "{err}");
    assert_eq!(
        (read(root, "c.yaml"), read(root, "d.yaml")),
        ("kind: Fleet\n".to_owned(), "perhaps:   content\n".to_owned())
    );
    assert_eq!(read(root, "a.yaml"), "kind: Fleet\nspec: [\n");
}

#[test]
fn symbolic_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "x.yaml", "kind:   Fleet\n");
    std::os::unix::fs::symlink(outside.path().join("x.yaml"), dir.path().join("link.yaml")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("dir")).unwrap();
    let link = dir.path().join("link.yaml");
    for path in [dir.path(), &link] {
        let (code, out, err) = run(&["fmt", path.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        assert!(err.contains("link"), "{err}");
    }
    assert_eq!(read(outside.path(), "x.yaml"), "kind:   Fleet\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

fn piped(args: &[&str], text: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
    let mut child =
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn standard_input_becomes_standard_output() {
    assert_eq!(piped(&["fmt", "-"], UGLY), (Some(0), NICE.to_owned()));
    assert_eq!(piped(&["fmt", "--check", "-"], UGLY), (Some(1), String::new()));
    assert_eq!(piped(&["fmt", "--check", "-"], NICE), (Some(0), String::new()));
    assert_eq!(piped(&["fmt", "-"], "a: ["), (Some(2), String::new()));
    assert_eq!(run(&["fmt", "-", "a.yaml"]).0, 2);
}

#[test]
fn the_example_repository_has_the_layout() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../example-fleet-repo");
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-R").arg(example.join(".")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let (code, out, err) = run(&["fmt", "--check", copy.path().to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
}
