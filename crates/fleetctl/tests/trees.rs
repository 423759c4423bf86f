//! `lint`, `plan` and `render` on checkouts as people have them: with what Git ignores, links, pointers and credentials.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::ffi::OsString;

use fleet_runtime::SystemClock;
use fleet_test::GitRepo;
use fleetctl::{Io, Terminal};

/// Runs a command on a repository.
fn run(repo: &GitRepo, command: &str, args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let root = repo.path().to_str().unwrap();
    let place: &[&str] = if command == "lint" || command == "fmt" { &[root] } else { &["--root", root] };
    let all =
        ["fleetctl", command].into_iter().chain(place.iter().copied()).chain(args.iter().copied()).map(OsString::from);
    let code = fleetctl::run(all, &mut io);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
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
      config:
        - name: files
          gitRef:
            repository: .
            path: config/kiosk
";

const DEVICE: &str = "apiVersion: flightctl.io/v1beta1
kind: Device
metadata:
  name: abcdef0000000000
  labels:
    role: kiosk
";

fn repository() -> GitRepo {
    let repo = GitRepo::init();
    repo.write("fleets/kiosk.yaml", FLEET).write("devices/one.yaml", DEVICE);
    repo.write("config/kiosk/etc/kiosk.conf", "a=1\n").write(".gitignore", "*.swp\n/build/\n");
    repo.commit("one");
    repo
}

#[test]
fn what_git_ignores_is_left_out_unless_it_is_named() {
    let repo = repository();
    repo.write("build/broken.yaml", "kind: Fleet\n").write("config/kiosk/etc/.kiosk.conf.swp", "x");
    let (code, out, _) = run(&repo, "lint", &[]);
    assert_eq!((code, out.as_str()), (0, "checked 2 files: no findings\n"));
    let (code, out, err) = run(&repo, "plan", &["HEAD.."]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("0 devices change"), "{out}");
    let (_, out, _) = run(&repo, "render", &[]);
    assert!(!out.contains(".swp"), "{out}");
    for named in ["build", "build/broken.yaml"] {
        let (code, out, _) = run(&repo, "lint", &[repo.path().join(named).to_str().unwrap()]);
        assert!(code == 1 && out.contains("broken.yaml:1:1"), "{named}: {out}");
    }
}

#[test]
fn what_is_ignored_and_tracked_all_the_same_counts() {
    let repo = repository();
    repo.write("config/kiosk/etc/kept.swp", "kept\n");
    repo.git(&["add", "--force", "config/kiosk/etc/kept.swp"]);
    repo.commit("two");
    let (_, out, _) = run(&repo, "plan", &["HEAD~1.."]);
    assert!(out.contains("+ /etc/kept.swp"), "{out}");
}

#[test]
fn lint_finds_the_files_that_the_service_cannot_bring_to_devices() {
    let repo = repository();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "0".repeat(64));
    repo.write("config/kiosk/etc/big.bin", pointer);
    repo.commit("pointer");
    std::fs::remove_file(repo.path().join("config/kiosk/etc/big.bin")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("config/kiosk/etc/link")).unwrap();
    for (args, said) in
        [(&[][..], "etc/link is a symbolic link"), (&["--rev", "HEAD"], "etc/big.bin is a Git LFS pointer")]
    {
        let (code, out, err) = run(&repo, "lint", args);
        assert_eq!(code, 1, "{err}");
        assert!(out.contains("error[SB0601]") && out.contains(said) && out.contains("kiosk.yaml:15:19"), "{out}");
        assert!(out.contains("help: a gitRef takes regular files"), "{out}");
    }
}

#[test]
fn one_mistake_is_said_once() {
    let repo = repository();
    repo.write("config/kiosk/etc/new\nline", "x");
    let (code, _, err) = run(&repo, "plan", &["HEAD.."]);
    assert_eq!((code, err.matches("error[").count()), (1, 1), "{err}");
}

#[test]
fn credentials_are_shown_neither_in_plans_nor_by_lint() {
    let repo = repository();
    let token = format!("ghp_{}", "a1".repeat(18));
    let key = |body: &str| format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    repo.write("config/kiosk/etc/tls.key", key("OLDBODY"));
    repo.commit("key");
    repo.write("config/kiosk/etc/tls.key", key("NEWBODY")).write("config/kiosk/etc/token", &token);
    let inline = format!(
        "        - name: inline\n          inline:\n            - path: /etc/inline\n              content: \"t={token}\"\n"
    );
    repo.write("fleets/kiosk.yaml", format!("{FLEET}{inline}"));
    repo.write(
        "repository.yaml",
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata:\n  name: other\nspec:\n  type: git\n  \
         url: https://bot:hunter2@example.com/x.git\n",
    );
    for format in ["human", "json", "sarif", "github", "gitlab", "junit"] {
        let (code, out, _) = run(&repo, "lint", &["-o", format]);
        assert!(code == 1 && out.contains("SB0512") && out.contains("SB0410"), "{format}: {out}");
        // The page of the code, which the report carries, has a password of its own.
        assert!(!out.contains(&token) && !out.contains("bot:hunter2"), "{format}: {out}");
    }
    repo.remove("repository.yaml");
    for format in ["human", "json", "markdown"] {
        let (code, out, err) = run(&repo, "plan", &["HEAD..", "-o", format]);
        assert_eq!(code, 0, "{err}");
        for secret in ["OLDBODY", "NEWBODY", &token, "BEGIN PRIVATE"] {
            assert!(!out.contains(secret), "{format} {secret}: {out}");
        }
        assert!(out.contains("a private key, not shown: ") && out.contains("a token of GitHub, not shown: "), "{out}");
    }
}

#[test]
fn a_small_comment_keeps_the_small_differences() {
    let repo = repository();
    repo.write("config/kiosk/etc/long", "é€😀 @octocat #12\n".repeat(20_000));
    repo.write("config/kiosk/etc/kiosk.conf", "a=2\n");
    for (most, shown) in [("4000", "+a=2"), ("8000", "+a=2"), ("60000", "+é€😀")] {
        let (code, out, err) = run(&repo, "plan", &["HEAD..", "-o", "markdown", "--max-bytes", most]);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(shown), "{most}: {out}");
        assert!(out.len() <= most.parse::<usize>().unwrap(), "{most}: {}", out.len());
        assert_eq!(out.matches("<details>").count(), out.matches("</details>").count(), "{most}");
    }
}

#[test]
fn a_bare_repository_wants_a_revision() {
    let bare = repository().bare_clone();
    for (command, args) in [("lint", &[][..]), ("render", &[]), ("plan", &["main.."])] {
        let (code, _, err) = run(&bare, command, args);
        assert!(code == 2 && err.contains("bare repository") && err.contains("name a revision"), "{command}: {err}");
    }
    let (code, out, _) = run(&bare, "lint", &["--rev", "main"]);
    assert_eq!((code, out.as_str()), (0, "checked 2 files: no findings\n"));
    assert_eq!(run(&bare, "plan", &["main..main"]).0, 0);
}

#[test]
fn an_alias_says_how_the_device_is_found() {
    let repo = repository();
    repo.write("devices/one.yaml", format!("{DEVICE}    alias: till-1\n"));
    let (code, _, err) = run(&repo, "render", &["till-1"]);
    assert!(code == 2 && err.contains("fleetctl render -l alias=till-1"), "{err}");
    let (code, out, _) = run(&repo, "render", &["-l", "alias=till-1"]);
    assert!(code == 0 && out.contains("abcdef0000000000"), "{out}");
}

#[test]
fn a_directory_for_files_goes_with_files_only() {
    let repo = repository();
    let (code, out, err) = run(&repo, "render", &["--out", "x"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("-o files"), "{err}");
    let (code, _, err) = run(&repo, "render", &["-l", "role=none"]);
    assert!(code == 0 && err.contains("no device with a Device manifest has such labels"), "{err}");
}
