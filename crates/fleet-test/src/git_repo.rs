//! Git repositories built with the `git` program, cut off from the system's and the user's configuration.
//!
//! Author, committer and dates are fixed (one second later with each commit), so the same steps give the same commit ids.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// Date of the first commit: 2026-01-01T00:00:00Z.
const FIRST_COMMIT_AT: u64 = 1_767_225_600;

/// A repository in a temporary directory, removed when it is dropped. The branch at the start is `main`.
#[derive(Debug)]
pub struct GitRepo {
    dir: TempDir,
    path: PathBuf,
    commits: AtomicU64,
}

impl GitRepo {
    /// A new repository with a work tree and no commit.
    ///
    /// # Panics
    /// When `git` is missing or fails; so do all methods.
    #[must_use]
    pub fn init() -> Self {
        let dir = tempfile::tempdir().expect("the temporary directory can be written");
        let path = dir.path().join("work");
        run_git(dir.path(), 0, &["init", "--quiet", "--initial-branch=main", "work"]);
        Self { dir, path, commits: AtomicU64::new(0) }
    }

    /// A bare copy of this repository, as a server would hold it.
    #[must_use]
    pub fn bare_clone(&self) -> Self {
        let dir = tempfile::tempdir().expect("the temporary directory can be written");
        let path = dir.path().join("bare.git");
        let source = self.path.to_str().expect("temporary paths are UTF-8");
        run_git(dir.path(), 0, &["clone", "--quiet", "--bare", source, "bare.git"]);
        Self { dir, path, commits: AtomicU64::new(0) }
    }

    /// The work tree, or the bare repository itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `file://` address of this repository.
    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// Runs `git` with these arguments here and returns its standard output without the last line break.
    pub fn git(&self, args: &[&str]) -> String {
        run_git(&self.path, self.commits.load(Ordering::SeqCst), args)
    }

    /// Writes a file of the work tree, with its directories.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let file = self.path.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).expect("directories of the work tree can be made");
        }
        std::fs::write(&file, content).expect("files of the work tree can be written");
        self
    }

    /// Removes a file or a directory of the work tree.
    pub fn remove(&self, path: &str) -> &Self {
        let file = self.path.join(path);
        let removed = if file.is_dir() { std::fs::remove_dir_all(&file) } else { std::fs::remove_file(&file) };
        removed.unwrap_or_else(|error| panic!("{path} cannot be removed from the work tree: {error}"));
        self
    }

    /// Commits everything in the work tree, also when nothing changed, and returns the commit id (40 hex digits).
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--no-verify", "-m", message]);
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.head()
    }

    /// Makes several commits that appear on the current branch at once, as one push brings them.
    pub fn at_once<T>(&self, commits: impl FnOnce(&Self) -> T) -> T {
        let branch = self.git(&["symbolic-ref", "--short", "HEAD"]);
        self.git(&["switch", "--quiet", "--detach"]);
        let made = commits(self);
        self.git(&["branch", "--quiet", "--force", &branch, "HEAD"]);
        self.git(&["switch", "--quiet", &branch]);
        made
    }

    /// The commit that is checked out.
    #[must_use]
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Makes a branch at the commit that is checked out, and switches to it.
    pub fn branch(&self, name: &str) -> &Self {
        self.git(&["switch", "--quiet", "--create", name]);
        self
    }

    /// Switches to a branch.
    pub fn switch(&self, name: &str) -> &Self {
        self.git(&["switch", "--quiet", name]);
        self
    }

    /// Moves the current branch and the work tree to any revision, as before a forced push.
    pub fn force(&self, revision: &str) -> &Self {
        self.git(&["reset", "--quiet", "--hard", revision]);
        self
    }

    /// Pushes a branch to another repository, forced or not.
    pub fn push(&self, to: &GitRepo, branch: &str, forced: bool) {
        let refspec = format!("{}refs/heads/{branch}:refs/heads/{branch}", if forced { "+" } else { "" });
        self.git(&["push", "--quiet", &to.url(), &refspec]);
    }

    /// The temporary directory around the repository, for keys and the like.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }
}

fn run_git(dir: &Path, commits: u64, args: &[&str]) -> String {
    let date = format!("{} +0000", FIRST_COMMIT_AT + commits);
    let mut command = Command::new("git");
    // A hook or an outer git may have set these; they would redirect everything to another repository.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["-c", "commit.gpgSign=false", "-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", dir)
        .env("LC_ALL", "C")
        .env("GIT_AUTHOR_NAME", "Ada Author")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_NAME", "Cara Committer")
        .env("GIT_COMMITTER_EMAIL", "cara@example.com")
        .env("GIT_COMMITTER_DATE", &date)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("git cannot be run ({error}); install the package git"));
    assert!(
        output.status.success(),
        "git {} in {} failed ({}): {}",
        args.join(" "),
        dir.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_steps_give_the_same_commit() {
        let build = || {
            let repo = GitRepo::init();
            repo.write("a/b.yaml", "x: 1\n").commit("one");
            repo.write("c.yaml", "y: 2\n").remove("a").commit("two")
        };
        let id = build();
        assert_eq!(id.len(), 40);
        assert_eq!(id, build());
    }

    #[test]
    fn a_bare_clone_takes_pushes_and_forced_pushes() {
        let repo = GitRepo::init();
        let first = repo.write("f", "1").commit("one");
        let second = repo.write("f", "2").commit("two");
        let bare = repo.bare_clone();
        assert_eq!(bare.git(&["rev-parse", "main"]), second);
        repo.force(&first);
        let other = repo.write("f", "3").commit("three");
        repo.push(&bare, "main", true);
        assert_eq!(bare.git(&["rev-parse", "main"]), other);
        repo.branch("next").push(&bare, "next", false);
        assert_eq!(bare.git(&["rev-parse", "next"]), other);
    }

    #[test]
    #[should_panic(expected = "git rev-parse --verify nothing")]
    fn a_failing_step_says_which() {
        let repo = GitRepo::init();
        repo.commit("one");
        repo.git(&["rev-parse", "--verify", "nothing"]);
    }
}
