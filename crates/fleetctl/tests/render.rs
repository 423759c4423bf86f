//! `fleetctl render` on real repositories.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fleet_model::Digest;
use fleet_runtime::SystemClock;
use fleet_test::GitRepo;
use fleetctl::{Io, Terminal};

fn run(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let code = fleetctl::run(std::iter::once("fleetctl").chain(args.iter().copied()).map(OsString::from), &mut io);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn render(repo: &GitRepo, args: &[&str]) -> (u8, String, String) {
    let mut all = vec!["render", "--root", repo.path().to_str().unwrap()];
    all.extend(args);
    run(&all)
}

const FLEET: &str = "apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: kiosk
spec:
  selector:
    matchLabels:
      role: kiosk
  template:
    spec:
      os:
        image: quay.io/acme/kiosk:1.0
      config:
      - name: motd
        inline:
        - path: /etc/motd
          content: hello {{ .metadata.labels.site }}
          mode: 0640
          user: kiosk
      - name: files
        gitRef:
          repository: .
          path: config/kiosk
";

fn device(name: &str, labels: &str, rest: &str) -> String {
    format!("apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\n{rest}")
}

/// A fleet with two devices and one of its own.
fn repository() -> GitRepo {
    let repo = GitRepo::init();
    repo.write("fleets/kiosk.yaml", FLEET);
    repo.write("config/kiosk/usr/local/bin/run", "#!/bin/sh\n");
    let runnable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(repo.path().join("config/kiosk/usr/local/bin/run"), runnable).unwrap();
    repo.write("devices/one.yaml", device("one0000000000000", "role: kiosk, site: berlin", ""));
    repo.write("devices/two.yaml", device("duo0000000000000", "role: kiosk, site: paris", ""));
    let own = "spec:\n  config:\n  - name: c\n    inline:\n    - path: /etc/own\n      content: '{{ text }}'\n";
    repo.write("devices/own.yaml", device("solo000000000000", "role: other", own));
    repo.commit("one");
    repo
}

#[test]
fn one_device_gives_exactly_the_bytes_that_its_digest_is_of() {
    let repo = repository();
    let (code, json, err) = render(&repo, &["one0000000000000", "-o", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let body = json.strip_suffix('\n').unwrap();
    assert!(body.starts_with('{') && !body.contains('\n'));
    let (_, yaml, _) = render(&repo, &["one0000000000000"]);
    let digest = yaml.lines().find_map(|line| line.strip_prefix("# digest:   ")).unwrap();
    assert_eq!(Digest::of(body.as_bytes()).hex(), digest);
    assert!(yaml.starts_with("# device:   one0000000000000\n# fleet:    kiosk\n# from:     fleets/kiosk.yaml:1 (Fleet kiosk)\n# revision: r-"), "{yaml}");
    let same: (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(body).unwrap(), serde_yaml::from_str(&yaml).unwrap());
    assert_eq!(same.0, same.1);
    assert_eq!(same.0["os"]["image"], "quay.io/acme/kiosk:1.0");
}

#[test]
fn all_devices_come_one_per_line_with_the_same_bytes() {
    let repo = repository();
    let (code, out, err) = render(&repo, &["-o", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let mut names = Vec::new();
    for line in out.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = value["device"].as_str().unwrap().to_owned();
        let (_, alone, _) = render(&repo, &[&name, "-o", "json"]);
        assert!(line.ends_with(&format!("\"spec\":{}}}", alone.trim_end())), "{line}");
        assert_eq!(value["digest"].as_str().unwrap(), Digest::of(alone.trim_end().as_bytes()).hex());
        names.push((name, value["fleet"].as_str().map(str::to_owned)));
    }
    let fleet = Some("kiosk".to_owned());
    assert_eq!(
        names,
        [
            ("duo0000000000000".to_owned(), fleet.clone()),
            ("one0000000000000".to_owned(), fleet),
            ("solo000000000000".to_owned(), None)
        ]
    );
    let (_, out, _) = render(&repo, &["-o", "json", "-l", "site in (paris,rome)"]);
    assert!(out.lines().count() == 1 && out.contains("\"duo0000000000000\""), "{out}");
}

#[test]
fn files_lie_as_on_the_device() {
    let repo = repository();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().to_str().unwrap();
    let (code, out, err) = render(&repo, &["-o", "files", "--out", to]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("wrote 5 files of 3 devices below "), "{out}");
    let read = |path: &str| std::fs::read_to_string(target.path().join(path)).unwrap();
    let mode = |path: &str| std::fs::metadata(target.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (read("duo0000000000000/root/etc/motd").as_str(), mode("duo0000000000000/root/etc/motd")),
        ("hello paris", 0o640)
    );
    assert_eq!(
        (read("one0000000000000/root/usr/local/bin/run").as_str(), mode("one0000000000000/root/usr/local/bin/run")),
        ("#!/bin/sh\n", 0o755)
    );
    assert_eq!(read("solo000000000000/root/etc/own"), "{{ text }}");
    assert!(read("one0000000000000/spec.yaml").contains("image: quay.io/acme/kiosk:1.0"));
    assert!(
        read("one0000000000000/files.txt").contains("0640 kiosk:root 12 "),
        "{}",
        read("one0000000000000/files.txt")
    );
    assert!(!Path::new(to).join(".rendering").exists());
    // A second run needs --force, and leaves nothing of the first.
    repo.remove("config/kiosk/usr/local/bin/run").write("config/kiosk/etc/new", "x");
    let (code, _, err) = render(&repo, &["-o", "files", "--out", to]);
    assert!(code == 2 && err.contains("is not empty") && err.contains("--force"), "{err}");
    std::fs::create_dir(target.path().join("mine")).unwrap();
    assert_eq!(render(&repo, &["-o", "files", "--out", to, "--force"]).0, 0);
    assert_eq!(read("one0000000000000/root/etc/new"), "x");
    assert!(!target.path().join("one0000000000000/root/usr").exists() && target.path().join("mine").exists());
}

#[test]
fn a_link_that_takes_the_place_of_a_device_is_not_followed() {
    let repo = repository();
    let (target, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(elsewhere.path(), target.path().join("one0000000000000")).unwrap();
    let (code, _, err) = render(&repo, &["-o", "files", "--out", target.path().to_str().unwrap(), "--force"]);
    assert!(code == 2 && err.contains("is in the way"), "{err}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_device_that_cannot_be_rendered_is_named_and_the_others_are_rendered() {
    let repo = repository();
    repo.write("devices/bad.yaml", device("bad0000000000000", "role: kiosk", ""));
    repo.write("devices/lost.yaml", device("lost000000000000", "role: lost", ""));
    repo.write(
        "fleets/second.yaml",
        FLEET.replace("name: kiosk", "name: second").replace("role: kiosk", "site: paris"),
    );
    let (code, out, err) = render(&repo, &["-o", "json"]);
    assert_eq!(code, 1);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(err.contains("error: device bad0000000000000: fleets/kiosk.yaml:1 (Fleet kiosk): config provider \"motd\" (/config/0/inline/0/content)"), "{err}");
    assert!(err.contains("site"), "{err}");
    assert!(err.contains("error: device lost000000000000: no fleet selects it"), "{err}");
    assert!(err.contains("error: device duo0000000000000: several fleets select this device: kiosk, second"), "{err}");
}

#[test]
fn a_revision_is_rendered_and_not_the_checkout() {
    let repo = repository();
    let before = render(&repo, &["one0000000000000", "-o", "json"]).1;
    repo.write("fleets/kiosk.yaml", FLEET.replace("hello", "good morning"));
    assert_ne!(render(&repo, &["one0000000000000", "-o", "json"]).1, before);
    assert_eq!(render(&repo, &["one0000000000000", "-o", "json", "--rev", "main"]).1, before);
    let below = repo.path().join("devices");
    let (code, out, err) =
        run(&["render", "--root", below.to_str().unwrap(), "--rev", "HEAD", "-o", "json", "solo000000000000"]);
    assert_eq!((code, out), (0, render(&repo, &["solo000000000000", "-o", "json"]).1), "{err}");
    let (code, _, err) = render(&repo, &["--rev", "release"]);
    assert!(code == 2 && err.contains("no revision \"release\"; name a branch"), "{err}");
}

#[test]
fn a_device_that_is_only_thought_of_may_have_any_name() {
    let repo = repository();
    let (code, out, err) = render(&repo, &["new-kiosk", "--label", "role=kiosk", "--label", "site=rome"]);
    assert!(code == 0 && out.contains("device:   new-kiosk") && out.contains("fleet:    kiosk"), "{out}{err}");
    let (code, _, err) = render(&repo, &["New Kiosk", "--label", "role=kiosk"]);
    assert!(code == 2 && err.contains("not a key fingerprint"), "{err}");
}

#[test]
fn a_device_without_a_manifest_needs_labels() {
    let repo = repository();
    let (code, out, err) =
        render(&repo, &["neu0000000000000", "--label", "role=kiosk", "--label", "site=rome", "-o", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("aGVsbG8gcm9tZQ==") || out.contains("hello rome"), "{out}");
    let (code, _, err) = render(&repo, &["neu0000000000000"]);
    assert!(
        code == 2 && err.contains("there is no Device manifest \"neu0000000000000\"") && err.contains("--label"),
        "{err}"
    );
    // A beginning is enough where it means one device.
    assert_eq!(render(&repo, &["one000", "-o", "json"]).1, render(&repo, &["one0000000000000", "-o", "json"]).1);
    let (code, _, err) = render(&repo, &["one"]);
    assert!(code == 2 && err.contains("at least 6 characters"), "{err}");
    // What the manifest says wins over what was given at enrolment.
    let (_, out, _) = render(&repo, &["one0000000000000", "--label", "site=rome", "-o", "json"]);
    assert_eq!(out, render(&repo, &["one0000000000000", "-o", "json"]).1);
}

#[test]
fn errors_of_lint_come_first_and_nothing_is_rendered() {
    let repo = repository();
    repo.write("fleets/bad.yaml", FLEET.replace("selector", "selctor").replace("name: kiosk", "name: bad"));
    let (code, out, err) = render(&repo, &["-o", "json"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("fleets/bad.yaml:6:3") && err.starts_with("error[SB"), "{err}");
    repo.remove("fleets/bad.yaml").remove("config/kiosk/usr").write("config/kiosk/.keep", "");
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("config/kiosk/link")).unwrap();
    let (code, out, err) = render(&repo, &["-o", "json"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("SB0601") && err.contains("link is a symbolic link or a submodule"), "{err}");
}

#[test]
fn files_of_other_repositories_come_from_local_clones() {
    let repo = repository();
    let other = GitRepo::init();
    other.write("etc/other.conf", "first").commit("one");
    other.git(&["tag", "v1"]);
    other.write("etc/other.conf", "second").commit("two");
    let git_ref = "repository: configs\n          targetRevision: main\n          path: /";
    repo.write("fleets/kiosk.yaml", FLEET.replace("repository: .\n          path: config/kiosk", git_ref));
    repo.write(
        "repo.yaml",
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata:\n  name: configs\nspec:\n  type: git\n  url: https://git.example.com/c.git\n",
    );
    let (code, _, err) = render(&repo, &["one0000000000000"]);
    assert!(code == 1 && err.contains("name one: --repository configs=DIR"), "{err}");
    let clone = format!("configs={}", other.path().display());
    let (code, out, err) = render(&repo, &["one0000000000000", "--repository", &clone, "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("second") || out.contains("c2Vjb25k"), "{out}");
    let (_, out, _) = render(&repo, &["one0000000000000", "--repository", &format!("{clone}@v1"), "-o", "json"]);
    assert!(out.contains("first") || out.contains("Zmlyc3Q="), "{out}");
    let (code, _, err) = render(&repo, &["one0000000000000", "--repository", &format!("{clone}@v9")]);
    assert!(code == 2 && err.contains("v9"), "{err}");
}

#[test]
fn a_directory_outside_git_can_be_rendered_too() {
    let repo = repository();
    let plain = tempfile::tempdir().unwrap();
    for path in ["fleets/kiosk.yaml", "devices/one.yaml", "config/kiosk/usr/local/bin/run"] {
        std::fs::create_dir_all(plain.path().join(path).parent().unwrap()).unwrap();
        std::fs::copy(repo.path().join(path), plain.path().join(path)).unwrap();
    }
    let (code, out, err) = run(&["render", "--root", plain.path().to_str().unwrap(), "one0000000000000", "-o", "json"]);
    assert_eq!((code, out), (0, render(&repo, &["one0000000000000", "-o", "json"]).1), "{err}");
}
