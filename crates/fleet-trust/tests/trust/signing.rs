//! Keys and signed commits, made with the programs that people use.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fleet_model::{SignerSet, SyncTrust, TrustRule};
use fleet_test::GitRepo;
use fleet_trust::{Judged, Policy, Subject};

/// Runs a program that has to work.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// An SSH key of this type; returns the file of the private key.
pub(crate) fn ssh_key(dir: &Path, name: &str, kind: &[&str]) -> PathBuf {
    let file = dir.join(name);
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-f"]).arg(&file).arg("-t").args(kind));
    file
}

pub(crate) fn public(key: &Path) -> String {
    let text = std::fs::read_to_string(key.with_extension("pub")).expect("there is a public key");
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A repository that signs with the key.
pub(crate) fn repo() -> GitRepo {
    let repo = GitRepo::init();
    repo.git(&["config", "gpg.format", "ssh"]);
    repo
}

/// Signs and commits what is in the work tree.
pub(crate) fn commit_signed(repo: &GitRepo, key: &str, message: &str) -> String {
    repo.git(&["add", "--all"]);
    repo.git(&["-c", &format!("user.signingKey={key}"), "commit", "--quiet", "--allow-empty", "-S", "-m", message]);
    repo.head()
}

/// The bytes of a commit.
pub(crate) fn raw(repo: &GitRepo, commit: &str) -> Vec<u8> {
    let mut command = Command::new("git");
    let output = command.args(["cat-file", "commit", commit]).current_dir(repo.path()).output().expect("git runs");
    assert!(output.status.success());
    output.stdout
}

/// Writes any bytes as a commit.
pub(crate) fn write_commit(repo: &GitRepo, bytes: &[u8]) -> String {
    let file = repo.scratch().join("commit");
    std::fs::write(&file, bytes).expect("written");
    repo.git(&["hash-object", "-t", "commit", "--literally", "-w", file.to_str().expect("UTF-8")])
}

/// What `git verify-commit` says with these lines as allowed signers.
pub(crate) fn git_says_ssh(repo: &GitRepo, commit: &str, allowed: &str) -> bool {
    let file = repo.scratch().join("allowed");
    std::fs::write(&file, allowed).expect("written");
    verify(
        repo,
        commit,
        &["-c", "gpg.format=ssh", "-c", &format!("gpg.ssh.allowedSignersFile={}", file.display())],
        &[],
    )
    .status
    .success()
}

pub(crate) fn verify(repo: &GitRepo, commit: &str, settings: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new("git");
    command.args(settings).args(["verify-commit", commit]).current_dir(repo.path());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("TZ", "UTC").env("LC_ALL", "C");
    command.envs(env.iter().copied()).stdin(Stdio::null()).output().expect("git runs")
}

/// What a policy with one set and one rule for everything says.
pub(crate) fn we_say(set: SignerSet, raw: &[u8]) -> Judged {
    let rule = TrustRule { signed_by: vec![set.name.clone()], ..TrustRule::default() };
    let id = "a".repeat(40).parse().expect("a commit id");
    let policy = Policy::new(&[SyncTrust { signers: vec![set], rules: vec![rule] }]);
    policy.judge(Subject { id: &id, raw: Some(raw), parent_committed_at: None })
}

pub(crate) fn ssh_set(allowed: &str) -> SignerSet {
    SignerSet { name: "people".to_owned(), ssh: Some(allowed.to_owned()), openpgp: None }
}

pub(crate) fn openpgp_set(keys: &str) -> SignerSet {
    SignerSet { name: "people".to_owned(), ssh: None, openpgp: Some(keys.to_owned()) }
}

/// A key ring of its own.
#[derive(Debug)]
pub(crate) struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir_in("/tmp").expect("a directory");
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).expect("permissions");
        Self { home }
    }

    pub(crate) fn home(&self) -> &str {
        self.home.path().to_str().expect("UTF-8")
    }

    /// Runs gpg at a time of day (`20260101T000000`).
    pub(crate) fn gpg(&self, at: &str, args: &[&str]) -> String {
        let mut command = Command::new("gpg");
        command.args(["--homedir", self.home(), "--batch", "--quiet", "--yes", "--no-tty"]);
        command.args(["--pinentry-mode", "loopback", "--passphrase", ""]);
        run(command.arg(format!("--faked-system-time={at}!")).args(args))
    }

    /// A new key made at a time, with `usage` and a time it lasts; returns the fingerprint.
    pub(crate) fn key(&self, at: &str, name: &str, usage: &str, lasts: &str) -> String {
        self.gpg(at, &["--quick-generate-key", &format!("{name} <{name}@example.com>"), "ed25519", usage, lasts]);
        let listed = self.gpg(at, &["--with-colons", "--list-keys", &format!("{name}@example.com")]);
        let print = listed.lines().find_map(|line| line.strip_prefix("fpr:")).expect("a fingerprint");
        print.split(':').find(|field| !field.is_empty()).expect("a fingerprint").to_owned()
    }

    pub(crate) fn export(&self, print: &str) -> String {
        self.gpg("20260201T000000", &["--armor", "--export", print])
    }

    /// A program for Git that signs and verifies with this ring at a time.
    pub(crate) fn program(&self, at: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.home.path().join(format!("gpg-{at}"));
        let script = format!(
            "#!/bin/sh\nexec gpg --homedir '{}' --batch --no-tty --pinentry-mode loopback --passphrase '' \
             --faked-system-time={at}! \"$@\"\n",
            self.home()
        );
        std::fs::write(&file, script).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        file
    }

    pub(crate) fn commit(&self, repo: &GitRepo, at: &str, print: &str, message: &str) -> String {
        let program = format!("gpg.program={}", self.program(at).display());
        let signer = format!("user.signingKey={print}");
        let how = ["-c", "gpg.format=openpgp", "-c", &program, "-c", &signer];
        repo.git(&[&how[..], &["commit", "--quiet", "--allow-empty", "-S", "-m", message]].concat());
        repo.head()
    }

    pub(crate) fn git_says(&self, repo: &GitRepo, commit: &str, at: &str) -> bool {
        let program = format!("gpg.program={}", self.program(at).display());
        verify(repo, commit, &["-c", "gpg.format=openpgp", "-c", &program], &[]).status.success()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // The agent of this ring alone.
        let _ = Command::new("gpgconf").args(["--homedir", self.home(), "--kill", "all"]).output();
    }
}
