//! The same verdicts as `git verify-commit`.

use fleet_trust::DenialKind;

use crate::signing::{
    Gpg, commit_signed, git_says_ssh, openpgp_set, public, raw, repo, run, ssh_key, ssh_set, we_say, write_commit,
};

/// Compares one verdict about an SSH signature.
#[track_caller]
fn same_ssh(repo: &fleet_test::GitRepo, commit: &str, allowed: &str, expected: bool, part: &str) {
    let ours = we_say(ssh_set(allowed), &raw(repo, commit)).rules.remove(0);
    assert_eq!(git_says_ssh(repo, commit, allowed), expected, "git says otherwise: {allowed}");
    let words = match &ours {
        Ok(who) => who.clone(),
        Err(denial) => denial.words.clone(),
    };
    assert_eq!(ours.is_ok(), expected, "{words}");
    assert!(words.contains(part), "{words}");
}

#[test]
fn ssh_signatures_get_the_verdicts_of_git() {
    let repo = repo();
    let kinds: [&[&str]; 5] = [
        &["ed25519"],
        &["ecdsa", "-b", "256"],
        &["ecdsa", "-b", "384"],
        &["ecdsa", "-b", "521"],
        &["rsa", "-b", "2048"],
    ];
    for (at, kind) in kinds.iter().enumerate() {
        let key = ssh_key(repo.scratch(), &format!("key{at}"), kind);
        let signed = commit_signed(&repo, key.to_str().unwrap(), "signed");
        let line = format!("alice@example.com {}\n", public(&key));
        same_ssh(&repo, &signed, &line, true, "alice@example.com (SHA256:");
        // A byte more, and it is somebody else's commit.
        let mut tampered = raw(&repo, &signed);
        tampered.extend_from_slice(b"!\n");
        same_ssh(&repo, &write_commit(&repo, &tampered), &line, false, "does not fit its content");
    }
}

#[test]
fn who_may_sign_when_and_for_what_is_judged_as_git_does() {
    let repo = repo();
    let (key, other) = (ssh_key(repo.scratch(), "a", &["ed25519"]), ssh_key(repo.scratch(), "b", &["ed25519"]));
    // Committed on 2026-01-01 at midnight.
    let signed = commit_signed(&repo, key.to_str().unwrap(), "signed");
    let (mine, theirs) = (public(&key), public(&other));
    for (line, expected, part) in [
        (format!("a@b {theirs}"), false, "unknown there"),
        (format!("# a@b {mine}\n"), false, "unknown there"),
        (format!("x@b {theirs}\n\na@b,c@d namespaces=\"git\" {mine} with a comment"), true, "a@b,c@d"),
        (format!("a@b namespaces=\"file,g*\" {mine}"), true, "a@b"),
        (format!("a@b namespaces=\"file\" {mine}"), false, "not allowed for the namespace git"),
        (format!("a@b namespaces=\"!git,*\" {mine}"), false, "not allowed for the namespace git"),
        (format!("a@b valid-after=\"20251231Z\",valid-before=\"20260102Z\" {mine}"), true, "a@b"),
        (format!("a@b valid-before=\"20251231235959Z\" {mine}"), false, "not valid when it was committed"),
        (format!("a@b valid-before=\"20260101000000Z\" {mine}"), true, "a@b"),
        (format!("a@b valid-after=\"20260101000001Z\" {mine}"), false, "not valid when it was committed"),
        (format!("a@b valid-after=\"20260101Z\" {mine}"), true, "a@b"),
        (format!("a@b valid-before=\"20250101Z\" {mine}\nc@d {mine}"), true, "c@d"),
    ] {
        same_ssh(&repo, &signed, &line, expected, part);
    }
    // A signature for something else than Git, put into a commit.
    let bytes = raw(&repo, &signed);
    let payload = fleet_trust::SignedCommit::parse(&bytes).unwrap().payload;
    let file = repo.scratch().join("payload");
    std::fs::write(&file, &payload).unwrap();
    run(std::process::Command::new("ssh-keygen").args(["-Y", "sign", "-n", "file", "-f"]).arg(&key).arg(&file));
    let signature = std::fs::read_to_string(repo.scratch().join("payload.sig")).unwrap();
    let text = String::from_utf8(payload).unwrap();
    let header = format!("\ngpgsig {}\n\n", signature.trim_end().replace('\n', "\n "));
    let wrong = write_commit(&repo, text.replacen("\n\n", &header, 1).as_bytes());
    same_ssh(&repo, &wrong, &format!("a@b {mine}"), false, "is not one for Git");
}

#[test]
fn commits_without_a_signature_and_merges_get_the_verdicts_of_git() {
    let repo = repo();
    let key = ssh_key(repo.scratch(), "a", &["ed25519"]);
    let line = format!("a@b {}", public(&key));
    repo.write("one", "1");
    let plain = repo.commit("nobody signed this");
    same_ssh(&repo, &plain, &line, false, "it is not signed");
    let judged = we_say(ssh_set(&line), &raw(&repo, &plain));
    assert_eq!(judged.rules[0].as_ref().unwrap_err().kind, DenialKind::Unsigned);
    repo.branch("side").write("two", "2");
    repo.commit("nor this");
    repo.switch("main").write("three", "3");
    commit_signed(&repo, key.to_str().unwrap(), "signed");
    let signing = format!("user.signingKey={}", key.display());
    repo.git(&["-c", &signing, "merge", "--quiet", "-S", "--no-ff", "-m", "merged", "side"]);
    same_ssh(&repo, &repo.head(), &line, true, "a@b");
    repo.force("HEAD~1");
    repo.git(&["merge", "--quiet", "--no-ff", "-m", "merged", "side"]);
    same_ssh(&repo, &repo.head(), &line, false, "it is not signed");
}

#[test]
fn openpgp_signatures_get_the_verdicts_of_git() {
    let (repo, gpg) = (repo(), Gpg::new());
    let (made, now) = ("20251201T000000", "20260101T000000");
    let alice = gpg.key(made, "alice", "sign", "1y");
    let bob = gpg.key(made, "bob", "sign", "1y");
    repo.write("one", "1");
    let signed = gpg.commit(&repo, now, &alice, "signed");
    let says = |keys: &str, commit: &str| we_say(openpgp_set(keys), &raw(&repo, commit)).rules.remove(0);
    let keys = gpg.export(&alice);
    assert!(gpg.git_says(&repo, &signed, now));
    assert_eq!(says(&keys, &signed).map(|who| who.contains("alice@example.com")), Ok(true));
    assert_eq!(says(&format!("{}\n{keys}", gpg.export(&bob)), &signed).map(|who| who.contains("alice")), Ok(true));
    // Somebody else's key, and a commit that was changed.
    assert!(says(&gpg.export(&bob), &signed).unwrap_err().words.contains("unknown there"));
    let mut tampered = raw(&repo, &signed);
    tampered.extend_from_slice(b"!\n");
    let tampered = write_commit(&repo, &tampered);
    assert!(!gpg.git_says(&repo, &tampered, now));
    assert!(says(&keys, &tampered).unwrap_err().words.contains("does not fit its content"));
    // A key that is over when the commit is made: judged at its time, as gpg is told that it is that time.
    let short = gpg.key(made, "short", "sign", "10d");
    let early = gpg.commit(&repo, "20251205T000000", &short, "early");
    let early_bytes = String::from_utf8(raw(&repo, &early)).unwrap();
    let keys = gpg.export(&short);
    assert!(gpg.git_says(&repo, &early, "20251205T000001"));
    assert!(!gpg.git_says(&repo, &early, now));
    // The commit says 2026-01-01, whatever its signature says.
    assert!(says(&keys, &early).unwrap_err().words.contains("expired at 2025-12-11"), "{early_bytes}");
    // Subkeys: one that signs counts, one that does not never.
    let main = gpg.key(made, "main", "cert", "1y");
    gpg.gpg(made, &["--quick-add-key", &main, "ed25519", "sign", "1y"]);
    let by_subkey = gpg.commit(&repo, now, &main, "by a subkey");
    assert!(gpg.git_says(&repo, &by_subkey, now));
    assert_eq!(says(&gpg.export(&main), &by_subkey).map(|who| who.contains("main@")), Ok(true));
    let bare = gpg.export(&main);
    assert!(says(&gpg.export(&bob), &by_subkey).is_err());
    // Revoked: GnuPG puts a certificate of revocation next to each key that it makes.
    let file = std::path::Path::new(gpg.home()).join(format!("openpgp-revocs.d/{alice}.rev"));
    let certificate = std::fs::read_to_string(&file).unwrap().replace("\n:-----BEGIN", "\n-----BEGIN");
    std::fs::write(&file, certificate).unwrap();
    gpg.gpg(now, &["--import", file.to_str().unwrap()]);
    assert!(!gpg.git_says(&repo, &signed, now));
    assert!(says(&gpg.export(&alice), &signed).unwrap_err().words.contains("is revoked"));
    // The same for a subkey.
    gpg_revoke_subkey(&gpg, &main);
    assert!(!gpg.git_says(&repo, &by_subkey, now));
    assert!(says(&gpg.export(&main), &by_subkey).unwrap_err().words.contains("is revoked"), "{bare}");
}

fn gpg_revoke_subkey(gpg: &Gpg, print: &str) {
    use std::io::Write as _;
    let mut child = std::process::Command::new("gpg")
        .args(["--homedir", gpg.home(), "--no-tty", "--command-fd", "0", "--status-fd", "2", "--expert"])
        .args([
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            "--faked-system-time=20260102T000000!",
            "--edit-key",
            print,
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"key 1\nrevkey\ny\n0\n\ny\nsave\n").unwrap();
    assert!(child.wait().unwrap().success());
}
