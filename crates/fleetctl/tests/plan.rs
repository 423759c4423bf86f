//! `fleetctl plan` on real repositories.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::ffi::OsString;

use fleet_runtime::SystemClock;
use fleet_test::GitRepo;
use fleetctl::{Io, Terminal};
use serde_json::Value;

fn run(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let code = fleetctl::run(std::iter::once("fleetctl").chain(args.iter().copied()).map(OsString::from), &mut io);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn plan(repo: &GitRepo, args: &[&str]) -> (u8, String, String) {
    let mut all = vec!["plan", "--root", repo.path().to_str().unwrap()];
    all.extend(args);
    run(&all)
}

fn json(repo: &GitRepo, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["-o", "json"]);
    let (code, out, err) = plan(repo, &all);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
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
          content: |
            welcome
            to {{ .metadata.labels.site }}
      - name: files
        gitRef:
          repository: .
          path: config/kiosk
";

/// The name is filled up with zeros: device names are fingerprints of keys.
fn device(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {name:0<16}\n  labels: {{role: kiosk, {labels}}}\n"
    )
}

/// A fleet with four devices, two of which have the same document.
fn repository() -> GitRepo {
    let repo = GitRepo::init();
    repo.write("fleets/kiosk.yaml", FLEET).write("config/kiosk/etc/kiosk.conf", "a=1\nb=2\nc=3\n");
    for (name, labels) in
        [("b1", "site: berlin"), ("b2", "site: berlin"), ("p1", "site: paris"), ("r1", "site: rome, stage: old")]
    {
        repo.write(&format!("devices/{name}.yaml"), device(name, labels));
    }
    repo.commit("one");
    repo
}

/// A change of all kinds, as a pull request would have them.
fn changed() -> GitRepo {
    let repo = repository();
    repo.branch("change");
    repo.write(
        "fleets/kiosk.yaml",
        FLEET.replace("welcome\n", "good morning, welcome\n").replace("kiosk:1.0", "kiosk:1.1"),
    );
    repo.write("config/kiosk/etc/kiosk.conf", "a=1\nb=3\nc=3\n").write("config/kiosk/etc/logo.png", b"\x89PNG\0\xff");
    repo.git(&["mv", "devices/b2.yaml", "devices/second.yaml"]);
    repo.remove("devices/r1.yaml").write("devices/n1.yaml", device("n1", "stage: new"));
    repo.commit("two");
    repo
}

fn stable(repo: &GitRepo, text: &str) -> String {
    text.replace(repo.path().to_str().unwrap(), "REPO")
}

#[test]
fn a_change_is_shown_to_people() {
    let repo = changed();
    let (code, out, err) = plan(&repo, &["main..change"]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!("human", stable(&repo, &out));
}

#[test]
fn a_change_is_shown_as_a_comment() {
    let repo = changed();
    let (code, out, err) = plan(&repo, &["main..change", "-o", "markdown"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("<!-- fleetctl-plan -->\n"));
    insta::assert_snapshot!("markdown", stable(&repo, &out));
}

#[test]
fn a_change_comes_as_json() {
    let repo = changed();
    insta::assert_snapshot!("json", format!("{:#}", json(&repo, &["main..change"])));
}

#[test]
fn a_rename_is_a_move_and_changes_no_device() {
    let repo = repository();
    repo.git(&["mv", "fleets", "teams"]);
    repo.git(&["mv", "config", "content"]);
    repo.write("teams/kiosk.yaml", FLEET.replace("config/kiosk", "content/kiosk"));
    repo.git(&["mv", "devices/b1.yaml", "b1.yaml"]);
    repo.commit("moved");
    let report = json(&repo, &["HEAD~1..HEAD"]);
    assert_eq!(
        report["plan"]["summary"]["objects"],
        serde_json::json!({"added": 0, "changed": 1, "moved": 1, "removed": 0})
    );
    assert_eq!(report["plan"]["summary"]["devices"]["changed"], 0);
    assert_eq!(report["plan"]["summary"]["devices"]["unchanged"], 4);
    let moved =
        report["plan"]["objects"].as_array().unwrap().iter().find(|object| object["change"] == "moved").unwrap();
    assert_eq!(
        (&moved["name"], &moved["file"], &moved["previous"]["file"]),
        (&"b100000000000000".into(), &"b1.yaml".into(), &"devices/b1.yaml".into())
    );
    let (_, out, _) = plan(&repo, &["HEAD~1..HEAD"]);
    assert!(out.contains("  > Device b100000000000000  b1.yaml:1 (was devices/b1.yaml:1)\n"), "{out}");
}

#[test]
fn a_change_that_alters_no_document_changes_no_device() {
    let repo = repository();
    let commented = FLEET
        .replace("kind: Fleet\n", "kind: Fleet # a comment\n")
        .replace("  name: kiosk\n", "  labels: {team: a}\n  name: kiosk\n");
    repo.write("fleets/kiosk.yaml", commented);
    repo.write("README.md", "x").commit("words");
    let report = json(&repo, &["HEAD~1.."]);
    assert_eq!(report["plan"]["summary"]["objects"]["changed"], 1);
    assert_eq!(
        report["plan"]["summary"]["devices"],
        serde_json::json!({
            "total": 4, "changed": 0, "unchanged": 4, "waiting": 0, "unmanaged": 0, "new": 0, "removed": 0,
        })
    );
    assert_eq!(report["plan"]["groups"], serde_json::json!([]));
}

#[test]
fn equal_changes_have_equal_digests_wherever_they_are_committed() {
    let repo = changed();
    let digest = |args: &[&str]| json(&repo, args)["plan"]["digest"].as_str().unwrap().to_owned();
    let before = digest(&["main..change"]);
    repo.git(&["commit", "--quiet", "--amend", "-m", "other words"]);
    assert_eq!(digest(&["main..change"]), before);
    assert_eq!(digest(&["main.."]), before, "the checkout is that commit");
    repo.write("fleets/kiosk.yaml", FLEET);
    assert_ne!(digest(&["main.."]), before);
}

#[test]
fn without_revisions_the_checkout_is_compared_with_where_it_left_origin() {
    let repo = changed();
    let (code, _, err) = plan(&repo, &[]);
    assert!(code == 2 && err.contains("no remote named origin; name what to compare with: HEAD.."), "{err}");
    let bare = repo.bare_clone();
    repo.switch("main").git(&["remote", "add", "origin", &bare.url()]);
    // The branch of origin goes on without the change.
    repo.write("devices/c1.yaml", device("c1", "site: xen")).commit("elsewhere");
    repo.push(&bare, "main", false);
    repo.git(&["fetch", "--quiet", "origin"]);
    repo.switch("change").write("devices/d1.yaml", device("d1", "site: yard"));
    let report = json(&repo, &[]);
    assert_eq!(report["base"], repo.git(&["merge-base", "main", "change"]));
    assert_eq!(report["head"], Value::Null);
    let names: Vec<&str> =
        report["plan"]["objects"].as_array().unwrap().iter().map(|object| object["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"d100000000000000") && !names.contains(&"c100000000000000"), "{names:?}");
    assert_eq!(json(&repo, &["origin/main...change"])["base"], report["base"]);
    let (_, out, _) = plan(&repo, &[]);
    assert!(out.starts_with("Plan: merge base with origin/"), "{out}");
}

#[test]
fn a_base_that_is_not_there_says_what_to_fetch() {
    let repo = repository();
    let (code, out, err) = plan(&repo, &["origin/main..HEAD"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("no revision \"origin/main\"; name a branch"), "{err}");
    repo.git(&["remote", "add", "origin", &repo.url()]);
    let (_, _, err) = plan(&repo, &["origin/main..HEAD"]);
    assert!(err.contains("fetch it: git fetch origin +main:refs/remotes/origin/main"), "{err}");
    let clone = repo.scratch().join("shallow");
    repo.commit("two");
    repo.git(&["clone", "--quiet", "--depth=1", &repo.url(), clone.to_str().unwrap()]);
    let (code, _, err) = run(&["plan", "--root", clone.to_str().unwrap(), "HEAD~1..HEAD"]);
    assert!(code == 2 && err.contains("fetch-depth: 0"), "{err}");
    let (code, _, err) = plan(&repo, &["main"]);
    assert!(code == 2 && err.contains("write BASE..HEAD"), "{err}");
    let nowhere = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&["plan", "--root", nowhere.path().to_str().unwrap()]);
    assert!(code == 2 && err.contains("does not lie in a Git repository"), "{err}");
}

#[test]
fn errors_of_the_change_come_first() {
    let repo = repository();
    repo.write("fleets/kiosk.yaml", FLEET.replace("selector", "selctor"));
    let (code, out, err) = plan(&repo, &["HEAD.."]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("fleets/kiosk.yaml:6:3"), "{err}");
    // What is in force may have errors; the change that mends it is still shown.
    repo.commit("bad");
    repo.write("fleets/kiosk.yaml", FLEET);
    let (code, out, _) = plan(&repo, &["HEAD.."]);
    assert!(code == 0 && out.contains("has errors, so the service does not apply it"), "{out}");
}

#[test]
fn the_severities_of_the_base_count_and_not_those_of_the_change() {
    let repo = repository();
    let wrong = FLEET
        .replace("repository: .", "repository: confgs")
        .replace("path: config/kiosk", "path: /\n          targetRevision: main");
    let repository = "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata:\n  name: configs\nspec:\n  type: git\n  url: https://git.example.com/c.git\n";
    repo.write("repo.yaml", repository).commit("two");
    repo.write("fleets/kiosk.yaml", wrong).write(".fleetlint.yaml", "rules:\n  SB0506: off\n");
    let (code, _, err) = plan(&repo, &["HEAD.."]);
    assert!(code == 1 && err.contains("confgs"), "{err}");
}

#[test]
fn a_sub_directory_is_a_source_of_its_own() {
    let repo = repository();
    repo.write("other/broken.yaml", "kind: [").write("devices/n1.yaml", device("n1", "site: oslo")).commit("two");
    let (code, _, err) = plan(&repo, &["HEAD~1..HEAD"]);
    assert!(code == 1 && err.contains("other/broken.yaml"), "{err}");
    let report = json(&repo, &["HEAD~1..HEAD", "--path", "devices"]);
    assert_eq!((&report["path"], &report["plan"]["summary"]["objects"]["added"]), (&"devices".into(), &1.into()));
    let (_, out, _) = plan(&repo, &["HEAD~1..HEAD", "--path", "devices", "-o", "markdown"]);
    assert!(out.starts_with("<!-- fleetctl-plan devices -->\n"), "{out}");
    // A source whose directory is new.
    repo.write("new/a.yaml", device("a", "site: a")).commit("three");
    let (code, out, _) = plan(&repo, &["HEAD~1..HEAD", "--path", "new"]);
    assert!(code == 0 && out.contains("everything is new"), "{out}");
    let (code, _, err) = plan(&repo, &["HEAD~1..HEAD", "--path", "nowhere"]);
    assert!(code == 2 && err.contains("has no path \"nowhere\""), "{err}");
}

#[test]
fn a_change_that_goes_too_far_fails_when_that_is_asked_for() {
    let repo = repository();
    for name in ["f1", "f2", "f3"] {
        repo.write(
            &format!("fleets/{name}.yaml"),
            FLEET.replace("name: kiosk", &format!("name: {name}")).replace("role: kiosk", &format!("role: {name}")),
        );
    }
    repo.commit("fleets");
    repo.remove("fleets/f1.yaml").remove("fleets/f2.yaml");
    let (code, out, _) = plan(&repo, &["HEAD..", "--fail-on-limits"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("fleets removed: 2 of 4, allowed: 1") && out.contains("would have to wait for a person"),
        "{out}"
    );
    assert_eq!(plan(&repo, &["HEAD.."]).0, 0);
    // The policy of the base counts: a change cannot permit itself.
    let policy = "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata:\n  name: p\nspec:\n  limits:\n    removedFleets:\n      count: 3\n";
    repo.write("policy.yaml", policy);
    assert_eq!(plan(&repo, &["HEAD..", "--fail-on-limits"]).0, 1);
    repo.git(&["add", "policy.yaml"]);
    repo.git(&["commit", "--quiet", "-m", "policy"]);
    assert_eq!(plan(&repo, &["HEAD..", "--fail-on-limits"]).0, 0);
}

#[test]
fn devices_that_wait_say_for_what() {
    let repo = repository();
    let elsewhere = FLEET
        .replace("repository: .", "repository: configs")
        .replace("path: config/kiosk", "path: /\n          targetRevision: main");
    repo.write("fleets/kiosk.yaml", elsewhere);
    let (code, out, _) = plan(&repo, &["HEAD.."]);
    assert!(
        code == 0
            && out.contains("4 devices wait and keep what they have: b100000000000000, b200000000000000, p100000000000000, r100000000000000")
            && out.contains("--repository configs=DIR"),
        "{out}"
    );
    let other = GitRepo::init();
    other.write("etc/kiosk.conf", "a=1\nb=2\nc=3\nd=4\n").commit("one");
    let clone = format!("configs={}", other.path().display());
    let (code, out, err) = plan(&repo, &["HEAD..", "--repository", &clone]);
    assert!(code == 0 && out.contains("+d=4"), "{out}{err}");
}

/// A line without its code spans, as Markdown finds them: a run of backticks up to the next run of the same length.
fn outside_code(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(start) = rest.find('`') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let run = rest.len() - rest.trim_start_matches('`').len();
        let after = &rest[run..];
        let mut at = 0;
        let end = loop {
            let Some(found) = after[at..].find('`') else { break None };
            let length = after[at + found..].len() - after[at + found..].trim_start_matches('`').len();
            at += found + length;
            if length == run {
                break Some(at);
            }
        };
        match end {
            Some(end) => rest = &after[end..],
            None => {
                out.push_str(&rest[..run]);
                rest = after;
            }
        }
    }
    out + rest
}

#[test]
fn nothing_in_a_manifest_breaks_out_of_the_comment() {
    let repo = repository();
    let nasty = "            ```\n            </details><script>alert(1)</script>\n            ```` @everyone [x](http://evil) \u{202e}\n";
    repo.write("fleets/kiosk.yaml", FLEET.replace("            welcome\n", nasty));
    repo.write("config/kiosk/etc/`|<b>@all` ```x", "y");
    repo.write("config/kiosk/etc/cr", "a\r```\rb\n");
    let (code, out, err) = plan(&repo, &["HEAD..", "-o", "markdown"]);
    assert_eq!(code, 0, "{err}");
    let mut fence = 0;
    for line in out.split(['\n', '\r']) {
        let ticks = line.len() - line.trim_start_matches('`').len();
        let is_fence = ticks >= 3 && !line[ticks..].contains('`');
        if fence == 0 && is_fence {
            fence = ticks;
        } else if fence > 0 {
            if ticks >= fence && line[ticks..].trim().is_empty() {
                fence = 0;
            }
        } else {
            let without_code = outside_code(line);
            assert!(
                !without_code.contains('@') && !without_code.contains("<script") && !without_code.contains("<b>@"),
                "{line}"
            );
        }
    }
    assert_eq!(fence, 0, "{out}");
    assert!(!out.contains('\u{202e}') && out.contains("\\u{202e}") && !out.contains('\r'));
}

#[test]
fn contents_that_differ_from_device_to_device_are_shown_once() {
    let repo = repository();
    for number in 0..40 {
        repo.write(&format!("devices/n{number}.yaml"), device(&format!("n{number}a"), &format!("site: s{number}")));
    }
    repo.commit("many");
    repo.write("fleets/kiosk.yaml", FLEET.replace("to {{", "come in to {{"));
    let (code, out, err) = plan(&repo, &["HEAD.."]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("44 devices change the same way") && out.contains("/etc/motd  (differs from device to device"),
        "{out}"
    );
    assert_eq!(out.matches("+come in to ").count(), 1);
}

#[test]
fn a_comment_is_never_longer_than_asked_for() {
    let repo = repository();
    let fleet = |number: u32, text: &str| {
        let fleet = FLEET
            .replace("name: kiosk", &format!("name: f{number}"))
            .replace("role: kiosk", &format!("team: f{number}"));
        fleet.replace("            welcome\n", text)
    };
    let long: String = (0..300).map(|line| format!("            line {line} of a long text\n")).collect();
    for number in 0..40 {
        repo.write(&format!("fleets/f{number}.yaml"), fleet(number, "            x\n"));
        let labels = format!("site: s, team: f{number}");
        repo.write(
            &format!("devices/n{number}.yaml"),
            device(&format!("n{number}a"), &labels).replace("role: kiosk, ", ""),
        );
    }
    repo.commit("many");
    for number in 0..40 {
        repo.write(&format!("fleets/f{number}.yaml"), fleet(number, &long));
    }
    for most in [4_000, 20_000, 60_000] {
        let (code, out, err) =
            plan(&repo, &["HEAD..", "-o", "markdown", "--max-bytes", &most.to_string(), "--max", "100"]);
        assert_eq!(code, 0, "{err}");
        assert!(out.len() <= most && out.len() > most / 3, "{} of {most}", out.len());
        assert!(out.contains("more groups not shown"), "{out}");
        assert_eq!(out.matches("<details>").count(), out.matches("</details>").count());
    }
}
